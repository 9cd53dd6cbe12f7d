"""Series and their samples: cumulative values, padding, idle series and stale markers; ticks become request bodies.

Every series has a slot. What a tick does to all of them is done with arrays; only what changed is touched one by one.
Series lie in blocks of encoded entries, in which a tick overwrites values and timestamps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core import wire
from cdn77_exporter.core.catalogue import CATALOGUE, TIME_TO_FIRST_BYTE, Kind

#: Seconds without a change after which a series gets a stale marker.
IDLE_SECONDS = 600
#: Seconds of old values that are written before a new one (zeros, for a new series).
PADDING_SECONDS = 300
_BLOCK = 500
_RESTORED_AT_ONCE = 10_000
_ROWS_AT_ONCE = 1_000
_SEPARATOR = "\x1f"
_NEVER = 0

Row = TypeVar("Row", bound=tuple[object, ...])

_COUNTER, _WINDOW, _SPARSE = 0, 1, 2
#: Its value and its timestamp are overwritten before it is sent.
_ANY_SAMPLE = wire.sample_bytes(0.0, 1 << 40)
_BEHAVIOUR = tuple(
    _COUNTER if metric.kind is Kind.COUNTER else _SPARSE if metric is TIME_TO_FIRST_BYTE else _WINDOW
    for metric in CATALOGUE
)


def series_key(code: int, values: Iterable[str]) -> str:
    """A series' key: its metric's place in the catalogue and its label values, as one text."""
    return f"{code}{_SEPARATOR}{_SEPARATOR.join(values)}"


def split_key(key: str) -> tuple[int, list[str]]:
    """The inverse of `series_key`."""
    code, *values = key.split(_SEPARATOR)
    return int(code), values


class _Block:
    """Up to `_BLOCK` encoded entries with one sample each, whose values and timestamps are overwritten in place."""

    __slots__ = ("_bytes", "count", "ends", "samples")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.count = 0
        self.ends = np.zeros(_BLOCK, np.int32)  # where each entry ends
        self.samples = np.zeros(0, np.int64)  # where each value begins

    def append(self, entry: bytes) -> None:
        self._bytes += entry
        self.ends[self.count] = len(self._bytes)
        self.count += 1

    def close(self) -> None:
        """No more will come: give back the room for it."""
        self._bytes = bytearray(bytes(self._bytes))

    def labels(self, place: int) -> bytes:
        """The label bytes of an entry."""
        begin = int(self.ends[place - 1]) if place else 0
        entry = self._bytes[begin : int(self.ends[place])]
        header = 2
        while entry[header - 1] & 0x80:
            header += 1
        return bytes(entry[header : -wire.SAMPLE_BYTES])

    def encode(
        self, values: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_], stamp: npt.NDArray[np.uint8]
    ) -> bytes:
        """The chosen entries with the given values, all with the timestamp `stamp`."""
        content = np.frombuffer(self._bytes, np.uint8)
        starts = self.ends[: self.count] - (wire.SAMPLE_BYTES - wire.VALUE_OFFSET)
        content[np.add.outer(starts, np.arange(8))] = values.view(np.uint8).reshape(-1, 8)
        gap = wire.TIMESTAMP_OFFSET - wire.VALUE_OFFSET
        content[np.add.outer(starts + gap, np.arange(wire.TIMESTAMP_BYTES))] = stamp
        if chosen.all():
            return content.tobytes()
        lengths = np.diff(self.ends[: self.count], prepend=0)
        return content[np.repeat(chosen, lengths)].tobytes()


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
    """All series that were ever made, by slot, with the value that each has now.

    `tick_seconds`: distance of ticks. Ticks are Unix seconds, timestamps Unix milliseconds.
    """

    def __init__(self, tick_seconds: int) -> None:
        self._tick = tick_seconds
        self._slots: dict[str, int] = {}
        self._blocks: list[_Block] = []
        self._size = 0
        self.value: npt.NDArray[np.float64] = np.zeros(_BLOCK)
        self.changed: npt.NDArray[np.int64] = np.zeros(_BLOCK, np.int64)  # tick of the last change
        self.written: npt.NDArray[np.int64] = np.zeros(_BLOCK, np.int64)  # tick of the last sample
        self.live: npt.NDArray[np.bool_] = np.zeros(_BLOCK, np.bool_)
        self._behaviour: npt.NDArray[np.uint8] = np.zeros(_BLOCK, np.uint8)
        self._counted: npt.NDArray[np.bool_] = np.zeros(_BLOCK, np.bool_)  # whether since the last emission
        self._before: npt.NDArray[np.float64] = np.zeros(_BLOCK)  # the value then, of what was counted since
        self._dirty: npt.NDArray[np.bool_] = np.zeros(_BLOCK, np.bool_)  # whether it changed since the last commit
        self._new: list[tuple[int, str]] = []
        self._emitted = _NEVER

    def __len__(self) -> int:
        return self._size

    def keys(self) -> Iterator[str]:
        """Every key, in the order of slots."""
        return iter(self._slots)

    def streams(self) -> set[str]:
        """The first label's value of every series, which is its stream."""
        return {key.split(_SEPARATOR, 2)[1] for key in self._slots}

    def find(self, key: str) -> int | None:
        """The slot of a key, if there is one."""
        return self._slots.get(key)

    def slot(self, key: str) -> int:
        """The slot of a key; a new series is made with value 0."""
        found = self._slots.get(key)
        if found is None:
            found = self._append(key)
            self._new.append((found, key))
        return found

    def _append(self, key: str) -> int:
        slot = self._size
        code, values = split_key(key)
        entry = wire.series_entry(wire.label_bytes(CATALOGUE[code], values), _ANY_SAMPLE)
        if slot % _BLOCK == 0:
            if self._blocks:
                self._blocks[-1].close()
            self._blocks.append(_Block())
            self._grow(slot + _BLOCK)
        self._blocks[-1].append(entry)
        self._behaviour[slot] = _BEHAVIOUR[code]
        self._slots[key] = slot
        self._size += 1
        return slot

    def _grow(self, size: int) -> None:
        if size <= len(self.value):
            return
        size = max(size, len(self.value) * 5 // 4 // _BLOCK * _BLOCK)
        for name in ("value", "changed", "written", "live", "_behaviour", "_counted", "_before", "_dirty"):
            old = getattr(self, name)
            new = np.zeros(size, old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def add(self, slot: int, amount: float) -> None:
        """Count: the sample of the next emitted tick holds it. An amount of 0 makes the series appear all the same."""
        self._note(slot)
        self.value[slot] += amount

    def add_all(self, slots: Sequence[int], amounts: Sequence[float]) -> None:
        """`add` for each; a slot may be there several times."""
        if not slots:
            return
        where = np.array(slots, np.int64)
        first = where[~self._counted[where]]
        self._counted[first] = True
        self._before[first] = self.value[first]
        np.add.at(self.value, where, np.array(amounts, np.float64))

    def put(self, slot: int, value: float) -> None:
        """Set a gauge's value for the next emitted tick."""
        self._note(slot)
        self.value[slot] = value

    def _note(self, slot: int) -> None:
        if not self._counted[slot]:
            self._counted[slot] = True
            self._before[slot] = self.value[slot]

    def emit(self, tick: int, *, offset_ms: int = 0, pad_from: int = 0) -> list[tuple[bytes, int]]:
        """Write `tick`: request bodies with their numbers of samples, in the order in which they must be sent.

        `pad_from`: the first tick on which padding may be written. Later calls need later ticks, or a larger offset.
        """
        touched = np.flatnonzero(self._counted)
        self.changed[touched] = tick
        packer = wire.Packer()
        self._pad(touched, tick, offset_ms, pad_from, packer)
        chosen, stale = self._choose(touched, tick)
        stamp = np.frombuffer(wire.timestamp_bytes(tick * 1000 + offset_ms), np.uint8)
        self._encode(chosen, stale, stamp, packer)
        packer.close()
        size = self._size
        self.written[:size][chosen] = tick
        ended = np.flatnonzero(stale)
        self.live[ended] = False
        self._dirty[touched] = True
        self._dirty[ended] = True
        self._counted[touched] = False
        self._emitted = tick
        return packer.requests

    def _pad(
        self, touched: npt.NDArray[np.int64], tick: int, offset_ms: int, pad_from: int, packer: wire.Packer
    ) -> None:
        """A counter that begins or comes back gets its old value on the ticks before, or increase() cannot see it."""
        gap = (self._behaviour[touched] == _COUNTER) & (self.written[touched] < tick - self._tick)
        earliest = max(pad_from, tick - PADDING_SECONDS)
        earliest += -earliest % self._tick
        stamps = [wire.timestamp_bytes(at * 1000 + offset_ms) for at in range(earliest, tick, self._tick)]
        padding: dict[int, bytes] = {}
        padded = touched[gap]
        for slot, before in zip(padded.tolist(), self._before[padded].tolist(), strict=True):
            skip = max(0, (int(self.written[slot]) - earliest) // self._tick + 1)
            count = len(stamps) - skip
            if count <= 0:
                continue
            samples = None if before else padding.get(skip)
            if samples is None:
                value = wire.sample_bytes(before, 1 << 40)[: wire.TIMESTAMP_OFFSET]
                samples = b"".join([value + stamp for stamp in stamps[skip:]])
                if not before:  # most series that begin have the same zeros
                    padding[skip] = samples
            labels = self._blocks[slot // _BLOCK].labels(slot % _BLOCK)
            packer.add(wire.series_entry(labels, samples), count)

    def _choose(self, touched: npt.NDArray[np.int64], tick: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which series have a sample on this tick, and which of them a stale marker."""
        size = self._size
        self.live[touched] = True
        live, behaviour = self.live[:size], self._behaviour[:size]
        idle = self.changed[:size] <= tick - IDLE_SECONDS
        # A window that holds nobody has said so on the tick on which it became empty; then its gauge ends.
        empty = (behaviour == _WINDOW) & (self.value[:size] == 0) & (self.changed[:size] < tick)
        stale = live & (((behaviour != _WINDOW) & idle) | empty)
        chosen = stale | (live & ((behaviour != _SPARSE) | self._counted[:size]))
        return chosen, stale

    def _encode(
        self,
        chosen: npt.NDArray[np.bool_],
        stale: npt.NDArray[np.bool_],
        stamp: npt.NDArray[np.uint8],
        packer: wire.Packer,
    ) -> None:
        values = self.value[: self._size].copy()
        values.view(np.uint64)[stale] = wire.STALE_BITS
        for number, block in enumerate(self._blocks):
            begin = number * _BLOCK
            end = begin + block.count
            here = chosen[begin:end]
            count = int(here.sum())
            if count:
                packer.add(block.encode(values[begin:end], here, stamp), count)

    # State: what changed since the last call, and the way back.

    def take_new(self) -> list[tuple[int, str]]:
        """Slots and keys made since the last call."""
        new, self._new = self._new, []
        return new

    def take_changes(self, new: Iterable[tuple[int, str]]) -> Columns[tuple[int, float, int, int, bool]]:
        """Slot, value, changed, written and live of what changed since the last call, and of the `new` ones.

        What was counted since the last emission is part of the value; `pending` tells it apart.
        """
        for slot, _ in new:
            self._dirty[slot] = True
        slots = np.flatnonzero(self._dirty | self._counted)
        self._dirty[slots] = False
        arrays = (self.value, self.changed, self.written, self.live)
        return Columns((slots, *(array[slots] for array in arrays)))

    def pending(self) -> Columns[tuple[int, float]]:
        """Slots counted since the last emission, with the value that was emitted last."""
        slots = np.flatnonzero(self._counted)
        return Columns((slots, self._before[slots]))

    def windows(self) -> list[tuple[int, float]]:
        """Slots and values of the window gauges that are live or not zero."""
        size = self._size
        chosen = (self._behaviour[:size] == _WINDOW) & (self.live[:size] | (self.value[:size] != 0))
        slots = np.flatnonzero(chosen)
        return list(zip(slots.tolist(), self.value[slots].tolist(), strict=True))

    def restore(
        self, rows: Iterable[tuple[str, float, int, int, bool]], pending: Iterable[tuple[int, float]], last_tick: int
    ) -> None:
        """Take up rows of key, value, changed, written, live in the order of slots (the table must be empty)."""
        rows = iter(rows)
        for part in iter(lambda: list(islice(rows, _RESTORED_AT_ONCE)), []):
            keys, *columns = zip(*part, strict=True)
            begin = self._size
            for key in keys:
                self._append(key)
            arrays = (self.value, self.changed, self.written, self.live)
            for array, column in zip(arrays, columns, strict=True):
                array[begin : self._size] = column
        if last_tick:
            # A live counter or window gauge was written on every tick, also on those that changed nothing in its row.
            always = self.live[: self._size] & (self._behaviour[: self._size] != _SPARSE)
            self.written[: self._size][always] = last_tick
        for slot, before in pending:
            self._counted[slot] = True
            self._before[slot] = before
        self._emitted = last_tick
