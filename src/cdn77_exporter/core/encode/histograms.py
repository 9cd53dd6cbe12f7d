"""Native histograms of remote write: the parts of a whole put together as one sample, and taken apart again.

An entry is encoded when one of its parts has changed; then only the timestamp, its last field, is overwritten.

Source: `prompb/types.proto` of Prometheus, and "Native histograms" of its documentation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.encode.remote_write_2_pb2 import Histogram as Histogram2
from cdn77_exporter.core.encode.remote_write_2_pb2 import TimeSeries as TimeSeries2
from cdn77_exporter.core.encode.remote_write_pb2 import BucketSpan, Histogram, Label, TimeSeries, WriteRequest
from cdn77_exporter.core.encode.wire import varint
from cdn77_exporter.core.series import Frame, SeriesTable
from cdn77_exporter.core.wholes import SUM_NUMBER, Flags, Slots

#: Neighbouring bounds are a factor of 2^(1/8) apart.
SCHEMA = 3
#: Observations below this would be counted apart from the buckets, whose bounds never reach 0; there are none.
ZERO_THRESHOLD = 1e-6
#: It is overwritten; as the last field of the last field its bytes are the last of an entry.
_ANY_TIME = 1 << 40

_Numbers = npt.NDArray[np.int32]
_Values = npt.NDArray[np.float64]
Head = Callable[[int], bytes]


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
    """Encoded entries of wholes by the slot that stands for each.

    `tag`: that of an entry in a request; `form`: the message that it is.
    """

    def __init__(self, tag: bytes, form: type[TimeSeries] | type[TimeSeries2]) -> None:
        self._tag = tag
        self._form = form
        self._entries: dict[int, bytes] = {}
        self._values: _Values = np.zeros(0)  # [slots]: those that the entry of its whole has

    def forget(self, slots: Slots, end: int) -> None:
        """Forget the entries of slots that have another series, or head, now; `end`: one above all slots."""
        if len(self._values) < end:
            more = max(end, len(self._values) * 5 // 4) - len(self._values)
            self._values = np.append(self._values, np.zeros(more))
        self._values[slots] = 0
        for slot in slots.tolist():
            self._entries.pop(slot, None)

    def encode(self, series: SeriesTable, frame: Frame, stamp: bytes, head: Head) -> Iterator[tuple[int, bytes]]:
        """Yield wholes and the entries of a frame with one time, which has all parts of each whole or none.

        `stamp`: the time. `head`: returns what an entry has before its samples.
        """
        slots, values = frame.slots, frame.values
        wholes = series.wholes.first[slots]
        found = np.unique(wholes).tolist()
        changed = np.unique(wholes[values != self._values[slots]]).tolist()
        self._values[slots] = values
        new = np.union1d(changed, [whole for whole in found if whole not in self._entries]).astype(np.int64)
        parts = np.isin(wholes, new)
        histograms = histograms_of(wholes[parts], series.wholes.number[slots[parts]], values[parts])
        for whole, histogram in zip(new.tolist(), histograms, strict=True):
            self._entries[whole] = self._entry(head(whole), [histogram])[: -len(stamp)]
        for whole in found:
            yield whole, self._entries[whole] + stamp

    def encode_runs(self, series: SeriesTable, frame: Frame, head: Head) -> Iterator[tuple[int, bytes]]:
        """Yield the same for a frame with several times."""
        first = series.wholes.first[frame.slots]
        for whole in np.unique(first).tolist():
            own = first == whole
            numbers, values = series.wholes.number[frame.slots[own]], frame.values[own]
            samples = [histogram_of(numbers, values, at_ms) for at_ms in frame.times_ms]
            yield whole, self._entry(head(whole), samples)

    def _entry(self, head: bytes, histograms: Sequence[Histogram]) -> bytes:
        content = head + _samples(self._form, histograms)
        return self._tag + varint(len(content)) + content


def entry_of(labels: Sequence[Label], histograms: Sequence[Histogram]) -> bytes:
    """Return a series' entry as it stands in a WriteRequest of 1.0."""
    request = WriteRequest()
    request.timeseries.add(labels=labels, histograms=histograms)
    return bytes(request.SerializeToString())


def _samples(form: type[TimeSeries] | type[TimeSeries2], histograms: Sequence[Histogram]) -> bytes:
    """Return histograms as they stand in a TimeSeries; what one is has the same bytes in both versions."""
    if form is TimeSeries:
        return bytes(TimeSeries(histograms=histograms).SerializeToString())
    own = [Histogram2.FromString(one.SerializeToString()) for one in histograms]
    return bytes(TimeSeries2(histograms=own).SerializeToString())
