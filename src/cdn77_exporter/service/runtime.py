"""How memory is kept: what files took is given back, and what has no cycles is not searched for any."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt(3), <malloc.h> of the GNU C library
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_OWN_MAPPING_BYTES = 128 * 1024
_TRIM_BYTES = 128 * 1024


def give_memory_back() -> bool:
    """One arena for all threads, and a mapping of its own for every large block, which goes when the block goes.

    Of its own accord the GNU C library gives each thread an arena and, after the first large block was freed, keeps
    such blocks in it: 15 MB more at the peak of a backlog. False where there is no such library (musl, macOS).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    wanted = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _OWN_MAPPING_BYTES), (_TRIM_THRESHOLD, _TRIM_BYTES))
    taken = [mallopt(option, value) == 1 for option, value in wanted]
    return all(taken)


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """Python does not look for cycles of garbage meanwhile: a quarter of the time that a large state takes to load."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
