"""The sole right to count: the state with its lock, and the lease of the bucket's logs; without it, a stand-by."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from cdn77_exporter.core.errors import Misconfigured, StateLocked, Transient
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.edge.state import BucketState, Database, State
from cdn77_exporter.flow.lease import Lease
from cdn77_exporter.flow.ports import Clock, Problems, Report
from cdn77_exporter.flow.retry import pause
from cdn77_exporter.settings import File, InBucket, Off, StatePlace

STANDBY_SECONDS = 2.0
_RELEASE_SECONDS = 5.0


async def open_state(place: StatePlace, home: S3Bucket) -> State:
    """Open the state; `home` is its bucket, if it is in one. Raises StateError, Transient or Misconfigured."""
    match place:
        case InBucket(prefix=prefix):
            return await BucketState.open(home, prefix)
        case File(path=path):
            return State(await asyncio.to_thread(Database, str(path)))
        case Off():
            return State(await asyncio.to_thread(Database, ":memory:"))


@dataclass(slots=True)
class Ownership:
    """The state and the lease that a process must own before it counts; an async context manager that releases them.

    `open`: opens the state; StateLocked while another process holds it.
    """

    open: Callable[[], Awaitable[State]]
    lease: Lease
    clock: Clock
    report: Report
    problems: Problems
    stop: asyncio.Event
    _opened: list[State] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self.lease.release()
        for state in self._opened:
            state.close()

    async def take(self) -> State | None:
        """Wait until this process owns the state and the lease, and return the state; None when stopped before."""
        state = await self._patiently(self.open)
        if state is None:
            return None
        name = state.lock_name()
        if name is not None:
            self.lease.own(name)
        if not await self.lease.take(self.stop):
            return None
        state = await self._patiently(state.taken)
        if state is not None:
            self.problems.solved("standby")
        return state

    async def keep(self) -> None:
        """Renew the lease until the stop; raises LeaseLost when another process has taken it."""
        await self.lease.keep(self.stop)

    async def _patiently(self, attempt: Callable[[], Awaitable[State]]) -> State | None:
        """Try until it succeeds or the stop; say once that another process is the owner."""
        said = False
        while not self.stop.is_set():
            try:
                state = await attempt()
            except StateLocked as error:
                if not said:
                    said = True
                    self.report("standby_waiting", error=str(error))
                    self.problems.found("standby", f"{error}; this one takes over when the other ends")
            except (Transient, Misconfigured) as error:
                self.report("poll_failed", error=str(error), remedy=error.remedy)
                self.problems.found("bucket", str(error), error.remedy)
            else:
                if state not in self._opened:
                    self._opened.append(state)
                return state
            await pause(self.clock, self.stop, STANDBY_SECONDS)
        return None
