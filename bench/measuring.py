"""Measuring: child processes with what they used, rounds in which the contenders take turns, medians and spread."""

from __future__ import annotations

import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
_PACKAGES = ("isal", "msgspec", "numpy", "orjson", "uvloop", "duckdb", "polars", "chdb", "distributed")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Used:
    """The cost of a child process: seconds of CPU and of the clock, and its largest resident memory."""

    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    out: bytes


def child(command: Sequence[str], environ: Mapping[str, str] | None = None) -> Used:
    """Run a Python command to its end; what it used, its start-up included."""
    with tempfile.NamedTemporaryFile("r", prefix="bench-") as peak:
        own = {"BENCH_PEAK": peak.name, "PYTHONPATH": f"{ROOT / 'bench' / 'site'}:{ROOT / 'src'}"}
        began = time.perf_counter()
        with subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, env={**os.environ, **own, **(environ or {})}, cwd=ROOT
        ) as process:
            assert process.stdout is not None  # noqa: S101
            out = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(f"{' '.join(command[:6])} ended with {process.returncode}")
        return Used(usage.ru_utime + usage.ru_stime, wall, int(peak.read()) * 1024, out)


def python(*words: str) -> list[str]:
    """Return a command of this interpreter."""
    return [sys.executable, *words]


def wait_for_port(port: int) -> None:
    """Wait until somebody listens on this port of the loopback interface."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port}")


def in_turn(contenders: Mapping[str, Callable[[], Row]], rounds: int) -> dict[str, list[Row]]:
    """Run each contender once a round, in another order each time, so that what disturbs one disturbs all."""
    found: dict[str, list[Row]] = {name: [] for name in contenders}
    draw = random.Random(1)  # noqa: S311
    for _ in range(rounds):
        names = list(contenders)
        draw.shuffle(names)
        for name in names:
            found[name].append(contenders[name]())
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summary(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """`spread` of every number in the rows."""
    return {name: spread([row[name] for row in rows]) for name, value in rows[0].items() if isinstance(value, float)}


def ratios(rows: Sequence[Row], others: Sequence[Row], name: str) -> dict[str, float]:
    """Return how the numbers of one contender stand to another's, round by round."""
    return spread([row[name] / other[name] for row, other in zip(rows, others, strict=True)])


# Where and with what


def machine() -> dict[str, Any]:
    """Describe the machine and the versions."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def load() -> float:
    """Return how busy the machine is with other things, by its own account of the last minute."""
    return round(os.getloadavg()[0], 2)


@dataclass(frozen=True, slots=True)
class Result:
    """The findings of a part. `smoke`: on little data, so that it says nothing about speed."""

    part: str
    smoke: bool
    at: str
    load_before: float
    machine: dict[str, Any]
    left_out: list[str]
    found: Row

    def save(self, folder: Path) -> None:
        """Keep it as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.part}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


def load_result(part: str, folder: Path) -> Result | None:
    """Load what a part found last, if it was ever run."""
    path = folder / f"{part}.json"
    return Result(**json.loads(path.read_text())) if path.exists() else None
