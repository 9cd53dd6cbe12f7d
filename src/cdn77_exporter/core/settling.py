"""Settling a tick: what it counted goes into the series, with arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.buckets import bucket_numbers
from cdn77_exporter.core.columns import MOST_SUM, sum_by
from cdn77_exporter.core.labelling import Labelling
from cdn77_exporter.core.measures import (
    Appeared,
    Cube,
    Mean,
    Measure,
    Present,
    Returned,
    ReturnedAfter,
    ReturnedInBucket,
    SessionsBegun,
    SessionsOver,
    SessionsOverWatched,
    Watched,
)
from cdn77_exporter.core.open_ticks import OpenTick
from cdn77_exporter.core.series import SeriesTable
from cdn77_exporter.core.slots import ViewerMeasure
from cdn77_exporter.core.viewers.movement import Counts, Movement
from cdn77_exporter.core.viewers.window import ViewerWindow

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
        returned = [row.value.most_ms for cube in cubes for row in cube.measures if isinstance(row.value, Returned)]
        self._soonest_ms = min(filter(None, returned), default=0)
        self.saturated = 0  # sums of a tick that ended at `MOST_SUM`

    def count(self, opened: OpenTick, *, returns: bool = True) -> None:
        """Add up the sums of a tick; `returns`: also the requests of viewers, which return with it."""
        for number, (cube, kept) in enumerate(zip(self._cubes, opened.sums, strict=True)):
            if not kept.cells:
                continue
            cells, sums = kept.take()
            self.saturated += int(np.count_nonzero(sums == MOST_SUM))
            for place, measure in enumerate(cube.measures):
                if not returns and isinstance(measure.value, Returned):
                    continue
                self._count(number, place, measure, cells, sums[:, cube.places(measure)])

    def _count(self, cube: int, place: int, measure: Measure, cells: Numbers, columns: Numbers) -> None:
        """Add what some cells count to the series of a measure."""
        if measure.is_rare:
            some = columns[:, -1] > 0
            cells, columns = cells[some], columns[some]
        slots = self._labelling.slots_of_cells(cube, place, cells)
        if isinstance(measure.value, Mean):
            self.add_means(np.column_stack((slots, columns)))
        else:
            self._series.add_all(slots, columns[:, 0])

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
        """Count viewers that appeared, came and left, what players watched, and their sessions."""
        counts = _Counts(movement, self._soonest_ms)
        for row in self._labelling.by_bucket:
            filled = self._labelling.slots_of_buckets(row, *counts.by_bucket(row))
            self._series.add_all(filled, np.ones(len(filled), np.int64))
        for own in self._labelling.of_viewers:
            slots: dict[int, Numbers] = {}  # by what has the numbers
            for place, measure in enumerate(own.measures):
                numbers, amounts = counts.of(measure)
                found = slots.get(id(numbers))
                if found is None:
                    found = slots[id(numbers)] = self._labelling.slots_of_profiles(own, numbers)
                there = found[:, place] >= 0
                self._series.add_all(found[there, place], amounts[there])

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

    def correct_gauges(self, viewers: ViewerWindow) -> None:
        """Set the gauges of the windows to what these hold: their lengths may have been changed."""
        present = {length: viewers.present(length) for length in viewers.lengths.counted}
        told = [
            (self._labelling.slots_of_profiles(own, numbers)[:, place], counts)
            for own in self._labelling.of_viewers
            for place, measure in enumerate(own.measures)
            for numbers, counts in ([present[measure.length]] if measure.length else [])
        ]
        right = np.zeros(self._series.end)
        for slots, counts in told:
            np.add.at(right, slots[slots >= 0], counts[slots >= 0])
        live, values = self._series.windows()
        wrong = np.union1d(live[values != right[live]], np.setdiff1d(np.flatnonzero(right), live))
        self._series.put_all(wrong, right[wrong])


class _Counts:
    """The counts of a movement by profile, each asked for once."""

    def __init__(self, movement: Movement, soonest_ms: int) -> None:
        self._movement = movement
        self._over = movement.over()
        visits, after, added = movement.returned()
        later = after > soonest_ms  # few; the others are in every bucket
        self._returned: Counts = (visits[later], after[later])
        self._counts: dict[type, Counts] = {
            Appeared: movement.appeared(),
            SessionsBegun: movement.begun(),
            Watched: movement.watched(),
            SessionsOverWatched: self._over,
            ReturnedAfter: (visits, added),
        }
        self._present: dict[int, Counts] = {}

    def of(self, own: ViewerMeasure) -> Counts:
        """Return profiles, and what a measure counts of each."""
        value = own.measure.value
        if isinstance(value, Present):
            if own.length not in self._present:
                self._present[own.length] = self._movement.present(own.length)
            return self._present[own.length]
        if isinstance(value, SessionsOver):
            profiles, watched = self._over
            most = MOST_SUM if value.most_ms is None else value.most_ms
            return profiles, (watched <= most).astype(np.int64)
        if isinstance(value, Returned):  # the requests are counted as events
            profiles, after = self._returned
            return profiles, -(after > (MOST_SUM if value.most_ms is None else value.most_ms)).astype(np.int64)
        return self._counts[type(value)]

    def by_bucket(self, measure: Measure) -> tuple[Numbers, Numbers]:
        """Return the profile of each observation of a native histogram, and the number of its bucket."""
        if isinstance(measure.value, ReturnedInBucket):
            profiles, after = self._returned
            chosen = after > measure.value.over_ms
            return profiles[chosen], bucket_numbers(after[chosen], 1000)
        profiles, watched = self._over
        return profiles, bucket_numbers(watched, 1000)
