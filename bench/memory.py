"""The memory of the real process: with nothing to do, and at its largest while a long backlog is worked off."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from shutil import which

from bench.backlog import CROWD, Backlog, installation, work_off
from bench.measuring import Row

BACKLOG, SMOKE = Backlog(files=960, lines=16_000, shards=3), Backlog(files=6, lines=300, shards=3)
BARS = {"idle_bytes": 90_000_000, "peak_bytes": 150_000_000}
_IDLE_SECONDS = 20


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """The results, and what could not be measured."""
    if which("prometheus") is None:
        return {"rows": []}, ["memory: the prometheus binary is not installed"]
    if not Path("/proc/self/status").exists():
        return {"rows": []}, ["memory: this system does not tell a process's memory"]
    backlog = SMOKE if smoke else BACKLOG
    idle_bytes = idle(folder / "idle", 1 if smoke else _IDLE_SECONDS)
    rows: list[Row] = []
    # Viewers that come again, and other ones in every half minute; the latter also with everything in one open tick.
    for crowds, windows in ((backlog.crowds, (None,)), (backlog.half_minutes, (None, "0"))):
        files = replace(backlog, crowds=crowds).write(folder / f"files-{crowds}")
        for window in windows:
            settings = {} if window is None else {"BACKFILL_WINDOW": window}
            measured = measure(folder / f"run-{len(rows)}", files, settings)
            rows.append({"viewers_seen": crowds * CROWD, "every_tick": window is None, **measured})
    return {**asdict(backlog), "bars": BARS, "idle_bytes": idle_bytes, "rows": rows}, []


def idle(folder: Path, seconds: float) -> int:
    """Bytes of resident memory after so long with nothing to do."""
    with installation(folder, "0") as (exporter, _):
        exporter.start()
        exporter.wait_for("poll_finished", 30)
        time.sleep(seconds)
        found = resident(exporter.pid, "VmRSS")
        exporter.stop()
    return found


def measure(folder: Path, keys: Mapping[str, Path], settings: Mapping[str, str]) -> Row:
    """Bytes of resident memory while a backlog is worked off, and the most there ever were."""
    samples: list[int] = []
    with installation(folder, "0", **settings) as (exporter, put):
        for key, path in keys.items():
            put(key, path.read_bytes())
        seconds = work_off(exporter, len(keys), lambda: samples.append(resident(exporter.pid, "VmRSS")))
        peak = resident(exporter.pid, "VmHWM")
        own = exporter.own_metrics()
        exporter.stop()
    return {
        "peak_bytes": peak,
        "samples_bytes": samples,
        "series": own["cdn77_exporter_series"],
        "viewers": own["cdn77_exporter_viewers"],
        "backlog_seconds": seconds,
        "files_per_second": len(keys) / seconds,
    }


def resident(pid: int, name: str) -> int:
    """Bytes of memory that the kernel counts for a process under that name, of proc_pid_status(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{name} is not told for the process {pid}")
