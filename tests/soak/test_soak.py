"""Hours of traffic in minutes, with kills and faults all the time: exact in the end, and nothing grows.

`SOAK_SECONDS` is how much traffic there is; it comes at twenty times the speed of life.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from cdn77_exporter.demo.traffic import Plan, Traffic, usual_streams
from tests.e2e.killing import Campaign, campaign
from tests.e2e.scene import PREFIX, Bucket, Scene, Writer
from tests.support.fault_proxy import Answers, Corrupts, Fault, Resets, Truncates
from tests.support.prometheus import Prometheus

_SPEED = 20
_SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
_WALL_SECONDS = _SECONDS / _SPEED
_OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "8"))

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.slow,
    pytest.mark.timeout(int(_WALL_SECONDS + 2 * _OUTAGE_SECONDS + 300)),
]

#: What may grow between the third quarter and the last: what the allocator does, and a connection more or less.
_MEMORY_BYTES, _DESCRIPTORS, _THREADS, _TASKS = 16 * 1024**2, 4, 2, 8

_FILE, _LIST, _DELETE = f"/{PREFIX}/", "?list-type=2", "?delete"
BUCKET_FAULTS: tuple[Callable[[], Fault], ...] = (
    lambda: Truncates(on=_FILE),
    lambda: Corrupts(on=_FILE),
    lambda: Resets(on=_FILE),
    lambda: Answers(on=_FILE, status=500, code="InternalError"),
    lambda: Answers(on=_FILE, status=503, code="SlowDown", retry_after="1"),
    lambda: Answers(on=_LIST, status=503, code="SlowDown"),
    lambda: Answers(on=_LIST, status=403, code="ExpiredToken"),
    lambda: Resets(on=_DELETE),
    lambda: Resets(on=_DELETE, after=True),
)
RECEIVER_FAULTS: tuple[Callable[[], Fault], ...] = (
    lambda: Answers(status=500),
    lambda: Answers(status=503, retry_after="1"),
    lambda: Answers(status=429),
    Resets,
    lambda: Resets(after=True),
)


class FastWriter(Writer):
    """Traffic that began in the past and catches up with the present at twenty times its speed."""

    def __init__(self, bucket: Bucket, traffic: Traffic) -> None:
        super().__init__(bucket, traffic)
        self._began = time.monotonic()

    def now_ms(self) -> int:
        """The time that the traffic has reached."""
        reached = self.traffic.begin_ms + int((time.monotonic() - self._began) * 1000 * _SPEED)
        return min(reached, int(time.time() * 1000))  # no further than the present

    def start(self) -> None:
        """Begin to write."""
        self._began = time.monotonic()
        super().start()


@dataclass
class Sizes:
    """What the process takes up, measured now and then."""

    rss: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    tasks: list[float] = field(default_factory=list)

    def measure(self, scene: Scene) -> None:
        """Once more."""
        process = psutil.Process(scene.exporter.pid)
        self.rss.append(process.memory_info().rss)
        self.descriptors.append(process.num_fds())
        self.threads.append(process.num_threads())
        self.tasks.append(scene.exporter.own_metrics()["cdn77_exporter_event_loop_tasks"])

    def check_flat(self, earlier: Sizes) -> None:
        """They are no larger than before."""
        for name, most in (
            ("rss", _MEMORY_BYTES), ("descriptors", _DESCRIPTORS), ("threads", _THREADS), ("tasks", _TASKS)
        ):  # fmt: skip
            before, now = max(getattr(earlier, name)), max(getattr(self, name))
            assert now - before <= most, f"{name}: {before}, then {now}"


def fast_traffic(scene: Scene) -> Writer:
    """Traffic that is at the present in the end."""
    plan = Plan(lines_per_second=12, viewers=60, stay_seconds=60, streams=usual_streams(_SECONDS))
    return FastWriter(scene.bucket, scene.traffic(plan, start_ms=int((time.time() - _SECONDS) * 1000)))


def disturb(found: Campaign, draw: random.Random) -> None:
    """A fault for each side, unless one still waits."""
    for proxy, faults in ((found.s3, BUCKET_FAULTS), (found.receiver, RECEIVER_FAULTS)):
        if not proxy.faults:
            proxy.inject(draw.choice(faults)())


def test_hours_of_kills_and_faults(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """One half with kills and faults, one half with faults alone: the truth at the end, and no growth in that half."""
    hours = int(_SECONDS / 3600) + 2
    environ = {"BACKFILL_WINDOW": f"{hours}h", "LOOKBACK_HOURS": str(hours), "TICK_SECONDS": "15"}
    # No viewer leaves a window in the short run: whether one comes back would depend on events that faults make late.
    draw = random.Random(int(_SECONDS))
    with campaign(tmp_path, bucket, prometheus, seed=11, writer_of=fast_traffic, **environ) as found:
        began = time.monotonic()
        found.scene.exporter.kill()
        while time.monotonic() - began < _WALL_SECONDS / 2:
            disturb(found, draw)
            found.kill_somewhere(4.0)
        found.scene.exporter.start()
        found.scene.exporter.wait_for("batch_pushed", seconds=60, since=len(found.scene.exporter.lines))
        quarters = (Sizes(), Sizes())
        began = time.monotonic()  # whatever the start took, both quarters are measured
        while (spent := (time.monotonic() - began) / (_WALL_SECONDS / 2)) < 1:
            disturb(found, draw)
            quarters[spent >= 0.5].measure(found.scene)
            time.sleep(1)
        found.s3.faults.clear()
        found.receiver.faults.clear()
        found.writer.finish()
        found.scene.settle(120)
        quarters[1].check_flat(quarters[0])
        assert not found.scene.exporter.messages("service_crashed")
        assert len(found.kills) >= _WALL_SECONDS / 16
        found.scene.check_numbers(found.scene.truth(found.writer.traffic))
        assert found.scene.exporter.stop() == 0


def test_a_receiver_that_is_away_for_long(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """The receiver is gone for minutes while traffic goes on, and the process is restarted: afterwards all is exact."""
    with campaign(tmp_path, bucket, prometheus, seed=12) as found:
        exporter = found.scene.exporter
        exporter.wait_for("files_deleted")
        found.receiver.down = True
        deleted = found.s3.count(_DELETE)
        time.sleep(_OUTAGE_SECONDS / 2)
        assert exporter.messages("push_retried")
        assert exporter.stop() == 0
        exporter.start()
        time.sleep(_OUTAGE_SECONDS / 2)
        assert found.s3.count(_DELETE) <= deleted + 1  # one may have been under way
        found.receiver.down = False
        found.writer.finish()
        found.scene.settle(180)
        assert found.early == []
        found.scene.check_numbers(found.scene.truth(found.writer.traffic))
        assert exporter.stop() == 0
