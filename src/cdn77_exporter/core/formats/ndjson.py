"""Newline-delimited JSON: lines to the fields that count, why a line is refused, and what of it may be shown."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
import orjson

from cdn77_exporter.core.fields import FIELDS, Reads
from cdn77_exporter.core.layout import NEEDED, Field, Layout
from cdn77_exporter.core.lines import MAX_COUNT, clean
from cdn77_exporter.core.masking import Masker

_EXCERPT = 120  # characters
_OPEN, _CLOSE = b"{}"
_ADDRESS_FIELD = re.compile(r'("(?:clientIP|clientRequestXForwardedFor)"\s*:\s*)"[^"]*"?')
# Where a line is at fault, as msgspec says it: "... missing required field `x`" and "... - at `$.x`".
_PLACE = re.compile(r"`(?:\$\.)?([A-Za-z]+)`$")
_QUERY = re.compile(r'\?[^"\s]+')
_SEARCHED = 65_536  # bytes of a line that is decoded once more to find the field at fault
_MASK = Masker()

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
_TYPES: dict[Reads, Any] = {Reads.TEXT: str | None, Reads.NUMBER: _Count | None, Reads.FLAG: bool | None}
_Label = _Count | Literal[""] | None  # a number that is a label: an empty text is a missing one
_REASONS = {Reads.TEXT: "bad_text", Reads.NUMBER: "bad_number", Reads.FLAG: "bad_number"}
_REASONS_OF_NEEDED = {"timestamp": "bad_timestamp", "clientRequestPath": "bad_path", "clientIP": "bad_client_ip"}
#: The fields of reasons that are found after the decoding, or in one field only.
_FIELDS = {
    "bad_timestamp": "timestamp",
    "too_old": "timestamp",
    "bad_path": "clientRequestPath",
    "no_stream": "clientRequestPath",
    "stream_not_allowed": "clientRequestPath",
    "bad_client_ip": "clientIP",
}
_SYNTAX = msgspec.json.Decoder(msgspec.Raw)
# What decoding a line raises when something is wrong with it.
_WRONG = (msgspec.MsgspecError, ValueError, RecursionError)


class Ndjson:
    """Reads the fields of a layout from lines of JSON; what may be missing is optional, so that null is no zero."""

    def __init__(self, layout: Layout) -> None:
        # In the order in which lines have them, in which they are found soonest.
        fields = sorted(layout.fields, key=lambda field: list(FIELDS).index(field.name))
        row = msgspec.defstruct("Row", [_member(field) for field in fields], gc=False, kw_only=True)
        decoder = msgspec.json.Decoder(row)
        self._decode, self._decode_lines = decoder.decode, decoder.decode_lines
        self._reasons = {field.name: _REASONS[field.reads] for field in fields} | _REASONS_OF_NEEDED

    def rows(self, data: bytes) -> list[Any] | None:
        """Return a row for each of whole lines; None if one of them is not an object, or has something wrong in it."""
        lines = object_lines(data, 0, len(data))
        if not lines or not is_utf8(data):
            return None
        try:
            rows = self._decode_lines(data)
        except _WRONG:
            return None
        return rows if len(rows) == lines else None

    def row(self, line: bytes) -> Any | None:
        """Return the row of a line, which is given without its newline; None if it has something wrong in it."""
        try:
            row = self._decode(line)
        except _WRONG:
            return None
        return row if is_utf8(line) else None

    def fault(self, line: bytes) -> str:
        """Say why a line has no row: one of `reasons.REJECT_REASONS`."""
        try:
            is_object = isinstance(orjson.loads(line), dict)
        except ValueError as error:
            # A number of hundreds of digits is JSON, though orjson stops at it.
            if "infinity" not in str(error) or not _is_json(line):
                return "not_json"
            is_object = line.lstrip().startswith(b"{")
        if not is_object:
            return "not_an_object"
        try:
            self._decode(line)
        except msgspec.ValidationError as error:
            found = _PLACE.search(str(error))
            return self._reasons[found[1]] if found else "not_json"
        except _WRONG:
            pass
        return "not_json"

    def excerpt(self, line: bytes, reason: str = "") -> str:
        """Return what of a rejected line may be shown: from the field at fault on, if one is, else from its begin.

        Addresses and the query behind a path are masked, and what cannot be printed is replaced.
        """
        name = self._field(line, reason)
        begin = max(0, line.find(b'"%s"' % name.encode())) if name else 0
        shown = line[begin : begin + 4 * _EXCERPT].decode("utf-8", "replace")
        shown = _QUERY.sub("?***", _ADDRESS_FIELD.sub(r'\1"***"', shown))
        return clean(("… " if begin else "") + _MASK(shown)[:_EXCERPT])

    def _field(self, line: bytes, reason: str) -> str:
        """Return the field that a reason is about."""
        if reason in _FIELDS or len(line) > _SEARCHED:
            return _FIELDS.get(reason, "")
        try:
            self._decode(line)
        except _WRONG as error:
            found = _PLACE.search(str(error))
            return found[1] if found else ""
        return ""


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


def is_utf8(data: bytes) -> bool:
    """Tell whether all of it is UTF-8; the typed decoder does not look into the fields that it skips."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json(line: bytes) -> bool:
    try:
        _SYNTAX.decode(line)
    except _WRONG:
        return False
    return is_utf8(line)
