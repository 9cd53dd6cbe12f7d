"""The whole service, from the listing to the deletion: its CPU a file against that of only reading the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from bench.backlog import Backlog, installation, worker_environ
from bench.data import LINES, Kind, kinds
from bench.measuring import Row, child, python, spread, summary

FILES, SHARDS, ROUNDS = 300, 6, 3
#: The service's CPU a file over that of gzip and json for the same file.
BARS: dict[Kind, float] = {Kind.FEW: 0.35, Kind.MANY: 0.45}
CROWDS = 5  # of each writer: viewers stay for some minutes
_READ = 20  # files that are read for the comparison, so that a start-up of Python does not count


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results, and what could not be measured."""
    files, lines, rounds = (12, 300, 1) if smoke else (FILES, LINES, ROUNDS)
    found = {}
    for kind in kinds(smoke):
        keys = Backlog(kind, files, lines, SHARDS, CROWDS).write(folder / f"files-{kind}")
        rows = [compare(folder / f"{kind}-{number}", keys) for number in range(rounds)]
        found[kind] = summary(rows) | {"bar": BARS[kind]}
    return {"files": files, "lines": lines, "shards": SHARDS, "rounds": rounds, "kinds": found}, []


def compare(folder: Path, keys: Mapping[str, Path]) -> Row:
    """Work the files off once, and read some of them before and after."""
    some = list(dict.fromkeys(keys.values()))[:_READ]
    before = reading(some)
    row = work_off(folder, keys)
    read = spread([before, reading(some)])["median"]
    return row | {"read_cpu_ms": read, "ratio": row["cpu_ms"] / read}


def reading(paths: Sequence[Path]) -> float:
    """Measure the CPU milliseconds a file of a process that reads files by gzip and json, and counts nothing."""
    return child(python("-m", "bench.engines", "read", *map(str, paths))).cpu_seconds / len(paths) * 1000


def work_off(folder: Path, keys: Mapping[str, Path], workers: int = 0) -> Row:
    """Measure the CPU milliseconds a file of the exporter's process, its start included, until every file is deleted.

    With `workers` a cluster of so many fetches and decodes.
    """
    with installation(folder) as there, ExitStack() as stack:
        settings = {}
        if workers:
            from tests.support.cluster import local_cluster  # noqa: PLC0415 - it imports what is only in the extra

            cluster = stack.enter_context(local_cluster(folder, workers, environ=worker_environ(there.bucket)))
            cluster.wait_for_scheduler()
            settings["DASK_SCHEDULER"] = cluster.address
        seconds = there.work_off(keys, lambda: None, **settings)
        there.wait_until_deleted()
        cpu_ms = cpu_seconds(there.exporter.pid) / len(keys) * 1000
        there.exporter.stop()
    return {"cpu_ms": cpu_ms, "files_per_second": len(keys) / seconds}


def cpu_seconds(pid: int) -> float:
    """Return what a process has used so far, with all its threads."""
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)
