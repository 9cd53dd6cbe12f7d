"""Rows of series as a state keeps them: each commit adds a run of those that changed, and runs are merged."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

_VALUES_0_3_0 = [("slot", "<u4"), ("value", "<f8"), ("changed", "<u4"), ("written", "<u4"), ("live", "?")]
#: The value of a slot, the ticks (Unix seconds) of its last change and its last sample, whether it is live, and the
#: tick of the zero with which it began, 0 where that is not known.
VALUES = np.dtype([*_VALUES_0_3_0, ("created", "<u4")])
#: The columns without the slot.
COLUMNS = ("value", "changed", "written", "live", "created")
_PACKED = b"\xff" * 4  # begins a run; in one of 0.3.0 it would be a slot
#: A slot that was counted since the last tick, and the value that this tick had.
PENDING = np.dtype([("slot", "<u4"), ("before", "<f8")])

Rows = npt.NDArray[np.void]


def values_of(rows: Iterable[tuple[int, float, int, int, bool]]) -> bytes:
    """Return a run of `VALUES` of which it is not known when they began."""
    return packed(np.array([(*row, 0) for row in rows], VALUES))


def packed(rows: Rows) -> bytes:
    """Return rows of `VALUES` as a run."""
    return _PACKED + rows.tobytes()


def _unpacked(run: bytes | memoryview) -> Rows:
    """Return the rows of a run; those of 0.3.0 do not say when they began."""
    if run[: len(_PACKED)] == _PACKED:
        return np.frombuffer(run, VALUES, offset=len(_PACKED))
    old = np.frombuffer(run, _VALUES_0_3_0)
    rows = np.zeros(len(old), VALUES)
    for name, _ in _VALUES_0_3_0:
        rows[name] = old[name]
    return rows


def pending_of(rows: Iterable[tuple[int, float]]) -> bytes:
    """Return rows of `PENDING`."""
    return np.array([tuple(row) for row in rows], PENDING).tobytes()


def latest(runs: Iterable[bytes | memoryview]) -> Rows:
    """Merge runs of `VALUES`, oldest first: the last row of each slot, in the order of slots."""
    merged = np.zeros(0, VALUES)
    for run in runs:  # one after the other, for they are large
        rows = np.concatenate((merged, _unpacked(run)))
        _, places = np.unique(rows["slot"][::-1], return_index=True)
        merged = rows[len(rows) - 1 - places]
    return merged
