"""Accounts of what the receiver has been told: what it has not stored is owed to it, and holds the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cdn77_exporter.core.changes import Owing
from cdn77_exporter.flow.delivery import Delivery

if TYPE_CHECKING:
    from cdn77_exporter.flow.stages.aggregate import Aggregator, Batch


class Remembers(Protocol):
    """The state as the accounts see it."""

    async def told(self, tick: int) -> bytes | None:
        """Return what a tick tells of counters, as long as a request of it is in the outbox."""


@dataclass(slots=True)
class ToldUntilAccepted:
    """Keeps the accounts in the timeline, which pays on later ticks what is owed.

    Nothing that is owed is taken as told: no tick is acknowledged, and so no file deleted, until it is.
    """

    aggregator: Aggregator
    ledger: Remembers

    async def to_send(self, body: bytes) -> bytes:
        """Return the part of a request that the receiver would see rightly: the rest is owed, and stays so."""
        timeline = self.aggregator.timeline
        return await self.aggregator.between_steps(lambda: timeline.seen_of(body)) if len(timeline.owed) else body

    async def settled(self, number: int, tick: int, body: bytes, delivery: Delivery) -> None:
        """Enter a request, or a part of it, that is stored or not stored."""
        del number
        timeline = self.aggregator.timeline
        stored = delivery is not Delivery.NOT_STORED
        if stored and not len(timeline.owed):
            return
        told = None if stored else await self.ledger.told(tick)
        await self.aggregator.between_steps(lambda: timeline.settle(body, stored=stored, told=told))

    def owing(self) -> Sequence[Owing] | None:
        """Return all that is owed, if that has changed: it is committed with the end of the request."""
        return self.aggregator.timeline.owed.take_changes()

    def done(self, numbers: Sequence[int]) -> None:
        """Note that requests have left the outbox."""
        self.aggregator.timeline.done(numbers)

    def wait_for_histograms(self, wait: bool) -> None:
        """Say whether what is owed of native histograms holds the files."""
        self.aggregator.timeline.owed.waits_for_parts = wait

    def acknowledged(self, batch: Batch) -> int | None:
        """Return the batch's last tick, unless something is owed that is waited for."""
        return None if self.aggregator.timeline.owed.is_waiting else batch.through_tick
