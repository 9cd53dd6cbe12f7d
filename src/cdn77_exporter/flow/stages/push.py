"""Push: send committed requests in their order, and say up to which tick the receiver has everything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cdn77_exporter.core.changes import Unsent
from cdn77_exporter.core.encode.parts import series_in
from cdn77_exporter.core.encode.request_limit import RequestLimit
from cdn77_exporter.core.encode.version import Spoken
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.delivery import Delivery, Forgetful
from cdn77_exporter.flow.ports import Accounts, Common, Outbox, Recalls, Receives
from cdn77_exporter.flow.retry import until_written
from cdn77_exporter.flow.sending import LeftForLaterError, Sender
from cdn77_exporter.flow.stages.aggregate import Batch


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that the receiver has every tick up to `through_tick` (Unix seconds); only this lets a file be deleted."""

    through_tick: int


@dataclass(slots=True)
class PushStats:
    """The time at which a batch was last finished (Unix ms, 0 for never)."""

    last_push_ms: int = 0


@dataclass(slots=True)
class Pusher:
    """Sends committed requests one after the other, each until its end.

    `leaves`: a stop does not wait for a receiver that does not answer; the state keeps the outbox. `limit`: how large
    requests may be, which is learned from the receiver, as is the version of remote write that is `spoken`.
    """

    common: Common
    receiver: Receives
    ledger: Outbox
    accounts: Accounts
    give_up_seconds: float
    leaves: bool = False
    recalls: Recalls = field(default_factory=Forgetful)
    limit: RequestLimit = field(default_factory=RequestLimit)
    spoken: Spoken = field(default_factory=Spoken)
    stats: PushStats = field(default_factory=PushStats, init=False)
    _sender: Sender = field(init=False)
    _marked: int = field(default=0, init=False)  # the request that the state knows as being sent
    _interrupted: int = field(
        default=0, init=False
    )  # the request that an earlier process was sending; as it was marked

    def __post_init__(self) -> None:
        self._sender = Sender(
            self.common,
            self.receiver,
            self.recalls,
            self.accounts,
            self.give_up_seconds,
            self.leaves,
            self._mark,
            self.limit,
            self.spoken,
        )

    async def run(self, inbox: Channel[Batch], outlet: Channel[Receipt]) -> None:
        """Send what an earlier process left, then batch after batch."""
        async with outlet:
            try:
                await self._push_all(inbox, outlet)
            except LeftForLaterError:
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

    async def _deliver(self, request: Unsent, body: bytes) -> Delivery:
        if not request.samples:
            await self._sender.describe(body)
            return Delivery.STORED
        whole, body = body, await self.accounts.to_send(body)
        if not body:
            return Delivery.NOT_STORED if self._sender.wants(whole) else Delivery.NOT_WANTED
        if body != whole:
            request = request._replace(samples=sum(one.samples for one in series_in(body)))
        lost, in_parts = request.number == abs(self._interrupted), request.number == -self._interrupted
        return await self._sender.deliver(request, body, lost=lost, in_parts=in_parts)

    async def _done(self, request: Unsent | None, acknowledged: int | None, following: int = 0) -> None:
        """Take a request out of the outbox; the one that follows it is noted as being sent by the same write."""
        numbers = [request.number] if request else []
        owing = self.accounts.owing()
        await until_written(self.common, lambda: self.ledger.mark_done(numbers, acknowledged, following, owing))
        self.accounts.done(numbers)
        self._marked = following

    async def _mark(self, number: int) -> None:
        """Record which request is being sent: after a crash its answer is lost, and that of no other."""
        if number != self._marked:
            await until_written(self.common, lambda: self.ledger.mark_sending(number))
            self._marked = number


def _by_tick(left: Iterable[Unsent]) -> list[Batch]:
    """Return what an earlier process left as batches of one tick each."""
    ticks: dict[int, list[Unsent]] = defaultdict(list)
    for request in left:
        ticks[request.tick].append(request)
    return [Batch(tick, tuple(requests)) for tick, requests in sorted(ticks.items())]
