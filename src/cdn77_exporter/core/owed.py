"""Told until accepted: what a receiver has not stored is owed to it, and paid on later ticks.

A request that is not stored leaves counter series *owed*: `increase()` at the receiver has seen less of them than there
is. When nothing else is on its way, one tick carries the value from which the next is seen to grow, and the next tick
carries the whole:

- the last stored value, when that is at most `PADDING_SECONDS` old and all of it was seen;
- zero otherwise: the series begins again, with what was not seen yet. To go on from an old value would hide the growth
  on Prometheus and count the old value once more on VictoriaMetrics.

A series is owed until all of its value was seen; until then no file is deleted that the value may be from. What earlier
ticks say of it, and would not be seen, is left out of their requests.

The parts of one series, such as a native histogram, are owed together, each with a debt of its own: a receiver has a
sample of all or none, and takes a fall of one part for a reset of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isnan

import msgspec
import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.changes import Owing
from cdn77_exporter.core.series import PADDING_SECONDS, Carried, SeriesTable

Slots = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


class Told(msgspec.Struct, frozen=True, array_like=True):
    """The content of one tick for counters: kept with its requests until they are done.

    `slots`, `before`: counters that changed, as bytes, with their values on the tick `previous` (Unix seconds); NaN for
    one that begins. Those have zeros every `step` seconds from the tick `zeros_from` on, or from that of `zero_ticks`.
    """

    previous: int
    slots: bytes
    before: bytes
    zeros_from: int
    step: int
    zero_ticks: dict[int, int] = {}


@dataclass(slots=True)
class Debt:
    """The receiver's knowledge of one series: how much of its value was seen to grow, and the last stored sample.

    `carried`: the tick that was last written with something else than the value, so that only later ones have all.
    """

    seen: float
    last: float | None = None
    last_tick: int = 0
    carried: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of a request that has come to its end: of which slot, its tick (Unix seconds) and its value.

    The value of a stale marker is not a number.
    """

    slot: int
    tick: int
    value: float

    @property
    def ends(self) -> bool:
        """True for the sample with which the series ended."""
        return isnan(self.value)


class Owed:
    """The series that are owed, by slot. Times are ticks in Unix seconds."""

    def __init__(self, series: SeriesTable) -> None:
        self._series = series
        self._debts: dict[int, Debt] = {}
        self._changed = False  # since the last commit
        self.waits_for_parts = True  # whether anything waits until those of native histograms are stored

    def __len__(self) -> int:
        """Return the number of series that are owed, parts counted one by one."""
        return len(self._debts)

    @property
    def is_waiting(self) -> bool:
        """True if something is owed that is waited for; parts are not when the receiver takes no native histograms."""
        if self.waits_for_parts:
            return bool(self._debts)
        return not all(self._series.wholes.is_part[slot] for slot in self._debts)

    def _of(self, slot: int) -> list[tuple[int, Debt]]:
        """Return the debts of a series by the slots of its parts; none when nothing is owed of it.

        A part that is new to a series has a debt like those of the others: of it nothing was there to be seen.
        """
        slots = self._series.wholes.of(slot)
        known = next((debt for own in slots if (debt := self._debts.get(own))), None)
        if known is None:
            return []
        for own in slots:
            if own not in self._debts:
                last = None if known.last is None else 0.0
                self._enter(own, Debt(0.0, last, known.last_tick, known.carried))
        return [(own, self._debts[own]) for own in slots]

    def _enter(self, slot: int, debt: Debt) -> None:
        self._debts[slot] = debt
        self._series.owed[slot] = True
        self._changed = True

    def _by_series(self, samples: Iterable[Sample]) -> Iterator[list[Sample]]:
        """Yield the samples of each series and tick: one, or those of all of its parts.

        A tick may come several times, when its length was changed since.
        """
        wholes = self._series.wholes
        for _, group in groupby(samples, lambda sample: (sample.tick, int(wholes.first[sample.slot]))):
            found = list(group)
            parts = len(wholes.of(found[0].slot))
            for begin in range(0, len(found), parts):
                yield found[begin : begin + parts]

    def waiting(self, before: int) -> list[tuple[int, int]]:
        """Return the series of which not all was stored by the tick `before`: slots, and the tick of the last sample
        that was, 0 without any; the longest first.

        A native histogram has the slot of its first part. What `is_waiting` leaves out is left out here.
        """
        wholes = self._series.wholes
        found = [
            (debt.last_tick, slot)
            for slot, debt in self._debts.items()
            if debt.last_tick < before
            and wholes.first[slot] == slot
            and (self.waits_for_parts or not wholes.is_part[slot])
        ]
        return [(slot, tick) for tick, slot in sorted(found)]

    # What became of requests

    def refused(self, samples: Iterable[Sample], told: Told) -> None:
        """Note the samples of a request that was not stored, in the order of their times."""
        before = dict(
            zip(
                np.frombuffer(told.slots, np.int64).tolist(),
                np.frombuffer(told.before, np.float64).tolist(),
                strict=True,
            )
        )
        for group in self._by_series(samples):
            first = group[0]
            if first.ends:
                self._end(first)
            if first.ends or self._of(first.slot) or not self._series.is_live_counter(first.slot):
                continue  # one that has ended had nothing left to tell
            for sample in group:
                value = before.get(sample.slot, sample.value)
                debt = _beginning(sample, told) if isnan(value) else Debt(value, value, told.previous)
                self._enter(sample.slot, debt)

    def _end(self, sample: Sample) -> None:
        """Forget what is owed of a series that had ended, and has begun again since: all of it had been stored before.

        What was refused between that and the end only told the same once more.
        """
        debts = self._of(sample.slot)
        if debts and debts[0][1].carried <= sample.tick:
            self._pay_off(sample.slot)

    def _pay_off(self, slot: int) -> None:
        """Forget what is owed of a series, of all of its parts."""
        for own in self._series.wholes.of(slot):
            self._debts.pop(own, None)
            self._series.owed[own] = False
        self._changed = True

    def drop(self) -> None:
        """Forget all that is owed: another process has told it."""
        for slot in list(self._debts):
            self._pay_off(slot)

    def stored(self, samples: Iterable[Sample]) -> None:
        """Note the samples of a request that was stored, in the order of their times."""
        for group in self._by_series(samples):
            first = group[0]
            if first.ends:
                self._end(first)
            debts = self._of(first.slot)
            if debts and not first.ends and first.tick > debts[0][1].last_tick:
                self._seen(group)

    def _seen(self, group: Sequence[Sample]) -> None:
        """Note that the receiver has the samples of one series and tick; forget what is owed of it if that is all."""
        self._changed = True
        tick, pairs = group[0].tick, [(self._debts[sample.slot], sample.value) for sample in group]
        # A smaller value is a reset, of which the receiver counts the whole.
        fell = any(debt.last is not None and value < debt.last for debt, value in pairs)
        for debt, value in pairs:
            if debt.last is not None and tick - debt.last_tick <= PADDING_SECONDS:
                debt.seen += value if fell else value - debt.last
            debt.last, debt.last_tick = value, tick
        if all(debt.seen >= value and tick > debt.carried for debt, value in pairs):
            self._pay_off(group[0].slot)

    def unseen(self, samples: Iterable[Sample]) -> set[int]:
        """Return the slots of those owed whose growth no receiver would see in samples, given in order of their times.

        Those are values without a sample shortly before. Prometheus hides what they have grown by from short windows
        and not from long ones, and VictoriaMetrics counts all of them: they are not sent, and stay owed.
        """
        last: dict[int, int] = {}
        found: set[int] = set()
        for group in self._by_series(samples):
            slot, tick = group[0].slot, group[0].tick
            debts = self._of(slot)
            if not debts or group[0].ends:
                continue
            debt = debts[0][1]
            before = last.get(slot, -PADDING_SECONDS if debt.last is None else debt.last_tick)
            if any(sample.value for sample in group) and tick - before > PADDING_SECONDS:
                found.update(sample.slot for sample in group)
            last[slot] = tick
        return found

    # Paying

    def begin(self, slots: Iterable[int], tick: int) -> None:
        """Note series of which the tick has the zero with which they begin: the next one has their value."""
        for slot in slots:
            if slot not in self._debts:
                self._enter(slot, Debt(0.0, None, tick - 1, carried=tick))  # what was before is another series'

    def pay(self, tick: int, previous: int) -> Carried | None:
        """Return what the tick carries instead of the values, and begin those series again that have to.

        Those of which the tick `previous` carried something else have their whole value on this one.
        """
        first = self._series.wholes.first
        payable = {int(first[slot]) for slot, debt in self._debts.items() if debt.carried != previous}
        if not payable:
            return None
        self._changed = True
        rows = [(slot, *row) for one in payable for slot, *row in self._carried(one, tick)]
        slots, carried, begins = (np.array(column) for column in zip(*sorted(rows), strict=True))
        return Carried(slots, carried, slots[begins])

    def _carried(self, slot: int, tick: int) -> list[tuple[int, float, bool]]:
        """Return for each part of a series its slot, what the tick carries, and whether it begins again with that."""
        debts = self._of(slot)
        goes_on = all(
            debt.last is not None and tick - debt.last_tick <= PADDING_SECONDS and debt.last == debt.seen
            for _, debt in debts
        )
        for own, debt in debts:
            debt.carried = tick
            if not goes_on:
                self._series.value[own] -= debt.seen
                # What is stored of the series before is another one's now, as the receiver sees it.
                debt.seen = 0.0
        return [(own, debt.seen, not goes_on) for own, debt in debts]

    def hand_over(self, successor: Callable[[int], int | None]) -> None:
        """Let successors owe what series of former metrics owe; call it when nothing is on its way.

        `successor`: returns the slot in which a former one goes on, None when it does not.
        """
        for slot in [slot for slot in self._debts if self._series.is_former(slot)]:
            left = self._series.value[slot] - self._debts.pop(slot).seen
            self._series.owed[slot] = False
            self._changed = True
            heir = successor(slot)
            if left > 0 and heir is not None:
                self._owe(heir, float(left))

    def _owe(self, slot: int, amount: float) -> None:
        """Count an amount that no tick has told yet."""
        series = self._series
        for own in series.wholes.of(slot):
            if own not in self._debts:
                told = series.written_value(own)
                live = series.is_live_counter(own)
                self._enter(own, Debt(told, told, int(series.written[own])) if live else Debt(0.0))
        series.add(slot, amount)

    # State

    def take_changes(self) -> list[Owing] | None:
        """Return all that is owed, as a commit has it; None when nothing changed since the last call."""
        if not self._changed:
            return None
        self._changed = False
        return [(slot, debt.seen, debt.last, debt.last_tick, debt.carried) for slot, debt in self._debts.items()]

    def restore(self, rows: Iterable[Owing]) -> None:
        """Take up rows as `take_changes` gave them."""
        for slot, seen, last, last_tick, carried in rows:
            self._debts[slot] = Debt(seen, last, last_tick, carried)
            self._series.owed[self._series.wholes.of(slot)] = True


def _beginning(first: Sample, told: Told) -> Debt:
    """Return what is owed of a series that begins, of which this is the first sample that was not stored.

    Its zeros may be in several requests, sent in their order: those before this one were stored, or there was a debt.
    """
    zero = first.tick - told.step
    return Debt(0.0, 0.0, zero) if zero >= told.zero_ticks.get(first.slot, told.zeros_from) else Debt(0.0)
