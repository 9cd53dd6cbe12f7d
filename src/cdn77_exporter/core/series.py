"""Series and their samples: cumulative values, padding, idle series and stale markers; a tick becomes frames.

Every series has a slot. What a tick does to all of them is done with arrays; only what is new is touched one by one. A
frame says which samples are written; how they are written down is the business of an encoder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.catalogue import Catalogue, split_key, stream_of
from cdn77_exporter.core.measures import Kind, Mean, Measure

#: Seconds without a change after which a series gets a stale marker.
IDLE_SECONDS = 600
#: Seconds of old values that are written before a new one (zeros, for a new series).
PADDING_SECONDS = 300
#: The bits of the NaN that tells a Prometheus receiver that a series has ended.
STALE_BITS = 0x7FF0000000000002

_FIRST_SLOTS = 512
_RESTORED_AT_ONCE = 10_000
_ROWS_AT_ONCE = 1_000

Row = TypeVar("Row", bound=tuple[object, ...])
Slots = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]

_COUNTER, _WINDOW, _SPARSE = 0, 1, 2


def _behaviour(measure: Measure | None) -> int:
    if measure is None or measure.kind is Kind.COUNTER:
        return _COUNTER
    return _SPARSE if isinstance(measure.value, Mean) else _WINDOW


@dataclass(frozen=True, slots=True)
class Frame:
    """Samples of some series: at each of `times_ms` (Unix milliseconds, ascending) the same value of each.

    `slots` [series], ascending; `values` [series]. A NaN with `STALE_BITS` is a stale marker.
    """

    times_ms: tuple[int, ...]
    slots: Slots
    values: Values

    @property
    def samples(self) -> int:
        """How many samples it holds."""
        return len(self.times_ms) * len(self.slots)


class Columns(Collection[Row]):
    """Rows, as often as they are asked for; as arrays, one for each column, until then."""

    def __init__(self, columns: Sequence[npt.NDArray[Any]]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns[0])

    def __contains__(self, row: object) -> bool:
        return any(row == own for own in self)

    def __iter__(self) -> Iterator[Row]:
        for begin in range(0, len(self), _ROWS_AT_ONCE):
            rows = zip(*(column[begin : begin + _ROWS_AT_ONCE].tolist() for column in self._columns), strict=True)
            yield from cast("Iterator[Row]", rows)


class SeriesTable:
    """All series, by slot, with the value that each has now.

    `tick_seconds`: distance of ticks. Ticks are Unix seconds, timestamps Unix milliseconds.
    """

    def __init__(self, catalogue: Catalogue, tick_seconds: int) -> None:
        self.catalogue = catalogue
        self._tick = tick_seconds
        self._slots: dict[str, int] = {}
        self._keys: list[str] = []
        self.end = 0  # a slot above that of every series
        size = _FIRST_SLOTS
        self.value: Values = np.zeros(size)
        self.changed: Slots = np.zeros(size, np.int64)  # tick of the last change
        self.written: Slots = np.zeros(size, np.int64)  # tick of the last sample
        self.live: _Flags = np.zeros(size, np.bool_)
        self.born: npt.NDArray[np.uint32] = np.zeros(size, np.uint32)  # how many series have had the slot
        self._behaviour: npt.NDArray[np.uint8] = np.zeros(size, np.uint8)
        self._counted: _Flags = np.zeros(size, np.bool_)  # whether since the last emission
        self._before: Values = np.zeros(size)  # the value then, of what was counted since
        self._dirty: _Flags = np.zeros(size, np.bool_)  # whether it changed since the last commit
        self._new: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._slots)

    def key(self, slot: int) -> str:
        """Return the key of a slot's series."""
        return self._keys[slot]

    def keys(self) -> Iterator[str]:
        """Iterate over every key."""
        return iter(self._slots)

    def streams(self) -> set[str]:
        """Return the streams of all series."""
        return {stream_of(key) for key in self._slots}

    def find(self, key: str) -> int | None:
        """Return the slot of a key, if there is one."""
        return self._slots.get(key)

    def slot(self, key: str) -> int:
        """Return the slot of a key; a new series is made with value 0."""
        found = self._slots.get(key)
        if found is None:
            found = self._append(key)
            self._new.append((found, key))
        return found

    def _append(self, key: str) -> int:
        slot = self.end
        self.end += 1
        self._grow(self.end)
        self._keys.append(key)
        self._behaviour[slot] = _behaviour(self.catalogue.measure(split_key(key)[0]))
        self.born[slot] += 1
        self._slots[key] = slot
        return slot

    def _grow(self, size: int) -> None:
        if size <= len(self.value):
            return
        size = max(size, len(self.value) * 5 // 4)
        for name in ("value", "changed", "written", "live", "born", "_behaviour", "_counted", "_before", "_dirty"):
            old = getattr(self, name)
            new = np.zeros(size, old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def add(self, slot: int, amount: float) -> None:
        """Count: the sample of the next emitted tick holds it. An amount of 0 makes the series appear all the same."""
        self._note(np.array([slot]))
        self.value[slot] += amount

    def add_all(self, slots: Slots, amounts: npt.NDArray[Any]) -> None:
        """Count for each slot [slots]; a slot may be there several times."""
        self._note(slots)
        np.add.at(self.value, slots, amounts.astype(np.float64))

    def put(self, slot: int, value: float) -> None:
        """Set a gauge's value for the next emitted tick."""
        self.put_all(np.array([slot]), np.array([value]))

    def put_all(self, slots: Slots, values: Values) -> None:
        """Set the values [slots] of gauges for the next emitted tick."""
        self._note(slots)
        self.value[slots] = values

    def _note(self, slots: Slots) -> None:
        first = slots[~self._counted[slots]]
        self._counted[first] = True
        self._before[first] = self.value[first]

    def emit(self, tick: int, *, offset_ms: int = 0, pad_from: int = 0) -> list[Frame]:
        """Write `tick`: its frames, in the order in which they must be sent.

        `pad_from`: the first tick on which padding may be written. Later calls need later ticks, or a larger offset.
        """
        touched = np.flatnonzero(self._counted)
        self.changed[touched] = tick
        frames = self._pad(touched, tick, offset_ms, pad_from)
        chosen, stale = self._choose(touched, tick)
        slots = np.flatnonzero(chosen)
        values = self.value[slots]
        values.view(np.uint64)[stale[slots]] = STALE_BITS
        if len(slots):
            frames.append(Frame((tick * 1000 + offset_ms,), slots, values))
        self.written[slots] = tick
        ended = np.flatnonzero(stale)
        self.live[ended] = False
        self._dirty[touched] = True
        self._dirty[ended] = True
        self._counted[touched] = False
        return frames

    def _pad(self, touched: Slots, tick: int, offset_ms: int, pad_from: int) -> list[Frame]:
        """A counter that begins or comes back gets its old value on the ticks before, or increase() cannot see it."""
        earliest = max(pad_from, tick - PADDING_SECONDS)
        earliest += -earliest % self._tick
        ticks = range(earliest, tick, self._tick)
        padded = touched[(self._behaviour[touched] == _COUNTER) & (self.written[touched] < tick - self._tick)]
        skipped = np.maximum(0, (self.written[padded] - earliest) // self._tick + 1)
        frames = []
        for skip in np.unique(skipped[skipped < len(ticks)]).tolist():
            slots = padded[skipped == skip]
            times = tuple(at * 1000 + offset_ms for at in ticks[skip:])
            frames.append(Frame(times, slots, self._before[slots]))
        return frames

    def _choose(self, touched: Slots, tick: int) -> tuple[_Flags, _Flags]:
        """Return which series have a sample on this tick, and which of them a stale marker."""
        size = self.end
        self.live[touched] = True
        live, behaviour = self.live[:size], self._behaviour[:size]
        idle = self.changed[:size] <= tick - IDLE_SECONDS
        # A window that holds nobody has said so on the tick on which it became empty; then its gauge ends.
        empty = (behaviour == _WINDOW) & (self.value[:size] == 0) & (self.changed[:size] < tick)
        stale = live & (((behaviour != _WINDOW) & idle) | empty)
        chosen = stale | (live & ((behaviour != _SPARSE) | self._counted[:size]))
        return chosen, stale

    # State: what changed since the last call, and the way back.

    def take_new(self) -> list[tuple[int, str]]:
        """Return slots and keys made since the last call."""
        new, self._new = self._new, []
        return new

    def take_changes(self, new: Iterable[tuple[int, str]]) -> Columns[tuple[int, float, int, int, bool]]:
        """Return slot, value, changed, written and live of what changed since the last call, and of the `new` ones.

        What was counted since the last emission is part of the value; `pending` tells it apart.
        """
        for slot, _ in new:
            self._dirty[slot] = True
        slots = np.flatnonzero(self._dirty | self._counted)
        self._dirty[slots] = False
        arrays = (self.value, self.changed, self.written, self.live)
        return Columns((slots, *(array[slots] for array in arrays)))

    def pending(self) -> Columns[tuple[int, float]]:
        """Return slots counted since the last emission, with the value that was emitted last."""
        slots = np.flatnonzero(self._counted)
        return Columns((slots, self._before[slots]))

    def windows(self) -> tuple[Slots, Values]:
        """Return slots and values of the window gauges that are live or not zero."""
        size = self.end
        chosen = (self._behaviour[:size] == _WINDOW) & (self.live[:size] | (self.value[:size] != 0))
        slots = np.flatnonzero(chosen)
        return slots, self.value[slots]

    def restore(
        self, rows: Iterable[tuple[str, float, int, int, bool]], pending: Iterable[tuple[int, float]], last_tick: int
    ) -> None:
        """Take up rows of key, value, changed, written, live in the order of slots (the table must be empty)."""
        rows = iter(rows)
        for part in iter(lambda: list(islice(rows, _RESTORED_AT_ONCE)), []):
            keys, *columns = zip(*part, strict=True)
            begin = self.end
            for key in keys:
                self._append(key)
            arrays = (self.value, self.changed, self.written, self.live)
            for array, column in zip(arrays, columns, strict=True):
                array[begin : self.end] = column
        if last_tick:
            # A live counter or window gauge was written on every tick, also on those that changed nothing in its row.
            always = self.live[: self.end] & (self._behaviour[: self.end] != _SPARSE)
            self.written[: self.end][always] = last_tick
        for slot, before in pending:
            self._counted[slot] = True
            self._before[slot] = before
