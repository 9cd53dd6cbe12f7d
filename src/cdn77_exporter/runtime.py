"""Tunes the interpreter, the allocator and numpy: garbage collection, memory that is given back, threads."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# mallopt(3), <malloc.h> of the GNU C library
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_OWN_MAPPING_BYTES = 128 * 1024
_TRIM_BYTES = 128 * 1024
# How long a thread that decodes or counts may go on while the event loop waits for its turn. The default of 5 ms, with
# several turns for one answer, makes the loop late by ten times as much.
_SWITCH_SECONDS = 0.0003
# What counting allocates is freed by reference counts. The default of 700 makes the collector walk over millions of
# series and viewers again and again for nothing.
_COLLECT_AFTER = 20_000
# Where cores are short, decoding waits for the process that answers probes and receivers, not that for it.
_NICE = 5


def without_idle_threads() -> None:
    """Keep numpy, when it is imported after this, from starting threads for linear algebra, of which there is none.

    By default there is one for each further core, and each spins for some 60 ms before it sleeps.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def give_memory_back() -> bool:
    """Use one arena for all threads, and a mapping of its own for every large block, which goes when the block goes.

    By default the GNU C library gives each thread an arena and, after the first large block was freed, keeps such
    blocks in it: 15 MB more at the peak of a backlog. Return False where there is no such library (musl, macOS).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    wanted = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _OWN_MAPPING_BYTES), (_TRIM_THRESHOLD, _TRIM_BYTES))
    taken = [mallopt(option, value) == 1 for option, value in wanted]
    return all(taken)


def switch_often() -> None:
    """Let threads hand the interpreter over soon, so that the event loop need not wait for those that compute."""
    sys.setswitchinterval(_SWITCH_SECONDS)


def collect_rarely() -> None:
    """Keep the garbage collector from what is there now, and let it collect the rest rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)


@contextmanager
def without_collection() -> Iterator[None]:
    """Disable the cyclic garbage collector: a quarter of the time in which a large state is loaded, for example."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def become_worker() -> None:
    """Lower this process's priority below that of the service, and leave garbage collection to `gc.collect`."""
    with suppress(OSError, AttributeError):
        os.nice(_NICE)
    gc.freeze()
    gc.disable()
