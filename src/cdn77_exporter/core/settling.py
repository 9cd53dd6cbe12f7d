"""Settling a tick: what it counted goes into the series, with arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.columns import MOST_SUM, sum_by
from cdn77_exporter.core.labelling import Labelling
from cdn77_exporter.core.measures import Cube, Mean, Measure, OfEvents
from cdn77_exporter.core.open_ticks import OpenTick
from cdn77_exporter.core.series import SeriesTable
from cdn77_exporter.core.viewers.window import Movement

Numbers = npt.NDArray[np.int64]


class Settling:
    """Moves counts of settled ticks into series.

    A mean is one over all that the next emitted tick counts, so its sum and its number of values are kept until then.
    """

    def __init__(self, series: SeriesTable, labelling: Labelling, cubes: Sequence[Cube]) -> None:
        self._series = series
        self._labelling = labelling
        self._cubes = cubes
        self._means: Numbers = np.zeros((0, 3), np.int64)  # slot, sum, number; by slot
        self.saturated = 0  # sums of a tick that ended at `MOST_SUM`

    def count(self, opened: OpenTick) -> None:
        """Add up the sums of a tick."""
        for number, (cube, kept) in enumerate(zip(self._cubes, opened.sums, strict=True)):
            if not kept.cells:
                continue
            cells, sums = kept.take()
            self.saturated += int(np.count_nonzero(sums == MOST_SUM))
            for place, measure in enumerate(cube.measures):
                columns = sums[:, _columns_of(measure, cube)]
                if isinstance(measure.value, Mean):
                    some = columns[:, 1] > 0
                    slots = self._labelling.slots_of_cells(number, place, cells[some])
                    self.add_means(np.column_stack((slots, columns[some])))
                else:
                    self._series.add_all(self._labelling.slots_of_cells(number, place, cells), columns[:, 0])

    def add_means(self, rows: Numbers) -> None:
        """Add slot, sum and number [rows, 3] to those that there are."""
        if not len(rows):
            return
        whole = np.concatenate((self._means, rows))
        slots, sums = sum_by(whole[:, 0], whole[:, 1:])
        if whole[:, 1].max() < MOST_SUM:  # else it was counted before
            self.saturated += int(np.count_nonzero(sums[:, 0] == MOST_SUM))
        self._means = np.column_stack((slots, sums))
        changed = np.isin(slots, rows[:, 0])
        self._series.put_all(slots[changed], sums[changed, 0] / sums[changed, 1])

    def move(self, movement: Movement) -> None:
        """Count viewers that appeared, came and left."""
        numbers, counts = movement.appeared()
        self._add(self._labelling.appear_slots(numbers), counts)
        numbers, counts = movement.present()
        self._add(self._labelling.present_slots(numbers), counts)

    def _add(self, slots: Numbers, counts: Numbers) -> None:
        """Add the count of each row [rows] to its slots [rows, measures], where it has them."""
        there = slots >= 0
        self._series.add_all(slots[there], np.broadcast_to(counts[:, None], slots.shape)[there])

    def emitted(self) -> None:
        """Begin means anew: a tick was written."""
        self._means = np.zeros((0, 3), np.int64)

    # State

    def means(self) -> list[tuple[int, int, int]]:
        """Return slot, sum and number of values of the means that no written tick has yet."""
        return [(slot, total, count) for slot, total, count in self._means.tolist()]

    def restore(self, means: Iterable[tuple[int, int, int]]) -> None:
        """Take up means as `means` gave them."""
        self._means = np.array(sorted(means), np.int64).reshape(-1, 3)

    def correct_gauges(self, present: tuple[Numbers, Numbers]) -> None:
        """Set the gauges of the window to what it holds: the session window may have been changed."""
        numbers, counts = present
        slots = self._labelling.present_slots(numbers)
        there = slots >= 0
        right = np.zeros(self._series.end)
        np.add.at(right, slots[there], np.broadcast_to(counts[:, None], slots.shape)[there])
        live, values = self._series.windows()
        wrong = np.union1d(live[values != right[live]], np.setdiff1d(np.flatnonzero(right), live))
        self._series.put_all(wrong, right[wrong])


def _columns_of(measure: Measure, cube: Cube) -> list[int]:
    assert isinstance(measure.value, OfEvents)  # noqa: S101 - a cube has no others
    return [cube.columns.index(column) for column in measure.value.columns]
