"""The deleter by itself: a file goes because of a receipt, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from cdn77_exporter.core.errors import Misconfigured, Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.stages.delete import Deleter
from cdn77_exporter.flow.stages.push import Receipt
from tests.support.stage_bench import TICK, StageBench, log_file
from tests.support.virtual_time import simulate


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
    bench: StageBench, bucket: _Deleting, receipts: int = 1, *, through: int = TICK, keep_files: bool = False
) -> None:
    inbox: Channel[Receipt] = Channel(1)  # so that they come one after the other
    deleter = Deleter(bench.common, bucket, bench.state, keep_files)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(deleter.run(inbox))
        async with inbox:
            for _ in range(receipts):
                await inbox.put(Receipt(through))


def test_only_files_with_every_tick_acknowledged_are_deleted() -> None:
    """A receipt has exactly the files deleted that are due by its tick, whatever else the state says."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0), due=TICK)
        bench.counted(log_file(1), due=TICK + 15)
        bench.counted(log_file(2), due=TICK + 30)
        bucket = _Deleting()
        bench.database.mark_done([], TICK + 60)
        await _deleted(bench, bucket, through=TICK - 15)
        assert bucket.asked == []
        await _deleted(bench, bucket, receipts=3, through=TICK + 15)
        assert bucket.asked == [[log_file(0).key, log_file(1).key]]
        assert bench.said.of("files_deleted") == [{"count": 2}]
        assert len(bench.said.of("file_deleted")) == 2
        assert bench.database.counts()["counted"] == 1

    simulate(main())


def test_receipts_that_wait_are_one() -> None:
    """The newest covers all before it, so that a slow bucket is not asked once for each."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0), due=TICK)
        bench.counted(log_file(1), due=TICK + 15)
        bucket = _Deleting()
        inbox: Channel[Receipt] = Channel(2)
        async with inbox:
            await inbox.put(Receipt(TICK))
            await inbox.put(Receipt(TICK + 15))
        await Deleter(bench.common, bucket, bench.state, keep_files=False).run(inbox)
        assert bucket.asked == [[log_file(0).key, log_file(1).key]]

    simulate(main())


def test_a_file_without_events_is_deleted_with_the_next_receipt() -> None:
    """Nothing has to be delivered for it; but as long as there was no event in any file, nothing is deleted."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0), due=0)
        bucket = _Deleting()
        await _deleted(bench, bucket, through=0)
        assert bucket.deleted == []
        bench.counted(log_file(1), due=2 * TICK)
        await _deleted(bench, bucket, through=0)
        assert bucket.deleted == [log_file(0).key]

    simulate(main())


@pytest.mark.guarantee("bucket.refused_name")
def test_files_that_cannot_be_deleted_are_tried_again_and_the_others_are_gone() -> None:
    """A failure of one file holds no other; it stays in the ledger, is told, and is tried with the next receipt."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(*[log_file(number) for number in range(5)])
        bucket = _Deleting(lambda file: "AccessDenied" if file.sequence == 2 else None)
        await _deleted(bench, bucket)
        assert sorted(bucket.deleted) == [log_file(number).key for number in (0, 1, 3, 4)]
        assert bench.said.of("delete_failed")[-1] == {"count": 1, "error": "AccessDenied"}
        assert "deletion" in bench.trouble.now
        bucket._refuse = lambda _: None
        await _deleted(bench, bucket)
        assert bucket.asked[1] == [log_file(2).key]
        assert not bench.trouble.now
        assert bench.database.counts()["done"] == 5

    simulate(main())


@pytest.mark.guarantee("bucket.refused_name")
@pytest.mark.parametrize("bad", [{7}, {0, 1}, {3, 150, 299}, set(range(40))], ids=len)
@pytest.mark.parametrize("failure", [Transient("500"), Misconfigured("denied", "allow s3:DeleteObject")])
def test_files_with_which_whole_requests_fail_hold_up_no_others(failure: Exception, bad: set[int]) -> None:
    """All others are deleted within a few receipts; from then on a request fails for each of the bad ones alone."""

    async def main() -> None:
        bench = StageBench()
        files = [log_file(number) for number in range(300)]
        keys = {files[number].key for number in bad}
        bench.counted(*files)
        bucket = _Deleting(lambda file: failure if file.key in keys else None)
        await _deleted(bench, bucket, receipts=4 + len(bad))
        assert set(bucket.deleted) == {file.key for file in files} - keys
        assert bench.database.counts()["counted"] == len(bad)
        assert str(failure) in bench.trouble.now["deletion"]
        assert {len(part) for part in bucket.asked[-min(len(bad), 8) :]} == {1}
        bucket._refuse = lambda _: None
        await _deleted(bench, bucket, receipts=2)
        assert not bench.trouble.now
        assert bench.database.counts()["done"] == 300

    simulate(main())


def test_a_bucket_that_deletes_nothing_is_told_and_asked_little() -> None:
    """From the second receipt on it is a problem; no receipt costs more than a few requests, however many files."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(*[log_file(number) for number in range(500)])
        bucket = _Deleting(lambda _: Transient("500"))
        await _deleted(bench, bucket)
        assert not bench.trouble.now
        await _deleted(bench, bucket, receipts=5)
        assert "500" in bench.trouble.now["deletion"]
        assert len(bucket.asked) < 6 * 20
        assert bench.database.counts()["counted"] == 500

    simulate(main())


def test_many_files_that_cannot_be_deleted_hold_up_no_others() -> None:
    """However many files refuse to go, those that can be deleted are."""

    async def main() -> None:
        bench = StageBench()
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
        bench = StageBench()
        bench.counted(*[log_file(number) for number in range(2300)])
        bucket = _Deleting()
        await _deleted(bench, bucket)
        assert [len(part) for part in bucket.asked] == [1000, 1000, 300]
        assert bench.database.counts()["done"] == 2300

    simulate(main())


@pytest.mark.parametrize("failure", [Transient("reset"), Misconfigured("denied", "allow s3:DeleteObject")])
def test_a_deletion_that_fails_whole_is_tried_with_the_next_receipt(failure: Exception) -> None:
    """Neither a passing failure nor a missing right ends the run or forgets a file."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0), log_file(1))
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
    """Its new content is to be looked at; the ledger is done with the old one."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0), log_file(1))
        bucket = _Deleting(lambda file: "changed" if file.sequence == 0 else None)
        await _deleted(bench, bucket, receipts=2)
        assert bucket.asked == [[log_file(0).key, log_file(1).key]]
        assert bench.said.of("file_changed") == [{"key": log_file(0).key}]
        assert bench.said.of("files_deleted") == [{"count": 1}]
        assert len(bench.said.of("file_deleted")) == 1
        assert not bench.said.of("delete_failed")
        assert bench.is_new(log_file(0)) == []
        assert bench.is_new(log_file(0, etag="new")) == [log_file(0, etag="new")]

    simulate(main())


def test_kept_files_are_done_without_being_deleted() -> None:
    """With KEEP_FILES nothing is asked of the bucket; the ledger remembers that the files are done."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0))
        bucket = _Deleting()
        await _deleted(bench, bucket, receipts=2, keep_files=True)
        assert bucket.asked == []
        assert not bench.said.events
        assert bench.database.counts()["done"] == 1

    simulate(main())
