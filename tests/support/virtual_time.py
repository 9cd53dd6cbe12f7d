"""An event loop whose time jumps to the next timer when nothing is ready: hours pass at once, in a fixed order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from cdn77_exporter.core.clocks import ClockSource
from cdn77_exporter.edge.clock import Clock

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


class VirtualClock(Clock):
    """The service's clock over the running loop's time. `began_ms`: the true time when the loop begins.

    `machine_ahead_ms` and `bucket_ahead_ms` are how far the two clocks are ahead of true time. Without `doubts` true
    time is believed from the beginning.
    """

    def __init__(self, began_ms: int = 0, *, doubts: bool = False, source: ClockSource = ClockSource.AUTO) -> None:
        self._began_ms = began_ms
        self.machine_ahead_ms = 0.0
        self.bucket_ahead_ms = 0.0
        self.doubts = doubts
        super().__init__(source, wall=self._wall_seconds, steady=_loop_seconds)

    def _wall_seconds(self) -> float:
        return (self.true_ms() + self.machine_ahead_ms) / 1000

    def true_ms(self) -> int:
        """Unix time in milliseconds, whatever the clocks say."""
        return self._began_ms + round(_loop_seconds() * 1000)

    def answer(self) -> None:
        """Be told the time by an answer of the bucket."""
        self.hear_bucket(round(self.true_ms() + self.bucket_ahead_ms))

    def believed_ms(self) -> int | None:
        """See `Clock`."""
        return super().believed_ms() if self.doubts else self.true_ms()

    def began_ms(self) -> int | None:
        """See `Clock`."""
        return super().began_ms() if self.doubts else self._began_ms

    def possible_ms(self) -> list[int]:
        """See `Clock`."""
        return super().possible_ms() if self.doubts else [self.true_ms()]

    def latest_ms(self, modified_ms: int) -> int:
        """See `Clock`."""
        return super().latest_ms(modified_ms) if self.doubts else min(modified_ms, self.true_ms())


def _loop_seconds() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0
