"""Distinct viewers in rolling windows: who appears, who is still there, and who has left, exactly.

A viewer is a client IP within a stream, known here only by a keyed hash of 63 bits (an odd 64-bit number). That any two
of ten million viewers share one has a probability of about 5 in a million. Each viewer has a *profile* (what its series
are labelled with); as long as it shows one device and one country that is all there is. From a second device or country
on, each of its devices and countries is followed by itself, as a *facet*. A *player* is a viewer with one device, or
the facet of one of its devices.

There is one table of who was last seen when; a window holds those who were seen within its length. The table consists
of parts, so that not all viewers move at once when there is no room for more. Everybody in a window stands in the
window's calendar once, under the tick on which they would leave had they not been seen again; so a tick's work is for
what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.viewers.calendar import Calendar
from cdn77_exporter.core.viewers.movement import Counts, Movement, total
from cdn77_exporter.core.viewers.profiles import Profiles
from cdn77_exporter.core.viewers.rows import (
    FACET,
    PARTS,
    STATE,
    merge_rows,
    merge_seen,
    packed,
    split,
    starts_of,
    unpacked,
)
from cdn77_exporter.core.viewers.sessions import Visits, watch
from cdn77_exporter.core.viewers.table import FILL, MOST_MS, Keys, Places, Table

Numbers = npt.NDArray[np.uint32]
Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]

_GROWTH, _GROWTH_WHEN_RESTORED = 1.25, 1.5
_STEP = 1 << 14  # viewers
_STEP_OF_GROWTH = 1 << 16  # the passing arrays of an insertion stay small
_NEVER = np.int64(-(1 << 41))  # before every event and every window
# After so long somebody comes who was not there before.
_ENDLESS_MS = 1 << 40
_BEFORE_FIRST_MS = 30 * 86_400_000  # before the first tick: longer than every window
_ODD = np.uint64(0x9E3779B97F4A7C15)
_EVEN, _HALF = np.uint64(0xFFFFFFFFFFFFFFFE), np.uint64(32)


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths of the windows, in seconds.

    `active`: windows of active viewers, the session window first. `presence`: how long a player is present after a
    request, at least a tick. `gap`: after how long without one its session is over, at least a presence. `returns`: up
    to how long ago a viewer's last request is known; 0 when nobody asks.
    """

    active: tuple[int, ...]
    presence: int
    gap: int
    returns: int = 0

    @property
    def counted(self) -> tuple[int, ...]:
        """The windows whose viewers are counted, each once, the shortest first."""
        return tuple(sorted({*self.active, self.presence}))

    @property
    def kept(self) -> int:
        """The time for which a viewer is kept after its last request."""
        return max(*self.active, self.gap, self.returns)


class ViewerWindow:
    """The rolling windows of all streams.

    `tick_seconds`: distance of ticks; a window at a tick holds who has an event in [tick - length, tick). Times are
    Unix milliseconds, ticks Unix seconds. Windows are told apart by their length in seconds.
    """

    def __init__(self, profiles: Profiles, lengths: Lengths, tick_seconds: int) -> None:
        self.lengths = lengths
        self._tick_ms = tick_seconds * 1000
        self._parts = [_Part(profiles, lengths, self._tick_ms) for _ in range(PARTS)]
        self._now_ms: int | None = None  # the tick before
        self._players: Times = np.zeros(0, np.int64)  # present ones with a session, by profile

    def __len__(self) -> int:
        """Return the number of viewers that are kept, those included that leave at the next tick."""
        return sum(map(len, self._parts))

    @property
    def size_bytes(self) -> int:
        """Memory of the arrays."""
        return sum(part.size_bytes for part in self._parts)

    def advance(self, tick: int, runs: Iterable[Rows]) -> Movement:
        """Admit viewers seen before `tick`, expire those outside the windows, and return the change.

        `runs`: rows of `SEEN` in any order, but all rows of a viewer in the same run.
        """
        movement = Movement()
        tick_ms = tick * 1000
        if self._now_ms is None:
            self._set_now(tick_ms - _BEFORE_FIRST_MS)
        for run in runs:
            for part, rows in zip(self._parts, split(run), strict=True):
                if len(rows):
                    part.see(rows, movement)
        for part in self._parts:
            part.expire(tick_ms, movement)
        self._players = movement.apply_joined(self._players)
        there = np.flatnonzero(self._players)
        movement.watch(there, self._players[there] * (tick_ms - (self._now_ms or 0)))
        self._set_now(tick_ms)
        return movement

    def _set_now(self, now_ms: int) -> None:
        self._now_ms = now_ms
        for part in self._parts:
            part.set_now(now_ms)

    def present(self, length: int) -> Counts:
        """Return profiles, facets among them, each once, and how many viewers in a window have them."""
        return total([found for part in self._parts for found in part.present(length * 1000)], [])

    def profiles(self) -> set[int]:
        """Return the profiles of all viewers that are kept, those included that leave at the next tick."""
        return {
            number
            for part in self._parts
            for found in part.profiles()
            for number in np.flatnonzero(np.bincount(found)).tolist()
        }

    # State

    def take_changes(self) -> bytes:
        """Return a run of `STATE` rows for all that changed since the last call."""
        return packed(np.concatenate(merge_rows((rows for part in self._parts for rows in part.take_touched()), 0)))

    def restore(
        self,
        runs: Iterable[bytes],
        now_ms: int,
        *,
        since_ms: int = 0,
        presence: int | None = None,
        gap: int | None = None,
    ) -> None:
        """Take up runs, oldest first (the windows must be empty); `now_ms`: the last tick.

        `since_ms`: whoever was not seen since then was forgotten, whose profile may be another by now.
        `presence`, `gap`: what they were until that tick, if it was something else: what was counted by them holds.
        """
        self._set_now(now_ms)
        for run in runs:
            rows = unpacked(run)
            rows = rows.compress(rows["seen"] >= max(since_ms, now_ms - self.lengths.kept * 1000))
            for part, own in zip(self._parts, split(rows), strict=True):
                if len(own):
                    part.restore(own)
        movement = Movement()
        for part in self._parts:
            part.restored((presence or self.lengths.presence) * 1000, (gap or self.lengths.gap) * 1000, movement)
        self._players = movement.apply_joined(self._players)


class _Seen:
    """Keys that were seen, each with its profile, its last time and the watch time of its session."""

    def __init__(self, lengths: Lengths, tick_ms: int) -> None:
        self.now_ms = 0  # the tick before
        self.table = Table()
        self.touched: list[Rows] = []
        self._session_ms = lengths.active[0] * 1000
        self._presence_ms, self._gap_ms, self._kept_ms = (
            lengths.presence * 1000,
            lengths.gap * 1000,
            lengths.kept * 1000,
        )
        self._windows = {
            length: Calendar(length * 1000, tick_ms) for length in sorted({*lengths.counted, lengths.kept})
        }
        self._sessions = Calendar(self._gap_ms, tick_ms)  # players in a session

    @property
    def size_bytes(self) -> int:
        """Memory of the arrays."""
        calendars = [*self._windows.values(), self._sessions]
        return self.table.size_bytes + sum(calendar.size_bytes for calendar in calendars)

    def present(self, length_ms: int) -> Numbers:
        """Return the profiles of those who are in a window."""
        places = self.table.present()
        found: Numbers = self.table.profile[places[self.table.seen(places) >= self.now_ms - length_ms]]
        return found

    def last_seen(self, places: Places, known: Flags) -> Times:
        """Return when keys were last seen; of those that are not known, before every window."""
        return np.where(known, self.table.seen(places), _NEVER)

    def appeared(self, visits: Visits, seen: Times) -> Flags:
        """Return which rows begin a visit: no event lies within a session window before their first.

        `seen` [keys]: the last time before them. Who is no longer in the window is new.
        """
        seen = np.where(seen >= self.now_ms - self._session_ms, seen, _NEVER)
        found: Flags = visits.first - visits.reached(seen) > self._session_ms
        return found

    def see(self, rows: Rows, movement: Movement) -> None:
        """Take in rows [rows] of keys that keep their profile."""
        rows = rows.take(np.lexsort((rows["first"], rows["key"])))
        starts = starts_of(rows["key"])
        self.make_room(len(starts))
        keys, profiles = rows["key"][starts], rows["profile"][starts]
        visits = Visits(rows["first"].astype(np.int64), rows["last"].astype(np.int64), starts)
        places, known = self.table.find(keys)
        seen = self.last_seen(places, known)
        movement.appear(rows["profile"][self.appeared(visits, seen)])
        self.admit(keys, places, known, seen, profiles, visits, movement)

    def admit(
        self,
        keys: Keys,
        places: Places,
        known: Flags,
        seen: Times,
        profiles: Numbers,
        visits: Visits,
        movement: Movement,
    ) -> None:
        """Put keys [keys] under their profiles after these visits, with their latest times and their sessions."""
        table = self.table
        self._change_profiles(places, known, seen, profiles, movement)
        session = np.where(known, table.watched[places], np.uint32(0))
        # Whoever is not known may have been, longer ago than anybody is kept.
        watched = watch(
            visits, np.maximum(seen, self.now_ms - self._kept_ms - 1), session, self._presence_ms, self._gap_ms
        )
        movement.watch(profiles, watched.added)
        movement.begin(profiles[watched.begun])
        movement.end(profiles[watched.over], watched.over_ms)
        latest = np.maximum(seen, visits.latest())
        new = ~known
        if new.any():
            places = places.copy()
            places[new] = table.insert(keys[new], places[new], profiles[new])
        table.set_seen(places, latest)
        table.watched[places] = watched.session
        self._join(places, profiles, seen, latest, session, watched.session, movement)
        self.touch(places)

    def _change_profiles(
        self, places: Places, known: Flags, seen: Times, profiles: Numbers, movement: Movement
    ) -> None:
        """Move those who are known from the profile that they had to another; what they watched so far stays there."""
        before = self.table.profile[places]
        changed = np.flatnonzero(known & (before != profiles))
        if not len(changed):
            return
        before, after, seen = before[changed], profiles[changed], seen[changed]
        for length in self._windows:
            there = seen >= self.now_ms - length * 1000
            movement.leave(length, before[there])
            movement.come(length, after[there])
        there = (seen >= self.now_ms - self._presence_ms) & (self.table.watched[places[changed]] > 0)
        movement.join(before[there], -1)
        movement.join(after[there], 1)
        self.table.profile[places[changed]] = after

    def _join(
        self,
        places: Places,
        profiles: Numbers,
        before: Times,
        after: Times,
        session_before: Numbers,
        session_after: Numbers,
        movement: Movement,
    ) -> None:
        """Let those who were seen enter the windows in which they are now: `before` and `after` this, by key."""
        for length, calendar in self._windows.items():
            begin = self.now_ms - length * 1000
            if calendar.length_ms == self._kept_ms:
                # Whoever is new is in the calendar by which it is forgotten, however old what was seen of it is.
                came = np.flatnonzero(before == _NEVER)
            else:
                came = np.flatnonzero((before < begin) & (after >= begin))
            if len(came):
                movement.come(length, profiles[came])
                calendar.enter(places[came], after[came])
        begin = self.now_ms - self._presence_ms
        was = (before >= begin) & (session_before > 0)
        moved = np.flatnonzero(was)
        movement.watch(profiles[moved], before[moved] - after[moved])
        came = np.flatnonzero((after >= begin) & (session_after > 0) & ~was)
        movement.join(profiles[came], 1)
        movement.watch(profiles[came], begin - after[came])
        began = np.flatnonzero((session_before == 0) & (session_after > 0))
        self._sessions.enter(places[began], after[began])

    def open(self, keys: Keys, profiles: Numbers, seen: Times, session: Numbers, movement: Movement) -> None:
        """Put in distinct keys that are absent, with what is known of them from elsewhere."""
        order = np.argsort(keys)
        keys, profiles, seen, session = keys[order], profiles[order], seen[order], session[order]
        self.make_room(len(keys))
        places, _ = self.table.find(keys)
        places = self.table.insert(keys, places, profiles)
        self.table.set_seen(places, seen)
        self.table.watched[places] = session
        for length, calendar in self._windows.items():
            there = seen >= self.now_ms - length * 1000
            movement.come(length, profiles[there])
            calendar.enter(places[there], seen[there])
        there = (seen >= self.now_ms - self._presence_ms) & (session > 0)
        movement.join(profiles[there], 1)
        self._sessions.enter(places[session > 0], seen[session > 0])
        self.touch(places)

    def touch(self, places: Places) -> None:
        """Note that a commit has to hold these."""
        table = self.table
        rows = np.empty(len(places), STATE)
        rows["key"], rows["profile"] = table.key[places], table.profile[places]
        rows["seen"], rows["watched"] = table.seen(places), table.watched[places]
        self.touched.append(rows)

    # Leaving

    def expire(self, tick_ms: int, movement: Movement) -> None:
        """Let those leave who are no longer in the windows that end with the tick."""
        table = self.table
        forgotten = np.zeros(0, np.int64)
        for length, calendar in self._windows.items():
            places, seen = self._take_left(calendar, tick_ms)
            if not len(places):
                continue
            profiles = table.profile[places]
            movement.leave(length, profiles)
            if calendar.length_ms == self._presence_ms:
                players = table.watched[places] > 0
                movement.join(profiles[players], -1)
                movement.watch(profiles[players], seen[players] - (self.now_ms - self._presence_ms))
            if calendar.length_ms == self._kept_ms:
                forgotten = places
        places, _ = self._take_left(self._sessions, tick_ms)
        movement.end(table.profile[places], table.watched[places].astype(np.int64))
        table.watched[places] = 0  # a state says so by the time that was last seen
        table.remove(forgotten)

    def _take_left(self, calendar: Calendar, tick_ms: int) -> tuple[Places, Times]:
        """Return the places that have left, and when they were last seen; the others stay in the calendar."""
        places = calendar.take_due(tick_ms)
        seen = self.table.seen(places)
        gone = seen < tick_ms - calendar.length_ms
        if not gone.all():
            calendar.enter(places[~gone], seen[~gone])
            places, seen = places[gone], seen[gone]
        return places, seen

    def enter_all(self) -> None:
        """Fill the calendars anew."""
        for calendar in (*self._windows.values(), self._sessions):
            calendar.clear()
        places = self.table.present()
        for begin in range(0, len(places), _STEP_OF_GROWTH):
            part = places[begin : begin + _STEP_OF_GROWTH]
            seen = self.table.seen(part)
            for calendar in self._windows.values():
                there = seen >= self.now_ms - calendar.length_ms
                if calendar.length_ms == self._kept_ms:
                    there[:] = True
                calendar.enter(part[there], seen[there])
            playing = self.table.watched[part] > 0
            self._sessions.enter(part[playing], seen[playing])

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
        columns = table.take_all()
        self.table = table = Table(0)  # so that the old arrays are gone before the new ones are made
        self.table = table = Table(capacity)
        table.put_all(columns, _STEP_OF_GROWTH)
        return True

    # State

    def restore(self, rows: Rows) -> None:
        """Take up rows of `STATE`, later than those before; of several with one key the last holds."""
        if not len(rows):
            return
        # In the order of their places in the table, so that memory is walked through and not jumped about in.
        order = np.argsort(rows["key"])
        rows = rows.take(np.maximum.reduceat(order, starts_of(rows["key"][order])))
        self.enlarge(len(rows), _GROWTH_WHEN_RESTORED)
        table = self.table
        keys = rows["key"].astype(np.uint64)
        places, known = table.find(keys)
        places[~known] = table.insert(keys[~known], places[~known], rows["profile"][~known])
        table.profile[places], table.watched[places] = rows["profile"], rows["watched"]
        table.set_seen(places, rows["seen"])

    def restored(self, presence_ms: int, gap_ms: int, movement: Movement) -> None:
        """Finish, when all rows are taken up: `presence_ms`, `gap_ms` are what they were until now."""
        table = self.table
        places = table.present()
        for begin in range(0, len(places), _STEP_OF_GROWTH):
            part = places[begin : begin + _STEP_OF_GROWTH]
            seen, session = table.seen(part), table.watched[part].astype(np.int64)
            session[seen < self.now_ms - gap_ms] = 0
            playing = session > 0
            # What was told of is presence by the old length up to now; from now on it is by the new one.
            ahead = np.maximum(seen + self._presence_ms - self.now_ms, 0)
            ahead -= np.maximum(seen + presence_ms - self.now_ms, 0)
            session = np.where(playing, np.clip(session + ahead, 1, MOST_MS), 0)
            table.watched[part] = session
            present = playing & (seen >= self.now_ms - self._presence_ms)
            movement.join(table.profile[part[present]], 1)
        self.enter_all()


class _Part:
    """The viewers of one part of the keys, and the facets of those that have several."""

    def __init__(self, profiles: Profiles, lengths: Lengths, tick_ms: int) -> None:
        self._profiles = profiles
        self._tick_ms = tick_ms
        self._viewers = _Seen(lengths, tick_ms)
        self._facets = _Seen(lengths, tick_ms)
        self._returns_ms = lengths.returns * 1000

    def __len__(self) -> int:
        return len(self._viewers.table)

    @property
    def size_bytes(self) -> int:
        return self._viewers.size_bytes + self._facets.size_bytes

    def set_now(self, now_ms: int) -> None:
        """Set the tick before."""
        self._viewers.now_ms = self._facets.now_ms = now_ms

    def present(self, length_ms: int) -> Iterator[Numbers]:
        """Yield the profiles of the viewers and facets in a window."""
        for seen in (self._viewers, self._facets):
            yield seen.present(length_ms)

    def profiles(self) -> Iterator[Numbers]:
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
        seen = self._viewers.last_seen(places, known)
        visits = Visits(rows["first"].astype(np.int64), rows["last"].astype(np.int64), starts)
        appeared = self._viewers.appeared(visits, seen)
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
            opened = np.flatnonzero(several & known)
            self._open_facets(keys[opened], seen[opened], table.watched[places[opened]], before[opened], movement)
            self._see_facets(rows.compress(of_several), movement)
        movement.appear(own[appeared])
        if self._returns_ms:
            self._return(own, visits, seen, movement)
        self._viewers.admit(keys, places, known, seen, newest, visits, movement)

    def _return(self, profiles: Numbers, visits: Visits, seen: Times, movement: Movement) -> None:
        """Count visits [rows] by the time since the request before them; `seen` [keys]: the latest of those before."""
        reached = visits.reached(seen)
        after = visits.first - reached
        known = after <= self._returns_ms
        added = np.maximum(visits.last - np.where(known, reached, visits.first), 0)
        movement.come_back(profiles, np.where(known, after, _ENDLESS_MS), added)

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

    def _open_facets(self, keys: Keys, seen: Times, session: Numbers, before: Numbers, movement: Movement) -> None:
        """Give facets to viewers [viewers] that have shown one device and one country so far."""
        single = ~self._profiles.is_whole(before)
        if not single.any():
            return
        facets = self._profiles.facets_of(before[single]).ravel()
        own = _facet_keys(np.repeat(keys[single], 2), facets)
        # What was committed so far only knows the profile, so the facets are part of the next commit.
        self._facets.open(own, facets, np.repeat(seen[single], 2), np.repeat(session[single], 2), movement)

    def _see_facets(self, rows: Rows, movement: Movement) -> None:
        facets = self._profiles.facets_of(rows["profile"]).ravel()
        of_facets = np.repeat(rows, 2)
        of_facets["key"] = _facet_keys(of_facets["key"], facets)
        of_facets["profile"] = facets
        self._facets.see(of_facets, movement)

    def expire(self, tick_ms: int, movement: Movement) -> None:
        """Let those leave who are no longer in the windows that end with the tick."""
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
        self._viewers.restore(rows.compress(~facet))
        facets = rows.compress(facet)
        facets["profile"] &= ~np.uint32(FACET)
        facets["key"] = _facet_keys(facets["key"], facets["profile"])
        self._facets.restore(facets)

    def restored(self, presence_ms: int, gap_ms: int, movement: Movement) -> None:
        """Finish, when all rows are taken up."""
        self._facets.restored(presence_ms, gap_ms, movement)
        self._viewers.restored(presence_ms, gap_ms, movement)


def _facet_keys(keys: Keys, facets: Numbers) -> Keys:
    """Return the key of each viewer's facet [keys]; given that, it returns the viewer's."""
    mixed = (facets.astype(np.uint64) + np.uint64(1)) * _ODD
    mixed = (mixed ^ (mixed >> _HALF)) * _ODD
    found: Keys = keys ^ (mixed & _EVEN)  # it stays odd, as all keys are
    return found
