"""Samples as bytes: remote write 1.0 request bodies, put together from label bytes that are encoded once per series.

Source of the layout: the Prometheus remote write specification 1.0 and the protobuf wire format. A sample has a fixed
length here (a Unix millisecond timestamp from 1971 to 2109 is a varint of six bytes; the value is written even when it
is zero), so a series' entry never changes its length and a tick only overwrites eight plus six bytes in it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

import cramjam

from cdn77_exporter.core.catalogue import Metric

#: The most samples of a request; larger ones are slower on real receivers.
MAX_SAMPLES = 2000
#: The bits of the NaN that tells a Prometheus receiver that a series has ended.
STALE_BITS = 0x7FF0000000000002

_TIMESERIES, _METADATA = b"\x0a", b"\x1a"  # fields of WriteRequest
_LABEL, _SAMPLE = b"\x0a", b"\x12"  # fields of TimeSeries
SAMPLE_BYTES = 18  # a Sample with its tag and length
VALUE_OFFSET = 3  # from a Sample's tag to its value
TIMESTAMP_OFFSET = 12  # from a Sample's tag to its timestamp
TIMESTAMP_BYTES = 6
_METADATA_TYPES = {"counter": 1, "gauge": 2}
_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))
#: Encoded labels that are kept: most series share theirs with many others.
_KNOWN_LABELS = 8192


def varint(value: int) -> bytes:
    """A non-negative integer as a base-128 varint."""
    if value <= 0x7F:  # nearly all are lengths of a label
        return _ONE_BYTE[value]
    if value <= 0x3FFF:  # nor are series much longer
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(tag: bytes, body: bytes) -> bytes:
    return tag + varint(len(body)) + body


def timestamp_bytes(timestamp_ms: int) -> bytes:
    """A Unix millisecond timestamp as its varint of six bytes; ValueError outside 1971 to 2109."""
    encoded = varint(timestamp_ms)
    if len(encoded) != TIMESTAMP_BYTES:
        raise ValueError(f"timestamp {timestamp_ms} ms is outside the years 1971 to 2109")
    return encoded


@lru_cache(_KNOWN_LABELS)
def _label(name: str, value: str) -> bytes:
    return _field(_LABEL, _field(b"\x0a", name.encode()) + _field(b"\x12", value.encode("utf-8", "replace")))


@cache
def _order(names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """The label names sorted, the metric's own name among them, each with the place of its value behind that name."""
    return tuple(sorted([("__name__", 0), *((name, place) for place, name in enumerate(names, 1))]))


def label_bytes(metric: Metric, values: Sequence[str]) -> bytes:
    """The Label fields of a series, sorted by name as the specification demands; empty values are left out."""
    if len(values) != len(metric.labels):
        raise ValueError(f"{metric.name} has {len(metric.labels)} labels, not {len(values)}")
    texts = (metric.name, *values)
    return b"".join([_label(name, texts[place]) for name, place in _order(metric.labels) if texts[place]])


def sample_bytes(value: float, timestamp_ms: int) -> bytes:
    """One Sample with its tag and length."""
    return b"\x12\x10\x09" + struct.pack("<d", value) + b"\x10" + timestamp_bytes(timestamp_ms)


def series_entry(labels: bytes, samples: bytes) -> bytes:
    """One TimeSeries with its tag and length."""
    return _TIMESERIES + varint(len(labels) + len(samples)) + labels + samples


def metadata_entries(metrics: Iterable[Metric]) -> bytes:
    """MetricMetadata entries: type, family name and help."""
    out = []
    for metric in metrics:
        body = b"\x08" + varint(_METADATA_TYPES[metric.kind])
        body += _field(b"\x12", metric.name.encode()) + _field(b"\x22", metric.help.encode())
        out.append(_field(_METADATA, body))
    return b"".join(out)


def compress(entries: bytes) -> bytes:
    """A WriteRequest's entries as a request body: snappy block format, without framing."""
    return bytes(cramjam.snappy.compress_raw(entries))


class Packer:
    """Fills requests with entries in the order given, at most `MAX_SAMPLES` samples in each."""

    def __init__(self, most: int = MAX_SAMPLES) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._count = 0
        self.requests: list[tuple[bytes, int]] = []  # body, samples

    def add(self, entries: bytes, samples: int) -> None:
        """Append whole entries that hold `samples` samples, at most `MAX_SAMPLES`."""
        if samples > self._most:
            raise ValueError(f"{samples} samples do not fit a request of {self._most}")
        if self._count + samples > self._most:
            self.close()
        self._parts.append(entries)
        self._count += samples

    def close(self) -> None:
        """End the request under way."""
        if self._parts:
            self.requests.append((compress(b"".join(self._parts)), self._count))
        self._parts = []
        self._count = 0
