"""What a stage stands on in a test: a state in memory, virtual time, and a record of what was said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cdn77_exporter.core.arrivals import Arrivals
from cdn77_exporter.core.changes import Changes, CountedFile, Request
from cdn77_exporter.core.files import LogFile, LogNames
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.edge.state import Database
from cdn77_exporter.flow.channel import Channel, Closed
from cdn77_exporter.flow.in_flight import At, InFlight
from cdn77_exporter.flow.ports import Common, Lists
from cdn77_exporter.flow.shard_reports import ShardReports
from cdn77_exporter.flow.stages.sweep import Sweeper
from tests.support.virtual_time import VirtualClock
from tests.support.world import InlineState, Said, Trouble

NOW_MS = int(datetime(2026, 1, 10, 14, 40, 4, tzinfo=UTC).timestamp() * 1000)
HOUR = "logs/20260110/14/"
NAMES = LogNames("logs")
TICK = NOW_MS // 15_000 * 15
#: The way of a file that meets no trouble.
WAY = (At.LISTED, At.FETCHING, At.FETCHED, At.DECODING, At.DECODED, At.COUNTED, At.COMMITTED)


def log_file(number: int, shard: int = 0, etag: str = "etag", size: int = 100) -> LogFile:
    """A file of the hour."""
    return LogFile(f"{HOUR}rtl.w+{shard}+{number}.ndjson.gz", etag, size, NOW_MS - 1000 + number)


def counted_fields() -> dict[str, object]:
    """The fields of a `file_counted` message, for moves that a test makes itself."""
    return {"shard": "0", "size": 1, "lines": 0, "events": 0, "rejects": {}}


@dataclass
class StageBench:
    """A state in memory, and everything that stages share. At most `most` files are in memory."""

    most: int = 4
    said: Said = field(default_factory=Said)
    trouble: Trouble = field(default_factory=Trouble)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    database: Database = field(default_factory=lambda: Database(":memory:"))
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(NOW_MS))
    watermark: Watermark = field(default_factory=lambda: Watermark(idle_seconds=120, lag_seconds=180))
    arrivals: Arrivals = field(default_factory=Arrivals)

    def __post_init__(self) -> None:
        self.state = InlineState(self.database)
        self.common = Common(self.clock, self.said, self.trouble, self.stop)
        self.in_flight = InFlight(self.most, self.said, steady=self.clock.monotonic, patience=120)
        self.shards = ShardReports(self.common, self.in_flight, self.watermark, wait_seconds=300)

    def sweeper(self, bucket: Lists, *, keep_files: bool = False) -> Sweeper:
        """A sweeper of the logs, which knows all files that it finds to be this state's."""
        return Sweeper(self.common, self.in_flight, bucket, self.state, NAMES, 0, keep_files=keep_files)

    def is_new(self, *files: LogFile) -> list[LogFile]:
        """Those of some files that the ledger does not know as they are."""
        return self.database.sort_out(files).new

    def bring(self, file: LogFile, to: At) -> LogFile:
        """List a file and bring it to a point of its way; what is said on the way is forgotten."""
        heard = len(self.said.events)
        self.in_flight.list([file])
        for at in WAY[1 : WAY.index(to) + 1]:
            self.in_flight.move(file, at, **(counted_fields() if at is At.COUNTED else {}))
        del self.said.events[heard:]
        return file

    def is_free(self, file: LogFile) -> bool:
        """Whether a later poll may take the file, and it holds neither memory nor the watermark."""
        free = self.in_flight.unknown([file]) == [file]
        return free and not self.in_flight.permits.taken and not self.in_flight.outstanding

    def counted(self, *files: LogFile, due: int = TICK, requests: Iterable[Request] = ()) -> None:
        """Commit files and requests."""
        rows = [CountedFile(file.key, file.etag, due, file.size, file.modified_ms) for file in files]
        meta = {"settled": TICK, "emitted": TICK}
        self.database.commit(Changes(meta, [], [], b"", b"", [], b"", [], 0, [], rows, list(requests)))


async def has_ended(channel: Channel[Any]) -> bool:
    """Whether a channel was closed: nothing comes, and whoever asks is told so."""
    try:
        async with asyncio.timeout(1000):
            while True:
                await channel.get()
    except Closed:
        return True
    except TimeoutError:
        return False
