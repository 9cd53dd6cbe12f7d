"""Who is watching and what they take, summed from the series by one label each, for people to look at.

Costs time for the series that are new and one vectorised sum per breakdown, however many series there are.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core import catalogue
from cdn77_exporter.core.catalogue import CODE, Metric
from cdn77_exporter.core.series import SeriesTable, split_key

#: Bandwidth is a mean over at least so many seconds of settled ticks.
RATE_SECONDS = 60
_NEW_AT_ONCE = 50_000  # series that are looked at in one reading; a restored million must not hold up a tick
_TOP = 10

Ranking = list[tuple[str, float]]


class Breakdown:
    """The sums of one metric's series by one of their labels."""

    def __init__(self, metric: Metric, label: str) -> None:
        self.code = CODE[metric]
        self._place = metric.labels.index(label)
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._size = 0
        self._slots = np.zeros(64, np.int64)
        self._groups = np.zeros(64, np.int32)

    def take(self, slot: int, values: list[str]) -> None:
        """Note a series of the metric: its slot and its label values."""
        name = values[self._place]
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        if self._size == len(self._slots):
            self._slots = np.resize(self._slots, 2 * self._size)
            self._groups = np.resize(self._groups, 2 * self._size)
        self._slots[self._size], self._groups[self._size] = slot, number
        self._size += 1

    def sums(self, value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum of each name, in the order of `names`; `value` is that of every slot."""
        slots, groups = self._slots[: self._size], self._groups[: self._size]
        return np.bincount(groups, value[slots], len(self.names)).astype(np.float64, copy=False)

    def ranked(self, sums: npt.NDArray[np.float64], most: int = _TOP) -> Ranking:
        """The names with the largest sums above zero, the largest first."""
        order = np.argsort(-sums, kind="stable")[:most]
        return [(self.names[place], float(sums[place])) for place in order if sums[place] > 0]


@dataclass(frozen=True, slots=True)
class Audience:
    """What a reading found, as of `tick` (Unix seconds). Rankings hold viewers, or bits per second."""

    tick: int = 0
    viewers: float = 0.0
    bits_per_second: float = 0.0
    streams_by_viewers: Ranking = field(default_factory=list)
    streams_by_bandwidth: Ranking = field(default_factory=list)
    devices: Ranking = field(default_factory=list)
    countries: Ranking = field(default_factory=list)
    pops: Ranking = field(default_factory=list)


class _Rate:
    """How fast the sums of a breakdown grow."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, npt.NDArray[np.float64]]] = deque()

    def per_second(self, tick: int, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The growth a second, over the ticks since the last reading that is `RATE_SECONDS` old."""
        seen = self._seen
        seen.append((tick, sums))
        while len(seen) > 2 and tick - seen[1][0] >= RATE_SECONDS:
            seen.popleft()
        since, before = seen[0]
        if since == tick:
            return np.zeros(len(sums))
        grown = sums.copy()
        grown[: len(before)] -= before
        return grown / (tick - since)


class Spectator:
    """Reads the series now and then. Not thread-safe: only where nothing else works with the series."""

    def __init__(self) -> None:
        self._viewers = Breakdown(catalogue.ACTIVE_VIEWERS, "stream_name")
        self._devices = Breakdown(catalogue.ACTIVE_BY_DEVICE, "device_type")
        self._countries = Breakdown(catalogue.ACTIVE_BY_COUNTRY, "country")
        self._streams = Breakdown(catalogue.TRANSFER_BYTES, "stream_name")
        self._pops = Breakdown(catalogue.TRANSFER_BYTES, "pop")
        self._by_code: dict[int, list[Breakdown]] = {}
        for breakdown in (self._viewers, self._devices, self._countries, self._streams, self._pops):
            self._by_code.setdefault(breakdown.code, []).append(breakdown)
        self._stream_rate, self._pop_rate = _Rate(), _Rate()
        self._looked = 0
        self.audience = Audience()

    def read(self, series: SeriesTable, tick: int) -> None:
        """Renew `audience` when ticks were settled since the last time; `tick` is the last of them."""
        if self._looked < len(series):
            self._look(series)
        if tick <= self.audience.tick or self._looked < len(series):
            return
        value = series.value
        viewers = self._viewers.sums(value)
        streams = self._stream_rate.per_second(tick, self._streams.sums(value)) * 8
        pops = self._pop_rate.per_second(tick, self._pops.sums(value)) * 8
        self.audience = Audience(
            tick=tick,
            viewers=float(viewers.sum()),
            bits_per_second=float(streams.sum()),
            streams_by_viewers=self._viewers.ranked(viewers),
            streams_by_bandwidth=self._streams.ranked(streams),
            devices=self._devices.ranked(self._devices.sums(value)),
            countries=self._countries.ranked(self._countries.sums(value)),
            pops=self._pops.ranked(pops),
        )

    def _look(self, series: SeriesTable) -> None:
        """Sort series that are new into the breakdowns they belong to."""
        for key in islice(series.keys(), self._looked, self._looked + _NEW_AT_ONCE):
            code, values = split_key(key)
            for breakdown in self._by_code.get(code, ()):
                breakdown.take(self._looked, values)
            self._looked += 1
