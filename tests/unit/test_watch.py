"""What is missing although nothing fails: files that never come, gaps, rejected lines."""

from __future__ import annotations

import asyncio

import pytest

from cdn77_exporter.core.numbering import Numbers
from cdn77_exporter.service.watch import MissingFiles, RejectedLines
from cdn77_exporter.telemetry.conditions import ConditionName
from tests.support.files import event, log_file
from tests.support.service_run import FOLDER, Run, simulate

DAY = 86_400.0


def numbers(missing: int) -> Numbers:
    return Numbers("w", 0, 100, missing=missing)


def test_missing_files_are_told_for_a_day() -> None:
    """A later gap starts the day anew; what comes after all is no longer missing; a shard that is gone is forgotten."""
    missing = MissingFiles()
    assert missing.look({"1": numbers(2), "2": numbers(0)}, 0.0) == {"1": 2}
    assert missing.look({"1": numbers(3)}, DAY / 2) == {"1": 3}
    assert missing.look({"1": numbers(1)}, DAY) == {"1": 1}
    assert missing.look({"1": numbers(1)}, 1.5 * DAY) == {}
    assert missing.look({"1": numbers(4)}, 1.6 * DAY) == {"1": 3}
    assert missing.look({}, 1.7 * DAY) == {}
    assert missing.look({"1": numbers(1)}, 1.8 * DAY) == {"1": 1}


def test_the_share_of_rejected_lines_is_that_of_half_an_hour() -> None:
    """Older lines no longer count, and what is remembered has a bound."""
    rejected = RejectedLines()
    assert rejected.look(100.0, 10.0, 0.0) == (10.0, 100.0)
    for step in range(1, 500):
        found = rejected.look(100.0 + step, 10.0, step * 15.0)
    assert found == (0.0, 120.0)
    assert len(rejected._seen) <= 122


async def put(run: Run, number: int, *, shard: int = 0, bad: int = 0) -> None:
    """Upload a file of 100 lines."""
    ms = run.clock.true_ms() - 30_000
    events = [event(ms, **({"clientRequestPath": 7} if at < bad else {})) for at in range(100)]
    await run.bucket.put(f"{FOLDER}rtl.w+{shard}+{number}.ndjson.gz", log_file(events))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no_files", "no log file has ever been seen under"),
        ("files_missing", "2 files missing in shard 7"),
        ("lines_rejected", "1.0 % of the lines rejected"),
        ("files_set_aside", "1 file set aside"),
    ],
)
def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, what: ConditionName, words: str) -> None:
    """Each is found within a few polls, in the status, the metric and the log, with how much it is."""

    async def main() -> None:
        run = Run(monkeypatch)
        if what == "files_missing":
            for number in (1, 2, 3, 6):
                await put(run, number, shard=7)
        elif what == "lines_rejected":
            await put(run, 1, bad=1)
        elif what == "files_set_aside":
            await run.bucket.put(f"{FOLDER}rtl.w+0+9.ndjson.gz", b"no gzip")
            await put(run, 1)
        async with run.running(400):
            (problem,) = [one for one in run.telemetry.problems.current() if one.what == what]
            assert words in problem.words
            status = run.service.overview.status()
            assert status.verdict.colour != "green"
            assert problem in status.problems
            assert run.gauge("problems", what=what) == 1
            assert run.gauge("problems", what="receiver") == 0
            assert any(said["what"] == what and words in said["words"] for said in run.said("problem_found"))

    simulate(main())


def test_files_that_stop_coming_are_told_until_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `SHARD_WAIT_SECONDS` without one; a file that comes makes the verdict green again."""

    async def main() -> None:
        run = Run(monkeypatch, SHARD_WAIT_SECONDS="200")
        await put(run, 1)
        async with run.running(150):
            assert run.service.overview.status().verdict.colour == "green"
            await asyncio.sleep(200)
            assert run.problems() == {"no_file_lately"}
            assert run.telemetry.problems.ready
            await put(run, 2)
            await asyncio.sleep(100)
            assert run.problems() == set()
            assert run.said("problem_solved")[-1]["what"] == "no_file_lately"

    simulate(main())
