"""The event loop of the real process while a backlog is worked off: how late it is, by the service's own metric."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which

from bench.measuring import Row, spread
from tests.support.files import traffic_file

FILES, LINES, ROUNDS = 60, 16_000, 3
BARS = {"p99_seconds": 0.020, "max_seconds": 0.100}
_LAG = "cdn77_exporter_event_loop_lag_{}_seconds"


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """The results, and what could not be measured."""
    if which("prometheus") is None:
        return {"rows": []}, ["loop: the prometheus binary is not installed"]
    files, lines, rounds = (6, 300, 1) if smoke else (FILES, LINES, ROUNDS)
    ways = ("0",) if smoke else ("0", "1")
    rows = [work_off(folder / str(number), files, lines, workers) for number in range(rounds) for workers in ways]
    found: Row = {"files": files, "lines": lines, "bars": BARS, "rows": rows}
    for workers in ways:
        of = [row for row in rows if row["workers"] == workers]
        names = [name for name in of[0] if name != "workers"]
        found[f"workers_{workers}"] = {name: spread([row[name] for row in of]) for name in names}
    return found, []


def work_off(folder: Path, files: int, lines: int, workers: str) -> Row:
    """One backlog, from the start of the process until the bucket is empty."""
    from tests.e2e.scene import PREFIX, Bucket, open_scene  # noqa: PLC0415
    from tests.support.moto_server import moto_server  # noqa: PLC0415
    from tests.support.prometheus import Prometheus  # noqa: PLC0415

    with ExitStack() as stack:
        bucket = Bucket(stack.enter_context(moto_server()), "bench")
        prometheus = stack.enter_context(Prometheus(folder / f"prometheus-{workers}"))
        usual = {"TICK_SECONDS": "15", "POLL_INTERVAL": "5", "SHARD_IDLE_SECONDS": "5", "IDLE_LAG_SECONDS": "5"}
        settings = {**usual, "DECODE_WORKERS": workers, "BACKFILL_WINDOW": "2h", "DOWNLOAD_CONCURRENCY": "8"}
        scene = open_scene(folder / f"scene-{workers}", bucket, prometheus, locate=None, **settings)
        begin = datetime.now(UTC) - timedelta(seconds=30 * (files // 2 + 2))
        bodies = [
            traffic_file(lines, seed=number, start_ms=int((begin + timedelta(seconds=30 * number)).timestamp() * 1000))
            for number in range(files // 2)
        ]
        for number in range(files):
            at = begin + timedelta(seconds=30 * (number // 2))
            bucket.put(f"{PREFIX}/{at:%Y%m%d/%H}/rtl.bench+{number % 2}+{number // 2}.ndjson.gz", bodies[number // 2])
        exporter = stack.enter_context(scene.exporter)
        began = time.monotonic()
        exporter.start()
        p99, most = 0.0, 0.0
        while len(exporter.events("file_counted")) < files:
            exporter.require_alive()
            if time.monotonic() - began > 600:
                raise SystemExit("the backlog is not worked off after ten minutes")
            time.sleep(0.5)
            p99, most = _lag(exporter, p99, most)
        seconds = time.monotonic() - began
        exporter.stop()
        return {
            "workers": workers,
            "p99_seconds": p99,
            "max_seconds": most,
            "backlog_seconds": seconds,
            "files_per_second": files / seconds,
        }


def _lag(exporter: object, p99: float, most: float) -> tuple[float, float]:
    from urllib.error import URLError  # noqa: PLC0415

    from tests.support.exporter_process import Exporter  # noqa: PLC0415

    assert isinstance(exporter, Exporter)  # noqa: S101
    try:
        own = exporter.own_metrics()
    except (URLError, TimeoutError):
        return p99, most  # not up yet
    return max(p99, own.get(_LAG.format("p99"), 0.0)), max(most, own.get(_LAG.format("max"), 0.0))
