"""Native histograms of remote write 1.0: the parts of a whole put together as one sample, and taken apart again.

An entry is encoded when one of its parts has changed; then only the timestamp, its last field, is overwritten.

Source: `prompb/types.proto` of Prometheus, and "Native histograms" of its documentation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.encode.remote_write_pb2 import BucketSpan, Histogram, Label, TimeSeries
from cdn77_exporter.core.series import Frame, SeriesTable
from cdn77_exporter.core.wholes import SUM_NUMBER, Flags, Slots

#: Neighbouring bounds are a factor of 2^(1/8) apart.
SCHEMA = 3
#: Observations below this would be counted apart from the buckets, whose bounds never reach 0; there are none.
ZERO_THRESHOLD = 1e-6
#: It is overwritten; as the last field of the last field its bytes are the last of an entry.
_ANY_TIME = 1 << 40
#: The tag of a series in a WriteRequest.
_TIMESERIES = b"\x0a"

_Numbers = npt.NDArray[np.int32]
_Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A native histogram sample: the counts of its buckets by their numbers, and the sum of what was observed."""

    at_ms: int
    counts: dict[int, float]
    total: float

    @property
    def is_stale(self) -> bool:
        """True if it only says that the series has ended."""
        return self.total != self.total  # not a number


def histogram_of(numbers: _Numbers, values: _Values, at_ms: int = _ANY_TIME) -> Histogram:
    """Return the sample of one whole: the numbers of its parts in any order, and their values [parts].

    A sum that is not a number makes a stale marker, which has nothing else.
    """
    (found,) = histograms_of(np.zeros(len(numbers), np.int64), numbers, values, at_ms)
    return found


def histograms_of(wholes: Slots, numbers: _Numbers, values: _Values, at_ms: int = _ANY_TIME) -> Iterator[Histogram]:
    """Yield the samples of several wholes, which are given for each part [parts], in the order of their numbers."""
    order = np.lexsort((numbers, wholes))
    wholes, numbers, values = wholes[order], numbers[order].astype(np.int64), values[order]
    which = np.cumsum(_changes(wholes)) - 1
    count = which[-1] + 1 if len(which) else 0
    is_sum = numbers == SUM_NUMBER
    totals = np.zeros(count)
    totals[which[is_sum]] = values[is_sum]
    filled = ~is_sum & (values > 0)
    which, buckets, counts = which[filled], numbers[filled], values[filled].astype(np.int64)
    observed = np.zeros(count, np.int64)
    np.add.at(observed, which, counts)
    first = _changes(which)
    deltas = np.where(first, counts, np.diff(counts, prepend=0)).tolist()
    begins = np.flatnonzero(first | (np.diff(buckets, prepend=0) > 1))  # of the spans
    offsets = (buckets[begins] - np.where(first[begins], 0, buckets[begins - 1] + 1)).tolist()
    lengths = np.diff(np.append(begins, len(buckets))).tolist()
    deltas_from = np.searchsorted(which, np.arange(count + 1)).tolist()
    spans_from = np.searchsorted(which[begins], np.arange(count + 1)).tolist()
    for number, (observations, total) in enumerate(zip(observed.tolist(), totals.tolist(), strict=True)):
        spans = slice(spans_from[number], spans_from[number + 1])
        yield Histogram(
            count_int=observations,
            sum=total,
            schema=SCHEMA,
            zero_threshold=ZERO_THRESHOLD,
            zero_count_int=0,
            positive_spans=map(_span, offsets[spans], lengths[spans]),
            positive_deltas=deltas[deltas_from[number] : deltas_from[number + 1]],
            timestamp=at_ms,
        )


def _changes(ordered: Slots) -> Flags:
    """Return where another number begins [numbers]."""
    return np.append(True, ordered[1:] != ordered[:-1]) if len(ordered) else np.zeros(0, np.bool_)


def _span(offset: int, length: int) -> BucketSpan:
    return BucketSpan(offset=offset, length=length)


def decoded(histogram: Histogram) -> Decoded:
    """Return what a sample of `histogram_of` says."""
    numbers: list[int] = []
    reached = 0
    for span in histogram.positive_spans:
        first = reached + span.offset
        reached = first + span.length
        numbers += range(first, reached)
    counts = itertools.accumulate(histogram.positive_deltas)
    return Decoded(histogram.timestamp, dict(zip(numbers, map(float, counts), strict=True)), histogram.sum)


class HistogramEntries:
    """Encoded entries of wholes by the slot that stands for each. `labels_of`: the encoded labels of a key's series."""

    def __init__(self, labels_of: Callable[[str], bytes]) -> None:
        self._labels_of = labels_of
        self._entries: dict[int, bytes] = {}
        self._values: _Values = np.zeros(0)  # [slots]: those that the entry of its whole has
        self._born: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)

    def encode(self, series: SeriesTable, frame: Frame, stamp: bytes) -> Iterator[bytes]:
        """Yield the entries of a frame with one time, which has all parts of each whole or none; `stamp`: the time."""
        self._forget_others(series)
        slots, values = frame.slots, frame.values
        wholes = series.wholes.first[slots]
        found = np.unique(wholes).tolist()
        changed = np.unique(wholes[values != self._values[slots]]).tolist()
        self._values[slots] = values
        new = np.union1d(changed, [whole for whole in found if whole not in self._entries]).astype(np.int64)
        parts = np.isin(wholes, new)
        histograms = histograms_of(wholes[parts], series.wholes.number[slots[parts]], values[parts])
        for whole, histogram in zip(new.tolist(), histograms, strict=True):
            self._entries[whole] = _entry(self._labels_of(series.key(whole)), [histogram])[: -len(stamp)]
        for whole in found:
            yield self._entries[whole] + stamp

    def encode_runs(self, series: SeriesTable, frame: Frame) -> Iterator[bytes]:
        """Yield the entries of a frame with several times."""
        first = series.wholes.first[frame.slots]
        for whole in np.unique(first).tolist():
            own = first == whole
            numbers, values = series.wholes.number[frame.slots[own]], frame.values[own]
            samples = [histogram_of(numbers, values, at_ms) for at_ms in frame.times_ms]
            yield _entry(self._labels_of(series.key(whole)), samples)

    def _forget_others(self, series: SeriesTable) -> None:
        """Forget the entries of slots that have another series now."""
        end = series.end
        if len(self._born) < end:
            more = max(end, len(self._born) * 5 // 4) - len(self._born)
            self._born = np.append(self._born, np.zeros(more, np.uint32))
            self._values = np.append(self._values, np.zeros(more))
        new = np.flatnonzero(self._born[:end] != series.born[:end])
        self._values[new] = 0
        self._born[new] = series.born[new]
        for slot in new.tolist():
            self._entries.pop(slot, None)


def entry_of(labels: Sequence[Label], histograms: Sequence[Histogram]) -> bytes:
    """Return a series' entry as it stands in a WriteRequest."""
    return _entry(TimeSeries(labels=labels).SerializeToString(), histograms)


def _entry(labels: bytes, histograms: Sequence[Histogram]) -> bytes:
    """Return the same for labels that are encoded already."""
    content = labels + TimeSeries(histograms=histograms).SerializeToString()
    return _TIMESERIES + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Return a length as it stands before what is so long."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
