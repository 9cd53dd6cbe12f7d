"""What time is believed, by the three witnesses, and the service's clock that asks them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdn77_exporter.core.clocks import AGREE_MS, CONFIRM_SECONDS, NEAR_MS, Clocks, ClockSource
from cdn77_exporter.edge.clock import Clock
from tests.support.examples import examples

NOW = 1_700_000_000_000
DAY = 86_400_000


@dataclass
class Scene:
    """Three witnesses, each so far ahead of true time (ms); None does not speak."""

    clocks: Clocks
    seconds: float = 0.0

    def hear(self, machine: float, bucket: float | None = None, events: float | None = None) -> float | None:
        """Let time pass for ten seconds and hear all; how far the believed time is ahead of true time then."""
        self.seconds += 10
        true_ms = NOW + self.seconds * 1000
        self.clocks.machine(true_ms + machine, self.seconds)
        if bucket is not None:
            self.clocks.bucket(true_ms + bucket, self.seconds)
        if events is not None:
            self.clocks.events(true_ms + events, self.seconds, self.seconds)
        believed = self.clocks.believed_ms(self.seconds)
        return None if believed is None else believed - true_ms


AHEAD = st.sampled_from([0, 300, -300, 20_000, 90_000, -90_000, 400_000, DAY, -DAY, 30 * DAY])


@given(st.lists(st.tuples(AHEAD, AHEAD, st.integers(1, 12)), max_size=12))
@example([(0, 400_000, 1), (400_000, 0, 1)])  # each of the clocks is set to what the other showed
@examples(300)
def test_with_events_and_one_right_clock_no_other_time_is_ever_believed(steps: list[tuple[int, int, int]]) -> None:
    """Whatever the other clock shows and whichever it is: what is believed is near true time, or nothing is."""
    scene = Scene(Clocks())
    for machine, bucket, times in steps:
        for _ in range(times):
            believed = scene.hear(machine, 0 if machine else bucket, events=-40_000)
            assert believed is None or abs(believed) <= NEAR_MS + 40_000


@pytest.mark.guarantee("clocks.nothing_arrives")
@given(st.lists(st.tuples(AHEAD, AHEAD, st.integers(1, 12)), max_size=12))
@examples(200)
def test_without_events_nothing_is_believed_of_clocks_that_are_apart(steps: list[tuple[int, int, int]]) -> None:
    """Ten minutes or more apart for half a minute, no time is believed; what is, is never later than both."""
    scene = Scene(Clocks())
    for machine, bucket, times in steps:
        for number in range(times):
            believed = scene.hear(machine, bucket)
            if abs(machine - bucket) >= AGREE_MS and number * 10 > CONFIRM_SECONDS:
                assert believed is None


def test_the_first_answer_is_enough_when_it_agrees_with_the_machine() -> None:
    """A start is not delayed; one witness alone is not believed."""
    scene = Scene(Clocks())
    assert scene.hear(0) is None
    assert scene.hear(0, 700) == 0


@pytest.mark.guarantee("clocks.seconds")
@pytest.mark.parametrize("ahead", [DAY, -DAY])
def test_a_bucket_that_is_wrong_for_three_answers_moves_nothing(ahead: int) -> None:
    """Neither with events nor without is the time believed that it shows, nor is there doubt for long."""
    for events in (None, -50_000):
        scene = Scene(Clocks())
        assert scene.hear(0, 0, events) == 0
        assert [scene.hear(0, ahead, events) for _ in range(3)] == [0, 0, 0]
        assert scene.hear(0, 0, events) == 0


def test_two_that_agree_on_another_time_are_believed_after_half_a_minute() -> None:
    """As after a machine was suspended, for which the clock that never jumps stands still."""
    scene = Scene(Clocks())
    assert scene.hear(0, 0) == 0
    assert [scene.hear(DAY, DAY) for _ in range(5)] == [0, 0, 0, DAY, DAY]


@pytest.mark.guarantee("clocks.bucket", "clocks.machine", "clocks.nothing_arrives")
def test_events_decide_between_clocks_that_are_apart() -> None:
    """They lag by minutes at most, and do not lead."""
    for machine, bucket in ((DAY, 0), (-DAY, 0), (0, DAY), (0, -DAY), (0, 500_000), (-240_000, 0)):
        scene = Scene(Clocks())
        believed = [scene.hear(machine, bucket, events=-30_000) for _ in range(8)]
        assert believed[-1] == 0


def test_a_clock_that_is_named_is_believed_at_once() -> None:
    """Whatever the other witnesses say."""
    assert Scene(Clocks(ClockSource.MACHINE)).hear(DAY, 0, 0) == DAY
    assert Scene(Clocks(ClockSource.BUCKET)).hear(0, DAY, 0) == DAY
    assert Scene(Clocks(ClockSource.BUCKET)).hear(0) is None


# The service's clock


@pytest.fixture
def at() -> dict[str, float]:
    """Both clocks of the machine, in seconds; they stand still until they are set."""
    return {"wall": NOW / 1000, "steady": 50.0}


@pytest.fixture
def clock(at: dict[str, float]) -> Clock:
    return Clock(wall=lambda: at["wall"], steady=lambda: at["steady"])


def pass_by(at: dict[str, float], seconds: float) -> None:
    """Let time pass on both clocks."""
    at["wall"] += seconds
    at["steady"] += seconds


def test_a_small_difference_leaves_the_clock_and_is_known(clock: Clock, at: dict[str, float]) -> None:
    """The machine's clock is believed; the bucket's time is told apart from it, and uploads are by it."""
    clock.hear_bucket(NOW - 20_000)
    pass_by(at, 3)
    assert clock.now_ms() == clock.believed_ms() == NOW + 3000
    assert clock.bucket_ms() == NOW - 17_000
    assert clock.began_ms() == NOW
    assert clock.latest_ms(NOW - 5000) == NOW - 5000
    assert clock.latest_ms(NOW + DAY) == NOW + 3000


@pytest.mark.guarantee("clocks.jumps")
def test_a_jump_of_the_wall_clock_moves_nothing(clock: Clock, at: dict[str, float]) -> None:
    """Time goes on with the clock that never jumps."""
    clock.hear_bucket(NOW)
    at["wall"] -= 7200
    at["steady"] += 1
    clock.hear_bucket(NOW + 1000)
    assert clock.now_ms() == NOW + 1000


def test_in_doubt_no_event_is_moved_or_refused(clock: Clock) -> None:
    """Uploads say nothing then, and the bounds are those of the clock that is further away."""
    clock.hear_bucket(NOW - DAY)
    assert clock.believed_ms() is clock.began_ms() is None
    assert clock.latest_ms(NOW - DAY) == NOW
    assert clock.oldest_ms() == NOW - DAY - 7 * DAY
    assert clock.possible_ms() == [NOW - DAY, NOW]


def test_the_uploads_of_a_bucket_that_is_wrong_say_nothing(clock: Clock, at: dict[str, float]) -> None:
    """Once it is known that its clock is, events are bounded by now alone."""
    for _ in range(6):
        pass_by(at, 10)
        true_ms = int(at["wall"] * 1000)
        clock.hear_bucket(true_ms - DAY)
        clock.hear_events(true_ms - 30_000, at["steady"])
    assert clock.believed_ms() == true_ms
    assert clock.latest_ms(true_ms - DAY) == true_ms
