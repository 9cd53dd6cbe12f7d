"""What the ledger of files costs a service that has run for days: `python -m bench.ledger`.

A state with two days of files at 20 a second is made; then some minutes of the service's calls to it are done, as fast
as they can be: files are listed, counted and committed, requests pushed, files deleted, old ones pruned, and all of
them counted for the metrics. The CPU time, the kernel's included, is given as a share of one core, and that of an empty
ledger beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from cdn77_exporter.core.changes import Changes, CountedFile, Request
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.state import Database
from cdn77_exporter.edge.state.schema import DONE

BEGAN_MS = 1_768_056_000_000
TICK_SECONDS, POLL_SECONDS, UPKEEP_SECONDS = 15, 15, 5
KEPT_SECONDS = 50 * 3600  # LOOKBACK_HOURS and two days
WAIT_SECONDS = 90  # of a file in the bucket, until it is deleted


def _file(second: int, number: int) -> LogFile:
    """The file number `number` that is uploaded in a second."""
    key = uuid.uuid5(uuid.NAMESPACE_OID, f"{second}+{number}")
    folder = time.strftime("%Y%m%d/%H", time.gmtime(BEGAN_MS / 1000 + second))
    name = f"logs/{folder}/rtl.{key}+{number}+{second}.ndjson.gz"
    return LogFile(
        name, hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 1_700_000, BEGAN_MS + second * 1000
    )


def _fill(database: Database, count: int, rate: int) -> None:
    """Give the ledger `count` files that are deleted, hour by hour in the order of their keys."""

    def rows(seconds: range) -> Iterator[tuple[str, str, int]]:
        files = sorted((_file(second, number) for second in seconds for number in range(rate)), key=lambda one: one.key)
        return ((file.key, file.etag, file.modified_ms) for file in files)

    connection = database._connection
    connection.execute("BEGIN")
    for begin in range(-count // rate, 0, 3600):
        connection.executemany(DONE.insert, rows(range(begin, min(begin + 3600, 0))))
    connection.execute("COMMIT")


def _changes(tick: int, files: list[LogFile]) -> Changes:
    counted = [CountedFile(file.key, file.etag, tick, file.size, file.modified_ms) for file in files]
    request = Request(tick, tick, 100, bytes(10_000))
    return Changes({"settled": tick}, [], [], [], [], [], b"", [], 0, [], counted, [request])


def _serve(database: Database, seconds: int, rate: int) -> float:
    """Do the calls of so many seconds; the CPU seconds that they took."""
    arrived: list[LogFile] = []
    there: list[LogFile] = []
    began = _cpu_seconds()
    for second in range(seconds):
        arrived += [_file(second, number) for number in range(rate)]
        if second % POLL_SECONDS == 0:
            database.known(there + arrived, again=True)
            database.uploaded_again(there + arrived)
        if second % TICK_SECONDS == 0:
            database.commit(_changes(second, arrived))
            there, arrived = there + arrived, []
            database.outbox()
            database.body(second)
            database.mark_done([second], second - WAIT_SECONDS)
            gone = database.deletable(second - WAIT_SECONDS, 1000)
            database.mark_deleted([(file.key, file.etag) for file in gone])
            there = there[len(gone) :]
        if second % UPKEEP_SECONDS == 0:
            database.counts()
            database.prune(BEGAN_MS + (second - KEPT_SECONDS) * 1000)
    return _cpu_seconds() - began


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3_400_000, help="files in the ledger")
    parser.add_argument("--rate", type=int, default=20, help="files a second")
    parser.add_argument("--seconds", type=int, default=600, help="how much of the service's time is done")
    parser.add_argument("--folder", type=Path, help="where the state is made; the default is a temporary folder")
    args = parser.parse_args()
    for count in (0, args.files):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            path = Path(folder) / "state.db"
            database = Database(str(path))
            _fill(database, count, args.rate)
            database.close()
            began, before = time.monotonic(), _cpu_seconds()
            database = Database(str(path))
            opened = f"opened in {time.monotonic() - began:.1f} s ({_cpu_seconds() - before:.1f} s CPU)"
            share = _serve(database, args.seconds, args.rate) / args.seconds
            database.close()
            size = os.path.getsize(path) / 1e6  # noqa: PTH202
            print(f"{count} files, {size:.0f} MB: {opened}; {100 * share:.2f} % of a core at {args.rate} files/s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
