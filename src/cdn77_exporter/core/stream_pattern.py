"""Finds a stream's name in a request path: any regular expression, and the usual kind as plain rules."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_STREAM_PATTERN = "/([a-f0-9]{32})/"

_NO_END = 2**62

# What stands for itself in a pattern.
_LITERAL = r"(?:[A-Za-z0-9/_:;,=~@%&!<>\"'` -]|\\[^A-Za-z0-9\s])*"
_MEMBERS = r"\[\^?(?:\\.|[^][\\])+\]|\\[dwsDWS]|\."
_USUAL = re.compile(
    rf"(?P<anchor>\^?)(?P<prefix>{_LITERAL})"
    rf"\((?P<members>{_MEMBERS})(?:\{{(?P<least>\d{{1,9}})(?P<comma>,?)(?P<most>\d{{0,9}})\}}|(?P<many>[*+]?))\)"
    rf"(?P<suffix>{_LITERAL})",
    re.ASCII,
)
_ESCAPED_LETTER = re.compile(r"\\[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class StreamPattern:
    """A prefix, `least` to `most` of some characters, which are the stream's name, and a suffix.

    `members`: for each byte, 1 if the character is one of them. `anchored`: the prefix is at the path's beginning.
    `ascii_only`: characters other than ASCII are surely no members.
    """

    prefix: bytes
    members: bytes
    least: int
    most: int
    suffix: bytes
    anchored: bool
    ascii_only: bool

    @classmethod
    def of(cls, pattern: str) -> StreamPattern | None:
        """Return the rules of a regular expression; None if it is not of that kind."""
        found = _USUAL.fullmatch(pattern)
        if found is None or not pattern.isascii():
            return None
        is_member = re.compile(found["members"]).fullmatch
        members = bytes(bool(is_member(chr(code))) for code in range(128)) + bytes(128)
        least, most = 1, 1
        if found["least"]:
            least = int(found["least"])
            most = int(found["most"] or _NO_END) if found["comma"] else least
        elif found["many"]:
            least, most = int(found["many"] == "+"), _NO_END
        if most < least or (found["most"] and not found["comma"]):
            return None
        text = found["members"]
        ascii_only = text[0] == "[" and text[1] != "^" and not _ESCAPED_LETTER.search(text)
        prefix, suffix = _plain(found["prefix"]), _plain(found["suffix"])
        return cls(prefix, members, least, most, suffix, bool(found["anchor"]), ascii_only)

    @property
    def for_scan(self) -> tuple[bytes, bytes, int, int, bytes, bool, bool]:
        """The rules as the compiled scan takes them."""
        return (self.prefix, self.members, self.least, self.most, self.suffix, self.anchored, self.ascii_only)


def _plain(literal: str) -> bytes:
    return re.sub(r"\\(.)", r"\1", literal).encode()
