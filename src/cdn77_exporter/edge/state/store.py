"""The database on a thread of its own, so that a slow disk does not hold the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from hashlib import blake2b
from typing import Any, Concatenate, ParamSpec, TypeVar

from cdn77_exporter.edge.state.database import Database
from cdn77_exporter.edge.state.file import place_of

P = ParamSpec("P")
T = TypeVar("T")


def _call(method: Callable[Concatenate[Database, P], T]) -> Callable[Concatenate[State, P], Coroutine[Any, Any, T]]:
    """Make a call of the database one of the state."""

    @wraps(method)
    async def call(state: State, /, *values: P.args, **named: P.kwargs) -> T:
        return await state.ask(method, *values, **named)

    return call


class State:
    """The database, whose calls are done one after the other in the order in which they are asked for."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._thread = ThreadPoolExecutor(1, "state")

    async def run(self, call: Callable[..., T], *values: object) -> T:
        """Call `call(*values)` on the database's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*values))

    async def ask(self, method: Callable[Concatenate[Database, P], T], /, *values: P.args, **named: P.kwargs) -> T:
        """Call a method of the database on its thread."""
        return await self.run(partial(method, self.database, *values, **named))

    commit = _call(Database.commit)
    outbox = _call(Database.outbox)
    body = _call(Database.body)
    sending = _call(Database.sending)
    mark_sending = _call(Database.mark_sending)
    told = _call(Database.told)
    mark_done = _call(Database.mark_done)
    acknowledged = _call(Database.acknowledged)
    meta = _call(Database.meta)
    note = _call(Database.note)
    sort_out = _call(Database.sort_out)
    events_seen = _call(Database.events_seen)
    deletable = _call(Database.deletable)
    mark_deleted = _call(Database.mark_deleted)
    set_aside = _call(Database.set_aside)
    aside = _call(Database.aside)
    aside_reasons = _call(Database.aside_reasons)
    release = _call(Database.release)
    release_waiting = _call(Database.release_waiting)
    forget_absent = _call(Database.forget_absent)
    counts = _call(Database.counts)
    lost = _call(Database.lost)
    make_file_again = _call(Database.make_file_again)

    async def taken(self) -> State:
        """Return the state as this process's own, to be called once no other process may count."""
        return self

    def lock_name(self) -> str | None:
        """Return a name that only the process with the lock on this very file can have; None where nothing proves it.

        It is not in the file, so that a copy of the state has another: it names the file's place on this machine.
        """
        place = place_of(self.database.path)
        if place is None:
            return None
        return "state-" + blake2b(place.encode(), key=self.database.secret_key(), digest_size=8).hexdigest()

    def close(self) -> None:
        """Wait for the call that runs and give up the lock."""
        self._thread.shutdown(wait=True)
        self.database.close()
