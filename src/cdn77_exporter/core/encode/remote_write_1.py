"""Remote write 1.0: frames as request bodies, put together from entries that are encoded once a series.

Every entry is made by the classes generated from `proto/`. A sample has a fixed length in it (a Unix millisecond
timestamp from 1971 to 2109 is a varint of six bytes; the value is there even when it is zero), so a tick only
overwrites eight plus six bytes of each entry.

Source: Prometheus Remote-Write 1.0 specification (prometheus.io/docs/specs/prw/remote_write_spec).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from math import isnan

import cramjam
import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.catalogue import Catalogue, External, Metric, series_key, split_key
from cdn77_exporter.core.encode import remote_write_pb2 as pb
from cdn77_exporter.core.encode.histograms import HistogramEntries, decoded
from cdn77_exporter.core.encode.remote_write_pb2 import Label, MetricMetadata, TimeSeries, WriteRequest
from cdn77_exporter.core.encode.request_limit import MAX_SAMPLES, RequestLimit
from cdn77_exporter.core.measures import PART, Kind, Measure
from cdn77_exporter.core.owed import Sample
from cdn77_exporter.core.series import Frame, SeriesTable
from cdn77_exporter.core.wholes import SUM_NUMBER

#: The most bytes of a request before it is compressed; a native histogram may have some hundred buckets.
MAX_BYTES = 1024 * 1024

_BLOCK = 500  # series
# Where a Sample's parts begin, counted from the end of an entry, whose last field it is.
_SAMPLE_BYTES, _VALUE_AT, _TIMESTAMP_AT, _TIMESTAMP_BYTES = 18, 15, 6, 6
#: Its value and its timestamp are overwritten before it is sent; neither may be a default, which is left out.
_ANY_SAMPLE = pb.Sample(value=1.0, timestamp=1 << 40)
#: Labels that are kept: most series share theirs with many others.
_KNOWN_LABELS = 8192
_TYPES = {
    Kind.COUNTER: MetricMetadata.COUNTER,
    Kind.GAUGE: MetricMetadata.GAUGE,
    Kind.SUMMARY: MetricMetadata.SUMMARY,
    Kind.HISTOGRAM: MetricMetadata.HISTOGRAM,
}

Encoded = tuple[bytes, int]  # body, samples
_TAG = b"\x0a"  # of an entry in a request
_Flags = npt.NDArray[np.bool_]


@lru_cache(_KNOWN_LABELS)
def _label(name: str, value: str) -> Label:
    return Label(name=name, value=value.encode("utf-8", "replace").decode())


def _samples_bytes(samples: Sequence[pb.Sample]) -> bytes:
    """Return samples as they stand in a TimeSeries; one with a value or a time of zero has neither field."""
    return bytes(TimeSeries(samples=samples).SerializeToString())


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


@lru_cache(_KNOWN_LABELS)
def _label_bytes(name: str, value: str) -> bytes:
    """Return a label as it stands in a TimeSeries."""
    return bytes(TimeSeries(labels=[_label(name, value)]).SerializeToString())


_ANY_SAMPLE_BYTES = _samples_bytes([_ANY_SAMPLE])


@cache
def _order(names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Return the label names sorted, the metric's own name among them, each with the place of its value."""
    return tuple(sorted([("__name__", 0), *((name, place) for place, name in enumerate(names, 1))]))


def labels_of(metric: Metric | Measure, values: Sequence[str], external: External = ()) -> list[Label]:
    """Return a series' labels and the `external` ones, sorted by name as the specification demands.

    Empty values are left out, and which part of a native histogram it is. Raises ValueError when there are not as many
    values as the metric has labels.
    """
    return [_label(name, text) for name, text in _pairs_of(metric, values, external)]


def _pairs_of(metric: Metric | Measure, values: Sequence[str], external: External) -> list[tuple[str, str]]:
    names = metric.labels
    if len(values) != len(names):
        raise ValueError(f"{metric.name} has {len(names)} labels, not {len(values)}")
    texts = (metric.name, *values, *(text for _, text in external))
    order = _order((*names, *(name for name, _ in external)))
    return [(name, texts[place]) for name, place in order if texts[place] and name != PART]


def series_entry(labels: Sequence[Label], samples: Sequence[pb.Sample]) -> bytes:
    """Return one TimeSeries as it stands in a WriteRequest, with its tag and length."""
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.extend(labels)
    series.samples.extend(samples)
    return bytes(request.SerializeToString())


def metadata_entries(measures: Iterable[Measure]) -> bytes:
    """Return type, name and help of metrics as they stand in a WriteRequest."""
    request = WriteRequest()
    for family in dict.fromkeys(measure.family for measure in measures):
        request.metadata.add(type=_TYPES[family.kind], metric_family_name=family.name, help=family.help)
    return bytes(request.SerializeToString())


def compress(entries: bytes) -> bytes:
    """Return a WriteRequest's entries as a request body: snappy block format, without framing."""
    return bytes(cramjam.snappy.compress_raw(entries))


def timestamp_bytes(timestamp_ms: int) -> bytes:
    """Return a Unix millisecond timestamp as its varint of six bytes; raises ValueError outside 1971 to 2109."""
    encoded = bytes(TimeSeries(samples=[pb.Sample(timestamp=timestamp_ms)]).SerializeToString())[3:]
    if len(encoded) != _TIMESTAMP_BYTES or timestamp_ms < 0:
        raise ValueError(f"timestamp {timestamp_ms} ms is outside the years 1971 to 2109")
    return encoded


def samples_of(body: bytes, series: SeriesTable, tick_seconds: int) -> list[Sample]:
    """Return the samples of a request body whose series are still there, in its order.

    A native histogram has a sample for each of its parts, 0 for those that were not there yet, one after the other.
    """
    found = []
    for slots, entry in _slots_of(body, series):
        for at_ms, values in _values_of(entry, slots, series):
            tick = at_ms // 1000 // tick_seconds * tick_seconds
            found += [
                Sample(slot, tick, _counted(value, int(series.per[slot])))
                for slot, value in zip(slots, values, strict=True)
            ]
    return found


def _values_of(entry: TimeSeries, slots: Sequence[int], series: SeriesTable) -> Iterator[tuple[int, list[float]]]:
    """Yield the time (Unix ms) of each sample of an entry with its value for each of the slots."""
    if not slots:
        return
    for sample in entry.samples:
        yield sample.timestamp, [sample.value] * len(slots)
    for histogram in map(decoded, entry.histograms):
        values = {**histogram.counts, SUM_NUMBER: histogram.total}
        none = histogram.total if histogram.is_stale else 0.0
        yield histogram.at_ms, [values.get(int(series.wholes.number[slot]), none) for slot in slots]


def without(body: bytes, series: SeriesTable, slots: Collection[int]) -> bytes:
    """Return a request body without the series of some slots; nothing when it has no others."""
    kept = [entry for own, entry in _slots_of(body, series) if not own or own[0] not in slots]
    return compress(WriteRequest(timeseries=kept).SerializeToString()) if kept else b""


def _slots_of(body: bytes, series: SeriesTable) -> Iterator[tuple[Sequence[int], TimeSeries]]:
    """Yield each entry of a request body with the slots of its series or its parts; none when it is gone."""
    metrics: dict[str, list[tuple[int, Metric]]] = {}
    for code, metric in enumerate(series.catalogue.metrics):
        if metric:
            metrics.setdefault(metric.name, []).append((code, metric))
    for entry in WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body))).timeseries:
        texts = {label.name: label.value for label in entry.labels}
        found = (_slots_in(series, code, metric, texts) for code, metric in metrics.get(texts["__name__"], ()))
        yield next(filter(None, found), ()), entry


def _slots_in(series: SeriesTable, code: int, metric: Metric, texts: dict[str, str]) -> Sequence[int]:
    """Return the slots of the metric's series that has these labels; none when there is none."""
    fixed = (*metric.external, *metric.constants)
    named = {*metric.labels, *dict(metric.external), "__name__"}
    if not texts.keys() <= named or any(texts.get(name) != text for name, text in fixed):
        return ()
    values = [texts.get(label, "") for label in metric.labels]
    if metric.native:
        return series.wholes.find(metric.whole(values))
    slot = series.find(series_key(code, values))
    return () if slot is None else (slot,)


def _counted(value: float, per: int) -> float:
    """Return what was counted, of which `per` are 1 in a sample: a whole number, which the division has rounded."""
    return value if per == 1 or isnan(value) else float(round(value * per))


class _Block:
    """Up to `_BLOCK` encoded entries with one sample each, whose values and timestamps are overwritten in place."""

    __slots__ = ("_bytes", "_lengths", "_values")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._lengths = np.zeros(0, np.int64)
        self._values = np.zeros(0, np.int64)  # where each value begins

    def put(self, entries: dict[int, bytes]) -> None:
        """Put entries in their places [place -> entry]; those that were there before are replaced."""
        ends = np.cumsum(self._lengths)
        begins = ends - self._lengths
        parts = [bytes(self._bytes[begin:end]) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        parts += [b""] * (max(entries, default=-1) + 1 - len(parts))  # for slots that no series has
        for place, entry in entries.items():
            parts[place] = entry
        self._bytes = bytearray(b"".join(parts))
        self._lengths = np.array([len(part) for part in parts], np.int64)
        self._values = np.cumsum(self._lengths) - _VALUE_AT

    def labels(self, place: int) -> bytes:
        """Return the labels of an entry, as they are encoded in it."""
        value_at = int(self._values[place])
        begin = value_at + _VALUE_AT - int(self._lengths[place]) + 1  # behind the tag
        while self._bytes[begin] & 0x80:  # and the length
            begin += 1
        return bytes(self._bytes[begin + 1 : value_at + _VALUE_AT - _SAMPLE_BYTES])

    def encode(
        self, places: npt.NDArray[np.int64], values: npt.NDArray[np.float64], stamp: npt.NDArray[np.uint8]
    ) -> bytes:
        """Return the entries at some places, in their order, with these values and the timestamp `stamp`."""
        content = np.frombuffer(self._bytes, np.uint8)
        starts = self._values[places]
        content[np.add.outer(starts, np.arange(8))] = values.view(np.uint8).reshape(-1, 8)
        gap = _VALUE_AT - _TIMESTAMP_AT
        content[np.add.outer(starts + gap, np.arange(_TIMESTAMP_BYTES))] = stamp
        if len(places) == len(self._lengths):
            return content.tobytes()
        chosen = np.zeros(len(self._lengths), np.bool_)
        chosen[places] = True
        return content[np.repeat(chosen, self._lengths)].tobytes()


class RemoteWrite1:
    """Encodes the frames of one table of series; keeps an encoded entry for each of them.

    `limit`: how large requests may be now, if that is less than `MAX_SAMPLES`.
    """

    def __init__(self, catalogue: Catalogue, limit: RequestLimit | None = None) -> None:
        self._catalogue = catalogue
        self._limit = limit or RequestLimit()
        self._blocks: list[_Block] = []
        self._born: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)  # which series of a slot the entry is of
        self._histograms = HistogramEntries(self._labels)

    def encode(self, series: SeriesTable, frames: Iterable[Frame]) -> list[Encoded]:
        """Return request bodies with their numbers of samples, in the order in which they must be sent.

        Native histograms are in requests of their own, behind the others: some receivers refuse all of such a request.
        """
        self._take_in(series)
        packer, histograms = _Packer(self._limit), _Packer(self._limit)
        for both in frames:
            is_part = series.wholes.is_part[both.slots]
            frame = both.of(~is_part) if is_part.any() else both
            if is_part.any():
                self._encode_histograms(series, both.of(is_part), histograms)
            if not len(frame.slots):
                continue
            if len(frame.times_ms) == 1:
                self._encode(frame, packer)
            else:
                self._encode_runs(frame, packer)
        packer.close()
        histograms.close()
        return packer.requests + histograms.requests

    def describe(self, measures: Iterable[Measure]) -> bytes:
        """Return a request body that holds the metadata of metrics."""
        return compress(metadata_entries(measures))

    def _take_in(self, series: SeriesTable) -> None:
        """Encode the entries of series that are new, or have the slot of one that is gone."""
        end = series.end
        if len(self._born) < end:
            more = np.zeros(max(end, len(self._born) * 5 // 4) - len(self._born), np.uint32)
            self._born = np.concatenate((self._born, more))
        new = np.flatnonzero((self._born[:end] != series.born[:end]) & series.there[:end])
        for begin in range(0, end, _BLOCK) if len(new) else ():
            own = new[np.searchsorted(new, begin) : np.searchsorted(new, begin + _BLOCK)].tolist()
            if not own:
                continue
            while len(self._blocks) <= begin // _BLOCK:
                self._blocks.append(_Block())
            alone = [slot for slot in own if not series.wholes.is_part[slot]]
            entries = {slot - begin: self._entry(series.key(slot)) for slot in alone}
            self._blocks[begin // _BLOCK].put(entries)
        self._born[new] = series.born[new]

    def _entry(self, key: str) -> bytes:
        """Return the entry of a series with any one sample: its labels, each encoded once for many series."""
        labels = self._labels(key)
        return b"".join((_TAG, _varint(len(labels) + _SAMPLE_BYTES), labels, _ANY_SAMPLE_BYTES))

    def _labels(self, key: str) -> bytes:
        """Return the labels of a series as they stand in a TimeSeries."""
        return b"".join([_label_bytes(name, text) for name, text in self._pairs(key)])

    def _pairs(self, key: str) -> list[tuple[str, str]]:
        code, values = split_key(key)
        metric = self._catalogue.metric(code)
        if metric is None:
            raise KeyError(f"no metric has the number {code}")
        return _pairs_of(metric, values, metric.external)

    def _encode_histograms(self, series: SeriesTable, frame: Frame, packer: _Packer) -> None:
        times = len(frame.times_ms)
        if times == 1:
            entries = self._histograms.encode(series, frame, timestamp_bytes(frame.times_ms[0]))
        else:
            entries = self._histograms.encode_runs(series, frame)
        for entry in entries:
            packer.add(entry, times)

    def _encode(self, frame: Frame, packer: _Packer) -> None:
        """Encode one sample a series, block by block."""
        stamp = np.frombuffer(timestamp_bytes(frame.times_ms[0]), np.uint8)
        slots, values = frame.slots, frame.values
        blocks = slots // _BLOCK
        starts = np.flatnonzero(np.append(True, blocks[1:] != blocks[:-1])) if len(slots) else blocks
        ends = np.append(starts[1:], len(slots))
        for begin, end in zip(starts.tolist(), ends.tolist(), strict=True):
            number = int(blocks[begin])
            places = slots[begin:end] - number * _BLOCK
            self._encode_block(self._blocks[number], places, values[begin:end], stamp, packer)

    def _encode_block(
        self,
        block: _Block,
        places: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        stamp: npt.NDArray[np.uint8],
        packer: _Packer,
    ) -> None:
        entries = block.encode(places, values, stamp)
        if len(places) == 1 or packer.may_hold(entries, len(places)):
            packer.add(entries, len(places))
            return
        middle = len(places) // 2
        self._encode_block(block, places[:middle], values[:middle], stamp, packer)
        self._encode_block(block, places[middle:], values[middle:], stamp, packer)

    def _encode_runs(self, frame: Frame, packer: _Packer) -> None:
        """Encode several samples a series, all with one value: the entry of one with more samples behind its labels."""
        runs: dict[float, bytes] = {}
        for slot, value in zip(frame.slots.tolist(), frame.values.tolist(), strict=True):
            run = runs.get(value)
            if run is None:
                run = _samples_bytes([pb.Sample(value=value, timestamp=at_ms) for at_ms in frame.times_ms])
                if len(runs) < _BLOCK:
                    runs[value] = run
            labels = self._blocks[slot // _BLOCK].labels(slot % _BLOCK)
            packer.add(b"".join((_TAG, _varint(len(labels) + len(run)), labels, run)), len(frame.times_ms))


class _Packer:
    """Fills requests with entries in the order given, at most `MAX_SAMPLES` and `MAX_BYTES` and what `limit` allows."""

    def __init__(self, limit: RequestLimit) -> None:
        self._most_samples = min(MAX_SAMPLES, limit.samples)
        self._most_bytes = min(MAX_BYTES, limit.size)
        self._parts: list[bytes] = []
        self._count = self._size = 0
        self.requests: list[Encoded] = []

    def may_hold(self, entries: bytes, samples: int) -> bool:
        """Return whether one request may hold them."""
        return samples <= self._most_samples and len(entries) <= self._most_bytes

    def add(self, entries: bytes, samples: int) -> None:
        """Append whole entries that hold `samples` samples; those that no request may hold get one of their own."""
        if self._count + samples > self._most_samples or self._size + len(entries) > self._most_bytes:
            self.close()
        self._parts.append(entries)
        self._count += samples
        self._size += len(entries)

    def close(self) -> None:
        """End the request that is being filled."""
        if self._parts:
            self.requests.append((compress(b"".join(self._parts)), self._count))
        self._parts = []
        self._count = self._size = 0
