"""The lease of a bucket's logs: of two exporters on one bucket, the second stands by.

The lease is an upload that is begun and never completed, so that listings stay free of it; its key names the owner,
which is one process. Who wants it begins an upload of its own only when there is no other, looks again, and withdraws
when there is another one after all: so at most one goes on. The owner renews it by beginning the next upload before it
ends the last, and looks whether it is still there before it pushes. Expiry is judged by whoever waits, on its own
monotonic clock: uploads that have not changed for `LEASE_SECONDS` belong to a process that is gone.

Beside it lies an object with the last tick that was pushed. A process that finds its state older than that begins its
counters at zero, since a backup was restored.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from random import random
from typing import Protocol, TypeVar

from cdn77_exporter.core.changes import Changes
from cdn77_exporter.core.errors import LeaseLost, Misconfigured, Transient
from cdn77_exporter.flow.ports import Clock, Commits, Problems, Receives, Report
from cdn77_exporter.flow.retry import pause

LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
#: A push trusts a look at the lease that is not older than this.
CHECK_SECONDS = 5.0
#: A bucket that takes longer has not answered: so it is told soon why nothing is pushed.
CONFIRM_SECONDS = 10.0
_WAIT_SECONDS = 2.0
_MOST_UPLOADS = 4  # of a process at a time, when they can be begun and not ended
_LOST = "another process has taken the lease of the bucket"
_TICK = re.compile(rb"([0-9]{1,12})(?: ([0-9]{1,15}))?\n?")

T = TypeVar("T")


class LeaseBucket(Protocol):
    """The bucket as a lease needs it: uploads that are begun and not completed, and a small object."""

    async def begin_upload(self, key: str) -> str:
        """Begin an upload; its id."""

    async def abort_upload(self, key: str, upload: str) -> bool:
        """End an upload; False when there was none."""

    async def list_uploads(self, prefix: str) -> list[tuple[str, str]]:
        """List keys and ids of uploads."""

    async def get(self, key: str) -> tuple[bytes, str] | None:
        """Return an object's bytes and ETag; None when there is none."""

    async def put(self, key: str, body: bytes) -> str:
        """Write an object; its ETag."""


def lease_prefix(prefix: str) -> str:
    """Return the folder of the leases of a log prefix: beside the logs, never under their prefix."""
    return f".cdn77-exporter/{prefix.replace('/', '-') or 'bucket'}/lease/"


def last_tick_key(prefix: str) -> str:
    """Return the key of the object with the last tick that was pushed; `prefix` is that of the leases."""
    return f"{prefix.removesuffix('lease/')}last-tick"


@dataclass(slots=True)
class Lease:
    """One process's claim to a bucket's logs.

    `last_tick` (Unix seconds): the last tick that was pushed, by whichever process, and `last_upload_ms` (Unix ms): the
    last upload of a file that was counted by then; known once the lease is taken, 0 for none.
    """

    bucket: LeaseBucket
    prefix: str
    clock: Clock
    report: Report
    problems: Problems
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}-{secrets.token_hex(8)}")
    jitter: Callable[[], float] = random
    last_tick: int = field(default=0, init=False)
    last_upload_ms: int = field(default=0, init=False)
    _sole: str = ""  # what the names of the earlier owners of this process's state begin with
    # Its uploads, the one that proves the lease first: each was begun while the one before it was there.
    _uploads: list[str] = field(default_factory=list)
    _lost: bool = False
    _remembers: bool = True  # whether the last tick can be kept in the bucket
    _checked: float = 0.0  # when the lease was last seen to be this process's own
    _committed: int = 0  # the last tick that was committed, which may be pushed next
    _uploaded_ms: int = 0  # the last upload of a file that was counted by then,
    _counted_ms: int = 0  # and of one that is counted now
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def own(self, name: str) -> None:
        """Say what only the process with this very state can be called; it is a part of the owner's name.

        What is held under the name by another process is of one that is gone: the state's lock proves it.
        """
        self._sole = f"{name}-"
        self.owner = f"{name}-{secrets.token_hex(8)}"

    @property
    def _key(self) -> str:
        return self.prefix + self.owner

    # Taking

    async def take(self, stop: asyncio.Event) -> bool:
        """Wait until this process has the lease; False when told to stop before.

        A key that may not begin uploads works without a lease: then only the state's lock keeps a second process away.
        """
        seen: list[tuple[str, str]] = []
        since, said = 0.0, False
        while not stop.is_set():
            try:
                held = sorted(await self.bucket.list_uploads(self.prefix))
                if held != seen:
                    seen, since = held, self.clock.monotonic()
                left = LEASE_SECONDS - (self.clock.monotonic() - since)
                if left <= 0 or all(self._is_mine(key) for key, _ in held):
                    if await self._begin(held):
                        return True
                elif not said:
                    said = True
                    self._say_waiting(self._holder(held), left)
            except Misconfigured as error:
                self._remembers = False
                self.report("setting_doubtful", setting="S3_ACCESS_KEY", doubt=f"no lease: {error}; {error.remedy}")
                return True
            except Transient as error:
                remedy = f"check that the server is running and reachable from here; {error.remedy}"
                self.report("poll_failed", error=str(error), remedy=remedy)
                self.problems.found("bucket", str(error), remedy)
            await pause(self.clock, stop, _WAIT_SECONDS * (0.5 + self.jitter()))
        return False

    def _is_mine(self, key: str) -> bool:
        """Tell whether an upload is of this process, or of an earlier one with this very state."""
        return key == self._key or (bool(self._sole) and key.startswith(self.prefix + self._sole))

    def _holder(self, held: list[tuple[str, str]]) -> str:
        return held[0][0].removeprefix(self.prefix)

    def _say_waiting(self, holder: str, left: float) -> None:
        words = f"{holder} works on this bucket; this process takes over when it is gone"
        self.report("standby_waiting", error=words, holder=holder, expires_seconds=round(left, 1))
        self.problems.found("standby", words)

    async def _begin(self, dead: list[tuple[str, str]]) -> bool:
        for key, upload in dead:
            await self.bucket.abort_upload(key, upload)
        own = await self.bucket.begin_upload(self._key)
        others = [held for held in await self.bucket.list_uploads(self.prefix) if held != (self._key, own)]
        if others:
            await self.bucket.abort_upload(self._key, own)
            return False
        await self._recall()
        self._uploads, self._checked = [own], self.clock.monotonic()
        self.problems.solved("standby")
        self.report("lease_taken", holder=self.owner, previous=self._holder(dead) if dead else "")
        return True

    async def _recall(self) -> None:
        """Read the last tick that was pushed."""
        key = last_tick_key(self.prefix)
        try:
            found = await self.bucket.get(key)
        except Misconfigured as error:
            self._forget(error)
            return
        if found is None:
            return
        if told := _TICK.fullmatch(found[0]):
            self.last_tick, self.last_upload_ms = int(told[1]), int(told[2] or 0)
            self._uploaded_ms = self._counted_ms = self.last_upload_ms
        else:
            self.report(
                "setting_doubtful", setting="S3_BUCKET", doubt=f"the object {key} holds no tick; it is replaced"
            )

    def _forget(self, error: Misconfigured) -> None:
        self._remembers = False
        doubt = f"a restored backup of the state would not be noticed: {error}; {error.remedy}"
        self.report("setting_doubtful", setting="S3_ACCESS_KEY", doubt=doubt)

    # Keeping

    async def keep(self, stop: asyncio.Event) -> None:
        """Renew the lease until the stop; LeaseLost when another process has ended it."""
        while self._uploads and not stop.is_set():
            await pause(self.clock, stop, RENEW_SECONDS)
            # The lister says what is wrong; who cannot reach the bucket cannot count either.
            with contextlib.suppress(Transient, Misconfigured):
                async with self._turn:  # an upload that is begun proves nothing before the last one has ended
                    await self._renew()

    async def _renew(self) -> None:
        if 0 < len(self._uploads) < _MOST_UPLOADS:
            self._uploads.append(await _in_time(self.bucket.begin_upload(self._key)))
        while len(self._uploads) > 1:
            if not await _in_time(self.bucket.abort_upload(self._key, self._uploads[0])):
                await self._look_for_others(await _in_time(self.bucket.list_uploads(self.prefix)))
            del self._uploads[0]

    async def _look_for_others(self, held: list[tuple[str, str]]) -> None:
        others = [key.removeprefix(self.prefix) for key, _ in held if key != self._key]
        if others:
            await self._lose(others[0])

    async def _lose(self, holder: str) -> None:
        self._lost = True
        await self.release()
        self.report("lease_lost", error="another process has taken the lease", holder=holder)
        raise LeaseLost(_LOST)

    async def release(self) -> None:
        """Give the lease up, so that a stand-by need not wait for its end."""
        uploads, self._uploads = self._uploads, []
        for upload in uploads:
            with contextlib.suppress(Transient, Misconfigured):  # else it ends by itself
                await self.bucket.abort_upload(self._key, upload)

    # Pushing

    def note(self, tick: int, uploads_ms: Iterable[int] = ()) -> None:
        """Take `tick` for committed: it may be pushed next. `uploads_ms`: of the files that were counted with it."""
        self._counted_ms = max([self._counted_ms, *uploads_ms])
        if tick > self._committed:
            self._committed, self._uploaded_ms = tick, self._counted_ms

    async def confirm(self, stop: asyncio.Event) -> None:
        """Make sure that this process may push: it has the lease, and the bucket knows the tick that comes.

        Wait while the bucket does not answer. Raises LeaseLost, and Transient when the stop comes first.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self._turn:
                    return await self._confirm()
            except (Transient, Misconfigured) as error:
                words = f"nothing is pushed before the lease is seen to be this process's own: {error}"
                self.problems.found("lease", words, error.remedy)
                if stop.is_set():
                    raise Transient(words) from error
                self.report("push_retried", attempt=attempt, error=words, wait_seconds=_WAIT_SECONDS)
            await pause(self.clock, stop, _WAIT_SECONDS)

    async def _confirm(self) -> None:
        if self._lost:
            raise LeaseLost(_LOST)
        new = self._remembers and self._committed > self.last_tick
        if self._uploads and (new or self.clock.monotonic() - self._checked >= CHECK_SECONDS):
            began = self.clock.monotonic()
            await self._check(await _in_time(self.bucket.list_uploads(self.prefix)))
            self._checked = began
        if new:
            tick, uploaded_ms = self._committed, self._uploaded_ms
            try:
                await _in_time(self.bucket.put(last_tick_key(self.prefix), b"%d %d\n" % (tick, uploaded_ms)))
            except Misconfigured as error:
                self._forget(error)
            self.last_tick = tick
        self.problems.solved("lease")

    async def _check(self, held: list[tuple[str, str]]) -> None:
        """Raise LeaseLost unless the upload that proves the lease is held, or one after it and no other process's."""
        own = {upload for key, upload in held if key == self._key}
        if self._uploads[0] in own:
            return
        await self._look_for_others(held)
        left = [upload for upload in self._uploads if upload in own]
        if not left:
            await self._lose("")
        self._uploads = left


async def _in_time(answer: Awaitable[T]) -> T:
    """Return the bucket's answer; raises Transient when it takes too long."""
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            return await answer
    except TimeoutError:
        raise Transient(f"the bucket does not answer within {CONFIRM_SECONDS:g} seconds") from None


@dataclass(frozen=True, slots=True)
class OwnersReceiver:
    """The receiver, which takes nothing from a process that has lost the lease."""

    receiver: Receives
    lease: Lease
    stop: asyncio.Event

    async def write(self, body: bytes) -> int | None:
        """Make one attempt as the receiver does; raises LeaseLost too."""
        await self.lease.confirm(self.stop)
        return await self.receiver.write(body)


@dataclass(frozen=True, slots=True)
class OwnersCommits:
    """The state, whose commits tell the lease which tick is pushed next."""

    ledger: Commits
    lease: Lease

    async def commit(self, changes: Changes) -> None:
        """Write all or nothing; raises as the state does."""
        await self.ledger.commit(changes)
        self.lease.note(changes.meta["emitted"], (file.modified_ms for file in changes.files))
