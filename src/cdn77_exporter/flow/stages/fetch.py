"""Fetch: download files in parallel, and pass them on in the order of their shards."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdn77_exporter.core.errors import FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.files import LogFile, RawLog
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import At, InFlight
from cdn77_exporter.flow.ordered import OrderedMap
from cdn77_exporter.flow.ports import Common, Fetches, SetsAside
from cdn77_exporter.flow.retry import Backoff, Failed, retry
from cdn77_exporter.flow.stages.unfinished import Unfinished

#: Files that have left the lister and are not begun.
LOOKAHEAD = 256
_ATTEMPTS = 3
_FAR_BEHIND_MS = 5 * 60 * 1000


class FetchedByDecoder:
    """Stands for the bucket where those who decode a file fetch it themselves."""

    async def fetch(self, file: LogFile) -> bytes:
        """Return no bytes."""
        return b""


@dataclass(slots=True)
class Fetcher:
    """Downloads files, each with a few attempts; what it cannot get is left to a later poll."""

    common: Common
    in_flight: InFlight
    bucket: Fetches
    ledger: SetsAside
    watermark: Watermark
    lookahead: int = LOOKAHEAD
    _unfinished: Unfinished = field(init=False)

    def __post_init__(self) -> None:
        self._unfinished = Unfinished(self.common, self.in_flight, self.ledger)

    async def run(self, inbox: Channel[LogFile], outlet: Channel[RawLog]) -> None:
        """Download until the inbox has ended; after a stop only what has begun."""
        ordered = OrderedMap(
            self._fetch,
            key=lambda file: file.shard,
            permits=self.in_flight.permits,
            begin=lambda file: self.in_flight.move(file, At.FETCHING),
            drop=lambda file: self.in_flight.move(file, At.LEFT),
            stop=self.common.stop,
            lookahead=self.lookahead,
            rank=self._progress,
        )
        await ordered.run(inbox, outlet)

    def _progress(self, shard: object) -> float:
        """Rank a shard that holds the watermark far back before the others; shards that are nearly level take turns."""
        return self.watermark.newest_ms(str(shard)) // _FAR_BEHIND_MS

    async def _fetch(self, file: LogFile) -> RawLog | None:
        """Return the file's checked bytes, or None."""
        clock, stop = self.common.clock, self.common.stop
        began = clock.monotonic()

        def failed(failure: Failed) -> None:
            if isinstance(failure.error, Misconfigured) or failure.attempt == _ATTEMPTS or stop.is_set():
                raise failure.error

        try:
            body = await retry(lambda: self.bucket.fetch(file), clock, Backoff(first=0.2, most=5.0), failed)
        except (FileGone, Unreadable, Misconfigured, Transient) as error:
            await self._unfinished.end(file, error)
            return None
        self.in_flight.move(file, At.FETCHED)
        return RawLog(file, body, clock.monotonic() - began)
