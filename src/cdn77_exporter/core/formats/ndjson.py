"""Newline-delimited JSON: lines to the fields that count, why a line is refused, and what of it may be shown."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import msgspec

from cdn77_exporter.core.fields import FIELDS, Reads
from cdn77_exporter.core.formats import LineRow
from cdn77_exporter.core.layout import ADDRESS, NEEDED, Field, Layout
from cdn77_exporter.core.lines import MAX_COUNT, NOTHING, characters, clean, whole_number
from cdn77_exporter.core.masking import Masker

#: UTF-8's byte-order mark, which may stand at a line's beginning.
MARK = b"\xef\xbb\xbf"

_EXCERPT = 120  # characters
_OPEN, _CLOSE = b"{}"
_ADDRESS_FIELD = re.compile(r'("(?:clientIP|clientRequestXForwardedFor)"\s*:\s*)(?:"[^"]*"?|\[[^\]]*\]?|[^,}]*)')
_QUERY = re.compile(r'\?[^"\s]+')
_MASK = Masker()
_REPLACED = "\ufffd".encode()
_NO_CHARACTER = "\udfff"  # a lone surrogate, which no UTF-8 is

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
_TYPES: dict[Reads, Any] = {Reads.TEXT: str | None, Reads.NUMBER: _Count | None, Reads.FLAG: bool | None}
_Label = _Count | Literal[""] | None  # a number that is a label: an empty text is a missing one
_REASONS_OF_NEEDED = {"timestamp": "bad_timestamp", "clientRequestPath": "bad_path"}
#: The fields that reasons are about.
_FIELDS = {
    "bad_timestamp": "timestamp",
    "too_old": "timestamp",
    "bad_path": "clientRequestPath",
    "no_stream": "clientRequestPath",
    "stream_not_allowed": "clientRequestPath",
}
# What decoding a line raises when something is wrong with it.
_WRONG = (msgspec.MsgspecError, ValueError, RecursionError)


class Ndjson:
    """Reads the fields of a layout from lines of JSON; what may be missing is optional, so that null is no zero.

    Lines are mostly as they should be, and then their fields have the types of a row. Those of a line that is not are
    looked at one by one, and what is malformed is missing.
    """

    def __init__(self, layout: Layout) -> None:
        # In the order in which lines have them, in which they are found soonest.
        fields = sorted(layout.fields, key=lambda field: list(FIELDS).index(field.name))
        self._row = msgspec.defstruct("Row", [_member(field) for field in fields], gc=False, kw_only=True)
        decoder = msgspec.json.Decoder(self._row)
        self._decode, self._decode_lines = decoder.decode, decoder.decode_lines
        self._fields = [(field.name, _VALUES[field.reads]) for field in fields if field.name not in NEEDED]

    def rows(self, data: bytes) -> list[Any] | None:
        """Return a row for each of whole lines; None if one of them is not an object, or has something odd in it."""
        lines = object_lines(data, 0, len(data))
        if not lines:
            return None
        try:
            rows = self._decode_lines(data)
        except _WRONG:
            return None
        return rows if len(rows) == lines else None

    def row(self, line: bytes) -> LineRow | str:
        """Return the row of a line, which is given without its newline; or one of `reasons.REJECT_REASONS`."""
        line = line.removeprefix(MARK)
        try:
            return LineRow(self._decode(line))
        except _WRONG:
            pass
        try:
            value = _JSON.decode(_text_of(line))
        except (ValueError, RecursionError):
            return "not_json"
        return self._odd_row(value) if isinstance(value, dict) else "not_an_object"

    def _odd_row(self, members: dict[str, Any]) -> LineRow | str:
        ignored = []
        values: dict[str, Any] = {}
        for name in NEEDED:
            value = members.get(name)
            if not isinstance(value, str) or isinstance(value, _Number):
                return _REASONS_OF_NEEDED[name]
            values[name] = characters(value)
            if values[name] != value:
                ignored.append(name)
        for name, read in self._fields:
            value = members.get(name)
            if value is not None:
                values[name], is_fine = read(value)
                if not is_fine and (name != ADDRESS or values[name] is None):  # a text is judged by what it tells
                    ignored.append(name)
        return LineRow(self._row(**values), tuple(ignored))

    def excerpt(self, line: bytes, reason: str = "") -> str:
        """Return what of a rejected line may be shown: from the field at fault on, if one is, else from its begin.

        Addresses and the query behind a path are masked, and what cannot be printed is replaced.
        """
        name = _FIELDS.get(reason)
        begin = max(0, line.find(b'"%s"' % name.encode())) if name else 0
        shown = line[begin : begin + 4 * _EXCERPT].decode("utf-8", "replace")
        shown = _QUERY.sub("?***", _ADDRESS_FIELD.sub(r'\1"***"', shown))
        return clean(("… " if begin else "") + _MASK(shown)[:_EXCERPT])


class _Number(str):
    """A number as it is written, whatever its size."""

    __slots__ = ()


def _refuse(text: str) -> Any:
    raise ValueError(text)  # NaN and Infinity are Python's, not JSON's


_JSON = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_refuse)


def _text_of(line: bytes) -> str:
    """Return a line as text, in which a lone surrogate stands for each sequence of bytes that is no UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        # A replacement character that is there already is always one of its own, whatever stands before it.
        parts = (part.decode("utf-8", "replace").replace("\ufffd", _NO_CHARACTER) for part in line.split(_REPLACED))
        return "\ufffd".join(parts)


# A value of JSON as what a row has, and whether it is what it should be.


def _text(value: Any) -> tuple[str | None, bool]:
    if isinstance(value, str):  # or a number, which is the text that it is written as
        text = characters(str(value))
        return text, text == value
    return None, False


def _number(value: Any) -> tuple[int | None, bool]:
    if not isinstance(value, str) or value in NOTHING:
        return None, value in ("", "-")
    number = whole_number(value)
    return number, number is not None


def _flag(value: Any) -> tuple[bool | None, bool]:
    return (value, True) if isinstance(value, bool) else (None, value in ("", "-"))


_VALUES = {Reads.TEXT: _text, Reads.NUMBER: _number, Reads.FLAG: _flag}


def _member(field: Field) -> Any:
    if field.name in NEEDED:
        return (field.name, str)
    kind = _Label if field.is_label and field.reads is Reads.NUMBER else _TYPES[field.reads]
    return (field.name, kind, None)


def object_lines(data: bytes, begin: int, end: int) -> int:
    """Return how many lines there are from `begin` to `end`, if each begins with { and ends with }; else 0.

    A newline cannot stand in a JSON string. So when such lines are as many as the objects that are found in them, no
    line holds two, and no object spans two lines. (`bytes.count` of the two pairs says the same, five times as slowly.)
    """
    if end - begin < 3 or data[begin] != _OPEN or data[end - 2 : end] != b"}\n":
        return 0
    lines, last = 1, end - 1
    find = data.find
    place = find(b"\n", begin)
    while place < last:
        if data[place - 1] != _CLOSE or data[place + 1] != _OPEN:
            return 0
        lines += 1
        place = find(b"\n", place + 1)
    return lines
