"""gzip bytes to counts: typed decoding of whole pieces, line by line only where a piece has something wrong in it."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cdn77_exporter.core.columns import MOST_SUM, Amounts, Counts, join
from cdn77_exporter.core.content import Content
from cdn77_exporter.core.decoded import Decoded, Example, Failure, FileStats
from cdn77_exporter.core.device import OTHER_DEVICE, DeviceRules, built_in
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.formats import Format
from cdn77_exporter.core.formats.ndjson import MARK, Ndjson
from cdn77_exporter.core.inflate import Measured, inflate
from cdn77_exporter.core.judging import HEALTHY_REJECTS, judge
from cdn77_exporter.core.label_texts import LabelTexts
from cdn77_exporter.core.layout import ADDRESS, Layout
from cdn77_exporter.core.lines import NOTHING, clean, fraction_ms, instant_ms, packed_address, second_ms
from cdn77_exporter.core.measures import MEASURES, Add, Column, Measures
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN, DEFAULT_TRACK_PATTERN, PathPattern
from cdn77_exporter.core.raw_labels import RawLabels
from cdn77_exporter.core.row_sums import Part, RowSums
from cdn77_exporter.core.scan.scanned import begin_scan, end_scan
from cdn77_exporter.core.unknown_agents import UnknownAgents

if TYPE_CHECKING:
    from cdn77_exporter.core.scan._scan import Scanner

_STREAM_END = 34  # where the default pattern's match at a path's begin ends
_MEMO_ENTRIES = 50_000
_MEMO_LENGTH = 64  # longer texts are not remembered
_ENDLESS = 16  # a line that has no end within this many times MAX_LINE_BYTES makes its file unreadable
_BLANKS = 10  # blank lines are not lines, but there may be no more than this many times MAX_BAD_LINES of them
_EXAMPLES = 8  # of each reason and file
_MOST_AGENTS = 10_000  # User-Agents of a file that are told apart, of those that no device rule knows
_MORE_AGENTS = "(others)"
_LINES_UNCOUNTED = 1000  # at least, before entries are counted again
_BYTES = Column(Add.VALUE, "responseBytes")

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one file: inflated bytes, bytes of a line, malformed lines, and entries of its counts.

    Entries are what has to be remembered: each group and each viewer of a tick is one, of some 100 bytes in the
    compiled scan and some 500 without it. The limit is of each kind, groups by the same labels and viewers by the same,
    and a line makes at most one of a kind; a file of the usual limits has fewer than 220,000 lines that have all the
    fields of real ones.
    """

    file_bytes: int = 256 * 1024 * 1024
    line_bytes: int = 1024 * 1024
    bad_lines: int = 100_000
    entries: int = 250_000


# What a second of the log belongs to: its Unix milliseconds and its tick.
_Second = tuple[int, Part]
_NOWHERE: _Second = (0, Part((), ()))


class Decoder:
    """Decodes files one after the other; keeps bounded tables of what it has met. Not thread-safe.

    `measures`: what is counted; ValueError if lines do not tell it. `tick_seconds`: the distance of ticks.
    `stream_pattern`: its first group, or the whole match, names a line's stream, and `track_pattern`'s its track.
    `allow`: whether a stream is counted at all. `ipv6_prefix`: IPv6 addresses that have so many first bits in common
    are one viewer. `devices`: tell the device types of User-Agents, None for the built-in rules. `examples`: keep some
    rejected lines, without addresses. `content`: measure the content by which a file is known again. `accelerate`: use
    the compiled scan for the lines that it takes, which changes nothing but the time.
    """

    def __init__(
        self,
        measures: Measures = MEASURES,
        *,
        tick_seconds: int = 15,
        stream_pattern: str = DEFAULT_STREAM_PATTERN,
        track_pattern: str = DEFAULT_TRACK_PATTERN,
        limits: Limits | None = None,
        examples: bool = False,
        allow: Callable[[str], bool] | None = None,
        ipv6_prefix: int = 128,
        devices: DeviceRules | None = None,
        content: bool = True,
        accelerate: bool = True,
    ) -> None:
        self._layout = Layout(measures)
        self._format: Format = Ndjson(self._layout)
        self._tick = tick_seconds
        pattern = re.compile(stream_pattern)
        self._search = pattern.search
        self._group = min(1, pattern.groups)
        self._by_prefix = stream_pattern == DEFAULT_STREAM_PATTERN
        self._limits = limits or Limits()
        self._examples = examples
        self._allow = allow
        self._ipv6_prefix = ipv6_prefix
        self._content = content
        self._scan_patterns = self._patterns(stream_pattern, track_pattern) if accelerate else None
        self._scanner: Scanner | None = None
        self._devices = devices or built_in()
        self._values = {label: LabelTexts(label, self._devices) for label in self._layout.labels}
        self._agents = self._values[self._layout.device] if self._layout.device else None
        self._raw_labels = RawLabels(track_pattern)
        self._streams: dict[str, str] = {}
        self._fractions: dict[str, int] = {}
        self._addresses: dict[str, bytes] = {}

    def _patterns(self, stream: str, track: str) -> tuple[PathPattern, PathPattern | None] | None:
        """Return the patterns as the scan can find them; None if one that is needed is too unusual for it."""
        of_stream, of_track = PathPattern.of(stream), PathPattern.of(track)
        if of_stream is None or (of_track is None and self._layout.has_tracks):
            return None
        return of_stream, of_track

    def decode(
        self, body: bytes | Iterable[bytes], *, latest_ms: int, oldest_ms: int, counted: Content | None = None
    ) -> tuple[FileStats, Counts]:
        """Count a file's compressed bytes. Raises Unreadable, and nothing else.

        Events later than `latest_ms` are counted there, those before `oldest_ms` are rejects (both Unix milliseconds).
        What was `counted` of the file before is not counted again.
        """
        began = time.thread_time()
        self._stats = FileStats()
        self._latest_ms, self._oldest_ms = latest_ms, oldest_ms
        self._folded = Counts()
        self._number = 0  # lines of the file so far, blank ones too
        self._blank = self._bad = 0
        self._lines_to_count = 0
        self._unknown: Counter[str] = Counter()  # events by User-Agent
        self._begin()
        try:
            pieces = inflate(body, self._limits.file_bytes)
            measured = Measured(pieces, counted) if self._content else None
            self._read(measured or pieces)
            counts = self._counts()
        finally:
            self._scanner = None
            del self._rows, self._seconds, self._folded
        if counts.entries > self._limits.entries:
            raise Unreadable("too_many_distinct")
        self._sum_up(counts)
        stats, self._stats = self._stats, FileStats()
        if measured:
            stats.content = measured.content
        stats.seconds = time.thread_time() - began
        return stats, counts

    def decode_all(
        self,
        bodies: Iterable[bytes | Failure],
        latest_ms: Sequence[int],
        oldest_ms: int,
        counted: Sequence[Content | None] = (),
    ) -> Decoded:
        """Decode files one after the other into one whole; a failure in the place of a body stays in its place.

        `latest_ms` is each file's latest event time, `oldest_ms` that of all, and `counted` what was counted of each
        before, as in `decode`. What is no log file is a failure too.
        """
        files: list[FileStats | Failure] = []
        counts: list[Counts] = []
        before = counted or [None] * len(latest_ms)
        for body, latest, content in zip(bodies, latest_ms, before, strict=True):
            if isinstance(body, Failure):
                files.append(body)
                continue
            try:
                stats, of_file = self.decode(body, latest_ms=latest, oldest_ms=oldest_ms, counted=content)
                judge(stats)
            except Unreadable as error:
                files.append(Failure.of(error))
            else:
                files.append(stats)
                counts.append(of_file)
        return Decoded(files, join(counts))

    # Pieces

    def _read(self, pieces: Iterable[bytes]) -> None:
        """Count the lines of each piece where they are; what is left over begins the next piece's first line."""
        carry, skipped, shown = b"", 0, ""
        most = self._limits.line_bytes
        for piece in pieces:
            begin = 0
            if carry or skipped:
                begin = piece.find(b"\n") + 1
                if skipped and not begin:
                    skipped += len(piece)
                    if skipped > _ENDLESS * most:
                        raise Unreadable("line_too_long", shown)
                    continue
                if skipped:
                    self._skip()
                elif begin:
                    self._whole(carry + piece[:begin])
                skipped = 0
            end = piece.rfind(b"\n") + 1
            if end > begin:
                self._piece(piece, begin, end)
            carry = piece[end:] if begin or not carry else carry + piece
            if len(carry) > most:
                carry, skipped, shown = b"", len(carry), self._format.excerpt(carry)
        if skipped:
            raise Unreadable("line_too_long", shown)
        if carry:
            self._whole(carry + b"\n")

    def _skip(self) -> None:
        self._number += 1
        self._stats.lines += 1
        self._reject("line_too_long", self._number, b"")

    def _whole(self, line: bytes) -> None:
        """Count a line that lay in several pieces."""
        self._piece(line, 0, len(line))

    def _piece(self, data: bytes, begin: int, end: int) -> None:
        """Count the whole lines from `begin` to `end`; what the scan leaves, or all."""
        if not self._scanner:
            self._lines(data[begin:end])
        else:
            for taken, left, behind in self._scanner.take(data, begin, end):
                self._number += taken
                self._stats.lines += taken
                if left < behind:
                    self._lines(data[left:behind])
        if self._stats.lines > self._lines_to_count:
            self._count_entries()

    def _count_entries(self) -> None:
        """Give the file up when it has too many entries; until it can have them they need not be counted again.

        What the scan holds apart may be the same by its labels, so it is joined when it has become much.
        """
        most = self._limits.entries
        entries = len(self._rows) + (self._scanner.rows() if self._scanner else 0)
        if entries > most:
            self._fold()
            entries = 0
        self._lines_to_count = self._stats.lines + max(_LINES_UNCOUNTED, most - entries)

    def _fold(self) -> None:
        """Join what was counted so far, and go on with empty tables."""
        self._folded = self._counts()
        if self._folded.entries > self._limits.entries:
            raise Unreadable("too_many_distinct")
        self._begin()

    def _lines(self, data: bytes) -> None:
        """Count whole lines: all at once if nothing is wrong in them, one by one if something is."""
        rows = None if _has_longer(data, self._limits.line_bytes) else self._format.rows(data)
        if rows is None:
            self._lines_one_by_one(data)
        else:
            self._stats.lines += len(rows)
            self._count(rows, data)
            self._number += len(rows)

    def _lines_one_by_one(self, data: bytes) -> None:
        most = self._limits.line_bytes
        for line in data[:-1].split(b"\n"):
            self._number += 1
            if not line or line.isspace() or line == MARK:
                self._blank += 1
                if self._blank > _BLANKS * self._limits.bad_lines:
                    raise Unreadable("too_many_bad_lines")
                continue
            self._stats.lines += 1
            found = self._format.row(line) if len(line) <= most else "line_too_long"
            if isinstance(found, str):
                self._reject(found, self._number, line)
                continue
            self._number -= 1
            if self._count([found.row], line):
                for name in found.ignored:
                    self._ignore(name)
            self._number += 1

    # Lines

    def _count(self, rows: list[Any], data: bytes) -> int:
        """Count the rows of lines, which are `data`; return how many are events.

        The hot loop: every table is a local name, and what a table does not know is looked up elsewhere.
        """
        streams, seconds, fractions = self._streams.get, self._seconds.get, self._fractions.get
        addresses = self._addresses.get
        note_agent = self._note_agent_of
        events = len(rows)
        for row in rows:
            at = row.timestamp
            stream = streams(row.clientRequestPath[:_STREAM_END])
            second = seconds(at[:19])
            fraction = fractions(at[19:])
            if stream is None or second is None or fraction is None:
                reason, stream, second, fraction = self._look(row)
                if reason:
                    self._reject_row(reason, row, rows, data)
                    events -= 1
                    continue
            base, part = second
            milliseconds = base + fraction
            address = addresses(row.clientIP) or self._address(row.clientIP)
            if address is None:
                self._saw(milliseconds, milliseconds)
            else:
                self._see(part, row, stream, address, milliseconds)
            for cube, labels_of, required, amounts_of, adds, others, known in part.cubes:
                raws = labels_of(row)
                if required and not all(raws[place] for place in required):
                    continue
                sums = known((stream, raws)) or self._rows.sums(part, cube, stream, raws)
                sums[0] += 1
                amounts = amounts_of(row)
                for column, place, only_one in adds:
                    amount = amounts[place]
                    if amount:
                        sums[column] += 1 if only_one else amount
                for column, amount_of in others:
                    sums[column] += amount_of(row)
            note_agent(row)
        return events

    def _see(self, part: Part, row: Any, stream: str, address: bytes, milliseconds: int) -> None:
        """Note when a viewer was seen."""
        for audience, labels_of, required, known_profile, seen in part.audiences:
            raws = labels_of(row)
            if required and not all(raws[place] for place in required):
                continue
            profile = known_profile((stream, raws))
            if profile is None:
                profile = self._rows.profile(audience, stream, raws)
            span = seen.get((address, profile))
            if span is None:
                seen[address, profile] = [milliseconds, milliseconds]
            elif milliseconds > span[1]:
                span[1] = milliseconds
            elif milliseconds < span[0]:
                span[0] = milliseconds

    def _note_agent_of(self, row: Any) -> None:
        if self._agents is not None:
            self._note_agent(row.clientRequestUserAgent or "", 1)

    def _note_agent(self, agent: str, events: int) -> None:
        """Count a User-Agent if its device type is `other`, and no rule gives it that name."""
        if self._agents is None or self._agents[agent] != OTHER_DEVICE:
            return
        if self._devices.names_other and self._devices.knows(agent):
            return
        self._unknown[agent if agent in self._unknown or len(self._unknown) < _MOST_AGENTS else _MORE_AGENTS] += events

    def _saw(self, oldest_ms: int, newest_ms: int) -> None:
        """Note when events happened whose viewers are not known: nothing else tells it."""
        stats = self._stats
        stats.oldest_ms = min(stats.oldest_ms or oldest_ms, oldest_ms)
        stats.newest_ms = max(stats.newest_ms, newest_ms)

    def _ignore(self, name: str, times: int = 1) -> None:
        self._stats.ignored[name] = self._stats.ignored.get(name, 0) + times

    def _look(self, row: Any) -> tuple[str, str, _Second, int]:
        """Find a line's stream and time where the tables lack them; the reason first, if it is no event."""
        fraction = self._fraction(row.timestamp[19:])
        begin = second_ms(row.timestamp[:19]) if fraction is not None else None
        in_utc = fraction is not None and begin is not None
        if not in_utc:
            begin, fraction = instant_ms(row.timestamp), 0
        if begin is None or fraction is None:
            return "bad_timestamp", "", _NOWHERE, 0
        raw = self._stream(row.clientRequestPath)
        stream = clean(raw)
        if not stream:
            return "no_stream", "", _NOWHERE, 0
        allowed = self._allow is None or self._allow(stream)
        if self._scanner and self._allow is not None:
            self._scanner.admit(raw, allowed)
        if not allowed:
            return "stream_not_allowed", "", _NOWHERE, 0
        at = begin + fraction
        if at < self._oldest_ms:
            return "too_old", "", _NOWHERE, 0
        if self._by_prefix and row.clientRequestPath[1 : _STREAM_END - 1] == stream:
            _remember(self._streams, row.clientRequestPath[:_STREAM_END], stream)
        if in_utc and self._oldest_ms <= begin and begin + 999 <= self._latest_ms:
            second = (begin, self._part(begin))
            _remember(self._seconds, row.timestamp[:19], second)
            return "", stream, second, fraction
        at = min(at, self._latest_ms)
        return "", stream, (at, self._part(at)), 0

    def _fraction(self, text: str) -> int | None:
        """Return the milliseconds of what follows a timestamp's seconds; None when that is not how UTC is written."""
        known = self._fractions.get(text)
        if known is None:
            known = fraction_ms(text)
            if known is not None and len(text) <= _MEMO_LENGTH:
                _remember(self._fractions, text, known)
        return known

    def _stream(self, path: str) -> str:
        found = self._search(path)
        return (found[self._group] or "") if found else ""

    def _address(self, text: str | None) -> bytes | None:
        """Read an address that is not known yet; None for what is none."""
        if text is None or text in NOTHING:
            return None
        address = packed_address(text, self._ipv6_prefix)
        if address is None:
            self._ignore(ADDRESS)
        elif len(text) <= _MEMO_LENGTH:
            _remember(self._addresses, text, address)
        return address

    def _part(self, at_ms: int) -> Part:
        return self._rows.part((at_ms // 1000 // self._tick + 1) * self._tick)

    # Rejects

    def _reject_row(self, reason: str, row: Any, rows: list[Any], data: bytes) -> None:
        if not self._wants_example(reason):
            self._reject(reason, 0, b"")
            return
        place = next(place for place, other in enumerate(rows) if other is row)
        self._reject(reason, self._number + place + 1, data.split(b"\n")[place])

    def _reject(self, reason: str, number: int, line: bytes) -> None:
        rejects = self._stats.rejects
        if self._wants_example(reason):
            self._stats.examples.append(Example(number, reason, self._format.excerpt(line, reason)))
        rejects[reason] = rejects.get(reason, 0) + 1
        if reason not in HEALTHY_REJECTS:
            self._bad += 1
            if self._bad > self._limits.bad_lines:
                raise Unreadable("too_many_bad_lines", self._format.excerpt(line, reason))

    def _wants_example(self, reason: str) -> bool:
        return self._examples and self._stats.rejects.get(reason, 0) < _EXAMPLES

    # The whole

    def _begin(self) -> None:
        """Begin with empty tables of the file."""
        self._seconds: dict[str, _Second] = {}
        self._rows = RowSums(self._layout, self._values, self._raw_labels)
        self._scanner = self._begin_scan(*self._scan_patterns) if self._scan_patterns else None

    def _begin_scan(self, stream: PathPattern, track: PathPattern | None) -> Scanner | None:
        scanner = begin_scan(
            self._layout,
            stream,
            track,
            tick_seconds=self._tick,
            line_bytes=self._limits.line_bytes,
            oldest_ms=self._oldest_ms,
            latest_ms=self._latest_ms,
            rows=self._limits.entries,
            admitted_only=self._allow is not None,
            examples=_EXAMPLES if self._examples else 0,
            ipv6_prefix=self._ipv6_prefix,
        )
        if scanner and self._allow is not None:
            for admitted in self._streams.values():
                scanner.admit(admitted, True)
        return scanner

    def _counts(self) -> Counts:
        """Return what the rows count, and the scan, and what was folded before."""
        parts = [self._folded]
        if self._scanner:
            scanned = end_scan(self._scanner, self._layout, self._values)
            parts.append(scanned.counts)
            for reason, lines in scanned.rejects.items():
                self._stats.rejects[reason] = self._stats.rejects.get(reason, 0) + lines
            for name, times in scanned.ignored.items():
                self._ignore(name, times)
            for agent, events in scanned.agents.items():
                self._note_agent(agent, events)
            if scanned.newest_ms:
                self._saw(scanned.oldest_ms, scanned.newest_ms)
        if len(self._rows) or not self._scanner:
            parts.append(self._rows.counts())
        return join(parts)

    def _sum_up(self, counts: Counts) -> None:
        """Say of a file what its counts say."""
        stats = self._stats
        groups, columns = counts.groups[0], self._layout.cubes[0].columns
        by_tick = groups.by(ticks=True)
        stats.requests = dict(zip(by_tick.ticks.tolist(), by_tick.sums[:, 0].tolist(), strict=True))
        stats.events = sum(stats.requests.values())
        stats.unknown_agents = UnknownAgents.counted(self._unknown, stats.events)
        if _BYTES in columns:
            stats.bytes = _total(groups.sums[:, columns.index(_BYTES)])
        if len(counts.viewers):
            self._saw(int(counts.viewers.first.min()), int(counts.viewers.last.max()))


def _total(amounts: Amounts) -> int:
    """Return the sum, of any size."""
    if int(amounts.max(initial=0)) * len(amounts) <= MOST_SUM:
        return int(amounts.sum())
    return sum(amounts.tolist())


def _remember(table: dict[_K, _V], key: _K, value: _V) -> None:
    if len(table) >= _MEMO_ENTRIES:
        table.clear()
    table[key] = value


def _has_longer(data: bytes, most: int) -> bool:
    return len(data) > most and any(len(line) > most for line in data.split(b"\n"))
