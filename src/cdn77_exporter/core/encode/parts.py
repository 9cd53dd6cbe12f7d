"""Parts of requests: what is encoded as one request taken apart by series, and put together again in fewer of them.

What is read has one form, whichever version of remote write it was written in, and is written back in the same one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import cramjam
from google.protobuf.message import DecodeError, Message

from cdn77_exporter.core.encode import remote_write_2_pb2 as pb2
from cdn77_exporter.core.encode.blocks import compress
from cdn77_exporter.core.encode.remote_write_2 import Symbols
from cdn77_exporter.core.encode.remote_write_pb2 import Histogram, Label, TimeSeries, WriteRequest
from cdn77_exporter.core.encode.request_limit import RequestLimit
from cdn77_exporter.core.encode.version import version_of
from cdn77_exporter.core.encode.wire import field_bytes

_KNOWN_LABELS = 8192
_UNREADABLE = (cramjam.DecompressionError, DecodeError, IndexError)


class About(NamedTuple):
    """The metadata of a series of remote write 2.0: type and help of its metric, and when it began."""

    kind: int = 0
    help: str = ""
    created_ms: int = 0


class Series(NamedTuple):
    """All that a request has of one series: its labels as 1.0 encodes them, and its entries in their order.

    `about`: None in a request of remote write 1.0.
    """

    labels: bytes
    entries: list[TimeSeries]
    about: About | None = None

    @property
    def samples(self) -> int:
        """The number of its samples."""
        return sum(len(entry.samples) + len(entry.histograms) for entry in self.entries)

    def moments(self) -> list[Series]:
        """Return it as several, with one sample each, in their order."""
        found = []
        for entry in self.entries:
            alone = [TimeSeries(labels=entry.labels, samples=[one]) for one in entry.samples]
            alone += [TimeSeries(labels=entry.labels, histograms=[one]) for one in entry.histograms]
            found += [self._replace(entries=[one]) for one in alone]
        return found

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


@lru_cache(_KNOWN_LABELS)
def _texts(labels: bytes) -> tuple[str, ...]:
    """Return the names and values of encoded labels, one after the other."""
    return tuple(text for label in TimeSeries.FromString(labels).labels for text in (label.name, label.value))


def series_in(body: bytes) -> list[Series]:
    """Return the series of a request in their order; of one that cannot be read, none."""
    read = _read_2 if version_of(body) == 2 else _read_1
    found: dict[bytes, Series] = {}
    try:
        for entry, about in read(bytes(cramjam.snappy.decompress_raw(body))):
            labels = TimeSeries(labels=entry.labels).SerializeToString()
            found.setdefault(labels, Series(labels, [], about)).entries.append(entry)
    except _UNREADABLE:
        return []
    return list(found.values())


def _read_1(plain: bytes) -> Iterator[tuple[TimeSeries, None]]:
    return ((entry, None) for entry in WriteRequest.FromString(plain).timeseries)


def _read_2(plain: bytes) -> Iterator[tuple[TimeSeries, About]]:
    request = pb2.Request.FromString(plain)
    symbols = request.symbols
    for entry in request.timeseries:
        refs = entry.labels_refs
        labels = [
            Label(name=symbols[name], value=symbols[text]) for name, text in zip(refs[::2], refs[1::2], strict=True)
        ]
        read = TimeSeries(labels=labels)
        # A sample has the same bytes in both versions, and so has a histogram.
        read.MergeFromString(pb2.TimeSeries(samples=entry.samples).SerializeToString())
        read.histograms.extend(Histogram.FromString(one.SerializeToString()) for one in entry.histograms)
        about = About(entry.metadata.type, symbols[entry.metadata.help_ref], entry.created_timestamp)
        yield read, about


def _entries_2(series: Series, about: About, symbols: Symbols) -> Iterator[pb2.TimeSeries]:
    refs = [symbols.number(text) for text in _texts(series.labels)]
    metadata = pb2.Metadata(type=about.kind, help_ref=symbols.number(about.help))  # type: ignore[arg-type] # any number
    for entry in series.entries:
        written = pb2.TimeSeries(labels_refs=refs, created_timestamp=about.created_ms)
        if about.kind or about.help:
            written.metadata.CopyFrom(metadata)
        written.MergeFromString(TimeSeries(samples=entry.samples).SerializeToString())
        written.histograms.extend(pb2.Histogram.FromString(one.SerializeToString()) for one in entry.histograms)
        yield written


def has_histograms(body: bytes) -> bool:
    """Return whether a request is one of native histograms; they share none with other series."""
    form = pb2.Request if version_of(body) == 2 else WriteRequest
    try:
        entries = form.FromString(bytes(cramjam.snappy.decompress_raw(body))).timeseries
    except _UNREADABLE:
        return False
    return bool(entries and entries[0].histograms)


def mentions(body: bytes, labels: Iterable[bytes]) -> bool:
    """Return whether a request may have one of these series, at a small part of the cost of reading it."""
    try:
        plain = bytes(cramjam.snappy.decompress_raw(body))
        if version_of(body) == 1:
            return any(one in plain for one in labels)
        texts = set(pb2.Request.FromString(plain).symbols)
    except _UNREADABLE:
        return False
    return any(texts.issuperset(_texts(one)) for one in labels)


def request_of(series: Sequence[Series]) -> bytes:
    """Return a request of these series, in the version that they were read from."""
    if series and series[0].about is not None:
        return _request_2(series)
    request = WriteRequest()
    for one in series:
        request.timeseries.extend(one.entries)
    return compress(request.SerializeToString())


def _request_2(series: Sequence[Series]) -> bytes:
    symbols = Symbols()
    entries = [entry for one in series for entry in _entries_2(one, one.about or About(), symbols)]
    return compress(symbols.encoded() + pb2.Request(timeseries=entries).SerializeToString())


#: A request of remote write 2.0 that has nothing in it.
NOTHING_2 = _request_2(())


def in_version(body: bytes, version: int) -> bytes:
    """Return the same content in a version of remote write; what 1.0 does not say of series is unknown in 2.0."""
    if version_of(body) == version:
        return body
    about = About() if version == 2 else None
    return request_of([one._replace(about=about) for one in series_in(body)])


def size_of(body: bytes) -> int:
    """Return the bytes of a request before compression; of one that cannot be read, its own."""
    try:
        return int(cramjam.snappy.decompress_raw_len(body))
    except cramjam.DecompressionError:
        return len(body)


def within(series: Sequence[Series], limit: RequestLimit) -> list[list[Series]]:
    """Return the series in their order, in groups that a request may hold; one that is too large is alone."""
    groups: list[list[Series]] = []
    filled = _Filled()
    for one in series:
        filled.add(one)
        if not groups or not limit.allows(filled.samples, filled.size):
            groups.append([])
            filled = _Filled()
            filled.add(one)
        groups[-1].append(one)
    return groups


class _Filled:
    """The size of a request so far: its samples, and its bytes before compression.

    Both are exact: a part that was larger than the limit that it was made for would be taken apart again, for ever.
    """

    def __init__(self) -> None:
        self.samples = self._entries = 0
        self._symbols: Symbols | None = None

    @property
    def size(self) -> int:
        """The bytes."""
        return self._entries + (self._symbols.size if self._symbols else 0)

    def add(self, one: Series) -> None:
        """Add a series."""
        self.samples += one.samples
        entries: Iterable[Message] = one.entries
        if one.about is not None:
            self._symbols = self._symbols or Symbols()
            entries = _entries_2(one, one.about, self._symbols)
        self._entries += sum(field_bytes(entry.ByteSize()) for entry in entries)


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
