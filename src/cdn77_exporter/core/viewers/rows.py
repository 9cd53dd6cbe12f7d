"""Rows of viewers: what a tick saw of them, and what the state of their window holds; split by key, and merged.

Whatever takes several times the memory of the rows is done for a part of the keys at a time. A row's part is that of
its key, so all rows of a viewer are in the same one, wherever they are split.

Rows are chosen by `take` and `compress`: to index an array of such rows takes several times as long.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]

#: One row of what a tick saw: the viewer's key, its profile, first and last event (Unix ms), both of one tick.
SEEN = np.dtype([("key", "<u8"), ("profile", "<u4"), ("first", "<i8"), ("last", "<i8")])
#: One row of the windows' state: key, profile (with `FACET` set: a facet's), time last seen (Unix ms), and watch time
#: of the session that it is in (ms, 0 for none).
STATE = np.dtype([("key", "<u8"), ("profile", "<u4"), ("seen", "<i8"), ("watched", "<u4")])
_STATE_0_2_0 = np.dtype([("key", "<u8"), ("profile", "<u4"), ("seen", "<i8")])
_PACKED = b"\1"  # begins a run
FACET = 1 << 31
#: How many parts there are.
PARTS = 4
#: The bits of a key that tell its part, which are the topmost.
PART_BITS = PARTS.bit_length() - 1

_TOP_BYTE = 7  # of a key, where a row has it


def split(rows: npt.NDArray[np.void]) -> list[npt.NDArray[np.void]]:
    """Return the rows of each part, in their order."""
    parts = rows["key"] >> np.uint64(64 - PART_BITS)
    return [rows.compress(parts == number) for number in range(PARTS)]


def starts_of(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return where each key begins, of keys in their order, at least one."""
    return np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))


def merge_runs_of_seen(runs: list[npt.NDArray[np.void]], tick_ms: int) -> list[npt.NDArray[np.void]]:
    """Merge runs of `SEEN` rows of one part, as `merge_seen` does.

    All rows of a viewer are in the same one of the arrays returned. The list given is empty then, for they may be
    large.
    """
    rows = np.concatenate(runs)
    runs.clear()
    # By the bits below those of the part: what sorting takes is several times the rows.
    shares = (rows["key"] >> np.uint64(64 - 2 * PART_BITS)).astype(np.uint8) & (PARTS - 1)
    return [merge_seen(rows.compress(shares == number), tick_ms) for number in range(PARTS) if number in shares]


def merge_seen(rows: npt.NDArray[np.void], tick_ms: int) -> npt.NDArray[np.void]:
    """Return one row of `SEEN` for each viewer, profile and tick of its events, by key and then by first event.

    Rows of different ticks stay apart: a viewer may have left the window between them.
    """
    rows = rows.take(np.argsort(rows["key"]))
    starts = starts_of(rows["key"])
    if len(starts) == len(rows):
        return rows
    merged = _one_of_each(rows, starts)
    profiles = rows["profile"]
    several = np.maximum.reduceat(profiles, starts) != np.minimum.reduceat(profiles, starts)
    several |= merged["first"] // tick_ms != merged["last"] // tick_ms
    if not several.any():
        return merged
    of_several = rows.compress(np.repeat(several, np.diff(starts, append=len(rows))))
    merged = np.concatenate((merged.compress(~several), _merge_several(of_several, tick_ms)))
    return merged.take(np.argsort(merged["key"], kind="stable"))


def _merge_several(rows: npt.NDArray[np.void], tick_ms: int) -> npt.NDArray[np.void]:
    """Merge rows of viewers who have several profiles or ticks."""
    ticks = rows["first"] // tick_ms
    order = np.lexsort((ticks, rows["profile"], rows["key"]))
    rows, ticks = rows.take(order), ticks[order]
    new = (rows["key"][1:] != rows["key"][:-1]) | (rows["profile"][1:] != rows["profile"][:-1])
    new |= ticks[1:] != ticks[:-1]
    merged = _one_of_each(rows, np.flatnonzero(np.append(True, new)))
    return merged.take(np.lexsort((merged["first"], merged["key"])))


def _one_of_each(rows: npt.NDArray[np.void], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """Return one row for those from each start to the next."""
    merged = rows.take(starts)
    merged["first"] = np.minimum.reduceat(rows["first"], starts)
    merged["last"] = np.maximum.reduceat(rows["last"], starts)
    return merged


def packed(rows: Rows) -> bytes:
    """Return rows of `STATE` as a run; nothing for none."""
    return _PACKED + rows.tobytes() if len(rows) else b""


def unpacked(run: bytes) -> Rows:
    """Return the rows of a run; those of 0.2.0 have no watch time."""
    if run[:1] == _PACKED and len(run) % 2:  # a run of 0.2.0 has an even length
        return np.frombuffer(run, STATE, offset=1)
    old = np.frombuffer(run, _STATE_0_2_0)
    rows = np.zeros(len(old), STATE)
    for name in ("key", "profile", "seen"):
        rows[name] = old[name]
    return rows


def merge_runs(runs: Iterable[bytes], since_ms: int) -> list[bytes]:
    """Merge runs, oldest first: by part, a run of the latest row of each viewer seen since then."""
    return [packed(rows) for rows in merge_rows(map(unpacked, runs), since_ms)]


def merge_rows(runs: Iterable[Rows], since_ms: int) -> list[Rows]:
    """Merge rows of `STATE`, oldest first: by part, the latest row of each viewer seen since then.

    There is little more than the rows in memory: what sorting takes besides is needed for some of them at a time.
    """
    content = bytearray()
    for run in runs:
        content += run.data
    rows = np.frombuffer(content, STATE)
    tops = np.frombuffer(content, np.uint8)[_TOP_BYTE :: STATE.itemsize]
    recent = rows["seen"] >= since_ms
    chosen = np.zeros(len(rows), np.bool_)
    for number in range(PARTS):  # by the bits below those of the part, as the rows may all be of one
        at = np.flatnonzero(recent & (tops >> (8 - 2 * PART_BITS) & (PARTS - 1) == number))
        facet = (rows["profile"][at] & FACET) != 0
        viewers, facets = at[~facet], at[facet][::-1]
        chosen[viewers[_latest(rows["key"][viewers])]] = True
        _, latest = np.unique(rows[["key", "profile"]][facets], return_index=True)
        chosen[facets[latest]] = True
    parts = tops >> (8 - PART_BITS)
    return [rows.compress(chosen & (parts == number)) for number in range(PARTS)]


def _latest(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return which rows are the last ones with their key."""
    chosen = np.zeros(len(keys), np.bool_)
    if len(keys):
        order = np.argsort(keys)  # need not be stable, which is several times faster
        chosen[np.maximum.reduceat(order, starts_of(keys[order]))] = True
    return chosen
