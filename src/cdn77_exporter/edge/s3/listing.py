"""Reads a page of an S3 listing piece by piece, so that a thousand keys do not hold the event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote_plus
from xml.parsers import expat  # nosec B407

from cdn77_exporter.core.files import LogFile

_PIECE_BYTES = 32 * 1024
_PIECE_ENTRIES = 200
_ROOT = "ListBucketResult"
_ENTRY = "Contents"


class ListingError(Exception):
    """The answer is something else than a page of a listing, or one that is damaged."""


@dataclass(frozen=True, slots=True)
class Page:
    """The files of a page, as the server orders them, and the token of the next page if there is one."""

    files: list[LogFile]
    next_token: str | None


async def read_page(body: bytes) -> Page:
    """The page in the answer's body; other tasks run in between. Raises ListingError."""
    reader = _Reader()
    view = memoryview(body)
    files: list[LogFile] = []
    try:
        for begin in range(0, len(body), _PIECE_BYTES):
            reader.parser.Parse(view[begin : begin + _PIECE_BYTES], False)
            await asyncio.sleep(0)
        reader.parser.Parse(b"", True)
        for begin in range(0, len(reader.entries), _PIECE_ENTRIES):
            files += reader.files(begin, begin + _PIECE_ENTRIES)
            await asyncio.sleep(0)
    except (expat.ExpatError, ValueError, KeyError) as error:
        raise ListingError(type(error).__name__) from None
    more = reader.values.get("IsTruncated") == "true"
    token = reader.values.get("NextContinuationToken")
    if more and not token:
        raise ListingError("there is more, but no token for it")
    return Page(files, token if more else None)


@dataclass(slots=True)
class _Reader:
    """Collects the text of elements: those of the page itself, and those of each entry.

    A document type, and with it every entity, is refused: no listing needs one.
    """

    values: dict[str, str] = field(default_factory=dict)
    entries: list[dict[str, str]] = field(default_factory=list)
    entry: dict[str, str] | None = None
    text: str = ""
    rooted: bool = False
    parser: expat.XMLParserType = field(default_factory=expat.ParserCreate)

    def __post_init__(self) -> None:
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._add

    def _refuse(self, *_: object) -> None:
        raise ListingError("it declares a document type")

    def _begin(self, name: str, _: dict[str, str]) -> None:
        if not self.rooted:
            if name != _ROOT:
                raise ListingError(f"it is {name[:40]!r}")
            self.rooted = True
        if name == _ENTRY:
            self.entry = {}
        self.text = ""

    def _add(self, text: str) -> None:
        self.text += text

    def _end(self, name: str) -> None:
        if name == _ENTRY and self.entry is not None:
            self.entries.append(self.entry)
            self.entry = None
        elif self.entry is not None:
            self.entry[name] = self.text
        else:
            self.values[name] = self.text
        self.text = ""

    def files(self, begin: int, end: int) -> list[LogFile]:
        """Some of the entries as files. Only at the end of the page is it sure whether the keys are encoded."""
        coded = self.values.get("EncodingType") == "url"
        return [
            LogFile(
                unquote_plus(entry["Key"]) if coded else entry["Key"],
                entry["ETag"].strip('"'),
                int(entry["Size"]),
                _milliseconds(entry["LastModified"]),
            )
            for entry in self.entries[begin:end]
        ]


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
