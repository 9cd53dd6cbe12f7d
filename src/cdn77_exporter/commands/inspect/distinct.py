"""Counts different keys among millions, in 16 bytes each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Distinct:
    """Keys that were met, up to `most`, each with a value; 64 bits of a hash tell a million apart for certain enough.

    (The odds of one error are 1 to 37 million.) They are kept in sorted runs, each more than twice as long as the next.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._runs: list[tuple[Keys, Keys]] = []

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self._runs)

    @property
    def is_full(self) -> bool:
        """Return whether no more keys are taken."""
        return len(self) >= self._most

    def add(self, keys: Keys, values: Keys) -> tuple[npt.NDArray[np.intp], Keys]:
        """Take keys, which may be there several times; return places of those that are new, one of each, and for all
        keys the value with which they came first."""
        order = np.argsort(keys)
        together = keys[order]
        starts = np.flatnonzero(np.diff(together, prepend=~together[:1]))
        different, first, is_new = together[starts], values[order[starts]], np.ones(len(starts), np.bool_)
        for run, of_run in self._runs:
            found = np.minimum(np.searchsorted(run, different), len(run) - 1)
            known = run[found] == different
            first[known] = of_run[found[known]]
            is_new[known] = False
        new = np.flatnonzero(is_new)[: max(0, self._most - len(self))]
        if len(new):
            self._keep(different[new], first[new])
        of_all = np.empty_like(values)
        of_all[order] = np.repeat(first, np.diff(starts, append=len(keys)))
        return order[starts[new]], of_all

    def _keep(self, keys: Keys, values: Keys) -> None:
        while self._runs and len(self._runs[-1][0]) <= 2 * len(keys):
            run, of_run = self._runs.pop()
            places = np.searchsorted(run, keys)
            keys, values = np.insert(run, places, keys), np.insert(of_run, places, values)
        self._runs.append((keys, values))


def mixed(keys: Keys, others: Keys) -> Keys:
    """Return a key for each pair of keys."""
    found = (keys ^ (others * _GOLDEN)) * _GOLDEN
    mixed_bits: Keys = found ^ (found >> np.uint64(29))
    return mixed_bits
