"""Upkeep: odd files are told, secrets and GeoIP are read again, bounds and the clock are told, gauges are right."""

from __future__ import annotations

import asyncio
import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cdn77_exporter.core.timeline import Timeline
from cdn77_exporter.service.upkeep import UPKEEP_SECONDS
from cdn77_exporter.status.gather import OWED_SHOWN
from tests.support.files import gzip_bytes, stream_name
from tests.support.geo_database import write_city_database
from tests.support.service_run import THROUGH_SECONDS, Run, simulate, state_file

NewRun = Callable[..., Run]


@pytest.fixture
def new_run(monkeypatch: pytest.MonkeyPatch) -> NewRun:
    """Makes a run, inside the loop."""

    def make(**named: object) -> Run:
        return Run(monkeypatch, **named)  # type: ignore[arg-type]

    return make


async def rounds(count: int) -> None:
    """Let upkeep go round so often."""
    await asyncio.sleep(count * UPKEEP_SECONDS)


# Files of another format


@pytest.mark.guarantee("files.no_log")
def test_files_of_another_format_are_a_problem_until_they_are_gone(new_run: NewRun, tmp_path: Path) -> None:
    """The service is not ready while one is set aside, after a restart as well; a good file alone does not end that."""

    async def main() -> None:
        run = new_run(**state_file(tmp_path))
        await run.put()
        key = await run.put(2)
        good = run.bucket.objects[key].body
        await run.bucket.put(key, gzip_bytes(b"a,b,c\n1,2,3\n"))
        async with run.running(THROUGH_SECONDS):
            assert "format" in run.problems()
            assert run.gauge("files_set_aside") == 1
        again = new_run(bucket=run.bucket, began_ms=run.clock.now_ms(), **state_file(tmp_path))
        async with again.running(THROUGH_SECONDS):
            assert "format" in again.problems()
            await again.bucket.put(key, good)
            await asyncio.sleep(THROUGH_SECONDS)
            assert not again.problems()
            assert again.gauge("files_set_aside") == 0

    simulate(main())


# Files that are read again


@pytest.mark.guarantee("copies.secrets")
def test_a_secret_that_was_replaced_is_told_once(new_run: NewRun, tmp_path: Path) -> None:
    """With its variable, and without its value."""

    async def main() -> None:
        path = tmp_path / "secret"
        path.write_text("the-first-secret")
        run = new_run(S3_SECRET_KEY="", S3_SECRET_KEY_FILE=str(path))
        async with run.upkeep():
            await rounds(2)
            assert run.said("secret_reloaded") == []
            path.write_text("the-second-one")
            await rounds(3)
            (told,) = run.said("secret_reloaded")
            assert told["setting"] == "S3_SECRET_KEY"
            assert "the-second-one" not in str(told)

    simulate(main())


@pytest.mark.guarantee("viewers.place", "copies.no_places")
def test_a_geoip_database_is_opened_when_it_comes(
    new_run: NewRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken file is a problem and told once; a good one in its place is used at once, and old answers go."""
    forgotten: list[Timeline] = []
    monkeypatch.setattr(Timeline, "use_places", lambda self, locate: forgotten.append(self))

    async def main() -> None:
        path = tmp_path / "city.mmdb"
        path.write_bytes(b"not a database")
        run = new_run(GEOIP_DB_PATH=str(path))
        async with run.upkeep() as upkeep:
            await rounds(3)
            assert len(run.said("geoip_failed")) == 1
            assert "geoip" in run.problems()
            assert forgotten == []
            path.unlink()
            write_city_database(path)
            await rounds(2)
            assert len(run.said("geoip_loaded")) == 1
            assert "geoip" not in run.problems()
            assert forgotten == [upkeep.timeline]

    simulate(main())


# What is told


@pytest.mark.guarantee("clocks.bucket")
def test_a_clock_that_is_wrong_is_a_problem_until_it_is_right(new_run: NewRun) -> None:
    """It is compared with every answer of the bucket that is new."""

    async def main() -> None:
        run = new_run()
        async with run.upkeep():
            await run.put()
            await rounds(1)
            assert "clock" not in run.problems()
            run.clock.machine_ahead_ms = 90_000
            await run.put()
            await rounds(1)
            assert run.said("clock_skewed")[0]["skew_seconds"] == pytest.approx(90, abs=5)
            assert "clock" in run.problems()
            assert run.gauge("clock_skew_seconds") == pytest.approx(90, abs=5)
            run.clock.machine_ahead_ms = 0
            await run.put()
            await rounds(1)
            assert "clock" not in run.problems()

    simulate(main())


@pytest.mark.guarantee("clocks.nothing_arrives", "clocks.both")
def test_clocks_that_are_apart_are_a_problem_until_one_is_believed(new_run: NewRun) -> None:
    """Without a third witness no time is believed, which is told, in the log and in `/readyz`."""

    async def main() -> None:
        run = new_run()
        async with run.upkeep():
            run.clock.machine_ahead_ms = 1_200_000
            for _ in range(10):
                await run.put()
                await rounds(1)
            assert run.clock.believed_ms() is None
            assert run.said("clock_skewed")[-1]["believed"] is False
            assert "clock_doubtful" in run.problems()
            run.clock.machine_ahead_ms = 0
            for _ in range(10):
                await run.put()
                await rounds(1)
            assert run.clock.believed_ms() is not None
            assert "clock_doubtful" not in run.problems()

    simulate(main())


@pytest.mark.guarantee("files.odd_field", "files.no_address", "files.no_utf8")
def test_fields_that_are_ignored_are_told_with_their_file(new_run: NewRun) -> None:
    """A malformed field, what is no address, and a byte that is no UTF-8: by field, with how many there were."""

    async def main() -> None:
        run = new_run()
        key = await run.put(timeToFirstByteMs=-1, clientIP="198.51.100.xxx", clientRequestUserAgent="@@")
        lines = gzip.decompress(run.bucket.objects[key].body).replace(b"@@", b"\xff")
        await run.bucket.put(key, gzip_bytes(lines))
        async with run.running(THROUGH_SECONDS):
            (told,) = run.said("file_counted")
            ignored = dict.fromkeys(("timeToFirstByteMs", "clientIP", "clientRequestUserAgent"), 3)
            assert (told["events"], told["ignored"]) == (3, ignored)
            shown = {one.field: (one.values, one.key) for one in run.service.overview.status().ignored}
            assert shown == dict.fromkeys(ignored, (3, key))

    simulate(main())


@pytest.mark.guarantee("bucket.odd_entry", "bucket.outside")
def test_what_listings_name_in_vain_is_told(new_run: NewRun) -> None:
    """Entries of listings that are no files are told by reason, with how many there were and the key of one."""

    async def main() -> None:
        run = new_run()
        async with run.upkeep():
            run.bucket.ignored = {"a file without an ETag": (3, "logs/odd")}
            await rounds(2)
            (told,) = run.said("listing_entries_ignored")
            assert (told["reason"], told["entries"], told["key"]) == ("a file without an ETag", 3, "logs/odd")

    simulate(main())


@pytest.mark.guarantee("copies.many_values")
def test_a_bound_that_is_reached_is_told_once(new_run: NewRun) -> None:
    """With the variable, its value, and what it has cost; it does not matter how often upkeep looks."""

    async def main() -> None:
        run = new_run(MAX_STREAMS="1")
        await run.put(events=4, streams=2)
        async with run.running(THROUGH_SECONDS + 3 * UPKEEP_SECONDS):
            (told,) = run.said("limit_reached")
            assert (told["limit"], told["value"], told["refused"]) == ("MAX_STREAMS", 1, run.gauge("limited_requests"))

    simulate(main())


@pytest.mark.guarantee("files.huge_values")
def test_sums_that_end_at_their_bound_are_told(new_run: NewRun) -> None:
    """Once, with how many there were."""

    async def main() -> None:
        run = new_run()
        await run.put(events=1025, responseBytes=2**53)
        async with run.running(THROUGH_SECONDS + 3 * UPKEEP_SECONDS):
            (told,) = run.said("sums_saturated")
            assert told["count"] == 1

    simulate(main())


# Gauges


def test_gauges_show_what_is_in_memory(new_run: NewRun) -> None:
    """A file that is being downloaded is in memory and pending; without one both are zero."""

    async def main() -> None:
        run = new_run()
        await run.put()
        gate = run.bucket.hold("fetch")
        async with run.running(10):
            assert (run.gauge("files_in_memory"), run.gauge("pending_files")) == (1, 1)
            gate.set()
            await asyncio.sleep(THROUGH_SECONDS)
            assert (run.gauge("files_in_memory"), run.gauge("pending_files")) == (0, 0)
            assert [run.gauge("queue_depth", stage=stage) for stage in ("listed", "fetched", "batched")] == [0, 0, 0]

    simulate(main())


def test_gauges_show_what_waits_for_the_receiver(new_run: NewRun) -> None:
    """Requests and their bytes, and the files that wait for them; none when the receiver has taken all."""

    async def main() -> None:
        run = new_run()
        await run.put()
        run.receiver.gate.clear()
        async with run.running(THROUGH_SECONDS):
            assert (run.gauge("outbox_requests") or 0) > 0
            assert (run.gauge("outbox_bytes") or 0) > 0
            run.receiver.gate.set()
            await asyncio.sleep(THROUGH_SECONDS)
            assert (run.gauge("outbox_requests"), run.gauge("outbox_bytes")) == (0, 0)
            assert run.gauge("ledger_files") == 1

    simulate(main())


def test_gauges_show_what_is_counted(new_run: NewRun) -> None:
    """Streams, viewers and series of the timeline, and how far time is complete."""

    async def main() -> None:
        run = new_run()
        assert run.gauge("watermark_lag_seconds") is None
        await run.put(events=6, streams=3)
        async with run.running(THROUGH_SECONDS):
            assert (run.gauge("streams"), run.gauge("viewers")) == (3, 3)
            assert (run.gauge("series") or 0) > 3
            watermark, lag = run.gauge("watermark_timestamp_seconds"), run.gauge("watermark_lag_seconds")
            assert watermark is not None and lag is not None
            assert watermark + lag == pytest.approx(run.clock.now_ms() / 1000, abs=0.01)
            assert run.gauge("commit_seconds") is not None
            assert run.gauge("event_loop_lag_p99_seconds") == pytest.approx(0, abs=1e-6)

    simulate(main())


def test_files_that_are_set_aside_are_counted_and_listed(new_run: NewRun) -> None:
    """The gauge counts them, and the status page names them."""

    async def main() -> None:
        run = new_run()
        key = await run.put()
        await run.bucket.put(key, b"this is not gzip")
        async with run.running(THROUGH_SECONDS):
            assert run.gauge("files_set_aside") == 1
            assert [one.key for one in run.service.overview.status().aside] == [key]

    simulate(main())


@pytest.mark.guarantee("receiver.some_series")
def test_what_the_receiver_does_not_accept_is_told_until_it_is(new_run: NewRun, tmp_path: Path) -> None:
    """Not ready, in a later process as well; the status names the series and since when; nothing stays afterwards."""

    async def main() -> None:
        run = new_run(**state_file(tmp_path))
        key = await run.put(streams=2)
        run.receiver.refuses = {stream_name(1)}
        async with run.running(4 * THROUGH_SECONDS):
            (problem,) = [one for one in run.telemetry.problems.current() if one.what == "delivery"]
            assert stream_name(1) in problem.words
            push = run.service.overview.status().push
            assert run.gauge("owed_series") == push.owed_series > len(push.owed) == OWED_SHOWN
            assert all(stream_name(1) in one.series and one.accepted is None for one in push.owed)
            assert run.said("request_refused")[0]["series"]
        again = new_run(bucket=run.bucket, began_ms=run.clock.now_ms(), **state_file(tmp_path))
        again.receiver.gate.clear()
        async with again.running(THROUGH_SECONDS):
            assert key in again.bucket.objects
            found = {problem.what: problem.words for problem in again.telemetry.problems.current()}
            assert "not accepted at all" in found["owed"]
            again.receiver.gate.set()
            await asyncio.sleep(4 * THROUGH_SECONDS)
            assert not {"delivery", "owed"} & again.problems()
            assert (again.service.overview.status().push.owed_series, again.gauge("owed_series")) == (0, 0)
            assert key not in again.bucket.objects

    simulate(main())


@pytest.mark.guarantee("receiver.too_large")
def test_a_request_limit_is_shown_while_it_holds(new_run: NewRun) -> None:
    """As the most samples and bytes of a request; nothing before the receiver has refused one."""

    async def main() -> None:
        run = new_run()
        await run.put(streams=3)
        async with run.running(1):
            push = run.service.overview.status().push
            assert (push.limit_samples, push.limit_bytes) == (None, None)
            run.receiver.most_bytes = 900
            await asyncio.sleep(THROUGH_SECONDS)
            push = run.service.overview.status().push
            told = run.said("request_limit_learned")[-1]
            assert (push.limit_samples, push.limit_bytes) == (told["samples"], told["size"])
            assert push.limit_samples == run.gauge("request_limit_samples")

    simulate(main())


# The state file


@pytest.mark.guarantee("copies.removed")
def test_a_state_file_that_is_removed_is_told_and_made_again(new_run: NewRun, tmp_path: Path) -> None:
    """At the next round; what is counted before and after is in it at the next start."""

    async def main() -> None:
        run = new_run(**state_file(tmp_path))
        await run.put()
        async with run.running(THROUGH_SECONDS):
            (tmp_path / "state.db").unlink()
            await rounds(1)
            (lost,) = run.said("state_file_lost")
            assert lost["how"] == "removed"
            assert run.said("state_file_remade")
            assert "state_file" not in run.problems()
            await run.put(2)
            await asyncio.sleep(THROUGH_SECONDS)
        again = new_run(bucket=run.bucket, **state_file(tmp_path))
        async with again.running(5):
            (opened,) = again.said("state_opened")
            assert (opened["fresh"], opened["last_tick"] > 0) == (False, True)
            assert again.gauge("ledger_files") == 2
            assert again.said("state_older") == []

    simulate(main())


def test_a_state_file_that_cannot_be_made_again_is_a_problem(new_run: NewRun, tmp_path: Path) -> None:
    """Until its folder can be written again."""

    async def main() -> None:
        run = new_run(STATE_PATH=str(tmp_path / "state" / "state.db"))
        async with run.upkeep():
            shutil.rmtree(tmp_path / "state")
            (tmp_path / "state").write_text("no folder")
            await rounds(1)
            assert "state_file" in run.problems()
            (tmp_path / "state").unlink()
            await rounds(1)
            assert "state_file" not in run.problems()
            assert (tmp_path / "state" / "state.db").exists()

    simulate(main())
