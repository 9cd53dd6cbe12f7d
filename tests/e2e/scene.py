"""One whole installation for a test: a bucket, a Prometheus, the daemon, and a writer of traffic."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from cdn77_exporter.demo.traffic import Locate, Plan, Traffic, Upload, usual_streams
from tests.support.exporter_process import Exporter, wait_until
from tests.support.prometheus import Prometheus
from tests.support.truth import COUNTERS, PLAYERS, TTFB, WINDOW_GAUGES, Labels, Truth, Values

PREFIX = "real-time-logs/all-logs"
ACCESS_KEY, SECRET_KEY = "e2e-access", "e2e-secret-that-must-not-be-printed"

#: The service with all its waits shortened.
QUICK = {
    "TICK_SECONDS": "1",
    "POLL_INTERVAL": "1",
    "SHARD_IDLE_SECONDS": "4",
    "IDLE_LAG_SECONDS": "4",
    "LOOKBACK_HOURS": "2",
}


def usual_plan(seconds: int, **changes: Any) -> Plan:
    """Three shards with overlapping files, streams that end and begin within so many seconds, and bad lines."""
    usual: dict[str, Any] = {
        "lines_per_second": 120,
        "viewers": 80,
        "stay_seconds": 8,
        "shards": 3,
        "file_seconds": 2,
        "overlap_seconds": 0.6,
        "upload_seconds": 0.2,
        "bad_share": 0.02,
        "streams": usual_streams(seconds),
    }
    return Plan(**{**usual, **changes})


class Bucket:
    """A bucket of an S3 server, by a client that is not the program's."""

    def __init__(self, endpoint: str, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        self._client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        self._client.create_bucket(Bucket=name)

    @property
    def settings(self) -> dict[str, str]:
        """The variables that name it, and the exporter's keys."""
        return {
            "S3_ENDPOINT": self.endpoint,
            "S3_BUCKET": self.name,
            "S3_PREFIX": PREFIX,
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
        }

    def put(self, key: str, body: bytes) -> None:
        """Put an object."""
        self._client.put_object(Bucket=self.name, Key=key, Body=body)

    def keys(self, prefix: str = "") -> list[str]:
        """All keys but those of the exporter's own notes, or all under a prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
        return [key for key in keys if prefix or not key.startswith(".cdn77-exporter/")]

    def end_uploads(self) -> None:
        """End all uploads that are begun, and with them the lease of a process that was killed."""
        for found in self._client.list_multipart_uploads(Bucket=self.name).get("Uploads", ()):
            self._client.abort_multipart_upload(Bucket=self.name, Key=found["Key"], UploadId=found["UploadId"])

    def take_lease(self) -> None:
        """End the lease that is held and begin another, as a process does that takes over."""
        (held,) = self._client.list_multipart_uploads(Bucket=self.name)["Uploads"]
        self.end_uploads()
        folder = held["Key"].rpartition("/")[0]
        self._client.create_multipart_upload(Bucket=self.name, Key=f"{folder}/another")


class Writer:
    """Writes traffic into a bucket in real time, in a thread of its own."""

    def __init__(self, bucket: Bucket, traffic: Traffic) -> None:
        self._bucket = bucket
        self.traffic = traffic
        self.uploads: list[Upload] = []
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def now_ms(self) -> int:
        """The time that the traffic has reached."""
        return int(time.time() * 1000)

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.2):
                for upload in self.traffic.until(self.now_ms()):
                    self._put(upload)
            for upload in self.traffic.finish():
                self._put(upload)
        except BaseException as error:
            self._failure = error
            raise

    def _put(self, upload: Upload) -> None:
        self._bucket.put(upload.key, upload.body)
        self.uploads.append(upload)

    def until(self, seconds: float) -> None:
        """Let it go on until its traffic is that old."""
        end_ms = self.traffic.begin_ms + seconds * 1000
        wait_until(lambda: self.traffic.generated_ms >= end_ms, seconds + 10, f"{seconds:g} s of traffic", self._check)

    def finish(self) -> None:
        """Stop, having written everything."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise AssertionError("the writer of traffic failed") from self._failure


@dataclass
class Scene:
    """What a test works with."""

    bucket: Bucket
    prometheus: Prometheus
    exporter: Exporter
    window_seconds: int = 7200
    locate: Locate | None = None
    refused: dict[str, float] = field(default_factory=dict)

    def traffic(self, plan: Plan, start_ms: int | None = None) -> Traffic:
        """Traffic from now on, or from another time."""
        start = int(time.time() * 1000) if start_ms is None else start_ms
        return Traffic(plan, start_ms=start, prefix=PREFIX, locate=self.locate, keep_events=True)

    @contextmanager
    def writing(self, plan: Plan) -> Iterator[Writer]:
        """Real-time traffic for the length of the context; at its end everything is written."""
        writer = Writer(self.bucket, self.traffic(plan))
        writer.start()
        try:
            yield writer
        finally:
            writer.finish()

    def truth(self, traffic: Traffic) -> Truth:
        """The oracle's view of the events that were written."""
        assert traffic.events is not None
        return Truth(traffic.events, window_seconds=self.window_seconds, locate=self.locate)

    def settle(self, seconds: float = 90) -> None:
        """Wait until every file was counted, acknowledged and deleted."""
        self.exporter.wait_until(lambda: not self.bucket.keys(PREFIX), seconds, "a bucket without log files")

    # Comparisons

    def check_counters(self, truth: Truth) -> None:
        """Every counter has exactly the true series, each of which has counted the truth."""
        expected = truth.counters()
        for name in COUNTERS:
            differences(name, self.prometheus.counted(name), expected[name])

    def check_increase(self, truth: Truth) -> None:
        """`increase()` over the whole span is within 2 % of the truth, for every counter summed over its series."""
        expected = truth.counters()
        for name in COUNTERS:
            whole = sum(expected[name].values())
            if not whole:
                continue
            stamps = [stamp for values in self.prometheus.samples(name).values() for stamp, _ in values]
            span = max(stamps) - min(stamps) + self.prometheus.is_left_open  # then it has the first sample, too
            found = self.prometheus.query(f"sum(increase({name}[{span}ms]))", at=max(stamps) / 1000)
            assert abs(found[()] - whole) <= 0.02 * whole, (name, found[()], whole)

    def check_last_windows(self, truth: Truth) -> None:
        """On the last tick of which everything is stored the window gauges have exactly the true series and values."""
        stored_ms = self.last_stored_ms()
        for name in WINDOW_GAUGES:
            by_tick = _by_tick(self.prometheus.samples(name))
            tick_ms = max(tick_ms for tick_ms in by_tick if tick_ms <= stored_ms)
            differences(f"{name} at {tick_ms}", by_tick[tick_ms], truth.active(tick_ms)[name])

    def last_stored_ms(self) -> int:
        """The last tick of which every request is acknowledged (Unix ms): a tick takes several, one after the other."""
        return 1000 * max(int(line["last_tick"]) for line in self.exporter.messages("batch_pushed")) + 999

    def check_every_tick(self, truth: Truth, tick_seconds: int, *, step: int = 1) -> None:
        """On every tick that is written, counters and gauges are what was true at that instant."""
        names = (*COUNTERS, *WINDOW_GAUGES, *PLAYERS, TTFB)
        stored_ms = self.last_stored_ms()
        stored = {name: _by_tick(self.prometheus.samples(name)) for name in names}
        ticks = sorted({tick_ms for by_tick in stored.values() for tick_ms in by_tick if tick_ms <= stored_ms})
        assert len(ticks) > 10
        assert all(later - earlier == tick_seconds * 1000 for earlier, later in pairwise(ticks))
        for tick_ms in ticks[::step]:
            active = truth.active(tick_ms)
            for name in WINDOW_GAUGES:
                # On the tick on which a window becomes empty its gauge says so, once.
                found = {key: value for key, value in stored[name].get(tick_ms, {}).items() if value}
                differences(f"{name} at {tick_ms}", found, active[name])
            waits = truth.time_to_first_byte(tick_ms, tick_seconds)
            differences(f"{TTFB} at {tick_ms}", stored[TTFB].get(tick_ms, {}), waits, tolerance=1e-9)
            counters = truth.counters(before_ms=tick_ms) | truth.players(tick_ms)
            for name in (*COUNTERS, *PLAYERS):
                for key, value in stored[name].get(tick_ms, {}).items():
                    assert value == counters[name].get(key, 0), (name, tick_ms, key)

    def check_nothing_refused(self) -> None:
        """Prometheus took every sample of every request."""
        refused = self.refused | self.prometheus.refused()
        assert not refused, refused

    def check_numbers(self, truth: Truth) -> None:
        """Counters, what a query makes of them, and the last windows are true."""
        self.check_counters(truth)
        self.check_increase(truth)
        self.check_last_windows(truth)

    def check_complete(self, truth: Truth) -> None:
        """Everything that holds at the end of any run without loss of state."""
        self.check_numbers(truth)
        self.check_nothing_refused()
        assert self.bucket.keys(PREFIX) == []


def _by_tick(samples: Mapping[Labels, list[tuple[int, float]]]) -> dict[int, Values]:
    found: dict[int, Values] = {}
    for key, values in samples.items():
        for stamp, value in values:
            found.setdefault(stamp, {})[key] = value
    return found


def differences(name: str, found: Values, expected: Values, tolerance: float = 0.0) -> None:
    """Fail with the first few series that differ."""
    wrong = [
        f"{dict(key)}: {found.get(key)} is stored, {expected.get(key)} is true"
        for key in sorted(found.keys() | expected.keys())
        if key not in found
        or key not in expected
        or abs(found[key] - expected[key]) > tolerance * max(1.0, abs(expected[key]))
    ]
    assert not wrong, "\n".join([f"{name}: {len(wrong)} of {len(expected)} series differ", *wrong[:8]])


def open_scene(
    folder: Path, bucket: Bucket, prometheus: Prometheus, *, locate: Locate | None = None, **environ: Any
) -> Scene:
    """The daemon is set up with short waits and `environ` on top, but not started."""
    settings = {
        **bucket.settings,
        "PROMETHEUS_URL": prometheus.write_url,
        **QUICK,
        **environ,
    }
    window = int(settings.get("SESSION_WINDOW_SECONDS", 7200))
    return Scene(bucket, prometheus, Exporter(folder / "exporter", settings), window, locate)
