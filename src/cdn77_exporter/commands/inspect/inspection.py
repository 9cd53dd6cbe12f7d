"""Sums over the files that `inspect` reads, and what was wrong with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from ipaddress import ip_address

from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.files import MAX_AGE_MS
from cdn77_exporter.core.tally import Example, Sums, Tally, ViewerSeen

#: Rejected lines that are kept to be shown, of each reason and over all files.
EXAMPLES = 5

# Viewers are told apart up to here, that memory stays bounded (some 250 MB); what is found then is a least number.
_MOST_SEEN = 3_000_000

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
    """Sums over the files so far; nothing in it grows with the number of lines."""

    files: int = 0
    lines: int = 0
    events: int = 0
    bytes: int = 0
    ahead: int = 0  # events that are later than the current time
    oldest_ms: int = 0  # 0 without an event
    newest_ms: int = 0
    rejects: defaultdict[str, int] = field(default_factory=_counts)
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # path and reason
    streams: defaultdict[str, StreamSums] = field(default_factory=lambda: defaultdict(StreamSums))
    statuses: defaultdict[str, int] = field(default_factory=_counts)  # requests, as in the next two
    caches: defaultdict[str, int] = field(default_factory=_counts)
    pops: defaultdict[str, int] = field(default_factory=_counts)
    viewers: int = 0
    devices: defaultdict[str, int] = field(default_factory=_counts)  # viewers, as in the next
    countries: defaultdict[str, int] = field(default_factory=_counts)
    examples: dict[str, list[tuple[str, Example]]] = field(default_factory=dict)  # by reason, with the file's path
    # Hashes of viewers, and of viewers with their device or country: sixty-four bits tell a million apart for certain
    # enough (the odds of one error are 1 to 37 million), in a third of the memory.
    _seen: set[int] = field(default_factory=set)

    @property
    def viewers_complete(self) -> bool:
        """True if all viewers have been told apart; if not, their numbers are lower bounds."""
        return len(self._seen) < _MOST_SEEN

    def top_streams(self, count: int) -> list[tuple[str, StreamSums]]:
        """Return the `count` streams with most requests, the largest first."""
        return nlargest(count, self.streams.items(), key=lambda entry: (entry[1].requests, entry[0]))

    def add(self, path: str, tally: Tally, ahead_tick: int) -> None:
        """Add one file; what is counted at `ahead_tick` was later than the current time."""
        self.lines += tally.lines
        self.events += tally.events
        self.bytes += tally.bytes
        if tally.events:
            self.oldest_ms = min(self.oldest_ms or tally.oldest_ms, tally.oldest_ms)
            self.newest_ms = max(self.newest_ms, tally.newest_ms)
        for reason, count in tally.rejects.items():
            self.rejects[reason] += count
        for example in tally.examples:
            of_reason = self.examples.setdefault(example.reason, [])
            if len(of_reason) < EXAMPLES:
                of_reason.append((path, example))
        for tick, part in tally.ticks.items():
            self._add_groups(part.groups)
            if tick == ahead_tick:
                self.ahead += part.requests
        self._add_viewers(set().union(*(part.viewers for part in tally.ticks.values())))

    def _add_groups(self, groups: Sums) -> None:
        streams, statuses, caches, pops = self.streams, self.statuses, self.caches, self.pops
        for (stream, _, cache, pop, status), sums in groups.items():
            requests = sums[0]
            own = streams[stream]
            own.requests += requests
            own.bytes += sums[1]
            statuses[status] += requests
            caches[cache] += requests
            pops[pop] += requests

    def _add_viewers(self, viewers: Iterable[ViewerSeen]) -> None:
        seen = self._seen
        for stream, ip, device, country in viewers:
            if len(seen) >= _MOST_SEEN:
                return
            # An IPv6 address has many spellings, and a client of two is one client.
            viewer = hash((stream, ip if ":" not in ip else ip_address(ip).packed))
            if viewer not in seen:
                seen.add(viewer)
                self.viewers += 1
                self.streams[stream].viewers += 1
            by_device, by_country = hash((viewer, device)), hash((viewer, 1, country))
            if by_device not in seen:
                seen.add(by_device)
                self.devices[device] += 1
            if by_country not in seen:
                seen.add(by_country)
                self.countries[country] += 1


def largest(counts: dict[str, int], count: int) -> dict[str, int]:
    """Return the `count` largest entries, the largest first."""
    return dict(nlargest(count, counts.items(), key=lambda entry: (entry[1], entry[0])))


def decode_file(decoder: Decoder, pieces: Pieces, now_ms: int, tick_ms: int) -> tuple[Tally, int]:
    """Return a file's tally, and the tick at which it counts events that are later than the current time.

    `pieces` gives the file's bytes from the beginning each time that it is called. Raises Unreadable.
    """
    # The current time is rounded up to a tick, that what is later is counted at a tick where nothing else can be.
    latest_ms = (now_ms // tick_ms + 1) * tick_ms
    ahead_tick = (latest_ms + tick_ms) // 1000
    tally = decoder.decode(pieces(), latest_ms=latest_ms, oldest_ms=0)
    oldest_ms = _newest_ms(tally, now_ms, ahead_tick) - MAX_AGE_MS
    if tally.events and tally.oldest_ms < oldest_ms:
        # Only now it is known which lines are too old. That is rare, so they are read again rather than remembered.
        tally = decoder.decode(pieces(), latest_ms=latest_ms, oldest_ms=oldest_ms)
    return tally, ahead_tick


def _newest_ms(tally: Tally, now_ms: int, ahead_tick: int) -> int:
    """Return the end of a file's seven days: now, but for a file without an event of the last seven days.

    When most of a file is ahead of the clock, it is rather the clock that is wrong, and the file is of now.
    """
    past = [tick for tick in tally.ticks if tick < ahead_tick]
    ahead = tally.ticks.get(ahead_tick)
    requests_ahead = ahead.requests if ahead else 0
    if not past or 2 * requests_ahead > tally.events:
        return now_ms
    newest_ms = max(past) * 1000
    return newest_ms if newest_ms < now_ms - MAX_AGE_MS else now_ms


def inspect_file(
    inspection: Inspection, decoder: Decoder, path: str, pieces: Pieces, now_ms: int, tick_ms: int
) -> None:
    """Decode a file and add it, or why it could not be read."""
    inspection.files += 1
    try:
        tally, ahead_tick = decode_file(decoder, pieces, now_ms, tick_ms)
    except Unreadable as error:
        inspection.unreadable.append((path, error.reason))
    else:
        inspection.add(path, tally, ahead_tick)
