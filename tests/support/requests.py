"""Remote write requests for tests, built with protobuf and a snappy that is only used for its format."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cramjam

from cdn77_exporter.core.encode.remote_write_pb2 import MetricMetadata, WriteRequest
from tests.support import plain_proto

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def request_body(
    *series: tuple[Mapping[str, str] | Sequence[tuple[str, str]], Iterable[tuple[int, float]]],
    metadata: Iterable[tuple[str, str, str]] = (),
) -> bytes:
    """A body of series (labels in the order given, samples as (Unix ms, value)) and metadata (name, kind, help)."""
    request = WriteRequest()
    for labels, samples in series:
        entry = request.timeseries.add()
        for name, value in labels.items() if isinstance(labels, Mapping) else labels:
            entry.labels.add(name=name, value=value)
        for timestamp, number in samples:
            entry.samples.add(timestamp=timestamp, value=number)
    for name, kind, words in metadata:
        number_of: Any = MetricMetadata.MetricType.Value(kind.upper())
        request.metadata.add(type=number_of, metric_family_name=name, help=words)
    return compressed(request.SerializeToString())


def compressed(plain: bytes) -> bytes:
    """Bytes in snappy's block format."""
    return bytes(cramjam.snappy.compress_raw(plain))


def histogram_body(labels: Mapping[str, str], at_ms: int, counts: Mapping[int, int], total: float) -> bytes:
    """A body of one native histogram: its observations by bucket, and their sum."""
    return compressed(plain_proto.series(list(labels.items()), [plain_proto.histogram(counts, total, at_ms)]))
