"""Rows of series as a state keeps them: each commit adds a run of those that changed, and runs are merged."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

#: The value of a slot, the ticks (Unix seconds) of its last change and its last sample, and whether it is live.
VALUES = np.dtype([("slot", "<u4"), ("value", "<f8"), ("changed", "<u4"), ("written", "<u4"), ("live", "?")])
#: A slot that was counted since the last tick, and the value that this tick had.
PENDING = np.dtype([("slot", "<u4"), ("before", "<f8")])

Rows = npt.NDArray[np.void]


def values_of(rows: Iterable[tuple[int, float, int, int, bool]]) -> bytes:
    """Return a run of `VALUES`."""
    return np.array([tuple(row) for row in rows], VALUES).tobytes()


def pending_of(rows: Iterable[tuple[int, float]]) -> bytes:
    """Return rows of `PENDING`."""
    return np.array([tuple(row) for row in rows], PENDING).tobytes()


def latest(runs: Iterable[bytes | memoryview]) -> Rows:
    """Merge runs of `VALUES`, oldest first: the last row of each slot, in the order of slots."""
    merged = np.zeros(0, VALUES)
    for run in runs:  # one after the other, for they are large
        rows = np.concatenate((merged, np.frombuffer(run, VALUES)))
        _, places = np.unique(rows["slot"][::-1], return_index=True)
        merged = rows[len(rows) - 1 - places]
    return merged
