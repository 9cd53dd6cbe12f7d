"""The lister by itself: what is new is found once and in order, and polls come when files do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from cdn77_exporter.core.arrivals import Arrivals
from cdn77_exporter.core.errors import Misconfigured, Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import At, InFlight
from cdn77_exporter.flow.ports import Lists
from cdn77_exporter.flow.stages.list import Lister
from tests.support.fake_bucket import FakeBucket, StoredObject
from tests.support.stage_bench import HOUR, NAMES, NOW_MS, TICK, StageBench, log_file
from tests.support.virtual_time import simulate


class _Listing:
    """A bucket that lists pages; an exception among them is raised at its turn."""

    def __init__(self, *polls: Sequence[list[LogFile] | Exception]) -> None:
        self._polls = list(polls)
        self.prefixes: list[str] = []

    async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        self.prefixes.append(prefix)
        if prefix != HOUR:
            return
        for page in self._polls.pop(0) if len(self._polls) > 1 else self._polls[0]:
            await asyncio.sleep(0)
            if isinstance(page, Exception):
                raise page
            yield page


def lister(
    bench: StageBench,
    listing: Lists,
    *,
    interval: float = 60,
    lookback_hours: float = 2,
    keep_files: bool = False,
) -> Lister:
    """A lister of the logs."""
    return Lister(
        bench.common,
        bench.in_flight,
        listing,
        bench.state,
        bench.watermark,
        bench.arrivals,
        NAMES,
        interval,
        lookback_hours,
        bench.sweeper(listing, keep_files=keep_files),
        keep_files,
    )


async def _listed(
    bench: StageBench,
    listing: _Listing,
    seconds: float,
    *,
    interval: float = 60,
    most: int = 100,
    keep_files: bool = False,
) -> list[LogFile]:
    """What a lister puts out in some seconds."""
    outlet: Channel[LogFile] = Channel(most)
    asyncio.get_running_loop().call_later(seconds, bench.stop.set)
    await lister(bench, listing, interval=interval, keep_files=keep_files).run(outlet)
    return [file async for file in outlet]


def test_new_files_are_put_out_once_oldest_first() -> None:
    """What a poll finds new goes out in order and is in flight; later polls, with the same listing, add nothing."""

    async def main() -> None:
        bench = StageBench()
        files = [log_file(2), log_file(0), log_file(1)]
        assert await _listed(bench, _Listing([files[:2], files[2:]]), 130) == [log_file(0), log_file(1), log_file(2)]
        polls = bench.said.of("poll_finished")
        assert [(poll["listed"], poll["new"]) for poll in polls] == [(3, 3), (3, 0), (3, 0)]
        assert bench.in_flight.count(At.LISTED) == len(bench.in_flight) == 3
        assert bench.in_flight.outstanding == {"0": 3}

    simulate(main())


def test_a_file_listed_twice_in_a_poll_is_put_out_once() -> None:
    """A listing that repeats a file, on one page or on two, does not make it count twice."""

    async def main() -> None:
        bench = StageBench()
        assert await _listed(bench, _Listing([[log_file(0), log_file(0)], [log_file(0), log_file(1)]]), 10) == [
            log_file(0),
            log_file(1),
        ]
        assert bench.in_flight.outstanding == {"0": 2}

    simulate(main())


def test_what_the_ledger_has_is_not_listed_again_but_changed_content_is() -> None:
    """Counted, deleted and set aside files are left out by key and ETag; the same key with another ETag is new."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0), log_file(1))
        bench.database.mark_deleted([log_file(1).identity])
        bench.database.set_aside(log_file(2), "corrupt")
        listing = _Listing([[log_file(0), log_file(0, etag="other"), log_file(1), log_file(2)]])
        assert await _listed(bench, listing, 10) == [log_file(0, etag="other")]

    simulate(main())


@pytest.mark.parametrize("keep_files", [False, True])
def test_a_file_that_is_back_after_its_deletion_is_deleted_again(keep_files: bool) -> None:
    """A deleted file that is listed again is not counted again; it goes to the deleter, unless files are kept."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0))
        bench.database.mark_done([], TICK)
        bench.database.mark_deleted([log_file(0).identity])
        assert await _listed(bench, _Listing([[log_file(0)]]), 10, keep_files=keep_files) == []
        assert [file.key for file in bench.database.deletable(bench.database.acknowledged(), 9)] == (
            [] if keep_files else [log_file(0).key]
        )

    simulate(main())


@pytest.mark.guarantee("bucket.redirect", "bucket.endless")
@pytest.mark.parametrize(
    "failure",
    [Transient("no answer"), Misconfigured("access denied", "allow s3:ListBucket")],
    ids=["transient", "wrong"],
)
def test_a_poll_that_fails_lists_nothing_and_the_next_one_finds_all(failure: Exception) -> None:
    """A failure on any page is told with its remedy and costs one poll; readiness knows of it until a poll succeeds."""

    async def main() -> None:
        bench = StageBench()
        bench.trouble.found("start", "wait")
        listing = _Listing([[log_file(0)], failure], [failure], [[log_file(0)], [log_file(1)]])
        states: list[tuple[set[str], int]] = []
        for at in (59, 119, 121):
            asyncio.get_running_loop().call_later(
                at, lambda: states.append((set(bench.trouble.now), len(bench.in_flight)))
            )
        assert await _listed(bench, listing, 130) == [log_file(0), log_file(1)]
        assert states == [({"start", "bucket"}, 0), ({"start", "bucket"}, 0), (set(), 2)]
        failed = bench.said.of("poll_failed")
        assert [poll["error"] for poll in failed] == [str(failure)] * 2
        assert all(poll["remedy"] for poll in failed)
        assert bench.in_flight.outstanding == {"0": 2}

    simulate(main())


def test_polls_begin_at_the_interval_and_a_stop_ends_the_wait() -> None:
    """Polls begin an interval apart, however long they take, and a stop is obeyed at once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began: list[float] = []

        class Slow(_Listing):
            async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
                if prefix == HOUR:
                    began.append(loop.time())
                    await asyncio.sleep(20)
                yield []

        bench = StageBench()
        await _listed(bench, Slow([]), 150)
        assert began == pytest.approx([0, 60, 120])
        assert loop.time() == pytest.approx(150)

    simulate(main())


@dataclass
class _Paced(_Listing):
    """A bucket that is empty, and what the watermark would be if it held files of three shards, one each 30 s.

    The files of a shard end `offset` seconds after the half minute and appear 2 s later. `base_ms` is the bucket's
    clock at the beginning.
    """

    arrivals: Arrivals
    offsets: tuple[int, ...]
    base_ms: int
    told: int = 0
    times: list[float] = field(default_factory=list)

    async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        """No files; those that have appeared since the last poll are counted at once."""
        if prefix == HOUR:
            now = asyncio.get_running_loop().time()
            self.times.append(now)
            while self.told <= now:
                for shard, offset in enumerate(self.offsets):
                    if (self.told - offset - 2) % 30 == 0:
                        modified_ms = self.base_ms + self.told * 1000
                        self.arrivals.counted(str(shard), modified_ms, modified_ms - 2001)
                self.told += 1
        yield []

    def behind(self, at: float) -> float:
        """How far the last tick that is complete for a poll lies behind it, in seconds."""
        now_ms = self.base_ms + round(at * 1000)
        ends_ms = [now_ms - (now_ms - self.base_ms - (offset + 2) * 1000) % 30_000 - 2001 for offset in self.offsets]
        return (now_ms - min(ends_ms) // 15_000 * 15_000) / 1000


@pytest.mark.parametrize("skew_ms", [0, 23_000, -8_000])
@pytest.mark.parametrize("interval", [15, 60])
@pytest.mark.parametrize("offsets", [(0, 10, 20), (7, 7, 7), (1, 14, 17)])
def test_polls_come_to_find_files_soon_after_they_appeared(
    offsets: tuple[int, ...], interval: int, skew_ms: int
) -> None:
    """Polls are never more than the interval apart, and after a few minutes none waits long for what is there.

    Whatever the pace of the shards: on average over two polls, the last complete tick is as recent as at the best of
    all instants, but for the 2 s after which a file is there for sure and for what is not worth an early poll. So it is
    when the bucket's clock differs.
    """

    async def main() -> None:
        bench = StageBench()
        bench.clock.bucket_ahead_ms = -skew_ms
        bench.clock.answer()
        listing = _Paced(bench.arrivals, offsets, NOW_MS - skew_ms)
        await _listed(bench, listing, 1800, interval=interval)
        gaps = [later - sooner for sooner, later in pairwise(listing.times)]
        early = [number for number, gap in enumerate(gaps) if gap < interval - 0.001]
        assert max(gaps) == pytest.approx(interval)
        assert min(gaps) >= interval / 4
        assert all(later - sooner >= 5 for sooner, later in pairwise(early))
        assert len(bench.said.of("poll_brought_forward")) == len(early) <= 4
        settled = listing.times[-20:]
        worst = sum(map(listing.behind, settled)) / len(settled)
        best = min(sum(listing.behind(at + interval * half) for half in range(2)) / 2 for at in range(interval))
        assert worst <= best + 2 + max(2, interval / 20)

    simulate(main())


def test_where_files_have_no_steady_pace_polls_seldom_come_early() -> None:
    """Files that come at random let a poll come early again and again: first one in five, then fewer and fewer."""

    async def main() -> None:
        bench = StageBench()
        draw = random.Random(5)
        begin, times = bench.clock.now_ms(), [draw.uniform(0, 36_000) for _ in range(3600)]
        waiting = sorted((begin + round(at * 1000), str(number % 3)) for number, at in enumerate(times))
        began: list[float] = []

        class Random(_Listing):
            async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
                if prefix.endswith("/14/"):
                    began.append(asyncio.get_running_loop().time())
                while waiting and waiting[0][0] <= bench.clock.now_ms():
                    modified_ms, shard = waiting.pop(0)
                    bench.arrivals.counted(shard, modified_ms, modified_ms - 2000)
                yield []

        asyncio.get_running_loop().call_later(36_000, bench.stop.set)
        await lister(bench, Random([]), lookback_hours=12).run(Channel(9))
        early = [number for number, (sooner, later) in enumerate(pairwise(began)) if later - sooner < 59.9]
        assert len(early) > 3
        between = [later - sooner for sooner, later in pairwise(early)]
        assert min(between) >= 5
        assert min(between[4:]) >= 30
        assert len(bench.said.of("poll_brought_forward")) == len(early)

    simulate(main())


def test_a_poll_that_takes_longer_than_the_interval_is_followed_by_the_next_at_once() -> None:
    """There is no time left to come early in, and nothing is said about it."""

    async def main() -> None:
        bench = StageBench()
        loop = asyncio.get_running_loop()
        listing = _Paced(bench.arrivals, (0, 10, 20), NOW_MS)
        began: list[float] = []

        class Slow(_Listing):
            async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
                async for page in listing.list_files(prefix):
                    if prefix == HOUR:
                        began.append(loop.time())
                        await asyncio.sleep(70)
                    yield page

        await _listed(bench, Slow([]), 1400)
        assert began == pytest.approx([70 * number for number in range(20)])
        assert not bench.said.of("poll_brought_forward")

    simulate(main())


def test_a_stop_leaves_what_was_listed_and_not_put_out() -> None:
    """Files of a poll that the stop overtakes are no longer in flight, and do not hold the watermark."""

    async def main() -> None:
        bench = StageBench()
        outlet: Channel[LogFile] = Channel(2)
        listing = _Listing([[log_file(number) for number in range(10)]])
        run = asyncio.create_task(lister(bench, listing).run(outlet))
        await asyncio.sleep(1)
        assert len(bench.in_flight) == 10
        bench.stop.set()
        taken = [file async for file in outlet]
        await run
        assert taken == [log_file(0), log_file(1), log_file(2)]
        assert len(bench.in_flight) == 3
        assert bench.in_flight.outstanding == {"0": 3}

    simulate(main())


# What is listed, and how far back


class _Growing(FakeBucket):
    """A bucket into which a file comes every ten minutes."""

    def __init__(self, bench: StageBench) -> None:
        super().__init__(now_ms=bench.clock.now_ms)

    async def grow(self, hours: int) -> list[str]:
        """Put the files, each into the folder of its hour; their keys."""
        keys = []
        for number in range(hours * 6):
            at_ms = self._now_ms()
            hour = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y%m%d/%H")
            keys.append(f"logs/{hour}/rtl.w+0+{number}.ndjson.gz")
            self.objects[keys[-1]] = StoredObject(b"%d" % number, at_ms)
            await asyncio.sleep(600)
        return keys


@pytest.mark.guarantee("files.too_many")
@pytest.mark.parametrize("restart", [False, True])
def test_what_came_while_nothing_could_be_passed_on_is_listed_then(restart: bool) -> None:
    """A lister that was held for longer than the lookback lists from where it was held, after a restart as well."""

    async def main() -> None:
        bench = StageBench()
        bucket = _Growing(bench)
        outlet: Channel[LogFile] = Channel(1)
        run = asyncio.create_task(lister(bench, bucket, lookback_hours=0.5).run(outlet))
        growing = asyncio.create_task(bucket.grow(9))
        if restart:
            await asyncio.sleep(1800)
            begun = bench.watermark.value_ms or NOW_MS
            await asyncio.sleep(8 * 3600)
            run.cancel()
            bench.in_flight = InFlight(4, bench.said, steady=bench.clock.monotonic, patience=120)
            bench.watermark.restore([], begun, 0.0)
            outlet = Channel(1)
            run = asyncio.create_task(lister(bench, bucket, lookback_hours=0.5).run(outlet))
        expected = await growing
        asyncio.get_running_loop().call_later(300, bench.stop.set)
        assert [file.key async for file in outlet] == expected
        await run

    simulate(main())


def test_the_last_minutes_of_an_hour_are_listed_in_the_next() -> None:
    """Without any lookback a file that comes between the last poll of an hour and its end is found all the same."""

    async def main() -> None:
        bench = StageBench()  # at 14:40:04
        bucket = FakeBucket(now_ms=bench.clock.now_ms)
        outlet: Channel[LogFile] = Channel(9)
        run = asyncio.create_task(lister(bench, bucket, lookback_hours=0).run(outlet))
        await asyncio.sleep(19 * 60 + 50)
        key = log_file(1).key
        bucket.objects[key] = StoredObject(b"x", bench.clock.now_ms())
        asyncio.get_running_loop().call_later(300, bench.stop.set)
        assert [file.key async for file in outlet] == [key]
        await run

    simulate(main())


@pytest.mark.guarantee("files.other_objects", "files.empty")
def test_only_log_files_with_content_are_taken() -> None:
    """Other objects are counted and left alone, empty files skipped; none is told again and again."""

    async def main() -> None:
        bench = StageBench()
        bucket = FakeBucket(now_ms=bench.clock.now_ms)
        names = ("_SUCCESS", "a.ndjson.gz.tmp", "customer-list.csv.gz", "export.tar.gz", "manifest.json", ".keep")
        for name in names:
            bucket.objects[HOUR + name] = StoredObject(b"x", NOW_MS)
        bucket.objects[log_file(1).key] = StoredObject(b"", NOW_MS)
        bucket.objects[log_file(2).key] = StoredObject(b"x", NOW_MS)
        outlet: Channel[LogFile] = Channel(9)
        asyncio.get_running_loop().call_later(100, bench.stop.set)
        await lister(bench, bucket).run(outlet)
        assert [file.key async for file in outlet] == [log_file(2).key]
        said = bench.said.of("poll_finished")
        assert [(one["listed"], one["others"], one["empty"]) for one in said] == [(1, 6, 1)] * 2
        assert {name for name, _ in bench.said.events} == {"poll_finished"}

    simulate(main())


@pytest.mark.guarantee("files.aside_replaced")
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_set_aside_that_is_removed_or_replaced_ends_its_alarm(replaced: bool) -> None:
    """The next poll shows that it is gone; what is there instead is a new file."""

    async def main() -> None:
        bench = StageBench()
        bucket = FakeBucket(now_ms=bench.clock.now_ms)
        key = log_file(1).key
        bucket.objects[key] = StoredObject(b"broken", NOW_MS - 1)
        bench.database.set_aside(bucket.file(key), "truncated")
        outlet: Channel[LogFile] = Channel(9)
        run = asyncio.create_task(lister(bench, bucket).run(outlet))
        await asyncio.sleep(1)
        assert bench.database.counts()["aside"] == 1
        del bucket.objects[key]
        if replaced:
            bucket.objects[key] = StoredObject(b"whole", bench.clock.now_ms())
        asyncio.get_running_loop().call_later(100, bench.stop.set)
        await run
        assert bench.database.counts()["aside"] == 0
        assert [file.key async for file in outlet] == [key] * replaced
        assert bench.said.of("file_released") == [{"key": key}] * replaced

    simulate(main())
