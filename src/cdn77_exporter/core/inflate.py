"""Inflates gzip members into pieces of bounded size, whatever the file claims to be, and measures what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isal import igzip_lib, isal_zlib

from cdn77_exporter.core.content import Content
from cdn77_exporter.core.errors import Unreadable

#: Inflated bytes in one piece: smaller costs speed, larger costs memory and stalls.
PIECE_BYTES = 128 * 1024
# Bytes given to the inflater at a time, since it keeps a copy of what it has not used yet.
_INPUT_BYTES = 24 * 1024
_MARK = b"\x1f\x8b"
_KNOWN_FLAGS = b"\x1f"


def inflate(body: bytes | Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """Yield the inflated bytes of all members of a gzip file in pieces of at most `PIECE_BYTES`.

    `body` is the file, whole or in parts. Zeros behind a member are padding (RFC 1952 leaves that open; gzip itself
    ignores them). Raises Unreadable:
    `empty`, `not_gzip`, `truncated`, `corrupt`, or `too_large` when more than `most_bytes` come out.
    """
    parts = _slices(body)
    begin = _at_least(2, b"", parts)
    if not begin:
        raise Unreadable("empty")
    if begin[:2] != _MARK:
        raise Unreadable("not_gzip")
    try:
        yield from _members(begin, parts, most_bytes)
    except igzip_lib.error as error:  # type: ignore[misc]  # its stub does not say what it is
        raise Unreadable("corrupt", str(error)) from error


def _slices(body: bytes | Iterable[bytes]) -> Iterator[bytes]:
    for part in (body,) if isinstance(body, bytes | bytearray | memoryview) else body:
        view = memoryview(part)
        for begin in range(0, len(view), _INPUT_BYTES):
            yield bytes(view[begin : begin + _INPUT_BYTES])


def _members(data: bytes, parts: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    left = most_bytes
    while True:
        data = _with_header(data, parts)
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)  # a tenth faster than zlib's interface
        while not member.eof:
            piece = member.decompress(data, PIECE_BYTES)
            data = b""
            left -= len(piece)
            if left < 0:
                raise Unreadable("too_large")
            if piece:
                yield piece
            if member.needs_input:
                data = next(parts, b"")
                if not data:
                    raise Unreadable("truncated")
        data = member.unused_data.lstrip(b"\0")
        while not data:
            data = next(parts, b"")
            if not data:
                return
            data = data.lstrip(b"\0")
        data = _at_least(2, data, parts)
        if data[:2] != _MARK:
            raise Unreadable("corrupt", "what follows the last member is none")


def _with_header(data: bytes, parts: Iterator[bytes]) -> bytes:
    """Return the beginning of a member with its whole header: isal misreads names and checksums that are split."""
    data = _at_least(4, data, parts)
    if data[3:4] > _KNOWN_FLAGS:  # which isal does not look at
        raise Unreadable("corrupt", "its header has flags that mean nothing")
    return _at_least(_INPUT_BYTES, data, parts) if data[3:4] > b"\0" else data


def _at_least(count: int, data: bytes, parts: Iterator[bytes]) -> bytes:
    while len(data) < count and (more := next(parts, b"")):
        data += more
    return data


class Measured:
    """Passes on the inflated pieces of a file and measures them; of what was counted before it passes on nothing.

    `counted`: what was counted under the file's key before. Raises Unreadable (`changed`) when the file does not begin
    with that.
    """

    def __init__(self, pieces: Iterable[bytes], counted: Content | None = None) -> None:
        self._pieces = pieces
        self._counted = counted
        self._length = 0
        self._crc, self._adler = 0, 1

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self._pieces)
        if self._counted is not None:
            yield self._skip(pieces, self._counted)
        for piece in pieces:
            self._add(piece)
            yield piece

    @property
    def content(self) -> Content:
        """The content so far.

        Two checksums are hash enough, at a tenth of the cost of a digest: nobody gains by files that look the same.
        """
        return Content(self._length, self._crc << 31 | self._adler & 0x7FFFFFFF)

    def _skip(self, pieces: Iterator[bytes], counted: Content) -> bytes:
        """Return what follows the counted content in the piece in which that ends."""
        piece = b""
        while (left := counted.length - self._length) > 0:
            piece = next(pieces, b"")
            if not piece:
                break
            self._add(piece[:left])
            piece = piece[left:]
        if self.content != counted:
            raise Unreadable("changed")
        self._add(piece)
        return piece

    def _add(self, piece: bytes) -> None:
        self._length += len(piece)
        self._crc = isal_zlib.crc32(piece, self._crc)
        self._adler = isal_zlib.adler32(piece, self._adler)
