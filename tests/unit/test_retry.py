"""Backoff, and trying again, on a clock that only moves when somebody waits."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.errors import FileGone, Misconfigured, Transient
from cdn77_exporter.flow.retry import MISCONFIGURED_SECONDS, RETRY_AFTER_MOST, Backoff, Failed, retry


@dataclass
class FakeClock:
    """Time that passes by waiting alone."""

    now: float = 1000.0
    waits: list[float] = field(default_factory=list)

    def now_ms(self) -> int:
        return round(self.now * 1000)

    bucket_ms = now_ms

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def most(**changed: float) -> Backoff:
    """A backoff that always draws its bound."""
    return Backoff(draw=lambda: 1.0, **changed)


@dataclass
class Calls:
    """A call that raises these errors one after the other, then succeeds; what was told of it."""

    clock: FakeClock
    errors: list[Exception]
    told: list[Failed] = field(default_factory=list)
    give_up_at: int = 0

    async def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def failed(self, failure: Failed) -> None:
        """Remember a failure; give up at the last."""
        self.told.append(failure)
        if failure.attempt == self.give_up_at:
            raise failure.error

    async def result(self, stop: asyncio.Event | None = None) -> str:
        """Retry on the fake clock."""
        return await retry(self, self.clock, most(), self.failed, stop)


def test_waits_double_up_to_the_most() -> None:
    """The bounds of the default waits grow by two and stay at thirty seconds."""
    backoff = most()
    assert [backoff.next() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_waits_are_drawn_from_zero_to_the_bound() -> None:
    """Full jitter: the draw scales the whole wait."""
    draws = iter([0.0, 0.25, 0.5])
    backoff = Backoff(first=4, factor=2, most=100, draw=lambda: next(draws))
    assert [backoff.next() for _ in range(3)] == [0.0, 2.0, 8.0]


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), max_size=50))
def test_every_wait_is_bounded(asked: list[float | None]) -> None:
    """Whatever the other side asks for, a wait is a number from zero to the greater of both bounds."""
    backoff = Backoff()
    for retry_after in asked:
        wait = backoff.next(retry_after)
        assert 0 <= wait <= max(30.0, RETRY_AFTER_MOST)
        if retry_after is not None and not math.isnan(retry_after):
            assert wait >= min(retry_after, RETRY_AFTER_MOST)


async def test_a_success_needs_no_wait() -> None:
    """The first answer is the result."""
    clock = FakeClock()
    assert await Calls(clock, []).result() == "done"
    assert clock.waits == []


async def test_failures_are_told_and_tried_again() -> None:
    """Each is told with its attempt, the time since the first, and the wait: as asked for, longer when it must."""
    calls = Calls(
        FakeClock(), [Transient("one"), Transient("two", 20.0), Misconfigured("no", "fix it"), Transient("4")]
    )
    assert await calls.result() == "done"
    told = [(str(failure.error), failure.attempt, failure.seconds, failure.wait) for failure in calls.told]
    assert told == [
        ("one", 1, 0.0, 0.5),
        ("two", 2, 0.5, 20.0),
        ("no", 3, 20.5, MISCONFIGURED_SECONDS),
        ("4", 4, 20.5 + MISCONFIGURED_SECONDS, 2.0),
    ]
    assert calls.clock.waits == [failure.wait for failure in calls.told]


async def test_other_errors_pass_at_once() -> None:
    """Only what may succeed later is tried again."""
    calls = Calls(FakeClock(), [Transient("one"), FileGone("x")])
    with pytest.raises(FileGone):
        await calls.result()
    assert calls.clock.waits == [0.5]


async def test_whoever_is_told_ends_the_attempts() -> None:
    """What it raises is raised, without a further wait."""
    calls = Calls(FakeClock(), [Transient(str(number)) for number in range(9)], give_up_at=3)
    with pytest.raises(Transient, match="2"):
        await calls.result()
    assert calls.clock.waits == [0.5, 1.0]


async def test_a_stop_cuts_the_wait_short() -> None:
    """The next attempt follows at once; whether there is one is decided by whoever is told."""
    stop = asyncio.Event()

    class Stopping(FakeClock):
        async def sleep(self, seconds: float) -> None:
            stop.set()
            await asyncio.Event().wait()

    calls = Calls(Stopping(), [Transient("one"), Transient("two")], give_up_at=2)
    with pytest.raises(Transient, match="two"):
        await calls.result(stop)
