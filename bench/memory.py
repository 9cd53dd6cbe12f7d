"""The memory of the real process: with nothing to do, and at its largest while a long backlog is worked off."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench.backlog import Backlog, installation
from bench.data import LINES, Kind
from bench.measuring import Row

FILES, SHARDS = 960, 3
BARS = {"idle_bytes": 90_000_000, "peak_bytes": 150_000_000}
_IDLE_SECONDS = 20


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results, and what could not be measured."""
    if not Path("/proc/self/status").exists():
        return {"rows": []}, ["memory: this system does not tell a process's memory"]
    files, lines = (6, 300) if smoke else (FILES, LINES)
    few = Backlog(Kind.FEW, files, lines, SHARDS, copies=SHARDS)
    # Viewers that come again, and other ones in every half minute, the latter also with everything in one open tick;
    # and many.
    cases: list[tuple[str, Backlog, Mapping[str, str]]] = [
        ("few", few, {}),
        ("few, others every half minute", replace(few, crowds=few.half_minutes), {}),
        ("few, others every half minute, in one tick", replace(few, crowds=few.half_minutes), {"BACKFILL_WINDOW": "0"}),
        ("many", Backlog(Kind.MANY, files, lines, SHARDS), {}),
    ]
    rows = []
    for number, (name, backlog, settings) in enumerate(cases[-1:] if smoke else cases):
        keys = backlog.write(folder / f"files-{backlog.kind}-{backlog.crowds}")
        rows.append({"viewers": name} | measure(folder / f"run-{number}", keys, settings))
    idle_bytes = idle(folder / "idle", 1 if smoke else _IDLE_SECONDS)
    return {"files": files, "lines": lines, "shards": SHARDS, "bars": BARS, "idle_bytes": idle_bytes, "rows": rows}, []


def idle(folder: Path, seconds: float) -> int:
    """Measure the resident memory in bytes after so long with nothing to do."""
    with installation(folder) as there:
        there.exporter.start()
        there.exporter.wait_for("poll_finished", 30)
        time.sleep(seconds)
        found = resident(there.exporter.pid, "VmRSS")
        there.exporter.stop()
    return found


def measure(folder: Path, keys: Mapping[str, Path], settings: Mapping[str, str]) -> Row:
    """Measure the resident memory in bytes while a backlog is worked off, and the most there ever were."""
    samples: list[int] = []
    with installation(folder, **settings) as there:
        exporter = there.exporter
        seconds = there.work_off(keys, lambda: samples.append(resident(exporter.pid, "VmRSS")))
        peak = resident(exporter.pid, "VmHWM")
        own = exporter.own_metrics()
        exporter.stop()
    return {
        "peak_bytes": peak,
        "samples_bytes": samples,
        "series": own["cdn77_exporter_series"],
        "viewers_in_window": own["cdn77_exporter_viewers"],
        "backlog_seconds": seconds,
        "files_per_second": len(keys) / seconds,
    }


def resident(pid: int, name: str) -> int:
    """Return the bytes of memory that the kernel counts for a process under that name, of proc_pid_status(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{name} is not told for the process {pid}")
