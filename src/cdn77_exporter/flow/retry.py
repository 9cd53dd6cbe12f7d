"""Waiting between attempts: exponential backoff with jitter, and the one loop that tries a call again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cdn77_exporter.core.errors import Transient
from cdn77_exporter.flow.ports import Clock

#: The longest wait that another side can ask for; every wait has a bound.
RETRY_AFTER_MOST = 300.0

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
        self._first = first
        self._factor = factor
        self._most = most
        self._draw = draw
        self._bound = first

    def next(self, retry_after: float | None = None) -> float:
        """Seconds to wait now; never less than what the other side asked for, within `RETRY_AFTER_MOST`."""
        bound = min(self._bound, self._most)
        self._bound = min(bound * self._factor, self._most)
        wait = bound * self._draw()
        if retry_after is None or retry_after != retry_after:  # not a number  # noqa: PLR0124
            return wait
        return max(wait, min(retry_after, RETRY_AFTER_MOST))

    def reset(self) -> None:
        """Begin again with the first wait."""
        self._bound = self._first


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    backoff: Backoff,
    clock_sleep: Callable[[float], Awaitable[None]],
    monotonic: Callable[[], float],
    give_up_after: float,
    on_retry: Callable[[int, Transient, float], None] | None = None,
) -> T:
    """Call until it succeeds or raises anything but Transient.

    Raises the last Transient when the next wait would end later than `give_up_after` seconds from now. `on_retry` is
    told the attempt that failed, from 1, why, and the wait before the next.
    """
    began = monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except Transient as error:
            wait = backoff.next(error.retry_after)
            if monotonic() - began + wait > give_up_after:
                raise
            if on_retry is not None:
                on_retry(attempt, error, wait)
        await clock_sleep(wait)


async def pause(clock: Clock, stop: asyncio.Event, seconds: float) -> None:
    """Wait, or until the stop."""
    stopped = asyncio.ensure_future(stop.wait())
    slept = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({stopped, slept}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        slept.cancel()
