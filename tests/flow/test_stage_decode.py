"""The decoder stage by itself: the bounds of times, and files that cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cdn77_exporter.core.decoded import Decoded, Failure, FileStats
from cdn77_exporter.core.errors import Transient, Unreadable
from cdn77_exporter.core.files import MAX_AGE_MS, LogFile, RawLog
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import At
from cdn77_exporter.flow.stages.decode import DecodedFiles, FileDecoder
from tests.support.stage_bench import NOW_MS, StageBench, counted_fields, log_file
from tests.support.virtual_time import simulate


class _Decoding:
    """Decodes to this outcome, and remembers the bounds it was given."""

    def __init__(self, outcome: FileStats | Exception) -> None:
        self._outcome = outcome
        self.bounds: list[tuple[int, int]] = []
        self.raises = False

    most, width = 4, 2

    async def decode(self, logs: Sequence[RawLog], latest_ms: Sequence[int], oldest_ms: int) -> Decoded:
        if self.raises and isinstance(self._outcome, Exception):
            raise self._outcome
        decoded = Decoded()
        for latest in latest_ms:
            self.bounds.append((latest, oldest_ms))
            if isinstance(self._outcome, Exception):
                decoded.files.append(Failure.of(self._outcome))
            else:
                decoded.files.append(self._outcome)
        return decoded


async def _decoded(bench: StageBench, decoder: _Decoding, *logs: RawLog) -> list[DecodedFiles]:
    """What the decoder makes of some files that were fetched."""
    inbox: Channel[RawLog] = Channel(10)
    outlet: Channel[DecodedFiles] = Channel(10)
    async with inbox:
        for log in logs:
            bench.bring(log.file, At.FETCHED)
            await inbox.put(log)
    await FileDecoder(bench.common, bench.in_flight, decoder, bench.state).run(inbox, outlet)
    return [decoded async for decoded in outlet]


def test_no_event_counts_later_than_its_upload_or_now() -> None:
    """The decoder is told the upload as the latest time, or now when that is earlier, and a week ago as oldest."""

    async def main() -> None:
        bench = StageBench()
        decoding = _Decoding(FileStats(newest_ms=5))
        early, ahead = LogFile("a", "e", 1, NOW_MS - 5000), LogFile("b", "e", 1, NOW_MS + 3_600_000)
        (found,) = await _decoded(bench, decoding, RawLog(early, b"", 1.5), RawLog(ahead, b"", 2.5))
        assert [(one.file, one.stats.newest_ms, one.fetch_seconds) for one in found.files] == [
            (early, 5, 1.5),
            (ahead, 5, 2.5),
        ]
        assert decoding.bounds == [(NOW_MS - 5000, NOW_MS - MAX_AGE_MS), (NOW_MS, NOW_MS - MAX_AGE_MS)]
        assert bench.in_flight.count(At.DECODED) == bench.in_flight.permits.taken == 2

    simulate(main())


def test_an_undecodable_file_frees_its_permit_and_is_tried_again() -> None:
    """A file that cannot be inflated is refused like one that cannot be fetched, and leaves memory."""

    async def main() -> None:
        bench = StageBench()
        for attempt in (1, 2, 3):
            assert await _decoded(bench, _Decoding(Unreadable("truncated")), RawLog(log_file(0), b"")) == []
            assert bench.is_free(log_file(0))
            assert len(bench.database.aside()) == (attempt == 3)

    simulate(main())


def test_a_decoded_file_has_its_failures_forgotten() -> None:
    """Only failures in a row set a file aside."""

    async def main() -> None:
        bench = StageBench()
        file = log_file(0)
        bad = Unreadable("truncated")
        outcomes: list[FileStats | Exception] = [bad, bad, FileStats(), bad]
        for outcome in outcomes:
            for decoded in await _decoded(bench, _Decoding(outcome), RawLog(file, b"")):
                for one in decoded.files:
                    bench.in_flight.move(one.file, At.COUNTED, **counted_fields())
                    bench.in_flight.move(one.file, At.COMMITTED)
        assert [said["attempt"] for said in bench.said.of("file_unreadable")] == [1, 2, 1]
        assert bench.database.aside() == []

    simulate(main())


def test_a_stop_while_nothing_decodes_leaves_the_files_to_a_later_process() -> None:
    """While the decoders cannot be reached files wait, which is told; a stop ends the wait and frees them."""

    async def main() -> None:
        bench = StageBench()
        asyncio.get_running_loop().call_later(100, bench.stop.set)
        decoding = _Decoding(Transient("no scheduler"))
        decoding.raises = True
        assert await _decoded(bench, decoding, RawLog(log_file(0), b""), RawLog(log_file(1), b"")) == []
        assert asyncio.get_running_loop().time() == pytest.approx(100)
        assert len(bench.said.of("decoders_unavailable")) > 3
        assert "decoders" in bench.trouble.now
        assert bench.said.of("file_fetch_failed") == [
            {"key": log_file(number).key, "error": "no scheduler"} for number in (0, 1)
        ]
        assert bench.is_free(log_file(0))
        assert len(bench.in_flight) == 0

    simulate(main())
