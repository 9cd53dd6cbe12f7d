"""gzip bytes to a tally: inflated in pieces, decoded in pieces, never whole in memory."""

from __future__ import annotations

import calendar
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import orjson
from isal import isal_zlib

from cdn77_exporter.core.device import device_type
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.tally import Example, Tally, TickTally

DEFAULT_STREAM_PATTERN = "/([a-f0-9]{32})/"
MAX_COUNT = 2**53
_PIECE = 256 * 1024
_MEMO = 50_000
_LABEL_LENGTH = 128
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)", re.ASCII)
_FRACTION = re.compile(r"(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII)
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask for: inflated bytes, bytes of a line, bad lines."""

    file_bytes: int = 256 * 1024 * 1024
    line_bytes: int = 1024 * 1024
    bad_lines: int = 100_000


class _Line(msgspec.Struct, gc=False):
    timestamp: str
    clientRequestPath: str  # noqa: N815
    clientIP: str  # noqa: N815
    responseBytes: _Count | None = 0  # noqa: N815
    timeToFirstByteMs: _Count | None = 0  # noqa: N815
    resourceID: _Count | None = 0  # noqa: N815
    responseStatus: _Count | None = 0  # noqa: N815
    cacheStatus: str | None = ""  # noqa: N815
    locationID: str | None = ""  # noqa: N815
    clientCountry: str | None = ""  # noqa: N815
    clientRequestUserAgent: str | None = ""  # noqa: N815


def inflate(body: bytes, limits: Limits) -> Iterator[bytes]:
    """The inflated bytes of all members, in pieces; zeros behind the last member are padding."""
    if not body:
        raise Unreadable("empty")
    if body[:2] != b"\x1f\x8b":
        raise Unreadable("not_gzip")
    total = 0
    rest = memoryview(body)
    try:
        while rest and rest[0]:
            member = isal_zlib.decompressobj(wbits=31)
            data: Any = rest
            while not member.eof:
                piece = member.decompress(data, _PIECE)
                data = member.unconsumed_tail
                if not piece and not data and not member.eof:
                    raise Unreadable("truncated")
                total += len(piece)
                if total > limits.file_bytes:
                    raise Unreadable("too_large")
                yield piece
            rest = memoryview(member.unused_data)
    except isal_zlib.error as error:
        raise Unreadable("corrupt", str(error)) from error
    if rest and any(rest):
        raise Unreadable("corrupt", "bytes behind the end")


class Decoder:
    """Decodes files one after the other; keeps bounded tables of what it has met. Not thread-safe."""

    def __init__(
        self,
        *,
        tick_seconds: int = 15,
        stream_pattern: str = DEFAULT_STREAM_PATTERN,
        limits: Limits = Limits(),  # noqa: B008
        examples: bool = False,
        allow: Callable[[str], bool] | None = None,
    ) -> None:
        self._tick = tick_seconds
        self._search = re.compile(stream_pattern).search
        self._limits = limits
        self._examples = examples
        self._allow = allow
        self._lines = msgspec.json.Decoder(_Line)
        self._ips: dict[str, bool] = {}
        self._devices: dict[str, str] = {}
        self._fractions: dict[str, int] = {}
        self._streams: dict[str, str] = {}

    def decode(self, body: bytes, *, latest_ms: int, oldest_ms: int) -> Tally:
        """Count a file. Events later than `latest_ms` count there, those before `oldest_ms` are rejects (Unix ms)."""
        began = time.thread_time()
        tally = Tally()
        carry = b""
        seconds: dict[str, Any] = {}
        for piece in inflate(body, self._limits):
            data = carry + piece
            cut = data.rfind(b"\n") + 1
            carry = data[cut:]
            if len(carry) > self._limits.line_bytes:
                raise Unreadable("line_too_long")
            self._piece(data[:cut], tally, seconds, latest_ms, oldest_ms)
        self._piece(carry, tally, seconds, latest_ms, oldest_ms)
        times = [at for part in tally.ticks.values() for seen in part.viewers.values() for at in seen]
        tally.newest_ms, tally.oldest_ms = max(times, default=0), min(times, default=0)
        tally.seconds = time.thread_time() - began
        return tally

    def _piece(self, data: bytes, tally: Tally, seconds: dict[str, Any], latest_ms: int, oldest_ms: int) -> None:
        for line in data.split(b"\n"):
            if not line.strip():
                continue
            tally.lines += 1
            try:
                event = self._lines.decode(line)
                reason = self._count(event, tally, latest_ms, oldest_ms)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                reason = self._why(line)
            if reason:
                tally.rejects[reason] = tally.rejects.get(reason, 0) + 1
                if sum(tally.rejects.values()) > self._limits.bad_lines:
                    raise Unreadable("too_many_bad_lines")

    def _why(self, line: bytes) -> str:
        try:
            value = orjson.loads(line)
        except ValueError:
            return "not_json"
        if not isinstance(value, dict):
            return "not_an_object"
        for name, reason in (
            ("timestamp", "bad_timestamp"),
            ("clientRequestPath", "bad_path"),
            ("clientIP", "bad_client_ip"),
        ):
            if not isinstance(value.get(name), str):
                return reason
        return "bad_number"

    def _count(self, event: _Line, tally: Tally, latest_ms: int, oldest_ms: int) -> str:
        found = _TIME.match(event.timestamp)
        fraction = _FRACTION.fullmatch(event.timestamp[19:])
        if not found or not fraction:
            return "bad_timestamp"
        y, mo, d, h, mi, s = map(int, found.groups())
        if not (1 <= mo <= 12 and 1 <= d <= 31 and h < 24 and mi < 60 and s < 60 and y > 1970):
            return "bad_timestamp"
        at = calendar.timegm((y, mo, d, h, mi, s)) * 1000 + int((fraction[1] or "0").ljust(3, "0")[:3])
        if at < oldest_ms:
            return "too_old"
        at = min(at, latest_ms)
        stream = self._search(event.clientRequestPath)
        if not stream:
            return "no_stream"
        try:
            ipaddress.ip_address(event.clientIP)
        except ValueError:
            return "bad_client_ip"
        part = tally.ticks.setdefault((at // 1000 // self._tick + 1) * self._tick, TickTally())
        group = (
            stream[1],
            str(event.resourceID or 0),
            event.cacheStatus or "UNKNOWN",
            event.locationID or "unknown",
            str(event.responseStatus or 0),
        )
        sums = part.groups.setdefault(group, [0, 0, 0, 0])
        sums[0] += 1
        sums[1] += event.responseBytes or 0
        if event.timeToFirstByteMs:
            sums[2] += event.timeToFirstByteMs
            sums[3] += 1
        seen = part.viewers.setdefault(
            (stream[1], event.clientIP, device_type(event.clientRequestUserAgent or ""), event.clientCountry or "XX"),
            [at, at],
        )
        seen[0], seen[1] = min(seen[0], at), max(seen[1], at)
        tally.events += 1
        tally.bytes += event.responseBytes or 0
        return ""
