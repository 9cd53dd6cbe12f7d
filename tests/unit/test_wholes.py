"""Series of several parts: native histograms as samples of the wire, against oracles that know no parts."""

from __future__ import annotations

from unittest.mock import patch

import cramjam
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdn77_exporter.core.catalogue import Catalogue, series_key
from cdn77_exporter.core.encode import blocks
from cdn77_exporter.core.encode.remote_write_1 import RemoteWrite1
from cdn77_exporter.core.measures import STREAM, VIEWERS, Measures, native_histogram
from cdn77_exporter.core.series import STALE_BITS, Frame, SeriesTable
from tests.support import plain_proto
from tests.support.examples import examples
from tests.support.plain_wholes import PlainWhole, ReceivedWholes
from tests.support.samples import named, parsed

IDLE = 900  # seconds
START = 1_700_000_100
NAME = "cdn77_waits_seconds"
BUCKETS, SUM = native_histogram(NAME, "timeToFirstByteMs", 1000, (STREAM,), "Waits.")
TABLE = Measures((VIEWERS, BUCKETS, SUM))
CATALOGUE = Catalogue(TABLE)
STREAMS = ("a", "b")


class Written:
    """A table with parts, and a counter beside them."""

    def __init__(self, step: int = 15) -> None:
        self.table = SeriesTable(CATALOGUE, step, IDLE)
        self.encoder = RemoteWrite1(CATALOGUE)

    def observe(self, stream: str, bucket: int, amount: int) -> None:
        """Count one observation."""
        for measure, part, more in ((BUCKETS, str(bucket), 1), (SUM, "sum", amount)):
            self.table.add(self.table.slot(series_key(CATALOGUE.code(measure), (stream, part))), more)

    def emit(self, tick: int, received: ReceivedWholes, *, offset_ms: int = 0, pad_from: int = 0) -> None:
        """Write a tick."""
        bodies = self.encoder.encode(self.table, self.table.emit(tick, offset_ms=offset_ms, pad_from=pad_from))
        self.table.forget(tick)
        counts = [received.take(body) for body, _ in bodies]
        assert counts == [count for _, count in bodies]


class Both:
    """The table and the oracle, driven together."""

    def __init__(self, step: int) -> None:
        self.step, self.tick, self.offset_ms = step, START, 0
        self.written = Written(step)
        self.plain = {stream: PlainWhole() for stream in STREAMS}
        self.received = ReceivedWholes()
        self.keys: dict[int, str] = {}
        self.runs: list[bytes] = []

    def observe(self, stream: int, bucket: int) -> None:
        """Count one observation."""
        amount = abs(bucket) * 7 + 1
        self.written.observe(STREAMS[stream], bucket, amount)
        self.plain[STREAMS[stream]].count(bucket, amount)

    def emit(self, ticks_on: int, pad_back: int) -> None:
        """Write a later tick (or, for 0, the same one again 100 ms later)."""
        self.tick += ticks_on * self.step
        self.offset_ms = 0 if ticks_on else self.offset_ms + 100
        pad_from = max(START, self.tick - pad_back)
        self.written.emit(self.tick, self.received, offset_ms=self.offset_ms, pad_from=pad_from)
        for one in self.plain.values():
            one.emit(self.tick, self.step, pad_from, self.offset_ms, IDLE)

    def restart(self) -> None:
        """Go on in a new table with what the old one said had changed."""
        table = self.written.table
        for slot in table.take_gone():
            self.keys.pop(slot, None)
        new = table.take_new()
        self.keys |= dict(new)
        self.runs.append(table.take_changes(new))
        pending = table.pending()
        self.written = Written(self.step)
        last = self.tick if self.received.samples else 0
        self.written.table.restore(sorted(self.keys.items()), self.runs, pending, last)

    def check(self) -> None:
        """What was received is what the oracle wrote."""
        for stream, one in self.plain.items():
            found = dict(self.received.samples.get(named(NAME, {"stream_name": stream}), []))
            assert found == one.samples


OBSERVED = st.tuples(st.just("observe"), st.integers(0, 1), st.sampled_from([-159, -80, -79, -78, 0, 1, 3, 8193]))
STEPS = st.lists(
    st.one_of(
        OBSERVED,
        OBSERVED,
        st.tuples(st.just("emit"), st.just(1), st.sampled_from([0, 60, 10_000])),
        st.tuples(st.just("emit"), st.integers(0, 45), st.sampled_from([0, 60, 10_000])),
        st.tuples(st.just("quiet"), st.integers(1, 45), st.just(10_000)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@given(st.sampled_from([5, 15, 60]), STEPS)
@example(15, [("observe", 1, 0), ("emit", 1, 0), ("emit", 15, 0), ("emit", 45, 0), ("observe", 1, 0), ("emit", 0, 0)])
@examples(150)
def test_every_history_of_a_histogram_is_written_as_the_contract_says(
    step: int, steps: list[tuple[str, int, int]]
) -> None:
    """Random histories with new buckets, quiet times, jumps, restarts and ticks written again are the oracle's."""
    both = Both(step)
    for verb, first, second in steps:
        if verb == "observe":
            both.observe(first, second)
        elif verb == "emit":
            both.emit(first, second)
        elif verb == "quiet":
            for _ in range(first):
                both.emit(1, second)
        else:
            both.restart()
    both.emit(1, 10_000)
    both.check()


def test_a_new_bucket_of_a_live_histogram_has_no_zeros() -> None:
    """It joins with its first value: of the tick there is one sample, and none on the ticks before."""
    written, received = Written(), ReceivedWholes()
    written.observe("a", 5, 3)
    written.emit(START, received, pad_from=START)
    written.observe("a", 9, 4)
    written.emit(START + 15, received, pad_from=0)
    (samples,) = received.samples.values()
    assert samples == [(START * 1000, {5: 1.0, "sum": 0.003}), ((START + 15) * 1000, {5: 1.0, 9: 1.0, "sum": 0.007})]


def test_an_ended_histogram_is_forgotten_with_all_its_parts() -> None:
    """Its slots are free five minutes after its stale marker, and other series have them then."""
    written, received = Written(), ReceivedWholes()
    for bucket in range(20):
        written.observe("a", bucket, 1)
    for tick in range(START, START + 100 * 15, 15):
        written.emit(tick, received, pad_from=START)
    assert len(written.table) == written.table.cost == 0
    (samples,) = received.samples.values()
    assert [content for _, content in samples][-1] is None
    written.observe("b", 3, 1)
    written.emit(START + 3000, received, pad_from=START + 3000)
    assert received.samples[named(NAME, {"stream_name": "b"})] == [((START + 3000) * 1000, {3: 1.0, "sum": 0.001})]


def test_histograms_have_requests_of_their_own() -> None:
    """No request has both; those of counters come first."""
    written = Written()
    written.observe("a", 5, 3)
    written.table.add(written.table.slot(series_key(CATALOGUE.code(VIEWERS), ("a",))), 1)
    bodies = written.encoder.encode(written.table, written.table.emit(START))
    found = [[bool(series.histograms) for series in parsed(body).timeseries] for body, _ in bodies]
    assert found == [[False, False], [True, True]]  # zeros, and the value


def test_requests_of_histograms_are_bounded_in_bytes() -> None:
    """So many buckets that a request would be larger than the limit are sent in several."""
    written, received = Written(), ReceivedWholes()
    for number in range(30):
        for bucket in range(0, 60, 2):
            written.observe(f"s{number}", bucket, 1)
    with patch.object(blocks, "MAX_BYTES", 2000):
        bodies = written.encoder.encode(written.table, written.table.emit(START, pad_from=START))
    for body, _ in bodies:
        received.take(body)
        assert parsed(body).ByteSize() <= 2000
    assert len(bodies) > 1
    assert len(received.samples) == 30


@pytest.mark.parametrize(("buckets", "cost"), [(1, 1), (7, 1), (15, 2), (63, 8)])
def test_a_histogram_costs_as_its_buckets_do(buckets: int, cost: int) -> None:
    """It counts as one series of MAX_SERIES, or as one for every eight parts."""
    written = Written()
    for bucket in range(buckets):
        written.observe("a", bucket, 1)
    assert written.table.cost == cost
    assert len(written.table) == buckets + 1


@given(
    st.dictionaries(st.integers(-159, 400), st.integers(1, 2**50), max_size=40),
    st.integers(0, 2**50),
    st.lists(st.integers(2**36, 2**40), min_size=1, max_size=3, unique=True),
)
@examples(200)
def test_histograms_are_these_bytes(counts: dict[int, int], total: int, times: list[int]) -> None:
    """A frame of any content, with one time or several, is what the published field numbers make of it."""
    written = Written()
    table = written.table
    parts = {"sum": total, **{str(bucket): count for bucket, count in counts.items()}}
    codes = {part: CATALOGUE.code(SUM if part == "sum" else BUCKETS) for part in parts}
    slots = [table.slot(series_key(codes[part], ("a", part))) for part in parts]
    values = np.array(list(parts.values())) / table.per[slots]
    ((body, samples),) = written.encoder.encode(table, [Frame(tuple(sorted(times)), np.array(slots), values)])
    labels = [("__name__", NAME), ("stream_name", "a")]
    content = [plain_proto.histogram(counts, total / 1000, at_ms) for at_ms in sorted(times)]
    assert bytes(cramjam.snappy.decompress_raw(body)) == plain_proto.series(labels, content)
    assert samples == len(times)


def test_an_unchanged_histogram_has_the_bytes_of_the_tick_before_but_for_its_time() -> None:
    """What is kept of a histogram follows every change of it, and a series that has its slot now."""
    written, received = Written(), ReceivedWholes()
    written.observe("a", 5, 3)
    written.observe("b", 6, 4)
    for tick, more in ((START, []), (START + 15, []), (START + 30, [7]), (START + 45, []), (START + 60, [7, 5])):
        for bucket in more:
            written.observe("a", bucket, 1)
        written.emit(tick, received, pad_from=START)
    (first, second) = received.samples.values()
    assert [content for _, content in second] == [{6: 1.0, "sum": 0.004}] * 5
    assert [content for _, content in first] == [
        {5: 1.0, "sum": 0.003},
        {5: 1.0, "sum": 0.003},
        {5: 1.0, 7: 1.0, "sum": 0.004},
        {5: 1.0, 7: 1.0, "sum": 0.004},
        {5: 2.0, 7: 2.0, "sum": 0.006},
    ]


def test_the_stale_marker_of_a_histogram_keeps_its_bits() -> None:
    """Its sum is the very NaN of stale samples, and nothing else is in it."""
    written = Written()
    written.observe("a", 5, 3)
    slots = np.array([0, 1])
    stale = np.zeros(2)
    stale.view(np.uint64)[:] = STALE_BITS
    ((body, _),) = written.encoder.encode(written.table, [Frame((1 << 40,), slots, stale)])
    assert bytes.fromhex("19020000000000f07f") in bytes(cramjam.snappy.decompress_raw(body))
    ((histogram,),) = [series.histograms for series in parsed(body).timeseries]
    assert (histogram.count_int, len(histogram.positive_spans)) == (0, 0)
