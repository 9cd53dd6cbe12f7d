"""Remote write 1.0: every series has its labels as texts, and the metadata of metrics is a request of its own.

Source: Prometheus Remote-Write 1.0 specification (prometheus.io/docs/specs/prw/remote_write_spec).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from cdn77_exporter.core.catalogue import Catalogue, External, Metric
from cdn77_exporter.core.encode import remote_write_pb2 as pb
from cdn77_exporter.core.encode.blocks import BlockEncoder, Packer, compress, label_pairs, valid_text
from cdn77_exporter.core.encode.histograms import HistogramEntries
from cdn77_exporter.core.encode.remote_write_pb2 import Label, MetricMetadata, TimeSeries, WriteRequest
from cdn77_exporter.core.encode.request_limit import RequestLimit
from cdn77_exporter.core.measures import Kind, Measure
from cdn77_exporter.core.series import SeriesTable

#: Labels that are kept: most series share theirs with many others.
_KNOWN_LABELS = 8192
_TYPES = {
    Kind.COUNTER: MetricMetadata.COUNTER,
    Kind.GAUGE: MetricMetadata.GAUGE,
    Kind.SUMMARY: MetricMetadata.SUMMARY,
    Kind.HISTOGRAM: MetricMetadata.HISTOGRAM,
}


@lru_cache(_KNOWN_LABELS)
def _label(name: str, value: str) -> Label:
    return Label(name=name, value=valid_text(value))


@lru_cache(_KNOWN_LABELS)
def _label_bytes(name: str, value: str) -> bytes:
    """Return a label as it stands in a TimeSeries."""
    return bytes(TimeSeries(labels=[_label(name, value)]).SerializeToString())


def labels_of(metric: Metric | Measure, values: Sequence[str], external: External = ()) -> list[Label]:
    """Return what `label_pairs` does as labels."""
    return [_label(name, text) for name, text in label_pairs(metric, values, external)]


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


class RemoteWrite1(BlockEncoder):
    """Encodes frames as requests of remote write 1.0, which may hold entries of any blocks.

    `limit`: how large requests may be now, if that is less than `MAX_SAMPLES`.
    """

    BLOCK = 500
    TAG = b"\x0a"

    def __init__(self, catalogue: Catalogue, limit: RequestLimit | None = None) -> None:
        super().__init__(catalogue, HistogramEntries(self.TAG, TimeSeries))
        self._limit = limit or RequestLimit()

    def describe(self, measures: Iterable[Measure]) -> bytes:
        """Return a request body that holds the metadata of metrics."""
        return compress(metadata_entries(measures))

    def _head(self, series: SeriesTable, slot: int) -> bytes:
        """Return the labels of a series, each encoded once for many series."""
        metric, values = self._metric(series.key(slot))
        return b"".join([_label_bytes(name, text) for name, text in label_pairs(metric, values, metric.external)])

    def _packer(self, packers: dict[int, Packer], block: int) -> Packer:
        del block
        if not packers:
            packers[0] = Packer(self._limit)
        return packers[0]
