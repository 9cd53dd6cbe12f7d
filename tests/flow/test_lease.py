"""The lease: of several processes on one bucket exactly one works, and the others take over when it is gone."""

from __future__ import annotations

import asyncio
import functools

import pytest

from cdn77_exporter.core.errors import LeaseLost, Misconfigured, Transient
from cdn77_exporter.flow.lease import LEASE_SECONDS, Lease, lease_prefix
from tests.support.fake_bucket import FakeBucket
from tests.support.virtual_time import VirtualClock, simulate
from tests.support.world import Said, Trouble

PREFIX = lease_prefix("logs/all")


class _Process:
    """One process's lease, with what it said."""

    def __init__(self, bucket: FakeBucket, sole: str = "") -> None:
        self.said, self.trouble, self.stop = Said(), Trouble(), asyncio.Event()
        self.lease = Lease(bucket, PREFIX, VirtualClock(0), self.said, self.trouble, jitter=lambda: 0.5)
        if sole:
            self.lease.own(sole)

    async def take(self) -> bool:
        return await self.lease.take(self.stop)


def _seconds() -> float:
    return asyncio.get_running_loop().time()


def test_the_lease_lies_outside_the_logs() -> None:
    """No listing of the logs can meet a lease."""
    assert not PREFIX.startswith("logs/")
    assert PREFIX.endswith("/lease/")


def test_a_second_process_waits_until_the_first_gives_up() -> None:
    """The stand-by says who holds the lease, and goes on soon after its release."""

    async def main() -> None:
        bucket = FakeBucket()
        first, second = _Process(bucket), _Process(bucket)
        assert await first.take()
        waiting = asyncio.create_task(second.take())
        keeping = asyncio.create_task(first.lease.keep(first.stop))
        await asyncio.sleep(10 * LEASE_SECONDS)
        assert not waiting.done()
        assert [one["holder"] for one in second.said.of("standby_waiting")] == [first.lease.owner]
        assert "standby" in second.trouble.now
        first.stop.set()
        await keeping
        await first.lease.release()
        released = _seconds()
        assert await waiting
        assert _seconds() - released < LEASE_SECONDS / 5
        assert "standby" not in second.trouble.now

    simulate(main())


def test_the_lease_of_a_killed_process_expires() -> None:
    """Without renewal the stand-by takes over once the lease has not changed for its whole time."""

    async def main() -> None:
        bucket = FakeBucket()
        first, second = _Process(bucket), _Process(bucket)
        assert await first.take()
        assert await second.take()
        assert LEASE_SECONDS <= _seconds() < 2 * LEASE_SECONDS
        assert second.said.of("lease_taken")[0]["previous"] == first.lease.owner

    simulate(main())


def test_a_restart_on_the_same_state_does_not_wait() -> None:
    """A lease under a name that only one process can have is that of a process that is gone."""

    async def main() -> None:
        bucket = FakeBucket()
        assert await _Process(bucket, sole="state-1").take()
        assert await _Process(bucket, sole="state-1").take()
        assert _seconds() == 0
        assert len(await bucket.list_uploads(PREFIX)) == 1
        other = asyncio.create_task(_Process(bucket, sole="state-2").take())
        await asyncio.sleep(LEASE_SECONDS / 2)
        assert not other.done()
        other.cancel()

    simulate(main())


def test_of_many_at_once_exactly_one_goes_on() -> None:
    """However many begin at the same instant, never do two have the lease."""

    async def main() -> None:
        bucket = FakeBucket()
        processes = [_Process(bucket) for _ in range(8)]
        for number, process in enumerate(processes):
            process.lease.jitter = functools.partial(float, number / 8)
        tasks = [asyncio.create_task(process.take()) for process in processes]
        done, waiting = await asyncio.wait(tasks, timeout=LEASE_SECONDS / 2)
        assert len(done) <= 1
        for task in waiting:
            task.cancel()

    simulate(main())


def test_who_was_thrown_out_ends() -> None:
    """A process that slept through its lease notices at the next renewal, and must not go on."""

    async def main() -> None:
        bucket = FakeBucket()
        first, second = _Process(bucket), _Process(bucket)
        assert await first.take()
        assert await second.take()
        with pytest.raises(LeaseLost):
            await first.lease.keep(first.stop)
        assert first.said.of("lease_lost")[0]["holder"] == second.lease.owner
        assert [key for key, _ in await bucket.list_uploads(PREFIX)] == [PREFIX + second.lease.owner]

    simulate(main())


def test_a_key_without_the_right_works_without_a_lease() -> None:
    """A key that may not begin uploads is said once and does not keep the service from working."""

    async def main() -> None:
        bucket = FakeBucket()
        bucket.fail("begin_upload", Misconfigured("403 AccessDenied", "allow s3:PutObject"))
        process = _Process(bucket)
        assert await process.take()
        assert len(process.said.of("setting_doubtful")) == 1

    simulate(main())


def test_an_unreachable_bucket_is_waited_for() -> None:
    """Passing failures are said and tried again; a stop ends the waiting."""

    async def main() -> None:
        bucket = FakeBucket()
        bucket.fail("list_uploads", Transient("connection refused"), Transient("connection refused"))
        process = _Process(bucket)
        assert await process.take()
        assert len(process.said.of("poll_failed")) == 2
        assert _seconds() > 0
        blocked = _Process(bucket)
        waiting = asyncio.create_task(blocked.take())
        await asyncio.sleep(1)
        blocked.stop.set()
        assert not await waiting

    simulate(main())
