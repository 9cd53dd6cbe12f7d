"""Waiting between attempts: exponential backoff with jitter, and the one loop that tries a call again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from cdn77_exporter.core.errors import Misconfigured, Transient
from cdn77_exporter.flow.ports import Common, Waits

#: The longest wait that a server can ask for; every wait has a bound.
RETRY_AFTER_MOST = 300.0
#: The wait while an operator has to act.
MISCONFIGURED_SECONDS = 30.0

T = TypeVar("T")


class Backoff:
    """Waits that grow by `factor` from `first` up to `most` seconds, each drawn from zero to its bound (full jitter).

    The draw keeps many clients from coming back at the same instant. `draw` gives a number from 0 to 1.
    """

    def __init__(
        self,
        first: float = 0.5,
        factor: float = 2.0,
        most: float = 30.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._factor = factor
        self._most = most
        self._draw = draw
        self._bound = first

    def next(self, retry_after: float | None = None) -> float:
        """Return the seconds to wait now, at least what the server asked for, within `RETRY_AFTER_MOST`."""
        bound = min(self._bound, self._most)
        self._bound = min(bound * self._factor, self._most)
        wait = bound * self._draw()
        if retry_after is None or retry_after != retry_after:  # not a number  # noqa: PLR0124
            return wait
        return max(wait, min(retry_after, RETRY_AFTER_MOST))


@dataclass(frozen=True, slots=True)
class Failed:
    """A failed attempt: its number from 1, the seconds since the first one began, and the wait before the next."""

    error: Transient | Misconfigured
    attempt: int
    seconds: float
    wait: float


async def retry(
    call: Callable[[], Awaitable[T]],
    clock: Waits,
    backoff: Backoff,
    failed: Callable[[Failed], None],
    stop: asyncio.Event | None = None,
) -> T:
    """Call until it succeeds.

    `failed` is told of each attempt that ends in Transient or Misconfigured, and ends the attempts by raising. `stop`
    cuts a wait short; what it means otherwise is for `failed` to say.
    """
    began = clock.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except (Transient, Misconfigured) as error:
            wait = MISCONFIGURED_SECONDS if isinstance(error, Misconfigured) else backoff.next(error.retry_after)
            failed(Failed(error, attempt, clock.monotonic() - began, wait))
        await (clock.sleep(wait) if stop is None else pause(clock, stop, wait))


async def until_written(common: Common, write: Callable[[], Awaitable[None]]) -> None:
    """Write to the state, however long it refuses, which is reported and a problem meanwhile."""

    def failed(failure: Failed) -> None:
        error = failure.error
        common.report("state_commit_failed", error=str(error), remedy=error.remedy)
        common.problems.found("state", str(error), error.remedy)

    await retry(write, common.clock, Backoff(most=15.0), failed)
    common.problems.solved("state")


async def pause(clock: Waits, stop: asyncio.Event, seconds: float) -> None:
    """Wait, or until the stop."""
    stopped = asyncio.ensure_future(stop.wait())
    slept = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({stopped, slept}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        slept.cancel()
