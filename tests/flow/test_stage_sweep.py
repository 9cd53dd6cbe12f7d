"""The sweeper by itself: what polls do not see is found or told, and what is gone is forgotten."""

from __future__ import annotations

import asyncio
import time

import pytest

from cdn77_exporter.commands.quarantine import set_aside
from cdn77_exporter.core.errors import Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.flow.stages.sweep import Sweeper
from cdn77_exporter.settings import load
from tests.support.fake_bucket import FakeBucket, StoredObject
from tests.support.service_run import ENVIRON
from tests.support.stage_bench import NAMES, NOW_MS, StageBench
from tests.support.virtual_time import simulate

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SINCE_MS = NOW_MS - 30 * DAY_MS


class _Sweep:
    """A bucket with two files a page, and its sweeper."""

    def __init__(self, since_ms: int = SINCE_MS) -> None:
        self.bench = StageBench()
        self.bucket = FakeBucket(now_ms=self.bench.clock.now_ms, page_size=2)
        bench = self.bench
        self.sweeper = Sweeper(bench.common, bench.in_flight, self.bucket, bench.state, NAMES, since_ms)

    def put(
        self, hour: str, number: int = 0, modified_ms: int = NOW_MS - 1000, name: str = "", body: bytes = b"x"
    ) -> str:
        """Put a file into an hour folder, and return its key."""
        key = f"logs/{hour}/{name or f'rtl.w+0+{number}.ndjson.gz'}"
        self.bucket.objects[key] = StoredObject(body, modified_ms)
        return key

    def found(self) -> list[str]:
        """The keys that a sweep finds."""

        async def main() -> list[str]:
            await self.sweeper.sweep()
            return [file.key for file in self.sweeper.take()]

        return simulate(main())


def test_files_of_any_hour_of_seven_days_are_found_once() -> None:
    """However old the folder; but not what the ledger has, what is in flight, no log file or empty."""
    sweep = _Sweep()
    expected = [sweep.put(hour, 1) for hour in ("20260103/16", "20260109/23", "20260110/14")]
    known, listed = sweep.put("20260104/01", 2), sweep.put("20260104/01", 3)
    sweep.put("20260104/01", 4, body=b"")
    sweep.put("20260104/01", name="_SUCCESS")
    sweep.bench.counted(sweep.bucket.file(known))
    sweep.bench.in_flight.list([sweep.bucket.file(listed)])
    assert sweep.found() == expected
    assert sweep.sweeper.take() == []
    assert not sweep.bench.said.of("files_left_out")
    assert not sweep.bench.trouble.now


@pytest.mark.guarantee("files.too_old")
@pytest.mark.parametrize("folder", ["20261399/14", "20260110", "2026-01-10/14", "20260110/9", "copies/20260110/14"])
def test_a_log_file_in_no_hour_folder_is_told_and_left_alone(folder: str) -> None:
    """No poll ever lists it. It may be a copy that somebody keeps; where there are no others, it is a problem."""
    sweep = _Sweep()
    key = sweep.put(folder, 1, NOW_MS - HOUR_MS)
    assert sweep.found() == []
    (said,) = sweep.bench.said.of("files_left_out")
    assert (said["count"], said["key"], said["oldest_seconds"]) == (1, key, 3600)
    assert key in sweep.bench.trouble.now["files_elsewhere"]
    other = sweep.put("20260110/14", 2)
    assert sweep.found() == [other]
    assert len(sweep.bench.said.of("files_left_out")) == 2
    assert not sweep.bench.trouble.now
    assert key in sweep.bucket.objects


def test_a_file_that_is_released_in_an_old_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set aside in a folder that no poll lists, it is left alone; once it is released the next sweep takes it."""
    monkeypatch.setattr(time, "time", lambda: NOW_MS / 1000)
    sweep = _Sweep()
    keys = [sweep.put(hour, 1, NOW_MS - 5 * DAY_MS) for hour in ("20260105/10", "20260101/10")]
    for key in keys:
        sweep.bench.database.set_aside(sweep.bucket.file(key), "truncated")
    assert sweep.found() == []
    release = [
        simulate(set_aside._release_in_place(sweep.bucket, load(ENVIRON), sweep.bucket.file(key)))  # type: ignore[arg-type]
        for key in keys
    ]
    assert [(one.done, one.to) for one in release] == [(True, keys[0]), (False, "")]
    assert sweep.found() == [keys[0]]


@pytest.mark.guarantee("files.too_old")
def test_what_is_older_than_seven_days_is_told_by_number_and_age() -> None:
    """By its upload or its folder; in the log, the metric and the problems, until it is gone."""
    sweep = _Sweep()
    late = sweep.put("20260101/00", 1)
    sweep.put("20260102/00", 2, NOW_MS - 8 * DAY_MS)
    assert sweep.found() == []
    (said,) = sweep.bench.said.of("files_left_out")
    assert (said["count"], said["key"]) == (2, late)
    age_seconds = said["oldest_seconds"]
    assert isinstance(age_seconds, int)
    assert 9 * 86_400 < age_seconds < 10 * 86_400
    (swept,) = sweep.bench.said.of("sweep_finished")
    assert (swept["listed"], swept["left"], swept["oldest_seconds"]) == (2, 2, age_seconds)
    assert "2 log files" in sweep.bench.trouble.now["files_left_out"]
    sweep.bucket.objects.clear()
    assert sweep.found() == []
    assert not sweep.bench.trouble.now


@pytest.mark.guarantee("files.too_old")
def test_what_was_there_before_the_state_is_told_and_no_problem() -> None:
    """Files that somebody else may have counted are left alone; the service is ready all the same."""
    sweep = _Sweep(since_ms=NOW_MS - 2 * HOUR_MS)
    sweep.put("20260110/10", 1, NOW_MS - 4 * HOUR_MS)
    late = sweep.put("20260110/10", 2)
    assert sweep.found() == [late]
    (said,) = sweep.bench.said.of("files_left_out")
    assert said["count"] == 1
    assert not sweep.bench.trouble.now


@pytest.mark.guarantee("files.aside_replaced")
def test_what_is_gone_is_forgotten() -> None:
    """A file that was set aside and removed ends its alarm; deleted files are remembered for a day over a week."""
    sweep = _Sweep()
    there = [sweep.put("20260110/10", number) for number in range(5)]
    for key in there[:3]:
        sweep.bench.database.set_aside(sweep.bucket.file(key), "truncated")
    old, young = (
        LogFile(f"logs/2026010{day}/00/rtl.w+0+9.ndjson.gz", "e", 1, NOW_MS - age * DAY_MS)
        for day, age in ((1, 9), (2, 7))
    )
    sweep.bench.counted(old, young)
    sweep.bench.database.mark_deleted([old.identity, young.identity])
    del sweep.bucket.objects[there[1]], sweep.bucket.objects[there[2]]
    assert sweep.found() == there[3:]
    assert [row.key for row in sweep.bench.database.aside()] == there[:1]
    assert sweep.bench.is_new(old, young) == [old]


def test_a_sweep_that_fails_is_told_and_tried_again_an_hour_later() -> None:
    """Polls do not depend on it."""

    async def main() -> None:
        sweep = _Sweep()
        key = sweep.put("20260110/10")
        sweep.bucket.fail("list_files", Transient("no answer"))
        asyncio.get_running_loop().call_later(3700, sweep.bench.stop.set)
        await sweep.sweeper.run()
        assert [name for name, _ in sweep.bench.said.events] == ["sweep_failed", "sweep_finished"]
        assert [file.key for file in sweep.sweeper.take()] == [key]
        assert not sweep.bench.trouble.ever

    simulate(main())


def test_sweeps_that_fail_again_and_again_are_a_problem_until_one_succeeds() -> None:
    """One may fail by chance; while none succeeds, what lies in old folders is not found."""

    async def main() -> None:
        sweep = _Sweep()
        for _ in range(3):
            sweep.bucket.fail("list_files", Transient("no answer"))
        task = asyncio.create_task(sweep.sweeper.run())
        trouble = []
        for _ in range(4):
            await asyncio.sleep(3600)
            trouble.append(sweep.bench.trouble.now.get("sweep", ""))
        sweep.bench.stop.set()
        await task
        assert [bool(words) for words in trouble] == [False, True, True, False]
        assert "3 times in a row (no answer)" in trouble[2]

    simulate(main())
