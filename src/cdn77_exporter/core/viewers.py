"""Distinct viewers in a rolling window: who appears, who is still there, and who has left, exactly.

A viewer is a client IP within a stream, known here only by a keyed hash of 63 bits (an odd 64-bit number). That any two
of ten million viewers share one has a probability of about 5 in a million. Each viewer has a *profile* (what its gauges
are labelled with); as long as it shows one device and one country that is all there is. From a second device or country
on, each of its devices and countries is followed by itself, as a *facet*.

The window consists of parts, each with its viewers in a table of its own, so that not all of them move at once when
there is no room for more. Every viewer stands in its part's calendar once, under the tick on which it would leave had
it not been seen again; so a tick's work is for what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.profiles import Profile, Profiles
from cdn77_exporter.core.viewer_rows import FACET, PARTS, STATE, merge_runs, split, starts_of
from cdn77_exporter.core.viewer_table import FILL, Keys, Places, Table

_GROWTH, _GROWTH_WHEN_RESTORED = 1.25, 1.5
_STEP = 1 << 14  # viewers
_STEP_OF_GROWTH = 1 << 16  # the passing arrays of an insertion stay small


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


class ViewerWindow:
    """The rolling window of all streams.

    `window_seconds`: how long a viewer stays after its last event. `tick_seconds`: distance of ticks; a window at a
    tick holds who has an event in [tick - window, tick). Times are Unix milliseconds, ticks Unix seconds.
    """

    def __init__(self, profiles: Profiles, *, window_seconds: int, tick_seconds: int) -> None:
        self._window_ms = window_seconds * 1000
        self._parts = [_Part(profiles, self._window_ms, tick_seconds * 1000) for _ in range(PARTS)]

    def __len__(self) -> int:
        """Viewers in the window, those included that leave at the next tick."""
        return sum(map(len, self._parts))

    @property
    def size_bytes(self) -> int:
        """Memory of the arrays."""
        return sum(part.size_bytes for part in self._parts)

    def advance(self, tick: int, runs: Iterable[npt.NDArray[np.void]]) -> Movement:
        """Take in what was seen before `tick`, let go who has left; what that changed.

        `runs`: rows of `SEEN` in any order, but all rows of a viewer in the same run.
        """
        movement = Movement()
        for run in runs:
            for part, rows in zip(self._parts, split(run), strict=True):
                if len(rows):
                    part.see(rows, movement)
        for part in self._parts:
            part.expire(tick * 1000, movement)
        return movement

    def take_changes(self) -> bytes:
        """Rows of `STATE` for all that changed since the last call."""
        touched = [rows.tobytes() for part in self._parts for rows in part.take_touched()]
        return b"".join(merge_runs(touched, 0))

    def restore(self, runs: Iterable[bytes], now_ms: int) -> None:
        """Take up runs of `STATE` rows, oldest first (the window must be empty); `now_ms`: the last tick."""
        for run in runs:
            rows = np.frombuffer(run, STATE)
            rows = rows[rows["seen"] >= now_ms - self._window_ms]
            for part, own in zip(self._parts, split(rows), strict=True):
                if len(own):
                    part.restore(own)
        for part in self._parts:
            part.restored()

    def present(self) -> Iterator[tuple[int, int]]:
        """Profiles (facets among them) and how many viewers in the window have them."""
        for part in self._parts:
            yield from part.present()


class _Part:
    """The viewers of one part of the keys."""

    def __init__(self, profiles: Profiles, window_ms: int, tick_ms: int) -> None:
        self._profiles = profiles
        self._window_ms = window_ms
        self._tick_ms = tick_ms
        self._table = Table()
        self._calendar: dict[int, list[npt.NDArray[np.uint32]]] = {}  # tick in ms -> places
        self._facets: dict[tuple[int, int], int] = {}  # key and facet profile -> seen
        self._facet_calendar: dict[int, list[tuple[int, int]]] = {}
        self._touched: list[npt.NDArray[np.void]] = []

    def __len__(self) -> int:
        return len(self._table)

    @property
    def size_bytes(self) -> int:
        """Memory of the arrays."""
        places = sum(found.nbytes for entered in self._calendar.values() for found in entered)
        return self._table.capacity * 20 + places

    def present(self) -> Iterator[tuple[int, int]]:
        """Profiles (facets among them) and how many viewers have them."""
        yield from _count(self._table.profile[self._table.present()])
        counts: dict[int, int] = {}
        for _, facet in self._facets:
            counts[facet] = counts.get(facet, 0) + 1
        yield from counts.items()

    def _leaves(self, seen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The tick (ms) on which a viewer seen last at that time is no longer in the window."""
        return ((seen + self._window_ms) // self._tick_ms + 1) * self._tick_ms

    def see(self, rows: npt.NDArray[np.void], movement: Movement) -> None:
        """Take in rows of `SEEN`: in the order of their places in the table, and some at a time, so that memory is
        walked through and small arrays stay near the processor."""
        order = np.argsort(rows["key"])
        starts = starts_of(rows["key"][order])
        self._make_room(len(starts))
        ends = np.append(starts[_STEP::_STEP], len(rows)).tolist()
        for number, end in enumerate(ends):
            part = starts[number * _STEP : (number + 1) * _STEP]
            begin = int(part[0])
            self._see_some(rows[order[begin:end]], part - begin, movement)

    def _see_some(self, rows: npt.NDArray[np.void], starts: Places, movement: Movement) -> None:
        """Rows by viewer, each of which begins at one of `starts`."""
        keys, profile = rows["key"][starts], rows["profile"][starts]
        first = np.minimum.reduceat(rows["first"], starts)
        last = np.maximum.reduceat(rows["last"], starts)
        places, known = self._table.find(keys)
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
        places: Places,
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
        keys: Keys,
        places: Places,
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

    def _enter(self, places: Places) -> None:
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

    def expire(self, tick_ms: int, movement: Movement) -> None:
        """Let go who is no longer in the window that ends with the tick."""
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

    def _expire_places(self, places: Places, tick_ms: int, movement: Movement) -> None:
        gone = self._table.seen[places] < tick_ms - self._window_ms
        self._enter(places[~gone])
        left = places[gone]
        for number, count in _count(self._table.profile[left]):
            movement.change(number, -count)
        self._table.remove(left)

    def _make_room(self, coming: int) -> None:
        if self._enlarge(coming, _GROWTH):
            self._enter_all()

    def _enter_all(self) -> None:
        """Put all viewers into the calendar anew."""
        self._calendar = {}
        places = self._table.present()
        for begin in range(0, len(places), _STEP_OF_GROWTH):
            self._enter(places[begin : begin + _STEP_OF_GROWTH])

    def _enlarge(self, coming: int, growth: float) -> bool:
        """Have a larger table if the one there is has no room; then the viewers are elsewhere in it."""
        table = self._table
        if table.used + coming <= table.capacity * FILL:
            return False
        needed = (len(table) + coming) / FILL
        capacity = table.capacity
        while capacity < needed * 1.05:
            capacity = int(capacity * growth)
        there = table.present()
        key, profile, seen = table.key[there], table.profile[there], table.seen[there]
        del there
        self._table = table = Table(0)  # so that the old arrays are let go before the new ones are made
        self._table = table = Table(capacity)
        for begin in range(0, len(key), _STEP_OF_GROWTH):
            part = slice(begin, begin + _STEP_OF_GROWTH)
            places, _ = table.find(key[part])
            table.insert(key[part], places, profile[part], seen[part])
        return True

    # State

    def _touch(self, places: Places) -> None:
        rows = np.zeros(len(places), STATE)
        rows["key"] = self._table.key[places]
        rows["profile"] = self._table.profile[places]
        rows["seen"] = self._table.seen[places]
        self._touched.append(rows)

    def take_touched(self) -> list[npt.NDArray[np.void]]:
        """Rows of `STATE` for all that changed since the last call; of two for the same viewer the later holds."""
        touched, self._touched = self._touched, []
        return touched

    def _touch_facet(self, key: int, facet: int) -> None:
        self._touched.append(np.array([(key, facet | FACET, self._facets[key, facet])], STATE))

    def restore(self, rows: npt.NDArray[np.void]) -> None:
        """Take up rows of `STATE`, later than those before."""
        facet = (rows["profile"] & FACET) != 0
        for row in rows[facet]:
            self._facets[int(row["key"]), int(row["profile"]) & ~FACET] = int(row["seen"])
        self._restore_viewers(rows[~facet])

    def restored(self) -> None:
        """All rows are taken up."""
        for (key, number), seen in self._facets.items():
            self._enter_facet(key, number, seen)
        self._enter_all()
        self._touched = []

    def _restore_viewers(self, rows: npt.NDArray[np.void]) -> None:
        if not len(rows):
            return
        # In the order of their places in the table, so that memory is walked through and not jumped about in.
        order = np.argsort(rows["key"])
        starts = starts_of(rows["key"][order])
        rows = rows[np.maximum.reduceat(order, starts)]  # the last row of each key
        keys = rows["key"].copy()
        self._enlarge(len(keys), _GROWTH_WHEN_RESTORED)
        places, known = self._table.find(keys)
        self._table.insert(keys[~known], places[~known], rows["profile"][~known], rows["seen"][~known])
        self._table.profile[places[known]] = rows["profile"][known]
        self._table.seen[places[known]] = rows["seen"][known]


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
