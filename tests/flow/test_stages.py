"""Each stage by itself, between small stand-ins: what it passes on, what it keeps, what it says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from cdn77_exporter.core.arrivals import Arrivals
from cdn77_exporter.core.bundle import Bundle, Failure, share_of
from cdn77_exporter.core.changes import Changes, CountedFile, Request
from cdn77_exporter.core.errors import FileGone, Misconfigured, Refused, Transient, Unreadable
from cdn77_exporter.core.files import MAX_AGE_MS, LogFile, RawLog, hour_prefixes
from cdn77_exporter.core.tally import Sums, Tally, TickTally, Times
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.edge.state import Database
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.claims import Claims
from cdn77_exporter.flow.ordering import Places
from cdn77_exporter.flow.stages import (
    Aggregator,
    Batch,
    Context,
    Countable,
    Deleter,
    Fetcher,
    FileDecoder,
    Lister,
    Pusher,
    Receipt,
)
from tests.support.virtual_time import Inline, VirtualClock, simulate
from tests.support.world import InlineState, Said, Trouble

NOW_MS = int(datetime(2026, 1, 10, 14, 40, 4, tzinfo=UTC).timestamp() * 1000)
HOUR = "logs/20260110/14/"
TICK = NOW_MS // 15_000 * 15


def _file(number: int, shard: int = 0, etag: str = "etag") -> LogFile:
    return LogFile(f"{HOUR}rtl.w+{shard}+{number}.ndjson.gz", etag, 100, NOW_MS - 1000 + number)


@dataclass
class _Bench:
    """What a stage stands on: a state in memory, and a context that remembers what was said."""

    said: Said = field(default_factory=Said)
    trouble: Trouble = field(default_factory=Trouble)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    database: Database = field(default_factory=lambda: Database(":memory:"))

    def __post_init__(self) -> None:
        self.state = InlineState(self.database)
        self.clock = VirtualClock(NOW_MS)
        self.context = Context(
            clock=self.clock,
            report=self.said,
            problems=self.trouble,
            stop=self.stop,
            claims=Claims(),
            watermark=Watermark(idle_seconds=120, lag_seconds=180),
            places=Places(4),
        )

    def counted(self, *files: LogFile, due: int = TICK, requests: Iterable[Request] = ()) -> None:
        """Commit files and requests."""
        rows = [CountedFile(file.key, file.etag, due, file.size, file.modified_ms) for file in files]
        meta = {"settled": TICK, "emitted": TICK}
        self.database.commit(Changes(meta, [], [], [], [], [], b"", [], 0, [], rows, list(requests)))

    @property
    def acknowledged(self) -> int:
        snapshot = self.database.load()
        return snapshot.meta.get("acknowledged", 0) if snapshot else 0


# list


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


async def _listed(
    bench: _Bench, listing: _Listing, seconds: float, *, interval: float = 60, most: int = 100, keep_files: bool = False
) -> list[LogFile]:
    """What a lister puts out in some seconds."""
    outbox: Channel[LogFile] = Channel(most)
    asyncio.get_running_loop().call_later(seconds, bench.stop.set)
    await Lister(listing, bench.state, bench.context, "logs", interval, 2, keep_files).run(outbox)
    assert outbox.closed
    return [file async for file in outbox]


def test_the_hours_from_the_lookback_to_now_are_listed() -> None:
    """Every hour folder from the lookback to five minutes from now is listed, oldest first, over midnight too."""
    now = int(datetime(2026, 1, 1, 0, 57, tzinfo=UTC).timestamp() * 1000)
    assert hour_prefixes("a/b", now, 2) == [
        "a/b/20251231/22/",
        "a/b/20251231/23/",
        "a/b/20260101/00/",
        "a/b/20260101/01/",
    ]
    assert hour_prefixes("", now - 600_000, 0.5) == ["20260101/00/"]
    assert hour_prefixes("", now - 600_000, 1) == ["20251231/23/", "20260101/00/"]


def test_new_files_are_put_out_once_oldest_first() -> None:
    """What a poll finds new goes out in order and is claimed; later polls, with the same listing, add nothing."""

    async def main() -> None:
        bench = _Bench()
        files = [_file(2), _file(0), _file(1)]
        assert await _listed(bench, _Listing([files[:2], files[2:]]), 130) == [_file(0), _file(1), _file(2)]
        polls = bench.said.of("poll_finished")
        assert [(poll["listed"], poll["new"]) for poll in polls] == [(3, 3), (3, 0), (3, 0)]
        assert bench.context.polled
        assert len(bench.context.claims) == 3

    simulate(main())


def test_a_file_listed_twice_in_a_poll_is_put_out_once() -> None:
    """A listing that repeats a file, on one page or on two, does not make it count twice."""

    async def main() -> None:
        bench = _Bench()
        assert await _listed(bench, _Listing([[_file(0), _file(0)], [_file(0), _file(1)]]), 10) == [_file(0), _file(1)]
        assert bench.context.watermark.shards["0"].outstanding == 2

    simulate(main())


def test_what_the_ledger_has_is_not_listed_again_but_changed_content_is() -> None:
    """Counted, deleted and set aside files are left out by key and ETag; the same key with another ETag is new."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(_file(0), _file(1))
        bench.database.mark_deleted([_file(1).identity])
        bench.database.set_aside(_file(2), "corrupt")
        listing = _Listing([[_file(0), _file(0, etag="other"), _file(1), _file(2)]])
        assert await _listed(bench, listing, 10) == [_file(0, etag="other")]

    simulate(main())


@pytest.mark.parametrize("keep_files", [False, True])
def test_a_file_that_is_back_after_its_deletion_is_deleted_again(keep_files: bool) -> None:
    """A deleted file that is listed again is not counted again; it goes to the deleter, unless files are kept."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(_file(0))
        bench.database.mark_done([], TICK)
        bench.database.mark_deleted([_file(0).identity])
        assert await _listed(bench, _Listing([[_file(0)]]), 10, keep_files=keep_files) == []
        assert [file.key for file in bench.database.deletable(bench.acknowledged, 9)] == (
            [] if keep_files else [_file(0).key]
        )

    simulate(main())


@pytest.mark.parametrize(
    "failure",
    [Transient("no answer"), Misconfigured("access denied", "allow s3:ListBucket")],
    ids=["transient", "wrong"],
)
def test_a_poll_that_fails_claims_nothing_and_the_next_one_finds_all(failure: Exception) -> None:
    """A failure on any page is told with its remedy and costs one poll; readiness knows of it until a poll succeeds."""

    async def main() -> None:
        bench = _Bench()
        listing = _Listing([[_file(0)], failure], [failure], [[_file(0)], [_file(1)]])
        states: list[tuple[bool, int]] = []
        for at in (59, 119, 121):
            asyncio.get_running_loop().call_later(
                at, lambda: states.append(("bucket" in bench.trouble.now, len(bench.context.claims)))
            )
        assert await _listed(bench, listing, 130) == [_file(0), _file(1)]
        assert states == [(True, 0), (True, 0), (False, 2)]
        failed = bench.said.of("poll_failed")
        assert [poll["error"] for poll in failed] == [str(failure)] * 2
        assert all(poll["remedy"] for poll in failed)
        assert bench.context.watermark.shards["0"].outstanding == 2

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

        bench = _Bench()
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
        bench = _Bench()
        bench.clock.skew_ms = skew_ms
        listing = _Paced(bench.context.arrivals, offsets, NOW_MS - skew_ms)
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
        bench = _Bench()
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
                    bench.context.arrivals.counted(shard, modified_ms, modified_ms - 2000)
                yield []

        lister = Lister(Random([]), bench.state, bench.context, "logs", 60, 12)
        asyncio.get_running_loop().call_later(36_000, bench.stop.set)
        await lister.run(Channel(9))
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
        bench = _Bench()
        loop = asyncio.get_running_loop()
        listing = _Paced(bench.context.arrivals, (0, 10, 20), NOW_MS)
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


def test_a_stop_lets_go_of_what_was_listed_and_not_put_out() -> None:
    """Files of a poll that the stop overtakes are no longer claimed, and do not hold the watermark."""

    async def main() -> None:
        bench = _Bench()
        outbox: Channel[LogFile] = Channel(2)
        lister = Lister(_Listing([[_file(number) for number in range(10)]]), bench.state, bench.context, "logs", 60, 2)
        run = asyncio.create_task(lister.run(outbox))
        await asyncio.sleep(1)
        assert len(bench.context.claims) == 10
        bench.stop.set()
        taken = [file async for file in outbox]
        await run
        assert taken == [_file(0), _file(1), _file(2)]
        assert len(bench.context.claims) == 3
        assert bench.context.watermark.shards["0"].outstanding == 3

    simulate(main())


# fetch


class _Fetching:
    """A bucket whose fetches have these outcomes, the last one for ever."""

    def __init__(self, *outcomes: bytes | Exception) -> None:
        self._outcomes = list(outcomes)
        self.times: list[float] = []

    async def fetch(self, file: LogFile) -> bytes:
        self.times.append(asyncio.get_running_loop().time())
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _claimed(bench: _Bench, file: LogFile) -> LogFile:
    bench.context.claims.claim([file])
    bench.context.watermark.listed([file.shard], NOW_MS)
    return file


def _is_free(bench: _Bench, file: LogFile) -> bool:
    """Whether a later poll may take it, and it does not hold the watermark."""
    return bench.context.claims.unclaimed([file]) == [file] and not bench.context.watermark.shards["0"].outstanding


def test_a_fetched_file_is_passed_on_and_stays_claimed() -> None:
    """The body goes on with its file, which is under way until its commit."""

    async def main() -> None:
        bench = _Bench()
        file = _claimed(bench, _file(0))
        fetched = await Fetcher(_Fetching(b"body"), bench.state, bench.context)(file)
        assert fetched is not None
        assert (fetched.file, fetched.body) == (file, b"body")
        assert not _is_free(bench, file)

    simulate(main())


def test_a_fetch_is_tried_three_times_and_waits_as_asked() -> None:
    """Passing failures are retried, not before the wait that the other side asked for; the third may succeed."""

    async def main() -> None:
        bench = _Bench()
        bucket = _Fetching(Transient("reset"), Transient("slow down", 7.0), b"body")
        assert await Fetcher(bucket, bench.state, bench.context)(_claimed(bench, _file(0))) is not None
        assert len(bucket.times) == 3
        assert bucket.times[2] - bucket.times[1] >= 7.0
        assert not bench.said.events

    simulate(main())


@pytest.mark.parametrize(
    ("outcome", "calls", "event"),
    [
        (Transient("reset"), 3, "file_fetch_failed"),
        (Misconfigured("access denied", "allow s3:GetObject"), 1, "file_fetch_failed"),
        (FileGone("x"), 1, "file_gone"),
        (Unreadable("size_mismatch"), 1, "file_unreadable"),
    ],
    ids=["transient", "wrong", "gone", "unreadable"],
)
def test_a_file_that_cannot_be_fetched_is_left_to_a_later_poll(outcome: Exception, calls: int, event: str) -> None:
    """Whatever the failure, it is said once and the file may be taken again; none ends the run."""

    async def main() -> None:
        bench = _Bench()
        file = _claimed(bench, _file(0))
        bucket = _Fetching(outcome)
        assert await Fetcher(bucket, bench.state, bench.context)(file) is None
        assert len(bucket.times) == calls
        assert [name for name, _ in bench.said.events] == [event]
        assert _is_free(bench, file)
        assert isinstance(outcome, Misconfigured) == ("bucket" in bench.trouble.now)

    simulate(main())


def test_a_stop_ends_the_attempts() -> None:
    """After a stop a failing fetch is not tried again."""

    async def main() -> None:
        bench = _Bench()
        bench.stop.set()
        bucket = _Fetching(Transient("reset"))
        assert await Fetcher(bucket, bench.state, bench.context)(_claimed(bench, _file(0))) is None
        assert len(bucket.times) == 1

    simulate(main())


def test_an_unreadable_file_is_set_aside_at_the_third_poll() -> None:
    """Two polls only say so; the third puts it into the ledger with its reason, and then it is known."""

    async def main() -> None:
        bench = _Bench()
        fetcher = Fetcher(_Fetching(Unreadable("checksum_mismatch")), bench.state, bench.context)
        for attempt in (1, 2, 3):
            assert bench.database.aside() == []
            file = _claimed(bench, _file(0))
            assert await fetcher(file) is None
            assert bench.said.of("file_unreadable")[-1]["attempt"] == attempt
            assert _is_free(bench, file)
        assert bench.database.aside() == [(file.key, "etag", "checksum_mismatch", 100)]
        assert bench.said.of("file_set_aside") == [{"key": file.key, "reason": "checksum_mismatch"}]
        assert bench.database.known([file]) == {file.identity}

    simulate(main())


def test_a_file_is_set_aside_later_when_the_state_cannot_be_written() -> None:
    """While the disk refuses, an unreadable file is tried at every poll and set aside as soon as that is possible."""

    async def main() -> None:
        bench = _Bench()
        refusing = True

        class Refusing(InlineState):
            async def set_aside(self, file: LogFile, reason: str) -> None:
                if refusing:
                    raise Transient("disk full")
                await super().set_aside(file, reason)

        fetcher = Fetcher(_Fetching(Unreadable("empty")), Refusing(bench.database), bench.context)
        for _ in range(5):
            assert await fetcher(_claimed(bench, _file(0))) is None
        assert not bench.said.of("file_set_aside")
        refusing = False
        assert await fetcher(_claimed(bench, _file(0))) is None
        assert len(bench.database.aside()) == 1

    simulate(main())


# decode


class _Decoding:
    """Decodes to this outcome, and remembers the bounds it was given."""

    def __init__(self, outcome: Tally | Exception) -> None:
        self._outcome = outcome
        self.bounds: list[tuple[int, int]] = []

    most, width = 4, 2

    async def decode(self, logs: Sequence[RawLog], latest_ms: Sequence[int], oldest_ms: int) -> Bundle:
        bundle = Bundle()
        for latest in latest_ms:
            self.bounds.append((latest, oldest_ms))
            if isinstance(self._outcome, Exception):
                bundle.shares.append(Failure.of(self._outcome))
            else:
                bundle.extend(Bundle([share_of(self._outcome)], self._outcome.ticks))
        return bundle


def test_no_event_counts_later_than_its_upload_or_now() -> None:
    """The decoder is told the upload as the latest time, or now when that is earlier, and a week ago as oldest."""

    async def main() -> None:
        bench = _Bench()
        bench.context.places.take()
        decoding = _Decoding(Tally(newest_ms=5))
        stage = FileDecoder(decoding, bench.state, bench.context)
        early, ahead = LogFile("a", "e", 1, NOW_MS - 5000), LogFile("b", "e", 1, NOW_MS + 3_600_000)
        found = await stage([RawLog(early, b"", 1.5), RawLog(ahead, b"", 2.5)])
        assert found is not None
        assert [(file, share.newest_ms, seconds) for file, share, seconds in found.files] == [
            (early, 5, 1.5),
            (ahead, 5, 2.5),
        ]
        assert decoding.bounds == [(NOW_MS - 5000, NOW_MS - MAX_AGE_MS), (NOW_MS, NOW_MS - MAX_AGE_MS)]
        assert bench.context.places.taken == 1

    simulate(main())


def test_an_undecodable_file_frees_its_place_and_is_tried_again() -> None:
    """A file that cannot be inflated is refused like one that cannot be fetched, and leaves memory."""

    async def main() -> None:
        bench = _Bench()
        stage = FileDecoder(_Decoding(Unreadable("truncated")), bench.state, bench.context)
        for attempt in (1, 2, 3):
            file = _claimed(bench, _file(0))
            bench.context.places.take()
            assert await stage([RawLog(file, b"")]) is None
            assert bench.context.places.taken == 0
            assert _is_free(bench, file)
            assert len(bench.database.aside()) == (attempt == 3)

    simulate(main())


def test_a_decoded_file_has_its_failures_forgotten() -> None:
    """Only failures in a row set a file aside."""

    async def main() -> None:
        bench = _Bench()
        file = _file(0)
        bad = Unreadable("truncated")
        outcomes: list[Tally | Exception] = [bad, bad, Tally(), bad]
        for outcome in outcomes:
            bench.context.places.take()
            await FileDecoder(_Decoding(outcome), bench.state, bench.context)([RawLog(_claimed(bench, file), b"")])
        assert [said["attempt"] for said in bench.said.of("file_unreadable")] == [1, 2, 1]
        assert bench.database.aside() == []

    simulate(main())


# aggregate


def _tally(tick: int, requests: int) -> Tally:
    group = ("stream", "1", "HIT", "pop", "200")
    viewer = ("stream", "192.0.2.1", "web", "US")
    part = TickTally(Sums({group: [requests, 10 * requests, 0, 0]}), Times({viewer: [tick * 1000 - 9] * 2}))
    return Tally({tick: part}, lines=requests, events=requests, newest_ms=tick * 1000 - 9, oldest_ms=tick * 1000 - 9)


def _countable(file: LogFile, tally: Tally) -> Countable:
    return Countable([(file, share_of(tally), 0.1)], tally.ticks)


def test_files_are_under_way_until_their_commit_and_no_batch_precedes_it() -> None:
    """While the state cannot be written nothing goes on and every claim holds; then the same changes are committed."""

    async def main() -> None:
        bench = _Bench()
        refusals = 3

        class Refusing(InlineState):
            async def commit(self, changes: Changes) -> None:
                nonlocal refusals
                if refusals:
                    assert len(batched) == 0
                    assert len(bench.context.claims) == 1
                    refusals -= 1
                    raise Transient("disk full")
                await super().commit(changes)

        timeline = Timeline(Rules(), start_ms=NOW_MS - 120_000, key=b"k" * 32)
        file = _claimed(bench, _file(0))
        bench.context.places.take()
        tallied: Channel[Countable] = Channel(1)
        batched: Channel[Batch] = Channel(9)
        stage = Aggregator(timeline, Refusing(bench.database), bench.context, Inline(), keeps_state=True)
        async with tallied:
            await tallied.put(_countable(file, _tally(TICK, 3)))
        await stage.run(tallied, batched)
        assert refusals == 0
        assert len(bench.said.of("state_commit_failed")) == 3
        assert "state" in dict(bench.trouble.ever)
        assert not bench.trouble.now
        assert _is_free(bench, file)
        assert bench.context.places.taken == 0
        assert bench.database.counts()["counted"] == 1
        assert batched.closed

    simulate(main())


def test_a_place_is_freed_when_its_file_is_counted_not_when_it_is_committed() -> None:
    """What is counted lies in the totals, so its place in memory is free while the commit still waits."""

    async def main() -> None:
        bench = _Bench()
        for _ in range(4):
            bench.context.places.take()
        tallied: Channel[Countable] = Channel(4)
        batched: Channel[Batch] = Channel(9)
        timeline = Timeline(Rules(), start_ms=NOW_MS - 120_000, key=b"k" * 32)
        stage = Aggregator(timeline, bench.state, bench.context, Inline(), keeps_state=True)
        run = asyncio.create_task(stage.run(tallied, batched))
        await asyncio.sleep(7)  # a first commit, after which the next may wait
        for number in range(3):
            await tallied.put(_countable(_claimed(bench, _file(number)), _tally(TICK + 150, 1)))
        await asyncio.sleep(0.5)
        assert bench.context.places.taken == 1
        async with tallied:
            pass
        await run
        assert bench.database.counts()["counted"] == 3

    simulate(main())


def test_files_are_committed_soon_even_when_no_tick_is_complete() -> None:
    """While nothing can be emitted a counted file waits some seconds for its commit, not for the next tick."""

    async def main() -> None:
        bench = _Bench()
        tallied: Channel[Countable] = Channel(4)
        timeline = Timeline(Rules(), start_ms=NOW_MS, key=b"k" * 32)
        stage = Aggregator(timeline, bench.state, bench.context, Inline(), keeps_state=True)
        run = asyncio.create_task(stage.run(tallied, Channel(9)))
        await asyncio.sleep(20)
        assert not run.done()
        await tallied.put(_countable(_claimed(bench, _file(0)), _tally(TICK, 1)))
        await tallied.put(_countable(_claimed(bench, _file(1)), _tally(TICK, 1)))
        await asyncio.sleep(7)
        assert timeline.emitted == 0
        assert bench.database.counts()["counted"] == 2
        assert len(bench.context.claims) == 0
        run.cancel()

    simulate(main())


def test_many_bytes_of_files_do_not_wait_for_their_commit() -> None:
    """What a commit holds has a bound: small files wait for some seconds, a few large ones do not."""

    async def main() -> None:
        bench = _Bench()
        tallied: Channel[Countable] = Channel(4)
        stage = Aggregator(
            Timeline(Rules(), start_ms=NOW_MS, key=b"k" * 32), bench.state, bench.context, Inline(), keeps_state=True
        )
        run = asyncio.create_task(stage.run(tallied, Channel(9)))
        counted = []
        for number, megabytes in enumerate((1, 1, 3, 6, 1, 9)):
            file = LogFile(_file(number).key, "etag", megabytes * 2**20, NOW_MS)
            await tallied.put(_countable(_claimed(bench, file), _tally(TICK, 1)))
            await asyncio.sleep(0.1)
            counted.append(bench.database.counts()["counted"])
        assert counted == [0, 0, 0, 4, 4, 6]
        run.cancel()

    simulate(main())


# push

_Outcome = Exception | None


class _Scripted:
    """A receiver with these answers, None for "taken"; afterwards it takes everything."""

    def __init__(self, *answers: _Outcome) -> None:
        self._answers = list(answers)
        self.bodies: list[bytes] = []
        self.times: list[float] = []

    async def write(self, body: bytes) -> None:
        self.bodies.append(body)
        self.times.append(asyncio.get_running_loop().time())
        answer = self._answers.pop(0) if self._answers else None
        if answer is not None:
            raise answer


def _request(number: int, tick: int) -> Request:
    return Request(number, tick, 10, b"body-%d" % number)


async def _pushed(bench: _Bench, receiver: _Scripted, *batches: Batch, seconds: float = 3600) -> list[int]:
    """The ticks of the receipts for some batches that are committed once the pusher has begun."""
    inbox: Channel[Batch] = Channel(10)
    outbox: Channel[Receipt] = Channel(20)

    async def feed() -> None:
        await asyncio.sleep(1)
        async with inbox:
            for batch in batches:
                bench.counted(requests=batch.requests)
                await inbox.put(batch)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        tasks.create_task(Pusher(receiver, bench.state, bench.context, seconds).run(inbox, outbox))
    return [receipt.through_tick async for receipt in outbox]


def test_an_accepted_batch_is_acknowledged_and_leaves_the_outbox() -> None:
    """Requests go out in order; when all of a batch are accepted its tick is acknowledged and a receipt goes on."""

    async def main() -> None:
        bench = _Bench()
        receiver = _Scripted()
        batches = [
            Batch([_request(1, TICK), _request(2, TICK + 15)], TICK + 15),
            Batch([_request(3, TICK + 30)], TICK + 30),
        ]
        assert await _pushed(bench, receiver, *batches) == [0, TICK + 15, TICK + 30]
        assert receiver.bodies == [b"body-1", b"body-2", b"body-3"]
        assert bench.database.outbox() == []
        assert bench.acknowledged == TICK + 30
        pushed = bench.said.of("batch_pushed")
        assert [(one["first_tick"], one["last_tick"], one["requests"], one["samples"]) for one in pushed] == [
            (TICK, TICK + 15, 2, 20),
            (TICK + 30, TICK + 30, 1, 10),
        ]

    simulate(main())


def test_a_batch_without_requests_is_acknowledged() -> None:
    """A tick on which there is nothing to write is complete all the same."""

    async def main() -> None:
        bench = _Bench()
        assert await _pushed(bench, _Scripted(), Batch([], TICK)) == [0, TICK]
        assert bench.acknowledged == TICK
        assert not bench.said.of("batch_pushed")

    simulate(main())


def test_what_an_earlier_process_left_goes_first_byte_for_byte() -> None:
    """Requests left in the outbox are sent before all others, and acknowledge their own ticks."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(requests=[_request(1, TICK), _request(2, TICK + 15)])
        receiver = _Scripted()
        assert await _pushed(bench, receiver, Batch([_request(3, TICK + 30)], TICK + 30)) == [0, TICK + 15, TICK + 30]
        assert receiver.bodies == [b"body-1", b"body-2", b"body-3"]
        assert bench.database.outbox() == []

    simulate(main())


def test_a_400_for_what_may_have_been_stored_before_means_that_it_was() -> None:
    """A request of an earlier process, or one whose answer was lost, is done when the receiver says it has it."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(requests=[_request(1, TICK)])
        receiver = _Scripted(Refused(400, "out of order sample"), Transient("reset"), Refused(400, "duplicate sample"))
        assert await _pushed(bench, receiver, Batch([_request(2, TICK + 15)], TICK + 15)) == [0, TICK, TICK + 15]
        assert receiver.bodies == [b"body-1", b"body-2", b"body-2"]
        assert not bench.said.of("request_refused")
        assert not bench.trouble.now

    simulate(main())


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_told_not_resent_and_not_acknowledged(status: int) -> None:
    """A first refusal is said with the receiver's words; no receipt goes on until a later batch has made it good."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(_file(0), due=TICK)
        receiver = _Scripted(Refused(status, "too many labels"))
        first = Batch([_request(1, TICK), _request(2, TICK)], TICK)
        assert await _pushed(bench, receiver, first, Batch([], TICK + 15)) == [0]
        assert receiver.bodies == [b"body-1", b"body-2"]
        assert bench.said.of("request_refused") == [{"status": status, "words": "too many labels"}]
        assert bench.database.outbox() == []
        assert bench.acknowledged == 0
        assert bench.database.deletable(bench.acknowledged, 9) == []

    simulate(main())


def test_the_next_accepted_tick_heals_a_refused_one() -> None:
    """Counters are cumulative: once a later batch is accepted whole, the refused tick's files may go."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(_file(0), due=TICK)
        receiver = _Scripted(Refused(400, "x"), None, Refused(400, "y"))
        batches = [
            Batch([_request(1, TICK), _request(2, TICK)], TICK),
            Batch([_request(3, TICK + 15)], TICK + 15),
            Batch([], TICK + 30),
            Batch([_request(4, TICK + 45)], TICK + 45),
        ]
        assert await _pushed(bench, receiver, *batches) == [0, TICK + 45]
        assert [file.key for file in bench.database.deletable(bench.acknowledged, 9)] == [_file(0).key]
        assert "receiver" not in bench.trouble.now

    simulate(main())


def test_a_misconfigured_receiver_keeps_the_request() -> None:
    """401 and the like are said with a remedy and tried slowly for ever; nothing is lost or acknowledged meanwhile."""

    async def main() -> None:
        bench = _Bench()
        wrong = Misconfigured("401 unauthorized", "set PROMETHEUS_USER")
        receiver = _Scripted(*[wrong] * 500)
        loop = asyncio.get_running_loop()
        held: list[tuple[int, int, bool]] = []
        loop.call_later(
            14_000,
            lambda: held.append((len(bench.database.outbox()), bench.acknowledged, "receiver" in bench.trouble.now)),
        )
        assert await _pushed(bench, receiver, Batch([_request(1, TICK)], TICK)) == [0, TICK]
        assert held == [(1, 0, True)]
        assert receiver.bodies == [b"body-1"] * 501
        assert loop.time() > 4 * 3600
        assert bench.said.of("receiver_misconfigured")[0] == {"error": str(wrong), "remedy": "set PROMETHEUS_USER"}
        assert not bench.trouble.now

    simulate(main())


def test_a_passing_failure_is_retried_with_growing_waits() -> None:
    """Transient failures are retried in order, not before what Retry-After asks for, then acknowledged."""

    async def main() -> None:
        bench = _Bench()
        receiver = _Scripted(Transient("503", 11.0), Transient("reset"), Transient("429", 3.0))
        assert await _pushed(bench, receiver, Batch([_request(1, TICK), _request(2, TICK)], TICK)) == [0, TICK]
        assert receiver.bodies == [b"body-1"] * 4 + [b"body-2"]
        assert receiver.times[1] >= 11
        assert receiver.times[3] - receiver.times[2] >= 3
        retries = bench.said.of("push_retried")
        assert [(one["attempt"], one["error"]) for one in retries] == [(1, "503"), (2, "reset"), (3, "429")]
        assert "receiver" in dict(bench.trouble.ever)
        assert not bench.trouble.now

    simulate(main())


def test_a_stop_leaves_what_the_receiver_does_not_take() -> None:
    """After the stop one failed attempt is enough: nothing is receipted, and the state still has every request."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(requests=[_request(1, TICK), _request(2, TICK)])
        receiver = _Scripted(Transient("503"), Transient("503"), Transient("503"))
        inbox, outbox = Channel[Batch](4, "in"), Channel[Receipt](4, "out")
        pusher = Pusher(receiver, bench.state, bench.context, 3600, leaves=True)
        running = asyncio.create_task(pusher.run(inbox, outbox))
        await asyncio.sleep(0)
        bench.stop.set()
        async with inbox:
            await inbox.put(Batch([_request(3, TICK)], TICK))
        await running
        assert len(receiver.bodies) <= 2
        assert [number for number, _, _ in bench.database.outbox()] == [1, 2]
        assert bench.said.of("outbox_left") == [{"requests": 2}]
        assert [receipt async for receipt in outbox] == [Receipt(0)]

    simulate(main())


def test_a_request_that_never_passes_is_given_up_after_its_time() -> None:
    """After the time for giving up one request is set aside, without a receipt, and the next goes out."""

    async def main() -> None:
        bench = _Bench()
        loop = asyncio.get_running_loop()

        class Poisoned(_Scripted):
            async def write(self, body: bytes) -> None:
                await super().write(body)
                if body == b"body-1":
                    raise Transient("500 too old sample")

        receiver = Poisoned()
        batches = [Batch([_request(1, TICK)], TICK), Batch([_request(2, TICK + 15)], TICK + 15)]
        assert await _pushed(bench, receiver, *batches, seconds=600) == [0, TICK + 15]
        assert 600 <= loop.time() < 700
        (aside,) = bench.said.of("request_dropped")
        assert aside["error"] == "500 too old sample"
        assert aside["attempts"] == receiver.bodies.count(b"body-1")
        assert receiver.bodies[-1] == b"body-2"
        assert bench.database.outbox() == []

    simulate(main())


def test_marking_as_done_is_tried_until_the_state_can_be_written() -> None:
    """No receipt goes on before the state has it; a full disk delays it."""

    async def main() -> None:
        bench = _Bench()
        refusals = 3

        class Refusing(InlineState):
            async def mark_done(self, numbers: Sequence[int], acknowledged: int | None) -> None:
                nonlocal refusals
                if refusals:
                    refusals -= 1
                    raise Transient("disk full")
                await super().mark_done(numbers, acknowledged)

        bench.state = Refusing(bench.database)
        assert await _pushed(bench, _Scripted(), Batch([_request(1, TICK)], TICK)) == [0, TICK]
        assert len(bench.said.of("state_commit_failed")) == 3
        assert bench.acknowledged == TICK
        assert "state" not in bench.trouble.now

    simulate(main())


def test_an_error_that_is_no_answer_ends_the_stage_without_a_receipt() -> None:
    """A fault in the program is no refusal: it ends the stage, and the request stays."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(requests=[_request(1, TICK)])
        inbox: Channel[Batch] = Channel(1)
        outbox: Channel[Receipt] = Channel(2)
        with pytest.raises(ValueError, match="a fault"):
            await Pusher(_Scripted(ValueError("a fault")), bench.state, bench.context, 60).run(inbox, outbox)
        assert await outbox.get() == Receipt(0)
        assert len(outbox) == 0
        assert not outbox.closed
        assert len(bench.database.outbox()) == 1

    simulate(main())


# delete


class _Deleting:
    """A bucket that deletes, except where `refuse` gives a reason or an exception."""

    def __init__(self, refuse: Callable[[LogFile], str | Exception | None] = lambda _: None) -> None:
        self._refuse = refuse
        self.asked: list[list[str]] = []
        self.deleted: list[str] = []

    async def delete(self, files: Sequence[LogFile]) -> dict[tuple[str, str], str]:
        self.asked.append([file.key for file in files])
        failures = {}
        for file in files:
            refusal = self._refuse(file)
            if isinstance(refusal, Exception):
                raise refusal
            if refusal:
                failures[file.identity] = refusal
            else:
                self.deleted.append(file.key)
        return failures


async def _deleted(
    bench: _Bench, bucket: _Deleting, receipts: int = 1, *, through: int = TICK, keep_files: bool = False
) -> None:
    inbox: Channel[Receipt] = Channel(10)
    async with inbox:
        for _ in range(receipts):
            await inbox.put(Receipt(through))
    await Deleter(bucket, bench.state, bench.context, keep_files).run(inbox)


def test_only_files_with_every_tick_acknowledged_are_deleted() -> None:
    """A receipt has exactly the files deleted that are due by its tick, whatever else the state says."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(_file(0), due=TICK)
        bench.counted(_file(1), due=TICK + 15)
        bench.counted(_file(2), due=TICK + 30)
        bucket = _Deleting()
        bench.database.mark_done([], TICK + 60)
        await _deleted(bench, bucket, through=TICK - 15)
        assert bucket.asked == []
        await _deleted(bench, bucket, receipts=3, through=TICK + 15)
        assert bucket.asked == [[_file(0).key, _file(1).key]]
        assert bench.said.of("files_deleted") == [{"count": 2}]
        assert len(bench.said.of("file_deleted")) == 2
        assert bench.database.counts()["counted"] == 1

    simulate(main())


def test_a_file_without_events_is_deleted_with_the_next_receipt() -> None:
    """Nothing has to be delivered for it."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(_file(0), due=0)
        bucket = _Deleting()
        await _deleted(bench, bucket, through=0)
        assert bucket.deleted == [_file(0).key]

    simulate(main())


def test_files_that_cannot_be_deleted_are_tried_again_and_the_others_are_gone() -> None:
    """A failure of one file holds no other; it stays in the ledger, is told, and is tried with the next receipt."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(*[_file(number) for number in range(5)])
        bucket = _Deleting(lambda file: "AccessDenied" if file.sequence == 2 else None)
        await _deleted(bench, bucket)
        assert sorted(bucket.deleted) == [_file(number).key for number in (0, 1, 3, 4)]
        assert bench.said.of("delete_failed")[-1] == {"count": 1, "error": "AccessDenied"}
        assert "deletion" in bench.trouble.now
        bucket._refuse = lambda _: None
        await _deleted(bench, bucket)
        assert bucket.asked[1] == [_file(2).key]
        assert not bench.trouble.now
        assert bench.database.counts()["done"] == 5

    simulate(main())


def test_many_files_that_cannot_be_deleted_hold_up_no_others() -> None:
    """However many files refuse to go, those that can be deleted are."""

    async def main() -> None:
        bench = _Bench()
        stuck = [LogFile(f"a-{number:05d}", "etag", 1, 1) for number in range(1200)]
        free = [LogFile(f"b-{number:05d}", "etag", 1, 1) for number in range(30)]
        bench.counted(*stuck, *free)
        bucket = _Deleting(lambda file: "AccessDenied" if file.key.startswith("a") else None)
        await _deleted(bench, bucket, receipts=3)
        assert len(bucket.deleted) == 30
        assert bench.database.counts()["counted"] == 1200

    simulate(main())


def test_all_that_is_due_goes_in_parts_of_a_thousand() -> None:
    """One receipt lets go everything that is due, however much, in bounded requests."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(*[_file(number) for number in range(2300)])
        bucket = _Deleting()
        await _deleted(bench, bucket)
        assert [len(part) for part in bucket.asked] == [1000, 1000, 300]
        assert bench.database.counts()["done"] == 2300

    simulate(main())


@pytest.mark.parametrize("failure", [Transient("reset"), Misconfigured("denied", "allow s3:DeleteObject")])
def test_a_deletion_that_fails_whole_is_tried_with_the_next_receipt(failure: Exception) -> None:
    """Neither a passing failure nor a missing right ends the run or forgets a file."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(_file(0), _file(1))
        answers: list[Exception | None] = [failure, None, None]
        bucket = _Deleting(lambda _: answers.pop(0))
        await _deleted(bench, bucket, receipts=2)
        assert len(bucket.asked) == 2
        (said,) = bench.said.of("delete_failed")
        assert str(failure) in str(said["error"])
        assert bench.database.counts()["done"] == 2
        assert not bench.trouble.now

    simulate(main())


def test_a_file_that_changed_after_it_was_counted_is_not_deleted() -> None:
    """Its new content is another file, to be counted; the ledger is done with the old one."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(_file(0), _file(1))
        bucket = _Deleting(lambda file: "changed" if file.sequence == 0 else None)
        await _deleted(bench, bucket, receipts=2)
        assert bucket.asked == [[_file(0).key, _file(1).key]]
        assert bench.said.of("file_changed") == [{"key": _file(0).key}]
        assert bench.said.of("files_deleted") == [{"count": 1}]
        assert len(bench.said.of("file_deleted")) == 1
        assert not bench.said.of("delete_failed")
        assert bench.database.known([_file(0), _file(0, etag="new")]) == {_file(0).identity}

    simulate(main())


def test_kept_files_are_done_without_being_deleted() -> None:
    """With KEEP_FILES nothing is asked of the bucket; the ledger remembers that the files are done."""

    async def main() -> None:
        bench = _Bench()
        bench.counted(_file(0))
        bucket = _Deleting()
        await _deleted(bench, bucket, receipts=2, keep_files=True)
        assert bucket.asked == []
        assert not bench.said.events
        assert bench.database.counts()["done"] == 1

    simulate(main())
