"""User-Agent to device type: a table of rules, of which the first that fits decides."""

from __future__ import annotations

import re

_APP = r"(?=.*(?:baron|virtualrailfan))"
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (device, re.compile(pattern, re.IGNORECASE | re.DOTALL))
    for device, pattern in (
        ("baron_mobile", rf"^{_APP}(?:.*\b(?:iphone|ipad|ios)\b|(?=.*android).*mobile)"),
        ("apple_tv", r"appletv|apple tv|tvos"),
        ("roku", r"roku"),
        ("firestick", r"\baft[a-z]|^(?=.*amazon).*fire"),
        ("android_tv", r"^(?=.*android).*tv"),
        ("web", r"chrome|firefox|safari|edge|edg/|opera"),
    )
)
OTHER_DEVICE = "other"
DEVICES = (*(device for device, _ in _RULES), OTHER_DEVICE)


def device_type(user_agent: str) -> str:
    """The device type of a User-Agent, one of `DEVICES`."""
    for device, pattern in _RULES:
        if pattern.search(user_agent):
            return device
    return OTHER_DEVICE
