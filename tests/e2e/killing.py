"""A campaign of kills: the daemon between two fault proxies, killed at chosen requests and at random instants."""

from __future__ import annotations

import asyncio
import gzip
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import unescape
from pathlib import Path
from typing import Any

import orjson

from cdn77_exporter.demo.traffic import Traffic, Upload
from tests.e2e.scene import PREFIX, Bucket, Scene, Writer, open_scene, usual_plan
from tests.support.fault_proxy import FaultProxy, Stalls, fault_proxy_beside
from tests.support.files import gzip_bytes
from tests.support.prometheus import Prometheus

_MARK = "kept-"


@dataclass(frozen=True, slots=True)
class Point:
    """A request during which the process is killed: of which server, and whether that has done its work by then."""

    name: str
    of_receiver: bool
    on: str
    after: bool


#: The steps of commit -> push -> mark -> delete, and those before them, each by the request that is under way then.
POINTS = (
    Point("the bucket is being listed", False, "?list-type=2", False),
    Point("a file is being fetched", False, f"/{PREFIX}/", False),
    Point("committed and not pushed", True, "POST", False),
    Point("pushed and not marked", True, "POST", True),
    Point("marked and not deleted", False, "?delete", False),
    Point("deleted and not noted", False, "?delete", True),
)

#: The same with the state in the bucket.
STATE_POINTS = (
    *POINTS[2:],
    Point("a commit is being written", False, "PUT", False),
    Point("a commit is written and nobody knows", False, "PUT", True),
)

PLAN = usual_plan(30, lines_per_second=60, viewers=40, file_seconds=1)


class MarkingWriter(Writer):
    """Puts an event of a POP of its own into every file, so that the receiver shows which files it has."""

    def __init__(self, bucket: Bucket, traffic: Traffic) -> None:
        super().__init__(bucket, traffic)
        self.marks: dict[str, str] = {}  # key -> POP

    def _put(self, upload: Upload) -> None:
        lines = gzip.decompress(upload.body).splitlines()
        marked = next((fields for fields in map(_fields, lines) if fields), None)
        if marked is not None:
            marked["locationID"] = self.marks[upload.key] = f"{_MARK}{len(self.marks)}"
            lines.append(orjson.dumps(marked))
            assert self.traffic.events is not None
            self.traffic.events.append(marked)
        super()._put(replace(upload, body=gzip_bytes(b"\n".join(lines) + b"\n", 1)))


def _fields(line: bytes) -> dict[str, object] | None:
    """The line as an event that counts, or None."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    path = fields.get("clientRequestPath") if isinstance(fields, dict) else None
    time = fields.get("timestamp", "") if isinstance(fields, dict) else ""
    sound = isinstance(path, str) and re.search("/[0-9a-f]{32}/", path) and time.endswith("Z") and "-13-" not in time
    return fields if sound else None


@dataclass
class Campaign:
    """A scene whose process is killed again and again."""

    scene: Scene
    writer: Writer
    s3: FaultProxy
    receiver: FaultProxy
    draw: random.Random
    kills: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)  # deletions of files that the receiver did not have

    async def look_at_deletion(self, line: str, body: bytes) -> None:
        """Note it when a file is deleted that is not acknowledged."""
        marks = self.writer.marks if isinstance(self.writer, MarkingWriter) else {}
        if marks and "?delete" in line and line.startswith("POST"):
            keys = [unescape(key) for key in re.findall("<Key>(.*?)</Key>", body.decode())]
            held = await asyncio.to_thread(self._held)
            self.early += [key for key in keys if key in marks and marks[key] not in held]

    def _held(self) -> set[str]:
        found = self.scene.prometheus.query(
            # No two questions are the same: VictoriaMetrics remembers for ten seconds which series answer one.
            f'max by (pop) (max_over_time(cdn77_requests_total{{pop=~"{_MARK}.*|{time.time_ns()}"}}[1h]))',
            at=time.time() + 60,
        )
        return {dict(key)["pop"] for key, value in found.items() if value}

    def _start(self) -> None:
        self.scene.bucket.end_uploads()  # how long a lease outlives its owner is another test's matter
        self.scene.exporter.start()

    def kill_at(self, point: Point) -> None:
        """Start the process, and kill it when the request of that point is under way."""
        exporter = self.scene.exporter
        proxy = self.receiver if point.of_receiver else self.s3
        fault = Stalls(on=point.on, after=point.after)
        self._start()
        proxy.inject(fault)
        exporter.wait_until(lambda: proxy.met(fault), 45, point.name)
        exporter.kill()
        self.kills.append(point.name)

    def kill_somewhere(self, most_seconds: float = 3.0) -> None:
        """Start the process, and kill it at an instant that nothing but chance decides."""
        self._start()
        time.sleep(self.draw.uniform(0.0, most_seconds))
        self.scene.exporter.require_alive()
        self.scene.exporter.kill()
        self.kills.append("somewhere")

    def run(self, kills: int, points: Sequence[Point] = POINTS) -> None:
        """So many kills: at the points in turn, every third one somewhere."""
        for number in range(kills):
            if number % 3 == 2:
                self.kill_somewhere()
            else:
                self.kill_at(points[(number - number // 3) % len(points)])

    def finish(self) -> None:
        """One more process, which is left alone: then every counter is the truth and the bucket is empty."""
        self.writer.finish()
        self._start()
        self.scene.settle()
        assert self.early == [], f"deleted without an acknowledgement, of kills {self.kills}"
        assert not self.scene.exporter.messages("request_refused")
        assert not self.scene.exporter.messages("service_crashed")
        # What was sent is sent again after a kill; the receiver may refuse what it has, which means that it has it.
        self.scene.check_numbers(self.scene.truth(self.writer.traffic))
        assert self.scene.exporter.stop() == 0


@contextmanager
def campaign(
    folder: Path,
    bucket: Bucket,
    prometheus: Prometheus,
    seed: int,
    *,
    writer_of: Callable[[Scene], Writer] = lambda scene: MarkingWriter(scene.bucket, scene.traffic(PLAN)),
    **environ: Any,
) -> Iterator[Campaign]:
    """A bucket that fills in real time, a receiver, proxies before both, and the process, which runs."""
    with fault_proxy_beside(bucket.endpoint) as s3, fault_proxy_beside(prometheus.address) as receiver:
        scene = open_scene(
            folder,
            bucket,
            prometheus,
            S3_ENDPOINT=s3.endpoint,
            PROMETHEUS_URL=f"{receiver.endpoint}/api/v1/write",
            **environ,
        )
        writer = writer_of(scene)
        found = Campaign(scene, writer, s3, receiver, random.Random(seed))
        s3.before = found.look_at_deletion
        with scene.exporter as exporter:
            # The first start fixes the floor; events before it would count at it, and increase() would not see them.
            exporter.start()
            exporter.wait_for("poll_finished")
            writer.start()
            try:
                yield found
            finally:
                writer.finish()
