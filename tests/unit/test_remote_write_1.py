"""Request bodies of remote write 1.0, read back by protobuf's own parser."""

from __future__ import annotations

import struct

import cramjam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.catalogue import Catalogue, series_key
from cdn77_exporter.core.encode.blocks import compress, timestamp_bytes
from cdn77_exporter.core.encode.remote_write_1 import RemoteWrite1, labels_of, metadata_entries, series_entry
from cdn77_exporter.core.encode.remote_write_pb2 import MetricMetadata, Sample, WriteRequest
from cdn77_exporter.core.encode.request_limit import MAX_SAMPLES, RequestLimit
from cdn77_exporter.core.measures import MEASURES, REQUESTS, VIEWERS, Measure
from cdn77_exporter.core.series import STALE_BITS, Frame, SeriesTable
from tests.support import samples as support
from tests.support.examples import examples
from tests.support.samples import Received, bits, named, parsed

VALUES = st.integers(0, 2**64 - 1).map(lambda number: struct.unpack("<d", struct.pack("<Q", number))[0])
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f"), min_size=1, max_size=40)
STAMPS = st.integers(2**35, 2**42 - 1)


@st.composite
def named_series(draw: st.DrawFn) -> tuple[Measure, list[str]]:
    """A metric with label values."""
    measure = draw(st.sampled_from(MEASURES.rows))
    return measure, [draw(TEXT) for _ in measure.labels]


def table_of(*series: tuple[Measure, list[str]]) -> tuple[SeriesTable, RemoteWrite1]:
    """A table with these series, and its encoder."""
    catalogue = Catalogue(MEASURES)
    table = SeriesTable(catalogue, 15)
    for measure, values in series:
        table.slot(series_key(catalogue.code(measure), values))
    return table, RemoteWrite1(catalogue)


def frame(times_ms: tuple[int, ...], values: dict[int, float]) -> Frame:
    """A frame of these values by slot."""
    return Frame(times_ms, np.array(sorted(values), np.int64), np.array([values[slot] for slot in sorted(values)]))


@given(named_series(), VALUES, st.lists(STAMPS, min_size=1, max_size=5, unique=True))
@examples(200)
def test_a_frame_reads_back_as_it_was(series: tuple[Measure, list[str]], value: float, stamps: list[int]) -> None:
    """Labels, value bits and timestamps are those that went in, with the labels in order of their names."""
    measure, values = series
    table, encoder = table_of(series)
    ((body, count),) = encoder.encode(table, [frame(tuple(sorted(stamps)), {0: value})])
    (entry,) = parsed(body).timeseries
    expected = named(measure.name, dict(zip(measure.labels, values, strict=True)))
    assert tuple((label.name, label.value) for label in entry.labels) == expected
    found = [(bits(sample.value), sample.timestamp) for sample in entry.samples]
    assert found == [(bits(value), at) for at in sorted(stamps)]
    assert count == len(stamps)


def test_the_stale_marker_keeps_its_bits() -> None:
    """The stale NaN arrives with the bits that receivers look for, not as just any NaN."""
    assert STALE_BITS == support.STALE_BITS == 0x7FF0000000000002
    table, encoder = table_of((VIEWERS, ["a"]))
    stale = np.zeros(1)
    stale.view(np.uint64)[:] = STALE_BITS
    ((body, _),) = encoder.encode(table, [Frame((1 << 40,), np.array([0]), stale)])
    assert bytes.fromhex("020000000000f07f") in bytes(cramjam.snappy.decompress_raw(body))


def test_a_zero_is_written() -> None:
    """A sample of zero is there in its eight bytes, although protobuf leaves out defaults."""
    table, encoder = table_of((VIEWERS, ["a"]))
    received = Received()
    received.take(encoder.encode(table, [frame((1 << 40,), {0: 5.0}), frame(((1 << 40) + 1,), {0: 0.0})]))
    assert received.select(VIEWERS.name, stream_name="a") == [(1 << 40, 5.0), ((1 << 40) + 1, 0.0)]


def test_empty_labels_are_left_out() -> None:
    """A label without a value is not written, because receivers refuse it or take it for absent."""
    assert [label.name for label in labels_of(VIEWERS, [""])] == ["__name__"]


def test_lone_surrogates_become_valid_text() -> None:
    """A label value that is no Unicode text is still encoded as valid UTF-8."""
    request = parsed(compress(series_entry(labels_of(VIEWERS, ["a\ud800b"]), [Sample(value=1, timestamp=1 << 40)])))
    assert request.timeseries[0].labels[1].value == "a?b"


@pytest.mark.parametrize("stamp", [2**35 - 1, 2**42, 0])
def test_timestamps_of_another_length_are_refused(stamp: int) -> None:
    """A timestamp whose varint would have another length than six bytes raises instead of breaking an entry."""
    with pytest.raises(ValueError, match="outside the years"):
        timestamp_bytes(stamp)


def test_metadata_has_type_name_and_help() -> None:
    """Every metric is described with its type, its family name and its help."""
    request = parsed(compress(metadata_entries(MEASURES.rows)))
    found = [
        (MetricMetadata.MetricType.Name(entry.type).lower(), entry.metric_family_name, entry.help)
        for entry in request.metadata
    ]
    families = dict.fromkeys(measure.family for measure in MEASURES.rows)
    assert found == [(str(family.kind), family.name, family.help) for family in families]
    assert ("summary", "cdn77_time_to_first_byte_seconds") in [(kind, name) for kind, name, _ in found]
    assert not request.timeseries


def test_bodies_are_in_the_block_format() -> None:
    """A body is snappy's block format, without the framing header."""
    plain = metadata_entries(MEASURES.rows)
    body = compress(plain)
    assert not body.startswith(b"\xff\x06\x00\x00sNaPpY")
    assert bytes(cramjam.snappy.decompress_raw(body)) == plain


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 60)), max_size=12))
@examples(60)
def test_requests_are_filled_in_order(frames: list[tuple[int, int]]) -> None:
    """Frames keep their order, no request is over the limit, and every sample arrives once."""
    table, encoder = table_of(*((VIEWERS, [f"s{number}"]) for number in range(300)))
    at, given_frames = 2**36, []
    for series, times in frames:
        given_frames.append(frame(tuple(range(at, at + times)), dict.fromkeys(range(series), float(at))))
        at += times
    bodies = encoder.encode(table, given_frames)
    received = Received()  # which insists on the order, and on at most 2,000 samples a request
    received.take(bodies)
    assert sum(count for _, count in bodies) == sum(series * times for series, times in frames)
    assert all(0 < count <= MAX_SAMPLES for _, count in bodies)
    for number in (0, 299):
        values = [value for _, value in received.select(VIEWERS.name, stream_name=f"s{number}")]
        assert values == [one.values[0] for one in given_frames if len(one.slots) > number for _ in one.times_ms]


@pytest.mark.parametrize(("samples", "size"), [(700, 1 << 30), (1, 1 << 30), (2000, 5000), (90, 5000), (2000, 1)])
def test_requests_are_as_small_as_the_receiver_wants_them(samples: int, size: int) -> None:
    """Samples and bytes of a request stay within the limit of the moment, but for a series that is beyond it alone."""
    table, _ = table_of(*((VIEWERS, [f"s{number}"]) for number in range(1300)))
    limit = RequestLimit()
    encoder = RemoteWrite1(Catalogue(MEASURES), limit)
    ones = dict.fromkeys(range(1300), 1.0)
    received = Received()
    received.take(encoder.encode(table, [frame((2**36 - 2,), ones)]))
    limit.samples, limit.size = samples, size
    bodies = encoder.encode(table, [frame((2**36 - 1, 2**36), ones), frame((2**36 + 1,), ones)])
    received.take(bodies)
    for body, count in bodies:
        plain = bytes(cramjam.snappy.decompress_raw(body))
        assert count <= max(samples, 2)
        assert len(plain) <= size or len(WriteRequest.FromString(plain).timeseries) == 1
    for number in (0, 499, 500, 1299):
        assert [at for at, _ in received.select(VIEWERS.name, stream_name=f"s{number}")] == [
            2**36 + after for after in (-2, -1, 0, 1)
        ]


def test_a_slot_that_another_series_has_now_is_encoded_anew() -> None:
    """The entry of a slot follows the series that has it; its neighbours in the block stay as they are."""
    table, encoder = table_of(*((VIEWERS, [f"s{number}"]) for number in range(3)))
    encoder.encode(table, [frame((1 << 40,), {0: 1.0, 1: 2.0, 2: 3.0})])
    table._keys[1] = series_key(Catalogue(MEASURES).code(REQUESTS), ("a much longer name", "1", "HIT", "p"))
    table.born[1] += 1
    received = Received()
    received.take(encoder.encode(table, [frame(((1 << 40) + 1,), {0: 4.0, 1: 5.0, 2: 6.0})]))
    assert received.select(VIEWERS.name, stream_name="s0") == [((1 << 40) + 1, 4.0)]
    assert received.select(VIEWERS.name, stream_name="s2") == [((1 << 40) + 1, 6.0)]
    labels = {"stream_name": "a much longer name", "cdn_id": "1", "cache_status": "HIT", "pop": "p"}
    assert received.select(REQUESTS.name, **labels) == [((1 << 40) + 1, 5.0)]


def test_a_series_has_as_many_values_as_labels() -> None:
    """A key that does not fit its metric raises instead of being written under wrong names."""
    with pytest.raises(ValueError, match="4 labels, not 3"):
        labels_of(REQUESTS, ["s", "c", "h"])
