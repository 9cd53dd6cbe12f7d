"""A receiver with Prometheus's own rules, and how much of its counters a query sees on it and on VictoriaMetrics."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cdn77_exporter.core.encode.parts import last_sample
from cdn77_exporter.core.errors import Refused
from tests.support.samples import SeriesName, bits, parsed
from tests.support.truth import Labels

_HEAD_MS = 3_600_000  # samples so far behind the newest of all series are out of bounds
_NEAR_MS = 300_000


@dataclass
class _Stored:
    """The samples of a series, oldest first, and how much they have grown."""

    samples: list[tuple[int, float]] = field(default_factory=list)
    grown: float = 0.0


class StrictPrometheus:
    """Takes requests whole or not at all, as `head.go` does.

    `newest_ms`: the newest sample (Unix ms) of series that somebody else writes; 0 for none. `window_ms`: how far
    behind the newest of all a sample may be that is out of order; 0 for an instance without an out-of-order window.
    """

    def __init__(self, newest_ms: Callable[[], int] = lambda: 0, *, window_ms: int = 0) -> None:
        self._others_ms = newest_ms
        self._window_ms = window_ms
        self._newest_ms = 0
        self._series: dict[SeriesName, _Stored] = {}
        self.refused: list[str] = []

    def take(self, body: bytes) -> None:
        """Store a request, or raise Refused and store nothing of it."""
        newest_ms = max(self._newest_ms, self._others_ms())
        oldest_ms = newest_ms - _HEAD_MS
        fresh: dict[SeriesName, list[tuple[int, float]]] = {}
        for series in parsed(body).timeseries:
            name = tuple((label.name, label.value) for label in series.labels)
            kept = self._series.get(name)
            new = fresh.setdefault(name, [])
            for sample in series.samples:
                at, value = sample.timestamp, sample.value
                last = new[-1] if new else kept.samples[-1] if kept else None
                if self._window_ms and (at < oldest_ms or (last is not None and at < last[0])):
                    if at < newest_ms - self._window_ms:
                        self._refuse(f"too old sample: {at} of {name}")
                    new.append((at, value))
                    new.sort()
                    continue
                if at < oldest_ms:
                    self._refuse(f"out of bounds: {at} of {name}")
                if last is not None and at < last[0]:
                    self._refuse(f"out of order sample: {at} after {last[0]} of {name}")
                if last is not None and at == last[0]:
                    if bits(value) != bits(last[1]):
                        self._refuse(f"duplicate sample for timestamp {at}: {last[1]} and {value} of {name}")
                    continue
                new.append((at, value))
        for name, new in fresh.items():
            for at, value in new:
                self._append(name, at, value)

    def _append(self, name: SeriesName, at: int, value: float) -> None:
        kept = self._series.setdefault(name, _Stored())
        if kept.samples and at < kept.samples[-1][0]:
            place = bisect_left(kept.samples, at, key=lambda sample: sample[0])
            if kept.samples[place][0] != at:  # of two of one time the first stays
                kept.samples.insert(place, (at, value))
                kept.grown = over_all(kept.samples)
            return
        if not math.isnan(value):
            before = next((v for _, v in reversed(kept.samples) if not math.isnan(v)), None)
            if before is not None:
                kept.grown += value - before if value >= before else value
        kept.samples.append((at, value))
        self._newest_ms = max(self._newest_ms, at)

    def _refuse(self, words: str) -> None:
        self.refused.append(words)
        raise Refused(400, words)

    def holds(self, body: bytes) -> bool:
        """Whether the last sample of a request is there, as its query API would say."""
        sent = last_sample(body)
        if sent is None:
            return False
        kept = self._series.get(tuple(sorted(sent.labels.items())))
        return kept is not None and (sent.at_ms, sent.value) in kept.samples[-2000:]

    def samples(self) -> Iterator[tuple[SeriesName, list[tuple[int, float]]]]:
        """Each series with its samples, stale markers among them."""
        for name, kept in self._series.items():
            yield name, kept.samples

    def has_grown(self, name: str, labels: Labels) -> float:
        """How much a counter has grown over all; 0 for one that is not there."""
        kept = self._series.get(tuple(sorted((*labels, ("__name__", name)))))
        return kept.grown if kept else 0.0

    def growth(
        self, names: Iterable[str], of: Callable[[list[tuple[int, float]]], float]
    ) -> dict[str, dict[Labels, float]]:
        """How much every series of some counters has grown, as a receiver sees it."""
        found: dict[str, dict[Labels, float]] = {name: {} for name in names}
        for name, kept in self._series.items():
            pairs = dict(name)
            metric = pairs.pop("__name__")
            if metric in found:
                found[metric][tuple(sorted(pairs.items()))] = of(kept.samples)
        return found


def over_all(samples: list[tuple[int, float]]) -> float:
    """What `increase()` adds up over the whole span: a fall is a beginning at zero."""
    values = [value for _, value in samples if not math.isnan(value)]
    return sum(now - before if now >= before else now for before, now in itertools.pairwise(values))


def in_windows(samples: list[tuple[int, float]]) -> float:
    """What windows of five minutes add up: growth over a longer gap is in none of them."""
    return sum(over_all(run) for run in _runs(samples))


def on_victoria_metrics(samples: list[tuple[int, float]]) -> float:
    """The same on VictoriaMetrics, for which what comes after a gap begins at zero."""
    return sum(run[0][1] + over_all(run) for run in _runs(samples) if run)


def _runs(samples: list[tuple[int, float]]) -> Iterator[list[tuple[int, float]]]:
    run: list[tuple[int, float]] = []
    for at, value in samples:
        if run and at - run[-1][0] > _NEAR_MS:
            yield run
            run = []
        if not math.isnan(value):
            run.append((at, value))
    yield run
