"""Sums over the files that `inspect` reads, and what was wrong with them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest

import numpy as np

from cdn77_exporter.commands.inspect.distinct import Distinct, mixed
from cdn77_exporter.commands.inspect.trial import Trial
from cdn77_exporter.core.columns import MOST_SUM, Counts, Numbers, number_rows
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.decoded import Example, FileStats
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.files import MAX_AGE_MS
from cdn77_exporter.core.judging import unfit
from cdn77_exporter.core.measures import CACHE, POP, RESPONSES, STATUS, STREAM, TRANSFER_BYTES, Measures
from cdn77_exporter.core.scan.addresses import hash_addresses
from cdn77_exporter.core.unknown_agents import UnknownAgents

#: Rejected lines that are kept to be shown, of each reason and over all files.
EXAMPLES = 5

# Viewers are told apart up to here, that memory stays bounded (some 50 MB); what is found then is a least number.
_MOST_SEEN = 1_500_000
_LOW = np.uint64(0xFFFFFFFF)
_KEY = os.urandom(32)  # which addresses would have one hash is nobody's to know
#: What it needs of the measures, beside viewers.
INSPECTED = Measures((TRANSFER_BYTES, RESPONSES))

Pieces = Callable[[], Iterator[bytes]]


def _counts() -> defaultdict[str, int]:
    return defaultdict(int)


@dataclass(slots=True)
class StreamSums:
    """The sums of one stream."""

    requests: int = 0
    bytes: int = 0
    viewers: int = 0


@dataclass(slots=True)
class Inspection:
    """Sums over the files so far; nothing in it grows with the number of lines.

    `measures`: what the files are decoded by; those that are inspected are among them. `trial`: of others.
    """

    measures: Measures = INSPECTED
    trial: Trial | None = None
    files: int = 0
    lines: int = 0
    events: int = 0
    bytes: int = 0
    ahead: int = 0  # events that are later than the current time
    saturated: int = 0  # sums of a tick, or of a stream in a file, that ended at `MOST_SUM`
    oldest_ms: int = 0  # 0 without an event
    newest_ms: int = 0
    rejects: defaultdict[str, int] = field(default_factory=_counts)
    ignored: defaultdict[str, int] = field(default_factory=_counts)  # malformed values of events, by field
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # path and reason
    streams: defaultdict[str, StreamSums] = field(default_factory=lambda: defaultdict(StreamSums))
    statuses: defaultdict[str, int] = field(default_factory=_counts)  # requests, as in the next two
    caches: defaultdict[str, int] = field(default_factory=_counts)
    pops: defaultdict[str, int] = field(default_factory=_counts)
    viewers: int = 0
    devices: defaultdict[str, int] = field(default_factory=_counts)  # viewers, as in the next
    countries: defaultdict[str, int] = field(default_factory=_counts)
    unknown_agents: UnknownAgents = field(default_factory=UnknownAgents)
    examples: dict[str, list[tuple[str, Example]]] = field(default_factory=dict)  # by reason, with the file's path
    # Hashes of viewers, with those of the device and the country that they came with first; and of viewers with others.
    _seen: Distinct = field(default_factory=lambda: Distinct(_MOST_SEEN))
    _others: Distinct = field(default_factory=lambda: Distinct(_MOST_SEEN))

    @property
    def viewers_complete(self) -> bool:
        """True if all viewers have been told apart; if not, their numbers are lower bounds."""
        return not (self._seen.is_full or self._others.is_full)

    def top_streams(self, count: int) -> list[tuple[str, StreamSums]]:
        """Return the `count` streams with most requests, the largest first."""
        return nlargest(count, self.streams.items(), key=lambda entry: (entry[1].requests, entry[0]))

    def add(self, path: str, stats: FileStats, counts: Counts, ahead_tick: int) -> None:
        """Add one file; what is counted at `ahead_tick` was later than the current time."""
        self.lines += stats.lines
        self.events += stats.events
        self.bytes += stats.bytes
        self.ahead += stats.requests.get(ahead_tick, 0)
        if stats.events:
            self.oldest_ms = min(self.oldest_ms or stats.oldest_ms, stats.oldest_ms)
            self.newest_ms = max(self.newest_ms, stats.newest_ms)
        for reason, count in stats.rejects.items():
            self.rejects[reason] += count
        for name, count in stats.ignored.items():
            self.ignored[name] += count
        self.unknown_agents.add(stats.unknown_agents)
        self.add_examples(path, stats)
        self._add_groups(counts)
        self._add_viewers(counts)
        if self.trial is not None:
            self.trial.add(counts)

    def add_examples(self, path: str, stats: FileStats) -> None:
        """Keep some of a file's rejected lines to be shown."""
        for example in stats.examples:
            of_reason = self.examples.setdefault(example.reason, [])
            if len(of_reason) < EXAMPLES:
                of_reason.append((path, example))

    def _add_groups(self, counts: Counts) -> None:
        number, cube = self.measures.cube_of(RESPONSES)
        number_of_bytes, cube_of_bytes = self.measures.cube_of(TRANSFER_BYTES)
        groups, texts = counts.groups[number], counts.texts
        for label, totals in ((STATUS, self.statuses), (CACHE, self.caches), (POP, self.pops)):
            of_label = groups.by(cube.labels.index(label))
            for number, requests in zip(of_label.labels[:, 0].tolist(), of_label.sums[:, 0].tolist(), strict=True):
                totals[texts[number]] += requests
        of_streams = counts.groups[number_of_bytes].by(cube_of_bytes.labels.index(STREAM))
        (place,) = cube_of_bytes.places(TRANSFER_BYTES)
        ended = sum(int(np.count_nonzero(group.sums == MOST_SUM)) for group in counts.groups)
        self.saturated += max(ended, int(np.count_nonzero(of_streams.sums == MOST_SUM)))
        for stream, sums in zip(of_streams.labels[:, 0].tolist(), of_streams.sums.tolist(), strict=True):
            own = self.streams[texts[stream]]
            own.requests += sums[0]
            own.bytes += sums[place]

    def _add_viewers(self, counts: Counts) -> None:
        hashes = np.array([hash(text) for text in counts.texts], np.int64).view(np.uint64)
        once, _ = number_rows([counts.viewers.addresses, counts.viewers.profiles])
        stream, device, country = counts.viewers.labels[counts.viewers.profiles[once]].T
        viewers = mixed(hash_addresses(counts.addresses, _KEY)[counts.viewers.addresses[once]], hashes[stream])
        own = hashes[device] & ~_LOW | hashes[country] & _LOW
        new, first = self._seen.add(viewers, own)
        self.viewers += len(new)
        for name, count in _by_text(counts.texts, stream[new]):
            self.streams[name].viewers += count
        for numbers, half, totals in ((device, ~_LOW, self.devices), (country, _LOW, self.countries)):
            others = np.flatnonzero((own ^ first) & half)
            pairs = mixed(viewers[others], own[others] & half)
            places, _ = self._others.add(pairs, pairs)
            for name, count in _by_text(counts.texts, numbers[np.append(new, others[places])]):
                totals[name] += count


def _by_text(texts: list[str], numbers: Numbers) -> Iterator[tuple[str, int]]:
    """Yield each text that is among the numbers, and how often it is."""
    for number, count in enumerate(np.bincount(numbers).tolist()):
        if count:
            yield texts[number], count


def largest(counts: dict[str, int], count: int) -> dict[str, int]:
    """Return the `count` largest entries, the largest first."""
    return dict(nlargest(count, counts.items(), key=lambda entry: (entry[1], entry[0])))


def decode_file(decoder: Decoder, pieces: Pieces, now_ms: int, tick_ms: int) -> tuple[FileStats, Counts, int]:
    """Return what a file has and counts, and the tick at which it counts events that are later than the current time.

    `pieces` gives the file's bytes from the beginning each time that it is called. Raises Unreadable.
    """
    # The current time is rounded up to a tick, that what is later is counted at a tick where nothing else can be.
    latest_ms = (now_ms // tick_ms + 1) * tick_ms
    ahead_tick = (latest_ms + tick_ms) // 1000
    stats, counts = decoder.decode(pieces(), latest_ms=latest_ms, oldest_ms=0)
    oldest_ms = _newest_ms(stats, now_ms, ahead_tick) - MAX_AGE_MS
    if stats.events and stats.oldest_ms < oldest_ms:
        # Only now it is known which lines are too old. That is rare, so they are read again rather than remembered.
        stats, counts = decoder.decode(pieces(), latest_ms=latest_ms, oldest_ms=oldest_ms)
    return stats, counts, ahead_tick


def _newest_ms(stats: FileStats, now_ms: int, ahead_tick: int) -> int:
    """Return the end of a file's seven days: now, but for a file without an event of the last seven days.

    When most of a file is ahead of the clock, it is rather the clock that is wrong, and the file is of now.
    """
    past = [tick for tick in stats.requests if tick < ahead_tick]
    if not past or 2 * stats.requests.get(ahead_tick, 0) > stats.events:
        return now_ms
    newest_ms = max(past) * 1000
    return newest_ms if newest_ms < now_ms - MAX_AGE_MS else now_ms


def inspect_file(
    inspection: Inspection, decoder: Decoder, path: str, pieces: Pieces, now_ms: int, tick_ms: int
) -> None:
    """Decode a file and add it, or why the service would not count it."""
    inspection.files += 1
    try:
        stats, counts, ahead_tick = decode_file(decoder, pieces, now_ms, tick_ms)
    except Unreadable as error:
        inspection.unreadable.append((path, error.reason))
        return
    reason = unfit(stats)
    if reason is None:
        inspection.add(path, stats, counts, ahead_tick)
    else:
        inspection.unreadable.append((path, reason))
        inspection.add_examples(path, stats)
