"""A backlog in a bucket and the real process that works it off, for the parts that measure the whole service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data import FILE_SECONDS, File, Kind, write_all
from bench.null_receiver import null_receiver

if TYPE_CHECKING:
    from tests.e2e.scene import Bucket
    from tests.support.exporter_process import Exporter

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
_BUCKET = "bench"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Files of as many lines each: one of every shard for each half minute, the last of them just written.

    `crowds`: how many different sets of viewers each shard has; half minute after half minute has the next of them.
    `copies`: how many shards have the same content, which saves the time to make it.
    """

    kind: Kind
    files: int
    lines: int
    shards: int
    crowds: int = 8
    copies: int = 1

    @property
    def half_minutes(self) -> int:
        """The number of half minutes."""
        return -(-self.files // self.shards)

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the files that lack; key below the bucket's prefix -> the file with its content."""
        begin = datetime.now(UTC) - timedelta(seconds=FILE_SECONDS * (self.half_minutes + 2))
        made: dict[Path, File] = {}
        found = {}
        for number in range(self.files):
            half_minute, shard = divmod(number, self.shards)
            at = begin + timedelta(seconds=FILE_SECONDS * half_minute)
            source = shard // self.copies
            path = folder / f"{half_minute}-{source}.ndjson.gz"
            seed = half_minute % self.crowds * self.shards + source
            made[path] = File(path, self.kind, self.lines, seed, int(at.timestamp() * 1000))
            found[f"{at:%Y%m%d/%H}/rtl.bench+{shard}+{half_minute}.ndjson.gz"] = path
        write_all(made.values())
        return found


@dataclass(frozen=True, slots=True)
class Installation:
    """The exporter, not started, beside an S3 server and a receiver that takes everything."""

    exporter: Exporter
    bucket: Bucket

    def work_off(self, keys: Mapping[str, Path], look: Callable[[], None], **settings: str) -> float:
        """Fill the bucket, start the exporter and wait until it has counted all; seconds.

        `look` is called all the while; `settings` are the exporter's, with those of the installation.
        """
        from tests.e2e.scene import PREFIX  # noqa: PLC0415 - it imports what would make this process large

        for key, path in keys.items():
            self.bucket.put(f"{PREFIX}/{key}", path.read_bytes())
        began = time.monotonic()
        self.exporter.start(**settings)
        self._wait(lambda: len(self.exporter.messages("file_counted")) >= len(keys), look)
        return time.monotonic() - began

    def wait_until_deleted(self) -> None:
        """Wait until what was counted is also sent and deleted."""
        from tests.e2e.scene import PREFIX  # noqa: PLC0415 - see above

        self._wait(lambda: not self.bucket.keys(PREFIX), lambda: None)

    def _wait(self, done: Callable[[], bool], look: Callable[[], None]) -> None:
        deadline = time.monotonic() + _LONGEST_SECONDS
        while not done():
            self.exporter.require_alive()
            if time.monotonic() > deadline:
                raise SystemExit(f"the backlog is not worked off after {_LONGEST_SECONDS} seconds")
            time.sleep(0.5)
            look()


@contextmanager
def installation(folder: Path, **settings: str) -> Iterator[Installation]:
    """Set one up, with settings other than the usual ones."""
    from tests.e2e.scene import ACCESS_KEY, PREFIX, SECRET_KEY, Bucket  # noqa: PLC0415 - see above
    from tests.support.exporter_process import Exporter  # noqa: PLC0415
    from tests.support.moto_server import moto_server  # noqa: PLC0415

    with ExitStack() as stack:
        bucket = Bucket(stack.enter_context(moto_server()), _BUCKET)
        environ = {
            "S3_ENDPOINT": bucket.endpoint,
            "S3_BUCKET": bucket.name,
            "S3_PREFIX": PREFIX,
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
            "PROMETHEUS_URL": stack.enter_context(null_receiver()),
            **_SETTINGS,
            **settings,
        }
        yield Installation(stack.enter_context(Exporter(folder / "exporter", environ)), bucket)


def worker_environ(bucket: Bucket) -> dict[str, str]:
    """Return what a cluster's worker needs in its environment to fetch from the bucket."""
    from tests.e2e.scene import ACCESS_KEY, SECRET_KEY  # noqa: PLC0415 - see above

    return {
        "S3_ENDPOINT": bucket.endpoint,
        "S3_BUCKET": bucket.name,
        "S3_ACCESS_KEY": ACCESS_KEY,
        "S3_SECRET_KEY": SECRET_KEY,
    }
