"""The delay of the event loop over its last measurements."""

from __future__ import annotations

import math
from collections import deque


class LoopLag:
    """Keeps the last measurements, in seconds, and returns their 99th percentile and maximum."""

    def __init__(self, most: int = 1200) -> None:
        self._late: deque[float] = deque(maxlen=most)

    def observe(self, seconds: float) -> None:
        """Add a measurement; one below zero counts as zero."""
        self._late.append(max(0.0, seconds))

    def p99(self) -> float | None:
        """Return the 99th percentile, or None without a measurement."""
        if not self._late:
            return None
        ordered = sorted(self._late)
        return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * 0.99) - 1)]

    def most(self) -> float | None:
        """Return the maximum, or None without a measurement."""
        return max(self._late, default=None)
