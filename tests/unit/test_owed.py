"""Told until accepted: whatever becomes of requests, a receiver sees all that happened once it takes samples again."""

from __future__ import annotations

import random
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core import timeline
from cdn77_exporter.core.already_told import AlreadyTold
from cdn77_exporter.core.encode import blocks
from cdn77_exporter.core.encode.parts import request_of, series_in
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.edge.state import Database
from tests.support.examples import examples
from tests.support.plain_timeline import Happened, decoded_of
from tests.support.samples import SeriesName, parsed
from tests.support.strict_prometheus import in_windows, on_victoria_metrics, over_all

START = 1_700_000_100
STREAMS = ["a" * 32, "b" * 32]


class Receiver:
    """What is stored, by series, in the order in which it came."""

    def __init__(self) -> None:
        self.samples: dict[SeriesName, list[tuple[int, float]]] = {}

    def take(self, body: bytes) -> None:
        for series in parsed(body).timeseries:
            name = tuple((label.name, label.value) for label in series.labels)
            own = self.samples.setdefault(name, [])
            for sample in series.samples:
                assert not own or own[-1][0] < sample.timestamp, "a sample is not later than the one before it"
                own.append((sample.timestamp, sample.value))

    def seen(self, metric: str) -> float:
        """What increase() adds up, in windows of five minutes as in all at once, and on VictoriaMetrics."""
        found = [samples for name, samples in self.samples.items() if ("__name__", metric) in name]
        views = [sum(map(view, found)) for view in (in_windows, over_all, on_victoria_metrics)]
        assert views == [views[0]] * 3
        return views[0]


class World:
    """A timeline with a state, whose requests come to the ends that a test decides."""

    def __init__(self, rules: Rules | None = None, version: int = 1) -> None:
        self.version = version
        self.rules = rules or Rules(session_window_seconds=900)
        self.database = Database(":memory:")
        self.receiver = Receiver()
        self.timeline = self._new()
        self.second = 0
        self.number = 0
        self.happened: list[Happened] = []
        self.lost: dict[int, bytes] = {}  # requests of which an answer was lost, with what was sent

    def _new(self) -> Timeline:
        found = Timeline(self.rules, start_ms=START * 1000 + 500, key=self.database.secret_key())
        found.spoken.version = self.version
        return found

    def restart(self) -> None:
        """The next process takes up the state; requests that are not done are in the outbox."""
        self.timeline = self._new()
        snapshot = self.database.load()
        if snapshot is not None:
            self.timeline.restore(snapshot)

    def count(self, stream: str, requests: int) -> None:
        """Events of now."""
        events = [
            Happened((START + self.second) * 1000, stream=stream, ip=f"192.0.2.{number % 200}")
            for number in range(requests)
        ]
        self.happened += events
        stats, counts = decoded_of(events, self.rules.tick_seconds)
        self.number += 1
        self.timeline.absorb([(LogFile(f"logs/{self.number}", "e", 1, 1), stats)], counts)
        self.database.commit(self.timeline.take_changes([], 0, []))

    def pass_time(self, seconds: int) -> None:
        """Write the ticks up to then; the requests are in the outbox."""
        self.second += seconds
        more = True
        while more:
            now_ms = (START + self.second) * 1000
            requests, more = self.timeline.advance(now_ms, now_ms)
            self.database.commit(self.timeline.take_changes(requests, now_ms, []))

    def push(self, outcome: str, most: int = 10_000) -> None:
        """Bring requests of the outbox to an end; then what is owed is in the state, too.

        Of one that is `lost` only the answer is, and one that is `timed out` has not arrived: both are sent again. What
        was stored before is so whatever becomes of the repeat, since the receiver is asked for it. `in part`: of every
        second series only it is known that they are not stored.
        """
        for number, tick, _ in self.database.outbox()[:most]:
            body = self.timeline.seen_of(self.database.body(number))
            assert body == self.lost.get(number, body), "a request is not the same when it is sent again"
            if body and outcome in ("stored", "lost") and number not in self.lost:
                self.take(body)
            if outcome in ("lost", "timed out"):
                if outcome == "lost":
                    self.lost[number] = body
                self.database.mark_sending(number)
                return
            stored = outcome == "stored" or number in self.lost
            parts = [(body, stored)] if body else []
            if outcome == "in part" and body and not stored:
                series = series_in(body)
                parts = [(request_of(series[::2]), True), (request_of(series[1::2]), False)]
                self.take(parts[0][0])
            for part, is_stored in parts:
                self.timeline.settle(part, stored=is_stored, told=None if is_stored else self.database.told(tick))
            self.timeline.done([number])
            self.database.mark_done([number], None, owed=self.timeline.owed.take_changes())

    def take(self, body: bytes) -> None:
        """Store a request."""
        self.receiver.take(body)

    def check(self) -> None:
        """After some ticks that are stored, everything was seen, and nothing is owed."""
        for _ in range(4):
            self.pass_time(15)
            self.push("stored")
        assert len(self.timeline.owed) == 0
        assert self.receiver.seen("cdn77_requests_total") == len(self.happened)
        assert self.receiver.seen("cdn77_transfer_bytes_total") == sum(one.size for one in self.happened)
        viewers = {(one.stream, one.ip) for one in self.happened}
        if self.second < self.rules.session_window_seconds:
            assert self.receiver.seen("cdn77_viewers_total") == len(viewers)


@pytest.mark.guarantee("receiver.outlives")
def test_a_stream_that_lives_only_while_the_receiver_refuses_is_told_later() -> None:
    """All of 200 requests of which no sample was ever stored are seen once the receiver takes samples again."""
    world = World()
    for number in range(400):
        if 10 < number < 30:
            world.count(STREAMS[1], 10)
        world.count(STREAMS[0], 1)
        world.pass_time(15)
        world.push("stored" if number < 5 else "refused")
    assert world.receiver.seen("cdn77_requests_total") < 10
    world.check()


@pytest.mark.guarantee("receiver.first_refused")
def test_zeros_that_were_refused_are_made_good() -> None:
    """A new series whose zeros and first values were refused is seen whole, though its next value was stored."""
    world = World()
    world.count(STREAMS[0], 1001)
    world.pass_time(45)
    world.push("refused")
    world.pass_time(15)
    world.push("stored")
    assert world.receiver.seen("cdn77_requests_total") == 0
    world.check()


def test_a_short_refusal_costs_no_reset() -> None:
    """A series that is refused for less than five minutes goes on from its last stored value."""
    world = World()
    for number in range(10):
        world.count(STREAMS[0], 7)
        world.pass_time(15)
        world.push("refused" if number in (5, 6) else "stored")
    world.check()
    for name, samples in world.receiver.samples.items():
        if ("__name__", "cdn77_requests_total") in name:
            values = [value for _, value in samples]
            assert values == sorted(values)


def test_what_nobody_would_see_rightly_is_not_sent() -> None:
    """Requests that waited behind refused ones bring no value without a sample shortly before."""
    world = World()
    world.count(STREAMS[0], 5)
    world.pass_time(60)
    world.push("stored")
    for _ in range(30):
        world.count(STREAMS[0], 1)
        world.count(STREAMS[1], 1)  # this one begins
        world.pass_time(15)
    world.push("refused", 25)
    world.push("stored")
    world.check()


@pytest.mark.parametrize("fate", ["stored", "refused"])
@pytest.mark.parametrize("ticks", [1, 2, 5, 19, 20, 21])
def test_a_series_that_returns_right_behind_its_end_is_seen_whole(ticks: int, fate: str) -> None:
    """Its stale marker leaves less room for zeros than usual, or none: then its zero comes first, its value next."""
    world = World(Rules(session_window_seconds=60, series_idle_seconds=600))
    world.count(STREAMS[0], 5)
    world.pass_time(615)
    world.push("stored")
    while world.timeline.series.live.any():
        world.pass_time(15)
        world.push("stored")
    world.pass_time(15 * (ticks - 1))
    world.count(STREAMS[0], 7)
    world.pass_time(15)
    world.push(fate)
    world.count(STREAMS[0], 2)
    world.pass_time(15)
    world.push("stored")
    world.check()


def test_what_is_owed_holds_the_series() -> None:
    """A series that is owed does not end, however long it is idle."""
    world = World(Rules(session_window_seconds=60, series_idle_seconds=600))
    world.count(STREAMS[0], 50)
    for _ in range(200):
        world.pass_time(15)
        world.push("refused")
    world.check()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(0, 1), st.integers(1, 5)),
        st.tuples(st.just("time"), st.sampled_from([15, 15, 30, 300, 330, 900]), st.just(0)),
        st.tuples(
            st.sampled_from(["stored", "refused", "refused", "in part", "lost", "timed out"]),
            st.sampled_from([1, 2, 10_000]),
            st.just(0),
        ),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("stored", range(24))
def test_zeros_of_which_only_the_first_were_stored(stored: int) -> None:
    """A series of whose beginning some requests were stored and the rest refused is seen whole, and once."""
    with patch.object(blocks, "MAX_SAMPLES", 20):  # its zeros fill a request
        world = World()
        world.count(STREAMS[1], 1)
        world.pass_time(420)
        world.push("stored")
        world.count(STREAMS[0], 7)
        world.pass_time(45)
        world.push("stored", stored)
        world.push("refused", 1)
        world.push("stored")
        world.count(STREAMS[0], 2)
        world.pass_time(15)
        world.push("stored")
        world.check()


def test_an_end_that_was_refused_owes_nothing_to_what_comes_after_it() -> None:
    """A series that ended and came back while nothing was stored is told as what it is since, whole."""
    world = World(Rules(session_window_seconds=86_400, series_idle_seconds=900))
    world.count(STREAMS[0], 3)
    world.pass_time(330)
    world.push("stored")
    world.pass_time(700)
    world.count(STREAMS[0], 5)
    world.pass_time(30)
    world.push("refused")
    world.check()


@pytest.mark.parametrize("fate", ["stored", "refused"])
def test_nothing_begins_again_behind_a_gap_while_it_is_on_its_way(fate: str) -> None:
    """A counter begins again at zero once it is known that what was told before the gap is stored."""
    world = World(Rules(session_window_seconds=86_400))
    world.count(STREAMS[0], 7)
    world.pass_time(45)
    world.pass_time(4000)  # so long that most of the ticks are too old to be written
    world.count(STREAMS[0], 2)
    world.pass_time(15)
    world.push(fate)
    world.check()


@pytest.mark.guarantee("copies.backup")
def test_a_backup_owes_nothing_of_what_another_process_has_told() -> None:
    """Neither what its state owes nor what its outbox holds: series begin again at zero, and end when they are idle."""
    world = World(Rules(session_window_seconds=60, series_idle_seconds=600))
    world.count(STREAMS[0], 5)
    world.pass_time(30)
    world.push("refused")
    world.count(STREAMS[0], 3)
    world.pass_time(30)
    world.restart()
    assert len(world.timeline.owed) > 0
    assert world.timeline.begin_after(AlreadyTold(START + 600))
    for number, _, _ in world.database.outbox():
        world.database.mark_done([number], None, owed=world.timeline.owed.take_changes())
    world.second = 640
    world.count(STREAMS[0], 4)
    world.pass_time(30)
    world.push("stored")
    assert len(world.timeline.owed) == 0
    assert world.receiver.seen("cdn77_requests_total") == 4
    for _ in range(60):
        world.pass_time(15)
        world.push("stored")
    assert not world.timeline.series.live.any()


#: After how long a tick is not written any more; with 15 seconds, steps of 330 seconds leave gaps behind.
FOLDS = st.sampled_from([15, timeline.FOLD_SECONDS])


@given(STEPS, st.sampled_from([20, 33, 2000]), st.sampled_from([600, 86_400]), FOLDS, st.sampled_from([1, 2]))
@examples(200)
def test_any_sequence_of_ends_is_told_in_the_end(
    steps: list[tuple[str, int, int]], most_samples: int, idle_seconds: int, fold_seconds: int, version: int
) -> None:
    """Stored, in part, refused, lost, timed out, restarted, late or not: in the end every increase() is right."""
    limits = patch.object(blocks, "MAX_SAMPLES", most_samples)
    with limits, patch.object(timeline, "FOLD_SECONDS", fold_seconds):
        live_through(steps, idle_seconds, version)


def live_through(steps: list[tuple[str, int, int]], idle_seconds: int, version: int = 1) -> None:
    """Take the steps, and see in the end that all was told."""
    world = World(Rules(session_window_seconds=86_400, series_idle_seconds=idle_seconds), version)
    for verb, first, second in steps:
        if verb == "count":
            world.count(STREAMS[first], second)
        elif verb == "time":
            world.pass_time(first)
        elif verb == "restart":
            world.restart()
        else:
            world.push(verb, first)
    world.push("stored")
    world.check()


@pytest.mark.slow
def test_a_long_life_of_mishaps_is_exact() -> None:
    """Hours with outages of up to a day, with traffic that comes and goes, add up."""
    source = random.Random(3)
    world = World()
    for _ in range(30):
        for _ in range(source.randrange(1, 40)):
            if source.random() < 0.5:
                world.count(source.choice(STREAMS), source.randrange(1, 9))
            world.pass_time(15)
            world.push(source.choice(["stored", "stored", "stored", "refused"]))
        if source.random() < 0.3:
            world.restart()
        for _ in range(source.randrange(0, 300)):
            world.pass_time(15)
        world.push(source.choice(["refused", "stored"]))
    world.check()
