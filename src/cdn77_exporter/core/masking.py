"""Takes secrets and IP addresses out of text before anybody can read it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import quote

MASK = "***"
#: A secret shorter than this is only masked where it stands as a word of its own; "a" would else spoil every line.
_SHORT = 8

_V4 = re.compile(r"(?<!\d)(?<!\d\.)\d{1,3}(?:\.\d{1,3}){3}(?!\d)(?!\.\d)")
# Only a candidate; `ip_address` decides. A letter may stand before it, since a repr writes a line break as `\n`.
_V6 = re.compile(r"(?:[0-9A-Fa-f]{1,4})?:(?:[0-9A-Fa-f]{0,4}:){1,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{1,4})?")

Address = IPv4Address | IPv6Address


def written_forms(secret: str) -> set[str]:
    """The secret as it may stand in a text: plain, percent-encoded, and as Python and JSON escape it."""
    forms = {secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1]}
    forms.add(secret.replace("\\", "\\\\").replace('"', '\\"'))
    return forms


def basic_credentials(user: str, password: str) -> str:
    """What HTTP basic authentication makes of a user and a password: as readable as the password itself."""
    return b64encode(f"{user}:{password}".encode()).decode()


class Masker:
    """Replaces secrets and IP addresses by `***`.

    `secrets` is asked at every text, since a secret may change. Loopback, unspecified and `spared` addresses stay:
    those of the operator's own servers are what an error is about.
    """

    def __init__(self, secrets: Callable[[], Collection[str]] = tuple, spared: Iterable[Address] = ()) -> None:
        self._secrets = secrets
        self._spared = frozenset(spared)
        self._known: Collection[str] = ()
        self._pattern: re.Pattern[str] | None = None

    def secrets(self, text: str) -> str:
        """The text without secrets."""
        pattern = self._current()
        return pattern.sub(MASK, text) if pattern else text

    def __call__(self, text: str) -> str:
        """The text without secrets and without addresses."""
        text = self.secrets(text)
        if ":" in text:
            text = _V6.sub(self._address, text)
        if "." in text:
            text = _V4.sub(self._address, text)
        return text

    def _current(self) -> re.Pattern[str] | None:
        known = self._secrets()
        if known != self._known:
            self._known = known
            self._pattern = _pattern(known)
        return self._pattern

    def _address(self, found: re.Match[str]) -> str:
        text = found[0]
        tail = ""
        if text.endswith(":") and not text.endswith("::"):
            text, tail = text[:-1], ":"
        try:
            address = ip_address(text)
        except ValueError:
            return self._unpadded(text) + tail
        return (text if self._may_stay(address) else MASK) + tail

    def _unpadded(self, text: str) -> str:
        """Four decimal groups with leading zeros are no address to `ip_address`, but they are to a reader."""
        groups = text.split(".")
        if len(groups) == 4 and all(group.isdigit() and int(group) <= 255 for group in groups):
            return MASK
        return text

    def _may_stay(self, address: Address) -> bool:
        return address.is_loopback or address.is_unspecified or address in self._spared


def _pattern(secrets: Iterable[str]) -> re.Pattern[str] | None:
    parts = []
    forms = {form for secret in secrets if secret for form in written_forms(secret)}
    for form in sorted(forms, key=lambda form: (-len(form), form)):  # the longest first, as one may hold another
        escaped = re.escape(form)
        parts.append(escaped if len(form) >= _SHORT else rf"(?<![0-9A-Za-z]){escaped}(?![0-9A-Za-z])")
    return re.compile("|".join(parts)) if parts else None
