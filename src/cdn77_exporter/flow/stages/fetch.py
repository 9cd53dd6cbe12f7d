"""Fetch: download files in parallel, and pass them on in the order of their shards."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
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
#: Stands for a shard: that of files which an earlier poll tried in vain. They hold up only each other.
_AGAIN = object()


class FetchedByDecoder:
    """Stands for the bucket where those who decode a file fetch it themselves."""

    async def fetch(self, file: LogFile) -> bytes:
        """Return no bytes."""
        return b""


@dataclass(slots=True)
class Fetcher:
    """Downloads files, each with a few attempts; what it cannot get is left to a later poll.

    A file that takes longer than the watermark waits for it is left, too, so that it does not hold up its shard. From
    then on it has all the time that the bucket takes, beside its shard, and a share of the permits.
    """

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
            key=self._lane,
            permits=self.in_flight.permits,
            begin=lambda file: self.in_flight.move(file, At.FETCHING),
            drop=lambda file: self.in_flight.move(file, At.LEFT),
            stop=self.common.stop,
            lookahead=self.lookahead,
            rank=self._progress,
            most=self._most,
        )
        await ordered.run(inbox, outlet)

    def _lane(self, file: LogFile) -> Hashable:
        return _AGAIN if self.in_flight.is_tried_again(file) else file.shard

    def _most(self, lane: Hashable) -> int:
        """Return how many permits a shard may have; no shard ever has the last, and files tried again have few."""
        most = self.in_flight.permits.most
        return max(1, most // 4 if lane is _AGAIN else most - 1)

    def _progress(self, lane: Hashable) -> float:
        """Rank a shard that holds the watermark far back before the others; shards that are nearly level take turns."""
        return float("inf") if lane is _AGAIN else self.watermark.progress_ms(str(lane)) // _FAR_BEHIND_MS

    async def _fetch(self, file: LogFile) -> RawLog | None:
        """Return the file's checked bytes, or None."""
        clock, stop = self.common.clock, self.common.stop
        began = clock.monotonic()
        patience = None if self.in_flight.is_tried_again(file) else self.in_flight.patience

        def failed(failure: Failed) -> None:
            if isinstance(failure.error, Misconfigured) or failure.attempt == _ATTEMPTS or stop.is_set():
                raise failure.error

        try:
            async with asyncio.timeout(patience):
                body = await retry(lambda: self.bucket.fetch(file), clock, Backoff(first=0.2, most=5.0), failed)
        except TimeoutError:
            await self._unfinished.end(file, Transient(f"it takes longer than {patience:g} s; a later poll goes on"))
            return None
        except (FileGone, Unreadable, Misconfigured, Transient) as error:
            await self._unfinished.end(file, error)
            return None
        self.in_flight.move(file, At.FETCHED)
        # Without a body it is fetched where it is decoded.
        return RawLog(file, body, clock.monotonic() - began if body else 0.0)
