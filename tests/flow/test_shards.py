"""Shards that lag, fall silent or cannot be fetched hold up nothing but themselves, and are told of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cdn77_exporter.core.files import LogFile
from tests.support import files as log_files
from tests.support.virtual_time import simulate
from tests.support.world import BEGAN_MS, Upload, World, upload

EVERY_MS = 30_000
IDLE_SECONDS = 60  # of a `World`


def steady(
    shard: int, minutes: int, *, age_ms: int = 0, start_ms: int = BEGAN_MS, uploaded_ms: int = 0
) -> list[Upload]:
    """A file each half minute, of events that are `age_ms` older; all uploaded at once when `uploaded_ms` is given."""
    found = []
    for sequence in range(minutes * 2):
        end = start_ms + (sequence + 1) * EVERY_MS
        events = [log_files.event(end - age_ms - ms, locationID="londonGB") for ms in (25_000, 12_000, 500)]
        found.append(upload(shard, sequence, uploaded_ms or end + 4000, events))
    return found


def late(world: World) -> int:
    """How many events came after their tick."""
    return sum(int(str(said["late"])) for said in world.said.of("file_counted"))


def lags(world: World) -> list[float]:
    """How old the last tick of each batch was when it was pushed."""
    return [float(str(said["lag_seconds"])) for said in world.said.of("batch_pushed")]


@pytest.mark.guarantee("shards.old_files")
@pytest.mark.parametrize("age_ms", [400_000, 3_600_000])
def test_a_shard_that_delivers_old_files_holds_up_no_other(tmp_path: Path, age_ms: int) -> None:
    """The samples of the others stay fresh, its events count late, all totals are true, and it is told of once."""
    world = World(tmp_path, [*steady(0, 20), *steady(1, 20), *steady(2, 20, age_ms=age_ms)])
    simulate(world.run())
    world.check()
    assert not world.receiver.refused
    assert max(lags(world)[3:]) < 120
    assert late(world) > 0
    (lagging,) = world.said.of("shard_lagging")
    assert lagging["shard"] == "2"
    assert abs(float(str(lagging["behind_seconds"])) - age_ms / 1000) < 90
    assert ("shard_lagging", world.trouble.ever[0][1]) in world.trouble.ever


@pytest.mark.parametrize("shards", [1, 2])
def test_when_every_shard_is_old_none_is_said_to_be_behind_others(tmp_path: Path, shards: int) -> None:
    """There are no others: they are behind the time."""
    uploads = [one for shard in range(shards) for one in steady(shard, 20, age_ms=3_600_000)]
    world = World(tmp_path, uploads)
    simulate(world.run())
    world.check()
    words = [said for what, said in world.trouble.ever if what == "shard_lagging"]
    assert any(said.startswith(("shard 0 ", "shards 0, 1 ")[shards - 1]) for said in words)
    assert all("behind the time" in said and "others" not in said for said in words)


@pytest.mark.guarantee("shards.recovers")
def test_a_shard_that_catches_up_is_waited_for_again(tmp_path: Path) -> None:
    """After some minutes of old files it delivers current ones; from then on nothing of it is late."""
    old, new = steady(1, 10, age_ms=1_800_000), steady(1, 20)[20:]
    world = World(tmp_path, [*steady(0, 20), *old, *new])
    simulate(world.run())
    world.check()
    (recovered,) = world.said.of("shard_recovered")
    assert recovered["shard"] == "1"
    assert "shard_lagging" not in world.trouble.now
    names = [name for name, _ in world.said.events]
    after = world.said.events[names.index("shard_recovered") :]
    assert not sum(int(str(fields["late"])) for name, fields in after if name == "file_counted")


@pytest.mark.guarantee("shards.backlog")
def test_a_backlog_of_hours_is_worked_off_level(tmp_path: Path) -> None:
    """Of shards that begin and end hours apart none is left behind while its files wait, so nothing is late."""
    begin = BEGAN_MS - 5 * 3_600_000
    uploads = [
        *steady(0, 300, start_ms=begin, uploaded_ms=BEGAN_MS - 1000),
        *steady(1, 60, start_ms=begin, uploaded_ms=BEGAN_MS - 1000),
        *steady(2, 60, start_ms=begin + 4 * 3_600_000, uploaded_ms=BEGAN_MS - 1000),
        *steady(3, 10, start_ms=begin + 2 * 3_600_000, uploaded_ms=BEGAN_MS - 1000),
    ]
    world = World(tmp_path, uploads, width=8, most=2)
    simulate(world.run(world.end_ms + 900_000))
    world.check()
    assert late(world) == 0
    assert not world.said.of("shard_lagging")


@pytest.mark.guarantee("shards.hangs")
@pytest.mark.parametrize("hanging", [1, 30])
def test_a_download_that_hangs_holds_up_the_others_no_longer_than_an_idle_shard(tmp_path: Path, hanging: int) -> None:
    """Whether one file of a shard or all of them hang for ten minutes: the others' samples go on, totals are true."""

    async def main() -> None:
        world = World(tmp_path, [*steady(0, 20), *steady(1, 20), *steady(2, 20)], width=8)
        fetch, answers = world.bucket.fetch, asyncio.Event()
        stuck = {one.file.key for one in world.uploads if one.file.shard == "2"}
        stuck = set(sorted(stuck)[:hanging])
        asyncio.get_running_loop().call_later(600, answers.set)

        async def slow(file: LogFile) -> bytes:
            if file.key in stuck:
                await answers.wait()
            return await fetch(file)

        world.bucket.fetch = slow  # type: ignore[method-assign]
        await world.run()
        world.check()
        assert not world.receiver.refused
        usual, poll = 60, world.interval
        assert max(lags(world)) < IDLE_SECONDS + usual + poll
        assert not world.trouble.now
        if hanging > 1:
            assert {said["shard"] for said in world.said.of("shard_lagging")} == {"2"}
            assert len(world.said.of("shard_recovered")) == len(world.said.of("shard_lagging"))

    simulate(main())


@pytest.mark.guarantee("shards.silent")
def test_a_shard_that_falls_silent_is_told_of_and_holds_up_nothing(tmp_path: Path) -> None:
    """Others go on without it; when it has been away for an hour it is taken for one that has ended."""
    world = World(tmp_path, [*steady(0, 70), *steady(1, 5)])
    simulate(world.run())
    world.check()
    (silent,) = world.said.of("shard_silent")
    assert silent["shard"] == "1"
    assert float(str(silent["silent_seconds"])) >= 300
    assert [what for what, _ in world.trouble.ever].count("shard_silent") > 0
    assert "shard_lagging" not in world.trouble.now
    assert not world.said.of("shard_recovered")


def test_when_all_shards_fall_silent_none_is_told_of(tmp_path: Path) -> None:
    """Then nobody watches, which is no fault of a shard."""
    world = World(tmp_path, [*steady(0, 5), *steady(1, 5)])
    simulate(world.run(world.end_ms + 900_000))
    world.check()
    assert not world.said.of("shard_silent")
    assert not world.trouble.ever


def test_samples_wait_for_the_allowed_lateness(tmp_path: Path) -> None:
    """Files that overlap by less than it have no late events; without it they have."""

    def overlapping() -> list[Upload]:
        found = []
        for sequence in range(20):
            end = BEGAN_MS + (sequence + 1) * EVERY_MS
            events = [log_files.event(end - ms, locationID="londonGB") for ms in (49_000, 20_000, 500)]
            found.append(upload(0, sequence, end + 4000, events))
        return found

    for seconds, expected in ((0, True), (25, False)):
        world = World(tmp_path / str(seconds), overlapping(), lateness_seconds=seconds)
        world.folder.mkdir()
        simulate(world.run())
        world.check()
        assert bool(late(world)) is expected
