"""The database on a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import TypeVar

from cdn77_exporter.core.changes import Changes, CountedFile
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.state.database import Database

T = TypeVar("T")


class State:
    """The database on a thread of its own, so that a slow disk does not hold the event loop."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._thread = ThreadPoolExecutor(1, "state")

    async def run(self, call: Callable[..., T], *values: object) -> T:
        """`call(*values)` of the database, on its thread; calls are done in the order in which they are asked for."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*values))

    async def commit(self, changes: Changes) -> None:
        """See `Database.commit`."""
        await self.run(self.database.commit, changes)

    async def outbox(self) -> list[tuple[int, int, int]]:
        """See `Database.outbox`."""
        return await self.run(self.database.outbox)

    async def body(self, number: int) -> bytes:
        """See `Database.body`."""
        return await self.run(self.database.body, number)

    async def mark_done(self, numbers: Sequence[int], acknowledged: int | None) -> None:
        """See `Database.mark_done`."""
        await self.run(self.database.mark_done, numbers, acknowledged)

    async def known(self, files: Sequence[LogFile], *, again: bool = False) -> set[tuple[str, str]]:
        """See `Database.known`."""
        return await self.run(self.database.known, files, again)

    async def acknowledged(self) -> int:
        """See `Database.acknowledged`."""
        return await self.run(self.database.acknowledged)

    async def deletable(self, through: int, most: int, skip: int = 0) -> list[CountedFile]:
        """See `Database.deletable`."""
        return await self.run(self.database.deletable, through, most, skip)

    async def mark_deleted(self, files: Sequence[tuple[str, str]]) -> None:
        """See `Database.mark_deleted`."""
        await self.run(self.database.mark_deleted, files)

    async def set_aside(self, file: LogFile, reason: str) -> None:
        """See `Database.set_aside`."""
        await self.run(self.database.set_aside, file, reason)

    async def aside(self) -> list[tuple[str, str, str, int]]:
        """See `Database.aside`."""
        return await self.run(self.database.aside)

    async def uploaded_again(self, files: Sequence[LogFile]) -> list[str]:
        """See `Database.uploaded_again`."""
        return await self.run(self.database.uploaded_again, files)

    async def release(self, key: str) -> None:
        """See `Database.release`."""
        await self.run(self.database.release, key)

    async def prune(self, before_ms: int) -> None:
        """See `Database.prune`."""
        await self.run(self.database.prune, before_ms)

    async def counts(self) -> dict[str, int]:
        """See `Database.counts`."""
        return await self.run(self.database.counts)

    async def taken(self) -> State:
        """Return the state as this process's own, to be called once no other process may count."""
        return self

    def lock_name(self) -> str | None:
        """Return a name that only the process with the state's lock can carry; None for a state without a lock."""
        if self.database.path == ":memory:":
            return None
        return "state-" + blake2b(b"lease", key=self.database.secret_key(), digest_size=8).hexdigest()

    def close(self) -> None:
        """Wait for the call under way and give up the lock."""
        self._thread.shutdown(wait=True)
        self.database.close()
