"""Counts different keys among millions, in 8 bytes each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Distinct:
    """Keys that were met, up to `most`; 64 bits of a hash tell a million apart for certain enough.

    (The odds of one error are 1 to 37 million.) They are kept in sorted runs, each more than twice as long as the next.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._runs: list[Keys] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    @property
    def is_full(self) -> bool:
        """Return whether no more keys are taken."""
        return len(self) >= self._most

    def add(self, keys: Keys) -> npt.NDArray[np.intp]:
        """Take keys, which may be there several times; return places of those that are new, one of each."""
        order = np.argsort(keys)
        together = keys[order]
        first = np.ones(len(keys), np.bool_)
        first[1:] = together[1:] != together[:-1]
        for run in self._runs:
            first &= run[np.minimum(np.searchsorted(run, together), len(run) - 1)] != together
        new = np.flatnonzero(first)[: max(0, self._most - len(self))]
        if len(new):
            self._keep(together[new])
        return order[new]

    def _keep(self, keys: Keys) -> None:
        while self._runs and len(self._runs[-1]) <= 2 * len(keys):
            keys = np.sort(np.concatenate([self._runs.pop(), keys]))
        self._runs.append(keys)


def mixed(keys: Keys, others: Keys) -> Keys:
    """Return a key for each pair of keys."""
    found = (keys ^ (others * _GOLDEN)) * _GOLDEN
    mixed_bits: Keys = found ^ (found >> np.uint64(29))
    return mixed_bits
