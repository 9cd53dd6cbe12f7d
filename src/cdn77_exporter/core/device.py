"""User-Agent to device type: a table of rules, the first that matches decides."""

from __future__ import annotations

import re

OTHER_DEVICE = "other"
# Of each group of words one must be in the User-Agent, and the pattern, if there is one. Clients may send User-Agents
# of any length, and looking for words takes a fraction of what patterns take.
_RULES: tuple[tuple[str, tuple[tuple[str, ...], ...], str], ...] = (
    ("baron_mobile", (("baron", "virtualrailfan"), ("iphone", "ipad", "ios")), r"\b(?:iphone|ipad|ios)\b"),
    ("baron_mobile", (("baron", "virtualrailfan"), ("android",), ("mobile",)), ""),
    ("apple_tv", (("appletv", "apple tv", "tvos"),), ""),
    ("roku", (("roku",),), ""),
    ("firestick", (("aft",),), r"\baft[a-z]"),
    ("firestick", (("amazon",), ("fire",)), ""),
    ("android_tv", (("android",), ("tv",)), ""),
    ("web", (("chrome", "firefox", "safari", "edge", "edg/", "opera"),), ""),
)
_COMPILED = tuple((device, groups, re.compile(pattern)) for device, groups, pattern in _RULES)
DEVICES = (*dict.fromkeys(device for device, _, _ in _RULES), OTHER_DEVICE)


def device_type(user_agent: str) -> str:
    """Return the device type of a User-Agent, one of `DEVICES`: all parts of a rule must match, in any order."""
    text = user_agent.lower()
    for device, groups, pattern in _COMPILED:
        if _has_words(text, groups) and (not pattern.pattern or pattern.search(text)):
            return device
    return OTHER_DEVICE


def _has_words(text: str, groups: tuple[tuple[str, ...], ...]) -> bool:
    for words in groups:
        for word in words:
            if word in text:
                break
        else:
            return False
    return True
