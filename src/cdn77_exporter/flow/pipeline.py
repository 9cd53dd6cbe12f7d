"""The whole service on one screen: its stages and the channels between them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from cdn77_exporter.core.files import LogFile, RawLog
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.grouping import InGroups
from cdn77_exporter.flow.ordering import InOrder
from cdn77_exporter.flow.stages import (
    Aggregator,
    Batch,
    Context,
    Countable,
    Deleter,
    Fetcher,
    FileDecoder,
    Lister,
    NotHere,
    Pusher,
    Receipt,
)

LOOKAHEAD = 256  # files that are listed and not begun
_FAR_BEHIND_MS = 5 * 60 * 1000


@dataclass(slots=True)
class Pipeline:
    """Stages joined by bounded channels. At most `context.places.most` files are in memory."""

    context: Context
    lister: Lister
    fetcher: Fetcher | NotHere
    decoder: FileDecoder
    aggregator: Aggregator
    pusher: Pusher
    deleter: Deleter
    listed: Channel[LogFile] = field(default_factory=lambda: Channel(8, "listed"))
    fetched: Channel[RawLog] = field(default_factory=lambda: Channel(2, "fetched"))
    # A few only: what waits behind them waits as files, which is what the places bound.
    tallied: Channel[Countable] = field(default_factory=lambda: Channel(2, "tallied"))
    batched: Channel[Batch] = field(default_factory=lambda: Channel(1, "batched"))
    delivered: Channel[Receipt] = field(default_factory=lambda: Channel(2, "delivered"))

    @property
    def channels(self) -> tuple[Channel[Any], ...]:
        """From the first to the last."""
        return (self.listed, self.fetched, self.tallied, self.batched, self.delivered)

    async def run(self) -> None:
        """Until the stop signal was given and all under way is done; raises what the first failed stage raised."""
        fetching = InOrder(
            self.fetcher,
            key=lambda file: file.shard,
            places=self.context.places,
            lookahead=LOOKAHEAD,
            rank=self._progress,
            stopped=self.context.stop.is_set,
            drop=self.context.let_go,
        )
        decoding = InGroups(self.decoder, most=self.decoder.decoder.most, width=self.decoder.decoder.width)
        async with asyncio.TaskGroup() as stages:
            stages.create_task(self.lister.run(self.listed), name="list")
            stages.create_task(fetching.run(self.listed, self.fetched), name="fetch")
            stages.create_task(decoding.run(self.fetched, self.tallied), name="decode")
            stages.create_task(self.aggregator.run(self.tallied, self.batched), name="aggregate")
            stages.create_task(self.pusher.run(self.batched, self.delivered), name="push")
            stages.create_task(self.deleter.run(self.delivered), name="delete")

    def _progress(self, shard: object) -> float:
        """A shard that holds the watermark far back goes first; shards that are nearly level stay so by turns."""
        known = self.context.watermark.shards.get(str(shard))
        return known.newest_ms // _FAR_BEHIND_MS if known else 0
