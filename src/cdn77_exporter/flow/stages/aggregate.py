"""Aggregate: add files to the totals, settle complete ticks, and commit both with the requests that tell of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from cdn77_exporter.core.arrivals import Arrivals
from cdn77_exporter.core.changes import Request, Unsent
from cdn77_exporter.core.numbering import Numbering
from cdn77_exporter.core.timeline import Timeline
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.flow.channel import Channel, Closed
from cdn77_exporter.flow.in_flight import At, InFlight
from cdn77_exporter.flow.ports import Commits, Common
from cdn77_exporter.flow.retry import pause, until_written
from cdn77_exporter.flow.shard_reports import ShardReports
from cdn77_exporter.flow.stages.decode import DecodedFiles

T = TypeVar("T")
_COMMIT_SECONDS = 5.0  # files wait at most this long for a commit when no tick is complete,
_COMMIT_BYTES = 8 * 1024 * 1024  # or until so much of them waits: a commit holds what all of them count
_WAIT_SECONDS = 1.0  # until it is seen again which ticks are complete
_AT_ONCE = 16  # of what was decoded together


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that were committed together, without their bodies: those wait in the outbox, where they take no memory.

    `through_tick` (Unix seconds) is the last tick that they and those before them complete.
    """

    through_tick: int
    requests: tuple[Unsent, ...] = ()


@dataclass(slots=True)
class AggregateStats:
    """The seconds that the last commit took; None before the first."""

    commit_seconds: float | None = None


@dataclass(slots=True)
class Aggregator:
    """Counts files, settles ticks, and commits.

    `thread`: where the timeline does its work, so that the event loop stays free. `keeps_state`: whether another
    process will go on from what is committed. `patience_seconds`: how long a stop may wait for the next tick, if none
    will.
    """

    common: Common
    in_flight: InFlight
    timeline: Timeline
    ledger: Commits
    watermark: Watermark
    arrivals: Arrivals
    thread: Executor
    keeps_state: bool
    shards: ShardReports
    patience_seconds: float = 0.0
    stats: AggregateStats = field(default_factory=AggregateStats, init=False)
    numbering: Numbering = field(default_factory=Numbering, init=False)
    _committed_at: float = field(default=0.0, init=False)
    _last_tick: int = field(default=0, init=False)

    async def run(self, inbox: Channel[DecodedFiles], outlet: Channel[Batch]) -> None:
        """Count until the inbox has ended and everything is committed."""
        self._last_tick = self.timeline.emitted
        async with outlet:
            while True:
                try:
                    found = await self._take(inbox)
                except Closed:
                    break
                found.reverse()
                while found:  # none is kept in memory once it is counted
                    await self._absorb(found.pop())
                await self._advance(outlet, commit=False)
            await self._advance(outlet, commit=True)
            if not self.keeps_state:
                await self._flush(outlet)

    async def _take(self, inbox: Channel[DecodedFiles]) -> list[DecodedFiles]:
        """Return what was decoded; nothing as long as a tick waits for the receiver, or what is held would grow."""
        if self.timeline.waits and not self.common.stop.is_set():
            await pause(self.common.clock, self.common.stop, _WAIT_SECONDS)
            return []
        return await inbox.take(_AT_ONCE, seconds=_WAIT_SECONDS)

    async def between_steps(self, call: Callable[[], T]) -> T:
        """Do something with the timeline when nothing else does."""
        return await self._work(call)

    async def _work(self, call: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, lambda: call(*values))

    async def _absorb(self, decoded: DecodedFiles) -> None:
        files = [(one.file, one.stats) for one in decoded.files]
        results = await self._work(self.timeline.absorb, files, decoded.counts)
        for one, absorbed in zip(decoded.files, results, strict=True):
            file, stats = one.file, one.stats
            self.watermark.delivered(file.shard, stats.newest_ms, self.common.clock.monotonic())
            self.arrivals.counted(file.shard, file.modified_ms, stats.newest_ms)
            skipped = self.numbering.counted(file.shard, file.writer, file.sequence) if file.sequence >= 0 else 0
            self.in_flight.move(
                file,
                At.COUNTED,
                shard=file.shard,
                size=file.size,
                lines=stats.lines,
                events=stats.events,
                rejects=stats.rejects,
                ignored=stats.ignored,
                late=absorbed.late,
                late_seconds=absorbed.late_seconds or None,
                skipped=skipped,
                fetch_seconds=one.fetch_seconds,
                decode_seconds=stats.seconds,
            )

    async def _advance(self, outlet: Channel[Batch], *, commit: bool) -> None:
        more = True
        while more:
            requests, more = await self._settle()
            due = self.in_flight.count(At.COUNTED) and (commit or self._waited_enough())
            if self.timeline.emitted > self._last_tick or due or (commit and not more):
                await self._commit(requests, outlet)

    async def _settle(self) -> tuple[list[Request], bool]:
        """Settle what is complete, as `Timeline.advance` does; nothing as long as it is not known what time it is."""
        clock = self.common.clock
        now_ms = clock.believed_ms()
        if now_ms is None:
            return [], False
        if not self.timeline.begun:
            await self._work(self.timeline.begin, clock.began_ms())
        watermark_ms = self.watermark.advance(self.in_flight.expected, now_ms, clock.monotonic())
        self.shards.tell()
        return await self._work(self.timeline.advance, watermark_ms, now_ms)

    def _waited_enough(self) -> bool:
        waited = self.common.clock.monotonic() - self._committed_at
        return waited >= _COMMIT_SECONDS or sum(file.size for file in self.in_flight.files(At.COUNTED)) >= _COMMIT_BYTES

    async def _flush(self, outlet: Channel[Batch]) -> None:
        """Write what is held onto the next tick, as there is no state; wait for it, since its time may have to come.

        What may not be written stays uncounted in the bucket, and so does all of it when the time is not known.
        """
        clock = self.common.clock
        now_ms = clock.believed_ms()
        if now_ms is None or not self.timeline.begun:
            return
        due_ms = await self._work(self.timeline.flush_ms, now_ms)
        wait = (due_ms - now_ms) / 1000
        if 0 < wait <= self.patience_seconds:
            await clock.sleep(wait)
        flushed = await self._work(self.timeline.flush, clock.believed_ms() or now_ms)
        if flushed is not None:
            requests, covered = flushed
            await self._commit(requests, outlet, covered)

    async def _commit(self, requests: list[Request], outlet: Channel[Batch], covered: int = 0) -> None:
        clock = self.common.clock
        changes = await self._work(
            self.timeline.take_changes, requests, self.watermark.value_ms, self.watermark.take_changes()
        )
        began = clock.monotonic()
        await until_written(self.common, lambda: self.ledger.commit(changes))
        self._committed_at = clock.monotonic()
        self.stats.commit_seconds = self._committed_at - began
        for file in self.in_flight.files(At.COUNTED):
            self.in_flight.move(file, At.COMMITTED)
        tick = max(self.timeline.emitted, covered)
        if requests or tick != self._last_tick:
            self._last_tick = tick
            await outlet.put(Batch(tick, tuple(Unsent(one.number, one.tick, one.samples) for one in requests)))
