"""Parts of requests: what is encoded as one request taken apart by series, and put together again in fewer of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cramjam
from google.protobuf.message import DecodeError

from cdn77_exporter.core.encode.remote_write_1 import compress
from cdn77_exporter.core.encode.remote_write_pb2 import TimeSeries, WriteRequest
from cdn77_exporter.core.encode.request_limit import RequestLimit

_FRAME_BYTES = 3  # around an entry: its tag and its length


class Series(NamedTuple):
    """All that a request has of one series: its labels as they are encoded, and its entries in their order."""

    labels: bytes
    entries: list[TimeSeries]

    @property
    def samples(self) -> int:
        """The number of its samples."""
        return sum(len(entry.samples) + len(entry.histograms) for entry in self.entries)

    @property
    def size(self) -> int:
        """The bytes that it takes in a request, before compression."""
        return sum(entry.ByteSize() + _FRAME_BYTES for entry in self.entries)

    def __str__(self) -> str:
        labels = {label.name: label.value for label in self.entries[0].labels}
        name = labels.pop("__name__", "")
        return name + "{" + ", ".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


class Sent(NamedTuple):
    """One sample of a request: the labels of its series, its Unix milliseconds and its value.

    `observations`: how many, of a native histogram, whose value is their sum; None for any other sample.
    """

    labels: dict[str, str]
    at_ms: int
    value: float
    observations: float | None = None


def series_in(body: bytes) -> list[Series]:
    """Return the series of a request in their order; of one that cannot be read, none."""
    try:
        request = WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body)))
    except (cramjam.DecompressionError, DecodeError):
        return []
    found: dict[bytes, Series] = {}
    for entry in request.timeseries:
        labels = TimeSeries(labels=entry.labels).SerializeToString()
        found.setdefault(labels, Series(labels, [])).entries.append(entry)
    return list(found.values())


def has_histograms(body: bytes) -> bool:
    """Return whether a request is one of native histograms; they share none with other series."""
    try:
        entries = WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body))).timeseries
    except (cramjam.DecompressionError, DecodeError):
        return False
    return bool(entries and entries[0].histograms)


def mentions(body: bytes, labels: Iterable[bytes]) -> bool:
    """Return whether a request may have one of these series, at a small part of the cost of reading it."""
    try:
        entries = bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError:
        return False
    return any(one in entries for one in labels)


def request_of(series: Sequence[Series]) -> bytes:
    """Return a request of these series."""
    request = WriteRequest()
    for one in series:
        request.timeseries.extend(one.entries)
    return compress(request.SerializeToString())


def size_of(body: bytes) -> int:
    """Return the bytes of a request before compression; of one that cannot be read, its own."""
    try:
        return int(cramjam.snappy.decompress_raw_len(body))
    except cramjam.DecompressionError:
        return len(body)


def within(series: Sequence[Series], limit: RequestLimit) -> list[list[Series]]:
    """Return the series in their order, in groups that a request may hold; one that is too large is alone."""
    groups: list[list[Series]] = []
    samples = size = 0
    for one in series:
        samples, size = samples + one.samples, size + one.size
        if not groups or not limit.allows(samples, size):
            groups.append([])
            samples, size = one.samples, one.size
        groups[-1].append(one)
    return groups


def last_sample(body: bytes) -> Sent | None:
    """Return the last sample of a request that is a number, such as a query can find; None without any."""
    for series in reversed(series_in(body)):
        for entry in reversed(series.entries):
            labels = {label.name: label.value for label in entry.labels}
            found = [Sent(labels, sample.timestamp, sample.value) for sample in entry.samples]
            found += [Sent(labels, one.timestamp, one.sum, float(one.count_int)) for one in entry.histograms]
            for sent in reversed(found):
                if not math.isnan(sent.value):
                    return sent
    return None
