"""Push: send committed requests in their order, and say up to which tick the receiver has everything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cdn77_exporter.core.changes import Unsent
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.delivery import Cumulative, Delivery, after_giving_up, after_refusal
from cdn77_exporter.flow.ports import Accounts, Common, Outbox, Receives
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
    accounts: Accounts = field(default_factory=Cumulative)
    stats: PushStats = field(default_factory=PushStats, init=False)
    _marked: int = field(default=0, init=False)  # the request that the state knows as being sent
    _interrupted: int = field(default=0, init=False)  # the request that an earlier process was sending

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
        self._marked = self._interrupted = await self.ledger.sending()
        left = await self.ledger.outbox()
        last = max((one.number for one in left), default=-1)
        for batch in _by_tick(left):
            await self._push(batch, outlet)
        async for batch in inbox:
            new = tuple(one for one in batch.requests if one.number > last)  # it may have been among those left
            await self._push(replace(batch, requests=new), outlet)

    async def _push(self, batch: Batch, outlet: Channel[Receipt]) -> None:
        clock = self.common.clock
        began = clock.monotonic()
        size = 0
        stored = True
        for place, request in enumerate(batch.requests, start=1):
            body = await self.ledger.body(request.number)
            size += len(body)
            delivery = await self._deliver(request, body)
            stored = stored and delivery is not Delivery.NOT_STORED
            if request is not batch.requests[-1]:
                await self._done(request, None, batch.requests[place].number)
        acknowledged = self.accounts.acknowledged(batch)
        await self._done(batch.requests[-1] if batch.requests else None, acknowledged)
        if acknowledged is not None:
            self.common.problems.solved("delivery")
            await outlet.put(Receipt(acknowledged))
        if not batch.requests:
            return
        self.stats.last_push_ms = clock.now_ms()
        self.common.report(
            "batch_pushed" if stored else "batch_incomplete",
            first_tick=min(one.tick for one in batch.requests),
            last_tick=batch.through_tick,
            requests=len(batch.requests),
            samples=sum(one.samples for one in batch.requests),
            size=size,
            seconds=clock.monotonic() - began,
            lag_seconds=self.stats.last_push_ms / 1000 - batch.through_tick,
        )

    async def _done(self, request: Unsent | None, acknowledged: int | None, following: int = 0) -> None:
        """Take a request out of the outbox; the one that follows it is noted as being sent by the same write."""
        numbers = [request.number] if request else []
        await until_written(self.common, lambda: self.ledger.mark_done(numbers, acknowledged, following))
        self._marked = following

    async def _mark(self, number: int) -> None:
        """Note which request is being sent: after a crash its answer is lost, and that of no other."""
        if number != self._marked:
            await until_written(self.common, lambda: self.ledger.mark_sending(number))
            self._marked = number

    async def _deliver(self, request: Unsent, body: bytes) -> Delivery:
        """Send a request until its end, and have it entered in the accounts."""
        delivery = await self._send(request.number, body)
        # What may be stored counts as stored: going back would count twice what was.
        settled = Delivery.STORED if delivery is Delivery.UNKNOWN else delivery
        await self.accounts.settled(request.number, request.tick, body, settled)
        return delivery

    async def _send(self, number: int, body: bytes) -> Delivery:
        common = self.common
        lost = number == self._interrupted

        async def attempt() -> None:
            nonlocal lost
            await self._mark(number)
            try:
                await self.receiver.write(body)
            except (Transient, Misconfigured) as error:
                lost = lost or (isinstance(error, Transient) and error.lost)
                if not lost:
                    await self._mark(0)
                raise

        def failed(failure: Failed) -> None:
            self._tell(failure)
            if self.leaves and common.stop.is_set():
                raise _LeftForLaterError

        stop = common.stop if self.leaves else None
        try:
            await retry(attempt, common.clock, Backoff(), failed, stop)
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


def _by_tick(left: Iterable[Unsent]) -> list[Batch]:
    """Return what an earlier process left as batches of one tick each."""
    ticks: dict[int, list[Unsent]] = defaultdict(list)
    for request in left:
        ticks[request.tick].append(request)
    return [Batch(tick, tuple(requests)) for tick, requests in sorted(ticks.items())]
