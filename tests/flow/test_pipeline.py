"""The whole pipeline in memory and in virtual time: files in, true samples out; bounds to the exact number; stops."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdn77_exporter.core.decoded import Decoded
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.core.files import LogFile, RawLog
from cdn77_exporter.flow.stages.fetch import LOOKAHEAD
from tests.support.examples import sample
from tests.support.truth import COUNTERS, TTFB, Truth
from tests.support.virtual_time import simulate
from tests.support.world import BEGAN_MS, TICK_SECONDS, InlineDecoder, Said, World, backlog, traffic


@pytest.mark.parametrize("seed", sample(range(5), fast=2))
def test_what_goes_in_comes_out(tmp_path: Path, seed: int) -> None:
    """Overlapping files of three shards, one of them late, end as counters and gauges equal to the truth."""
    world = World(tmp_path, traffic(seed), seed=seed)
    simulate(world.run())
    world.check()
    assert not world.receiver.refused
    assert not world.trouble.ever
    said = {name for name, _ in world.said.events} - {"poll_brought_forward"}
    assert said == {"poll_finished", "file_counted", "batch_pushed", "file_deleted", "files_deleted", "sweep_finished"}
    assert world.pipeline is not None
    assert len(world.pipeline.lister.arrivals) == len(world.uploads)
    assert sum(int(str(said["late"])) for said in world.said.of("file_counted")) > 0


def test_every_sample_of_files_in_time_is_exact(tmp_path: Path) -> None:
    """When nothing is late each counter's sample is the number of things before its tick, from zero, without a gap."""
    uploads = traffic(3, late=False)
    first = min(one.file.modified_ms for one in uploads)
    for number, one in enumerate(uploads):  # every shard is known from the first listing that finds any
        if one.file.sequence == 0:
            uploads[number] = replace(one, file=replace(one.file, modified_ms=first))
    assert all(event["startTimeMs"] < one.file.modified_ms for one in uploads for event in one.events)
    world = World(tmp_path, uploads)
    simulate(world.run())
    world.check()
    truth = world.truth
    stamps = sorted({at for samples in world.receiver.series.values() for at in samples})
    known = {at: truth.counters(before_ms=at) for at in stamps}
    padded = False
    for labels, samples in world.receiver.series.items():
        pairs = dict(labels)
        name = pairs.pop("__name__")
        if name not in COUNTERS:
            continue
        key = tuple(sorted(pairs.items()))
        padded = padded or next(iter(samples.values())) == 0
        assert samples == {at: known[at][name].get(key, 0.0) for at in samples}
        assert list(samples) == list(range(min(samples), max(samples) + 1, TICK_SECONDS * 1000))
    assert padded
    for at in stamps:
        waits = {
            tuple(sorted((name, value) for name, value in labels if name != "__name__")): samples[at]
            for labels, samples in world.receiver.series.items()
            if dict(labels)["__name__"] == TTFB and at in samples and not math.isnan(samples[at])
        }
        assert waits == pytest.approx(truth.time_to_first_byte(at, TICK_SECONDS))


@pytest.mark.parametrize("width", sample([2, 1, 8], fast=1))
def test_with_the_receiver_stopped_exactly_the_places_are_in_memory(tmp_path: Path, width: int) -> None:
    """However many files wait, exactly as many as configured are fetched and not yet counted, and none is deleted."""
    in_memory = highest = 0

    async def main() -> None:
        nonlocal in_memory, highest
        world = World(tmp_path, [*backlog(40), *traffic(1)], width=width)
        world.receiver_answers.clear()
        fetch = world.bucket.fetch

        async def counting(file: LogFile) -> bytes:
            nonlocal in_memory, highest
            in_memory += 1
            highest = max(highest, in_memory)
            return await fetch(file)

        world.bucket.fetch = counting  # type: ignore[method-assign]

        class Hearing(Said):
            def __call__(self, event: str, /, **fields: object) -> None:
                nonlocal in_memory
                in_memory -= event == "file_counted"
                super().__call__(event, **fields)

        world.said = Hearing()
        stop = asyncio.Event()
        pipeline, state = world.build(stop)
        run = asyncio.create_task(pipeline.run())
        await asyncio.sleep(900)
        assert in_memory == highest == width
        assert pipeline.in_flight.permits.taken == width
        fetched = world.bucket.fetches
        await asyncio.sleep(900)
        assert in_memory == highest == width
        assert world.bucket.fetches == fetched < len(world.uploads)
        assert not world.deleted
        assert len(world.write.bodies) == 0
        world.receiver_answers.set()
        await asyncio.sleep(600)
        stop.set()
        await run
        state.close()
        assert (in_memory, highest) == (0, width)
        world.check()
        assert not world.receiver.refused

    simulate(main())


def test_backpressure_reaches_the_lister(tmp_path: Path) -> None:
    """With the receiver stopped the lister ends up waiting with what it has listed, and polls no more."""

    async def main() -> None:
        world = World(tmp_path, traffic(files=110, lines=2), width=2)
        world.receiver_answers.clear()
        pipeline, state = world.build(asyncio.Event())
        run = asyncio.create_task(pipeline.run())
        await asyncio.sleep(3400)
        polls = len(world.said.of("poll_finished"))
        await asyncio.sleep(600)
        assert len(world.said.of("poll_finished")) == polls
        counted = len(world.said.of("file_counted"))
        assert world.bucket.fetches == counted + 2
        assert counted + 2 + LOOKAHEAD + 8 < len(world.uploads)
        assert len(pipeline.listed) == 8
        assert not world.deleted
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        state.close()

    simulate(main())


class _Broken(Exception):
    """A fault in the program."""


@pytest.mark.parametrize("stage", ["list_files", "fetch", "decode", "write", "delete", "commit", "mark_done"])
def test_a_stage_that_fails_ends_the_run_with_its_error(tmp_path: Path, stage: str) -> None:
    """An error that is no answer of the other side ends everything, and whatever was deleted had been delivered."""
    calls = 0

    def failing(call: Any, at: int) -> Any:
        async def broken(*values: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= at:
                raise _Broken(stage)
            return await call(*values)

        return broken

    async def main(world: World) -> None:
        nonlocal calls
        pipeline, state = world.build(asyncio.Event())
        if stage == "list_files":

            async def broken(prefix: str) -> Any:
                nonlocal calls
                calls += 1
                if calls > 12:
                    raise _Broken(stage)
                async for page in type(world.bucket).list_files(world.bucket, prefix):
                    yield page

            world.bucket.list_files = broken  # type: ignore[method-assign]
        elif stage in ("fetch", "delete"):
            setattr(world.bucket, stage, failing(getattr(world.bucket, stage), 4))
        elif stage == "write":
            world.write.write = failing(world.write.write, 4)  # type: ignore[method-assign]
        elif stage == "decode":

            class Broken(InlineDecoder):
                async def decode(self, logs: Sequence[RawLog], latest_ms: Sequence[int], oldest_ms: int) -> Decoded:
                    if any(log.file.sequence == 3 for log in logs):
                        raise _Broken(stage)
                    return await super().decode(logs, latest_ms, oldest_ms)

            pipeline.decoder.decoder = Broken()
        else:
            setattr(state, stage, failing(getattr(state, stage), 3))
        try:
            await pipeline.run()
        finally:
            state.close()

    world = World(tmp_path, traffic(2))
    with pytest.raises(ExceptionGroup) as caught:
        simulate(main(world))
    assert caught.group_contains(_Broken, match=stage)
    assert len(world.deleted) < len(world.uploads)
    again = World(tmp_path, world.uploads, world.end_ms, world.receiver, world.deleted)
    simulate(again.run())
    again.check()


@pytest.mark.parametrize("seconds", sample([45, 141, 1, 83, 202, 260], fast=2))
def test_a_stop_drains_and_the_next_process_goes_on(tmp_path: Path, seconds: int) -> None:
    """A stop finishes and commits what is under way and ends by itself; the next process ends at the truth."""
    uploads = traffic(4)
    world = World(tmp_path, uploads, seed=seconds)
    simulate(world.run(until_ms=BEGAN_MS + seconds * 1000))
    assert world.left is not None
    assert world.left.now_ms - BEGAN_MS < (seconds + 10) * 1000
    assert world.pipeline is not None
    assert len(world.pipeline.in_flight) == 0
    assert world.pipeline.in_flight.permits.taken == 0
    again = World(tmp_path, uploads, world.left.now_ms + 3000, world.receiver, world.deleted)
    simulate(again.run())
    again.check()
    assert not world.receiver.refused


@pytest.mark.parametrize("seconds", sample([83, 260, 141, 202, 500], fast=2))
def test_a_stop_without_state_writes_all_that_is_held(tmp_path: Path, seconds: int) -> None:
    """Without a state a stop leaves nothing counted that is not delivered: the receiver has just what was deleted."""
    world = World(tmp_path, traffic(5), seed=seconds, keeps_state=False)
    simulate(world.run(until_ms=BEGAN_MS + seconds * 1000))
    assert world.deleted
    delivered = Truth(event for one in world.uploads if one.file.key in world.deleted for event in one.events)
    assert world.receiver.values(COUNTERS) == delivered.counters()
    assert len(world.said.of("file_counted")) == len(world.deleted)
    assert not world.receiver.refused
    assert not world.path.exists()


def test_kept_files_are_counted_once_over_restarts(tmp_path: Path) -> None:
    """With KEEP_FILES nothing is deleted, and no listing and no restart counts a file again."""
    uploads = traffic(6)
    world = World(tmp_path, uploads, keep_files=True)
    simulate(world.run(until_ms=BEGAN_MS + 200_000))
    assert world.left is not None
    again = World(tmp_path, uploads, world.left.now_ms, world.receiver, keep_files=True)
    simulate(again.run())
    assert not again.deleted
    again.deleted = {one.file.key for one in uploads}
    again.check()


def test_a_file_that_comes_back_is_deleted_and_not_counted(tmp_path: Path) -> None:
    """A deleted file that is put into the bucket again changes no number and does not stay."""
    uploads = traffic(7)
    world = World(tmp_path, uploads)

    def put_back(_: str) -> None:
        if world.clock.now_ms() > world.end_ms - 100_000:
            world.on_point = lambda _: None
            world.deleted.clear()

    world.on_point = put_back
    simulate(world.run())
    simulate(World(tmp_path, uploads, world.end_ms + 1000, world.receiver, world.deleted).run())
    world.check()


@pytest.mark.guarantee("files.damaged")
def test_an_unreadable_file_is_never_deleted_and_holds_nothing_up(tmp_path: Path) -> None:
    """A corrupt file is tried at three polls and set aside; all others end at the truth and the watermark goes on."""
    uploads = traffic(8)
    place = next(number for number, one in enumerate(uploads) if one.file.sequence == 2)
    bad = replace(uploads[place], body=uploads[place].body[:-30])
    uploads[place] = bad
    world = World(tmp_path, uploads)
    simulate(world.run())
    assert [said["attempt"] for said in world.said.of("file_unreadable")] == [1, 2, 3]
    assert world.said.of("file_set_aside") == [{"key": bad.file.key, "reason": "truncated", "detail": None}]
    assert world.deleted == {one.file.key for one in uploads} - {bad.file.key}
    world.uploads = [one for one in uploads if one is not bad]
    world.check()


def test_a_receiver_that_refuses_once_is_healed_by_the_next_tick(tmp_path: Path) -> None:
    """Requests that the receiver refuses for good cost no count: the next ticks make them good before any file goes."""
    world = World(tmp_path, traffic(9))
    take = world.receiver.take
    calls = 0

    def moody(body: bytes) -> None:
        nonlocal calls
        calls += 1
        if 3 <= calls <= 9 or 20 <= calls <= 30:
            raise Refused(400, "not today")
        take(body)

    world.receiver.take = moody  # type: ignore[method-assign]
    simulate(world.run())
    world.check()
    assert len(world.said.of("request_refused")) > 1


def test_failures_of_every_kind_in_between_change_no_number(tmp_path: Path) -> None:
    """Passing failures and missing rights at every port, again and again, end at the truth all the same."""

    class Moody(World):
        async def point(self, name: str) -> None:
            await super().point(name)
            draw = self._draw.random()
            stored = name == "write, after it is stored"
            if draw < 0.15:
                raise Transient(f"{name}: reset", lost=stored)
            if draw < 0.2 and not stored:
                raise Misconfigured(f"{name}: denied", "give the key its right back")

    said: set[str] = set()
    for seed in range(4):
        world = Moody(tmp_path / str(seed), traffic(seed), seed=seed)
        simulate(world.run(until_ms=world.end_ms + 300_000))
        calm = World(tmp_path / str(seed), world.uploads, world.end_ms + 400_000, world.receiver, world.deleted)
        simulate(calm.run())
        calm.check()
        said.update(name for name, _ in world.said.events)
    assert {"delete_failed", "poll_failed", "push_retried"} <= said


def test_the_fakes_would_notice(tmp_path: Path) -> None:
    """The measure works: a file counted twice, or deleted too early, fails the checks that the other tests rely on."""
    world = World(tmp_path, traffic(1))
    simulate(world.run())
    world.check()
    world.uploads = world.uploads[1:]
    with pytest.raises(AssertionError):
        world.check()
    fresh = World(tmp_path / "fresh", traffic(1))
    with pytest.raises(AssertionError, match="was deleted"):
        fresh.gone(fresh.uploads[0].file)
