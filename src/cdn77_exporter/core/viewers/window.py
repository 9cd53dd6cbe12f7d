"""Distinct viewers in a rolling window: who appears, who is still there, and who has left, exactly.

A viewer is a client IP within a stream, known here only by a keyed hash of 63 bits (an odd 64-bit number). That any two
of ten million viewers share one has a probability of about 5 in a million. Each viewer has a *profile* (what its series
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

from cdn77_exporter.core.columns import stable_order
from cdn77_exporter.core.viewers.profiles import Profiles
from cdn77_exporter.core.viewers.rows import FACET, PARTS, STATE, merge_runs, merge_seen, split, starts_of
from cdn77_exporter.core.viewers.table import FILL, Keys, Places, Table

Numbers = npt.NDArray[np.uint32]
Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]

_GROWTH, _GROWTH_WHEN_RESTORED = 1.25, 1.5
_STEP = 1 << 14  # viewers
_STEP_OF_GROWTH = 1 << 16  # the passing arrays of an insertion stay small
_LONG_AGO = np.int64(-(1 << 40))  # before every event
_FAR = np.int64(1 << 42)  # more than any Unix time in milliseconds
_ODD = np.uint64(0x9E3779B97F4A7C15)
_EVEN, _HALF = np.uint64(0xFFFFFFFFFFFFFFFE), np.uint64(32)


@dataclass(slots=True)
class Movement:
    """The changes of one tick, by profile: viewers that appeared, that came into the window and that left it."""

    _appeared: list[Numbers] = field(default_factory=list)
    _came: list[Numbers] = field(default_factory=list)
    _left: list[Numbers] = field(default_factory=list)

    def appear(self, profiles: Numbers) -> None:
        """Count viewers that were not in their session window."""
        self._appeared.append(profiles)

    def come(self, profiles: Numbers) -> None:
        """Count viewers that are in the window from now on."""
        self._came.append(profiles)

    def leave(self, profiles: Numbers) -> None:
        """Count viewers that no longer are."""
        self._left.append(profiles)

    def appeared(self) -> tuple[Places, Times]:
        """Return profiles, each once, and how many viewers appeared under them."""
        return _total(self._appeared, [])

    def present(self) -> tuple[Places, Times]:
        """Return profiles, each once, and by how much the number of their viewers in the window changed."""
        return _total(self._came, self._left)


def _total(plus: list[Numbers], minus: list[Numbers]) -> tuple[Places, Times]:
    more = np.concatenate(plus) if plus else np.zeros(0, np.uint32)
    fewer = np.concatenate(minus) if minus else np.zeros(0, np.uint32)
    end = max(int(more.max(initial=0)), int(fewer.max(initial=0))) + 1
    found = np.bincount(more, minlength=end) - np.bincount(fewer, minlength=end)
    numbers = np.flatnonzero(found)
    return numbers, found[numbers]


class ViewerWindow:
    """The rolling window of all streams.

    `window_seconds`: how long a viewer stays after its last event. `tick_seconds`: distance of ticks; a window at a
    tick holds who has an event in [tick - window, tick). Times are Unix milliseconds, ticks Unix seconds.
    """

    def __init__(self, profiles: Profiles, *, window_seconds: int, tick_seconds: int) -> None:
        self._window_ms = window_seconds * 1000
        self._parts = [_Part(profiles, self._window_ms, tick_seconds * 1000) for _ in range(PARTS)]

    def __len__(self) -> int:
        """Return the number of viewers in the window, those included that leave at the next tick."""
        return sum(map(len, self._parts))

    @property
    def size_bytes(self) -> int:
        """Memory of the arrays."""
        return sum(part.size_bytes for part in self._parts)

    def advance(self, tick: int, runs: Iterable[Rows]) -> Movement:
        """Admit viewers seen before `tick`, expire those outside the window, and return the change.

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
        """Return rows of `STATE` for all that changed since the last call."""
        touched = [rows.tobytes() for part in self._parts for rows in part.take_touched()]
        return b"".join(merge_runs(touched, 0))

    def restore(self, runs: Iterable[bytes], now_ms: int) -> None:
        """Take up runs of `STATE` rows, oldest first (the window must be empty); `now_ms`: the last tick."""
        for run in runs:
            rows = np.frombuffer(run, STATE)
            rows = rows.compress(rows["seen"] >= now_ms - self._window_ms)
            for part, own in zip(self._parts, split(rows), strict=True):
                if len(own):
                    part.restore(own)
        for part in self._parts:
            part.restored()

    def present(self) -> tuple[Places, Times]:
        """Return profiles, facets among them, each once, and how many viewers in the window have them."""
        return _total([found for part in self._parts for found in part.present()], [])


class _Seen:
    """Keys that were seen in the window, each with its profile and its last time."""

    def __init__(self, window_ms: int, tick_ms: int) -> None:
        self._window_ms = window_ms
        self._tick_ms = tick_ms
        self.table = Table()
        self._calendar: dict[int, list[Numbers]] = {}  # tick in ms -> places
        self.touched: list[Rows] = []

    @property
    def size_bytes(self) -> int:
        """Memory of the arrays."""
        places = sum(found.nbytes for entered in self._calendar.values() for found in entered)
        return self.table.capacity * 20 + places

    def appeared(self, first: Times, last: Times, starts: Places, seen: Times) -> Flags:
        """Return which rows [rows] begin a visit: no event lies within a window before their first.

        The rows of a key stand together, by their first times, and begin at `starts`; `seen` [keys]: its last time
        before them.
        """
        if len(starts) == len(first):
            return first - seen > self._window_ms
        base = np.repeat(np.arange(len(starts), dtype=np.int64) * _FAR, np.diff(starts, append=len(first)))
        reached = last + base
        reached[starts] = np.maximum(last[starts], seen) + base[starts]
        reached = np.maximum.accumulate(reached) - base
        before = np.empty_like(reached)
        before[1:] = reached[:-1]
        before[starts] = seen
        return first - before > self._window_ms

    def see(self, keys: Keys, profiles: Numbers, first: Times, last: Times, movement: Movement) -> None:
        """Take in rows [rows] of keys that keep their profile."""
        order = np.lexsort((first, keys))
        keys, profiles, first, last = keys[order], profiles[order], first[order], last[order]
        starts = starts_of(keys)
        self.make_room(len(starts))
        places, known = self.table.find(keys[starts])
        seen = np.where(known, self.table.seen[places], _LONG_AGO)
        movement.appear(profiles[self.appeared(first, last, starts, seen)])
        latest = np.maximum.reduceat(last, starts)
        old, new = known, ~known
        self.see_again(places[old], latest[old])
        self.insert(keys[starts][new], places[new], profiles[starts][new], latest[new], movement)

    def see_again(self, places: Places, last: Times) -> None:
        """Keep the later time of keys that are there."""
        self.table.seen[places] = np.maximum(self.table.seen[places], last)
        self.touch(places)

    def insert(self, keys: Keys, places: Places, profiles: Numbers, seen: Times, movement: Movement) -> None:
        """Put in keys that are distinct and absent, beginning at the places that `find` gave for them."""
        if not len(keys):
            return
        places = self.table.insert(keys, places, profiles, seen)
        self.enter(places)
        self.touch(places)
        movement.come(profiles)

    def touch(self, places: Places) -> None:
        """Note that a commit has to hold these."""
        rows = np.zeros(len(places), STATE)
        rows["key"] = self.table.key[places]
        rows["profile"] = self.table.profile[places]
        rows["seen"] = self.table.seen[places]
        self.touched.append(rows)

    # Leaving

    def enter(self, places: Places) -> None:
        """Put keys into the calendar: under the tick on which they are no longer in the window."""
        if not len(places):
            return
        leaves = ((self.table.seen[places] + self._window_ms) // self._tick_ms + 1) * self._tick_ms
        if leaves.min() == leaves.max():
            self._calendar.setdefault(int(leaves[0]), []).append(places.astype(np.uint32))
            return
        steps = (leaves - leaves.min()) // self._tick_ms
        order = stable_order(steps)
        leaves = leaves[order]
        starts = np.flatnonzero(np.append(True, leaves[1:] != leaves[:-1]))
        ticks = leaves[starts]
        for tick, part in zip(ticks.tolist(), np.split(places[order].astype(np.uint32), starts[1:]), strict=True):
            self._calendar.setdefault(tick, []).append(part.copy())  # a view would keep all of them in memory

    def expire(self, tick_ms: int, movement: Movement) -> None:
        """Remove who is no longer in the window that ends with the tick."""
        for due in sorted(tick for tick in self._calendar if tick <= tick_ms):
            places = np.concatenate(self._calendar.pop(due)).astype(np.int64)
            gone = self.table.seen[places] < tick_ms - self._window_ms
            self.enter(places[~gone])
            left = places[gone]
            movement.leave(self.table.profile[left])
            self.table.remove(left)

    def enter_all(self) -> None:
        """Fill the calendar anew."""
        self._calendar = {}
        places = self.table.present()
        for begin in range(0, len(places), _STEP_OF_GROWTH):
            self.enter(places[begin : begin + _STEP_OF_GROWTH])

    # Room

    def make_room(self, coming: int) -> None:
        """Make room for so many more keys; places that were found before mean nothing then."""
        if self.enlarge(coming, _GROWTH):
            self.enter_all()

    def enlarge(self, coming: int, growth: float) -> bool:
        """Make a larger table if the one there is has no room; whether the keys are elsewhere in it now."""
        table = self.table
        if table.used + coming <= table.capacity * FILL:
            return False
        needed = (len(table) + coming) / FILL
        capacity = table.capacity
        while capacity < needed * 1.05:
            capacity = int(capacity * growth)
        there = table.present()
        key, profile, seen = table.key[there], table.profile[there], table.seen[there]
        del there
        self.table = table = Table(0)  # so that the old arrays are gone before the new ones are made
        self.table = table = Table(capacity)
        for begin in range(0, len(key), _STEP_OF_GROWTH):
            part = slice(begin, begin + _STEP_OF_GROWTH)
            places, _ = table.find(key[part])
            table.insert(key[part], places, profile[part], seen[part])
        return True

    # State

    def restore(self, keys: Keys, profiles: Numbers, seen: Times) -> None:
        """Take up rows [rows], later than those before; of several with one key the last holds."""
        if not len(keys):
            return
        # In the order of their places in the table, so that memory is walked through and not jumped about in.
        order = np.argsort(keys)
        latest = np.maximum.reduceat(order, starts_of(keys[order]))
        keys, profiles, seen = keys[latest], profiles[latest], seen[latest]
        self.enlarge(len(keys), _GROWTH_WHEN_RESTORED)
        places, known = self.table.find(keys)
        self.table.insert(keys[~known], places[~known], profiles[~known], seen[~known])
        self.table.profile[places[known]] = profiles[known]
        self.table.seen[places[known]] = seen[known]


class _Part:
    """The viewers of one part of the keys, and the facets of those that have several."""

    def __init__(self, profiles: Profiles, window_ms: int, tick_ms: int) -> None:
        self._profiles = profiles
        self._tick_ms = tick_ms
        self._viewers = _Seen(window_ms, tick_ms)
        self._facets = _Seen(window_ms, tick_ms)

    def __len__(self) -> int:
        return len(self._viewers.table)

    @property
    def size_bytes(self) -> int:
        return self._viewers.size_bytes + self._facets.size_bytes

    def present(self) -> Iterator[Numbers]:
        """Yield the profiles of all viewers and facets."""
        for seen in (self._viewers, self._facets):
            yield seen.table.profile[seen.table.present()]

    def see(self, rows: Rows, movement: Movement) -> None:
        """Take in rows of `SEEN`: in the order of their places in the table, and some at a time, so that memory is
        walked through and small arrays stay near the processor."""
        rows = merge_seen(rows, self._tick_ms)
        starts = starts_of(rows["key"])
        self._viewers.make_room(len(starts))
        ends = np.append(starts[_STEP::_STEP], len(rows)).tolist()
        for number, end in enumerate(ends):
            part = starts[number * _STEP : (number + 1) * _STEP]
            begin = int(part[0])
            self._see_some(rows[begin:end], part - begin, movement)

    def _see_some(self, rows: Rows, starts: Places, movement: Movement) -> None:
        """Take in rows by viewer, each of which begins at one of `starts`."""
        table = self._viewers.table
        profiles = rows["profile"]
        keys, newest = rows["key"][starts], profiles[np.append(starts[1:], len(rows)) - 1]
        places, known = table.find(keys)
        before = np.where(known, table.profile[places], newest)
        same = (np.minimum.reduceat(profiles, starts) == np.maximum.reduceat(profiles, starts)) & (before == newest)
        seen = np.where(known, table.seen[places], _LONG_AGO)
        appeared = self._viewers.appeared(rows["first"], rows["last"], starts, seen)
        own = profiles
        several = ~same
        if several.any():
            several &= ~self._only_moved(profiles, starts, before, same)
        if several.any():
            newest = newest.copy()
            newest[several] = self._profiles.whole_of(newest[several])
            of_several = np.repeat(several, np.diff(starts, append=len(rows)))
            own = profiles.copy()
            own[of_several] = self._profiles.whole_of(profiles[of_several])
            self._open_facets(keys, seen, before, several & known, movement)
            self._see_facets(rows.compress(of_several), movement)
        movement.appear(own[appeared])
        self._settle(keys, places, known, before, newest, np.maximum.reduceat(rows["last"], starts), movement)

    def _settle(
        self,
        keys: Keys,
        places: Places,
        known: Flags,
        before: Numbers,
        after: Numbers,
        last: Times,
        movement: Movement,
    ) -> None:
        """Put each viewer under its profile after this tick, with its latest time."""
        changed = known & (before != after)
        if changed.any():
            movement.leave(before[changed])
            movement.come(after[changed])
            self._viewers.table.profile[places[changed]] = after[changed]
        self._viewers.see_again(places[known], last[known])
        new = ~known
        self._viewers.insert(keys[new], places[new], after[new], last[new], movement)

    def _only_moved(self, profiles: Numbers, starts: Places, before: Numbers, same: Flags) -> Flags:
        """Return which viewers show one device and one country, as before, though their place may be another."""
        chosen = np.flatnonzero(~same)
        ends = np.append(starts[1:], len(profiles))
        facets = self._profiles.facets_of
        own = facets(before[chosen])
        moved = ~self._profiles.is_whole(before[chosen])
        for number in range(int((ends - starts)[chosen].max())):
            at = np.minimum(starts[chosen] + number, ends[chosen] - 1)
            moved &= (facets(profiles[at]) == own).all(axis=1)
        found = np.zeros(len(starts), np.bool_)
        found[chosen[moved]] = True
        return found

    def _open_facets(self, keys: Keys, seen: Times, before: Numbers, chosen: Flags, movement: Movement) -> None:
        """Give facets to viewers that have shown one device and one country so far."""
        single = chosen.copy()
        single[chosen] = ~self._profiles.is_whole(before[chosen])
        if not single.any():
            return
        facets = self._profiles.facets_of(before[single]).ravel()
        own = _facet_keys(np.repeat(keys[single], 2), facets)
        self._facets.make_room(len(own))
        order = np.argsort(own)
        places, _ = self._facets.table.find(own[order])
        # What was committed so far only knows the profile, so the facets are part of the next commit.
        self._facets.insert(own[order], places, facets[order], np.repeat(seen[single], 2)[order], movement)

    def _see_facets(self, rows: Rows, movement: Movement) -> None:
        facets = self._profiles.facets_of(rows["profile"]).ravel()
        keys = _facet_keys(np.repeat(rows["key"], 2), facets)
        self._facets.see(keys, facets, np.repeat(rows["first"], 2), np.repeat(rows["last"], 2), movement)

    def expire(self, tick_ms: int, movement: Movement) -> None:
        """Remove who is no longer in the window that ends with the tick."""
        self._viewers.expire(tick_ms, movement)
        self._facets.expire(tick_ms, movement)

    # State

    def take_touched(self) -> list[Rows]:
        """Return rows of `STATE` for all that changed since the last call; of two for one viewer the later holds."""
        viewers, self._viewers.touched = self._viewers.touched, []
        facets, self._facets.touched = self._facets.touched, []
        for rows in facets:
            rows["key"] = _facet_keys(rows["key"], rows["profile"])  # its own inverse
            rows["profile"] |= FACET
        return viewers + facets

    def restore(self, rows: Rows) -> None:
        """Take up rows of `STATE`, later than those before."""
        facet = (rows["profile"] & FACET) != 0
        facets, viewers = rows.compress(facet), rows.compress(~facet)
        numbers = facets["profile"] & ~np.uint32(FACET)
        self._facets.restore(_facet_keys(facets["key"], numbers), numbers, facets["seen"].copy())
        self._viewers.restore(viewers["key"].copy(), viewers["profile"].copy(), viewers["seen"].copy())

    def restored(self) -> None:
        """Finish, when all rows are taken up."""
        self._facets.enter_all()
        self._viewers.enter_all()


def _facet_keys(keys: Keys, facets: Numbers) -> Keys:
    """Return the key of each viewer's facet [keys]; given that, it returns the viewer's."""
    mixed = (facets.astype(np.uint64) + np.uint64(1)) * _ODD
    mixed = (mixed ^ (mixed >> _HALF)) * _ODD
    found: Keys = keys ^ (mixed & _EVEN)  # it stays odd, as all keys are
    return found
