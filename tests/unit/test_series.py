"""The table of series against a slow oracle that reads the contract's rules of series literally."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdn77_exporter.core.catalogue import Catalogue, series_key, split_key
from cdn77_exporter.core.encode.blocks import Encoded
from cdn77_exporter.core.encode.remote_write_1 import RemoteWrite1
from cdn77_exporter.core.measures import ACTIVE_VIEWERS, MEASURES, REQUESTS, TIME_TO_FIRST_BYTE, VIEWERS, Kind, Measure
from cdn77_exporter.core.series import SeriesTable
from cdn77_exporter.core.series_rows import pending_of, values_of
from tests.support.examples import examples
from tests.support.plain_series import PlainSeries
from tests.support.samples import Received, SeriesName, named

IDLE = 900  # seconds
START = 1_700_000_100  # a multiple of 60 and of every tick length below
POOL = [
    (VIEWERS, ("a",)),
    (VIEWERS, ("b",)),
    (VIEWERS, ("c" * 200,)),
    (REQUESTS, ("a", "1", "HIT", "prague")),
    (ACTIVE_VIEWERS, ("a", "2h")),
    (ACTIVE_VIEWERS, ("b", "2h")),
    (TIME_TO_FIRST_BYTE, ("a", "1", "HIT", "prague")),
    (TIME_TO_FIRST_BYTE, ("b", "1", "MISS", "prague")),
]


CATALOGUE = Catalogue(MEASURES)


def key_of(measure: Measure, values: tuple[str, ...]) -> str:
    """The key of a series."""
    return series_key(CATALOGUE.code(measure), values)


class Written:
    """A table of series with an encoder."""

    def __init__(self, step: int = 15) -> None:
        self.table = SeriesTable(CATALOGUE, step, IDLE)
        self.encoder = RemoteWrite1(CATALOGUE)

    def slot(self, measure: Measure, values: tuple[str, ...]) -> int:
        """The slot of a series."""
        return self.table.slot(key_of(measure, values))

    def emit(self, tick: int, *, offset_ms: int = 0, pad_from: int = 0) -> list[Encoded]:
        """Write a tick."""
        frames = self.table.emit(tick, offset_ms=offset_ms, pad_from=pad_from)
        bodies = self.encoder.encode(self.table, frames)
        self.table.forget(tick)
        assert sum(frame.samples for frame in frames) == sum(samples for _, samples in bodies)
        return bodies


def name_of(place: int) -> SeriesName:
    """The series' name as a receiver sees it."""
    metric, values = POOL[place]
    return named(metric.name, dict(zip(metric.labels, values, strict=True)))


class Both:
    """The table and the oracle, driven together."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.tick = START
        self.offset_ms = 0
        self.written = Written(step)
        self.plain = {place: PlainSeries(metric.name) for place, (metric, _) in enumerate(POOL)}
        self.received = Received()
        self.keys: dict[int, str] = {}
        self.runs: list[bytes] = []

    def count(self, place: int, amount: int) -> None:
        """Count, or set a gauge."""
        metric, values = POOL[place]
        one = self.plain[place]
        slot = self.written.slot(metric, values)
        if metric.kind is Kind.COUNTER:
            self.written.table.add(slot, amount)
            one.value += amount
        else:
            self.written.table.put(slot, amount)
            one.value = amount
        one.touched = True

    def emit(self, ticks_on: int, pad_back: int) -> None:
        """Write a later tick (or, for 0, the same one again 100 ms later)."""
        self.tick += ticks_on * self.step
        self.offset_ms = 0 if ticks_on else self.offset_ms + 100
        pad_from = max(START, self.tick - pad_back)
        self.received.take(self.written.emit(self.tick, offset_ms=self.offset_ms, pad_from=pad_from))
        watched = {
            values[0]
            for place, (metric, values) in enumerate(POOL)
            if metric is ACTIVE_VIEWERS and self.plain[place].value and (one := self.plain[place]).live | one.touched
        }
        for place, one in self.plain.items():
            own = POOL[place][1][0] in watched
            one.emit(self.tick, self.step, pad_from, self.offset_ms, idle=IDLE, watched=own)

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
        found = self.received.by_key()
        for place, one in self.plain.items():
            assert found.get(name_of(place), {}) == one.samples


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(0, len(POOL) - 1), st.integers(0, 3)),
        st.tuples(st.just("count"), st.integers(0, len(POOL) - 1), st.integers(0, 3)),
        st.tuples(st.just("emit"), st.just(1), st.sampled_from([0, 60, 10_000])),
        st.tuples(st.just("emit"), st.integers(0, 45), st.sampled_from([0, 60, 10_000])),
        st.tuples(st.just("quiet"), st.integers(1, 45), st.just(10_000)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three series, so that a few series fill several."""
    monkeypatch.setattr(RemoteWrite1, "BLOCK", 3)


def drive(both: Both, steps: list[tuple[str, int, int]]) -> None:
    """Do the steps."""
    for verb, first, second in steps:
        if verb == "count":
            both.count(first, second)
        elif verb == "emit":
            both.emit(first, second)
        elif verb == "quiet":
            for _ in range(first):
                both.emit(1, second)
        else:
            both.restart()


@given(st.sampled_from([5, 15, 60]), STEPS)
@example(60, [("count", 0, 1), ("emit", 1, 0), ("emit", 15, 0), ("count", 0, 1), ("emit", 1, 0)])
@example(15, [("count", 0, 1), ("emit", 1, 0), ("emit", 15, 0), ("emit", 45, 0), ("count", 0, 1), ("emit", 0, 0)])
@examples(150)
@pytest.mark.usefixtures("small_blocks")
def test_every_history_is_written_as_the_contract_says(step: int, steps: list[tuple[str, int, int]]) -> None:
    """Random histories with quiet times, jumps, restarts and ticks written again give the oracle's samples."""
    both = Both(step)
    drive(both, steps)
    both.emit(1, 10_000)
    both.check()


def emit_ticks(written: Written, received: Received, first: int, count: int, pad_from: int = START) -> int:
    """Emit some ticks; the one that follows them."""
    for tick in range(first, first + count * 15, 15):
        received.take(written.emit(tick, pad_from=pad_from))
    return first + count * 15


def test_a_new_counter_begins_with_five_minutes_of_zeros() -> None:
    """The first value is preceded by a zero on each of the 20 ticks before it, and by nothing else."""
    written, received = Written(), Received()
    tick = START + 3600
    written.table.add(written.slot(VIEWERS, ("a",)), 7)
    received.take(written.emit(tick, pad_from=0))
    (samples,) = received.samples.values()
    assert samples == [*(((tick - 300 + 15 * place) * 1000, 0.0) for place in range(20)), (tick * 1000, 7.0)]


def test_padding_stops_at_its_first_tick() -> None:
    """No zero is written before the tick that is given as the first, be it on a tick or not."""
    for pad_from in (START + 30, START + 29, START + 16):
        written, received = Written(), Received()
        written.table.add(written.slot(VIEWERS, ("a",)), 7)
        received.take(written.emit(START + 60, pad_from=pad_from))
        (samples,) = received.samples.values()
        assert [at // 1000 - START for at, _ in samples] == [30, 45, 60]


def test_an_idle_counter_ends_and_returns_as_a_new_series() -> None:
    """The stale marker is written when the time is over, the series is forgotten, and a return begins with zeros."""
    written, received = Written(), Received()
    slot = written.slot(VIEWERS, ("a",))
    written.table.add(slot, 5)
    tick = emit_ticks(written, received, START, 100)
    assert len(written.table) == 0
    assert written.table.streams() == set()
    slot = written.slot(REQUESTS, ("b", "1", "HIT", "p"))  # which takes the slot
    assert slot == 0
    written.table.add(written.slot(VIEWERS, ("a",)), 1)
    emit_ticks(written, received, tick, 1)
    found = received.by_key()[named(VIEWERS.name, {"stream_name": "a"})]
    assert [at // 1000 - START for at, value in found.items() if value is None] == [IDLE]
    after = {at // 1000 - tick: value for at, value in found.items() if at > (START + IDLE) * 1000}
    assert after == {**dict.fromkeys(range(-300, 0, 15), 0.0), 0: 1.0}


def test_a_return_soon_after_the_marker_writes_no_tick_twice() -> None:
    """Zeros begin after the stale marker when that is less than five minutes ago."""
    written, received = Written(), Received()
    slot = written.slot(VIEWERS, ("a",))
    written.table.add(slot, 5)
    tick = emit_ticks(written, received, START, 64)
    assert len(written.table) == 1
    written.table.add(slot, 1)
    emit_ticks(written, received, tick, 1)
    (found,) = received.by_key().values()
    assert list(found) == [at * 1000 for at in range(START, tick + 1, 15)]
    assert list(found.values())[-5:] == [None, 0.0, 0.0, 0.0, 1.0]


def test_a_counter_that_0_1_0_had_ended_begins_at_zero() -> None:
    """The value that such a state kept is not counted again when the series returns."""
    cases: list[list[tuple[int, float]]] = [[], [(0, 40.0)]]
    for pending in cases:
        written, received = Written(), Received()
        value = 41.0 if pending else 40.0
        key = key_of(VIEWERS, ("a",))
        run = values_of([(0, value, START, START + 600, False)])
        written.table.restore([(0, key)], [run], pending_of(pending), START + 900)
        written.table.add(0, 1)
        emit_ticks(written, received, START + 915, 1)
        (found,) = received.by_key().values()
        assert list(found.values())[-2:] == [0.0, 2.0 if pending else 1.0]


def test_viewer_counters_stay_while_somebody_watches() -> None:
    """As long as the stream's window holds somebody, its viewer counters do not end; its other counters do."""
    written, received = Written(), Received()
    viewers = written.slot(VIEWERS, ("a",))
    requests = written.slot(REQUESTS, ("a", "1", "HIT", "p"))
    gauge = written.slot(ACTIVE_VIEWERS, ("a", "2h"))
    for slot in (viewers, requests, gauge):
        written.table.put(slot, 5)
    tick = emit_ticks(written, received, START, 200)
    found = received.by_key()
    assert None not in found[named(VIEWERS.name, {"stream_name": "a"})].values()
    assert (
        None
        in found[named(REQUESTS.name, {"stream_name": "a", "cdn_id": "1", "cache_status": "HIT", "pop": "p"})].values()
    )
    written.table.put(gauge, 0)
    emit_ticks(written, received, tick, 3)
    after = [
        value for at, value in received.by_key()[named(VIEWERS.name, {"stream_name": "a"})].items() if at >= tick * 1000
    ]
    assert after == [None]


@pytest.mark.parametrize(("away", "resumed"), [(285, 6.0), (300, 6.0), (315, 1.0), (7200, 1.0)])
def test_a_counter_that_was_not_written_for_five_minutes_begins_anew(away: int, resumed: float) -> None:
    """After a longer gap it begins at zero, with what was counted since; after a shorter one it goes on."""
    written, received = Written(), Received()
    slot = written.slot(VIEWERS, ("a",))
    written.table.add(slot, 5)
    last = emit_ticks(written, received, START, 3) - 15
    written.table.add(slot, 1)
    received.take(written.emit(last + away, pad_from=0))
    (found,) = received.by_key().values()
    assert list(found.values())[-1] == resumed
    zeros = [at // 1000 - last for at, value in found.items() if at > last * 1000 and value == 0]
    assert zeros == (list(range(max(15, away - 300), away, 15)) if away > 300 else [])


def test_a_gap_takes_back_nothing_that_is_unchanged() -> None:
    """A counter that changed nothing during a gap is zero after it, not its old value again."""
    written, received = Written(), Received()
    written.table.add(written.slot(VIEWERS, ("a",)), 5)
    last = emit_ticks(written, received, START, 3) - 15
    received.take(written.emit(last + 600, pad_from=0))
    (found,) = received.by_key().values()
    assert list(found.values()) == [5.0] * 3 + [0.0] * 21


def test_a_window_gauge_says_zero_once_and_ends() -> None:
    """A window that became empty is written as 0 on one tick and gets the stale marker on the next."""
    written, received = Written(), Received()
    slot = written.slot(ACTIVE_VIEWERS, ("a", "2h"))
    written.table.put(slot, 2)
    tick = emit_ticks(written, received, START, 50)
    written.table.put(slot, 0)
    emit_ticks(written, received, tick, 5)
    (found,) = received.by_key().values()
    assert list(found.values()) == [2.0] * 50 + [0.0, None]


def test_time_to_first_byte_is_written_on_its_own_ticks_only() -> None:
    """A sparse gauge has samples where it was set, no padding, and a stale marker ten minutes after the last."""
    written, received = Written(), Received()
    slot = written.slot(TIME_TO_FIRST_BYTE, ("a", "1", "HIT", "p"))
    tick = START + 3000
    for place in range(60):
        if place in (0, 3):
            written.table.put(slot, 12.5)
        received.take(written.emit(tick + 15 * place, pad_from=0))
    (found,) = received.by_key().values()
    assert {at // 1000 - tick: value for at, value in found.items()} == {0: 12.5, 45: 12.5, 645: None}


def test_a_count_of_nothing_makes_a_series_appear() -> None:
    """A series to which zero was added is written, as requests that sent no bytes are."""
    written, received = Written(), Received()
    written.table.add(written.slot(VIEWERS, ("a",)), 0)
    emit_ticks(written, received, START, 2)
    (found,) = received.by_key().values()
    assert list(found.values()) == [0.0, 0.0]


def test_many_series_fill_requests_of_two_thousand() -> None:
    """5,000 unchanged series go into three requests, none above 2,000 samples, each series with its own value."""
    written, received = Written(), Received()
    for number in range(5000):
        written.table.add(written.slot(VIEWERS, (f"s{number}",)), number)
    received.take(written.emit(START, pad_from=START))
    bodies = written.emit(START + 15, pad_from=START)
    received.take(bodies)
    assert [count for _, count in bodies] == [2000, 2000, 1000]
    for number in range(5000):
        assert received.select(VIEWERS.name, stream_name=f"s{number}")[-1] == ((START + 15) * 1000, float(number))


@given(
    st.sampled_from(range(len(MEASURES.rows))), st.lists(st.text(st.characters(exclude_characters="\x1f")), max_size=5)
)
def test_a_key_is_the_metric_and_the_values(code: int, values: list[str]) -> None:
    """What a key is made of can be read from it."""
    if values:
        assert split_key(series_key(code, values)) == (code, values)
