"""The event loop of the real process while a backlog is worked off: how late it is, by the service's own metric."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING
from urllib.error import URLError

from bench.backlog import Backlog, installation, work_off
from bench.measuring import Row, spread

if TYPE_CHECKING:
    from tests.support.exporter_process import Exporter

BACKLOG, SMOKE = Backlog(files=160, lines=16_000, shards=2), Backlog(files=6, lines=300, shards=2)
ROUNDS = 5
BARS = {"p99_seconds": 0.020, "max_seconds": 0.100}
_LAG = "cdn77_exporter_event_loop_lag_{}_seconds"


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """The results, and what could not be measured."""
    if which("prometheus") is None:
        return {"rows": []}, ["loop: the prometheus binary is not installed"]
    backlog = SMOKE if smoke else BACKLOG
    rounds, ways = (1, ("0",)) if smoke else (ROUNDS, ("0", "1"))
    keys = backlog.write(folder / "files")
    rows = [measure(folder / f"{number}-{workers}", keys, workers) for number in range(rounds) for workers in ways]
    found: Row = {"files": backlog.files, "lines": backlog.lines, "bars": BARS, "rows": rows}
    for workers in ways:
        of = [row for row in rows if row["workers"] == workers]
        names = [name for name in of[0] if name != "workers"]
        found[f"workers_{workers}"] = {name: spread([row[name] for row in of]) for name in names}
    return found, []


def measure(folder: Path, keys: Mapping[str, Path], workers: str) -> Row:
    """One backlog, from the start of the process until all is counted; of the minutes' values the worst."""
    late = {"p99": 0.0, "max": 0.0}
    with installation(folder, workers) as (exporter, put):
        for key, path in keys.items():
            put(key, path.read_bytes())
        seconds = work_off(exporter, len(keys), lambda: _look(exporter, late))
        exporter.stop()
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
