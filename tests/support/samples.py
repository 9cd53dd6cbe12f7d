"""Request bodies read back by protobuf's own parser, and the rules that hold for every sequence of them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Mapping

import cramjam

from cdn77_exporter.core.encode.parts import in_version
from cdn77_exporter.core.encode.remote_write_pb2 import WriteRequest

STALE_BITS = 0x7FF0000000000002
#: Metric name and sorted label pairs.
SeriesName = tuple[tuple[str, str], ...]


def bits(value: float) -> int:
    """The value's IEEE 754 bits."""
    found: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return found


def is_stale(value: float) -> bool:
    """Whether the value is the NaN that ends a series, bit for bit."""
    return bits(value) == STALE_BITS


def parsed(body: bytes) -> WriteRequest:
    """A request body as protobuf's own parser reads it; one of 2.0 as the same of 1.0."""
    request = WriteRequest()
    request.ParseFromString(bytes(cramjam.snappy.decompress_raw(in_version(body, 1))))
    return request


class Received:
    """What a strict receiver holds: per series the samples in order; every broken rule raises AssertionError."""

    def __init__(self) -> None:
        self.samples: dict[SeriesName, list[tuple[int, float]]] = {}
        self.metadata: dict[str, tuple[str, str]] = {}

    def take(self, bodies: Iterable[tuple[bytes, int]]) -> None:
        """Take up bodies with the number of samples that each is said to hold."""
        for body, expected in bodies:
            request = parsed(body)
            for entry in request.metadata:
                kind = type(entry).MetricType.Name(entry.type).lower()
                self.metadata[entry.metric_family_name] = (kind, entry.help)
            count = 0
            for series in request.timeseries:
                name = tuple((label.name, label.value) for label in series.labels)
                assert list(name) == sorted(name), "labels are not sorted"
                assert len({label for label, _ in name}) == len(name), "a label name occurs twice"
                assert all(label and value for label, value in name), "an empty label"
                assert series.samples, "a series without a sample"
                own = self.samples.setdefault(name, [])
                for sample in series.samples:
                    assert not own or own[-1][0] < sample.timestamp, "a sample is not later than the one before it"
                    own.append((sample.timestamp, sample.value))
                    count += 1
            assert count == expected, "the number of samples is not the one announced"
            assert count <= 2000, "more than 2,000 samples in a request"

    def by_key(self) -> dict[SeriesName, dict[int, float | None]]:
        """Per series the value at each timestamp (ms); None for a stale marker."""
        return {
            name: {at: None if is_stale(value) else value for at, value in samples}
            for name, samples in self.samples.items()
        }

    def select(self, metric: str, **labels: str) -> list[tuple[int, float]]:
        """The samples of the one series of a metric with exactly these labels."""
        return self.samples.get(named(metric, labels), [])


def named(metric: str, labels: Mapping[str, str]) -> SeriesName:
    """A series' name in the form that `Received` uses."""
    return tuple(sorted([("__name__", metric), *labels.items()]))


def increase(samples: Iterable[tuple[int, float]], after_ms: int, until_ms: int) -> float:
    """What a counter grew by in (after, until], resets seen as Prometheus does, and without its extrapolation.

    A stale marker is no sample: what follows it goes on from the value before it.
    """
    values = [value for at, value in samples if after_ms < at <= until_ms and not is_stale(value)]
    grown = 0.0
    for before, now in itertools.pairwise(values):
        grown += now - before if now >= before else now
    return grown
