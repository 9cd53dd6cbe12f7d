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

import numpy as np

from bench.measuring import Row

SECONDS = 600
INTERVALS = (15, 60)
#: 95th percentile, by POLL_INTERVAL.
BARS = {"15": 60.0, "60": 96.0}
_TICK = 15
_WARM_SECONDS = 120  # the first ticks wait for the start


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """The results, and what could not be measured."""
    if which("prometheus") is None:
        return {"ways": {}}, ["latency: the prometheus binary is not installed"]
    if smoke:
        row = follow(
            folder, {1: {"TICK_SECONDS": "1", "SHARD_IDLE_SECONDS": "4", "IDLE_LAG_SECONDS": "4"}}, 12, 2, 1, 0
        )
        return {"seconds": 12, "ways": row, "bars": {}}, []
    found = follow(folder, {interval: {} for interval in INTERVALS}, SECONDS, 30, _TICK, _WARM_SECONDS)
    return {"seconds": SECONDS, "ways": found, "bars": BARS}, []


def follow(
    folder: Path, daemons: dict[int, dict[str, str]], seconds: float, file_seconds: float, tick: int, warm: float
) -> Row:
    """Traffic for every daemon at once; the distribution of delays by POLL_INTERVAL."""
    from cdn77_exporter.demo.traffic import Plan, usual_streams  # noqa: PLC0415
    from tests.e2e.scene import Bucket, open_scene  # noqa: PLC0415
    from tests.support.moto_server import moto_server  # noqa: PLC0415
    from tests.support.prometheus import Prometheus  # noqa: PLC0415

    plan = Plan(lines_per_second=100, shards=3, file_seconds=file_seconds, streams=usual_streams(seconds))
    usual = {"TICK_SECONDS": str(tick), "SHARD_IDLE_SECONDS": "120", "IDLE_LAG_SECONDS": "180"}
    with ExitStack() as stack:
        endpoint = stack.enter_context(moto_server())
        watches, scenes = {}, {}
        for interval, changed in daemons.items():
            bucket = Bucket(endpoint, f"bench-{interval}")
            prometheus = stack.enter_context(Prometheus(folder / f"prometheus-{interval}"))
            settings = {**usual, "POLL_INTERVAL": str(interval), **changed}
            scene = scenes[interval] = open_scene(
                folder / f"scene-{interval}", bucket, prometheus, locate=None, **settings
            )
            stack.enter_context(scene.exporter)
            scene.exporter.start()
            watches[interval] = _Watch(prometheus.address)
        began = time.time()
        writers = {interval: stack.enter_context(scene.writing(plan)) for interval, scene in scenes.items()}
        for watch in watches.values():
            watch.start()
        time.sleep(seconds)
        while any(len(watch.seen) < 3 for watch in watches.values()) and time.time() < began + seconds + 60:
            time.sleep(1)
        for watch in watches.values():
            watch.stop()
        found: Row = {}
        for interval, watch in watches.items():
            events = writers[interval].traffic.events or []
            times = np.array([event["startTimeMs"] for event in events]) / 1000
            late = sum(int(line["late"]) for line in scenes[interval].exporter.events("file_counted"))
            found[str(interval)] = _delays(times, watch.seen, tick, began + warm) | {"late_events": late}
        return found


def _delays(times: np.ndarray, seen: dict[int, float], tick: int, since: float) -> Row:
    """Of the events in ticks that were seen: how much later than its time each could be queried."""
    delays = []
    for before, stamp in pairwise(sorted(seen)):
        inside = times[(times >= max(before, since)) & (times < stamp)]
        delays.append(seen[stamp] - inside)
    every = np.concatenate(delays) if delays else np.zeros(0)
    if not len(every):
        raise SystemExit("no tick was seen while it was watched")
    marks = {f"p{share}": float(np.percentile(every, share)) for share in (50, 90, 95, 99)}
    curve = [float(np.percentile(every, share)) for share in range(101)]
    return {**marks, "mean": float(every.mean()), "events": len(every), "ticks": len(seen), "curve": curve}


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
