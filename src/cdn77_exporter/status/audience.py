"""Viewers, watch time and bandwidth by stream, device, country and POP, summed from series for people to look at.

The cost is that of the new series and one vectorised sum per breakdown, however many series there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core import measures
from cdn77_exporter.core.catalogue import split_key
from cdn77_exporter.core.measures import Measure, Measures
from cdn77_exporter.core.series import SeriesTable

#: Bandwidth is a mean over at least so many seconds of settled ticks.
RATE_SECONDS = 60
_NEW_AT_ONCE = 50_000  # series sorted in one reading, so that a restored million does not delay a tick
_TOP = 10

Ranking = list[tuple[str, float]]


class Breakdown:
    """The sums of one metric's series by one of their labels; with a `window` only of those of this window."""

    def __init__(self, measure: Measure, label: str, window: str = "") -> None:
        self.measure = measure
        self._label = measure.labels.index(label)
        self._windows = {measure.labels.index("window"): window} if window and "window" in measure.labels else {}
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._size = 0
        self._slots = np.zeros(64, np.int64)
        self._groups = np.zeros(64, np.int32)

    def add(self, slot: int, values: list[str]) -> None:
        """Add a series of the metric: its slot and its label values."""
        if any(values[place] != window for place, window in self._windows.items()):
            return
        name = values[self._label]
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        if self._size == len(self._slots):
            self._slots = np.resize(self._slots, 2 * self._size)
            self._groups = np.resize(self._groups, 2 * self._size)
        self._slots[self._size], self._groups[self._size] = slot, number
        self._size += 1

    def drop(self, gone: npt.NDArray[np.bool_]) -> None:
        """Drop series whose slot [slots] has another series now, or none, and names that no series has any more."""
        slots, groups = self._slots[: self._size], self._groups[: self._size]
        kept = ~gone[slots]
        numbers, places = np.unique(groups[kept], return_inverse=True)
        self.names = [self.names[number] for number in numbers.tolist()]
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._size = int(kept.sum())
        room = max(64, self._size)
        self._slots = np.resize(np.append(slots[kept], 0), room)
        self._groups = np.resize(np.append(places, 0), room).astype(np.int32)

    def sums(self, value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the sum of each name, in the order of `names`; `value` has one entry for each slot."""
        slots, groups = self._slots[: self._size], self._groups[: self._size]
        return np.bincount(groups, value[slots], len(self.names)).astype(np.float64, copy=False)

    def ranked(self, sums: npt.NDArray[np.float64], most: int = _TOP) -> Ranking:
        """Return the names with the largest sums above zero, the largest first, with their sums."""
        order = np.argsort(-sums, kind="stable")[:most]
        return [(self.names[number], float(sums[number])) for number in order if sums[number] > 0]


@dataclass(frozen=True, slots=True)
class Audience:
    """The result of a reading at `tick` (Unix seconds). Rankings hold viewers, bits per second, seconds or sessions.

    `viewers` are those in the session window, `watching` the players that are there now. Watch time and sessions are
    what their counters hold.
    """

    tick: int = 0
    viewers: float = 0.0
    watching: float = 0.0
    watch_seconds: float = 0.0
    sessions: float = 0.0
    bits_per_second: float = 0.0
    streams_by_watching: Ranking = field(default_factory=list)
    streams_by_watch_time: Ranking = field(default_factory=list)
    streams_by_sessions: Ranking = field(default_factory=list)
    streams_by_viewers: Ranking = field(default_factory=list)
    streams_by_bandwidth: Ranking = field(default_factory=list)
    devices: Ranking = field(default_factory=list)
    countries: Ranking = field(default_factory=list)
    pops: Ranking = field(default_factory=list)


class _Rate:
    """The growth of the sums of a breakdown."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, dict[str, float]]] = deque()

    def per_second(self, tick: int, names: Sequence[str], sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the growth a second [names], over the ticks since the last reading that is `RATE_SECONDS` old."""
        seen = self._seen
        seen.append((tick, dict(zip(names, sums.tolist(), strict=True))))
        while len(seen) > 2 and tick - seen[1][0] >= RATE_SECONDS:
            seen.popleft()
        since, before = seen[0]
        if since == tick:
            return np.zeros(len(sums))
        # A sum is smaller where series have begun again at zero.
        return np.maximum(sums - [before.get(name, 0.0) for name in names], 0) / (tick - since)


class AudienceReader:
    """Reads the series now and then. Not thread-safe: call it only while nothing else works with the series."""

    def __init__(self, table: Measures = measures.MEASURES, window: str = "") -> None:
        self._window = window
        self._by_measure: dict[Measure | None, list[Breakdown]] = {}
        self._viewers = self._breakdown(table, measures.ACTIVE_VIEWERS, "stream_name")
        self._devices = self._breakdown(table, measures.ACTIVE_BY_DEVICE, "device_type")
        self._countries = self._breakdown(table, measures.ACTIVE_BY_COUNTRY, "country")
        self._streams = self._breakdown(table, measures.TRANSFER_BYTES, "stream_name")
        self._pops = self._breakdown(table, measures.TRANSFER_BYTES, "pop")
        self._watching = self._breakdown(table, measures.CONCURRENT_VIEWERS, "stream_name")
        self._watched = self._breakdown(table, measures.WATCH_SECONDS, "stream_name")
        self._sessions = self._breakdown(table, measures.SESSIONS, "stream_name")
        self._breakdowns = (
            self._viewers,
            self._watching,
            self._watched,
            self._sessions,
            self._devices,
            self._countries,
            self._streams,
            self._pops,
        )
        self._stream_rate, self._pop_rate = _Rate(), _Rate()
        self._born: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)  # which series of each slot is sorted
        self.audience = Audience()

    def _breakdown(self, table: Measures, measure: Measure, label: str) -> Breakdown:
        """Return a breakdown of the table's metric of that name; it stays empty if the metric or the label is off."""
        row = table.named(measure.name)
        if row is None or label not in row.labels:
            return Breakdown(measure, label)
        breakdown = Breakdown(row, label, self._window)
        self._by_measure.setdefault(row, []).append(breakdown)
        return breakdown

    def read(self, series: SeriesTable, tick: int) -> None:
        """Renew `audience` if ticks were settled since the last reading; `tick` is the last of them."""
        if not self._sort(series) or tick <= self.audience.tick:
            return
        value = series.value
        viewers, watching = self._viewers.sums(value), self._watching.sums(value)
        watched, sessions = self._watched.sums(value) / measures.WATCH_SECONDS.per, self._sessions.sums(value)
        streams = self._stream_rate.per_second(tick, self._streams.names, self._streams.sums(value)) * 8
        pops = self._pop_rate.per_second(tick, self._pops.names, self._pops.sums(value)) * 8
        self.audience = Audience(
            tick=tick,
            viewers=float(viewers.sum()),
            watching=float(watching.sum()),
            watch_seconds=float(watched.sum()),
            sessions=float(sessions.sum()),
            bits_per_second=float(streams.sum()),
            streams_by_watching=self._watching.ranked(watching),
            streams_by_watch_time=self._watched.ranked(watched),
            streams_by_sessions=self._sessions.ranked(sessions),
            streams_by_viewers=self._viewers.ranked(viewers),
            streams_by_bandwidth=self._streams.ranked(streams),
            devices=self._devices.ranked(self._devices.sums(value)),
            countries=self._countries.ranked(self._countries.sums(value)),
            pops=self._pops.ranked(pops),
        )

    def _sort(self, series: SeriesTable) -> bool:
        """Sort new series into the breakdowns they belong to; whether all of them are."""
        end = series.end
        if len(self._born) < end:
            self._born = np.append(self._born, np.zeros(end + end // 4 - len(self._born), np.uint32))
        there = series.there[:end]
        changed = self._born[:end] != np.where(there, series.born[:end], 0)
        gone = changed & (self._born[:end] > 0)
        if gone.any():
            for breakdown in self._breakdowns:
                breakdown.drop(gone)
            self._born[:end][gone] = 0
        new = np.flatnonzero(changed & there)
        for slot in new[:_NEW_AT_ONCE].tolist():
            code, values = split_key(series.key(slot))
            for breakdown in self._by_measure.get(series.catalogue.measure(code), ()):
                breakdown.add(slot, values)
        self._born[new[:_NEW_AT_ONCE]] = series.born[new[:_NEW_AT_ONCE]]
        return len(new) <= _NEW_AT_ONCE
