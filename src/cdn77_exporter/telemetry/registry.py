"""The self-metrics of one process: updates them by messages, reads probes at the scrape, and writes them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cdn77_exporter import __version__
from cdn77_exporter.telemetry.kinds import Kind, SelfMetric
from cdn77_exporter.telemetry.messages import Message
from cdn77_exporter.telemetry.metrics import LOG_LINES_LOST, LOG_MESSAGES, PREFIX, SELF_METRICS

T = TypeVar("T")


class Registry:
    """Every self-metric of the table, with all its series from the start. Safe to use from every thread."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._registry = CollectorRegistry(auto_describe=False)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody reads
        stored = (metric for metric in SELF_METRICS if metric.kind is not Kind.PROBE)
        self._metrics = {metric.name: _create(metric, self._registry) for metric in stored}
        self._probes = _Probes(SELF_METRICS)
        self._registry.register(self._probes)
        info = Gauge(PREFIX + "build_info", "1, with the version.", ["version"], registry=self._registry)
        info.labels(__version__).set(1)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def update(self, message: Message, values: Mapping[str, object]) -> None:
        """Update the metrics of a message by its row and its values; a field without a value updates nothing."""
        self._counter(LOG_MESSAGES).labels(message.level).inc()
        if message.counts:
            counter = self._counter(message.counts)
            (counter.labels(message.outcome) if message.outcome else counter).inc()
        if message.stamps:
            self._gauge(message.stamps).set(self._now())
        for field in message.fields:
            value = values.get(field.name)
            if field.metric is not None and value is not None:
                self._update(field.metric, value)

    def line_lost(self) -> None:
        """Count a log line that could not be written."""
        self._counter(LOG_LINES_LOST).inc()

    def watch(self, name: str, ask: Callable[[], float | None], labels: Mapping[str, str]) -> None:
        """Read a probe from `ask` at each scrape; None for no value. Raises LookupError for one not in the table."""
        self._probes.watch(name, ask, labels)

    def watch_each(self, name: str, ask: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        """Read all series of a probe from `ask` at each scrape. Raises LookupError for one not in the table."""
        self._probes.watch_each(name, ask)

    def total(self, name: str, labels: Mapping[str, str]) -> float:
        """Return a counter's value since the start: the sum over its series with these labels."""
        families: Iterable[Metric] = self._metrics[name].collect()
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name.endswith("_total") and labels.items() <= sample.labels.items()
        )

    def exposition(self) -> bytes:
        """Return all self-metrics in the Prometheus text format."""
        return generate_latest(self._registry)

    def _update(self, metric: SelfMetric, value: object) -> None:
        target = self._metrics[metric.name]
        if isinstance(value, Mapping):
            for name, part in value.items():
                target.labels(name).inc(max(0.0, part or 0.0))
        elif isinstance(value, str):
            target.labels(value).inc()
        elif isinstance(value, (int, float)):
            match metric.kind:
                case Kind.COUNTER:
                    target.inc(max(0.0, value))
                case Kind.GAUGE:
                    target.set(value)
                case _:
                    target.observe(value)

    def _counter(self, metric: SelfMetric) -> Counter:
        counter: Counter = self._metrics[metric.name]
        return counter

    def _gauge(self, metric: SelfMetric) -> Gauge:
        gauge: Gauge = self._metrics[metric.name]
        return gauge


def _create(metric: SelfMetric, registry: CollectorRegistry) -> Any:
    names = [label for label, _ in metric.labels]
    if metric.kind is Kind.HISTOGRAM:
        return Histogram(PREFIX + metric.name, metric.help, names, buckets=metric.buckets, registry=registry)
    create: Any = Counter if metric.kind is Kind.COUNTER else Gauge
    created = create(PREFIX + metric.name, metric.help, names, registry=registry)
    for _, values in metric.labels:
        for value in values:
            created.labels(value)
    return created


class _Probes(Collector):
    """Gauges whose values are read at the scrape."""

    def __init__(self, table: Iterable[SelfMetric]) -> None:
        self._table = {metric.name: metric for metric in table if metric.kind is Kind.PROBE}
        self._asked: dict[str, dict[tuple[str, ...], Callable[[], float | None]]] = {name: {} for name in self._table}
        self._each: dict[str, Callable[[], Mapping[tuple[str, ...], float]]] = {}

    def watch(self, name: str, ask: Callable[[], float | None], labels: Mapping[str, str]) -> None:
        metric = self._table.get(name)
        if metric is None or {label for label, _ in metric.labels} != labels.keys():
            raise LookupError(f"no probe {name} with labels {sorted(labels)} in SELF_METRICS")
        self._asked[name][tuple(labels[label] for label, _ in metric.labels)] = ask

    def watch_each(self, name: str, ask: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        if name not in self._table:
            raise LookupError(f"no probe {name} in SELF_METRICS")
        self._each[name] = ask

    def collect(self) -> Iterator[Metric]:
        for name, asked in self._asked.items():
            metric = self._table[name]
            family = GaugeMetricFamily(PREFIX + name, metric.help, labels=[label for label, _ in metric.labels])
            for values, ask in asked.items():
                value = _answer(ask)
                if value is not None:
                    family.add_metric(values, value)
            for values, value in (_answer(self._each[name]) or {} if name in self._each else {}).items():
                family.add_metric(values, value)
            yield family


def _answer(ask: Callable[[], T | None]) -> T | None:
    try:
        return ask()
    except Exception:  # a part that is being closed has no answer; the others still have theirs
        return None
