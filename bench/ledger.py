"""Measures what a ledger of two days costs at 20 files a second: counting, looking up what is listed, and pruning.

A state with the files of two days is made; then some minutes of the service's calls to it are done, as fast as they can
be: files are listed, counted and committed, requests pushed, files deleted, old ones forgotten, and all of them counted
for the metrics.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.measuring import Row
from cdn77_exporter.core.changes import Changes, CountedFile, Request
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.state import Database
from cdn77_exporter.edge.state.schema import DONE
from cdn77_exporter.service.upkeep import UPKEEP_SECONDS
from tests.support.files import EXAMPLE_MS

T = TypeVar("T")
FILES_PER_SECOND, HOURS = 20, 48
#: CPU seconds of counting, looking up and forgetting for each second of service.
BAR = 0.01
_STEPS = ("counts", "known", "forget", "commit", "delete")
_SERVICE_SECONDS = 600  # that are played
_END = "\U0010ffff"
_POLL_SECONDS = _TICK_SECONDS = 15
_WAIT_SECONDS = 90  # of a file in the bucket, until it is deleted
_PAGE = 1000  # files of a listing's answer
_KEPT_SECONDS = 8 * 86_400
_SWEEP_SECONDS = 3600  # in which the whole ledger is compared with the bucket, some thousand rows at a time


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results, and what could not be measured."""
    folder.mkdir(parents=True, exist_ok=True)
    hours, seconds = (0.05, 60) if smoke else (HOURS, _SERVICE_SECONDS)
    path = folder / "state.db"
    files = fill(path, int(hours * 3600))
    began = time.process_time()
    played = _Played(Database(str(path)))
    opened = time.process_time() - began
    for second in range(seconds):
        played.second(second)
    share = {name: spent / (_SWEEP_SECONDS if name == "forget" else seconds) for name, spent in played.costs.items()}
    found: Row = {
        "hours": hours,
        "files_per_second": FILES_PER_SECOND,
        "files": files,
        "file_bytes": path.stat().st_size,
        "open_cpu_seconds": opened,
        "share": share,
        "upkeep": share["counts"] + share["known"] + share["forget"],
        "bar": BAR,
    }
    return found, []


def _file(second: int, number: int) -> LogFile:
    """Return the file number `number` that is uploaded in a second."""
    writer = uuid.uuid5(uuid.NAMESPACE_OID, f"{second}+{number}")
    folder = time.strftime("%Y%m%d/%H", time.gmtime(EXAMPLE_MS / 1000 + second))
    name = f"logs/{folder}/rtl.{writer}+{number}+{second}.ndjson.gz"
    etag = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    return LogFile(name, etag, 1_700_000, EXAMPLE_MS + second * 1000)


def fill(path: Path, seconds: int) -> int:
    """Make a state whose ledger has the files of so long, all deleted; how many."""

    def rows(hour: range) -> Iterator[tuple[str, str, int, int, int]]:
        files = sorted(
            (_file(second, number) for second in hour for number in range(FILES_PER_SECOND)), key=lambda one: one.key
        )
        return ((file.key, file.etag, file.modified_ms, 19_000_000, 1) for file in files)

    database = Database(str(path))
    connection = database._connection
    connection.execute("BEGIN")
    for begin in range(-seconds, 0, 3600):
        connection.executemany(DONE.insert, rows(range(begin, min(begin + 3600, 0))))
    connection.execute("COMMIT")
    database.close()
    return seconds * FILES_PER_SECOND


def only_files(files: list[CountedFile], *requests: Request) -> Changes:
    """Return the changes of a step in which files were counted, with nothing in them."""
    return Changes({}, [], [], b"", b"", [], b"", [], 0, [], files, list(requests))


class _Played:
    """A service of which only the calls to its state are there; `costs` are CPU seconds by step."""

    def __init__(self, database: Database) -> None:
        self.costs: dict[str, float] = dict.fromkeys(_STEPS, 0.0)
        self._database = database
        self._there: list[LogFile] = []
        self._arrived: list[LogFile] = []

    def _timed(self, step: str, call: Callable[[], T]) -> T:
        began = time.process_time()
        found = call()
        self.costs[step] += time.process_time() - began
        return found

    def second(self, second: int) -> None:
        """Let a second pass: files arrive, and what is due is done."""
        self._arrived += [_file(second, number) for number in range(FILES_PER_SECOND)]
        if second % _POLL_SECONDS == 0:
            listed = self._there + self._arrived
            for begin in range(0, len(listed), _PAGE):
                page = listed[begin : begin + _PAGE]
                self._timed("known", partial(self._database.sort_out, page, again=True))
        if second % _TICK_SECONDS == 0:
            self._count(second)
            self._delete(second)
        if second % int(UPKEEP_SECONDS) == 0:
            self._timed("counts", self._database.counts)
        if second % _SWEEP_SECONDS == 0:
            self._sweep(second)

    def _sweep(self, second: int) -> None:
        """Compare the ledger with a listing of the whole prefix."""
        at, keys, old_ms = "", {file.key for file in self._there}, EXAMPLE_MS + (second - _KEPT_SECONDS) * 1000
        while at < _END:
            at = self._timed("forget", partial(self._database.forget_absent, at, _END, keys, old_ms, old_ms))

    def _count(self, second: int) -> None:
        """Commit what has arrived with a request, and push that."""
        counted = [
            CountedFile(file.key, file.etag, second, file.size, file.modified_ms, 19_000_000, 1)
            for file in self._arrived
        ]
        changes = only_files(counted, Request(second, second, 100, bytes(10_000)))
        self._timed("commit", partial(self._database.commit, changes))
        self._timed("commit", partial(self._database.mark_done, [second], second - _WAIT_SECONDS))
        self._there, self._arrived = self._there + self._arrived, []

    def _delete(self, second: int) -> None:
        gone = self._timed("delete", partial(self._database.deletable, second - _WAIT_SECONDS, _PAGE))
        self._timed("delete", partial(self._database.mark_deleted, [(file.key, file.etag) for file in gone]))
        self._there = self._there[len(gone) :]
