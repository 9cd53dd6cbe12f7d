"""Backoff, and trying again, on a clock that only moves when somebody waits."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.errors import Misconfigured, Transient
from cdn77_exporter.flow.retry import RETRY_AFTER_MOST, Backoff, retry


@dataclass
class FakeClock:
    """Time that passes by waiting alone."""

    now: float = 1000.0
    waits: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def failing(errors: list[Exception], result: str = "done") -> Callable[[], Awaitable[str]]:
    """A call that raises these one after the other, then succeeds."""
    left = iter(errors)

    async def call() -> str:
        for error in left:
            raise error
        return result

    return call


def most(**changed: float) -> Backoff:
    """A backoff that always draws its bound."""
    return Backoff(draw=lambda: 1.0, **changed)


async def attempt(
    call: Callable[[], Awaitable[str]], clock: FakeClock, backoff: Backoff, give_up_after: float = 1e9, **more: Any
) -> str:
    """Retry on the fake clock."""
    return await retry(
        call, backoff=backoff, clock_sleep=clock.sleep, monotonic=clock.monotonic, give_up_after=give_up_after, **more
    )


def test_waits_double_up_to_the_most() -> None:
    """The bounds of the default waits grow by two and stay at thirty seconds."""
    backoff = most()
    assert [backoff.next() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_waits_are_drawn_from_zero_to_the_bound() -> None:
    """Full jitter: the draw scales the whole wait."""
    draws = iter([0.0, 0.25, 0.5])
    backoff = Backoff(first=4, factor=2, most=100, draw=lambda: next(draws))
    assert [backoff.next() for _ in range(3)] == [0.0, 2.0, 8.0]


def test_a_reset_begins_anew() -> None:
    """After a success the next trouble is met with short waits again."""
    backoff = most()
    waits = [backoff.next(), backoff.next()]
    backoff.reset()
    assert [*waits, backoff.next()] == [0.5, 1.0, 0.5]


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
    assert await attempt(failing([]), clock, most()) == "done"
    assert clock.waits == []


async def test_transient_failures_are_tried_again() -> None:
    """Each failure is told with its attempt and the wait that follows it."""
    clock = FakeClock()
    told: list[tuple[int, str, float]] = []
    errors: list[Exception] = [Transient("one"), Transient("two", retry_after=20.0), Transient("three")]
    result = await attempt(
        failing(errors), clock, most(), on_retry=lambda number, error, wait: told.append((number, error.reason, wait))
    )
    assert result == "done"
    assert told == [(1, "one", 0.5), (2, "two", 20.0), (3, "three", 2.0)]
    assert clock.waits == [0.5, 20.0, 2.0]


async def test_other_errors_pass_at_once() -> None:
    """Only Transient is tried again."""
    clock = FakeClock()
    with pytest.raises(Misconfigured):
        await attempt(failing([Transient("one"), Misconfigured("no", "fix it")]), clock, most())
    assert clock.waits == [0.5]


async def test_it_gives_up_in_time_with_the_last_failure() -> None:
    """No wait ends later than allowed, and the error raised is the one that came last."""
    clock = FakeClock()
    errors: list[Exception] = [Transient(str(number)) for number in range(100)]
    with pytest.raises(Transient) as raised:
        await attempt(failing(errors), clock, most(), give_up_after=100.0)
    assert clock.now - 1000.0 <= 100.0
    assert raised.value.reason == str(len(clock.waits))
    assert sum(clock.waits) + 30.0 > 100.0


async def test_a_wait_that_is_too_long_is_not_begun() -> None:
    """When the other side asks for more time than is left, waiting for less would be in vain."""
    clock = FakeClock()
    with pytest.raises(Transient):
        await attempt(failing([Transient("busy", retry_after=60.0)]), clock, most(), give_up_after=59.0)
    assert clock.waits == []
