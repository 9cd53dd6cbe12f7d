"""The kinds of self-metrics, and how a row of a table declares one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

#: Upper bounds of buckets, in seconds: of a request or a file, and of delays.
SHORT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_SECONDS = (1.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)


class Kind(StrEnum):
    """The way in which a self-metric gets its value."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    PROBE = "probe"  # a gauge whose value is read from a callable at each scrape


@dataclass(frozen=True, slots=True)
class SelfMetric:
    """One self-metric, named without the prefix.

    `labels`: each label with the values it starts with, so that every series exists from the beginning.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    buckets: tuple[float, ...] = ()


def counter(name: str, help: str, **labels: Iterable[str]) -> SelfMetric:
    """Declare a counter with all values of its labels."""
    return SelfMetric(name, Kind.COUNTER, help, tuple((label, tuple(values)) for label, values in labels.items()))


def gauge(name: str, help: str) -> SelfMetric:
    """Declare a gauge that messages set."""
    return SelfMetric(name, Kind.GAUGE, help)


def histogram(name: str, help: str, buckets: tuple[float, ...]) -> SelfMetric:
    """Declare a histogram with the upper bounds of its buckets."""
    return SelfMetric(name, Kind.HISTOGRAM, help, buckets=buckets)


def probe(name: str, help: str, *labels: str) -> SelfMetric:
    """Declare a gauge that is read at each scrape; the values of its labels come with the callable."""
    return SelfMetric(name, Kind.PROBE, help, tuple((label, ()) for label in labels))
