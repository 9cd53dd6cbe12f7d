"""An event loop whose time jumps to the next timer when nothing is ready: hours pass at once, in a fixed order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")

#: Turns of the loop without any time passing after which it is taken for one that spins.
MOST_TURNS = 20_000


class Deadlock(AssertionError):
    """Everything waits, and no timer is set that could end it."""


class Spinning(AssertionError):
    """The loop turns and turns while no time passes."""


class _JumpingSelector(selectors.SelectSelector):
    """Never waits for the outside: it says how long it was asked to wait instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.turns += 1
        if self.turns > MOST_TURNS:
            self.turns = 0
            raise Spinning(f"{MOST_TURNS} turns of the loop at {self.now} s")
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Deadlock("nothing is ready and no timer is set")
        self.now += max(timeout, 1e-9)
        self.turns = 0
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For code without threads: use `Inline` where it wants an executor."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the loop was made, of its own time."""
        return self._jumping.now

    @property
    def turns(self) -> int:
        """Turns of the loop since time last passed."""
        return self._jumping.turns


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


class Inline(Executor):
    """Does what it is asked to at once, on the thread that asks."""

    def submit(self, call: Callable[..., T], /, *values: Any, **named: Any) -> Future[T]:
        """The result is there when this returns."""
        done: Future[T] = Future()
        try:
            done.set_result(call(*values, **named))
        except Exception as error:
            done.set_exception(error)
        return done


class VirtualClock:
    """The clock port over the running loop's time; `began_ms`: what the wall clock says when the loop begins."""

    def __init__(self, began_ms: int = 0) -> None:
        self._began_ms = began_ms
        self.skew_ms = 0

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return self._began_ms + round(asyncio.get_running_loop().time() * 1000)

    def bucket_ms(self) -> int:
        """Unix time in milliseconds by the bucket's clock, which is `skew_ms` behind."""
        return self.now_ms() - self.skew_ms

    def monotonic(self) -> float:
        """Seconds of the loop."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait; no time passes outside."""
        await asyncio.sleep(seconds)
