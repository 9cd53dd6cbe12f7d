"""Finds a name in a request path, such as the stream's: any regular expression, and the usual kind as plain rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

DEFAULT_STREAM_PATTERN = "/([a-f0-9]{32})/"
DEFAULT_TRACK_PATTERN = "^/[^/]+/tracks-([^/]+)/"

#: More pieces are not for plain rules.
MOST_PIECES = 16

_NO_END = 2**62
# What a pattern of the usual kind consists of, one after the other.
_TOKEN = re.compile(
    r"(?P<open>\((?:\?P<\w+>)?(?!\?))|(?P<close>\))"
    r"|(?P<members>\[\^?(?:\\.|[^][\\])+\]|\\[dwsDWS]|\.)"
    r"(?:\{(?P<least>\d{1,9})(?P<comma>,?)(?P<most>\d{0,9})\}|(?P<many>[*+]?))(?![*+?{])"
    r"|(?P<literal>(?:[A-Za-z0-9/_:;,=~@%&!<>\"'` -]|\\[^A-Za-z0-9\s])(?![*+?{]))",
    re.ASCII,
)
_ESCAPED_LETTER = re.compile(r"\\[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Piece:
    """Either a literal text, or `least` to `most` of some characters.

    `members`: for each byte, 1 if the character is one of them. `is_sure`: as many as there are is the only way on.
    """

    literal: bytes = b""
    members: bytes = bytes(256)
    least: int = 0
    most: int = 0
    is_sure: bool = False


@dataclass(frozen=True, slots=True)
class PathPattern:
    """Pieces one after the other; the name is what those from `begin` to `end` find.

    `anchored`: the first is at the path's beginning. `ascii_only`: the pattern finds the same in the bytes of a path
    that has other characters than ASCII.
    """

    pieces: tuple[Piece, ...]
    begin: int
    end: int
    anchored: bool
    ascii_only: bool

    @classmethod
    def of(cls, pattern: str) -> PathPattern | None:
        """Return the rules of a regular expression; None if it is not of that kind."""
        anchored = pattern.startswith("^")
        tokens = _tokens(pattern[anchored:]) if pattern.isascii() else None
        if not tokens:
            return None
        pieces: list[Piece] = []
        group: list[int] = []
        ascii_only = True
        for token in tokens:
            if token["open"] or token["close"]:
                if len(group) != bool(token["close"]):
                    return None  # two groups, or one in another
                group.append(len(pieces))
            elif token["literal"] and pieces and pieces[-1].literal and group[-1:] != [len(pieces)]:
                pieces[-1] = Piece(pieces[-1].literal + _plain(token["literal"]))
            elif token["literal"]:
                pieces.append(Piece(_plain(token["literal"])))
            else:
                piece = _members(token)
                if piece is None:
                    return None
                ascii_only &= _is_of_bytes(token["members"], piece)
                pieces.append(piece)
        if len(group) == 1 or not 0 < len(pieces) <= MOST_PIECES:
            return None
        begin, end = group or (0, len(pieces))
        return cls(_with_sure_ones(pieces), begin, end, anchored, ascii_only)

    @property
    def for_scan(self) -> tuple[tuple[tuple[bytes, bytes, int, int, bool], ...], int, int, bool, bool]:
        """The rules as the compiled scan takes them."""
        pieces = tuple((one.literal, one.members, one.least, one.most, one.is_sure) for one in self.pieces)
        return pieces, self.begin, self.end, self.anchored, self.ascii_only


def _tokens(pattern: str) -> list[re.Match[str]] | None:
    found: list[re.Match[str]] = []
    at = 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None:
            return None
        found.append(token)
        at = token.end()
    return found


def _members(token: re.Match[str]) -> Piece | None:
    least, most = 1, 1
    if token["least"]:
        least = int(token["least"])
        most = int(token["most"] or _NO_END) if token["comma"] else least
        if most < least or (token["most"] and not token["comma"]):
            return None
    elif token["many"]:
        least, most = int(token["many"] == "+"), _NO_END
    is_member = re.compile(token["members"]).fullmatch
    members = bytes(bool(is_member(chr(code))) for code in range(128))
    others = bytes([1]) if _has_all_others(token["members"]) else bytes(1)
    return Piece(b"", members + others * 128, least, most)


def _has_all_others(members: str) -> bool:
    """Return whether all characters but some of ASCII are members."""
    return members == "." or (members.startswith("[^") and not _ESCAPED_LETTER.search(members))


def _is_of_bytes(members: str, piece: Piece) -> bool:
    """Return whether the members of a path's bytes are those of its characters: there are none of other characters,
    or all of them, and then it may not matter how many bytes one has."""
    if _has_all_others(members):
        return piece.least <= 1 and piece.most == _NO_END
    return members.startswith("[") and not members.startswith("[^") and not _ESCAPED_LETTER.search(members)


def _with_sure_ones(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Return the pieces with those marked of which there can be no fewer than there are."""
    afters = [*pieces[1:], None]
    return tuple(
        replace(piece, is_sure=after is None or piece.least == piece.most or _ends_before(piece, after))
        for piece, after in zip(pieces, afters, strict=True)
    )


def _ends_before(piece: Piece, after: Piece) -> bool:
    return bool(after.literal) and not piece.members[after.literal[0]]


def _plain(literal: str) -> bytes:
    return literal.removeprefix("\\").encode()
