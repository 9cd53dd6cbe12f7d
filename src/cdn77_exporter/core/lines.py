"""What a line must look like to be an event, what is wrong with one that is none, and what of it may be shown."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
import orjson

from cdn77_exporter.core.masking import Masker

#: Counts above this are not exact in a sample, which is a float.
MAX_COUNT = 2**53
#: Longer label values are cut.
LABEL_LENGTH = 128

_EXCERPT = 120  # characters
_ADDRESS_LENGTH = 64  # an IPv6 address with a zone; the zone has no limit of its own
_OPEN, _CLOSE = b"{}"
_NOT_IN_LABELS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SECOND = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)", re.ASCII)
_FRACTION = re.compile(r"(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII)
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_BYTE}\.{_BYTE}\.{_BYTE}\.{_BYTE}")
_ADDRESS_FIELD = re.compile(r'("(?:clientIP|clientRequestXForwardedFor)"\s*:\s*)"[^"]*"?')
# Where a line is at fault, as msgspec says it: "... missing required field `x`" and "... - at `$.x`".
_PLACE = re.compile(r"`(?:\$\.)?([A-Za-z]+)`$")
_QUERY = re.compile(r'\?[^"\s]+')
_SEARCHED = 65_536  # bytes of a line that is decoded once more to find the field at fault
_MASK = Masker()

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
_Label = _Count | Literal[""] | None  # a number that is a label: an empty text is a missing one


class Line(msgspec.Struct, gc=False, kw_only=True):
    """The fields that count, of the 39 that a line has; what may be missing is optional, so that null is no zero.

    They stand in the order in which lines have them, in which they are found soonest.
    """

    timestamp: str
    timeToFirstByteMs: _Count | None = 0  # noqa: N815
    resourceID: _Label = 0  # noqa: N815
    cacheStatus: str | None = ""  # noqa: N815
    clientCountry: str | None = ""  # noqa: N815
    clientIP: str  # noqa: N815
    clientRequestPath: str  # noqa: N815
    clientRequestUserAgent: str | None = ""  # noqa: N815
    locationID: str | None = ""  # noqa: N815
    responseStatus: _Label = 0  # noqa: N815
    responseBytes: _Count | None = 0  # noqa: N815


_REASONS = {
    "timestamp": "bad_timestamp",
    "clientRequestPath": "bad_path",
    "clientIP": "bad_client_ip",
    "responseBytes": "bad_number",
    "timeToFirstByteMs": "bad_number",
    "resourceID": "bad_number",
    "responseStatus": "bad_number",
    "cacheStatus": "bad_text",
    "locationID": "bad_text",
    "clientCountry": "bad_text",
    "clientRequestUserAgent": "bad_text",
}
#: The fields of reasons that are found after the decoding, or in one field only.
_FIELDS = {
    "bad_timestamp": "timestamp",
    "too_old": "timestamp",
    "bad_path": "clientRequestPath",
    "no_stream": "clientRequestPath",
    "stream_not_allowed": "clientRequestPath",
    "bad_client_ip": "clientIP",
}
_DECODER = msgspec.json.Decoder(Line)
_SYNTAX = msgspec.json.Decoder(msgspec.Raw)


def object_lines(data: bytes, begin: int, end: int) -> int:
    """How many lines there are from `begin` to `end`, if each begins with { and ends with }; else 0.

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
    """Whether all of it is UTF-8; the typed decoder does not look into the fields that it skips."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def fault(line: bytes) -> str:
    """Why the typed decoder refuses a line: one of `model.REJECT_REASONS`."""
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
        _DECODER.decode(line)
    except msgspec.ValidationError as error:
        found = _PLACE.search(str(error))
        return _REASONS[found[1]] if found else "not_json"
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return "not_json"


def _is_json(line: bytes) -> bool:
    try:
        _SYNTAX.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return is_utf8(line)


def second_ms(text: str) -> int | None:
    """The Unix milliseconds of a date and time down to the second; None when there is no such instant."""
    found = _SECOND.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        return None


def fraction_ms(text: str) -> int | None:
    """The milliseconds that follow a timestamp's seconds; None when that is not how UTC is written (ISO 8601)."""
    found = _FRACTION.fullmatch(text)
    return int((found[1] or "").ljust(3, "0")[:3]) if found else None


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address as `ipaddress` has them."""
    if _IPV4.fullmatch(text):  # ten times as fast
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return len(text) <= _ADDRESS_LENGTH


def clean(text: str) -> str:
    """A label value: control characters and lone surrogates replaced, cut to `LABEL_LENGTH` characters."""
    text = text[:LABEL_LENGTH]
    return text if text.isascii() and text.isprintable() else _NOT_IN_LABELS.sub("\ufffd", text)


def excerpt(line: bytes, reason: str = "") -> str:
    """What of a rejected line may be shown: from the field at fault on, if one is, else from its begin.

    Addresses and the query behind a path are masked, and what cannot be printed is replaced.
    """
    field = _field(line, reason)
    begin = max(0, line.find(b'"%s"' % field.encode())) if field else 0
    shown = line[begin : begin + 4 * _EXCERPT].decode("utf-8", "replace")
    shown = _QUERY.sub("?***", _ADDRESS_FIELD.sub(r'\1"***"', shown))
    return clean(("… " if begin else "") + _MASK(shown)[:_EXCERPT])


def _field(line: bytes, reason: str) -> str:
    """The field that a reason is about."""
    if reason in _FIELDS or len(line) > _SEARCHED:
        return _FIELDS.get(reason, "")
    try:
        _DECODER.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        found = _PLACE.search(str(error))
        return found[1] if found else ""
    return ""
