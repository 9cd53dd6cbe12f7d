"""The request bodies, read back by protobuf's own parser."""

from __future__ import annotations

import struct

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core import wire
from cdn77_exporter.core.catalogue import CATALOGUE, REQUESTS, VIEWERS, Metric
from cdn77_exporter.core.remote_write_pb2 import MetricMetadata
from tests.support.examples import examples
from tests.support.samples import STALE_BITS, Received, bits, named, parsed

VALUES = st.integers(0, 2**64 - 1).map(lambda number: struct.unpack("<d", struct.pack("<Q", number))[0])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
STAMPS = st.integers(2**35, 2**42 - 1)
METRICS = st.sampled_from(CATALOGUE)


@st.composite
def named_series(draw: st.DrawFn) -> tuple[Metric, list[str]]:
    """A metric of the catalogue with label values."""
    metric = draw(METRICS)
    return metric, [draw(TEXT) for _ in metric.labels]


@given(named_series(), st.lists(st.tuples(VALUES, STAMPS), min_size=1, max_size=5))
@examples(200)
def test_an_entry_reads_back_as_it_was(series: tuple[Metric, list[str]], samples: list[tuple[float, int]]) -> None:
    """Labels, value bits and timestamps of an entry are those that went in, with the labels in order of their names."""
    metric, values = series
    encoded = b"".join(wire.sample_bytes(value, at) for value, at in samples)
    request = parsed(wire.compress(wire.series_entry(wire.label_bytes(metric, values), encoded)))
    (entry,) = request.timeseries
    expected = named(metric.name, dict(zip(metric.labels, values, strict=True)))
    assert tuple((label.name, label.value) for label in entry.labels) == expected
    assert [(bits(sample.value), sample.timestamp) for sample in entry.samples] == [
        (bits(value), at) for value, at in samples
    ]
    assert len(encoded) == wire.SAMPLE_BYTES * len(samples)


def test_the_stale_marker_keeps_its_bits() -> None:
    """The stale NaN arrives with the bits that receivers look for, not as just any NaN."""
    value = struct.unpack("<d", struct.pack("<Q", wire.STALE_BITS))[0]
    assert wire.STALE_BITS == STALE_BITS == 0x7FF0000000000002
    assert wire.sample_bytes(value, 1 << 40)[wire.VALUE_OFFSET :][:8] == bytes.fromhex("020000000000f07f")


def test_empty_labels_are_left_out() -> None:
    """A label without a value is not written, because receivers refuse it or take it for absent."""
    request = parsed(wire.compress(wire.series_entry(wire.label_bytes(VIEWERS, [""]), wire.sample_bytes(1, 1 << 40))))
    assert [label.name for label in request.timeseries[0].labels] == ["__name__"]


def test_lone_surrogates_become_valid_text() -> None:
    """A label value that is no Unicode text is still encoded as valid UTF-8."""
    labels = wire.label_bytes(VIEWERS, ["a\ud800b"])
    request = parsed(wire.compress(wire.series_entry(labels, wire.sample_bytes(1, 1 << 40))))
    assert request.timeseries[0].labels[1].value == "a?b"


@given(st.integers(0, 2**63))
def test_varints_end_where_protobuf_says(value: int) -> None:
    """A varint has seven bits a byte, the lowest first, and only its last byte has the high bit clear."""
    encoded = wire.varint(value)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded)) == value
    assert [byte >> 7 for byte in encoded] == [1] * (len(encoded) - 1) + [0]


@pytest.mark.parametrize("stamp", [2**35 - 1, 2**42, 0])
def test_timestamps_of_another_length_are_refused(stamp: int) -> None:
    """A timestamp whose varint would have another length than six bytes raises instead of breaking an entry."""
    with pytest.raises(ValueError, match="outside the years"):
        wire.timestamp_bytes(stamp)


def test_metadata_has_type_name_and_help() -> None:
    """Every metric of the catalogue is described with its type, its family name and its help."""
    request = parsed(wire.compress(wire.metadata_entries(CATALOGUE)))
    found = [
        (MetricMetadata.MetricType.Name(entry.type).lower(), entry.metric_family_name, entry.help)
        for entry in request.metadata
    ]
    assert found == [(str(metric.kind), metric.name, metric.help) for metric in CATALOGUE]
    assert not request.timeseries


def test_bodies_are_in_the_block_format() -> None:
    """A body is snappy's block format: the plain length as a varint, and no framing header."""
    plain = wire.metadata_entries(CATALOGUE)
    body = wire.compress(plain)
    assert body.startswith(wire.varint(len(plain)))
    assert not body.startswith(b"\xff\x06\x00\x00sNaPpY")
    assert bytes(cramjam.snappy.decompress_raw(body)) == plain


@given(st.lists(st.integers(1, 7), max_size=30), st.integers(7, 20))
def test_the_packer_fills_requests_in_order(sizes: list[int], most: int) -> None:
    """Entries keep their order, no request is over the limit, and none could have held the next entry too."""
    packer = wire.Packer(most)
    labels = wire.label_bytes(REQUESTS, ["s", "c", "h", "p"])
    for number, size in enumerate(sizes):
        first = 2**36 + number * 100
        samples = b"".join(wire.sample_bytes(float(number), first + place) for place in range(size))
        packer.add(wire.series_entry(labels, samples), size)
    packer.close()
    packer.close()  # a second time changes nothing
    received = Received()
    received.take(packer.requests)
    (samples_in_order,) = received.samples.values() if sizes else ([],)
    values = [value for _, value in samples_in_order]
    assert values == [float(number) for number, size in enumerate(sizes) for _ in range(size)]
    counts = [count for _, count in packer.requests]
    assert all(count <= most for count in counts)
    firsts = [len(parsed(body).timeseries[0].samples) for body, _ in packer.requests]
    assert all(count + after > most for count, after in zip(counts, firsts[1:], strict=False))


def test_an_entry_over_the_limit_is_refused() -> None:
    """Entries that can never fit a request raise instead of passing the limit."""
    with pytest.raises(ValueError, match="do not fit"):
        wire.Packer().add(b"", wire.MAX_SAMPLES + 1)


def test_a_series_has_as_many_values_as_labels() -> None:
    """A key that does not fit its metric raises instead of being written under wrong names."""
    with pytest.raises(ValueError, match="4 labels, not 3"):
        wire.label_bytes(REQUESTS, ["s", "c", "h"])
