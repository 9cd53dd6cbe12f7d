"""The slots of what is counted: of each group of labels, which is a cell, and of each profile of viewers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.keys import Codes, RowTable
from cdn77_exporter.core.keys import Places as Numbers
from cdn77_exporter.core.measures import STATUS, STREAM, Cube

Slots = npt.NDArray[np.int64]

#: Instead of a slot: it is made when it is needed; the series does not exist.
LATER, NONE = -1, -2


class Cells:
    """The groups of one cube by number; `slots` [cells, measures of the cube]."""

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self.table = RowTable(len(cube.labels))
        self.slots: Slots = np.zeros((0, len(cube.measures)), np.int64)
        self.stream = cube.labels.index(STREAM) if STREAM in cube.labels else None
        self.status = cube.labels.index(STATUS) if STATUS in cube.labels else None
        self.places = [[cube.labels.index(label) for label in measure.by] for measure in cube.measures]

    def add(self, rows: Codes, slots: Sequence[Sequence[int]]) -> Numbers:
        """Add groups [rows] that are not there yet, with their slots [rows, measures]; return their numbers."""
        numbers = self.table.add(rows)
        if self.table.end > len(self.slots):
            more = len(self.table.rows) - len(self.slots)
            self.slots = np.concatenate((self.slots, np.full((more, self.slots.shape[1]), LATER)))
        self.slots[numbers] = slots
        return numbers

    def forget(self, gone: npt.NDArray[np.bool_], counted: Iterable[Numbers]) -> None:
        """Forget cells with a slot that is gone [slots]; those that are `counted` in open ticks find it anew."""
        numbers = self.table.numbers()
        own = self.slots[numbers]
        lost = gone[np.maximum(own, 0)] & (own >= 0)
        ended = numbers[lost.any(axis=1)]
        if len(ended):
            self.slots[numbers] = np.where(lost, LATER, own)
            self.table.remove(np.setdiff1d(ended, np.concatenate([np.zeros(0, np.int64), *counted])))


class ProfileSlots:
    """The slots of some measures by profile [profiles, measures]."""

    def __init__(self, measures: int) -> None:
        self.slots: Slots = np.full((0, measures), LATER)

    def reach(self, end: int) -> None:
        """Make rows for the profiles below `end`."""
        more = end - len(self.slots)
        if more > 0:
            more = max(more, len(self.slots) // 4)
            self.slots = np.concatenate((self.slots, np.full((more, self.slots.shape[1]), LATER)))

    def forget(self, gone: npt.NDArray[np.bool_]) -> None:
        """Mark the slots that are gone [slots] to be found anew."""
        lost = gone[np.maximum(self.slots, 0)] & (self.slots >= 0)
        self.slots[lost.any(axis=1)] = LATER

    def reset(self, number: int) -> None:
        """Mark all slots of a profile to be found anew: the number is another's now."""
        if number < len(self.slots):
            self.slots[number] = LATER
