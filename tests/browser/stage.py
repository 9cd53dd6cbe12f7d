"""What the page is looked at with: real servers, the real process, and traffic with every oddity that it shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cdn77_exporter.demo.traffic import Plan, usual_streams
from tests.e2e.scene import PREFIX, Bucket, Scene, open_scene
from tests.support.exporter_process import Exporter
from tests.support.files import event, log_file
from tests.support.geo_database import build_geoip, locate
from tests.support.prometheus import Prometheus

#: Of this shard the numbers 43 and 44 never come.
GAPPY = 7
#: A client's address that stands in a line that is rejected.
BAD_CLIENT = "203.0.113.77"
BROKEN = f"rtl.b0b0+{GAPPY + 1}+1.ndjson.gz"
_PLAN = Plan(
    seed=7,
    streams=usual_streams(600),
    lines_per_second=120,
    viewers=240,
    file_seconds=2,
    overlap_seconds=0.5,
    upload_seconds=0.5,
    bad_share=0.01,
)


@dataclass
class Stage:
    """An installation whose page can be looked at."""

    scene: Scene
    address: str

    @property
    def exporter(self) -> Exporter:
        """The process."""
        return self.scene.exporter


@contextmanager
def stage(folder: Path, endpoint: str) -> Iterator[Stage]:
    """Start everything, and go on writing traffic until the end."""
    build_geoip(folder / "city.mmdb")
    bucket = Bucket(endpoint, "page")
    with Prometheus(folder / "prometheus") as prometheus:
        scene = open_scene(
            folder, bucket, prometheus, locate=locate, GEOIP_DB_PATH=str(folder / "city.mmdb"), PUSH_RETRY_SECONDS="600"
        )
        with scene.exporter as exporter:
            exporter.start()
            exporter.wait_for("poll_finished")
            with scene.writing(_PLAN):
                put_oddities(bucket)
                yield Stage(scene, exporter.status_address + "/")
        scene.exporter.kill()


def put_oddities(bucket: Bucket) -> None:
    """A shard with a gap, with malformed values and with rejected lines, and a file that is no gzip file."""
    now = time.time()
    folder = f"{PREFIX}/{datetime.fromtimestamp(now, UTC):%Y%m%d/%H}"
    for sequence in (40, 41, 42, 45, 46):
        odd = {"clientIP": "2001:db8:1::7", "timeToFirstByteMs": -1}
        events = [event(int(now * 1000) - 3000 + 50 * number, **odd) for number in range(20)]
        events.append(event(int(now * 1000), clientIP=BAD_CLIENT, clientRequestPath=-1))
        bucket.put(f"{folder}/rtl.a0a0+{GAPPY}+{sequence}.ndjson.gz", log_file(events))
    bucket.put(f"{folder}/{BROKEN}", b"this is no gzip file")
