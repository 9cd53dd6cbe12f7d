"""Time: the wall clock, steadied against jumps and compared with the bucket's."""

from __future__ import annotations

import asyncio
import time

#: A wall clock that differs from the bucket's by more than this is not believed.
TOLERANCE_MS = 60_000


class Clock:
    """The wall clock at the last comparison, carried on by the monotonic clock: a jump in between has no effect."""

    def __init__(self) -> None:
        self._anchor_ms = time.time() * 1000
        self._anchor = time.monotonic()
        self.skew_ms = 0.0  # wall clock minus the bucket's, at the last comparison
        self._right = True

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return int(self._anchor_ms + (time.monotonic() - self._anchor) * 1000)

    def bucket_ms(self) -> int:
        """Return Unix time in milliseconds by the clock of the bucket's server."""
        return self.now_ms() - int(self.skew_ms if self._right else 0)

    def monotonic(self) -> float:
        """Return the seconds of a clock that never jumps."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds."""
        await asyncio.sleep(seconds)

    def compare(self, server_ms: int) -> bool:
        """Adopt the wall clock, or the bucket's if they are too far apart; return whether the wall clock is right."""
        wall_ms = time.time() * 1000
        self.skew_ms = wall_ms - server_ms
        self._right = abs(self.skew_ms) <= TOLERANCE_MS
        self._anchor_ms = wall_ms if self._right else server_ms
        self._anchor = time.monotonic()
        return self._right
