"""Moving files that were set aside: nothing is lost at any step, and what is done twice changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from cdn77_exporter.core.arrivals import Arrivals
from cdn77_exporter.core.errors import Misconfigured, Transient
from cdn77_exporter.core.files import LogFile, LogNames, RawLog
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.edge.state import Database
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import InFlight
from cdn77_exporter.flow.ports import Common
from cdn77_exporter.flow.quarantine import REASON_SUFFIX, Quarantine
from cdn77_exporter.flow.stages.decode import DecodedFiles, FileDecoder
from cdn77_exporter.flow.stages.fetch import Fetcher
from cdn77_exporter.flow.stages.list import Lister
from cdn77_exporter.flow.stages.sweep import Sweeper
from tests.support.fake_bucket import FakeBucket, StoredObject
from tests.support.files import log_file, traffic
from tests.support.virtual_time import VirtualClock, simulate
from tests.support.world import InlineDecoder, InlineState, Said, Trouble

NOW_MS = 1_768_056_568_000
KEY = "logs/20260110/14/rtl.w+1+7.ndjson.gz"
TARGET = f"unreadable/{KEY}"
BROKEN = b"no gzip at all"


class _Killed(Exception):
    """The kill."""


class _Bench:
    """A bucket with one file that the ledger has set aside, and what is needed to move it."""

    def __init__(self, body: bytes = BROKEN) -> None:
        self.clock = VirtualClock(NOW_MS)
        self.bucket = FakeBucket(now_ms=lambda: NOW_MS + 90_000)
        self.bucket.objects[KEY] = StoredObject(body, NOW_MS)
        self.database = Database(":memory:")
        self.state = InlineState(self.database)
        self.said, self.trouble = Said(), Trouble()
        self.database.set_aside(self.bucket.file(KEY), "not_gzip")

    def quarantine(self, bucket: Any = None) -> Quarantine:
        """One of a new process."""
        return Quarantine(bucket or self.bucket, self.state, self.clock, self.said, self.trouble, "unreadable")

    def sweep(self, bucket: Any = None) -> None:
        simulate(self.quarantine(bucket).sweep())

    def check_moved(self, body: bytes = BROKEN) -> None:
        assert self.bucket.keys() == [TARGET, TARGET + REASON_SUFFIX]
        assert self.bucket.objects[TARGET].body == body
        reason = json.loads(self.bucket.objects[TARGET + REASON_SUFFIX].body)
        assert (reason["key"], reason["reason"], reason["size"]) == (KEY, "not_gzip", len(body))
        assert self.database.aside() == []


class _Killing:
    """The bucket until its `last` call of any kind: the process is killed before it does anything, or right after."""

    def __init__(self, bucket: FakeBucket, last: int, after: bool) -> None:
        self._bucket, self._left, self._after = bucket, last, after
        self.struck = False

    def _step(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self.struck = True
        return self._left == 0

    async def _do(self, call: Callable[..., Any], *values: Any) -> Any:
        last = self._step()
        if last and not self._after:
            raise _Killed
        result = await call(*values)
        if last:
            raise _Killed
        return result

    async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        if self._step():
            raise _Killed
        async for page in self._bucket.list_files(prefix):
            yield page

    async def get(self, key: str) -> Any:
        return await self._do(self._bucket.get, key)

    async def put(self, key: str, body: bytes) -> Any:
        return await self._do(self._bucket.put, key, body)

    async def copy(self, source_key: str, target_key: str) -> Any:
        return await self._do(self._bucket.copy, source_key, target_key)

    async def delete(self, files: Sequence[LogFile]) -> Any:
        return await self._do(self._bucket.delete, files)


def test_a_file_that_was_set_aside_is_moved_with_its_reason() -> None:
    """The file lies under the prefix by its own key with the reason beside it, and the ledger has forgotten it."""
    bench = _Bench()
    bench.sweep()
    bench.check_moved()
    assert bench.said.of("file_quarantined") == [{"key": KEY, "target": TARGET, "reason": "not_gzip"}]
    bench.sweep()
    bench.check_moved()
    assert len(bench.said.events) == 1


@pytest.mark.guarantee("crash.during_move")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_step_loses_nothing(after: bool) -> None:
    """Whichever call is the last, the content is in the bucket, and the next process brings the move to its end."""
    for last in range(1, 30):
        bench = _Bench()
        killing = _Killing(bench.bucket, last, after)
        try:
            bench.sweep(killing)
        except _Killed:
            assert BROKEN in {found.body for found in bench.bucket.objects.values()}
        bench.sweep()
        bench.check_moved()
        if not killing.struck:
            break
    else:
        raise AssertionError("the move never came to its end")
    assert last > 5


def test_a_copy_that_is_not_the_original_deletes_nothing() -> None:
    """When what lies at the target afterwards has other bytes, the original stays and the operator is told."""
    bench = _Bench()

    async def copy_badly(source_key: str, target_key: str) -> None:
        bench.bucket.objects[target_key] = StoredObject(b"other bytes...", NOW_MS)

    bench.bucket.copy = copy_badly  # type: ignore[method-assign]
    quarantine = bench.quarantine()
    simulate(quarantine.sweep())
    assert bench.bucket.objects[KEY].body == BROKEN
    assert bench.database.aside()
    assert "move the file by hand" in bench.trouble.now["quarantine"]
    simulate(quarantine.sweep())
    assert len(bench.said.of("quarantine_failed")) == 1


@pytest.mark.parametrize("call", ["copy", "put", "delete", "list_files"])
@pytest.mark.parametrize("error", [Transient("503"), Misconfigured("no right to write", "give it")])
def test_an_error_of_the_bucket_is_said_and_tried_again(call: str, error: Exception) -> None:
    """A failing step ends no process and loses no file; the next sweep succeeds and takes the warning back."""
    bench = _Bench()
    bench.bucket.fail(call, error)
    bench.sweep()
    assert "quarantine" in bench.trouble.now
    assert bench.database.aside()
    bench.sweep()
    bench.check_moved()
    assert bench.trouble.now == {}


def test_without_the_right_to_delete_the_file_stays_set_aside() -> None:
    """The copy and the reason are there, the original too, and it is not tried again as a log file."""
    bench = _Bench()
    bench.bucket.deletion_failures[KEY] = "AccessDenied"
    bench.sweep()
    assert bench.bucket.keys() == [KEY, TARGET, TARGET + REASON_SUFFIX]
    assert "right to delete" in bench.trouble.now["quarantine"]
    assert not bench.database.sort_out([bench.bucket.file(KEY)]).new


def test_a_file_that_was_replaced_meanwhile_stays() -> None:
    """Another content under the same key is another file: the ledger forgets the one that is gone, nothing moves."""
    bench = _Bench()
    bench.bucket.objects[KEY] = StoredObject(b"another content", NOW_MS + 1)
    bench.sweep()
    assert bench.bucket.keys() == [KEY]
    assert bench.database.aside() == []


def test_two_broken_files_of_one_key_are_both_kept() -> None:
    """A second broken content of the same key lies beside the first, under a key with its ETag."""
    bench = _Bench()
    bench.sweep()
    bench.bucket.objects[KEY] = StoredObject(b"broken once more", NOW_MS + 1)
    bench.database.set_aside(bench.bucket.file(KEY), "truncated")
    etag = bench.bucket.file(KEY).etag
    bench.sweep()
    assert bench.bucket.objects[TARGET].body == BROKEN
    assert bench.bucket.objects[f"{TARGET}~{etag}"].body == b"broken once more"
    assert bench.database.aside() == []


def test_the_lister_moves_what_was_set_aside_and_takes_what_comes_back() -> None:
    """Set aside after three polls, moved by the next, counted when a whole file of that key comes in its place."""
    good = log_file(traffic(20))
    bench = _Bench()
    bench.database.release(KEY)
    counted = simulate(_service(bench, replace_after=300, body=good))
    assert [one.file.key for item in counted for one in item.files] == [KEY]
    assert [row["attempt"] for row in bench.said.of("file_unreadable")] == [1, 2, 3]
    assert len(bench.said.of("file_quarantined")) == 1
    assert bench.bucket.objects[TARGET].body == BROKEN


def test_a_file_set_aside_in_its_place_is_tried_again_when_it_is_written_again() -> None:
    """The same bytes with a later time are taken once more, which is said; the same time is not."""
    bench = _Bench(log_file(traffic(20)))
    bench.said.events.clear()
    counted = simulate(_service(bench, replace_after=200, body=log_file(traffic(20)), moves=False))
    assert [one.file.key for item in counted for one in item.files] == [KEY]
    assert bench.said.of("file_released") == [{"key": KEY}]
    assert len(bench.said.of("poll_finished")) > 3


async def _service(bench: _Bench, *, replace_after: float, body: bytes, moves: bool = True) -> list[DecodedFiles]:
    """List, fetch and decode for some minutes; the file is written anew on the way. What was decoded."""
    common = Common(bench.clock, bench.said, bench.trouble, asyncio.Event())
    in_flight, watermark = (
        InFlight(4, bench.said, steady=bench.clock.monotonic, patience=120),
        Watermark(idle_seconds=120, lag_seconds=180),
    )
    quarantine = bench.quarantine() if moves else None
    lister = Lister(
        common,
        in_flight,
        bench.bucket,
        bench.state,
        watermark,
        Arrivals(),
        LogNames("logs"),
        60,
        2,
        Sweeper(common, in_flight, bench.bucket, bench.state, LogNames("logs"), 0),
        quarantine=quarantine,
    )
    fetcher = Fetcher(common, in_flight, bench.bucket, bench.state, watermark)
    decoder = FileDecoder(common, in_flight, InlineDecoder(), bench.state)
    listed: Channel[LogFile] = Channel(8)
    fetched: Channel[RawLog] = Channel(2)
    decoded: Channel[DecodedFiles] = Channel(2)
    found: list[DecodedFiles] = []

    def replace() -> None:
        bench.bucket.objects[KEY] = StoredObject(body, NOW_MS + 300_000)

    async def count() -> None:
        async for files in decoded:
            found.append(files)
            bench.database.release(KEY)
            bench.bucket.objects.pop(KEY)

    loop = asyncio.get_running_loop()
    loop.call_later(replace_after, replace)
    loop.call_later(replace_after + 200, common.stop.set)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lister.run(listed))
        tasks.create_task(fetcher.run(listed, fetched))
        tasks.create_task(decoder.run(fetched, decoded))
        tasks.create_task(count())
    return found
