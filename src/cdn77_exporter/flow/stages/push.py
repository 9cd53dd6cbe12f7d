"""Push: send committed requests in their order, and say up to which tick the receiver has everything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.delivery import Delivery, after_giving_up, after_refusal
from cdn77_exporter.flow.ports import Common, Outbox, Receives
from cdn77_exporter.flow.retry import Backoff, Failed, retry, until_written
from cdn77_exporter.flow.stages.aggregate import Batch


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that the receiver has every tick up to `through_tick` (Unix seconds); only this lets a file be deleted."""

    through_tick: int


@dataclass(slots=True)
class PushStats:
    """The time at which a batch was last finished (Unix ms, 0 for never)."""

    last_push_ms: int = 0


class _LeftForLaterError(Exception):
    """The stop came while the receiver did not answer."""


class _GivenUpError(Exception):
    """The receiver was away for too long."""

    def __init__(self, failure: Failed) -> None:
        super().__init__(str(failure.error))
        self.failure = failure


@dataclass(slots=True)
class Pusher:
    """Sends committed requests one after the other, each until its end.

    `leaves`: a stop does not wait for a receiver that does not answer; the state keeps the outbox.
    """

    common: Common
    receiver: Receives
    ledger: Outbox
    give_up_seconds: float
    leaves: bool = False
    stats: PushStats = field(default_factory=PushStats, init=False)
    _owed: bool = field(default=False, init=False)  # something is not stored that no later tick has made good yet

    async def run(self, inbox: Channel[Batch], outlet: Channel[Receipt]) -> None:
        """Send what an earlier process left, then batch after batch."""
        async with outlet:
            try:
                await self._push_all(inbox, outlet)
            except _LeftForLaterError:
                async for _ in inbox:  # committed too, and after what is left
                    pass
                self.common.report("outbox_left", requests=len(await self.ledger.outbox()))

    async def _push_all(self, inbox: Channel[Batch], outlet: Channel[Receipt]) -> None:
        await outlet.put(Receipt(await self.ledger.acknowledged()))  # its files may still be in the bucket
        left, last = await self.ledger.outbox(), -1
        if left:
            numbers, ticks, samples = zip(*left, strict=True)
            last = max(numbers)
            await self._push(Batch(max(ticks), numbers, min(ticks), sum(samples)), outlet, resent=True)
        async for batch in inbox:
            new = tuple(number for number in batch.numbers if number > last)  # it may have been among those left
            await self._push(replace(batch, numbers=new), outlet, resent=False)

    async def _push(self, batch: Batch, outlet: Channel[Receipt], *, resent: bool) -> None:
        clock = self.common.clock
        began = clock.monotonic()
        size = 0
        stored = True
        for number in batch.numbers:
            body = await self.ledger.body(number)
            size += len(body)
            stored = await self._deliver(body, resent=resent) is not Delivery.NOT_STORED and stored
        if stored and (batch.numbers or not self._owed):
            self._owed = False
            self.common.problems.solved("delivery")
            await self._mark(batch, batch.through_tick)
            await outlet.put(Receipt(batch.through_tick))
        else:
            self._owed = True
            await self._mark(batch, None)
        if not batch.numbers:
            return
        self.stats.last_push_ms = clock.now_ms()
        self.common.report(
            "batch_pushed" if stored else "batch_incomplete",
            first_tick=batch.first_tick,
            last_tick=batch.through_tick,
            requests=len(batch.numbers),
            samples=batch.samples,
            size=size,
            seconds=clock.monotonic() - began,
            lag_seconds=self.stats.last_push_ms / 1000 - batch.through_tick,
        )

    async def _mark(self, batch: Batch, acknowledged: int | None) -> None:
        await until_written(self.common, lambda: self.ledger.mark_done(batch.numbers, acknowledged))

    async def _deliver(self, body: bytes, *, resent: bool) -> Delivery:
        """Send a request until its end. `resent`: an earlier process may have sent it, and its answer may be lost."""
        common = self.common
        lost = resent

        def failed(failure: Failed) -> None:
            nonlocal lost
            lost = lost or (isinstance(failure.error, Transient) and failure.error.lost)
            self._tell(failure)
            if self.leaves and common.stop.is_set():
                raise _LeftForLaterError

        stop = common.stop if self.leaves else None
        try:
            await retry(lambda: self.receiver.write(body), common.clock, Backoff(), failed, stop)
        except Refused as error:
            return self._refused(error, after_refusal(error, lost=lost))
        except _GivenUpError as error:
            return self._given_up(error.failure, after_giving_up(lost=lost))
        common.problems.solved("receiver")
        return Delivery.STORED

    def _tell(self, failure: Failed) -> None:
        """Say why an attempt failed; raise when it was the last."""
        error, problems = failure.error, self.common.problems
        problems.found("receiver", f"{error}; {error.remedy}")
        if isinstance(error, Misconfigured):
            self.common.report("receiver_misconfigured", error=str(error), remedy=error.remedy)
        elif failure.seconds >= self.give_up_seconds:
            raise _GivenUpError(failure)
        else:
            self.common.report("push_retried", attempt=failure.attempt, error=str(error), wait_seconds=failure.wait)

    def _refused(self, error: Refused, delivery: Delivery) -> Delivery:
        self.common.problems.solved("receiver")
        if delivery is Delivery.NOT_STORED:
            self.common.report("request_refused", status=error.status, words=error.words)
            self.common.problems.found("delivery", f"a request was refused ({error}); see its words")
        elif delivery is Delivery.UNKNOWN:
            self.common.report("request_outcome_unknown", error=str(error))
        return delivery

    def _given_up(self, failure: Failed, delivery: Delivery) -> Delivery:
        if delivery is Delivery.UNKNOWN:
            self.common.report("request_outcome_unknown", error=str(failure.error))
        else:
            self.common.report(
                "request_dropped", attempts=failure.attempt, seconds=failure.seconds, error=str(failure.error)
            )
            self.common.problems.found("delivery", f"a request was dropped ({failure.error}); see the receiver's log")
        return delivery
