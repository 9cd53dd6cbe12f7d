"""What holds for every stage: exact backpressure, an end that is passed on, a crash that is not, a stop that drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from cdn77_exporter.core.changes import Changes, Request, Unsent
from cdn77_exporter.core.decoded import Decoded, FileStats
from cdn77_exporter.core.files import LogFile, RawLog
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import At
from cdn77_exporter.flow.stages.aggregate import Aggregator, Batch
from cdn77_exporter.flow.stages.decode import DecodedFile, DecodedFiles, FileDecoder
from cdn77_exporter.flow.stages.delete import Deleter
from cdn77_exporter.flow.stages.fetch import Fetcher
from cdn77_exporter.flow.stages.list import Lister
from cdn77_exporter.flow.stages.push import Pusher, Receipt
from tests.support.accounts import Cumulative
from tests.support.counts import counts_of
from tests.support.stage_bench import HOUR, NAMES, NOW_MS, TICK, WAY, StageBench, counted_fields, has_ended, log_file
from tests.support.virtual_time import Inline, simulate
from tests.support.world import InlineState

PERMITS, LOOKAHEAD, CONCURRENCY, CAPACITY = 4, 3, 2, 2


class _Fault(Exception):
    """A fault of the program, or of a port: no answer that a stage knows."""


@dataclass
class _Port:
    """Every port of the stages; each call waits while the gate is closed, and the call number `fault_at` fails."""

    bench: StageBench
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fault_at: int = 0
    calls: int = 0
    listed: int = 0  # files that the next poll finds
    most, width = 1, CONCURRENCY  # as the decoder

    async def _call(self) -> None:
        self.calls += 1
        if self.calls == self.fault_at:
            raise _Fault
        await self.gate.wait()

    async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        if prefix == HOUR:
            await self._call()
            yield [log_file(number) for number in range(self.listed)]

    async def fetch(self, file: LogFile) -> bytes:
        await self._call()
        return b"body"

    async def decode(self, logs: Sequence[RawLog], latest_ms: Sequence[int], oldest_ms: int) -> Decoded:
        await self._call()
        return Decoded([FileStats() for _ in logs])

    async def write(self, body: bytes) -> None:
        await self._call()

    async def delete(self, files: Sequence[LogFile]) -> dict[tuple[str, str], str]:
        await self._call()
        return {}

    def ledger(self) -> InlineState:
        """The bench's state, whose commits are calls."""
        port = self

        class Ledger(InlineState):
            async def commit(self, changes: Changes) -> None:
                await port._call()
                await super().commit(changes)

        return Ledger(self.bench.database)


# Each stage, what it takes, and what its consumer does with what it gives


def _lister(port: _Port) -> Callable[[Any, Any], Any]:
    bench = port.bench
    lister = Lister(
        bench.common,
        bench.in_flight,
        port,
        bench.state,
        bench.watermark,
        bench.arrivals,
        NAMES,
        60,
        2,
        bench.sweeper(port),
    )
    return lambda _, outlet: lister.run(outlet)


def _fetcher(port: _Port) -> Callable[[Any, Any], Any]:
    bench = port.bench
    return Fetcher(bench.common, bench.in_flight, port, bench.state, bench.watermark, LOOKAHEAD).run


def _decoder(port: _Port) -> Callable[[Any, Any], Any]:
    bench = port.bench
    return FileDecoder(bench.common, bench.in_flight, port, bench.state).run


def _aggregator(port: _Port) -> Callable[[Any, Any], Any]:
    bench = port.bench
    timeline = Timeline(Rules(), start_ms=NOW_MS, key=b"k" * 32)
    ledger = port.ledger()
    return Aggregator(
        bench.common,
        bench.in_flight,
        timeline,
        ledger,
        bench.watermark,
        bench.arrivals,
        Inline(),
        keeps_state=True,
        shards=bench.shards,
    ).run


def _pusher(port: _Port) -> Callable[[Any, Any], Any]:
    return Pusher(port.bench.common, port, port.bench.state, Cumulative(), 3600).run


def _deleter(port: _Port) -> Callable[[Any, Any], Any]:
    deleter = Deleter(port.bench.common, port, port.bench.state, keep_files=False)
    return lambda inbox, _: deleter.run(inbox)


def _listed(bench: StageBench, number: int) -> LogFile:
    return bench.bring(log_file(number, shard=number % 3), At.LISTED)


def _fetched(bench: StageBench, number: int) -> RawLog:
    return RawLog(bench.bring(log_file(number), At.FETCHED), b"body")


def _decoded(bench: StageBench, number: int) -> DecodedFiles:
    """A file that completes a tick."""
    second = TICK + 60 + 15 * number
    at_ms = second * 1000
    stats = FileStats(lines=1, events=1, newest_ms=at_ms, oldest_ms=at_ms, requests={second: 1})
    counts = counts_of({second: {("stream", "1", "HIT", "pop", "200"): [1, 1, 0, 0]}}, {})
    bench.watermark.listed(second - NOW_MS / 1000)
    return DecodedFiles([DecodedFile(bench.bring(log_file(number), At.DECODED), stats, 0.0)], counts)


def _batch(bench: StageBench, number: int) -> Batch:
    bench.counted(requests=[Request(number, TICK + number, 1, b"body")])
    return Batch(TICK + number, (Unsent(number, TICK + number, 1),))


def _receipt(bench: StageBench, number: int) -> Receipt:
    bench.counted(log_file(number), due=TICK + number)
    return Receipt(TICK + number)


def _count(bench: StageBench, file: LogFile) -> None:
    """Do what the stages behind do, so that the file leaves memory."""
    at = next(at for at in WAY if file in (bench.in_flight.files(at) if at is not At.COMMITTED else ()))
    for to in WAY[WAY.index(at) + 1 :]:
        bench.in_flight.move(file, to, **(counted_fields() if to is At.COUNTED else {}))


@dataclass(frozen=True)
class _Case:
    """A stage. `holds`: items that it has taken, those in an outlet of CAPACITY that nobody reads among them."""

    stage: Callable[[_Port], Callable[[Any, Any], Any]]
    item: Callable[[StageBench, int], Any] | None = None
    holds: int = 0
    consume: Callable[[StageBench, Any], None] = lambda *_: None
    gives: bool = True
    permits: int = PERMITS


CASES = {
    "list": _Case(_lister, consume=_count),
    "fetch": _Case(_fetcher, _listed, PERMITS + LOOKAHEAD, lambda bench, log: _count(bench, log.file)),
    "decode": _Case(_decoder, _fetched, 2 * CONCURRENCY + CAPACITY, permits=100),
    "aggregate": _Case(_aggregator, _decoded, CAPACITY + 1, permits=100),
    "push": _Case(_pusher, _batch, CAPACITY),  # a receipt of what was acknowledged before is in the outlet, too
    "delete": _Case(_deleter, _receipt, 1, gives=False),
}
TAKING = {name: case for name, case in CASES.items() if case.item}
GIVING = {name: case for name, case in CASES.items() if case.gives}


@dataclass
class _Run:
    """A stage that runs, between an inbox that is being filled and an outlet."""

    case: _Case
    fault_at: int = 0
    capacity: int = CAPACITY
    put: int = 0

    def __post_init__(self) -> None:
        self.bench = StageBench(self.case.permits)
        self.port = _Port(self.bench, fault_at=self.fault_at, listed=20)
        self.inbox: Channel[Any] = Channel(1)
        self.outlet: Channel[Any] = Channel(self.capacity)
        self.stage = asyncio.create_task(self.case.stage(self.port)(self.inbox, self.outlet))

    @property
    def taken(self) -> int:
        """Items that the stage has taken."""
        return self.put - len(self.inbox)

    async def feed(self, count: int) -> None:
        """Put items once the stage has begun, and end the inbox."""
        await asyncio.sleep(1)
        async with self.inbox:
            for number in range(count):
                assert self.case.item is not None
                await self.inbox.put(self.case.item(self.bench, number))
                self.put += 1


@pytest.mark.parametrize("name", TAKING)
def test_backpressure_is_exact(name: str) -> None:
    """A stage that cannot pass anything on takes so many items and no more; each that is read lets in one more."""

    async def main() -> None:
        run = _Run(CASES[name])
        feed = asyncio.create_task(run.feed(60))
        await asyncio.sleep(30)
        if run.case.gives:
            run.port.gate.set()
            await asyncio.sleep(30)
        assert run.taken == run.case.holds
        for more in range(1, 6):
            if not run.case.gives:
                break
            run.case.consume(run.bench, await run.outlet.get())
            await asyncio.sleep(30)
            assert run.taken == run.case.holds + more
        for task in (run.stage, feed):
            task.cancel()

    simulate(main())


def test_the_lister_waits_for_its_outlet() -> None:
    """What does not fit stays with the lister, which polls no more."""

    async def main() -> None:
        run = _Run(CASES["list"])
        run.port.gate.set()
        await asyncio.sleep(1000)
        assert run.port.calls == 1
        assert len(run.outlet) == CAPACITY
        assert run.bench.in_flight.count(At.LISTED) == 20
        run.stage.cancel()

    simulate(main())


@pytest.mark.parametrize("name", TAKING)
@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_stage_ends_when_its_inbox_has_ended(name: str, count: int) -> None:
    """All that was in the inbox has its effect first; then the outlet is closed."""

    async def main() -> None:
        run = _Run(CASES[name], capacity=100)
        run.port.gate.set()
        feed = asyncio.create_task(run.feed(count))
        came = 0
        if run.case.gives:
            async for item in run.outlet:
                run.case.consume(run.bench, item)
                came += 1
        await run.stage
        await feed
        assert run.taken == count
        counts = run.bench.database.counts()
        if name == "aggregate":  # files that come together may share a batch
            assert counts["counted"] == count
            assert min(1, count) <= came <= count
        else:
            assert came == {"push": 1 + count, "delete": 0}.get(name, count)
        assert counts["done"] == (count if name == "delete" else 0)

    simulate(main())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fault_at", [1, 2])
def test_a_crash_of_a_port_ends_the_stage_and_closes_nothing(name: str, fault_at: int) -> None:
    """The error travels up as it is, and the consumer is not told that the input has ended."""

    async def main() -> None:
        run = _Run(CASES[name], fault_at, capacity=100)
        run.port.gate.set()
        feed = asyncio.create_task(run.feed(60)) if run.case.item else asyncio.create_task(asyncio.sleep(0))
        with pytest.raises((_Fault, ExceptionGroup)) as caught:
            await run.stage
        assert caught.type is _Fault or caught.group_contains(_Fault)
        feed.cancel()
        if run.case.gives:
            assert not await has_ended(run.outlet)

    simulate(main())


@pytest.mark.parametrize("name", GIVING)
def test_a_stage_that_is_cancelled_closes_nothing(name: str) -> None:
    """Failure travels by cancellation: a consumer must not take it for the end of the input."""

    async def main() -> None:
        run = _Run(CASES[name], capacity=100)
        feed = asyncio.create_task(run.feed(60)) if run.case.item else asyncio.create_task(asyncio.sleep(0))
        await asyncio.sleep(30)
        for task in (run.stage, feed):
            task.cancel()
        await asyncio.wait({run.stage})
        assert run.stage.cancelled()
        assert not await has_ended(run.outlet)

    simulate(main())


@pytest.mark.parametrize("name", CASES)
def test_a_stop_drains(name: str) -> None:
    """After a stop and the end of the inbox a stage ends by itself; every file has been passed on, or is free."""

    async def main() -> None:
        run = _Run(CASES[name], capacity=100)
        feed = asyncio.create_task(run.feed(20)) if run.case.item else asyncio.create_task(asyncio.sleep(0))
        await asyncio.sleep(10)
        run.bench.stop.set()
        run.port.gate.set()
        if run.case.gives:
            async for item in run.outlet:
                run.case.consume(run.bench, item)
        await run.stage
        await feed
        bench = run.bench
        waiting = {at: bench.in_flight.count(at) for at in WAY[:-1] if bench.in_flight.count(at)}
        assert waiting == ({At.DECODED: 20} if name == "decode" else {})
        assert len(bench.database.outbox()) == (20 if name == "aggregate" else 0)
        assert bench.database.counts()["counted"] == (20 if name == "aggregate" else 0)

    simulate(main())
