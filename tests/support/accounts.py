"""Accounts for tests of the pusher alone, without a timeline that pays."""

from __future__ import annotations

from collections.abc import Sequence

from cdn77_exporter.flow.delivery import Delivery
from cdn77_exporter.flow.stages.aggregate import Batch


class Cumulative:
    """Accounts of counters that tell everything at each tick: a batch that is stored makes good those before it."""

    def __init__(self) -> None:
        self._refused = False  # something of the batch at hand
        self._behind = False  # something is not stored that no later tick has made good yet

    async def to_send(self, body: bytes) -> bytes:
        """Send everything."""
        return body

    async def settled(self, number: int, tick: int, body: bytes, delivery: Delivery) -> None:
        """Take note of what is not stored."""
        self._refused = self._refused or delivery is Delivery.NOT_STORED

    def acknowledged(self, batch: Batch) -> int | None:
        """Return the batch's last tick once all of it is stored."""
        refused, self._refused = self._refused, False
        self._behind = refused or (self._behind and not batch.requests)
        return None if self._behind else batch.through_tick

    def owing(self) -> None:
        """Say nothing of series."""

    def wait_for_histograms(self, wait: bool) -> None:
        """Wait for everything."""

    def done(self, numbers: Sequence[int]) -> None:
        """Forget requests."""
