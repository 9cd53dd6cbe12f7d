"""The life of a service: it owns the state and the lease before it counts, and ends in order from every phase."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdn77_exporter.core.errors import LeaseLost, Misconfigured, StateError, Transient
from cdn77_exporter.edge.state import Database
from cdn77_exporter.flow.lease import LEASE_SECONDS, lease_prefix
from cdn77_exporter.service import restoring, wiring
from cdn77_exporter.service.ownership import STANDBY_SECONDS
from tests.support.fake_bucket import FakeBucket
from tests.support.samples import Received, parsed
from tests.support.service_run import THROUGH_SECONDS, Run, simulate, state_file

LEASES = lease_prefix("logs")
NewRun = Callable[..., Run]


@pytest.fixture
def new_run(monkeypatch: pytest.MonkeyPatch) -> NewRun:
    """Makes a run, inside the loop."""

    def make(bucket: FakeBucket | None = None, **environ: Any) -> Run:
        return Run(monkeypatch, bucket, **environ)

    return make


def _requests(run: Run) -> dict[int, float]:
    """What the receiver was sent of the only series of requests: timestamps (ms) and values."""
    received = Received()
    received.take((body, sum(len(one.samples) for one in parsed(body).timeseries)) for body in run.receiver.bodies)
    (found,) = (samples for name, samples in received.samples.items() if ("__name__", "cdn77_requests_total") in name)
    return dict(found)


# Start


def test_a_file_is_counted_pushed_and_deleted_and_the_end_is_clean(new_run: NewRun, tmp_path: Path) -> None:
    """From the bucket to the receiver; afterwards neither file nor lease is left, and the receiver is closed."""

    async def main() -> None:
        run = new_run(**state_file(tmp_path))
        key = await run.put(events=3)
        async with run.running(THROUGH_SECONDS):
            assert run.said("file_counted")[0]["key"] == key
            assert run.receiver.bodies
            assert key not in run.bucket.objects
            assert run.problems() == set()
        (stopped,) = run.said("service_stopped")
        assert stopped["drained"] is True
        assert run.receiver.closed
        assert await run.bucket.list_uploads(LEASES) == []

    simulate(main())


def test_the_state_says_how_the_service_starts(new_run: NewRun, tmp_path: Path) -> None:
    """The first run is fresh, the second goes on where the first has ended."""

    async def main() -> None:
        first = new_run(**state_file(tmp_path))
        await first.put()
        async with first.running(THROUGH_SECONDS):
            pass
        second = new_run(**state_file(tmp_path))
        async with second.running(10):
            pass
        (fresh,), (again,) = first.said("state_opened"), second.said("state_opened")
        assert (fresh["fresh"], again["fresh"]) == (True, False)
        assert again["series"] > 0
        assert again["last_tick"] > fresh["last_tick"]

    simulate(main())


@pytest.mark.guarantee("clocks.restart")
def test_the_clock_is_compared_before_the_first_tick_is_chosen(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeline begins at a time that the bucket's server agrees with."""

    async def main() -> None:
        run = new_run()
        restore = restoring.restore

        async def look(*values: Any, **named: Any) -> Any:
            assert len(run.clock.heard) == 1
            return await restore(*values, **named)

        monkeypatch.setattr(wiring, "restore", look)
        async with run.running(1):
            assert run.said("service_started")

    simulate(main())


# Stand-by


def test_a_second_process_stands_by_and_takes_over(new_run: NewRun, tmp_path: Path) -> None:
    """While the state is locked it says so once, counts nothing and is not ready; then it takes over by itself."""

    async def main() -> None:
        first = Database(str(tmp_path / "state.db"))
        run = new_run(**state_file(tmp_path))
        await run.put()
        task = asyncio.ensure_future(run.service.run())
        await asyncio.sleep(2 * STANDBY_SECONDS + 1)
        assert len(run.said("standby_waiting")) == 1
        assert {"standby", "start"} <= run.problems()
        assert run.bucket.calls["fetch"] == 0
        first.close()
        await asyncio.sleep(STANDBY_SECONDS + 1)
        assert run.said("service_started")
        assert "standby" not in run.problems()
        run.stop()
        assert await task == 0

    simulate(main())


def test_the_state_in_the_bucket_is_read_again_when_the_lease_is_free(new_run: NewRun) -> None:
    """What the other process has counted while this one stood by is not counted again."""

    async def main() -> None:
        place = {"STATE_PATH": "s3://the-bucket/state"}
        first = new_run(**place)
        working = asyncio.ensure_future(first.service.run())
        await asyncio.sleep(5)
        second = new_run(first.bucket, **place)
        waiting = asyncio.ensure_future(second.service.run())
        await asyncio.sleep(5)
        assert len(second.said("standby_waiting")) == 1
        await first.put()
        await asyncio.sleep(THROUGH_SECONDS)
        first.stop()
        assert await working == 0
        await asyncio.sleep(LEASE_SECONDS)
        (opened,) = second.said("state_opened")
        assert opened["fresh"] is False
        assert opened["last_tick"] > 0
        assert opened["series"] > 0
        second.stop()
        assert await waiting == 0
        assert second.said("file_counted") == []

    simulate(main())


def test_a_process_that_was_killed_keeps_no_other_from_its_state(new_run: NewRun, tmp_path: Path) -> None:
    """Who has the state's lock need not wait until the lease of the process before it has expired."""

    async def main() -> None:
        first = new_run(**state_file(tmp_path))
        async with first.running(5):
            ((key, _),) = await first.bucket.list_uploads(LEASES)
        await first.bucket.begin_upload(key)  # as if it had never been released
        second = new_run(first.bucket, **state_file(tmp_path))
        async with second.running(5):
            assert second.said("service_started")

    simulate(main())


@pytest.mark.parametrize("error", [Transient("no answer"), Misconfigured("no right", "grant it")])
def test_a_bucket_that_does_not_answer_is_asked_again(new_run: NewRun, error: Exception) -> None:
    """Opening the state in the bucket is tried again, and told meanwhile."""

    async def main() -> None:
        run = new_run(STATE_PATH="s3://the-bucket/state")
        run.bucket.fail("list_keys", error)
        async with run.running(STANDBY_SECONDS + 5):
            assert run.said("poll_failed")[0]["error"] == str(error)
            assert run.said("service_started")

    simulate(main())


def test_a_state_that_cannot_be_used_ends_the_start(new_run: NewRun, tmp_path: Path) -> None:
    """No lease is taken, and nothing is counted."""

    async def main() -> None:
        (tmp_path / "state.db").write_bytes(b"not a state at all")
        run = new_run(**state_file(tmp_path))
        with pytest.raises(StateError):
            await run.service.run()
        assert run.bucket.calls["begin_upload"] == 0

    simulate(main())


# Stop


def test_a_stop_while_the_state_is_locked(new_run: NewRun, tmp_path: Path) -> None:
    """The process ends without having started, and leaves the other's state alone."""

    async def main() -> None:
        first = Database(str(tmp_path / "state.db"))
        run = new_run(**state_file(tmp_path))
        run.stop(after=3)
        assert await run.service.run() == 0
        assert run.said("service_started") == []
        assert run.said("service_stopped")[0]["drained"] is True
        first.close()

    simulate(main())


def test_a_stop_while_it_waits_for_the_lease(new_run: NewRun, tmp_path: Path) -> None:
    """The state that it has opened is free again, and the other's lease is untouched."""

    async def main() -> None:
        run = new_run(**state_file(tmp_path))
        held = await run.bucket.begin_upload(f"{LEASES}other")
        run.stop(after=5)
        assert await run.service.run() == 0
        assert run.said("service_started") == []
        assert await run.bucket.list_uploads(LEASES) == [(f"{LEASES}other", held)]
        Database(str(tmp_path / "state.db")).close()

    simulate(main())


def test_a_stop_between_the_lease_and_the_state(new_run: NewRun) -> None:
    """The lease is given back when the state cannot be taken before the stop."""

    async def main() -> None:
        run = new_run(STATE_PATH="s3://the-bucket/state")
        held = await run.bucket.begin_upload(f"{LEASES}other")
        task = asyncio.ensure_future(run.service.run())
        await asyncio.sleep(1)  # it has read the state, and waits for the lease
        run.bucket.fail("list_keys", *[Transient("no answer")] * 100)
        await run.bucket.abort_upload(f"{LEASES}other", held)
        await asyncio.sleep(20)
        assert await run.bucket.list_uploads(LEASES) != []
        run.stop()
        assert await task == 0
        assert run.said("service_started") == []
        assert await run.bucket.list_uploads(LEASES) == []

    simulate(main())


def test_a_stop_while_the_state_is_restored(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline begins and ends at once: nothing is listed, and the end is clean."""

    async def main() -> None:
        run = new_run()
        await run.put()
        restore = restoring.restore

        async def slowly(*values: Any, **named: Any) -> Any:
            run.stop()
            await asyncio.sleep(60)
            return await restore(*values, **named)

        monkeypatch.setattr(wiring, "restore", slowly)
        assert await run.service.run() == 0
        assert run.said("service_stopped")[0]["drained"] is True
        assert run.bucket.calls["fetch"] == 0
        assert await run.bucket.list_uploads(LEASES) == []

    simulate(main())


@pytest.mark.guarantee("copies.no_state")
def test_a_stop_without_a_state_writes_on_a_tick(new_run: NewRun) -> None:
    """What is held goes onto the next tick, not behind the last one, and its file goes from the bucket."""

    async def main() -> None:
        run = new_run(STATE_PATH="off")
        await run.put()
        async with run.running(THROUGH_SECONDS):
            key = await run.put(2, events=4)
            await asyncio.sleep(6)  # longer than a poll
            assert len(run.said("file_counted")) == 2
            assert max(_requests(run).values()) == 3
        samples = _requests(run)
        assert samples[max(samples)] == 7
        assert all(at % 15_000 == 0 for at in samples)
        assert key not in run.bucket.objects

    simulate(main())


@pytest.mark.guarantee("crash.stop_cut_off")
def test_work_that_does_not_drain_is_cut_off(new_run: NewRun, tmp_path: Path) -> None:
    """After DRAIN_SECONDS the process ends all the same, gives the lease back, and deletes nothing."""

    async def main() -> None:
        run = new_run(**state_file(tmp_path), DRAIN_SECONDS="20")
        key = await run.put()
        run.receiver.gate.clear()
        task = asyncio.ensure_future(run.service.run())
        await asyncio.sleep(THROUGH_SECONDS)
        run.service.shutdown.ask("SIGTERM")
        before = run.clock.monotonic()
        assert await task == 0
        assert run.clock.monotonic() - before == pytest.approx(20, abs=0.5)
        assert run.said("service_stopped")[0]["drained"] is False
        assert key in run.bucket.objects
        assert await run.bucket.list_uploads(LEASES) == []

    simulate(main())


def test_the_grace_period_of_a_stop_before_the_work_begins_with_the_work(new_run: NewRun, tmp_path: Path) -> None:
    """A stop during a long restore does not cut off what is in the outbox without a try."""

    async def main() -> None:
        run = new_run(DRAIN_SECONDS="20")
        run.service.shutdown.stop.set()
        before = run.clock.monotonic()
        with pytest.raises(TimeoutError):
            async with run.service.shutdown.deadline():
                await asyncio.sleep(3600)
        assert run.clock.monotonic() - before == pytest.approx(20)

    simulate(main())


def test_the_second_signal_ends_the_process_at_once(new_run: NewRun) -> None:
    """With code 1, and whatever the first one waits for."""

    async def main() -> None:
        run = new_run()
        run.receiver.gate.clear()
        await run.put()
        task = asyncio.ensure_future(run.service.run())
        await asyncio.sleep(THROUGH_SECONDS)
        run.service.shutdown.ask("SIGTERM")
        assert run.ended == []
        run.service.shutdown.ask("SIGTERM")
        assert run.ended == [1]
        assert len(run.said("service_stopping")) == 1
        assert await task == 0

    simulate(main())


@pytest.mark.guarantee("copies.lease_lost")
def test_a_lease_that_is_lost_ends_the_service(new_run: NewRun) -> None:
    """Another process counts then: this one stops as it would in a crash, and says so."""

    async def main() -> None:
        run = new_run()
        task = asyncio.ensure_future(run.service.run())
        await asyncio.sleep(5)
        for key, upload in await run.bucket.list_uploads(LEASES):
            await run.bucket.abort_upload(key, upload)
        await run.bucket.begin_upload(f"{LEASES}other")
        with pytest.raises(ExceptionGroup) as caught:
            await task
        assert caught.group_contains(LeaseLost)
        assert run.said("lease_lost")[0]["holder"] == "other"

    simulate(main())


# Copies and backups of the state


@pytest.mark.guarantee("copies.copied")
def test_of_a_state_and_its_copy_one_works(new_run: NewRun, tmp_path: Path) -> None:
    """A copy of the state file is another's: its process stands by, and takes over only when the first is gone."""

    async def main() -> None:
        first = new_run(**state_file(tmp_path))
        await first.put()
        working = asyncio.ensure_future(first.service.run())
        await asyncio.sleep(THROUGH_SECONDS)
        (tmp_path / "copy").mkdir()
        shutil.copy2(tmp_path / "state.db", tmp_path / "copy" / "state.db")
        second = new_run(first.bucket, **state_file(tmp_path / "copy"))
        waiting = asyncio.ensure_future(second.service.run())
        await first.put(2)
        await asyncio.sleep(THROUGH_SECONDS)
        assert len(second.said("standby_waiting")) == 1
        assert second.receiver.bodies == []
        assert first.problems() == set()
        first.stop()
        assert await working == 0
        await asyncio.sleep(10)
        assert second.said("lease_taken")
        (older,) = second.said("state_older")
        assert older["pushed_tick"] > older["last_tick"]
        second.stop()
        assert await waiting == 0

    simulate(main())


@pytest.mark.guarantee("copies.backup")
def test_a_restored_backup_is_told_and_begins_at_zero(new_run: NewRun, tmp_path: Path) -> None:
    """What was counted after the backup is not in the state; no sample goes to a tick that was pushed."""

    async def main() -> None:
        first = new_run(**state_file(tmp_path))
        await first.put()
        async with first.running(THROUGH_SECONDS):
            shutil.copy2(tmp_path / "state.db", tmp_path / "backup.db")
        second = new_run(first.bucket, **state_file(tmp_path))
        await second.put(2, events=4)
        async with second.running(THROUGH_SECONDS):
            assert second.said("state_older") == []
        shutil.move(tmp_path / "backup.db", tmp_path / "state.db")
        third = new_run(first.bucket, **state_file(tmp_path))
        await third.put(3, events=5)
        async with third.running(THROUGH_SECONDS):
            assert len(third.said("state_older")) == 1
        before, after = (_requests(run) for run in (second, third))
        assert max(before.values()) == 7
        assert list(dict.fromkeys(after.values())) == [0, 5]
        assert max(before) < min(after)

    simulate(main())
