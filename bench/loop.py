"""The event loop of the real process while a backlog is worked off: how late it is, by the service's own metric."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

from bench.backlog import Backlog, installation
from bench.data import LINES, kinds
from bench.measuring import Row, summary

if TYPE_CHECKING:
    from tests.support.exporter_process import Exporter

FILES, ROUNDS = 160, 5
BARS = {"p99_seconds": 0.020, "max_seconds": 0.100}
_LAG = "cdn77_exporter_event_loop_lag_{}_seconds"


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results, and what could not be measured."""
    files, lines, rounds = (6, 300, 1) if smoke else (FILES, LINES, ROUNDS)
    ways = ("0",) if smoke else ("0", "1")
    found = {}
    for kind in kinds(smoke):
        keys = Backlog(kind, files, lines, shards=2, copies=2).write(folder / f"files-{kind}")
        rows = [
            measure(folder / f"{kind}-{number}-{workers}", keys, workers)
            for number in range(rounds)
            for workers in ways
        ]
        of_ways = {workers: [row for row in rows if row["workers"] == workers] for workers in ways}
        found[kind] = {"rows": rows, "ways": {workers: summary(of) for workers, of in of_ways.items()}}
    return {"files": files, "lines": lines, "bars": BARS, "kinds": found}, []


def measure(folder: Path, keys: Mapping[str, Path], workers: str) -> Row:
    """Work off one backlog, from the start of the process until all is counted; of the minutes' values the worst."""
    late = {"p99": 0.0, "max": 0.0}
    with installation(folder, DECODE_WORKERS=workers) as there:
        seconds = there.work_off(keys, lambda: _look(there.exporter, late))
        there.exporter.stop()
    if not all(late.values()):
        raise SystemExit("the service has not measured its event loop")
    return {
        "workers": workers,
        "p99_seconds": late["p99"],
        "max_seconds": late["max"],
        "backlog_seconds": seconds,
        "files_per_second": len(keys) / seconds,
    }


def _look(exporter: Exporter, late: dict[str, float]) -> None:
    try:
        own = exporter.own_metrics()
    except (URLError, TimeoutError):
        return  # not up yet
    for name, seconds in late.items():
        late[name] = max(seconds, own.get(_LAG.format(name), 0.0))  # before the pipeline runs there is none
