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
from fractions import Fraction
from typing import Any, TypeGuard

from tests.support.truth import device_type

STREAM_PATTERN = "/([a-f0-9]{32})/"
#: Faults that say nothing about the health of a file: its lines may all have them.
HARMLESS = {"no_stream", "stream_not_allowed", "too_old"}

_COUNTS = ("responseBytes", "timeToFirstByteMs", "resourceID", "responseStatus")
_FLAGS = ("clientRequestCompleted", "clientRequestConnTimeout")
_TEXTS = ("cacheStatus", "locationID", "clientCountry", "clientRequestUserAgent")
_MARK = b"\xef\xbb\xbf"
_DAYS = ("([0-9]{4})-([0-9]{2})-([0-9]{2})", "([0-9]{4})([0-9]{2})([0-9]{2})")
_CLOCKS = (
    "([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?",
    "([0-9]{2})([0-9]{2})(?:([0-9]{2})(?:[.,]([0-9]+))?)?",
)
_ZONE = "(Z|z|[+-][0-9]{2}|[+-][0-9]{2}:?[0-9]{2})"
_TIMES = [re.compile(day + "[Tt ]" + clock + _ZONE) for day, clock in zip(_DAYS, _CLOCKS, strict=True)]
_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Group = tuple[str, str, str, str, str]
Viewer = tuple[str, str, str, str]


@dataclass
class Tick:
    """What happened before one tick and after the one before it."""

    # Requests, bytes, waits (their sum and number), aborted and timed out.
    groups: dict[Group, list[int]] = field(default_factory=dict)
    tracks: dict[tuple[str, str], list[int]] = field(default_factory=dict)  # by stream and track: requests, bytes
    viewers: dict[Viewer, list[int]] = field(default_factory=dict)  # the first and the last time


@dataclass
class Answer:
    """What a file holds; or, when `unreadable` is not empty, the reasons one of which must be given for it."""

    unreadable: set[str] = field(default_factory=set)
    lines: int = 0
    events: int = 0
    bytes: int = 0
    unknown: int = 0  # events whose device type is `other`
    faults: list[frozenset[str]] = field(default_factory=list)  # of each rejected line, all that is wrong with it
    ignored: Counter[str] = field(default_factory=Counter)  # malformed values of events, by field
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
    entries: int = 250_000
    ipv6_prefix: int = 128

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
            if not line.strip() or line == _MARK:
                continue
            answer.lines += 1
            if len(line) > self.line_bytes:
                if place == len(lines) - 1:
                    answer.unreadable.add("line_too_long")  # it has no end
                answer.faults.append(frozenset({"line_too_long"}))
                continue
            faults = self._look(answer, line)
            if faults:
                answer.faults.append(frozenset(faults))
        if sum(1 for faults in answer.faults if not faults & HARMLESS) > self.bad_lines:
            answer.unreadable.add("too_many_bad_lines")
        kinds = [[len(tick.groups), len(tick.tracks), len(tick.viewers)] for tick in answer.ticks.values()]
        if max(map(sum, zip(*kinds, strict=True)), default=0) > self.entries:
            answer.unreadable.add("too_many_distinct")
        return answer

    def _look(self, answer: Answer, line: bytes) -> set[str]:
        """Count a line if it is an event; return everything for which it is none."""
        members = parse_json(line, "replace")
        if members is _NO_JSON:
            return {"not_json"}
        if not isinstance(members, dict):
            return {"not_an_object"}
        # Each byte that is no UTF-8 is half a pair here, which nothing else is but an escape of such a half.
        exact = parse_json(line, "surrogateescape")
        fields = {name: replaced(value) for name, value in members.items()}
        ignored = {name for name in (*_TEXTS, "timestamp", "clientRequestPath") if is_broken(exact.get(name))}
        time, path = fields.get("timestamp"), fields.get("clientRequestPath")
        at: Any = instant_ms(time) if is_text(time) else None
        stream = self._stream(path) if is_text(path) else None
        faults = set()
        if at is None:
            faults.add("bad_timestamp")
        elif at < self.oldest_ms:
            faults.add("too_old")
        if not is_text(path):
            faults.add("bad_path")
        elif stream is None:
            faults.add("no_stream")
        elif self.allow is not None and not self.allow(stream):
            faults.add("stream_not_allowed")
        if not faults:
            assert stream is not None
            self._count(answer, fields, ignored, min(at, self.latest_ms), stream)
        return faults

    def _stream(self, path: str) -> str | None:
        found = re.search(self.stream_pattern, path)
        if found is None:
            return None
        return clean((found[1] if found.re.groups else found[0]) or "") or None

    def _count(self, answer: Answer, fields: Mapping[str, Any], ignored: set[str], at: int, stream: str) -> None:
        counts = {name: count_of(fields.get(name)) for name in _COUNTS}
        texts = {name: text_of(fields.get(name)) for name in _TEXTS}
        flags = {name: value if isinstance(value := fields.get(name), bool) else None for name in _FLAGS}
        viewer_at = address_of(fields.get("clientIP"), self.ipv6_prefix)
        for name, value in {**counts, **texts, **flags, "clientIP": viewer_at}.items():
            if value is None and not is_nothing(fields.get(name)):
                ignored.add(name)
        answer.ignored.update(ignored)
        size, wait = counts["responseBytes"] or 0, counts["timeToFirstByteMs"] or 0
        group = (
            stream,
            str(counts["resourceID"] or 0),
            clean(texts["cacheStatus"] or "UNKNOWN"),
            clean(texts["locationID"] or "unknown"),
            str(counts["responseStatus"] or 0),
        )
        tick = answer.ticks.setdefault((at // (self.tick_seconds * 1000) + 1) * self.tick_seconds, Tick())
        sums = tick.groups.setdefault(group, [0, 0, 0, 0, 0, 0])
        aborted, timed_out = flags["clientRequestCompleted"] is False, flags["clientRequestConnTimeout"] is True
        for place, more in enumerate((1, size, wait, 1 if wait else 0, int(aborted), int(timed_out))):
            sums[place] += more
        track = re.match("/[^/]+/tracks-([^/]+)/", fields["clientRequestPath"])
        if track:
            of_track = tick.tracks.setdefault((stream, clean(track[1])), [0, 0])
            of_track[0] += 1
            of_track[1] += size
        device = device_type(texts["clientRequestUserAgent"])
        if viewer_at is not None:
            viewer = (stream, viewer_at, device, clean(texts["clientCountry"] or "XX"))
            seen = tick.viewers.setdefault(viewer, [at, at])
            seen[0], seen[1] = min(seen[0], at), max(seen[1], at)
        answer.oldest_ms = min(answer.oldest_ms, at) if answer.events else at
        answer.newest_ms = max(answer.newest_ms, at) if answer.events else at
        answer.events += 1
        answer.unknown += device == "other"
        answer.bytes += size


class Number(str):
    """A number of JSON as it is written."""


_NO_JSON = object()


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


def parse_json(line: bytes, errors: str) -> Any:
    """The value of one JSON text; of members with one name the last holds. `_NO_JSON` when the line is none."""

    def refuse(text: str) -> Any:
        raise ValueError(text)  # NaN and Infinity are Python's, not JSON's

    try:
        text = line.removeprefix(_MARK).decode("utf-8", errors)
        return json.loads(text, parse_constant=refuse, parse_int=Number, parse_float=Number)
    except (ValueError, RecursionError):
        return _NO_JSON


def is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a text of JSON."""
    return isinstance(value, str) and not isinstance(value, Number)


def is_broken(value: Any) -> bool:
    """Whether it is a text in which something is no character."""
    return isinstance(value, str) and any(0xD800 <= ord(character) <= 0xDFFF for character in value)


def replaced(value: Any) -> Any:
    """A text in which what is no character is U+FFFD; anything else as it is."""
    if not is_text(value):
        return value
    return "".join("\ufffd" if 0xD800 <= ord(character) <= 0xDFFF else character for character in value)


def is_nothing(value: Any) -> bool:
    """Whether it is how logs say that there is no value."""
    return value is None or value in ("", "-")


def text_of(value: Any) -> str | None:
    """A text; a number is the text that it is written as. None for anything else."""
    return str(value) if isinstance(value, str) else None


def count_of(value: Any) -> int | None:
    """A whole number that a float holds exactly, as a number or in a text; None for anything else."""
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    sign, whole, fraction, exponent = found.groups()
    digits, power = int((whole + (fraction or ""))[:4000]), int((exponent or "0")[:9]) - len(fraction or "")
    if not digits:
        return 0
    if sign or abs(power) > 4000 or len(whole) > 4000:
        return None
    number = digits * Fraction(10) ** power
    return int(number) if number.denominator == 1 and number <= 2**53 else None


def instant_ms(text: str) -> Any:
    """The Unix milliseconds of an ISO 8601 time with an offset, what is finer cut off; None for no such instant."""
    found = next(filter(None, (pattern.fullmatch(text) for pattern in _TIMES)), None)
    if found is None:
        return None
    *parts, second, fraction, zone = found.groups()
    leap = second == "60"
    try:
        moment = datetime(*map(int, parts), second=59 if leap else int(second or 0), tzinfo=UTC)  # type: ignore[misc,arg-type]  # five numbers
    except ValueError:
        return None
    digits = zone.replace(":", "")[1:].ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        return None
    ahead = timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
    since = moment - _EPOCH - ahead + timedelta(seconds=1 if leap else 0)
    if leap and since % timedelta(days=1):
        return None
    return since // timedelta(milliseconds=1) + int(((fraction or "") + "000")[:3])


def address_of(value: Any, ipv6_prefix: int = 128) -> str | None:
    """The first IP address of a list, without its port, as it is usually written; None if there is none."""
    if not isinstance(value, str) or len(value) > 1024:
        return None
    for part in value.split(","):
        text = part.strip(" \t")
        for form in (r"([0-9.]+):[0-9]{1,5}", r"\[([^\]]*:[^\]]*)\](?::[0-9]{1,5})?"):
            found = re.fullmatch(form, text)
            text = found[1] if found else text
        if is_address(text):
            return one_spelling(text, ipv6_prefix)
    return None


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return len(text) <= 64


def one_spelling(text: str, ipv6_prefix: int = 128) -> str:
    """An address as it is usually written, an IPv4 address however it is told, without a zone, and of its network."""
    packed = ipaddress.ip_address(text).packed
    if len(packed) == 16 and packed[:12] == bytes(10) + b"\xff\xff":
        packed = packed[12:]
    if len(packed) == 4:
        return str(ipaddress.ip_address(packed))
    return str(ipaddress.IPv6Network((packed, ipv6_prefix), strict=False).network_address)


def clean(text: str) -> str:
    """A label value: cut to 128 characters, and what controls a terminal or ends a line replaced."""
    return "".join("\ufffd" if _controls(character) else character for character in text[:128])


def _controls(character: str) -> bool:
    number = ord(character)
    return number < 0x20 or 0x7F <= number < 0xA0 or number in {0x2028, 0x2029}
