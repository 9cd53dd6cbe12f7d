"""The way to the end: the first signal asks for a stop within a grace period, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cdn77_exporter.flow.ports import Report


@dataclass(slots=True)
class Shutdown:
    """The stop signal and the deadline that it sets."""

    report: Report
    drain_seconds: float
    end: Callable[[int], object] = os._exit
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _deadline: asyncio.Timeout | None = None

    def listen(self) -> None:
        """Take SIGTERM and SIGINT for a stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask, number.name)

    def ask(self, name: str) -> None:
        """Ask for a stop; asked again, end the process: what is committed is safe."""
        if self.stop.is_set():
            self.end(1)
            return
        self.report("service_stopping", signal=name, drain_seconds=self.drain_seconds)
        self.stop.set()
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + self.drain_seconds)

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Raise TimeoutError once the work has gone on for `drain_seconds` after the stop."""
        async with asyncio.timeout(self.drain_seconds if self.stop.is_set() else None) as deadline:
            self._deadline = deadline
            try:
                yield
            finally:
                self._deadline = None
