"""Masks secrets and IP addresses in text before anybody can read it.

Pure, and used by every layer: the decoder for excerpts of rejected lines, settings for faults, telemetry for each line.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

MASK = "***"
#: A secret shorter than this is masked only where it is a word of its own; "a" would otherwise spoil every line.
_SHORT = 8

_V4 = re.compile(r"(?<!\d)(?<!\d\.)\d{1,3}(?:\.\d{1,3}){3}(?!\d)(?!\.\d)")
# Characters of which an IPv6 address consists; `_find_v6` decides whether one is among them.
_V6_CHARACTERS = re.compile(r"[0-9A-Fa-f:.]{2,}")
_LONGEST_V6 = 45
_LONGEST_RUN = 256  # a longer run of such characters with colons is masked as a whole rather than searched

Address = IPv4Address | IPv6Address


def written_forms(secret: str) -> set[str]:
    """Return the secret as it may appear in a text: plain, percent-encoded, and as Python and JSON escape it."""
    forms = {secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1]}
    forms.add(secret.replace("\\", "\\\\").replace('"', '\\"'))
    return forms


def basic_credentials(user: str, password: str) -> str:
    """Encode a user and a password for HTTP basic authentication; the result is as secret as the password."""
    return b64encode(f"{user}:{password}".encode()).decode()


class Masker:
    """Replaces secrets and IP addresses by `***`.

    `secrets` is called for every text, since a secret may change. Loopback, unspecified and `spared` addresses stay:
    an error is about the operator's own servers.
    """

    def __init__(self, secrets: Callable[[], Collection[str]] = tuple, spared: Iterable[Address] = ()) -> None:
        self._secrets = secrets
        self._spared = frozenset(spared)
        self._known: Collection[str] = ()
        self._pattern: re.Pattern[str] | None = None

    def secrets(self, text: str) -> str:
        """Return the text without secrets."""
        pattern = self._current()
        return pattern.sub(MASK, text) if pattern else text

    def __call__(self, text: str) -> str:
        """Return the text without secrets and without addresses."""
        text = self.secrets(text)
        if ":" in text:
            text = _V6_CHARACTERS.sub(self._run, text)
        if "." in text:
            text = _V4.sub(self._v4, text)
        return text

    def _current(self) -> re.Pattern[str] | None:
        known = self._secrets()
        if known != self._known:
            self._known = known
            self._pattern = _pattern(known)
        return self._pattern

    def _run(self, found: re.Match[str]) -> str:
        text = found[0]
        if text.count(":") < 2:
            return text
        if len(text) > _LONGEST_RUN:
            return MASK
        return self._v6(text)

    def _v6(self, text: str) -> str:
        span = _find_v6(text)
        if span is None:
            return text
        start, end, address = span
        return self._v6(text[:start]) + (text[start:end] if self._may_stay(address) else MASK) + self._v6(text[end:])

    def _v4(self, found: re.Match[str]) -> str:
        groups = [int(group) for group in found[0].split(".")]  # with leading zeros too, as a reader would take it
        if max(groups) > 255:
            return found[0]
        return found[0] if self._may_stay(IPv4Address(bytes(groups))) else MASK

    def _may_stay(self, address: Address) -> bool:
        return address.is_loopback or address.is_unspecified or address in self._spared


def _find_v6(text: str) -> tuple[int, int, Address] | None:
    """Find the longest IPv6 address in the text; return where it begins and ends, and the address.

    It may touch other characters of the same kind: a colon of the sentence, or the letter of an escaped line break. The
    longest, not the first: in `:::ffff:7` the first would be `::`, which may stay and would leave the rest unread.
    """
    for length in range(min(len(text), _LONGEST_V6), 1, -1):
        for start in range(len(text) - length + 1):
            part = text[start : start + length]
            if "::" in part or 6 <= part.count(":") <= 7:
                try:
                    return start, start + length, IPv6Address(part)
                except ValueError:
                    continue
    return None


def _pattern(secrets: Iterable[str]) -> re.Pattern[str] | None:
    parts = []
    forms = {form for secret in secrets if secret for form in written_forms(secret)}
    for form in sorted(forms, key=lambda form: (-len(form), form)):  # the longest first, as one may hold another
        escaped = re.escape(form)
        parts.append(escaped if len(form) >= _SHORT else rf"(?<![0-9A-Za-z]){escaped}(?![0-9A-Za-z])")
    return re.compile("|".join(parts)) if parts else None
