"""Viewers by key: open addressing over arrays, 20 bytes a place, filled to three quarters at most.

Times are kept as milliseconds since a base that moves on, so that a time and the watch time of a session take four
bytes each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.viewers.rows import PART_BITS

Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint32]
Times = npt.NDArray[np.int64]
Columns = tuple[Keys, Numbers, Numbers, Numbers, int | None]
#: So much of a table may be used.
FILL = 0.75
#: The most that a time after the base, or a watch time, can be: seven weeks in milliseconds.
MOST_MS = (1 << 32) - 1

_OF_PART, _HALF = np.uint64(PART_BITS), np.uint64(32)
_BEHIND_MS = 20 * 86_400_000  # of the base behind the latest time; no window is that long
_EMPTY, _GONE = np.uint64(0), np.uint64(2)  # no viewer's key: those are odd


class Table:
    """Keys of one part to profile, time last seen and watch time, by open addressing with linear probing over arrays.

    Keys are hashes, so their own bits say where they belong: places are in the order of the keys. `watched`: the watch
    time (ms) of the session that a player is in; 0 for one that is in none.
    """

    def __init__(self, capacity: int = 128) -> None:
        self.key: Keys = np.zeros(capacity, np.uint64)
        self.profile: Numbers = np.zeros(capacity, np.uint32)
        self.watched: Numbers = np.zeros(capacity, np.uint32)
        self._since: Numbers = np.zeros(capacity, np.uint32)  # when last seen, in ms after the base
        self._base: int | None = None  # Unix ms
        self.used = 0  # places that are not empty, gone viewers included
        self.gone = 0

    @property
    def capacity(self) -> int:
        return len(self.key)

    @property
    def size_bytes(self) -> int:
        """Memory of the arrays."""
        return self.capacity * 20

    def _home(self, keys: Keys) -> Places:
        """Return where keys belong. The topmost bits are the same in all keys of a part."""
        scaled: Keys = (keys << _OF_PART >> _HALF) * np.uint64(self.capacity) >> _HALF
        return scaled.astype(np.int64)

    def __len__(self) -> int:
        """Return the number of viewers."""
        return self.used - self.gone

    def present(self) -> Places:
        """Return the places that hold a viewer."""
        return np.flatnonzero((self.key != _EMPTY) & (self.key != _GONE))

    def find(self, keys: Keys) -> tuple[Places, npt.NDArray[np.bool_]]:
        """Return the place of each key, or of the first free one where it would be; and whether it is there.

        Keys in their order are found several times as fast: memory is walked through.
        """
        places = self._home(keys)
        found = np.zeros(len(keys), np.bool_)
        open_ = np.arange(len(keys))
        while len(open_):
            there = self.key[places[open_]]
            hit = there == keys[open_]
            found[open_[hit]] = True
            open_ = open_[~hit & (there != _EMPTY)]
            places[open_] = (places[open_] + 1) % self.capacity
        return places, found

    def insert(self, keys: Keys, places: Places, profiles: Numbers) -> Places:
        """Put in keys that are distinct and absent, beginning at the places that `find` gave for them; there must be
        room. Their places, which have no time yet."""
        open_ = np.arange(len(keys))
        while len(open_):
            at = places[open_]
            free = self.key[at] == _EMPTY
            self.key[at[free]] = keys[open_[free]]  # of two that want one place, the later stays
            open_ = open_[self.key[at] != keys[open_]]
            places[open_] = (places[open_] + 1) % self.capacity
        self.profile[places] = profiles
        self.used += len(keys)
        return places

    def remove(self, places: Places) -> None:
        """Remove the viewers at these places. The places are not empty, so that probing goes on past them."""
        self.key[places] = _GONE
        self.gone += len(places)

    def take_all(self) -> Columns:
        """Return key, profile, time and watch time of all viewers, to put them into another table."""
        there = self.present()
        return self.key[there], self.profile[there], self._since[there], self.watched[there], self._base

    def put_all(self, columns: Columns, at_once: int) -> None:
        """Put in what another table had, so many at once; this one must be empty."""
        keys, profiles, since, watched, self._base = columns
        for begin in range(0, len(keys), at_once):
            part = slice(begin, begin + at_once)
            places, _ = self.find(keys[part])
            places = self.insert(keys[part], places, profiles[part])
            self._since[places], self.watched[places] = since[part], watched[part]

    # Times

    def seen(self, places: Places) -> Times:
        """Return when the viewers at these places were last seen (Unix ms)."""
        found: Times = self._since[places].astype(np.int64)
        found += self._base or 0
        return found

    def set_seen(self, places: Places, times: Times) -> None:
        """Note when viewers were last seen (Unix ms). What is weeks before the latest counts as that long ago."""
        if not len(times):
            return
        latest = int(times.max())
        if self._base is None:
            self._base = latest - _BEHIND_MS
        if latest - self._base > MOST_MS:
            self._move_base(latest - _BEHIND_MS)
        self._since[places] = np.clip(times - self._base, 0, MOST_MS)

    def _move_base(self, base: int) -> None:
        moved = self._since.astype(np.int64) + ((self._base or 0) - base)
        self._since = np.clip(moved, 0, MOST_MS).astype(np.uint32)
        self._base = base
