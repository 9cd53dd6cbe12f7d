"""Request bodies of remote write 2.0, read back by protobuf's own parser, against those of 1.0."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cramjam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.catalogue import Catalogue, series_key
from cdn77_exporter.core.encode.parts import About, Series, in_version, request_of, series_in, size_of, within
from cdn77_exporter.core.encode.remote_write_1 import RemoteWrite1
from cdn77_exporter.core.encode.remote_write_2 import RemoteWrite2
from cdn77_exporter.core.encode.remote_write_2_pb2 import Metadata, Request
from cdn77_exporter.core.encode.request_limit import MAX_SAMPLES, RequestLimit
from cdn77_exporter.core.encode.version import version_of
from cdn77_exporter.core.measures import MEASURES, REQUESTS, STREAM, VIEWERS, Measure, Measures, native_histogram
from cdn77_exporter.core.series import STALE_BITS, Frame, SeriesTable
from cdn77_exporter.core.series_rows import _VALUES_0_3_0, latest
from tests.support.examples import examples
from tests.support.requests import compressed
from tests.support.samples import bits
from tests.unit.test_remote_write_1 import STAMPS, TEXT, VALUES, frame, named_series

NATIVE = native_histogram("cdn77_waits_seconds", "timeToFirstByteMs", 1000, (STREAM,), "Waits.")
TABLE = Measures((*MEASURES.rows, *NATIVE))
START = 1_700_000_100
Content = dict[bytes, list[tuple[int, int]]]


def parsed(body: bytes) -> Request:
    """A body as protobuf's own parser reads it; the rules of every request of 2.0 hold."""
    assert version_of(body) == 2
    request = Request.FromString(bytes(cramjam.snappy.decompress_raw(body)))
    symbols = request.symbols
    assert symbols[0] == ""
    assert len(set(symbols)) == len(symbols)
    for entry in request.timeseries:
        names = [symbols[ref] for ref in entry.labels_refs[::2]]
        assert names == sorted(set(names))
        assert all(entry.labels_refs)
        assert len(entry.labels_refs) % 2 == 0
        assert bool(entry.samples) != bool(entry.histograms)
    return request


def content(bodies: Sequence[tuple[bytes, int]]) -> Content:
    """The samples of each series in their order: time and the bits of the value, or the sum, of each."""
    found: Content = {}
    for body, count in bodies:
        series = series_in(body)
        assert sum(one.samples for one in series) == count <= MAX_SAMPLES
        for one in series:
            own = found.setdefault(one.labels, [])
            for entry in one.entries:
                own += [(sample.timestamp, bits(sample.value)) for sample in entry.samples]
                own += [(whole.timestamp, bits(whole.sum)) for whole in entry.histograms]
    return found


class Both:
    """A table, and its encoders of both versions."""

    def __init__(self) -> None:
        self.catalogue = Catalogue(TABLE)
        self.table = SeriesTable(self.catalogue, 15, 900)
        self.one, self.two = RemoteWrite1(self.catalogue), RemoteWrite2(self.catalogue)
        self.bodies: list[tuple[bytes, int]] = []

    def add(self, measure: Measure, *values: str, amount: float = 1) -> int:
        """Count something; return the slot."""
        slot = self.table.slot(series_key(self.catalogue.code(measure), values))
        self.table.add(slot, amount)
        return slot

    def encode(self, frames: Sequence[Frame]) -> list[tuple[bytes, int]]:
        """Encode frames by 2.0, which say the same as those by 1.0."""
        bodies = self.two.encode(self.table, frames)
        assert content(bodies) == content(self.one.encode(self.table, frames))
        for body, _ in bodies:
            parsed(body)
        self.bodies += bodies
        return bodies

    def emit(self, tick: int) -> list[tuple[bytes, int]]:
        """Write a tick."""
        bodies = self.encode(self.table.emit(tick, pad_from=tick - 300))
        self.table.forget(tick)
        return bodies


@given(named_series(), VALUES, st.lists(STAMPS, min_size=1, max_size=5, unique=True))
@examples(100)
def test_a_frame_reads_back_as_it_was(series: tuple[Measure, list[str]], value: float, stamps: list[int]) -> None:
    """Labels, value bits and timestamps are those of 1.0, of one sample and of several."""
    both = Both()
    slot = both.add(series[0], *series[1])
    both.encode([frame(tuple(sorted(stamps)), {slot: value})])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(0, 30), TEXT),
        st.tuples(st.just("observe"), st.integers(0, 5), st.sampled_from("ab")),
        st.tuples(st.just("time"), st.sampled_from([1, 1, 2, 20, 90]), st.just("")),
    ),
    max_size=40,
)


@given(STEPS)
@examples(150)
@pytest.mark.usefixtures("small_blocks")
def test_every_history_is_the_same_in_both_versions(steps: list[tuple[str, int, str]]) -> None:
    """Whatever begins, ends, returns and takes another's slot: both say the same, native histograms among it."""
    both, tick = Both(), START
    for verb, number, text in steps:
        if verb == "count":
            both.add(REQUESTS, f"s{number}", "1", "HIT", text)
        elif verb == "observe":
            both.add(NATIVE[0], text, str(number))
            both.add(NATIVE[1], text, "sum", amount=5)
        else:
            for _ in range(number):
                tick += 15
                both.emit(tick)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three series, which have new symbols soon."""
    monkeypatch.setattr(RemoteWrite2, "BLOCK", 3)
    monkeypatch.setattr("cdn77_exporter.core.encode.remote_write_2._FEW_SYMBOLS", 4)


def test_series_say_what_they_are() -> None:
    """Each has the type and the help of its family, and a counter the time of the zero with which it began."""
    both = Both()
    both.add(REQUESTS, "s", "1", "HIT", "p")
    both.add(NATIVE[0], "s", "3")
    both.add(NATIVE[1], "s", "sum")
    gauge = next(row for row in TABLE.rows if row.name == "cdn77_active_viewers")
    both.add(gauge, *("x" for _ in gauge.labels))
    found = {}
    for body, _ in both.emit(START):
        request = parsed(body)
        for entry in request.timeseries:
            name = request.symbols[entry.labels_refs[1]]
            metadata = entry.metadata
            found[name] = (metadata.type, request.symbols[metadata.help_ref], entry.created_timestamp)
    begun = (START - 300) * 1000
    assert found == {
        REQUESTS.name: (Metadata.METRIC_TYPE_COUNTER, REQUESTS.help, begun),
        NATIVE[0].name: (Metadata.METRIC_TYPE_HISTOGRAM, "Waits.", begun),
        gauge.name: (Metadata.METRIC_TYPE_GAUGE, gauge.help, 0),
    }


def test_metadata_can_be_left_out() -> None:
    """Without SEND_METADATA no series has type or help, and no text of them is sent."""
    both = Both()
    both.two = RemoteWrite2(both.catalogue, describes=False)
    both.add(REQUESTS, "s", "1", "HIT", "p")
    for body, _ in both.emit(START):
        request = parsed(body)
        assert not any(entry.HasField("metadata") for entry in request.timeseries)
        assert REQUESTS.help not in request.symbols


def test_a_counter_that_begins_again_has_a_new_time() -> None:
    """What comes after an end is another series: its created timestamp is that of its own zero."""
    both = Both()
    both.add(VIEWERS, "s")
    created = []
    for number in range(200):
        if number == 150:
            both.add(VIEWERS, "s")
        for body, _ in both.emit(START + 15 * number):
            created += [entry.created_timestamp for entry in parsed(body).timeseries]
    assert sorted(set(created)) == [(START - 300) * 1000, (START + 15 * 150 - 300) * 1000]


def test_a_restart_does_not_change_when_a_series_began() -> None:
    """The time is in the state, so that the next process tells the same; of a series of 0.3.0 it tells none."""
    both = Both()
    both.add(VIEWERS, "s")
    both.add(NATIVE[0], "s", "3")
    both.add(NATIVE[1], "s", "sum")
    both.emit(START)
    new = both.table.take_new()
    run = both.table.take_changes(new)
    rows = latest([run])
    old = rows[["slot", "value", "changed", "written", "live"]].tolist()
    for runs, created in (([run], (START - 300) * 1000), ([np.array(old, _VALUES_0_3_0).tobytes()], 0)):
        again = Both()
        again.table.restore(new, runs, b"", START)
        found = [entry.created_timestamp for body, _ in again.emit(START + 15) for entry in parsed(body).timeseries]
        assert found == [created] * 2


def test_a_request_holds_series_of_one_block() -> None:
    """All of its symbols are those of one table, and no request has more samples than receivers take well."""
    both = Both()
    for number in range(2 * RemoteWrite2.BLOCK + 10):
        both.add(VIEWERS, f"s{number}")
    both.emit(START)
    bodies = both.emit(START + 15)
    assert [count for _, count in bodies] == [RemoteWrite2.BLOCK, RemoteWrite2.BLOCK, 10]
    assert [len(parsed(body).symbols) for body, _ in bodies] == [count + 5 for _, count in bodies]


def test_texts_of_series_that_are_gone_are_forgotten() -> None:
    """A block through which many series pass keeps no more symbols than a few times those in use."""
    both = Both()
    for number in range(400):
        for place in range(10):
            both.add(REQUESTS, f"stream-{number}-{place}", "1", "HIT", "p")
        both.table.end_series(np.flatnonzero(both.table.live))
        both.emit(START + 15 * number)
    body, _ = both.emit(START + 15 * 400)[-1]
    assert len(parsed(body).symbols) < 1000 < 400 * 10


def test_the_stale_marker_keeps_its_bits() -> None:
    """The stale NaN has its own bits, and keeps them when a request is read, taken apart and written again."""
    both = Both()
    slot = both.add(VIEWERS, "a")
    stale = np.zeros(1)
    stale.view(np.uint64)[:] = STALE_BITS
    ((body, _),) = both.encode([Frame((1 << 40,), np.array([slot]), stale)])
    for one in (body, request_of(series_in(body)), in_version(body, 1), in_version(in_version(body, 1), 2)):
        assert bytes.fromhex("020000000000f07f") in bytes(cramjam.snappy.decompress_raw(one))


@given(st.lists(TEXT, min_size=1, max_size=8, unique=True), st.integers(1, 6), st.integers(1, 400))
@examples(60)
def test_parts_stay_in_their_version_and_say_the_same(texts: list[str], samples: int, size: int) -> None:
    """Whatever a request is taken apart into is 2.0 again, with the symbols that it needs, and nothing is missing."""
    both = Both()
    for text in texts:
        both.add(VIEWERS, text)
        both.add(NATIVE[0], text, "3")
        both.add(NATIVE[1], text, "sum")
    for body, count in both.emit(START):
        series = series_in(body)
        assert all(isinstance(one.about, About) and one.about.created_ms for one in series)
        parts = [request_of(group) for group in within(series, RequestLimit(samples, size))]
        again = [one for part in parts for one in series_in(part)]
        assert again == series
        for part in parts:
            request = parsed(part)
            used = {ref for entry in request.timeseries for ref in (*entry.labels_refs, entry.metadata.help_ref)}
            assert used | {0} == set(range(len(request.symbols)))
        moments = [moment for one in series for moment in one.moments()]
        assert content([(request_of([one]), 1) for one in moments]) == content([(body, count)])
        assert series_in(in_version(body, 1)) == [one._replace(about=None) for one in series]


@given(
    st.sampled_from([1, 2]),
    st.integers(1, 400),
    st.sampled_from([1, 60, 20_000]),
    st.sampled_from([1, 7, 2000]),
    st.floats(0.05, 1),
)
@examples(60)
def test_parts_are_within_the_limit(version: int, number: int, length: int, samples: int, share: float) -> None:
    """No part but a single series is larger than the limit, to the byte, and no two neighbours would go together."""
    both = Both()
    texts = [str(one).ljust(length, "x") for one in range(200 if length < 1000 else 8)]
    for one in range(min(number, len(texts) ** 2)):
        both.add(REQUESTS, texts[one % len(texts)], texts[one // len(texts)], *texts[-2:])
    slots = np.flatnonzero(both.table.there[: both.table.end])
    ((body, _), *_) = both.encode([Frame((START * 1000,), slots, np.ones(len(slots)))])
    series = series_in(in_version(body, version))
    limit = RequestLimit(samples, int(size_of(request_of(series)) * share))

    def fits(group: list[Series]) -> bool:
        return limit.allows(sum(one.samples for one in group), size_of(request_of(group)))

    groups = within(series, limit)
    assert [one for group in groups for one in group] == series
    assert all(fits(group) or len(group) == 1 for group in groups)
    assert not any(fits([*group, following[0]]) for group, following in pairwise(groups))


@given(st.integers(0, 200_000))
@examples(30)
def test_the_version_of_a_request_is_in_its_first_bytes(length: int) -> None:
    """However long the first text is, one look tells the version; what cannot be read is taken for 1.0."""
    text = "x" * length
    assert version_of(compressed(Request(symbols=["", text]).SerializeToString())) == 2
    assert version_of(compressed(b"\x2a" + b"x" * length)) == 2
    assert version_of(compressed(b"\x0a" + b"x" * length)) == version_of(compressed(b"\x1a" + b"x" * length)) == 1
    for body in (b"", b"\x80", b"\x05", b"\x05\xf0"):
        assert version_of(body) == 1
