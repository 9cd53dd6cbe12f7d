"""The aggregator by itself: files, permits and commits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cdn77_exporter.core.changes import Changes
from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.errors import Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import At
from cdn77_exporter.flow.stages.aggregate import Aggregator, Batch
from cdn77_exporter.flow.stages.decode import DecodedFile, DecodedFiles
from tests.support.counts import counts_of
from tests.support.samples import parsed
from tests.support.stage_bench import NOW_MS, TICK, StageBench, has_ended, log_file
from tests.support.virtual_time import Inline, simulate
from tests.support.world import InlineState


def _counted(tick: int, requests: int) -> tuple[FileStats, Counts]:
    group = ("stream", "1", "HIT", "pop", "200")
    viewer = ("stream", "192.0.2.1", "web", "US")
    at_ms = tick * 1000 - 9
    stats = FileStats(lines=requests, events=requests, newest_ms=at_ms, oldest_ms=at_ms, requests={tick: requests})
    return stats, counts_of({tick: {group: [requests, 10 * requests, 0, 0]}}, {tick: {viewer: [at_ms] * 2}})


def _decoded(bench: StageBench, file: LogFile, counted: tuple[FileStats, Counts]) -> DecodedFiles:
    """A file that was decoded."""
    bench.bring(file, At.DECODED)
    stats, counts = counted
    return DecodedFiles([DecodedFile(file, stats, 0.1)], counts)


def _aggregator(bench: StageBench, timeline: Timeline, ledger: Any = None) -> Aggregator:
    return Aggregator(
        bench.common,
        bench.in_flight,
        timeline,
        ledger or bench.state,
        bench.watermark,
        bench.arrivals,
        Inline(),
        keeps_state=True,
        shards=bench.shards,
    )


def test_files_are_in_flight_until_their_commit_and_no_batch_precedes_it() -> None:
    """While the state cannot be written nothing goes on and no file is free; then the same changes are committed."""

    async def main() -> None:
        bench = StageBench()
        refusals = 3

        class Refusing(InlineState):
            async def commit(self, changes: Changes) -> None:
                nonlocal refusals
                if refusals:
                    assert len(batched) == 0
                    assert bench.in_flight.files(At.COUNTED) == [file]
                    refusals -= 1
                    raise Transient("disk full")
                await super().commit(changes)

        timeline = Timeline(Rules(), start_ms=NOW_MS - 120_000, key=b"k" * 32)
        file = log_file(0)
        tallied: Channel[DecodedFiles] = Channel(1)
        batched: Channel[Batch] = Channel(9)
        stage = _aggregator(bench, timeline, Refusing(bench.database))
        async with tallied:
            await tallied.put(_decoded(bench, file, _counted(TICK, 3)))
        await stage.run(tallied, batched)
        assert refusals == 0
        assert len(bench.said.of("state_commit_failed")) == 3
        assert "state" in dict(bench.trouble.ever)
        assert not bench.trouble.now
        assert bench.is_free(file)
        assert bench.database.counts()["counted"] == 1
        assert await has_ended(batched)

    simulate(main())


def test_a_permit_is_freed_when_its_file_is_counted_not_when_it_is_committed() -> None:
    """What is counted lies in the totals, so its permit is free while the commit still waits."""

    async def main() -> None:
        bench = StageBench()
        bench.bring(log_file(9), At.DECODING)
        disk = asyncio.Event()

        class Slow(InlineState):
            async def commit(self, changes: Changes) -> None:
                await disk.wait()
                await super().commit(changes)

        tallied: Channel[DecodedFiles] = Channel(4)
        batched: Channel[Batch] = Channel(9)
        timeline = Timeline(Rules(), start_ms=NOW_MS - 120_000, key=b"k" * 32)
        for number in range(3):
            await tallied.put(_decoded(bench, log_file(number), _counted(TICK + 150, 1)))
        assert bench.in_flight.permits.taken == 4
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_aggregator(bench, timeline, Slow(bench.database)).run(tallied, batched))
            async with tallied:
                await asyncio.sleep(9)
            assert bench.in_flight.count(At.COUNTED) == 3
            assert bench.in_flight.permits.taken == 1
            disk.set()
        assert bench.database.counts()["counted"] == 3

    simulate(main())


def test_files_are_committed_soon_even_when_no_tick_is_complete() -> None:
    """While nothing can be emitted a counted file waits some seconds for its commit, not for the next tick."""

    async def main() -> None:
        bench = StageBench()
        tallied: Channel[DecodedFiles] = Channel(4)
        timeline = Timeline(Rules(), start_ms=NOW_MS, key=b"k" * 32)
        stage = _aggregator(bench, timeline)
        run = asyncio.create_task(stage.run(tallied, Channel(9)))
        await asyncio.sleep(20)
        assert not run.done()
        await tallied.put(_decoded(bench, log_file(0), _counted(TICK, 1)))
        await tallied.put(_decoded(bench, log_file(1), _counted(TICK, 1)))
        await asyncio.sleep(7)
        assert timeline.emitted == 0
        assert bench.database.counts()["counted"] == 2
        assert len(bench.in_flight) == 0
        run.cancel()

    simulate(main())


def test_many_bytes_of_files_do_not_wait_for_their_commit() -> None:
    """What a commit holds has a bound: small files wait for some seconds, a few large ones do not."""

    async def main() -> None:
        bench = StageBench()
        tallied: Channel[DecodedFiles] = Channel(4)
        stage = _aggregator(bench, Timeline(Rules(), start_ms=NOW_MS, key=b"k" * 32))
        run = asyncio.create_task(stage.run(tallied, Channel(9)))
        counted = []
        for number, megabytes in enumerate((1, 1, 3, 6, 1, 9)):
            file = log_file(number, size=megabytes * 2**20)
            await tallied.put(_decoded(bench, file, _counted(TICK, 1)))
            await asyncio.sleep(0.1)
            counted.append(bench.database.counts()["counted"])
        assert counted == [0, 0, 0, 4, 4, 6]
        run.cancel()

    simulate(main())


@pytest.mark.parametrize("stops", [False, True])
def test_while_a_tick_waits_for_the_receiver_no_more_is_taken_in(stops: bool) -> None:
    """What is held would grow for as long as the receiver is away; once it has what was told, or at a stop, all is."""

    async def main() -> None:
        bench = StageBench(most=60)
        timeline = Timeline(Rules(), start_ms=NOW_MS - 7_300_000, key=b"k" * 32)
        timeline.absorb([(log_file(99), _counted(TICK - 7200, 1)[0])], _counted(TICK - 7200, 1)[1])
        unsent, _ = timeline.advance((TICK - 7200) * 1000, NOW_MS - 7_200_000)
        assert unsent
        bench.watermark.listed(bench.clock.monotonic())
        tallied: Channel[DecodedFiles] = Channel(60)
        stage = _aggregator(bench, timeline)
        for number in range(60):
            await tallied.put(_decoded(bench, log_file(number), _counted(TICK - 600 + 5 * number // 15 * 15, 1)))
        run = asyncio.create_task(stage.run(tallied, Channel(999)))
        await asyncio.sleep(600)
        assert 1 < bench.database.counts()["counted"] < 61
        if stops:
            bench.stop.set()
        else:
            timeline.done([request.number for request in unsent])
        await asyncio.sleep(60)
        async with tallied:
            pass
        await run
        assert bench.database.counts()["counted"] == 61
        assert (timeline.emitted < TICK - 7000) is stops

    simulate(main())


@pytest.mark.guarantee("copies.no_state")
@pytest.mark.parametrize(("patience", "at_ms"), [(20.0, (TICK + 15) * 1000), (5.0, TICK * 1000 + 100)])
def test_a_stop_without_a_state_waits_for_the_next_tick(patience: float, at_ms: int) -> None:
    """What is held is written on it, never before its time; who may not wait so long writes the last tick again."""

    async def main() -> None:
        bench = StageBench()
        timeline = Timeline(Rules(), start_ms=NOW_MS - 120_000, key=b"k" * 32)
        timeline.advance(TICK * 1000, NOW_MS)
        stage = _aggregator(bench, timeline)
        stage.keeps_state, stage.patience_seconds = False, patience
        tallied: Channel[DecodedFiles] = Channel(1)
        run = asyncio.create_task(stage.run(tallied, Channel(9)))
        async with tallied:
            await tallied.put(_decoded(bench, log_file(0), _counted(TICK + 15, 3)))
        await run
        bodies = [bench.database.body(number) for number, _, _ in bench.database.outbox()]
        times = {one.timestamp for body in bodies for series in parsed(body).timeseries for one in series.samples}
        assert max(times) == at_ms <= bench.clock.now_ms()

    simulate(main())
