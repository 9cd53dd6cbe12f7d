"""The self-metrics as Prometheus reads them: those that messages update, and those that are read at the scrape."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cdn77_exporter.telemetry.metrics import PREFIX, SelfMetric


class Probes(Collector):
    """Gauges that are asked for their value when somebody scrapes."""

    def __init__(self, table: Iterable[SelfMetric]) -> None:
        self._table = {metric.name: metric for metric in table if metric.kind == "probe"}
        self._asked: dict[str, dict[tuple[str, ...], Callable[[], float | None]]] = {name: {} for name in self._table}

    def watch(self, name: str, ask: Callable[[], float | None], labels: Mapping[str, str]) -> None:
        metric = self._table.get(name)
        if metric is None or {label for label, _ in metric.labels} != labels.keys():
            raise LookupError(f"no probe {name} with labels {sorted(labels)} in SELF_METRICS")
        self._asked[name][tuple(labels[label] for label, _ in metric.labels)] = ask

    def collect(self) -> Iterator[Metric]:
        for name, asked in self._asked.items():
            metric = self._table[name]
            family = GaugeMetricFamily(PREFIX + name, metric.help, labels=[label for label, _ in metric.labels])
            for values, ask in asked.items():
                value = _answer(ask)
                if value is not None:
                    family.add_metric(values, value)
            yield family


def _answer(ask: Callable[[], float | None]) -> float | None:
    try:
        value = ask()
    except Exception:  # a part that is being closed has no answer; the others still have theirs
        return None
    return None if value is None else float(value)


class LoopLag:
    """How late the event loop came to what was due, over the last measurements."""

    def __init__(self, most: int = 1200) -> None:
        self._late: deque[float] = deque(maxlen=most)

    def observe(self, seconds: float) -> None:
        """One measurement."""
        self._late.append(max(0.0, seconds))

    def p99(self) -> float | None:
        """The 99th percentile, or None without a measurement."""
        if not self._late:
            return None
        ordered = sorted(self._late)
        return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * 0.99) - 1)]

    def most(self) -> float | None:
        """The maximum, or None without a measurement."""
        return max(self._late, default=None)


def make_metric(metric: SelfMetric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    names = [label for label, _ in metric.labels]
    made: Counter | Gauge | Histogram
    if metric.kind == "histogram":
        made = Histogram(PREFIX + metric.name, metric.help, names, buckets=metric.buckets, registry=registry)
    else:
        make: Any = Counter if metric.kind == "counter" else Gauge
        made = make(PREFIX + metric.name, metric.help, names, registry=registry)
    for _, values in metric.labels:
        for value in values:
            made.labels(value)
    return made
