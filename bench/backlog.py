"""A backlog in a bucket and the real process that works it off, for the parts on its event loop and its memory."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data import FILE_SECONDS
from tests.support.files import traffic_file

if TYPE_CHECKING:
    from tests.support.exporter_process import Exporter

#: Viewers of one half minute.
CROWD = 1500
_LONGEST_SECONDS = 1800
#: Short waits, so that nothing but the work takes time; the window for old samples holds the whole backlog.
_SETTINGS = {
    "TICK_SECONDS": "15",
    "POLL_INTERVAL": "5",
    "SHARD_IDLE_SECONDS": "5",
    "IDLE_LAG_SECONDS": "5",
    "LOOKBACK_HOURS": "6",
    "BACKFILL_WINDOW": "6h",
    "DOWNLOAD_CONCURRENCY": "8",
}


@dataclass(frozen=True, slots=True)
class Backlog:
    """Files of as many lines each: one of every shard for each half minute, the last of them just written.

    `crowds`: how many different sets of `CROWD` viewers there are; half minute after half minute has the next of them.
    """

    files: int
    lines: int
    shards: int
    crowds: int = 8

    @property
    def half_minutes(self) -> int:
        """How many there are."""
        return -(-self.files // self.shards)

    def write(self, folder: Path) -> dict[str, Path]:
        """Key below the bucket's prefix -> the file with its content, which the shards of a half minute share."""
        folder.mkdir(parents=True, exist_ok=True)
        half_minutes = self.half_minutes
        begin = datetime.now(UTC) - timedelta(seconds=FILE_SECONDS * (half_minutes + 2))
        times = [begin + timedelta(seconds=FILE_SECONDS * number) for number in range(half_minutes)]
        paths = [folder / f"{number}.ndjson.gz" for number in range(half_minutes)]
        seeds = [number % self.crowds for number in range(half_minutes)]
        with multiprocessing.get_context("spawn").Pool() as pool:
            pool.starmap(_write, zip(paths, (self.lines,) * half_minutes, seeds, times, strict=True))
        found = {}
        for number in range(self.files):
            half_minute, shard = divmod(number, self.shards)
            hour = f"{times[half_minute]:%Y%m%d/%H}"
            found[f"{hour}/rtl.bench+{shard}+{half_minute}.ndjson.gz"] = paths[half_minute]
        return found


def _write(path: Path, lines: int, seed: int, at: datetime) -> None:
    path.write_bytes(traffic_file(lines, seed=seed, start_ms=int(at.timestamp() * 1000)))


@contextmanager
def installation(
    folder: Path, workers: str, **settings: str
) -> Iterator[tuple[Exporter, Callable[[str, bytes], None]]]:
    """The exporter, not started, beside an S3 server and a Prometheus, and what puts a file below its prefix."""
    changed = {**_SETTINGS, **settings, "DECODE_WORKERS": workers}
    from tests.e2e.scene import PREFIX, Bucket, open_scene  # noqa: PLC0415
    from tests.support.moto_server import moto_server  # noqa: PLC0415
    from tests.support.prometheus import Prometheus  # noqa: PLC0415

    with ExitStack() as stack:
        bucket = Bucket(stack.enter_context(moto_server()), "bench")
        prometheus = stack.enter_context(Prometheus(folder / "prometheus"))
        scene = open_scene(folder / "scene", bucket, prometheus, locate=None, **changed)
        yield stack.enter_context(scene.exporter), lambda key, body: bucket.put(f"{PREFIX}/{key}", body)


def work_off(exporter: Exporter, files: int, look: Callable[[], None]) -> float:
    """Start the exporter and wait until it has counted so many files; seconds. `look` is called all the while."""
    began = time.monotonic()
    exporter.start()
    while len(exporter.messages("file_counted")) < files:
        exporter.require_alive()
        if time.monotonic() - began > _LONGEST_SECONDS:
            raise SystemExit(f"the backlog is not worked off after {_LONGEST_SECONDS} seconds")
        time.sleep(0.5)
        look()
    return time.monotonic() - began
