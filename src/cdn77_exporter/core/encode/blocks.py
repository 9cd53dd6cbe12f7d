"""Requests put together from entries that are encoded once a series; what all versions of remote write share.

Every entry is made by the classes generated from `proto/`. A sample is the last field of its entry, and has a fixed
length in it (a Unix millisecond timestamp from 1971 to 2109 is a varint of six bytes; the value is there even when it
is zero), so a tick only overwrites eight plus six bytes of each entry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import ClassVar

import cramjam
import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.catalogue import Catalogue, External, Metric, split_key
from cdn77_exporter.core.encode import remote_write_pb2 as pb
from cdn77_exporter.core.encode.histograms import HistogramEntries
from cdn77_exporter.core.encode.request_limit import MAX_SAMPLES, RequestLimit
from cdn77_exporter.core.encode.wire import varint
from cdn77_exporter.core.measures import PART, Measure
from cdn77_exporter.core.series import Frame, SeriesTable

#: The most bytes of a request before it is compressed; a native histogram may have some hundred buckets.
MAX_BYTES = 1024 * 1024

# Where a Sample's parts begin, counted from the end of an entry, whose last field it is.
_SAMPLE_BYTES, _VALUE_AT, _TIMESTAMP_AT, _TIMESTAMP_BYTES = 18, 15, 6, 6
_KNOWN_RUNS = 500

Encoded = tuple[bytes, int]  # body, samples
_Places = npt.NDArray[np.int64]
_Values = npt.NDArray[np.float64]


def samples_bytes(samples: Sequence[pb.Sample]) -> bytes:
    """Return samples as they stand in a TimeSeries; one with a value or a time of zero has neither field."""
    return bytes(pb.TimeSeries(samples=samples).SerializeToString())


#: Its value and its timestamp are overwritten before it is sent; neither may be a default, which is left out.
_ANY_SAMPLE_BYTES = samples_bytes([pb.Sample(value=1.0, timestamp=1 << 40)])


def compress(entries: bytes) -> bytes:
    """Return a request's entries as a request body: snappy block format, without framing."""
    return bytes(cramjam.snappy.compress_raw(entries))


def timestamp_bytes(timestamp_ms: int) -> bytes:
    """Return a Unix millisecond timestamp as its varint of six bytes; raises ValueError outside 1971 to 2109."""
    encoded = samples_bytes([pb.Sample(timestamp=timestamp_ms)])[3:]
    if len(encoded) != _TIMESTAMP_BYTES or timestamp_ms < 0:
        raise ValueError(f"timestamp {timestamp_ms} ms is outside the years 1971 to 2109")
    return encoded


@cache
def _order(names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Return the label names sorted, the metric's own name among them, each with the place of its value."""
    return tuple(sorted([("__name__", 0), *((name, place) for place, name in enumerate(names, 1))]))


def label_pairs(metric: Metric | Measure, values: Sequence[str], external: External) -> list[tuple[str, str]]:
    """Return a series' labels and the `external` ones, sorted by name as the specification demands.

    Empty values are left out, and which part of a native histogram it is. Raises ValueError when there are not as many
    values as the metric has labels.
    """
    names = metric.labels
    if len(values) != len(names):
        raise ValueError(f"{metric.name} has {len(names)} labels, not {len(values)}")
    texts = (metric.name, *values, *(text for _, text in external))
    order = _order((*names, *(name for name, _ in external)))
    return [(name, texts[place]) for name, place in order if texts[place] and name != PART]


def valid_text(text: str) -> str:
    """Return a text that can be encoded: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode()


class _Block:
    """Encoded entries with one sample each, whose values and timestamps are overwritten in place."""

    __slots__ = ("_bytes", "_lengths", "_values")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._lengths = np.zeros(0, np.int64)
        self._values = np.zeros(0, np.int64)  # where each value begins

    def put(self, entries: Mapping[int, bytes]) -> None:
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

    def head(self, place: int) -> bytes:
        """Return what stands before the sample of an entry."""
        value_at = int(self._values[place])
        begin = value_at + _VALUE_AT - int(self._lengths[place]) + 1  # behind the tag
        while self._bytes[begin] & 0x80:  # and the length
            begin += 1
        return bytes(self._bytes[begin + 1 : value_at + _VALUE_AT - _SAMPLE_BYTES])

    def encode(self, places: _Places, values: _Values, stamp: npt.NDArray[np.uint8]) -> bytes:
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


class Packer:
    """Fills requests with entries in the order given, at most `MAX_SAMPLES` and `MAX_BYTES` and what `limit` allows.

    `prefix`: returns what every request begins with, as soon as all entries are known.
    """

    def __init__(self, limit: RequestLimit, prefix: Callable[[], bytes] = bytes) -> None:
        self._most_samples = min(MAX_SAMPLES, limit.samples)
        self._most_bytes = min(MAX_BYTES, limit.size)
        self._prefix = prefix
        self._parts: list[bytes] = []
        self._count = self._size = 0
        self._full: list[tuple[list[bytes], int]] = []

    def may_hold(self, entries: bytes, samples: int) -> bool:
        """Return whether one request may hold them."""
        return samples <= self._most_samples and len(entries) <= self._most_bytes

    def add(self, entries: bytes, samples: int) -> None:
        """Append whole entries that hold `samples` samples; those that no request may hold get one of their own."""
        if self._count + samples > self._most_samples or self._size + len(entries) > self._most_bytes:
            self._close()
        self._parts.append(entries)
        self._count += samples
        self._size += len(entries)

    def _close(self) -> None:
        """End the request that is being filled."""
        if self._parts:
            self._full.append((self._parts, self._count))
        self._parts = []
        self._count = self._size = 0

    def requests(self) -> list[Encoded]:
        """Return the requests."""
        self._close()
        prefix = self._prefix() if self._full else b""
        return [(compress(b"".join((prefix, *parts))), count) for parts, count in self._full]


class BlockEncoder(ABC):
    """Encodes the frames of one table of series; keeps an encoded entry for each of them."""

    #: The series of a block, and the tag of an entry in a request.
    BLOCK: ClassVar[int]
    TAG: ClassVar[bytes]

    def __init__(self, catalogue: Catalogue, histograms: HistogramEntries) -> None:
        self._catalogue = catalogue
        self._blocks: list[_Block] = []
        self._histograms = histograms
        self._known: list[npt.NDArray[np.integer]] = []  # `_marks` of what is encoded

    @abstractmethod
    def _head(self, series: SeriesTable, slot: int) -> bytes:
        """Return what stands before the samples in the entry of a series."""

    @abstractmethod
    def _packer(self, packers: dict[int, Packer], block: int) -> Packer:
        """Return the one of the packers that takes the entries of a block."""

    def _marks(self, series: SeriesTable) -> tuple[npt.NDArray[np.integer], ...]:
        """Return what an entry has to follow [slots]."""
        return (series.born,)

    def encode(self, series: SeriesTable, frames: Iterable[Frame]) -> list[Encoded]:
        """Return request bodies with their numbers of samples, in the order in which they must be sent.

        Native histograms are in requests of their own, behind the others: some receivers refuse all of such a request.
        """
        self._take_in(series)
        samples: dict[int, Packer] = {}
        histograms: dict[int, Packer] = {}
        for both in frames:
            is_part = series.wholes.is_part[both.slots]
            frame = both.of(~is_part) if is_part.any() else both
            if is_part.any():
                self._encode_histograms(series, both.of(is_part), histograms)
            if not len(frame.slots):
                continue
            if len(frame.times_ms) == 1:
                self._encode(frame, samples)
            else:
                self._encode_runs(frame, samples)
        packers = [*samples.values(), *histograms.values()]
        return [request for packer in packers for request in packer.requests()]

    def _take_in(self, series: SeriesTable) -> None:
        """Encode the entries of series that are new, have changed, or have the slot of one that is gone."""
        new = self._new(series)
        if not len(new):
            return
        self._histograms.forget(new, series.end)
        blocks = new // self.BLOCK
        while len(self._blocks) <= blocks[-1]:
            self._blocks.append(_Block())
        for number in np.unique(blocks).tolist():
            self._take_in_block(series, number, new[blocks == number])

    def _new(self, series: SeriesTable) -> _Places:
        end = series.end
        changed = np.zeros(end, np.bool_)
        for place, column in enumerate(self._marks(series)):
            if place == len(self._known):
                self._known.append(np.zeros(0, column.dtype))
            known = self._known[place]
            if len(known) < end:
                more = np.zeros(max(end, len(known) * 5 // 4) - len(known), column.dtype)
                known = self._known[place] = np.concatenate((known, more))
            changed |= known[:end] != column[:end]
        new = np.flatnonzero(changed & series.there[:end])
        for known, column in zip(self._known, self._marks(series), strict=True):
            known[new] = column[new]
        return new

    def _take_in_block(self, series: SeriesTable, number: int, slots: _Places) -> None:
        """Encode the entries of some slots of a block."""
        alone = slots[~series.wholes.is_part[slots]].tolist()
        begin = number * self.BLOCK
        self._blocks[number].put({slot - begin: self._entry(self._head(series, slot)) for slot in alone})

    def _entry(self, head: bytes) -> bytes:
        """Return an entry with any one sample."""
        return b"".join((self.TAG, varint(len(head) + _SAMPLE_BYTES), head, _ANY_SAMPLE_BYTES))

    def _metric(self, key: str) -> tuple[Metric, list[str]]:
        """Return the metric of a series, and the values of its labels."""
        code, values = split_key(key)
        metric = self._catalogue.metric(code)
        if metric is None:
            raise KeyError(f"no metric has the number {code}")
        return metric, values

    def _encode_histograms(self, series: SeriesTable, frame: Frame, packers: dict[int, Packer]) -> None:
        times = len(frame.times_ms)

        def head(slot: int) -> bytes:
            return self._head(series, slot)

        if times == 1:
            entries = self._histograms.encode(series, frame, timestamp_bytes(frame.times_ms[0]), head)
        else:
            entries = self._histograms.encode_runs(series, frame, head)
        for whole, entry in entries:
            self._packer(packers, whole // self.BLOCK).add(entry, times)

    def _encode(self, frame: Frame, packers: dict[int, Packer]) -> None:
        """Encode one sample a series, block by block."""
        stamp = np.frombuffer(timestamp_bytes(frame.times_ms[0]), np.uint8)
        slots, values = frame.slots, frame.values
        blocks = slots // self.BLOCK
        starts = np.flatnonzero(np.append(True, blocks[1:] != blocks[:-1]))
        ends = np.append(starts[1:], len(slots))
        for begin, end in zip(starts.tolist(), ends.tolist(), strict=True):
            number = int(blocks[begin])
            places = slots[begin:end] - number * self.BLOCK
            packer = self._packer(packers, number)
            self._encode_block(self._blocks[number], places, values[begin:end], stamp, packer)

    def _encode_block(
        self, block: _Block, places: _Places, values: _Values, stamp: npt.NDArray[np.uint8], packer: Packer
    ) -> None:
        entries = block.encode(places, values, stamp)
        if len(places) == 1 or packer.may_hold(entries, len(places)):
            packer.add(entries, len(places))
            return
        middle = len(places) // 2
        self._encode_block(block, places[:middle], values[:middle], stamp, packer)
        self._encode_block(block, places[middle:], values[middle:], stamp, packer)

    def _encode_runs(self, frame: Frame, packers: dict[int, Packer]) -> None:
        """Encode several samples a series, all with one value: the entry of one with more samples behind its head."""
        runs: dict[float, bytes] = {}
        for slot, value in zip(frame.slots.tolist(), frame.values.tolist(), strict=True):
            run = runs.get(value)
            if run is None:
                run = samples_bytes([pb.Sample(value=value, timestamp=at_ms) for at_ms in frame.times_ms])
                if len(runs) < _KNOWN_RUNS:
                    runs[value] = run
            number, place = divmod(slot, self.BLOCK)
            head = self._blocks[number].head(place)
            entry = b"".join((self.TAG, varint(len(head) + len(run)), head, run))
            self._packer(packers, number).add(entry, len(frame.times_ms))
