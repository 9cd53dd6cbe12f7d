"""Reads a page of an S3 listing piece by piece, so that a thousand keys do not hold the event loop."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import unquote_plus
from xml.parsers import expat  # nosec B407

from cdn77_exporter.core.files import LogFile

_PIECE_BYTES = 32 * 1024
_PIECE_ENTRIES = 200
_ROOT = "ListBucketResult"
_ENTRY = "Contents"
_MOST_DEPTH = 8
_MOST_ENTRIES = 10_000  # ten times as many as a page may have
_MOST_ELEMENTS = 100_000
_SIZE = re.compile(r"[0-9]{1,15}")
_ETAG = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")  # what a request may ask for


class ListingError(Exception):
    """The answer is something else than a page of a listing, or one that is damaged."""


class NoXml(ListingError):
    """The answer is no XML at all."""


@dataclass(frozen=True, slots=True)
class Page:
    """The files of a page, as the server orders them, and the token of the next page if there is one."""

    files: list[LogFile]
    next_token: str | None
    odd: list[tuple[str, str]] = field(default_factory=list)  # entries that name no file: why, and the key


async def read_page(body: bytes) -> Page:
    """Read the page in the answer's body; other tasks run in between. Raises ListingError."""
    reader = _Reader()
    view = memoryview(body)
    files: list[LogFile] = []
    odd: list[tuple[str, str]] = []
    try:
        for begin in range(0, len(body), _PIECE_BYTES):
            reader.parser.Parse(view[begin : begin + _PIECE_BYTES], False)
            await asyncio.sleep(0)
        reader.parser.Parse(b"", True)
        for begin in range(0, len(reader.entries), _PIECE_ENTRIES):
            for entry in reader.entries[begin : begin + _PIECE_ENTRIES]:
                reader.take(entry, files, odd)
            await asyncio.sleep(0)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise ListingError(type(error).__name__) from None
    more = reader.values.get("IsTruncated") == "true"
    token = reader.values.get("NextContinuationToken")
    if more and not token:
        raise ListingError("there is more, but no token for it")
    return Page(files, token if more else None, odd)


def refuse_document_type(*_: object) -> None:
    """Raise ListingError: no answer of S3 has one, and the entities that it may declare grow without a bound."""
    raise ListingError("it declares a document type")


@dataclass(slots=True)
class _Reader:
    """Collects the text of elements: those of the page itself, and those of each entry.

    A document type, and with it every entity, is refused: no listing needs one.
    """

    values: dict[str, str] = field(default_factory=dict)
    entries: list[dict[str, str]] = field(default_factory=list)
    entry: dict[str, str] | None = None
    text: str = ""
    depth: int = 0
    parser: expat.XMLParserType = field(default_factory=expat.ParserCreate)

    def __post_init__(self) -> None:
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = refuse_document_type
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._add

    def _begin(self, name: str, _: dict[str, str]) -> None:
        if not self.depth and name != _ROOT:
            raise ListingError(f"it is {name[:40]!r}")
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise ListingError("its elements lie too deep in each other")
        if name == _ENTRY:
            self.entry = {}
        self.text = ""

    def _add(self, text: str) -> None:
        self.text += text

    def _end(self, name: str) -> None:
        self.depth -= 1
        if name == _ENTRY and self.entry is not None:
            self.entries.append(self.entry)
            if len(self.entries) > _MOST_ENTRIES:
                raise ListingError("it has too many entries")
            self.entry = None
        elif self.entry is not None:
            self.entry[name] = self.text
        else:
            self.values[name] = self.text
        self.text = ""

    def take(self, entry: dict[str, str], files: list[LogFile], odd: list[tuple[str, str]]) -> None:
        """Add an entry to the files, or to what is odd. Only at the end of a page is it sure whether keys are coded."""
        key = entry.get("Key", "")
        if self.values.get("EncodingType") == "url":
            key = unquote_plus(key)
        size, etag, modified_ms = entry.get("Size", ""), etag_of(entry.get("ETag", "")), _milliseconds(entry)
        if not key:
            odd.append(("an entry without a key", key))
        elif not etag:
            odd.append(("a file without an ETag", key))
        elif not _ETAG.fullmatch(etag):
            odd.append(("a file whose ETag is none", key))
        elif not _SIZE.fullmatch(size):
            odd.append(("a file whose size is no number of bytes", key))
        elif modified_ms is None:
            odd.append(("a file whose time is none", key))
        else:
            files.append(LogFile(key, etag, int(size), modified_ms))


def etag_of(text: str) -> str:
    """Return an ETag without its quotes; a weak one keeps its `W/`."""
    weak = text.startswith("W/")
    return "W/" * weak + text.removeprefix("W/").strip('"')


def check_xml(body: bytes) -> None:
    """Raise ListingError for XML with more or deeper elements than any answer of S3 has, or with a document type."""
    parser = expat.ParserCreate()
    depth = elements = 0

    def begin(*_: object) -> None:
        nonlocal depth, elements
        depth, elements = depth + 1, elements + 1
        if depth > _MOST_DEPTH or elements > _MOST_ELEMENTS:
            raise ListingError("it has too many elements")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.StartDoctypeDeclHandler = refuse_document_type
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise NoXml("it is no XML") from error


def _milliseconds(entry: dict[str, str]) -> int | None:
    try:
        at = datetime.fromisoformat(entry.get("LastModified", ""))
        # S3 says every time in UTC; one without an offset is not in the zone of this machine.
        found = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return found if found >= 0 else None
