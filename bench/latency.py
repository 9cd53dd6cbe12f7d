"""From an event to the query that sees it: traffic in real time, the real daemon, a real S3 API, a real Prometheus."""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import numpy as np

from bench.measuring import Row

if TYPE_CHECKING:
    from cdn77_exporter.demo.traffic import Plan
    from cdn77_exporter.telemetry.messages import MessageName

SECONDS = 600
INTERVALS = (15, 60)
#: Seconds from the daemon's first poll to the beginning of its traffic. How long files wait for a poll depends on it.
PHASES = (0, 20, 40)
#: 95th percentile in the worst phase, by POLL_INTERVAL.
BARS = {"15": 60.0, "60": 96.0}
_TICK = 15
_WARM_SECONDS = 120  # the first ticks wait for the start


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results, and what could not be measured."""
    if which("prometheus") is None:
        return {"ways": {}}, ["latency: the prometheus binary is not installed"]
    if smoke:
        quick = {1: {"TICK_SECONDS": "1", "SHARD_IDLE_SECONDS": "4", "IDLE_LAG_SECONDS": "4"}}
        row = follow(folder, quick, (0, 1), seconds=12, file_seconds=2, tick=1, warm=0)
        return {"seconds": 12, "ways": row, "bars": {}}, []
    daemons: dict[int, dict[str, str]] = {interval: {} for interval in INTERVALS}
    found = follow(folder, daemons, PHASES, seconds=SECONDS, file_seconds=30, tick=_TICK, warm=_WARM_SECONDS)
    return {"seconds": SECONDS, "ways": found, "bars": BARS}, []


def follow(
    folder: Path,
    daemons: dict[int, dict[str, str]],
    phases: tuple[int, ...],
    *,
    seconds: float,
    file_seconds: float,
    tick: int,
    warm: float,
) -> Row:
    """Write traffic for every daemon, in every phase and all at once; the distribution of delays by POLL_INTERVAL."""
    from cdn77_exporter.demo.traffic import Plan, usual_streams  # noqa: PLC0415
    from tests.support.moto_server import moto_server  # noqa: PLC0415

    plan = Plan(lines_per_second=100, shards=3, file_seconds=file_seconds, streams=usual_streams(seconds))
    usual = {"TICK_SECONDS": str(tick), "SHARD_IDLE_SECONDS": "120", "IDLE_LAG_SECONDS": "180"}
    with ExitStack() as stack:
        endpoint = stack.enter_context(moto_server())
        runs = [
            _Run(stack, folder, endpoint, interval, phase, usual | {"POLL_INTERVAL": str(interval)} | changed)
            for interval, changed in daemons.items()
            for phase in phases
        ]
        started = time.time()
        for phase in phases:
            time.sleep(max(0.0, started + phase - time.time()))
            for run in runs:
                if run.phase == phase:
                    run.begin(stack, plan)
        end = time.time() + seconds
        while time.time() < end or (any(len(run.watch.seen) < 3 for run in runs) and time.time() < end + 60):
            time.sleep(1)
        for run in runs:
            run.watch.stop()
        return {
            str(interval): _together([run for run in runs if run.interval == interval], tick, warm)
            for interval in daemons
        }


class _Run:
    """One daemon with a bucket, a Prometheus and traffic of its own; it polls from the beginning of its life."""

    def __init__(
        self, stack: ExitStack, folder: Path, endpoint: str, interval: int, phase: int, settings: dict[str, str]
    ) -> None:
        from tests.e2e.scene import Bucket, open_scene  # noqa: PLC0415
        from tests.support.prometheus import Prometheus  # noqa: PLC0415

        self.interval, self.phase = interval, phase
        name = f"{interval}-{phase}"
        prometheus = stack.enter_context(Prometheus(folder / f"prometheus-{name}"))
        bucket = Bucket(endpoint, f"bench-{name}")
        self.scene = open_scene(folder / f"scene-{name}", bucket, prometheus, locate=None, **settings)
        stack.enter_context(self.scene.exporter)
        self.scene.exporter.start()
        self.watch = _Watch(prometheus.address)
        self.began = 0.0

    def begin(self, stack: ExitStack, plan: Plan) -> None:
        """Let traffic flow, and watch it arrive."""
        self.began = time.time()
        self._writer = stack.enter_context(self.scene.writing(plan))
        self.watch.start()

    def delays(self, tick: int, warm: float) -> np.ndarray:
        """Return, of the events in ticks that were seen, how much later than its time each could be queried."""
        times = np.array([event["startTimeMs"] for event in self._writer.traffic.events or []]) / 1000
        found = []
        for before, stamp in pairwise(sorted(self.watch.seen)):
            inside = times[(times >= max(before, self.began + warm)) & (times < stamp)]
            found.append(self.watch.seen[stamp] - inside)
        every = np.concatenate(found) if found else np.zeros(0)
        if not len(every):
            raise SystemExit("no tick was seen while it was watched")
        return every

    def count(self, message: MessageName, field: str = "") -> int:
        """Count a message of the daemon, or sum one of its fields."""
        return sum(int(line[field]) if field else 1 for line in self.scene.exporter.messages(message))


def _together(runs: list[_Run], tick: int, warm: float) -> Row:
    """Return the distribution over all phases, and the 95th percentile of each."""
    delays = {run.phase: run.delays(tick, warm) for run in runs}
    every = np.concatenate(list(delays.values()))
    return {
        **{f"p{share}": float(np.percentile(every, share)) for share in (50, 90, 95, 99)},
        "p95_by_phase": {str(phase): float(np.percentile(of, 95)) for phase, of in delays.items()},
        "mean": float(every.mean()),
        "events": len(every),
        "late_events": sum(run.count("file_counted", "late") for run in runs),
        "polls": sum(run.count("poll_finished") for run in runs),
        "early_polls": sum(run.count("poll_brought_forward") for run in runs),
        "curve": [float(np.percentile(every, share)) for share in range(101)],
    }


class _Watch:
    """Asks Prometheus twice a second which ticks it has, and notes when each was there first."""

    def __init__(self, address: str) -> None:
        query = urllib.parse.urlencode({"query": "max(timestamp(cdn77_requests_total))"})
        self._url = f"{address}/api/v1/query?{query}"
        self.seen: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            with urllib.request.urlopen(self._url, timeout=5) as answer:  # noqa: S310
                found = json.load(answer)["data"]["result"]
            if found:
                self.seen.setdefault(round(float(found[0]["value"][1])), time.time())
