"""The slow plain oracle of the decoder: what a file's bytes must count, straight from the contract and not clever.

Where the contract leaves open which of several faults of a line (or file) is named, the oracle gives all that would be
right.
"""

from __future__ import annotations

import ipaddress
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.truth import device_type

STREAM_PATTERN = "/([a-f0-9]{32})/"
#: Faults that say nothing about the health of a file: its lines may all have them.
HARMLESS = {"no_stream", "stream_not_allowed", "too_old"}

_NEEDED = {"timestamp": "bad_timestamp", "clientRequestPath": "bad_path", "clientIP": "bad_client_ip"}
_COUNTS = ("responseBytes", "timeToFirstByteMs", "resourceID", "responseStatus")
_LABELS = ("resourceID", "responseStatus")  # of these, what is empty is as good as missing
_TEXTS = ("cacheStatus", "locationID", "clientCountry", "clientRequestUserAgent")
_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|\+00:00)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Group = tuple[str, str, str, str, str]
Viewer = tuple[str, str, str, str]


@dataclass
class Tick:
    """What happened before one tick and after the one before it."""

    groups: dict[Group, list[int]] = field(default_factory=dict)  # requests, bytes, waits: their sum and number
    viewers: dict[Viewer, list[int]] = field(default_factory=dict)  # the first and the last time


@dataclass
class Answer:
    """What a file holds; or, when `unreadable` is not empty, the reasons one of which must be given for it."""

    unreadable: set[str] = field(default_factory=set)
    lines: int = 0
    events: int = 0
    bytes: int = 0
    faults: list[frozenset[str]] = field(default_factory=list)  # of each rejected line, all that is wrong with it
    ticks: dict[int, Tick] = field(default_factory=dict)
    oldest_ms: int = 0
    newest_ms: int = 0

    def fits(self, rejects: Mapping[str, int]) -> bool:
        """Whether these counts by reason name one right fault of each rejected line."""
        if sum(rejects.values()) != len(self.faults):
            return False
        certain = Counter(next(iter(faults)) for faults in self.faults if len(faults) == 1)
        possible = Counter(reason for faults in self.faults for reason in faults)
        return all(certain[reason] <= rejects.get(reason, 0) <= possible[reason] for reason in {*certain, *rejects})


@dataclass(frozen=True)
class Oracle:
    """Reads files; the same settings as the decoder has. Times in Unix milliseconds."""

    latest_ms: int
    oldest_ms: int
    tick_seconds: int = 15
    stream_pattern: str = STREAM_PATTERN
    allow: Callable[[str], bool] | None = None
    file_bytes: int = 256 * 1024 * 1024
    line_bytes: int = 1024 * 1024
    bad_lines: int = 100_000
    entries: int = 500_000

    def read(self, body: bytes) -> Answer:
        """What a gzip file must count."""
        content, reasons = ungzip(body)
        answer = Answer(reasons) if reasons else self.read_lines(content)
        if len(content) > self.file_bytes:
            answer.unreadable.add("too_large")
        return answer

    def read_lines(self, content: bytes) -> Answer:
        """What inflated lines must count."""
        answer = Answer()
        lines = content.split(b"\n")
        for place, line in enumerate(lines):
            if not line.strip():
                continue
            answer.lines += 1
            if len(line) > self.line_bytes:
                if place == len(lines) - 1:
                    answer.unreadable.add("line_too_long")  # it has no end
                answer.faults.append(frozenset({"line_too_long"}))
                continue
            fields, faults = self.look(line)
            if faults:
                answer.faults.append(frozenset(faults))
            else:
                self._count(answer, fields)
        if sum(1 for faults in answer.faults if not faults & HARMLESS) > self.bad_lines:
            answer.unreadable.add("too_many_bad_lines")
        if sum(len(tick.groups) + len(tick.viewers) for tick in answer.ticks.values()) > self.entries:
            answer.unreadable.add("too_many_distinct")
        return answer

    def look(self, line: bytes) -> tuple[dict[str, Any], set[str]]:
        """A line's fields, and everything that is wrong with it."""
        pairs = parse_json(line)
        if pairs is None:
            return {}, {"not_json"}
        if not isinstance(pairs, Pairs):
            return {}, {"not_an_object"}
        fields = dict(pairs)
        faults = {reason for name, value in pairs for reason in field_faults(name, value)}
        for name, reason in (
            ("timestamp", "bad_timestamp"),
            ("clientRequestPath", "bad_path"),
            ("clientIP", "bad_client_ip"),
        ):
            if name not in fields:
                faults.add(reason)
        if "bad_path" not in faults:
            stream = self._stream(fields)
            if stream is None:
                faults.add("no_stream")
            elif self.allow is not None and not self.allow(stream):
                faults.add("stream_not_allowed")
        if "bad_timestamp" not in faults and instant_ms(fields["timestamp"]) < self.oldest_ms:
            faults.add("too_old")
        if faults and _is_endless(pairs):
            faults.add("bad_number")
        return fields, faults

    def _stream(self, fields: Mapping[str, Any]) -> str | None:
        found = re.search(self.stream_pattern, fields["clientRequestPath"])
        if found is None:
            return None
        return clean((found[1] if found.re.groups else found[0]) or "") or None

    def _count(self, answer: Answer, fields: Mapping[str, Any]) -> None:
        at = min(instant_ms(fields["timestamp"]), self.latest_ms)
        stream = self._stream(fields)
        assert stream is not None
        size, wait = fields.get("responseBytes") or 0, fields.get("timeToFirstByteMs") or 0
        group = (
            stream,
            str(fields.get("resourceID") or 0),
            clean(fields.get("cacheStatus") or "UNKNOWN"),
            clean(fields.get("locationID") or "unknown"),
            str(fields.get("responseStatus") or 0),
        )
        viewer = (
            stream,
            one_spelling(fields["clientIP"]),
            device_type(fields.get("clientRequestUserAgent")),
            clean(fields.get("clientCountry") or "XX"),
        )
        tick = answer.ticks.setdefault((at // (self.tick_seconds * 1000) + 1) * self.tick_seconds, Tick())
        sums = tick.groups.setdefault(group, [0, 0, 0, 0])
        for place, more in enumerate((1, size, wait, 1 if wait else 0)):
            sums[place] += more
        seen = tick.viewers.setdefault(viewer, [at, at])
        seen[0], seen[1] = min(seen[0], at), max(seen[1], at)
        answer.oldest_ms = min(answer.oldest_ms, at) if answer.events else at
        answer.newest_ms = max(answer.newest_ms, at) if answer.events else at
        answer.events += 1
        answer.bytes += size


class Pairs(list[tuple[str, Any]]):
    """A JSON object: its members in order, since a name can come twice."""


def ungzip(body: bytes) -> tuple[bytes, set[str]]:
    """The content of a gzip file of any number of members, or why there is none."""
    if not body:
        return b"", {"empty"}
    if body[:2] != b"\x1f\x8b":
        return b"", {"not_gzip"}
    content, rest = b"", body
    while rest:
        member = zlib.decompressobj(wbits=31)  # a gzip header, its checksum if it has one, and a trailer
        try:
            content += member.decompress(rest)
        except zlib.error:
            return b"", {"corrupt"}
        if not member.eof:
            return b"", {"truncated"}
        rest = member.unused_data.lstrip(b"\0")
    return content, set()


def parse_json(line: bytes) -> Any:
    """The value of one JSON text in UTF-8, objects as `Pairs`; None when the line is none, a `null` of JSON is `()`."""

    def refuse(text: str) -> Any:
        raise ValueError(text)  # NaN and Infinity are Python's, not JSON's

    try:
        text = line.decode("utf-8")
        value = json.loads(text, object_pairs_hook=Pairs, parse_constant=refuse, parse_int=_whole)
        _refuse_surrogates(value)
    except (ValueError, RecursionError):
        return None
    return () if value is None else value


def _whole(text: str) -> int:
    """A number of any length; Python's own conversion refuses those of thousands of digits."""
    return int(text[:400])


def _refuse_surrogates(value: Any) -> None:
    """Half a pair is no character: such a text has no UTF-8 form."""
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_surrogates(part)


def field_faults(name: str, value: Any) -> set[str]:
    """What is wrong with one member of the object."""
    if name == "timestamp":
        return set() if isinstance(value, str) and instant_ms(value) is not None else {"bad_timestamp"}
    if name == "clientRequestPath":
        return set() if isinstance(value, str) else {"bad_path"}
    if name == "clientIP":
        return set() if isinstance(value, str) and is_address(value) else {"bad_client_ip"}
    if name in _TEXTS:
        return set() if value is None or isinstance(value, str) else {"bad_text"}
    if name in _COUNTS:
        empty = value is None or (value == "" and name in _LABELS)
        return set() if empty or is_count(value) else {"bad_number"}
    return set()


def _is_endless(value: Any) -> bool:
    """Whether it is, or holds, a number that is none as a float: some readers of JSON stop there."""
    if isinstance(value, list | tuple):
        return any(map(_is_endless, value))
    return isinstance(value, int | float) and abs(value) >= 2**1024


def is_count(value: Any) -> bool:
    """Whether it is a whole number, written as one, that a float holds exactly."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**53


def instant_ms(text: str) -> Any:
    """The Unix milliseconds of a UTC time, what is finer cut off; None when there is no such instant."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    *parts, fraction = found.groups()
    try:
        moment = datetime(*map(int, parts), tzinfo=UTC)  # type: ignore[misc,arg-type]  # six numbers
    except ValueError:
        return None
    return (moment - _EPOCH) // timedelta(milliseconds=1) + int(((fraction or "") + "000")[:3])


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def one_spelling(text: str) -> str:
    """An address as it is usually written, an IPv4 address however it is told, and without a zone."""
    packed = ipaddress.ip_address(text).packed
    if len(packed) == 16 and packed[:12] == bytes(10) + b"\xff\xff":
        packed = packed[12:]
    return str(ipaddress.ip_address(packed))


def clean(text: str) -> str:
    """A label value: cut to 128 characters, and what controls a terminal or ends a line replaced."""
    return "".join("\ufffd" if _controls(character) else character for character in text[:128])


def _controls(character: str) -> bool:
    number = ord(character)
    return number < 0x20 or 0x7F <= number < 0xA0 or number in {0x2028, 0x2029}
