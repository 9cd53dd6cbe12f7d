"""The fetcher by itself: what it passes on, how often it tries, and what it leaves to a later poll."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cdn77_exporter.core.errors import FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.files import LogFile, RawLog
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import At
from cdn77_exporter.flow.ports import Fetches
from cdn77_exporter.flow.stages.fetch import FetchedByDecoder, Fetcher
from tests.support.stage_bench import StageBench, log_file
from tests.support.virtual_time import simulate
from tests.support.world import InlineState


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


async def _fetched(bench: StageBench, bucket: Fetches, *files: LogFile, ledger: Any = None) -> list[RawLog]:
    """What the fetcher makes of some files that were listed."""
    inbox: Channel[LogFile] = Channel(10)
    outlet: Channel[RawLog] = Channel(10)
    async with inbox:
        for file in files:
            await inbox.put(bench.bring(file, At.LISTED))
    await Fetcher(bench.common, bench.in_flight, bucket, ledger or bench.state, bench.watermark).run(inbox, outlet)
    return [log async for log in outlet]


def test_a_fetched_file_is_passed_on_and_stays_in_memory() -> None:
    """The body goes on with its file, which keeps its permit."""

    async def main() -> None:
        bench = StageBench()
        (fetched,) = await _fetched(bench, _Fetching(b"body"), log_file(0))
        assert (fetched.file, fetched.body) == (log_file(0), b"body")
        assert bench.in_flight.files(At.FETCHED) == [log_file(0)]
        assert bench.in_flight.permits.taken == 1

    simulate(main())


def test_files_that_their_decoders_fetch_pass_without_bytes() -> None:
    """They take their permits all the same, so that the bound on files in memory holds for a cluster, too."""

    async def main() -> None:
        bench = StageBench()
        found = await _fetched(bench, FetchedByDecoder(), log_file(0), log_file(1, shard=1))
        assert [(log.file.shard, log.body) for log in found] == [("0", b""), ("1", b"")]
        assert bench.in_flight.permits.taken == 2

    simulate(main())


def test_a_fetch_is_tried_three_times_and_waits_as_asked() -> None:
    """Passing failures are retried, not before the wait that the other side asked for; the third may succeed."""

    async def main() -> None:
        bench = StageBench()
        bucket = _Fetching(Transient("reset"), Transient("slow down", 7.0), b"body")
        assert len(await _fetched(bench, bucket, log_file(0))) == 1
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
        bench = StageBench()
        bucket = _Fetching(outcome)
        assert await _fetched(bench, bucket, log_file(0)) == []
        assert len(bucket.times) == calls
        assert [name for name, _ in bench.said.events] == [event]
        assert bench.is_free(log_file(0))
        assert list(bench.trouble.now) == ["reading"]

    simulate(main())


def test_a_stop_ends_the_attempts() -> None:
    """After a stop a failing fetch is not tried again."""

    async def main() -> None:
        bench = StageBench()

        class Stopping(_Fetching):
            async def fetch(self, file: LogFile) -> bytes:
                bench.stop.set()
                return await super().fetch(file)

        bucket = Stopping(Transient("reset"))
        assert await _fetched(bench, bucket, log_file(0)) == []
        assert len(bucket.times) == 1
        assert bench.is_free(log_file(0))

    simulate(main())


def test_an_unreadable_file_is_set_aside_at_the_third_poll() -> None:
    """Two polls only say so; the third puts it into the ledger with its reason, and then it is known."""

    async def main() -> None:
        bench = StageBench()
        file = log_file(0)
        for attempt in (1, 2, 3):
            assert bench.database.aside() == []
            assert await _fetched(bench, _Fetching(Unreadable("corrupt")), file) == []
            assert bench.said.of("file_unreadable")[-1]["attempt"] == attempt
            assert bench.is_free(file)
        assert [(one.key, one.reason) for one in bench.database.aside()] == [(file.key, "corrupt")]
        (said,) = bench.said.of("file_set_aside")
        assert (said["key"], said["reason"]) == (file.key, "corrupt")
        assert bench.is_new(file) == []

    simulate(main())


def test_a_file_is_set_aside_later_when_the_state_cannot_be_written() -> None:
    """While the disk refuses, an unreadable file is tried at every poll and set aside as soon as that is possible."""

    async def main() -> None:
        bench = StageBench()
        refusing = True

        class Refusing(InlineState):
            async def set_aside(self, file: LogFile, reason: str, detail: str = "") -> None:
                assert bench.in_flight.permits.taken == 1  # while this waits, the file may be in memory
                if refusing:
                    raise Transient("disk full")
                await super().set_aside(file, reason, detail)

        ledger = Refusing(bench.database)
        for _ in range(5):
            assert await _fetched(bench, _Fetching(Unreadable("empty")), log_file(0), ledger=ledger) == []
            assert bench.is_free(log_file(0))
        assert not bench.said.of("file_set_aside")
        refusing = False
        assert await _fetched(bench, _Fetching(Unreadable("empty")), log_file(0), ledger=ledger) == []
        assert len(bench.database.aside()) == 1

    simulate(main())
