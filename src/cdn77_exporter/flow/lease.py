"""The lease of a bucket's logs: of two exporters on one bucket, the second stands by.

The lease is an upload that is begun and never completed, so that the bucket stays free of objects that are not logs;
its key names the owner. Who wants it begins an upload of its own only when there is no other, looks again, and
withdraws when there is another one after all: so at most one goes on. The owner renews it by beginning the next upload
before it ends the last. Expiry is judged by whoever waits, on its own monotonic clock: uploads that have not changed
for `LEASE_SECONDS` belong to a process that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from random import random
from typing import Protocol

from cdn77_exporter.core.errors import LeaseLost, Misconfigured, Transient
from cdn77_exporter.flow.ports import Clock, Problems, Report
from cdn77_exporter.flow.retry import pause

LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
_WAIT_SECONDS = 2.0


class Uploads(Protocol):
    """Uploads of a bucket that are begun and not completed."""

    async def begin_upload(self, key: str) -> str:
        """Begin one; its id."""

    async def abort_upload(self, key: str, upload: str) -> bool:
        """End one; False when there was none."""

    async def list_uploads(self, prefix: str) -> list[tuple[str, str]]:
        """List keys and ids."""


def lease_prefix(prefix: str) -> str:
    """Return the folder of the leases of a log prefix: beside the logs, never under their prefix."""
    return f".cdn77-exporter/{prefix.replace('/', '-') or 'bucket'}/lease/"


@dataclass(slots=True)
class Lease:
    """One process's claim to a bucket's logs."""

    bucket: Uploads
    prefix: str
    clock: Clock
    report: Report
    problems: Problems
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}-{secrets.token_hex(8)}")
    jitter: Callable[[], float] = random
    _upload: str | None = None
    _sole: bool = False  # nobody else can carry this owner's name

    def own(self, name: str) -> None:
        """Use a name that only one process at a time can have: what is held under it is of one that is gone."""
        self.owner, self._sole = name, True

    @property
    def _key(self) -> str:
        return self.prefix + self.owner

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
                if left <= 0 or all(self._sole and key == self._key for key, _ in held):
                    if await self._begin(held):
                        return True
                elif not said:
                    said = True
                    self._say_waiting(self._holder(held), left)
            except Misconfigured as error:
                self.report("setting_doubtful", setting="S3_ACCESS_KEY", doubt=f"no lease: {error}; {error.remedy}")
                return True
            except Transient as error:
                self.report("poll_failed", error=str(error), remedy="the lease is asked for again")
                self.problems.found("bucket", f"{error}; it is tried again")
            await pause(self.clock, stop, _WAIT_SECONDS * (0.5 + self.jitter()))
        return False

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
        self._upload = own
        self.problems.solved("standby")
        self.report("lease_taken", holder=self.owner, previous=self._holder(dead) if dead else "")
        return True

    async def keep(self, stop: asyncio.Event) -> None:
        """Renew the lease until the stop; LeaseLost when another process has ended it."""
        while self._upload is not None and not stop.is_set():
            await pause(self.clock, stop, RENEW_SECONDS)
            # The lister says what is wrong; who cannot reach the bucket cannot count either.
            with contextlib.suppress(Transient, Misconfigured):
                await self._renew()

    async def _renew(self) -> None:
        old = self._upload
        if old is None:
            return
        self._upload = await self.bucket.begin_upload(self._key)
        if not await self.bucket.abort_upload(self._key, old):
            held = await self.bucket.list_uploads(self.prefix)
            others = [key.removeprefix(self.prefix) for key, _ in held if key != self._key]
            if others:
                await self.release()
                self.report("lease_lost", error="another process has taken the lease", holder=others[0])
                raise LeaseLost("another process has taken the lease of the bucket")

    async def release(self) -> None:
        """Give the lease up, so that a stand-by need not wait for its end."""
        upload, self._upload = self._upload, None
        if upload is not None:
            with contextlib.suppress(Transient, Misconfigured):  # else it ends by itself
                await self.bucket.abort_upload(self._key, upload)
