"""The lease: of several processes on one bucket exactly one works, and the others take over when it is gone."""

from __future__ import annotations

import asyncio
import functools

import pytest

from cdn77_exporter.core.errors import LeaseLost, Misconfigured, Transient
from cdn77_exporter.flow.lease import (
    CHECK_SECONDS,
    CONFIRM_SECONDS,
    LEASE_SECONDS,
    RENEW_SECONDS,
    Lease,
    OwnersReceiver,
    last_tick_key,
    lease_prefix,
)
from tests.support.fake_bucket import FakeBucket
from tests.support.virtual_time import VirtualClock, simulate
from tests.support.world import Said, Trouble

PREFIX = lease_prefix("logs/all")


class _Process:
    """One process's lease, with what it said."""

    def __init__(self, bucket: FakeBucket, sole: str = "") -> None:
        self.bodies: list[bytes] = []
        self.said, self.trouble, self.stop = Said(), Trouble(), asyncio.Event()
        self.lease = Lease(bucket, PREFIX, VirtualClock(0), self.said, self.trouble, jitter=lambda: 0.5)
        if sole:
            self.lease.own(sole)

    async def take(self) -> bool:
        return await self.lease.take(self.stop)

    async def write(self, body: bytes) -> None:
        """The receiver."""
        self.bodies.append(body)

    async def push(self, tick: int) -> None:
        """Commit a tick and push it."""
        self.lease.note(tick)
        await OwnersReceiver(self, self.lease, self.stop).write(b"%d" % tick)


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


# Pushing


def test_two_with_the_same_state_file_in_turn_are_two_owners() -> None:
    """The name of an owner is that of one process, even if the state is the same."""
    bucket = FakeBucket()
    first, second = _Process(bucket, sole="state-1"), _Process(bucket, sole="state-1")
    assert first.lease.owner != second.lease.owner


@pytest.mark.guarantee("copies.lease_lost")
def test_who_was_thrown_out_pushes_nothing_more() -> None:
    """A process that slept through its lease sees before its next push that it is another's, and sends nothing."""

    async def main() -> None:
        bucket = FakeBucket()
        first, second = _Process(bucket), _Process(bucket)
        assert await first.take()
        await first.push(15)
        assert await second.take()
        with pytest.raises(LeaseLost):
            await first.push(30)
        assert first.bodies == [b"15"]
        assert first.said.of("lease_lost")[0]["holder"] == second.lease.owner
        await second.push(30)
        assert second.bodies == [b"30"]

    simulate(main())


@pytest.mark.guarantee("copies.lease_lost")
def test_an_upload_that_is_begun_by_who_was_thrown_out_proves_nothing() -> None:
    """Neither while a renewal is under way, nor when it has failed half way."""

    async def main() -> None:
        bucket = FakeBucket()
        first, second = _Process(bucket), _Process(bucket)
        assert await first.take()
        await first.push(15)
        assert await second.take()
        released = bucket.hold("abort_upload")  # the renewal has begun the next upload, and has not ended the last
        keeping = asyncio.create_task(first.lease.keep(first.stop))
        await asyncio.sleep(1.5 * RENEW_SECONDS)
        pushing = asyncio.create_task(first.push(30))
        await asyncio.sleep(1)
        released.set()
        await asyncio.wait({keeping, pushing}, timeout=60)
        assert first.bodies == [b"15"]
        assert isinstance(keeping.exception(), LeaseLost) or isinstance(pushing.exception(), LeaseLost)
        await second.push(30)

        third = _Process(bucket)
        for key, upload in await bucket.list_uploads(PREFIX):
            await bucket.abort_upload(key, upload)
        assert await third.take()
        fourth = _Process(bucket)
        assert await fourth.take()
        bucket.fail("abort_upload", *[Transient("no answer")] * 3)
        keeping = asyncio.create_task(third.lease.keep(third.stop))
        await asyncio.sleep(2.5 * RENEW_SECONDS)
        with pytest.raises(LeaseLost):
            await third.push(45)
        assert not third.bodies
        keeping.cancel()

    simulate(main())


@pytest.mark.guarantee("copies.lease_lost")
def test_a_renewal_that_fails_half_way_is_finished_by_the_next() -> None:
    """The lease stays this process's own, and no more than a few of its uploads are there at a time."""

    async def main() -> None:
        bucket = FakeBucket()
        process, other = _Process(bucket), _Process(bucket)
        assert await process.take()
        bucket.fail("abort_upload", *[Transient("no answer", lost=True)] * 5)
        keeping = asyncio.create_task(process.lease.keep(process.stop))
        waiting = asyncio.create_task(other.take())
        for number in range(1, 20):
            await asyncio.sleep(RENEW_SECONDS)
            assert len(await bucket.list_uploads(PREFIX)) <= 4
            if number < 3 or number > 14:
                await process.push(15 * number)
        await asyncio.sleep(RENEW_SECONDS)
        assert [key for key, _ in await bucket.list_uploads(PREFIX)] == [PREFIX + process.lease.owner]
        assert not waiting.done()
        waiting.cancel()
        keeping.cancel()

    simulate(main())


@pytest.mark.guarantee("copies.lease_lost")
def test_a_lease_that_is_gone_without_another_is_lost_too() -> None:
    """Who ended the upload is not known, and may push meanwhile."""

    async def main() -> None:
        bucket = FakeBucket()
        process = _Process(bucket)
        assert await process.take()
        for key, upload in await bucket.list_uploads(PREFIX):
            await bucket.abort_upload(key, upload)
        with pytest.raises(LeaseLost):
            await process.push(15)
        assert not process.bodies

    simulate(main())


def test_the_lease_is_looked_at_for_every_tick_and_when_the_last_look_is_old() -> None:
    """A tick of many requests costs one listing and one small object; requests that are tried for long are guarded."""

    async def main() -> None:
        bucket = FakeBucket()
        process = _Process(bucket)
        assert await process.take()
        before = bucket.calls.copy()
        for _ in range(50):
            await process.push(15)
        assert (bucket.calls - before) == {"list_uploads": 1, "put": 1}
        await asyncio.sleep(CHECK_SECONDS)
        await process.push(15)
        assert (bucket.calls - before) == {"list_uploads": 2, "put": 1}

    simulate(main())


def test_the_next_process_knows_the_last_tick_that_was_pushed() -> None:
    """It is written before the push, so that no tick is ever pushed that the bucket does not know."""

    async def main() -> None:
        bucket = FakeBucket()
        process = _Process(bucket)
        assert await process.take()
        assert process.lease.last_tick == 0
        await process.push(15)
        bucket.fail("put", Transient("no answer"))
        await process.push(30)
        assert _seconds() > 0
        await process.lease.release()
        second = _Process(bucket)
        assert await second.take()
        assert second.lease.last_tick == 30

    simulate(main())


def test_what_is_no_tick_is_told_and_replaced() -> None:
    """Whatever lies there, the service starts."""

    async def main() -> None:
        bucket = FakeBucket()
        await bucket.put(last_tick_key(PREFIX), b"<html>")
        process = _Process(bucket)
        assert await process.take()
        assert process.lease.last_tick == 0
        assert last_tick_key(PREFIX) in str(process.said.of("setting_doubtful")[0]["doubt"])
        await process.push(15)
        assert bucket.objects[last_tick_key(PREFIX)].body == b"15 0\n"

    simulate(main())


def test_nothing_is_pushed_while_the_bucket_does_not_answer() -> None:
    """The push waits, which is a problem meanwhile, and goes on by itself; a stop ends the waiting."""

    async def main() -> None:
        bucket = FakeBucket()
        process = _Process(bucket)
        assert await process.take()
        bucket.fail("list_uploads", *[Transient("no answer")] * 10)
        pushing = asyncio.create_task(process.push(15))
        await asyncio.sleep(5)
        assert not process.bodies
        assert "lease" in process.trouble.now
        await pushing
        assert process.bodies
        assert "lease" not in process.trouble.now
        bucket.fail("list_uploads", *[Transient("no answer")] * 10)
        process.stop.set()
        with pytest.raises(Transient):
            await process.push(30)

    simulate(main())


@pytest.mark.parametrize("call", ["list_uploads", "put"])
def test_a_call_that_hangs_is_told_and_made_again(call: str) -> None:
    """Nothing is pushed meanwhile, which is a problem and a log line within seconds."""

    async def main() -> None:
        bucket = FakeBucket()
        process = _Process(bucket)
        assert await process.take()
        answers = getattr(bucket, call)

        async def hang(*_: object) -> None:
            await asyncio.Event().wait()

        setattr(bucket, call, hang)
        pushing = asyncio.create_task(process.push(15))
        await asyncio.sleep(CONFIRM_SECONDS + 1)
        assert not process.bodies
        assert "does not answer" in process.trouble.now["lease"]
        assert process.said.of("push_retried")
        setattr(bucket, call, answers)
        await pushing
        assert process.bodies == [b"15"]
        assert not process.trouble.now

    simulate(main())


def test_a_key_that_may_not_write_objects_is_told_once() -> None:
    """Then a restored backup is not noticed, and everything else works."""

    async def main() -> None:
        bucket = FakeBucket()
        process = _Process(bucket)
        assert await process.take()
        bucket.fail("put", Misconfigured("403 AccessDenied", "allow s3:PutObject"))
        await process.push(15)
        await process.push(30)
        assert process.bodies == [b"15", b"30"]
        assert len(process.said.of("setting_doubtful")) == 1

    simulate(main())
