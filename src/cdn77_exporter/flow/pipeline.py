"""The whole service on one screen: its stages and the channels between them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from cdn77_exporter.core.files import LogFile, RawLog
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import InFlight
from cdn77_exporter.flow.ports import Common
from cdn77_exporter.flow.stages.aggregate import Aggregator, Batch
from cdn77_exporter.flow.stages.decode import DecodedFiles, FileDecoder
from cdn77_exporter.flow.stages.delete import Deleter
from cdn77_exporter.flow.stages.fetch import Fetcher
from cdn77_exporter.flow.stages.list import Lister
from cdn77_exporter.flow.stages.push import Pusher, Receipt


@dataclass(slots=True)
class Pipeline:
    """Stages joined by bounded channels; `in_flight` knows where each file is, and bounds those in memory."""

    common: Common
    in_flight: InFlight
    watermark: Watermark
    lister: Lister
    fetcher: Fetcher
    decoder: FileDecoder
    aggregator: Aggregator
    pusher: Pusher
    deleter: Deleter
    listed: Channel[LogFile] = field(default_factory=lambda: Channel(8, "listed"))
    fetched: Channel[RawLog] = field(default_factory=lambda: Channel(2, "fetched"))
    # A few only: what waits behind them waits as files, which is what the permits bound.
    tallied: Channel[DecodedFiles] = field(default_factory=lambda: Channel(2, "tallied"))
    batched: Channel[Batch] = field(default_factory=lambda: Channel(1, "batched"))
    delivered: Channel[Receipt] = field(default_factory=lambda: Channel(2, "delivered"))

    @property
    def channels(self) -> tuple[Channel[Any], ...]:
        """The channels from the first to the last."""
        return (self.listed, self.fetched, self.tallied, self.batched, self.delivered)

    async def run(self) -> None:
        """Run until a stop is requested and in-flight work has drained; re-raise the first stage failure."""
        async with asyncio.TaskGroup() as stages:
            stages.create_task(self.lister.run(self.listed), name="list")
            stages.create_task(self.lister.sweeper.run(), name="sweep")
            stages.create_task(self.fetcher.run(self.listed, self.fetched), name="fetch")
            stages.create_task(self.decoder.run(self.fetched, self.tallied), name="decode")
            stages.create_task(self.aggregator.run(self.tallied, self.batched), name="aggregate")
            stages.create_task(self.pusher.run(self.batched, self.delivered), name="push")
            stages.create_task(self.deleter.run(self.delivered), name="delete")
