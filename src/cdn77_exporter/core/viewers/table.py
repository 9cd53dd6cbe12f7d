"""Viewers by key: open addressing over arrays, 20 bytes a place, filled to three quarters at most."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.viewers.rows import PART_BITS

Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
#: So much of a table may be used.
FILL = 0.75

_OF_PART, _HALF = np.uint64(PART_BITS), np.uint64(32)
_EMPTY, _GONE = np.uint64(0), np.uint64(2)  # no viewer's key: those are odd


class Table:
    """Keys of one part to profile and time last seen, by open addressing with linear probing over arrays.

    Keys are hashes, so their own bits say where they belong: places are in the order of the keys.
    """

    def __init__(self, capacity: int = 128) -> None:
        self.key: Keys = np.zeros(capacity, np.uint64)
        self.profile: npt.NDArray[np.uint32] = np.zeros(capacity, np.uint32)
        self.seen: npt.NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.used = 0  # places that are not empty, gone viewers included
        self.gone = 0

    @property
    def capacity(self) -> int:
        return len(self.key)

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

    def insert(
        self, keys: Keys, places: Places, profiles: npt.NDArray[np.uint32], seen: npt.NDArray[np.int64]
    ) -> Places:
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

    def remove(self, places: Places) -> None:
        """Remove the viewers at these places. The places are not empty, so that probing goes on past them."""
        self.key[places] = _GONE
        self.gone += len(places)
