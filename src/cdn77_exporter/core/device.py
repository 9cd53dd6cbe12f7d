"""User-Agent to device type: a table of rules, the first that matches decides."""

from __future__ import annotations

import re

OTHER_DEVICE = "other"
# Each rule is one search without nested repetition, so that a User-Agent of a megabyte costs no more than its length.
_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("baron_mobile", (r"baron|virtualrailfan", r"\b(?:iphone|ipad|ios)\b")),
    ("baron_mobile", (r"baron|virtualrailfan", r"android", r"mobile")),
    ("apple_tv", (r"appletv|apple tv|tvos",)),
    ("roku", (r"roku",)),
    ("firestick", (r"\baft[a-z]",)),
    ("firestick", (r"amazon", r"fire")),
    ("android_tv", (r"android", r"tv")),
    ("web", (r"chrome|firefox|safari|edge|edg/|opera",)),
)
_COMPILED = tuple((device, tuple(re.compile(pattern).search for pattern in patterns)) for device, patterns in _RULES)
DEVICES = (*dict.fromkeys(device for device, _ in _RULES), OTHER_DEVICE)


def device_type(user_agent: str) -> str:
    """Return the device type of a User-Agent, one of `DEVICES`: all parts of a rule must match, in any order."""
    text = user_agent.lower()
    for device, searches in _COMPILED:
        if all(search(text) for search in searches):
            return device
    return OTHER_DEVICE
