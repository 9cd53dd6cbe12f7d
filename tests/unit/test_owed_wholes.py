"""Told until accepted, for native histograms: their parts are owed together, whatever becomes of requests."""

from __future__ import annotations

import random
from collections import Counter
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core import timeline
from cdn77_exporter.core.catalogue import Catalogue, series_key
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.encode import blocks
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.measures import STREAM, Measures, native_histogram
from cdn77_exporter.core.owed import Owed, Sample
from cdn77_exporter.core.series import SeriesTable
from cdn77_exporter.core.timeline import Rules, Timeline
from tests.support.counts import counts_of
from tests.support.examples import examples
from tests.support.plain_wholes import ReceivedWholes, in_windows, on_victoria_metrics, over_all, rounded
from tests.support.samples import named
from tests.unit import test_owed
from tests.unit.test_owed import STREAMS, World

NAME = "cdn77_waits_seconds"
TABLE = Measures(native_histogram(NAME, "timeToFirstByteMs", 1000, (STREAM,), "Waits."))


class WorldOfWholes(World):
    """A world in which everything is a native histogram."""

    def __init__(self, rules: Rules | None = None) -> None:
        super().__init__(rules)
        self.received = ReceivedWholes()
        self.true: dict[str, Counter[object]] = {stream: Counter() for stream in STREAMS}
        self.draw = random.Random(1)

    def _new(self) -> Timeline:
        start_ms = test_owed.START * 1000 + 500
        return Timeline(self.rules, start_ms=start_ms, key=self.database.secret_key(), measures=TABLE)

    def count(self, stream: str, requests: int) -> None:
        """Observations of now, in buckets that come one after the other."""
        tick = ((test_owed.START + self.second) // 15 + 1) * 15
        groups: dict[tuple[str, ...], list[int]] = {}
        waited = 0
        for _ in range(requests):
            bucket, wait = self.draw.choice(
                [(-53, 10), (-40, 31), (-39, 34), (-13, 324), (8 + self.draw.randrange(9), 2000)]
            )
            row = groups.setdefault((stream, str(bucket)), [0, 0])
            row[0] += 1
            row[1] += 1
            waited += wait
            self.true[stream].update({bucket: 1, "sum": wait / 1000})
        stats = FileStats(requests={tick: requests}, events=requests)
        self.number += 1
        counts = counts_of({tick: groups}, {}, TABLE, [{tick: {(stream,): [requests, waited]}}])
        self.timeline.absorb([(LogFile(f"logs/{self.number}", "e", 1, 1), stats)], counts)
        self.database.commit(self.timeline.take_changes([], 0, []))

    def take(self, body: bytes) -> None:
        """Store a request."""
        self.received.take(body)

    def check(self) -> None:
        """After some ticks that are stored, everything was seen, in every bucket, and nothing is owed."""
        for _ in range(4):
            self.pass_time(15)
            self.push("stored")
        assert len(self.timeline.owed) == 0
        assert not self.timeline.series.owed.any()
        for stream, true in self.true.items():
            samples = self.received.samples.get(named(NAME, {"stream_name": stream}), [])
            for view in (over_all, in_windows, on_victoria_metrics):
                assert rounded(view(samples)) == rounded(true), view


def test_a_bucket_that_comes_while_the_histogram_is_owed_is_owed_with_it() -> None:
    """Its first observations are stored by a tick of which the receiver sees nothing, and are told again."""
    world = WorldOfWholes()
    for number in range(60):
        world.count(STREAMS[0], 3)
        world.pass_time(15)
        world.push("refused" if 5 < number < 40 else "stored")
    world.check()


@pytest.mark.parametrize("fate", ["stored", "refused"])
@pytest.mark.parametrize("ticks", [1, 2, 19, 20, 21])
def test_a_histogram_that_returns_right_behind_its_end_is_seen_whole(ticks: int, fate: str) -> None:
    """With little room for zeros, or none, its zero comes first and its value next, in every bucket."""
    world = WorldOfWholes(Rules(session_window_seconds=60, series_idle_seconds=600))
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


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(0, 1), st.integers(1, 5)),
        st.tuples(st.just("count"), st.integers(0, 1), st.integers(1, 5)),
        st.tuples(st.just("time"), st.sampled_from([15, 15, 30, 300, 330]), st.just(0)),
        st.tuples(st.sampled_from(["stored", "refused", "refused"]), st.sampled_from([1, 2, 10_000]), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([20, 33, 2000]), test_owed.FOLDS)
@examples(150)
def test_any_sequence_of_ends_is_told_in_the_end(
    steps: list[tuple[str, int, int]], most_samples: int, fold_seconds: int
) -> None:
    """Stored, refused, restarted, late or not: in the end every bucket's increase() is what was observed."""
    limits = patch.object(blocks, "MAX_SAMPLES", most_samples)
    with limits, patch.object(timeline, "FOLD_SECONDS", fold_seconds):
        world = WorldOfWholes()
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


def test_hours_of_mishaps() -> None:
    """Hours with outages, with traffic that comes and goes, add up in every bucket."""
    source = random.Random(3)
    world = WorldOfWholes()
    for _ in range(10):
        for _ in range(source.randrange(1, 30)):
            if source.random() < 0.5:
                world.count(source.choice(STREAMS), source.randrange(1, 9))
            world.pass_time(15)
            world.push(source.choice(["stored", "stored", "stored", "refused"]))
        if source.random() < 0.3:
            world.restart()
        for _ in range(source.randrange(0, 60)):
            world.pass_time(15)
        world.push(source.choice(["refused", "stored"]))
    world.check()


def _owed() -> tuple[Owed, SeriesTable]:
    """What is owed of a table with one live histogram of two buckets and the sum."""
    catalogue = Catalogue(TABLE)
    table = SeriesTable(catalogue, 15)
    for part, code in (("3", 0), ("4", 0), ("sum", 1)):
        table.add(table.slot(series_key(code, ("a", part))), 1)
    table.emit(1500)
    return Owed(table), table


def test_a_fall_of_one_bucket_is_a_reset_of_all() -> None:
    """The receiver counts every bucket from zero then, also those that have grown."""
    owed, _ = _owed()
    owed.restore([(0, 10.0, 10.0, 1500, 1), (1, 2.0, 2.0, 1500, 1), (2, 5.0, 5.0, 1500, 1)])
    owed.stored([Sample(0, 1515, 3.0), Sample(1, 1515, 6.0), Sample(2, 1515, 9.0)])
    assert len(owed) == 0  # 10 + 3, 2 + 6 and 5 + 9 are seen: more than there is
    owed.restore([(0, -8.0, 10.0, 1500, 1), (1, -1.0, 2.0, 1500, 1), (2, -2.0, 5.0, 1500, 1)])
    owed.stored([Sample(0, 1515, 3.0), Sample(1, 1515, 6.0), Sample(2, 1515, 9.0)])
    assert [(slot, seen) for slot, seen, *_ in owed.take_changes() or ()] == [(0, -5.0), (1, 5.0), (2, 7.0)]


def test_a_state_with_a_new_bucket_of_an_owed_histogram_owes_all_of_it() -> None:
    """A bucket that came after the last commit of what is owed does not end or begin alone."""
    owed, table = _owed()
    owed.restore([(0, 0.0, None, 0, 1), (2, 0.0, None, 0, 1)])
    assert table.owed[:3].all()


def test_what_is_owed_of_histograms_is_not_waited_for_when_the_receiver_takes_none() -> None:
    """It stays owed, and a counter that is owed is still waited for."""
    owed, table = _owed()
    assert not owed.is_waiting
    owed.restore([(slot, 0.0, None, 0, 1) for slot in range(3)])
    assert owed.is_waiting
    owed.waits_for_parts = False
    assert not owed.is_waiting
    assert len(owed) == 3
    table.wholes.is_part[1] = False
    assert owed.is_waiting
