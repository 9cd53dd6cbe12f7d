"""One native histogram by the contract's rules and by Prometheus's, without any cleverness; from first principles."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cdn77_exporter.core.encode.remote_write_pb2 import Histogram
from tests.support.samples import SeriesName, parsed

_NEAR_MS = 300_000

#: The counts of buckets by their numbers, and under "sum" the sum; None for a stale marker. Nothing is 0 in it.
Content = dict[object, float]
Samples = list[tuple[int, Content | None]]


@dataclass
class PlainWhole:
    """A series whose value has several parts; what PlainSeries is to a counter."""

    value: Counter[object] = field(default_factory=Counter)
    emitted: Counter[object] = field(default_factory=Counter)
    touched: bool = False
    live: bool = False
    changed: int = 0
    last: int = 0
    samples: dict[int, Content | None] = field(default_factory=dict)

    def count(self, bucket: int, amount: float) -> None:
        """Observe something."""
        self.value.update({bucket: 1, "sum": amount})
        self.touched = True

    def emit(self, tick: int, step: int, pad_from: int, offset_ms: int, idle: int) -> None:
        """Write one tick."""
        gap = self.live and self.last < tick - 300
        if gap:
            self.value.subtract(self.emitted)
        begins = self.touched and not self.live
        if begins and self.last == tick - step:
            self._write(tick, offset_ms, Counter())
            self.live, self.changed, self.emitted = True, tick, Counter()
            return
        if gap or begins:
            for at in range(0, tick, step)[-300 // step :]:
                if at >= pad_from and at > self.last:
                    self._write(at, offset_ms, Counter())
        if self.touched:
            self.changed, self.live = tick, True
        if self.live and tick - self.changed >= idle:
            self._write(tick, offset_ms, None)
            self.live, self.value = False, Counter()
        elif self.live:
            self._write(tick, offset_ms, self.value)
        self.touched, self.emitted = False, self.value.copy()

    def _write(self, at: int, offset_ms: int, value: Counter[object] | None) -> None:
        stamp = at * 1000 + offset_ms
        assert stamp not in self.samples
        self.samples[stamp] = None if value is None else _told(value)
        self.last = at


def _told(value: Counter[object]) -> Content:
    """What a sample says of a value: seconds of milliseconds, and no empty bucket."""
    return {part: number / 1000 if part == "sum" else float(number) for part, number in value.items() if number}


def content_of(histogram: Histogram) -> Content | None:
    """What a sample of the wire says; every rule that it breaks raises AssertionError."""
    assert (histogram.schema, histogram.zero_threshold, histogram.zero_count_int) == (3, 1e-6, 0)
    assert histogram.reset_hint == Histogram.ResetHint.UNKNOWN
    if math.isnan(histogram.sum):
        assert histogram.count_int == 0
        assert not histogram.positive_spans
        return None
    found: Content = {"sum": histogram.sum} if histogram.sum else {}
    deltas = iter(histogram.positive_deltas)
    number, filled = 0, 0
    for place, span in enumerate(histogram.positive_spans):
        assert span.length > 0
        assert place == 0 or span.offset > 0, "spans that follow one another are one"
        number += span.offset
        for _ in range(span.length):
            filled += next(deltas)
            assert filled > 0, "an empty bucket"
            found[number] = float(filled)
            number += 1
    assert next(deltas, None) is None
    assert sum(count for part, count in found.items() if part != "sum") == histogram.count_int
    return found


class ReceivedWholes:
    """What a strict receiver holds of native histograms."""

    def __init__(self) -> None:
        self.samples: dict[SeriesName, Samples] = {}

    def take(self, body: bytes) -> int:
        """Take up a request; how many samples it has."""
        count = 0
        for series in parsed(body).timeseries:
            assert not series.samples, "histograms are in requests of their own"
            name = tuple((label.name, label.value) for label in series.labels)
            assert list(name) == sorted(name)
            own = self.samples.setdefault(name, [])
            for histogram in series.histograms:
                assert not own or own[-1][0] < histogram.timestamp, "a sample is not later than the one before it"
                own.append((histogram.timestamp, content_of(histogram)))
                count += 1
        assert count <= 2000
        return count


def over_all(samples: Samples) -> Counter[object]:
    """What `increase()` adds up over all: when a bucket falls, all of the histogram begins at zero."""
    grown: Counter[object] = Counter()
    contents = [content for _, content in samples if content is not None]
    for before, now in itertools.pairwise(contents):
        fell = any(now.get(part, 0) < count for part, count in before.items() if part != "sum")
        grown.update(now)
        if not fell:
            grown.subtract(before)
    return grown


def in_windows(samples: Samples) -> Counter[object]:
    """What windows of five minutes add up: growth over a longer gap is in none of them."""
    return _sum(over_all(run) for run in _runs(samples))


def on_victoria_metrics(samples: Samples) -> Mapping[object, float]:
    """What they add up where each part is a counter, and what comes after a gap begins at zero."""
    grown: dict[object, float] = defaultdict(float)
    for run in _runs(samples):
        before: Content = {}
        for _, now in run:
            assert now is not None
            for part in {*before, *now}:
                last, value = before.get(part, 0.0), now.get(part, 0.0)
                grown[part] += value - last if value >= last else value
            before = now
    return grown


def _sum(parts: Iterable[Counter[object]]) -> Counter[object]:
    found: Counter[object] = Counter()
    for part in parts:
        found.update(part)
    return found


def _runs(samples: Samples) -> Iterator[Samples]:
    run: Samples = []
    for at, content in samples:
        if run and at - run[-1][0] > _NEAR_MS:
            yield run
            run = []
        if content is not None:
            run.append((at, content))
    yield run


def rounded(content: Mapping[object, float]) -> Content:
    """Counts without what is 0, sums to the millisecond."""
    return {part: number for part, value in content.items() if (number := round(value, 3))}
