"""Remote write 2.0: series name their labels by number in a table of texts, and carry their metadata themselves.

A table belongs to a block of series, and a request to one block, so that what is encoded of a series stays as it is for
as long as the series does. A table only grows; a block of which most texts are those of series that are gone is encoded
anew.

Source: Prometheus Remote-Write 2.0 specification (prometheus.io/docs/specs/prw/remote_write_spec_2_0), and
`prompb/io/prometheus/write/v2/types.proto` of Prometheus 3.5, which reads `created_timestamp` of a series.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.catalogue import Catalogue, Metric
from cdn77_exporter.core.encode.blocks import BlockEncoder, Packer, label_pairs, valid_text
from cdn77_exporter.core.encode.histograms import HistogramEntries
from cdn77_exporter.core.encode.remote_write_2_pb2 import Metadata, Request, TimeSeries
from cdn77_exporter.core.encode.request_limit import RequestLimit
from cdn77_exporter.core.encode.wire import field_bytes
from cdn77_exporter.core.measures import Kind, Measure
from cdn77_exporter.core.series import SeriesTable

_TYPES = {
    Kind.COUNTER: Metadata.METRIC_TYPE_COUNTER,
    Kind.GAUGE: Metadata.METRIC_TYPE_GAUGE,
    Kind.SUMMARY: Metadata.METRIC_TYPE_SUMMARY,
    Kind.HISTOGRAM: Metadata.METRIC_TYPE_HISTOGRAM,
}
#: A table of symbols is not looked at before it has so many.
_FEW_SYMBOLS = 256


class Symbols:
    """The texts of a request, each once, by their numbers; the first one is empty."""

    def __init__(self) -> None:
        self._numbers = {"": 0}
        self._encoded = b""
        self._count = 0  # of what is encoded
        self.size = field_bytes(0)  # as they stand in a request
        self.kept = 0  # how many there were when all of them were in use

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._numbers)

    def number(self, text: str) -> int:
        """Return the number of a text, a new one if need be."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._numbers)
            self.size += field_bytes(len(text.encode()))
        return number

    def encoded(self) -> bytes:
        """Return them as they stand in a request."""
        if self._count != len(self):
            self._encoded, self._count = Request(symbols=self._numbers).SerializeToString(), len(self)
        return self._encoded


class RemoteWrite2(BlockEncoder):
    """Encodes frames as requests of remote write 2.0, each of which holds entries of one block.

    `describes`: whether series carry the type and the help of their metric. Where a receiver takes smaller requests
    only, they are taken apart when they are sent: then each part has the texts that it needs, and not those of a block.
    """

    #: So that a request has room for the zeros of some new series beside a sample of each.
    BLOCK = 1800
    TAG = b"\x2a"

    def __init__(self, catalogue: Catalogue, *, describes: bool = True) -> None:
        super().__init__(catalogue, HistogramEntries(self.TAG, TimeSeries))
        self._describes = describes
        self._symbols: dict[int, Symbols] = {}

    def describe(self, measures: Iterable[Measure]) -> bytes:
        """Return nothing: every series has its metadata with it."""
        del measures
        return b""

    def _marks(self, series: SeriesTable) -> tuple[npt.NDArray[np.integer], ...]:
        return (series.born, series.created)

    def _take_in_block(self, series: SeriesTable, number: int, slots: npt.NDArray[np.int64]) -> None:
        super()._take_in_block(series, number, slots)
        symbols = self._symbols.get(number)
        if symbols is None:  # all of them are parts
            return
        if not symbols.kept:
            symbols.kept = len(symbols)
        elif len(symbols) > max(2 * symbols.kept, _FEW_SYMBOLS):
            self._encode_anew(series, number)

    def _encode_anew(self, series: SeriesTable, number: int) -> None:
        """Encode all series of a block with a new table of symbols."""
        begin, end = number * self.BLOCK, min((number + 1) * self.BLOCK, series.end)
        there = begin + np.flatnonzero(series.there[begin:end])
        symbols = self._symbols[number] = Symbols()
        self._histograms.forget(there, series.end)
        super()._take_in_block(series, number, there)
        symbols.kept = len(symbols)

    def _head(self, series: SeriesTable, slot: int) -> bytes:
        metric, values = self._metric(series.key(slot))
        symbols = self._symbols.setdefault(slot // self.BLOCK, Symbols())
        pairs = label_pairs(metric, values, metric.external)
        entry = TimeSeries(
            labels_refs=[symbols.number(valid_text(text)) for pair in pairs for text in pair],
            metadata=self._metadata(metric, symbols),
            created_timestamp=int(series.created[slot]) * 1000,
        )
        return bytes(entry.SerializeToString())

    def _metadata(self, metric: Metric, symbols: Symbols) -> Metadata | None:
        measure = metric.measure or self._catalogue.successor(metric)
        if measure is None or not self._describes:
            return None
        family = measure.family
        return Metadata(type=_TYPES[family.kind], help_ref=symbols.number(family.help))

    def _packer(self, packers: dict[int, Packer], block: int) -> Packer:
        found = packers.get(block)
        if found is None:
            found = packers[block] = Packer(RequestLimit(), self._symbols[block].encoded)
        return found
