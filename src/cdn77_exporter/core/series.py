"""Series and their samples: cumulative values, padding, idle series and stale markers; a tick becomes frames.

Every series has a slot. What a tick does to all of them is done with arrays; only what is new is touched one by one. A
frame says which samples are written; how they are written down is the business of an encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.catalogue import Catalogue, Metric, first_value, split_key
from cdn77_exporter.core.measures import PART, Kind, Mean, Measure, OfViewers
from cdn77_exporter.core.series_rows import COLUMNS, PENDING, VALUES, latest, packed
from cdn77_exporter.core.wholes import Wholes

#: Seconds of zeros that are written before a series begins; a counter that was not written for longer begins anew.
PADDING_SECONDS = 300
#: Seconds without a sample after which a mean gets a stale marker.
_SPARSE_IDLE_SECONDS = 600
#: The bits of the NaN that tells a Prometheus receiver that a series has ended.
STALE_BITS = 0x7FF0000000000002

_FIRST_SLOTS = 512

Slots = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]

# Counters, counters that stay while their stream is watched, gauges of a window, and means; and series of former
# metrics, which have ended but for their stale markers: counters that have a successor, and others.
_COUNTER, _VIEWERS, _WINDOW, _SPARSE, _FORMER_COUNTER, _FORMER = range(6)


def _behaviour(measure: Measure) -> int:
    if measure.kind is Kind.COUNTER:
        return _VIEWERS if isinstance(measure.value, OfViewers) else _COUNTER
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
        """The number of samples in it."""
        return len(self.times_ms) * len(self.slots)

    def of(self, chosen: _Flags) -> Frame:
        """Return the samples of some of its series."""
        return Frame(self.times_ms, self.slots[chosen], self.values[chosen])


@dataclass(frozen=True, slots=True)
class Carried:
    """Values that a tick carries instead of those of the series, which the next tick carries then.

    `slots`, `values` [series]; `begins`: those of the slots that begin again, with zeros before.
    """

    slots: Slots
    values: Values
    begins: Slots


class SeriesTable:
    """All series, by slot, with the value that each has now.

    `tick_seconds`: distance of ticks. `idle_seconds`: after so long without a change a counter ends. Ticks are Unix
    seconds, timestamps Unix milliseconds.

    A series that ends gets a stale marker. Five minutes later it is forgotten, and its slot is free: until then it is
    known which ticks it may not be written on again.

    Series of which `wholes` knows that they are parts of one share all but their values: a part that is new to a whole
    that is live is live itself, with a value of 0 so far.
    """

    def __init__(self, catalogue: Catalogue, tick_seconds: int, idle_seconds: int = 86_400) -> None:
        self.catalogue = catalogue
        self._tick = tick_seconds
        self._idle = idle_seconds
        self._slots: dict[str, int] = {}
        self._keys: list[str] = []
        self._free: list[int] = []
        self._streams: dict[str, int] = {}  # stream -> its number; one of no name for series of all streams
        self._of_stream: npt.NDArray[np.int64] = np.zeros(0, np.int64)  # series of each stream, by its number
        self.end = 0  # a slot above that of every series
        self._former = 0  # how many series are of former metrics
        size = _FIRST_SLOTS
        self.value: Values = np.zeros(size)
        self.changed: Slots = np.zeros(size, np.int64)  # tick of the last change
        self.written: Slots = np.zeros(size, np.int64)  # tick of the last sample
        self.created: Slots = np.zeros(size, np.int64)  # tick of the zero with which a counter began; 0 for others
        self.live: _Flags = np.zeros(size, np.bool_)
        self.there: _Flags = np.zeros(size, np.bool_)  # whether the slot has a series
        self.born: npt.NDArray[np.uint32] = np.zeros(size, np.uint32)  # how many series have had the slot
        self._behaviour: npt.NDArray[np.uint8] = np.zeros(size, np.uint8)
        self.per: npt.NDArray[np.uint32] = np.ones(size, np.uint32)  # so much of the value is 1 in a sample
        self._counted: _Flags = np.zeros(size, np.bool_)  # whether since the last emission
        self._before: Values = np.zeros(size)  # the value then, of what was counted since
        self._dirty: _Flags = np.zeros(size, np.bool_)  # whether it changed since the last commit
        self._stream: npt.NDArray[np.uint32] = np.zeros(size, np.uint32)  # the number of its stream
        self._ending: _Flags = np.zeros(size, np.bool_)  # whether it ends as soon as it may
        self.owed: _Flags = np.zeros(size, np.bool_)  # whether the receiver has not seen all of its value
        self.wholes = Wholes(size)
        self._new: list[tuple[int, str]] = []
        self._gone: list[int] = []
        self._emitted = 0  # the last tick
        #: Counters that changed with the last tick, and their values before; NaN for those that began with it.
        self.told: tuple[Slots, Values] = (np.zeros(0, np.int64), np.zeros(0))
        #: Of those that began, the ones that had ended shortly before: the first tick with a zero.
        self.zero_ticks: dict[int, int] = {}

    def __len__(self) -> int:
        """Return the number of series, without those of former metrics, which have ended."""
        return len(self._slots) - self._former

    @property
    def cost(self) -> int:
        """The number of series, with fewer for the parts of a whole."""
        return max(0, len(self) - self.wholes.parts) + self.wholes.cost

    def key(self, slot: int) -> str:
        """Return the key of a slot's series."""
        return self._keys[slot]

    def name_of(self, slot: int) -> str:
        """Return the name of a slot's series as people write it, such as `requests_total{pop="pragueCZ"}`."""
        code, values = split_key(self._keys[slot])
        metric = self.catalogue.metric(code)
        if metric is None:
            raise KeyError(f"no metric has the number {code}")
        pairs = [*zip(metric.labels, values, strict=True), *metric.external]
        return metric.name + "{" + ", ".join(f'{name}="{text}"' for name, text in pairs if name != PART) + "}"

    def keys(self) -> Iterator[str]:
        """Iterate over every key."""
        return iter(self._slots)

    def streams(self) -> set[str]:
        """Return the streams of all series."""
        return set(self._streams) - {""}

    def find(self, key: str) -> int | None:
        """Return the slot of a key, if there is one."""
        return self._slots.get(key)

    def slot(self, key: str) -> int:
        """Return the slot of a key; a new series is made with value 0."""
        found = self._slots.get(key)
        if found is None:
            found = self._free.pop() if self._free else self.end
            self._put(found, key)
            self._new.append((found, key))
        return found

    def _put(self, slot: int, key: str) -> None:
        if slot >= self.end:
            self._grow(slot + 1)
            self._keys += [""] * (slot + 1 - self.end)
            self.end = slot + 1
        self._keys[slot] = key
        code, values = split_key(key)
        metric = self._behave(slot, code)
        self.there[slot] = True
        self.changed[slot] = self._emitted
        self.born[slot] += 1
        self._slots[key] = slot
        number = self._streams.setdefault(self._stream_of(key), len(self._streams))
        if number == len(self._of_stream):
            self._of_stream = np.append(self._of_stream, np.zeros(max(64, number // 4), np.int64))
        self._stream[slot] = number
        self._of_stream[number] += 1
        if metric is not None and metric.native:
            self._join(slot, self.wholes.put(slot, metric.whole(values), values[-1]))

    def _stream_of(self, key: str) -> str:
        """Return the stream of a series; an empty text for one of all streams."""
        metric = self.catalogue.metric(split_key(key)[0])
        return first_value(key) if metric and metric.is_by_stream else ""

    def _join(self, slot: int, other: int | None) -> None:
        """Let a new part of a whole be as the `other` parts are, if there are any."""
        if other is not None:
            for column in (self.changed, self.written, self.created, self.live, self.owed, self._ending):
                column[slot] = column[other]

    def _behave(self, slot: int, code: int) -> Metric | None:
        """Let a slot behave as the series of its metric do; return the metric."""
        metric = self.catalogue.metric(code)
        measure = metric.measure if metric else None
        if measure:
            self._behaviour[slot], self.per[slot] = _behaviour(measure), measure.per
            return metric
        successor = self.catalogue.successor(metric) if metric else None
        has_one = successor is not None and successor.kind is Kind.COUNTER
        self._behaviour[slot] = _FORMER_COUNTER if has_one else _FORMER
        self.per[slot] = successor.per if successor else 1
        self._former += 1
        return metric

    def _grow(self, size: int) -> None:
        if size <= len(self.value):
            return
        size = max(size, len(self.value) * 5 // 4)
        columns = "value changed written created live there born per owed"
        for name in (*columns.split(), *["_behaviour", "_counted", "_before", "_dirty", "_stream", "_ending"]):
            old = getattr(self, name)
            new = np.zeros(size, old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
        self.wholes.grow(size)

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

    def end_series(self, slots: Slots) -> None:
        """Let counters end with the next tick that does not count them, as if they had been idle for long."""
        self._ending[self.wholes.with_all_parts(slots)] = True

    def is_live_counter(self, slot: int) -> bool:
        """Return whether the slot's series is a counter that has not ended, or one that has a successor."""
        return bool(self.live[slot] and self._behaviour[slot] in (_COUNTER, _VIEWERS, _FORMER_COUNTER))

    def is_former(self, slot: int) -> bool:
        """Return whether the slot's series is one of a former metric."""
        return bool(self._behaviour[slot] >= _FORMER_COUNTER)

    def ended_metrics(self) -> Iterator[str]:
        """Yield the names of former metrics without a successor whose series have not all ended."""
        size = self.end
        live = np.flatnonzero((self._behaviour[:size] == _FORMER) & self.live[:size])
        metrics = {self.catalogue.metric(split_key(self._keys[slot])[0]) for slot in live.tolist()}
        names = {metric.name for metric in metrics if metric and not self.catalogue.successor(metric)}
        yield from sorted(names)

    def written_value(self, slot: int) -> float:
        """Return the value that a slot had when it was written last."""
        return float(self._before[slot] if self._counted[slot] else self.value[slot])

    def take_former(self) -> tuple[Slots, Values]:
        """Return the slots of former counters that go on in a successor, and what they have counted and not written.

        None of it is counted in them any more.
        """
        size = self.end
        behaviour, counted = self._behaviour[:size], self._counted[:size]
        slots = np.flatnonzero((behaviour == _FORMER_COUNTER) & (self.live[:size] | counted))
        pending = np.where(counted[slots], self.value[slots] - self._before[slots], 0)
        self.value[slots] -= pending
        former = np.flatnonzero((behaviour >= _FORMER_COUNTER) & counted)
        self._counted[former] = False
        self._dirty[former] = True
        return slots, pending

    def emit(
        self,
        tick: int,
        *,
        offset_ms: int = 0,
        pad_from: int = 0,
        carried: Carried | None = None,
        settled: int | None = None,
    ) -> list[Frame]:
        """Write `tick`: its frames, in the order in which they must be sent.

        `pad_from`: the first tick on which padding may be written. `carried`: what is written instead of some values.
        `settled`: the first tick that the receiver may not have; counters that changed there do not end. Later calls
        need later ticks, or a larger offset.
        """
        if not self._emitted:  # series that were made before the first tick
            self.changed[: self.end] = np.where(self.changed[: self.end], self.changed[: self.end], tick)
        self._emitted = tick
        counted = np.flatnonzero(self._counted)
        touched = self.wholes.with_all_parts(counted)
        self.changed[touched] = tick
        begun = self._begin(touched, tick)
        self._tell(counted, begun)
        begun = np.union1d(begun, carried.begins) if carried else begun
        frames = self._pad(begun, tick, offset_ms, pad_from)
        carried = self._with_zeros(carried, tick)
        chosen, stale = self._choose(touched, tick, tick if settled is None else settled)
        slots = np.flatnonzero(chosen)
        values = self.value[slots]
        if carried:
            values[np.searchsorted(slots, carried.slots)] = carried.values
        values /= self.per[slots]
        values.view(np.uint64)[stale[slots]] = STALE_BITS
        if len(slots):
            frames.append(Frame((tick * 1000 + offset_ms,), slots, values))
        self.written[slots] = tick
        ended = np.flatnonzero(stale)
        self.live[ended] = self._ending[ended] = False
        self.value[ended] = 0  # what comes after it is a new series
        for slots in (counted, begun, ended):
            self._dirty[slots] = True
        self._counted[counted] = False
        if carried:  # the next tick tells the rest
            self._counted[carried.slots] = True
            self._before[carried.slots] = carried.values
        return frames

    def _tell(self, counted: Slots, begun: Slots) -> None:
        """Keep which counters change with this tick and what they were before; NaN for those that begin."""
        slots = np.union1d(counted[self._behaviour[counted] <= _VIEWERS], begun)
        before = np.where(self._counted[slots], self._before[slots], self.value[slots])
        before[np.isin(slots, begun)] = np.nan
        self.told = (slots, before)

    def _begin(self, touched: Slots, tick: int) -> Slots:
        """Return the counters that begin with this tick: new ones, and those that were not written for too long.

        The latter begin at zero: a value that resumes after more than `PADDING_SECONDS` some receivers count again.
        """
        size = self.end
        counters = self._behaviour[:size] <= _VIEWERS
        long_ago = (self.written[:size] > 0) & (self.written[:size] < tick - PADDING_SECONDS)
        gap = np.flatnonzero(self.live[:size] & counters & long_ago & ~self.owed[:size])
        if len(gap):
            before = np.where(self._counted[gap], self._before[gap], self.value[gap])
            self.value[gap] -= before
            self._before[gap] = 0
            self._dirty[gap] = True
        new = touched[counters[touched] & ~self.live[touched]]
        return np.union1d(new, gap) if len(gap) else new

    def zeros_from(self, tick: int, pad_from: int) -> int:
        """Return the first tick with a zero of the counters that begin with `tick`."""
        earliest = max(pad_from, tick - PADDING_SECONDS)
        return earliest + -earliest % self._tick

    def _pad(self, slots: Slots, tick: int, offset_ms: int, pad_from: int) -> list[Frame]:
        """Write zeros on the ticks before a counter begins, or increase() cannot see its first value."""
        earliest = self.zeros_from(tick, pad_from)
        ticks = range(earliest, tick, self._tick)
        skipped = np.maximum(0, (self.written[slots] - earliest) // self._tick + 1)
        late = (skipped > 0) | (self.written[slots] == tick - self._tick)  # which has no room, wherever zeros may begin
        late &= self.written[slots] < tick  # a tick that is written again is the last one: no later one has the value
        first = earliest + skipped * self._tick
        self.zero_ticks = dict(zip(slots[late].tolist(), first[late].tolist(), strict=True))
        self.created[slots] = np.minimum(first, tick)
        frames = []
        for skip in np.unique(skipped[skipped < len(ticks)]).tolist():
            times = tuple(at * 1000 + offset_ms for at in ticks[skip:])
            own = slots[skipped == skip]
            frames.append(Frame(times, own, np.zeros(len(own))))
        return frames

    def _with_zeros(self, carried: Carried | None, tick: int) -> Carried | None:
        """Add those that begin on the tick after their end: no tick before it has room for a zero, so it has theirs."""
        zeros = np.array([slot for slot, first in self.zero_ticks.items() if first >= tick], np.int64)
        if carried is not None:
            zeros = np.setdiff1d(zeros, carried.slots)
        if not len(zeros):
            return carried
        slots, values = zeros, np.zeros(len(zeros))
        begins = zeros
        if carried is not None:
            slots, values = np.append(carried.slots, slots), np.append(carried.values, values)
            begins = np.union1d(carried.begins, begins)
        order = np.argsort(slots)
        return Carried(slots[order], values[order], begins)

    def _choose(self, touched: Slots, tick: int, settled: int) -> tuple[_Flags, _Flags]:
        """Return which series have a sample on this tick, and which of them a stale marker."""
        size = self.end
        empty = (self._behaviour[touched] == _WINDOW) & (self.value[touched] == 0)  # who came has left again
        self.live[touched[~empty]] = True
        live, behaviour, value = self.live[:size], self._behaviour[:size], self.value[:size]
        age = tick - self.changed[:size]
        self._ending[touched] = False
        idle = (behaviour <= _VIEWERS) & ((age >= self._idle) | self._ending[:size]) & (self.changed[:size] < settled)
        watched = np.zeros(len(self._of_stream), np.bool_)
        watched[self._stream[:size][live & (behaviour == _WINDOW) & (value > 0)]] = True
        idle &= (behaviour != _VIEWERS) | ~watched[self._stream[:size]]
        idle |= (behaviour == _SPARSE) & (age >= _SPARSE_IDLE_SECONDS)
        # A window that holds nobody has said so on the tick on which it became empty; then its gauge ends.
        idle |= (behaviour == _WINDOW) & (value == 0) & (age > 0)
        # What a former counter still owes goes to its successor when all of its requests have come to their end.
        idle |= (behaviour == _FORMER) | ((behaviour == _FORMER_COUNTER) & (settled >= tick))
        stale = live & idle & ~self.owed[:size]
        chosen = stale | (live & ((behaviour <= _WINDOW) | ((behaviour == _SPARSE) & self._counted[:size])))
        return chosen, stale

    def forget(self, tick: int) -> tuple[Slots, set[str]]:
        """Forget series that ended `PADDING_SECONDS` before `tick`: their slots, and the streams without any other."""
        size = self.end
        written = self.written[:size]
        ended = (written > 0) & (written <= tick - PADDING_SECONDS)
        # Made, and never written.
        former = self._behaviour[:size] >= _FORMER_COUNTER
        ended |= (written == 0) & (former | (self.changed[:size] <= tick - self._idle))
        counted = self.wholes.spread(self._counted[:size])
        slots = np.flatnonzero(ended & self.there[:size] & ~self.live[:size] & ~counted)
        streams = set()
        for slot in slots.tolist():
            key = self._keys[slot]
            del self._slots[key]
            self._keys[slot] = ""
            number = int(self._stream[slot])
            self._of_stream[number] -= 1
            if not self._of_stream[number]:
                streams.add(self._stream_of(key))
        for numbers in (self.value, self.changed, self.written, self.created, self._before):
            numbers[slots] = 0
        for flags in (self.there, self._dirty):
            flags[slots] = False
        self._former -= int(np.count_nonzero(self._behaviour[slots] >= _FORMER_COUNTER))
        self.wholes.remove(slots)
        self._free += slots.tolist()
        self._gone += slots.tolist()
        if streams:
            self._renumber_streams(streams)
        return slots, streams - {""}

    def _renumber_streams(self, gone: set[str]) -> None:
        kept = [stream for stream in self._streams if stream not in gone]
        new = np.zeros(len(self._of_stream), np.uint32)
        counts = np.zeros(len(kept) + 64, np.int64)
        for number, stream in enumerate(kept):
            old = self._streams[stream]
            new[old], counts[number] = number, self._of_stream[old]
        self._streams = {stream: number for number, stream in enumerate(kept)}
        self._stream[: self.end] = new[self._stream[: self.end]]
        self._of_stream = counts

    def begin_anew(self, last: int) -> None:
        """Let every counter begin again at zero with the next emission: up to the tick `last` it is not known what
        was written."""
        size = self.end
        known = self.wholes.spread(self.live[:size] | self._counted[:size])
        self.written[:size][known] = last
        counters = self._behaviour[:size] <= _VIEWERS
        self._counted[:size] &= ~(self._behaviour[:size] == _SPARSE)
        slots = np.flatnonzero(known & counters)
        self.value[slots] = self._before[slots] = 0
        self.live[slots] = False
        self._counted[slots] = True

    # State: what changed since the last call, and the way back.

    def take_gone(self) -> list[int]:
        """Return the slots that were forgotten since the last call; a slot may be in use again."""
        gone, self._gone = self._gone, []
        return gone

    def take_new(self) -> list[tuple[int, str]]:
        """Return slots and keys made since the last call, those that have gone again left out."""
        new, self._new = self._new, []
        return [(slot, key) for slot, key in dict(new).items() if self._slots.get(key) == slot]

    def take_changes(self, new: Iterable[tuple[int, str]]) -> bytes:
        """Return a run of `VALUES` of what changed since the last call, and of the `new` ones.

        What was counted since the last emission is part of the value; `pending` tells it apart.
        """
        for slot, _ in new:
            self._dirty[slot] = True
        slots = np.flatnonzero(self._dirty | self._counted)
        self._dirty[slots] = False
        rows = np.zeros(len(slots), VALUES)
        rows["slot"] = slots
        for name in COLUMNS:
            rows[name] = getattr(self, name)[slots]
        return packed(rows)

    def pending(self) -> bytes:
        """Return rows of `PENDING`: slots counted since the last emission, with the value that was emitted last."""
        slots = np.flatnonzero(self._counted)
        rows = np.zeros(len(slots), PENDING)
        rows["slot"], rows["before"] = slots, self._before[slots]
        return rows.tobytes()

    def windows(self) -> tuple[Slots, Values]:
        """Return slots and values of the window gauges that are live or not zero."""
        size = self.end
        chosen = (self._behaviour[:size] == _WINDOW) & (self.live[:size] | (self.value[:size] != 0))
        slots = np.flatnonzero(chosen)
        return slots, self.value[slots]

    def restore(
        self,
        keys: Iterable[tuple[int, str]],
        values: Iterable[bytes],
        pending: bytes,
        last: int,
    ) -> None:
        """Take up slots with keys, runs of `VALUES`, oldest first, and rows of `PENDING` (the table must be empty).

        Series of former metrics have no more samples but their stale markers. `last`: the tick that was written last.
        """
        for slot, key in keys:
            self._put(slot, key)
        rows = latest(values)
        rows = rows[rows["slot"] < self.end]
        rows = rows[self.there[rows["slot"]]]
        slots = rows["slot"]
        for name in COLUMNS:
            getattr(self, name)[slots] = rows[name]
        self.live[: self.end] = self.wholes.spread(self.live[: self.end])
        for column in (self.changed, self.written):
            self.wholes.level(column)
        self._free = [slot for slot, key in enumerate(self._keys) if not key]
        if last:
            # A live counter or window gauge was written on every tick, also on those that changed nothing in its row.
            always = self.live[: self.end] & (self._behaviour[: self.end] != _SPARSE)
            self.written[: self.end][always] = last
        counted = np.frombuffer(pending, PENDING)
        counted = counted[counted["slot"] < self.end]
        counted = counted[self.there[counted["slot"]]]
        self._counted[counted["slot"]] = True
        self._before[counted["slot"]] = counted["before"]
        # 0.1.0 kept the value of a counter that has ended; what comes after the end is a new series.
        ended = np.flatnonzero(self.there[: self.end] & ~self.live[: self.end] & (self.written[: self.end] > 0))
        self.value[ended] -= np.where(self._counted[ended], self._before[ended], self.value[ended])
        self._before[ended] = 0
