"""Places of viewers by the tick on which they leave a window, had they not been seen again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.columns import stable_order

Places = npt.NDArray[np.int64]
Times = npt.NDArray[np.int64]


class Calendar:
    """The places of a window of `length_ms`; each stands in it once, at 4 bytes. Times are Unix milliseconds."""

    def __init__(self, length_ms: int, tick_ms: int) -> None:
        self.length_ms = length_ms
        self._tick_ms = tick_ms
        self._due: dict[int, list[npt.NDArray[np.uint32]]] = {}  # by tick in ms

    @property
    def size_bytes(self) -> int:
        """Memory of the arrays."""
        return sum(found.nbytes for entered in self._due.values() for found in entered)

    def enter(self, places: Places, seen: Times) -> None:
        """Put in places [places] whose viewers were last `seen` [places] then."""
        if not len(places):
            return
        leaves = (seen + self.length_ms) // self._tick_ms + 1
        first = int(leaves.min())
        leaves -= first
        if not leaves.any():
            self._enter(first, places)
            return
        order = stable_order(leaves)
        leaves = leaves.take(order)
        starts = np.flatnonzero(np.append(True, leaves[1:] != leaves[:-1]))
        for tick, part in zip(leaves.take(starts).tolist(), np.split(places.take(order), starts[1:]), strict=True):
            self._enter(first + tick, part)

    def _enter(self, tick: int, places: Places) -> None:
        self._due.setdefault(tick * self._tick_ms, []).append(places.astype(np.uint32))  # a copy, not a view

    def take_due(self, tick_ms: int) -> Places:
        """Return the places under the ticks up to this one, which are in no longer then."""
        due = [self._due.pop(tick) for tick in sorted(tick for tick in self._due if tick <= tick_ms)]
        if not due:
            return np.zeros(0, np.int64)
        return np.concatenate([part for parts in due for part in parts]).astype(np.int64)

    def clear(self) -> None:
        """Take out all places: they are others now."""
        self._due = {}
