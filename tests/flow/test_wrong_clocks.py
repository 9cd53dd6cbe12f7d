"""A wrong clock, this machine's or the bucket's, for seconds or for good, changes no number."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import cramjam
import pytest

from cdn77_exporter.core.clocks import ClockSource
from cdn77_exporter.core.encode.remote_write_pb2 import WriteRequest
from tests.flow.test_shards import lags, late, steady
from tests.support.virtual_time import simulate
from tests.support.world import BEGAN_MS, TICK_SECONDS, Moment, Receiver, Upload, World

DAY_MS = 86_400_000
MINUTES = 12
#: Seconds after the start, and how far this machine's and the bucket's clock are ahead from then on (ms).
Schedule = tuple[tuple[float, float, float], ...]

SCHEDULES: dict[str, Schedule] = {
    "the bucket a day ahead for three answers": ((200, 0, DAY_MS), (260, 0, 0)),
    "the bucket a day ahead for 15 s": ((201, 0, DAY_MS), (216, 0, 0)),
    "the bucket a day ahead at the start": ((0, 0, DAY_MS), (60, 0, 0)),
    "the bucket a day ahead for good": ((0, 0, DAY_MS),),
    "the bucket a day behind for good": ((0, 0, -DAY_MS),),
    "the bucket ten days behind for good": ((0, 0, -10 * DAY_MS),),
    "the bucket a day ahead from the middle on": ((300, 0, DAY_MS),),
    "the bucket a day behind from the middle on": ((300, 0, -DAY_MS),),
    "this machine a day ahead for good": ((0, DAY_MS, 0),),
    "this machine a day behind for good": ((0, -DAY_MS, 0),),
    "this machine ten days ahead for good": ((0, 10 * DAY_MS, 0),),
    "this machine a day ahead from the middle on": ((300, DAY_MS, 0),),
    "this machine corrected by a second": ((300, -1000, 0),),
    "this machine corrected by a minute and a half": ((0, 90_000, 0), (300, 0, 0)),
    "this machine four minutes behind for good": ((0, -240_000, 0),),
    "both differently, then this machine right": ((0, DAY_MS, -2 * DAY_MS), (300, 0, -2 * DAY_MS)),
    "both differently, then the bucket right": ((0, -DAY_MS, DAY_MS), (300, -DAY_MS, 0)),
    "both wrong in the middle": ((240, DAY_MS, -DAY_MS), (420, 0, 0)),
    "turns": ((100, DAY_MS, 0), (200, 0, -DAY_MS), (300, -DAY_MS, 0), (400, 0, DAY_MS), (500, 0, 0)),
}


class Watching(Receiver):
    """Refuses a sample that is later than true time and a tick."""

    now_ms: Callable[[], int]

    def take(self, body: bytes) -> None:
        """See `Receiver`."""
        request = WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body)))
        latest = max((sample.timestamp for series in request.timeseries for sample in series.samples), default=0)
        assert latest <= self.now_ms() + TICK_SECONDS * 1000
        super().take(body)


def follow(world: World, schedule: Schedule, *, began_ms: int = BEGAN_MS) -> None:
    """Set the clocks as the schedule says, whose seconds count from `began_ms`."""

    def turn(machine: float, bucket: float) -> None:
        world.clock.machine_ahead_ms, world.clock.bucket_ahead_ms = machine, bucket

    for second, machine, bucket in schedule:
        wait = second - (world.began_ms - began_ms) / 1000
        if wait <= 0:
            turn(machine, bucket)
        else:
            asyncio.get_running_loop().call_later(wait, turn, machine, bucket)


def traffic() -> list[Upload]:
    return [*steady(0, MINUTES), *steady(1, MINUTES)]


def run(world: World, schedule: Schedule, until_ms: int | None = None) -> None:
    """Run a process while the clocks follow a schedule."""

    async def main() -> None:
        receiver = Watching()
        receiver.series, receiver.now_ms = world.receiver.series, world.clock.true_ms
        world.receiver = receiver
        follow(world, schedule)
        await world.run(until_ms)

    simulate(main())


@pytest.mark.guarantee("clocks.seconds", "clocks.bucket", "clocks.machine", "clocks.both")
@pytest.mark.parametrize("name", SCHEDULES)
def test_wrong_clocks_change_no_number(tmp_path: Path, name: str) -> None:
    """All totals are true, no sample is in the future, no file is left, and nothing was refused."""
    world = World(tmp_path, traffic(), doubts=True)
    run(world, SCHEDULES[name])
    world.check()
    assert not world.receiver.refused
    assert not world.said.of("shard_lagging")
    assert world.clock.clocks.believed_ms(0) is not None


@pytest.mark.guarantee("clocks.restart")
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_restart_under_wrong_clocks_changes_no_number(tmp_path: Path, name: str) -> None:
    """Nor does a process that begins while the clocks are wrong, from the state of one that ended so."""
    uploads = traffic()
    first = World(tmp_path / "1", uploads, doubts=True)
    first.folder.mkdir()
    run(first, SCHEDULES[name], BEGAN_MS + 250_000)
    assert isinstance(first.left, Moment)
    second = World.after(first.left, tmp_path / "2", uploads, doubts=True)
    run(second, SCHEDULES[name])
    second.check()
    assert not second.receiver.refused


@pytest.mark.guarantee("clocks.seconds")
@pytest.mark.parametrize("name", [name for name in SCHEDULES if " 15 s" in name or "three" in name or "second" in name])
def test_a_clock_that_is_wrong_for_seconds_delays_nothing(tmp_path: Path, name: str) -> None:
    """Samples come as fresh as otherwise, and no event is late."""
    world = World(tmp_path, traffic(), doubts=True)
    run(world, SCHEDULES[name])
    world.check()
    assert late(world) == 0
    assert max(lags(world)) < 90


def test_clocks_that_agree_delay_the_start_by_nothing(tmp_path: Path) -> None:
    """With the first answer of the bucket it is known what time it is."""
    plain, doubting = World(tmp_path / "1", traffic()), World(tmp_path / "2", traffic(), doubts=True)
    for world in (plain, doubting):
        world.folder.mkdir()
        simulate(world.run())
        world.check()
    assert doubting.receiver.series.keys() == plain.receiver.series.keys()
    first = [min(min(samples) for samples in world.receiver.series.values()) for world in (plain, doubting)]
    assert first[0] == first[1]


@pytest.mark.guarantee("clocks.both")
def test_in_doubt_files_are_counted_and_committed_and_nothing_is_written(tmp_path: Path) -> None:
    """When no two witnesses agree no tick is emitted, however long; nothing is deleted."""
    world = World(tmp_path, traffic(), doubts=True)
    run(world, ((0, 1_200_000, -1_200_000),))
    assert not world.write.bodies
    assert not world.deleted
    assert len(world.said.of("file_counted")) == len(world.uploads)
    assert world.left is not None
    again = World.after(world.left, tmp_path / "again", world.uploads, doubts=True)
    run(again, (), again.began_ms + 600_000)
    again.check()


@pytest.mark.guarantee("clocks.both")
@pytest.mark.parametrize("source", [ClockSource.MACHINE, ClockSource.BUCKET])
def test_a_clock_that_is_named_is_believed(tmp_path: Path, source: ClockSource) -> None:
    """With CLOCK_SOURCE the other one may be wrong, and nothing need arrive."""
    machine = source is ClockSource.MACHINE
    world = World(tmp_path, traffic(), doubts=True, clock_source=source)
    run(world, ((0, 0, DAY_MS) if machine else (0, DAY_MS, 0),))
    world.check()
    assert max(lags(world)) < DAY_MS / 1000 + 90
    assert not any(math.isnan(lag) for lag in lags(world))
