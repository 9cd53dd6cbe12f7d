"""Numbers of files: those decoded together, and those in memory at once."""

from __future__ import annotations

#: Files that a worker process decodes and merges at a time: more make the answer smaller, and the memory larger.
FILES_A_CALL = 4
_IN_MEMORY, _IN_MEMORY_OF_CLUSTER, _MOST_IN_MEMORY = 8, 32, 256


def files_in_memory(workers: int, *, cluster: bool) -> int:
    """Return how many files keep the decoding threads, `workers` processes or a cluster busy."""
    if cluster:
        return _IN_MEMORY_OF_CLUSTER
    return min(_MOST_IN_MEMORY, FILES_A_CALL * (workers + 1)) if workers else _IN_MEMORY


def decoding_sizes(in_memory: int, workers: int, *, cluster: bool, threads: int = 1) -> tuple[int, int]:
    """Return how many files go into one call, and how many calls there may be at a time, one of them waiting.

    Without workers and cluster so many `threads` decode.
    """
    if cluster:
        batch_size = max(1, min(FILES_A_CALL, in_memory // 2))
        return batch_size, max(2, in_memory // batch_size)
    if not workers:
        return 1, threads + 1
    calls = workers + 1
    return max(1, min(FILES_A_CALL, in_memory // calls)), calls
