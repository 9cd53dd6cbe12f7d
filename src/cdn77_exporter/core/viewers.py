"""Distinct viewers in a rolling window: who appears, who is still there, and who has left, exactly.

A viewer is a client IP within a stream, known here only by a keyed hash of 63 bits (an odd 64-bit number). That any two
of ten million viewers share one has a probability of about 5 in a million. Each viewer has a *profile* (what its gauges
are labelled with); as long as it shows one device and one country that is all there is. From a second device or country
on, each of its devices and countries is followed by itself, as a *facet*.

The table is open addressing over arrays, 20 bytes a place, filled to between one half and three quarters. Every viewer
stands in the calendar once, under the tick on which it would leave had it not been seen again; so a tick's work is for
what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

#: One row of what a tick saw: the viewer's key, its profile, first and last event (Unix ms).
SEEN = np.dtype([("key", "<u8"), ("profile", "<u4"), ("first", "<i8"), ("last", "<i8")])
#: One row of the window's state: key, profile (with `FACET` set: a facet's), time last seen (Unix ms).
STATE = np.dtype([("key", "<u8"), ("profile", "<u4"), ("seen", "<i8")])
FACET = 1 << 31

_EMPTY, _GONE = np.uint64(0), np.uint64(2)  # no viewer's key: those are odd
_FILL, _GROWTH = 0.75, 1.5
_STEP = 1 << 14  # viewers
_STEP_OF_GROWTH = 1 << 16  # the passing arrays of an insertion stay small
_TOP_BYTE = 7  # of a key, where a row of `STATE` has it
_PART_BITS = 3  # of a key's topmost byte, by which large runs are merged in parts
_Keys = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a viewer's gauges are labelled with; None where its facets carry it instead."""

    stream: str
    device: str | None
    country: str | None  # of the log
    place: tuple[str, str] | None  # country and region of the GeoIP database


class Profiles:
    """Profiles by number, in both directions."""

    def __init__(self) -> None:
        self._numbers: dict[Profile, int] = {}
        self.all: list[Profile] = []
        self._new: list[int] = []

    def __len__(self) -> int:
        return len(self.all)

    def number(self, profile: Profile) -> int:
        """The profile's number; a new one is given the next."""
        found = self._numbers.get(profile)
        if found is None:
            found = self._numbers[profile] = len(self.all)
            self.all.append(profile)
            self._new.append(found)
        return found

    def take_new(self) -> list[tuple[int, Profile]]:
        """Numbers and profiles made since the last call."""
        new, self._new = self._new, []
        return [(number, self.all[number]) for number in new]

    def restore(self, profiles: Iterable[Profile]) -> None:
        """Take up profiles in the order of their numbers (must be empty)."""
        for profile in profiles:
            self.number(profile)
        self._new = []


@dataclass(slots=True)
class Movement:
    """What one tick changed: viewers that appeared (count) and the change of those present (delta), by profile."""

    appeared: dict[int, int] = field(default_factory=dict)
    present: dict[int, int] = field(default_factory=dict)

    def appear(self, profile: int, count: int = 1) -> None:
        """Count viewers that were not in their session window."""
        self.appeared[profile] = self.appeared.get(profile, 0) + count

    def change(self, profile: int, delta: int) -> None:
        """Count viewers that came into the window or left it."""
        self.present[profile] = self.present.get(profile, 0) + delta


def _mix(keys: _Keys) -> _Keys:
    keys = keys ^ (keys >> np.uint64(32))
    keys = keys * np.uint64(0x9E3779B97F4A7C15)
    return keys ^ (keys >> np.uint64(29))


class _Table:
    """Keys to profile and time last seen, by open addressing with linear probing over arrays."""

    def __init__(self, capacity: int = 1024) -> None:
        self.key: _Keys = np.zeros(capacity, np.uint64)
        self.profile: npt.NDArray[np.uint32] = np.zeros(capacity, np.uint32)
        self.seen: npt.NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.used = 0  # places that are not empty, gone viewers included
        self.gone = 0

    @property
    def capacity(self) -> int:
        return len(self.key)

    def _home(self, mixed: _Keys) -> _Places:
        """Where mixed keys belong; the places are in the order of the mixed keys."""
        scaled: _Keys = (mixed >> np.uint64(32)) * np.uint64(self.capacity) >> np.uint64(32)
        return scaled.astype(np.int64)

    def present(self) -> _Places:
        """The places that hold a viewer."""
        return np.flatnonzero((self.key != _EMPTY) & (self.key != _GONE))

    def find(self, keys: _Keys, mixed: _Keys) -> tuple[_Places, npt.NDArray[np.bool_]]:
        """The place of each key, or of the first free one where it would be; and whether it is there.

        Keys in the order of `mixed` (their `_mix`) are found several times as fast: memory is walked through.
        """
        places = self._home(mixed)
        found = np.zeros(len(keys), np.bool_)
        open_ = np.arange(len(keys))
        while len(open_):
            there = self.key[places[open_]]
            hit = there == keys[open_]
            found[open_[hit]] = True
            open_ = open_[~hit & (there != _EMPTY)]
            places[open_] = (places[open_] + 1) % self.capacity
        return places, found

    def insert(
        self, keys: _Keys, places: _Places, profiles: npt.NDArray[np.uint32], seen: npt.NDArray[np.int64]
    ) -> _Places:
        """Put in keys that are distinct and absent, beginning at the places that `find` gave for them; there must be
        room. Their places."""
        open_ = np.arange(len(keys))
        while len(open_):
            at = places[open_]
            free = self.key[at] == _EMPTY
            self.key[at[free]] = keys[open_[free]]  # of two that want one place, the later stays
            open_ = open_[self.key[at] != keys[open_]]
            places[open_] = (places[open_] + 1) % self.capacity
        self.profile[places] = profiles
        self.seen[places] = seen
        self.used += len(keys)
        return places


def merge_seen(parts: Sequence[npt.NDArray[np.void]]) -> list[npt.NDArray[np.void]]:
    """Rows of `SEEN` with one for each viewer and profile, from its first to its last time.

    All rows of a viewer are in the same one of several arrays, since what sorting takes is several times the rows.
    """
    merged = []
    for number in range(1 << _PART_BITS):
        chosen = [rows[rows["key"] >> np.uint64(64 - _PART_BITS) == number] for rows in parts]
        merged.append(_merge_some(np.concatenate(chosen)))
    return merged


def _merge_some(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    if not len(rows):
        return rows
    rows = rows[np.lexsort((rows["profile"], rows["key"]))]
    new = (rows["key"][1:] != rows["key"][:-1]) | (rows["profile"][1:] != rows["profile"][:-1])
    starts = np.flatnonzero(np.append(True, new))
    merged = rows[starts].copy()
    merged["first"] = np.minimum.reduceat(rows["first"], starts)
    merged["last"] = np.maximum.reduceat(rows["last"], starts)
    return merged


class ViewerWindow:
    """The rolling window of all streams.

    `window_seconds`: how long a viewer stays after its last event. `tick_seconds`: distance of ticks; a window at a
    tick holds who has an event in [tick - window, tick). Times are Unix milliseconds, ticks Unix seconds.
    """

    def __init__(self, profiles: Profiles, *, window_seconds: int, tick_seconds: int) -> None:
        self._profiles = profiles
        self._window_ms = window_seconds * 1000
        self._tick_ms = tick_seconds * 1000
        self._table = _Table()
        self._calendar: dict[int, list[npt.NDArray[np.uint32]]] = {}  # tick in ms -> places
        self._facets: dict[tuple[int, int], int] = {}  # key and facet profile -> seen
        self._facet_calendar: dict[int, list[tuple[int, int]]] = {}
        self._touched: list[npt.NDArray[np.void]] = []

    def __len__(self) -> int:
        """Viewers in the window, those included that leave at the next tick."""
        return self._table.used - self._table.gone

    @property
    def size_bytes(self) -> int:
        """Memory of the arrays."""
        places = sum(part.nbytes for parts in self._calendar.values() for part in parts)
        return self._table.capacity * 20 + places

    def advance(self, tick: int, *parts: npt.NDArray[np.void]) -> Movement:
        """Take in what was seen before `tick`, let go who has left; what that changed.

        `parts`: rows of `SEEN` in any order, but all rows of a viewer in the same part.
        """
        movement = Movement()
        for rows in parts:
            if len(rows):
                self._see(rows, movement)
        self._expire(tick * 1000, movement)
        return movement

    def _leaves(self, seen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The tick (ms) on which a viewer seen last at that time is no longer in the window."""
        return ((seen + self._window_ms) // self._tick_ms + 1) * self._tick_ms

    def _see(self, rows: npt.NDArray[np.void], movement: Movement) -> None:
        """Viewers in the order of their places in the table, some at a time: small arrays stay near the processor."""
        mixed = _mix(rows["key"])
        order = np.argsort(mixed)
        mixed = mixed[order]
        starts = np.flatnonzero(np.append(True, mixed[1:] != mixed[:-1]))
        self._make_room(len(starts))
        ends = np.append(starts[_STEP::_STEP], len(rows)).tolist()
        for number, end in enumerate(ends):
            part = starts[number * _STEP : (number + 1) * _STEP]
            begin = int(part[0])
            self._see_some(rows[order[begin:end]], mixed[part], part - begin, movement)

    def _see_some(self, rows: npt.NDArray[np.void], mixed: _Keys, starts: _Places, movement: Movement) -> None:
        """Rows by viewer, each of which begins at one of `starts`; `mixed` are their mixed keys."""
        keys, profile = rows["key"][starts], rows["profile"][starts]
        first = np.minimum.reduceat(rows["first"], starts)
        last = np.maximum.reduceat(rows["last"], starts)
        places, known = self._table.find(keys, mixed)
        profiles = rows["profile"]
        same = np.minimum.reduceat(profiles, starts) == np.maximum.reduceat(profiles, starts)
        same[known] &= self._table.profile[places[known]] == profile[known]
        ends = np.append(starts[1:], len(rows))
        for at in np.flatnonzero(~same).tolist():
            group = rows[starts[at] : ends[at]]
            in_time = group[np.lexsort((group["profile"], group["first"]))]
            self._see_many_sided(int(keys[at]), int(places[at]), bool(known[at]), in_time, movement)
        old, new = known & same, ~known & same
        self._see_again(places[old], profile[old], first[old], last[old], movement)
        self._see_new(keys[new], places[new], profile[new], last[new], movement)

    def _see_again(
        self,
        places: _Places,
        profile: npt.NDArray[np.uint32],
        first: npt.NDArray[np.int64],
        last: npt.NDArray[np.int64],
        movement: Movement,
    ) -> None:
        seen = self._table.seen[places]
        returned = first - seen > self._window_ms
        for number, count in _count(profile[returned]):
            movement.appear(number, count)
        self._table.seen[places] = np.maximum(seen, last)
        self._touch(places)

    def _see_new(
        self,
        keys: _Keys,
        places: _Places,
        profile: npt.NDArray[np.uint32],
        last: npt.NDArray[np.int64],
        movement: Movement,
    ) -> None:
        places = self._table.insert(keys, places, profile, last)
        self._enter(places)
        self._touch(places)
        for number, count in _count(profile):
            movement.appear(number, count)
            movement.change(number, count)

    def _see_many_sided(
        self, key: int, place: int, known: bool, group: npt.NDArray[np.void], movement: Movement
    ) -> None:
        """A viewer that shows several devices or countries: the viewer itself, then each facet."""
        table = self._table
        first, last = int(group["first"].min()), int(group["last"].max())
        sides = [self._profiles.all[number] for number in group["profile"].tolist()]
        whole = self._profiles.number(Profile(sides[0].stream, None, None, sides[0].place))
        at = np.array([place])
        if not known:
            at = table.insert(np.array([key], np.uint64), at, np.array([whole], np.uint32), np.array([last], np.int64))
            self._enter(at)
            movement.appear(whole)
            movement.change(whole, 1)
        else:
            seen = int(table.seen[place])
            before = int(table.profile[place])
            shown = self._profiles.all[before]
            whole = self._profiles.number(Profile(shown.stream, None, None, shown.place))
            if shown.device is not None:
                table.profile[place] = whole
                movement.change(before, -1)
                movement.change(whole, 1)
                for facet in self._facets_of(shown):
                    self._facets[key, facet] = seen
                    self._enter_facet(key, facet, seen)
                    self._touch_facet(key, facet)  # what was committed so far only knows the profile
                    movement.change(facet, 1)
            if first - seen > self._window_ms:
                movement.appear(whole)
            table.seen[place] = max(seen, last)
        self._touch(at)
        for side, row in zip(sides, group, strict=True):
            for facet in self._facets_of(side):
                self._see_facet(key, facet, int(row["first"]), int(row["last"]), movement)

    def _facets_of(self, profile: Profile) -> list[int]:
        if profile.device is None or profile.country is None:
            return []
        number = self._profiles.number
        return [
            number(Profile(profile.stream, profile.device, None, None)),
            number(Profile(profile.stream, None, profile.country, None)),
        ]

    def _see_facet(self, key: int, facet: int, first: int, last: int, movement: Movement) -> None:
        seen = self._facets.get((key, facet))
        if seen is None:
            movement.change(facet, 1)
            self._enter_facet(key, facet, last)
        if seen is None or first - seen > self._window_ms:
            movement.appear(facet)
        self._facets[key, facet] = last if seen is None else max(seen, last)
        self._touch_facet(key, facet)

    # Leaving

    def _enter(self, places: _Places) -> None:
        if not len(places):
            return
        leaves = self._leaves(self._table.seen[places])
        if leaves.min() == leaves.max():
            self._calendar.setdefault(int(leaves[0]), []).append(places.astype(np.uint32))
            return
        steps = (leaves - leaves.min()) // self._tick_ms
        # Numbers that are this small are sorted by counting, which takes a tenth of the time.
        order = np.argsort(steps.astype(np.uint16) if steps.max() < 1 << 16 else steps, kind="stable")
        leaves = leaves[order]
        starts = np.flatnonzero(np.append(True, leaves[1:] != leaves[:-1]))
        ticks = leaves[starts]
        for tick, part in zip(ticks.tolist(), np.split(places[order].astype(np.uint32), starts[1:]), strict=True):
            self._calendar.setdefault(tick, []).append(part.copy())  # a view would keep all of them in memory

    def _enter_facet(self, key: int, facet: int, seen: int) -> None:
        tick = ((seen + self._window_ms) // self._tick_ms + 1) * self._tick_ms
        self._facet_calendar.setdefault(tick, []).append((key, facet))

    def _expire(self, tick_ms: int, movement: Movement) -> None:
        for due in sorted(tick for tick in self._calendar if tick <= tick_ms):
            self._expire_places(np.concatenate(self._calendar.pop(due)).astype(np.int64), tick_ms, movement)
        for due in sorted(tick for tick in self._facet_calendar if tick <= tick_ms):
            for key, facet in self._facet_calendar.pop(due):
                seen = self._facets[key, facet]
                if seen < tick_ms - self._window_ms:
                    del self._facets[key, facet]
                    movement.change(facet, -1)
                else:
                    self._enter_facet(key, facet, seen)

    def _expire_places(self, places: _Places, tick_ms: int, movement: Movement) -> None:
        gone = self._table.seen[places] < tick_ms - self._window_ms
        self._enter(places[~gone])
        left = places[gone]
        for number, count in _count(self._table.profile[left]):
            movement.change(number, -count)
        self._table.key[left] = _GONE  # not empty, so that probing goes on past it
        self._table.gone += len(left)

    def _make_room(self, coming: int) -> None:
        table = self._table
        if table.used + coming <= table.capacity * _FILL:
            return
        needed = (table.used - table.gone + coming) / _FILL
        capacity = table.capacity
        while capacity < needed * 1.05:
            capacity = int(capacity * _GROWTH)
        there = table.present()
        key, profile, seen = table.key[there], table.profile[there], table.seen[there]
        del there
        self._table = table = _Table(0)  # so that the old arrays are let go before the new ones are made
        self._table = table = _Table(capacity)
        self._calendar = {}
        for begin in range(0, len(key), _STEP_OF_GROWTH):
            part = slice(begin, begin + _STEP_OF_GROWTH)
            places, _ = table.find(key[part], _mix(key[part]))
            self._enter(table.insert(key[part], places, profile[part], seen[part]))

    # State

    def _touch(self, places: _Places) -> None:
        rows = np.zeros(len(places), STATE)
        rows["key"] = self._table.key[places]
        rows["profile"] = self._table.profile[places]
        rows["seen"] = self._table.seen[places]
        self._touched.append(rows)

    def _touch_facet(self, key: int, facet: int) -> None:
        self._touched.append(np.array([(key, facet | FACET, self._facets[key, facet])], STATE))

    def take_changes(self) -> bytes:
        """Rows of `STATE` for all that changed since the last call; of two for the same viewer the later holds."""
        touched, self._touched = self._touched[::-1], []
        return merge_runs(iter(lambda: touched.pop().tobytes() if touched else None, None), 0)

    def restore(self, runs: Iterable[bytes], now_ms: int) -> None:
        """Take up runs of `STATE` rows, oldest first (the window must be empty); `now_ms`: the last tick."""
        for run in runs:
            rows = np.frombuffer(run, STATE)
            rows = rows[rows["seen"] >= now_ms - self._window_ms]
            facet = (rows["profile"] & FACET) != 0
            for row in rows[facet]:
                self._facets[int(row["key"]), int(row["profile"]) & ~FACET] = int(row["seen"])
            self._restore_viewers(rows[~facet])
        for (key, number), seen in self._facets.items():
            self._enter_facet(key, number, seen)
        self._calendar = {}
        self._enter(self._table.present())
        self._touched = []

    def _restore_viewers(self, rows: npt.NDArray[np.void]) -> None:
        if not len(rows):
            return
        # In the order of their places in the table, so that memory is walked through and not jumped about in.
        mixed = _mix(rows["key"])
        order = np.argsort(mixed)
        mixed = mixed[order]
        starts = np.flatnonzero(np.append(True, mixed[1:] != mixed[:-1]))
        rows = rows[np.maximum.reduceat(order, starts)]  # the last row of each key
        keys = rows["key"].copy()
        # The first run is the largest by far; the others then find room.
        self._make_room(len(keys) if self._table.used else len(keys) * 4 // 3)
        places, known = self._table.find(keys, mixed[starts])
        self._table.insert(keys[~known], places[~known], rows["profile"][~known], rows["seen"][~known])
        self._table.profile[places[known]] = rows["profile"][known]
        self._table.seen[places[known]] = rows["seen"][known]

    def present(self) -> Iterator[tuple[int, int]]:
        """Profiles (facets among them) and how many viewers in the window have them."""
        yield from _count(self._table.profile[self._table.present()])
        counts: dict[int, int] = {}
        for _, facet in self._facets:
            counts[facet] = counts.get(facet, 0) + 1
        yield from counts.items()


def merge_runs(runs: Iterable[bytes | memoryview], since_ms: int) -> bytes:
    """Several runs of `STATE` rows, oldest first, as one: the latest row of each viewer seen since then.

    There is little more than the rows in memory: what sorting takes besides is needed for a part of the keys at a time.
    """
    content = bytearray()
    for run in runs:
        content += run
    rows = np.frombuffer(content, STATE)
    bits = _PART_BITS if len(rows) > _STEP else 0
    parts = np.frombuffer(content, np.uint8)[_TOP_BYTE :: STATE.itemsize] >> (8 - bits)
    recent = rows["seen"] >= since_ms
    chosen = np.zeros(len(rows), np.bool_)
    for part in range(1 << bits):
        at = np.flatnonzero(recent & (parts == part))
        facet = (rows["profile"][at] & FACET) != 0
        viewers, facets = at[~facet], at[facet][::-1]
        chosen[viewers[_latest(rows["key"][viewers])]] = True
        _, latest = np.unique(rows[["key", "profile"]][facets], return_index=True)
        chosen[facets[latest]] = True
    found = rows[chosen]
    del rows, content, parts, recent
    return found.tobytes()


def _latest(keys: _Keys) -> npt.NDArray[np.bool_]:
    """Which rows are the last ones with their key."""
    chosen = np.zeros(len(keys), np.bool_)
    if len(keys):
        order = np.argsort(keys)  # need not be stable, which is several times faster
        in_order = keys[order]
        starts = np.flatnonzero(np.append(True, in_order[1:] != in_order[:-1]))
        chosen[np.maximum.reduceat(order, starts)] = True
    return chosen


def _count(profiles: npt.NDArray[np.uint32]) -> list[tuple[int, int]]:
    """Each profile's number that is there, with how often."""
    if not len(profiles):
        return []
    most = int(profiles.max())
    if most < 4 * len(profiles):  # without sorting, as long as that does not count far more numbers than there are
        counts = np.bincount(profiles)
        numbers = np.flatnonzero(counts)
        counts = counts[numbers]
    else:
        numbers, counts = np.unique(profiles, return_counts=True)
    return list(zip(numbers.tolist(), counts.tolist(), strict=True))
