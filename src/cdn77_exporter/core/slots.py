"""The slots of what is counted: of each group of labels, which is a cell, and of each profile of viewers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.keys import Codes, RowTable
from cdn77_exporter.core.keys import Places as Numbers
from cdn77_exporter.core.label_sets import LabelSets
from cdn77_exporter.core.measures import STATUS, STREAM, Cube, Label, Measure

Slots = npt.NDArray[np.int64]

#: Instead of a slot: it is made when it is needed; the series does not exist.
LATER, NONE = -1, -2


TextsOf = Callable[[Sequence[str]], tuple[str, ...]]


def _texts_of(measure: Measure, cube: Cube) -> TextsOf:
    """Return what gives a measure's label values for the texts of a cell."""
    places = [cube.labels.index(label) if label in measure.told else None for label in measure.by]

    def texts_of(texts: Sequence[str]) -> tuple[str, ...]:
        own = zip(places, measure.by, strict=True)
        return tuple(label.text if place is None else texts[place] for place, label in own)

    return texts_of


class Cells:
    """The groups of one cube by number; `slots` [cells, measures of the cube]."""

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self.table = RowTable(len(cube.labels))
        self.slots: Slots = np.zeros((0, len(cube.measures)), np.int64)
        self.stream = cube.labels.index(STREAM) if STREAM in cube.labels else None
        self.status = cube.labels.index(STATUS) if STATUS in cube.labels else None
        self.places = [[cube.labels.index(label) for label in measure.told] for measure in cube.measures]
        self.texts = [_texts_of(measure, cube) for measure in cube.measures]
        own = [place for place, label in enumerate(cube.labels) if label != STREAM]
        self.sets = LabelSets(self.table, own, cube.limit) if cube.limit and own else None

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
            self._remove(np.setdiff1d(ended, np.concatenate([np.zeros(0, np.int64), *counted])))

    def displace(self, counted: Iterable[Numbers], other: int) -> Slots:
        """Forget cells whose places others have earned; return the slots of their series, which end.

        `counted`: the cells of open ticks. `other`: the number of the text OTHER.
        """
        if self.sets is None:
            return np.zeros(0, np.int64)
        open_cells = np.concatenate([np.zeros(0, np.int64), *counted])
        numbers = np.setdiff1d(self.table.numbers().astype(np.int64), open_cells)
        without = numbers[(self.slots[numbers] < 0).all(axis=1)]  # nothing that is counted has come of them
        self._remove(without[self.sets.quiet(without)])
        gone = self.sets.displace(open_cells, other)
        slots = self.slots[gone].ravel()
        self._remove(gone)
        return slots[slots >= 0]

    def _remove(self, numbers: npt.NDArray[Any]) -> None:
        self.table.remove(numbers)
        self.slots[numbers] = LATER
        if self.sets is not None:
            self.sets.forget(numbers)


Values = tuple[str, ...]
ValuesOf = Callable[[int, tuple[Label, ...]], Values | None]


@dataclass(frozen=True, slots=True)
class ViewerMeasure:
    """A measure of viewers; of one that tells how many a window holds, the window's length in seconds."""

    measure: Measure
    length: int = 0


SlotOf = Callable[[ViewerMeasure, Values], int]


class ProfileSlots:
    """The slots of the viewers' measures that are told by the same `labels`.

    Profiles that agree in the labels are one group, so that a profile takes four bytes here.
    """

    def __init__(self, labels: tuple[Label, ...], measures: Iterable[ViewerMeasure]) -> None:
        self.labels = labels
        self.measures = tuple(measures)
        self._numbers: dict[Values, int] = {}
        self._groups: list[Values | None] = []  # None where a number is free
        self._free: list[int] = []
        self._of_profile: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._slots: Slots = np.zeros((0, len(self.measures)), np.int64)

    def find(self, profiles: Numbers, values_of: ValuesOf, slot: SlotOf) -> Slots:
        """Return the slots [profiles, measures] of profiles; NONE where there is no series.

        `values_of`: a profile's values of some labels, None if it does not count by them. `slot`: makes the series of
        a measure for such values.
        """
        if not len(profiles):
            return np.zeros((0, len(self.measures)), np.int64)
        self._reach(int(profiles.max()) + 1)
        for profile in np.unique(profiles[self._of_profile[profiles] == LATER]).tolist():
            values = values_of(profile, self.labels)
            self._of_profile[profile] = NONE if values is None else self._number(values)
        groups = self._of_profile[profiles].astype(np.int64)
        counted = groups >= 0
        slots = np.full((len(groups), len(self.measures)), NONE)
        slots[counted] = self._of_groups(groups[counted], slot)
        return slots

    def of_values(self, values: Iterable[Values], slot: SlotOf) -> Slots:
        """Return the slots [values, measures] of the profiles that have these values of the labels."""
        groups = [found if (found := self._numbers.get(own)) is not None else self._number(own) for own in values]
        return self._of_groups(np.array(groups, np.int64), slot)

    def _of_groups(self, groups: Numbers, slot: SlotOf) -> Slots:
        for group in np.unique(groups).tolist():
            if self._slots[group, 0] == LATER:
                own = self._groups[group] or ()
                self._slots[group] = [slot(measure, own) for measure in self.measures]
        found: Slots = self._slots[groups]
        return found

    def _reach(self, end: int) -> None:
        more = end - len(self._of_profile)
        if more > 0:
            more = max(more, len(self._of_profile) // 4)
            self._of_profile = np.append(self._of_profile, np.full(more, LATER, np.int32))

    def _number(self, values: Values) -> int:
        found = self._numbers.get(values)
        if found is None:
            found = self._numbers[values] = self._free.pop() if self._free else len(self._groups)
            if found == len(self._groups):
                self._groups.append(None)
            if found >= len(self._slots):
                more = np.full((max(16, len(self._slots) // 4), len(self.measures)), LATER)
                self._slots = np.concatenate((self._slots, more))
            self._groups[found] = values
            self._slots[found] = LATER
        return found

    def forget(self, gone: npt.NDArray[np.bool_]) -> None:
        """Mark the slots that are gone [slots] to be found anew."""
        lost = gone[np.maximum(self._slots, 0)] & (self._slots >= 0)
        self._slots[lost.any(axis=1)] = LATER

    def forget_profiles(self, profiles: Iterable[int]) -> None:
        """Forget profiles whose numbers are free, and what no other profile has."""
        numbers = [profile for profile in profiles if profile < len(self._of_profile)]
        groups = np.unique(self._of_profile[numbers])
        self._of_profile[numbers] = LATER
        left = np.setdiff1d(groups[groups >= 0], self._of_profile).tolist()
        for group in left:
            values = self._groups[group]
            if values is not None:
                del self._numbers[values]
            self._groups[group] = None
        self._free += left
