"""The time that is believed, by this machine's clock, the bucket's, and the events that arrive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cdn77_exporter.core.clocks import NEAR_MS, Clocks, ClockSource
from cdn77_exporter.core.files import MAX_AGE_MS


class Clock:
    """The clock of the service. `wall` and `steady` give seconds: the machine's Unix time, and one that never jumps."""

    def __init__(
        self,
        source: ClockSource = ClockSource.AUTO,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._began = steady()
        self.clocks = Clocks(source)

    def monotonic(self) -> float:
        """Return the seconds of a clock that never jumps."""
        return self._steady()

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds."""
        await asyncio.sleep(seconds)

    # Witnesses

    def hear_bucket(self, now_ms: int) -> None:
        """Take what the bucket's clock shows now (Unix ms), by a successful answer, for a witness."""
        self._look()
        self.clocks.bucket(now_ms, self._steady())

    def hear_events(self, newest_ms: int, arrived: float) -> None:
        """Take the newest event (Unix ms) of a file that came shortly before `arrived` for a witness."""
        self.clocks.events(newest_ms, arrived, self._steady())

    def _look(self) -> float:
        steady = self._steady()
        self.clocks.machine(self._wall() * 1000, steady)
        return steady

    # Answers

    def believed_ms(self) -> int | None:
        """Return the believed Unix time in milliseconds, None in doubt."""
        believed_ms = self.clocks.believed_ms(self._look())
        return None if believed_ms is None else int(believed_ms)

    def now_ms(self) -> int:
        """Return the believed Unix time in milliseconds; in doubt this machine's, for what can be moved back."""
        believed_ms = self.believed_ms()
        return int(self._wall() * 1000) if believed_ms is None else believed_ms

    def began_ms(self) -> int | None:
        """Return the believed Unix time in milliseconds of the start of the process, None in doubt."""
        believed_ms = self.believed_ms()
        return None if believed_ms is None else believed_ms - int((self._steady() - self._began) * 1000)

    def bucket_ms(self) -> int:
        """Return the Unix time in milliseconds by the clock of the bucket's server."""
        bucket_ms = self.clocks.bucket_ms(self._steady())
        return self.now_ms() if bucket_ms is None else int(bucket_ms)

    def latest_ms(self, modified_ms: int) -> int:
        """Return the latest time (Unix ms) of an event in a file with this LastModified.

        That is its upload, and never later than now. A bucket that is wrong about the time says nothing about uploads.
        """
        believed_ms = self.believed_ms()
        latest_ms = int(self.clocks.latest_ms(self._steady()))
        is_right = believed_ms is not None and abs(self.clocks.bucket_off_ms) <= NEAR_MS
        return min(modified_ms, latest_ms) if is_right else latest_ms

    def oldest_ms(self) -> int:
        """Return the time (Unix ms) before which events are too old, by the clock that is the furthest behind."""
        return self.possible_ms()[0] - MAX_AGE_MS

    def possible_ms(self) -> list[int]:
        """Return the times (Unix ms) that it may be: the believed one; in doubt both clocks', the earlier one first."""
        return [int(now_ms) for now_ms in self.clocks.clocks_ms(self._look())]
