"""gzip bytes to a tally: typed decoding of whole pieces, line by line only where a piece has something wrong in it."""

from __future__ import annotations

import re
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import msgspec

from cdn77_exporter.core.device import device_type
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.inflate import inflate
from cdn77_exporter.core.lines import (
    Line,
    clean,
    excerpt,
    fault,
    fraction_ms,
    is_address,
    is_utf8,
    object_lines,
    second_ms,
)
from cdn77_exporter.core.scan import GROUP, VIEWER, Once, begin_scan
from cdn77_exporter.core.tally import Example, Group, Sums, Tally, TickTally, Times, ViewerSeen, add_sums, join_ticks

if TYPE_CHECKING:
    from cdn77_exporter.core._scan import Scanner

DEFAULT_STREAM_PATTERN = "/([a-f0-9]{32})/"
#: Rejects that say nothing about the file's health, and so do not count against its limit of bad lines.
HEALTHY_REJECTS = frozenset({"no_stream", "stream_not_allowed", "too_old"})

_STREAM_END = 34  # where the default pattern's match at a path's begin ends
_MEMO_ENTRIES = 50_000
_MEMO_LENGTH = 512  # longer texts are not remembered
_ENDLESS = 16  # a line that has no end within this many times MAX_LINE_BYTES makes its file unreadable
_BLANKS = 10  # blank lines are not lines, but there may be no more than this many times MAX_BAD_LINES of them
_EXAMPLES = 8  # of each reason and file
_ENTRIES_OF_LINE = 2  # a group and a viewer, at most
_LINES_UNCOUNTED = 1000  # at least, before entries are counted again

_K = TypeVar("_K")
_V = TypeVar("_V")
# stream, CDN id, cache status, POP and response status as they stand in a line
_Raw = tuple[str, int | str | None, str | None, str | None, int | str | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask for: inflated bytes, bytes of a line, malformed lines, and entries of its tally.

    Entries are what has to be remembered: each group and each viewer of a tick is one, of some 500 bytes. Lines that
    have all the fields of real ones are fewer than 200,000 in a file of the usual limits.
    """

    file_bytes: int = 256 * 1024 * 1024
    line_bytes: int = 1024 * 1024
    bad_lines: int = 100_000
    entries: int = 250_000


@dataclass(slots=True)
class _Part:
    """What one tick of the file counts so far: groups by the fields as they stand in the lines, or by their labels."""

    raw: dict[_Raw, list[int]] = field(default_factory=dict)
    groups: dict[Group, list[int]] = field(default_factory=dict)
    viewers: dict[ViewerSeen, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.raw) + len(self.groups) + len(self.viewers)

    def name_groups(self) -> None:
        """Have all groups by their labels; different texts in the lines may be the same label."""
        for (stream, cdn, cache, pop, status), sums in self.raw.items():
            group = (stream, str(cdn or 0), cache or "UNKNOWN", pop or "unknown", str(status or 0))
            add_sums(self.groups, group, sums)
        self.raw.clear()

    def take(self) -> TickTally:
        """All of it, which is no longer here then."""
        self.name_groups()
        taken = TickTally(Sums(self.groups), Times(self.viewers))
        self.groups, self.viewers = {}, {}
        return taken


# What a second of the log belongs to: its Unix milliseconds and its tick.
_Second = tuple[int, _Part]
_NOWHERE: _Second = (0, _Part())


class Decoder:
    """Decodes files one after the other; keeps bounded tables of what it has met. Not thread-safe.

    `tick_seconds`: the distance of ticks. `stream_pattern`: its first group, or the whole match, names a line's stream.
    `allow`: whether a stream is counted at all. `examples`: keep some rejected lines, without addresses.
    `accelerate`: use the compiled scan for the lines that it takes, which changes nothing but the time.
    """

    def __init__(
        self,
        *,
        tick_seconds: int = 15,
        stream_pattern: str = DEFAULT_STREAM_PATTERN,
        limits: Limits | None = None,
        examples: bool = False,
        allow: Callable[[str], bool] | None = None,
        accelerate: bool = True,
    ) -> None:
        self._tick = tick_seconds
        pattern = re.compile(stream_pattern)
        self._search = pattern.search
        self._group = min(1, pattern.groups)
        self._by_prefix = stream_pattern == DEFAULT_STREAM_PATTERN
        self._limits = limits or Limits()
        self._examples = examples
        self._allow = allow
        self._accelerate = accelerate and self._by_prefix
        self._scanner: Scanner | None = None
        decoder = msgspec.json.Decoder(Line)
        self._decode, self._decode_lines = decoder.decode, decoder.decode_lines
        self._streams: dict[str, str] = {}
        self._devices: dict[str | None, str] = {}
        self._fractions: dict[str, int] = {}
        self._labels: dict[str, str] = {}
        self._addresses: set[str] = set()

    def decode(self, body: bytes | Iterable[bytes], *, latest_ms: int, oldest_ms: int) -> Tally:
        """Count a file's compressed bytes. Raises Unreadable, and nothing else.

        Events later than `latest_ms` are counted there, those before `oldest_ms` are rejects (both Unix milliseconds).
        """
        began = time.thread_time()
        self._tally = Tally()
        self._latest_ms, self._oldest_ms = latest_ms, oldest_ms
        self._seconds: dict[str, _Second] = {}
        self._ticks: dict[int, _Part] = {}
        self._number = 0  # lines of the file so far, blank ones too
        self._blank = self._bad = 0
        self._lines_to_count = 0
        self._scanner = self._begin_scan() if self._accelerate else None
        try:
            self._read(inflate(body, self._limits.file_bytes))
        finally:
            scanner, self._scanner = self._scanner, None
        tally, self._tally = self._tally, Tally()
        self._close(tally, self._scanned(scanner) if scanner else {})
        if sum(map(len, tally.ticks.values())) > self._limits.entries:
            raise Unreadable("too_many_distinct")
        tally.seconds = time.thread_time() - began
        return tally

    # Pieces

    def _read(self, pieces: Iterable[bytes]) -> None:
        """Count the lines of each piece where they are; what is left over begins the next piece's first line."""
        carry, skipped = b"", 0
        most = self._limits.line_bytes
        for piece in pieces:
            begin = 0
            if carry or skipped:
                begin = piece.find(b"\n") + 1
                if skipped and not begin:
                    skipped += len(piece)
                    if skipped > _ENDLESS * most:
                        raise Unreadable("line_too_long")
                    continue
                if skipped:
                    self._skip()
                elif begin:
                    self._piece(carry + piece[:begin], 0)
                skipped = 0
            end = piece.rfind(b"\n") + 1
            if end > begin:
                self._piece(piece[:end], begin)
            carry = piece[end:] if begin or not carry else carry + piece
            if len(carry) > most:
                carry, skipped = b"", len(carry)
        if skipped:
            raise Unreadable("line_too_long")
        if carry:
            self._piece(carry + b"\n", 0)

    def _skip(self) -> None:
        self._number += 1
        self._tally.lines += 1
        self._reject("line_too_long", self._number, b"")

    def _piece(self, data: bytes, begin: int) -> None:
        """Count the whole lines from `begin` on; what the scan leaves, or all."""
        if not self._scanner:
            self._typed(data, begin)
        else:
            for taken, left, end in self._scanner.take(data, begin):
                self._number += taken
                self._tally.lines += taken
                if left < end:
                    self._typed(data[left:end], 0)
        if self._tally.lines > self._lines_to_count:
            self._count_entries()

    def _count_entries(self) -> None:
        """Give the file up when it has too many entries; until it can have them they need not be counted again.

        Those that the scan holds are added at the end: it has a bound of its own.
        """
        most = self._limits.entries
        entries = sum(map(len, self._ticks.values()))
        if entries > most:  # fewer, perhaps, by their labels
            for part in self._ticks.values():
                part.name_groups()
            entries = sum(map(len, self._ticks.values()))
            if entries > most:
                raise Unreadable("too_many_distinct")
        self._lines_to_count = self._tally.lines + max(_LINES_UNCOUNTED, (most - entries) // _ENTRIES_OF_LINE)

    def _typed(self, data: bytes, begin: int) -> None:
        """Count the whole lines from `begin` on; all at once if each is one object, one by one if not."""
        lines = object_lines(data, begin, len(data))
        if lines and is_utf8(data) and not _has_longer(data, self._limits.line_bytes):
            try:
                rows = self._decode_lines(memoryview(data)[begin:])
            except (msgspec.MsgspecError, ValueError, RecursionError):
                rows = []
            if len(rows) == lines:
                self._tally.lines += lines
                self._count(rows, data, begin)
                self._number += lines
                return
        self._lines_one_by_one(data[begin:])

    def _lines_one_by_one(self, data: bytes) -> None:
        most = self._limits.line_bytes
        for line in data[:-1].split(b"\n"):
            self._number += 1
            if not line or line.isspace():
                self._blank += 1
                if self._blank > _BLANKS * self._limits.bad_lines:
                    raise Unreadable("too_many_bad_lines")
                continue
            self._tally.lines += 1
            if len(line) > most:
                self._reject("line_too_long", self._number, line)
                continue
            try:
                row = self._decode(line)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                row = None
            if row is None or not is_utf8(line):
                self._reject(fault(line), self._number, line)
            else:
                self._number -= 1
                self._count([row], line, 0)
                self._number += 1

    # Lines

    def _count(self, rows: list[Line], data: bytes, begin: int) -> None:
        """Count decoded lines; `data` is what they were decoded from, from `begin` on.

        The hot loop: every table is a local name, and what a table does not know is looked up elsewhere.
        """
        streams, seconds, fractions = self._streams.get, self._seconds.get, self._fractions.get
        devices = self._devices.get
        known_labels, known_addresses = self._labels, self._addresses
        for row in rows:
            at = row.timestamp
            stream = streams(row.clientRequestPath[:_STREAM_END])
            second = seconds(at[:19])
            fraction = fractions(at[19:])
            if stream is None or second is None or fraction is None:
                reason, stream, second, fraction = self._look(row)
                if reason:
                    self._reject_row(reason, row, rows, data[begin:])
                    continue
            base, part = second
            agent = row.clientRequestUserAgent
            viewer = (stream, row.clientIP, devices(agent) or self._device(agent), row.clientCountry or "XX")
            milliseconds = base + fraction
            viewers = part.viewers
            seen = viewers.get(viewer)
            if seen is None:
                if viewer[1] in known_addresses and viewer[3] in known_labels:
                    viewers[viewer] = [milliseconds, milliseconds]
                elif not self._see(viewers, viewer, milliseconds):
                    self._reject_row("bad_client_ip", row, rows, data[begin:])
                    continue
            elif milliseconds > seen[1]:
                seen[1] = milliseconds
            elif milliseconds < seen[0]:
                seen[0] = milliseconds
            group = (stream, row.resourceID, row.cacheStatus, row.locationID, row.responseStatus)
            sums = part.raw.get(group)
            if sums is None:
                sums = self._sums(part.raw, group)
            sums[0] += 1
            sums[1] += row.responseBytes or 0
            wait = row.timeToFirstByteMs
            if wait:
                sums[2] += wait
                sums[3] += 1

    def _look(self, row: Line) -> tuple[str, str, _Second, int]:
        """A line's stream and time where the tables do not have them; the reason first, if it is no event."""
        fraction = self._fraction(row.timestamp[19:])
        begin = second_ms(row.timestamp[:19]) if fraction is not None else None
        if fraction is None or begin is None:
            return "bad_timestamp", "", _NOWHERE, 0
        stream = self._stream(row.clientRequestPath)
        if not stream:
            return "no_stream", "", _NOWHERE, 0
        if self._allow is not None and not self._allow(stream):
            return "stream_not_allowed", "", _NOWHERE, 0
        at = begin + fraction
        if at < self._oldest_ms:
            return "too_old", "", _NOWHERE, 0
        if self._by_prefix and row.clientRequestPath[1 : _STREAM_END - 1] == stream:
            _remember(self._streams, row.clientRequestPath[:_STREAM_END], stream)
            if self._scanner:
                self._scanner.admit(stream)
        if self._oldest_ms <= begin and begin + 999 <= self._latest_ms:
            second = (begin, self._part(begin))
            _remember(self._seconds, row.timestamp[:19], second)
            return "", stream, second, fraction
        at = min(at, self._latest_ms)
        return "", stream, (at, self._part(at)), 0

    def _fraction(self, text: str) -> int | None:
        """The milliseconds of what follows a timestamp's seconds; None when that is not how UTC is written."""
        known = self._fractions.get(text)
        if known is None:
            known = fraction_ms(text)
            if known is not None:
                _remember(self._fractions, text, known)
        return known

    def _stream(self, path: str) -> str:
        found = self._search(path)
        return clean(found[self._group] or "") if found else ""

    def _device(self, agent: str | None) -> str:
        device = device_type(agent or "")
        if agent is None or len(agent) <= _MEMO_LENGTH:
            _remember(self._devices, agent, device)
        return device

    def _part(self, at_ms: int) -> _Part:
        tick = (at_ms // 1000 // self._tick + 1) * self._tick
        part = self._ticks.get(tick)
        if part is None:
            part = self._ticks[tick] = _Part()
        return part

    def _see(self, viewers: dict[ViewerSeen, list[int]], viewer: ViewerSeen, at_ms: int) -> bool:
        """Count a viewer whose address or country is not known yet; false when the IP is none."""
        stream, ip, device, country = viewer
        if ip not in self._addresses:
            if not is_address(ip):
                return False
            if len(self._addresses) >= _MEMO_ENTRIES:
                self._addresses.clear()
            self._addresses.add(ip)
        seen = viewers.setdefault((stream, ip, device, self._label(country)), [at_ms, at_ms])
        seen[0] = min(seen[0], at_ms)
        seen[1] = max(seen[1], at_ms)
        return True

    def _sums(self, raw: dict[_Raw, list[int]], group: _Raw) -> list[int]:
        """The sums of a group that the tick does not have as it stands in the line; its labels are cleaned first."""
        stream, cdn, cache, pop, status = group
        cleaned = (stream, cdn, self._label(cache or "UNKNOWN"), self._label(pop or "unknown"), status)
        return raw.setdefault(cleaned, [0, 0, 0, 0])

    def _label(self, text: str) -> str:
        """The text as a label value, one string object for all that are equal."""
        known = self._labels.get(text)
        if known is None:
            known = clean(text)
            known = self._labels.get(known, known)
            _remember(self._labels, known, known)
        return known

    # Rejects

    def _reject_row(self, reason: str, row: Line, rows: list[Line], data: bytes) -> None:
        if not self._wants_example(reason):
            self._reject(reason, 0, b"")
            return
        place = next(place for place, other in enumerate(rows) if other is row)
        self._reject(reason, self._number + place + 1, data.split(b"\n")[place])

    def _reject(self, reason: str, number: int, line: bytes) -> None:
        rejects = self._tally.rejects
        if self._wants_example(reason):
            self._tally.examples.append(Example(number, reason, excerpt(line, reason)))
        rejects[reason] = rejects.get(reason, 0) + 1
        if reason not in HEALTHY_REJECTS:
            self._bad += 1
            if self._bad > self._limits.bad_lines:
                raise Unreadable("too_many_bad_lines")

    def _wants_example(self, reason: str) -> bool:
        return self._examples and self._tally.rejects.get(reason, 0) < _EXAMPLES

    # The compiled scan

    def _begin_scan(self) -> Scanner | None:
        return begin_scan(
            tick_seconds=self._tick,
            line_bytes=self._limits.line_bytes,
            oldest_ms=self._oldest_ms,
            latest_ms=self._latest_ms,
            streams=self._streams.values() if self._allow else None,
        )

    def _scanned(self, scanner: Scanner) -> dict[int, TickTally]:
        """What the scan has taken: its texts are as they stand in the lines, its streams and addresses right."""
        texts, groups, viewers = scanner.close()
        streams, numbers = Once[int, str](lambda text: self._name(texts[text])), Once[int, str](str)
        devices = Once[int, str](lambda text: self._devices.get(texts[text]) or self._device(texts[text]))
        caches = Once[int, str](lambda text: self._label(texts[text] or "UNKNOWN"))
        pops = Once[int, str](lambda text: self._label(texts[text] or "unknown"))
        countries = Once[int, str](lambda text: self._label(texts[text] or "XX"))
        sums: Once[int, tuple[list[Group], array[int]]] = Once(lambda _: ([], array("q")))
        for tick, stream, cdn, cache, pop, status, *amounts in GROUP.iter_unpack(groups):
            of_groups, added = sums[tick]
            of_groups.append((streams[stream], numbers[cdn], caches[cache], pops[pop], numbers[status]))
            added.extend(amounts)
        times: Once[int, tuple[list[ViewerSeen], array[int]]] = Once(lambda _: ([], array("q")))
        for tick, stream, ip, agent, country, first, last in VIEWER.iter_unpack(viewers):
            of_viewers, spans = times[tick]
            of_viewers.append((streams[stream], texts[ip], devices[agent], countries[country]))
            spans.append(first)
            spans.append(last)
        return {tick: TickTally(Sums.of(*sums[tick]), Times.of(*times[tick])) for tick in sums}

    def _name(self, stream: str) -> str:
        """The stream's name, one string object for all lines of a path."""
        known = self._streams.get(f"/{stream}/")
        if known is None:
            known = stream
            _remember(self._streams, f"/{stream}/", stream)
        return known

    def _close(self, tally: Tally, scanned: dict[int, TickTally]) -> None:
        """Sum up what the ticks hold, and the scan."""
        own = {tick: part.take() for tick, part in self._ticks.items() if part}
        self._ticks, self._seconds = {}, {}
        tally.ticks = join_ticks((own, scanned))
        for part in tally.ticks.values():
            tally.events += part.requests
            tally.bytes += sum(part.groups.column(1))
        if tally.ticks:
            tally.oldest_ms = min(tally.ticks[min(tally.ticks)].viewers.column(0))
            tally.newest_ms = max(tally.ticks[max(tally.ticks)].viewers.column(1))


def _remember(table: dict[_K, _V], key: _K, value: _V) -> None:
    if len(table) >= _MEMO_ENTRIES:
        table.clear()
    table[key] = value


def _has_longer(data: bytes, most: int) -> bool:
    return len(data) > most and any(len(line) > most for line in data.split(b"\n"))
