"""Watch time and sessions of players, by the requests of one tick.

A player is present from each request to `presence` after it. Of its past only the latest request is known, so presence
before that counts as known: a request adds what lies after it. Rows are requests of one player within less than a
presence. Times are Unix milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.viewers.table import MOST_MS

Numbers = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_FAR = np.int64(1 << 42)  # more than any Unix time in milliseconds


@dataclass(frozen=True, slots=True)
class Visits:
    """Rows [rows] of requests by key, first to last: those of a key stand together, and begin at `starts` [keys]."""

    first: Times
    last: Times
    starts: Places

    def reached(self, seen: Times) -> Times:
        """Return the latest request before each row [rows]; `seen` [keys]: the latest before all of the key's rows."""
        if len(self.starts) == len(self.first):
            return seen
        base = self.of_each(np.arange(len(self.starts), dtype=np.int64) * _FAR)
        reached = self.last + base
        reached[self.starts] = np.maximum(self.last[self.starts], seen) + base[self.starts]
        reached = np.maximum.accumulate(reached) - base
        before = np.empty_like(reached)
        before[1:] = reached[:-1]
        before[self.starts] = seen
        return before

    def of_each(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return for each row [rows] the value of its key [keys]."""
        return np.repeat(values, np.diff(self.starts, append=len(self.first)))

    def latest(self) -> Times:
        """Return the last request of each key [keys]."""
        if len(self.starts) == len(self.last):
            return self.last
        return np.maximum.reduceat(self.last, self.starts)


@dataclass(frozen=True, slots=True)
class Watched:
    """The additions of the requests of a tick: watch time by key [keys], and the watch time of its session after them.

    `begun` [sessions]: the key of each session that begins; `over`, `over_ms` [sessions]: of each that ended before
    one of the requests, with its watch time.
    """

    added: Times
    session: Numbers
    begun: Places
    over: Places
    over_ms: Times


def watch(visits: Visits, seen: Times, session: Numbers, presence: int, gap: int) -> Watched:
    """Return what requests add for players who were last `seen` [keys], with the watch time of their `session` [keys].

    A session that is longer than `MOST_MS` is counted as two.
    """
    reached = visits.reached(seen)
    added = visits.last - np.maximum(reached, visits.first - presence)
    added = np.maximum(added, 0, out=added)
    late = visits.first - reached > gap
    if len(visits.starts) == len(added):
        return _watch_once(added, late, session.astype(np.int64))
    return _watch_often(visits, added, late, session.astype(np.int64))


def _watch_once(added: Times, late: Flags, session: Times) -> Watched:
    """Return the same for keys that have one row each."""
    running = session > 0
    begins = (added > 0) & (late | ~running | (session + added > MOST_MS))
    over = np.flatnonzero(begins & running)
    after = np.where(begins, added, session + added)
    return Watched(added, after.astype(np.uint32), np.flatnonzero(begins), over, session[over])


def _watch_often(visits: Visits, added: Times, late: Flags, session: Times) -> Watched:
    starts = visits.starts
    ends = np.append(starts[1:], len(added)) - 1
    keys = visits.of_each(np.arange(len(starts)))
    totals = np.add.reduceat(added, starts)
    adds = added > 0
    earlier: Times = np.cumsum(adds) - adds  # rows before it that add something
    is_first = adds & (earlier == earlier[starts][keys])
    running = (session > 0)[keys] | (earlier > earlier[starts][keys])
    begins = adds & (late | ~running | (is_first & (session + totals > MOST_MS)[keys]))
    # Of each row the row that its session begins with, and what was added to all before that: of a session that
    # goes on, less what it had.
    before = np.cumsum(added) - added
    is_start = np.zeros(len(added), np.bool_)
    is_start[starts] = True
    anchor = np.maximum.accumulate(np.where(begins | is_start, np.arange(len(added)), 0))
    base = before[anchor] - np.where(begins[anchor], 0, session[keys])
    ended = np.flatnonzero(begins & running)
    previous = np.where(is_start[ended], before[ended] - session[keys[ended]], base[np.maximum(ended - 1, 0)])
    after = before[ends] + added[ends] - base[ends]
    return Watched(totals, after.astype(np.uint32), keys[np.flatnonzero(begins)], keys[ended], before[ended] - previous)
