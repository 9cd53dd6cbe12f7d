"""Told until accepted: what a receiver has not stored is owed to it, and paid on later ticks.

A request that is not stored leaves counter series *owed*: `increase()` at the receiver has seen less of them than there
is. When nothing else is on its way, one tick carries the value from which the next is seen to grow, and the next tick
carries the whole:

- the last stored value, when that is at most `PADDING_SECONDS` old and all of it was seen;
- zero otherwise: the series begins again, with what was not seen yet. To go on from an old value would hide the growth
  on Prometheus and count the old value once more on VictoriaMetrics.

A series is owed until all of its value was seen; until then no file is deleted that the value may be from. What earlier
ticks say of it, and would not be seen, is left out of their requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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

    def __len__(self) -> int:
        """Return the number of series that are owed."""
        return len(self._debts)

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
        for sample in samples:
            if sample.ends:
                self._end(sample)
            if sample.ends or sample.slot in self._debts or not self._series.is_live_counter(sample.slot):
                continue  # one that has ended had nothing left to tell
            value = before.get(sample.slot, sample.value)
            begins = isnan(value)
            self._debts[sample.slot] = _beginning(sample, told) if begins else Debt(value, value, told.previous)
            self._series.owed[sample.slot] = True
            self._changed = True

    def _end(self, sample: Sample) -> None:
        """Forget what is owed of a series that had ended, and has begun again since: all of it had been stored before.

        What was refused between that and the end only told the same once more.
        """
        debt = self._debts.get(sample.slot)
        if debt is not None and debt.carried <= sample.tick:
            self._pay_off(sample.slot)

    def _pay_off(self, slot: int) -> None:
        del self._debts[slot]
        self._series.owed[slot] = False
        self._changed = True

    def stored(self, samples: Iterable[Sample]) -> None:
        """Note the samples of a request that was stored, in the order of their times."""
        for sample in samples:
            if sample.ends:
                self._end(sample)
            debt = self._debts.get(sample.slot)
            if debt is None or sample.ends or sample.tick <= debt.last_tick:
                continue
            self._changed = True
            if debt.last is not None and sample.tick - debt.last_tick <= PADDING_SECONDS:
                # A smaller value is a reset, of which the receiver counts the whole.
                debt.seen += sample.value - debt.last if sample.value >= debt.last else sample.value
            debt.last, debt.last_tick = sample.value, sample.tick
            if debt.seen >= sample.value and sample.tick > debt.carried:
                self._pay_off(sample.slot)

    def unseen(self, samples: Iterable[Sample]) -> set[int]:
        """Return the slots of those owed whose growth no receiver would see in samples, given in order of their times.

        Those are values without a sample shortly before. Prometheus hides what they have grown by from short windows
        and not from long ones, and VictoriaMetrics counts all of them: they are not sent, and stay owed.
        """
        last: dict[int, int] = {}
        found = set()
        for sample in samples:
            debt = self._debts.get(sample.slot)
            if debt is None or sample.ends:
                continue
            before = last.get(sample.slot, -PADDING_SECONDS if debt.last is None else debt.last_tick)
            if sample.value and sample.tick - before > PADDING_SECONDS:
                found.add(sample.slot)
            last[sample.slot] = sample.tick
        return found

    # Paying

    def begin(self, slots: Iterable[int], tick: int) -> None:
        """Note series of which the tick has the zero with which they begin: the next one has their value."""
        for slot in slots:
            if slot not in self._debts:
                self._debts[slot] = Debt(0.0, None, tick - 1, carried=tick)  # what was before is another series'
                self._series.owed[slot] = True
                self._changed = True

    def pay(self, tick: int, previous: int) -> Carried | None:
        """Return what the tick carries instead of the values, and begin those series again that have to.

        Those of which the tick `previous` carried something else have their whole value on this one.
        """
        slots = np.array(sorted(slot for slot, debt in self._debts.items() if debt.carried != previous), np.int64)
        if not len(slots):
            return None
        self._changed = True
        carried = np.zeros(len(slots))
        begin = np.ones(len(slots), np.bool_)
        for place, slot in enumerate(slots.tolist()):
            debt = self._debts[slot]
            debt.carried = tick
            near = debt.last is not None and tick - debt.last_tick <= PADDING_SECONDS
            if near and debt.last == debt.seen:
                carried[place], begin[place] = debt.seen, False
            else:
                self._series.value[slot] -= debt.seen
                # What is stored of the series before is another one's now, as the receiver sees it.
                debt.seen = 0.0
        return Carried(slots, carried, slots[begin])

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
        if slot not in self._debts:
            told = series.written_value(slot)
            live = series.is_live_counter(slot)
            self._debts[slot] = Debt(told, told, int(series.written[slot])) if live else Debt(0.0)
            series.owed[slot] = True
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
            self._series.owed[slot] = True


def _beginning(first: Sample, told: Told) -> Debt:
    """Return what is owed of a series that begins, of which this is the first sample that was not stored.

    Its zeros may be in several requests, sent in their order: those before this one were stored, or there was a debt.
    """
    zero = first.tick - told.step
    return Debt(0.0, 0.0, zero) if zero >= told.zero_ticks.get(first.slot, told.zeros_from) else Debt(0.0)
