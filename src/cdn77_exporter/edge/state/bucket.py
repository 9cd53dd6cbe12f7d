"""State that lives in the bucket: a journal of commits, one object each, and now and then a snapshot of the whole.

The database is in memory; a commit is done when its journal object is written. An object is only ever created, never
replaced (`If-None-Match: *`), and its name holds its number: of two processes that write number N, one fails, and must
end. What is not a commit (what was acknowledged, what was deleted) goes along with the next commit; losing it means
only that it is done again, to no effect. Which request is being sent has an object of its own, before it is sent.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from inspect import signature
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import cramjam
import msgspec

from cdn77_exporter.core.changes import Changes, Owing
from cdn77_exporter.core.errors import Conflict, LeaseLost, Misconfigured, StateError, Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.series_rows import pending_of, values_of
from cdn77_exporter.edge.state.database import Database
from cdn77_exporter.edge.state.store import State

P = ParamSpec("P")
T = TypeVar("T")
_SNAPSHOT_EVERY = 200  # commits
_DIGITS = 12
#: What is done between two commits and goes into the journal, with the form of its values there.
_LOGGED: dict[str, Any] = {
    "mark_sending": tuple[int],
    "mark_done": tuple[list[int], int | None, int, list[Owing] | None],
    "mark_deleted": tuple[list[tuple[str, str]]],
    "set_aside": tuple[tuple[str, str, int, int], str, str],
    "release": tuple[str],
}


class Objects(Protocol):
    """Objects of the bucket."""

    async def get(self, key: str) -> tuple[bytes, str] | None: ...
    async def put(self, key: str, body: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str: ...
    async def remove(self, key: str) -> None: ...
    def list_keys(self, prefix: str) -> AsyncIterator[list[str]]: ...


class _Entry(msgspec.Struct, array_like=True):
    """One journal object: what happened since the commit before, then the commit."""

    writer: str
    steps: list[tuple[str, list[Any]]]
    changes: Any  # `Changes`, or None


class BucketState(State):
    """The state of `State`, durable in the bucket under `prefix`."""

    def __init__(self, bucket: Objects, prefix: str, database: Database, number: int) -> None:
        super().__init__(database)
        self._bucket = bucket
        self._prefix = prefix
        self._number = number  # of the last journal object
        self._snapshot = number
        self._writer = secrets.token_hex(8)
        self._steps: list[tuple[str, list[Any]]] = []
        # What is tried again must have the same bytes: the first attempt may have arrived after all.
        self._encoded: tuple[Changes | None, bytes, int] | None = None
        self._finished: Changes | None = None  # a commit that another call has brought to its end
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, bucket: Objects, prefix: str) -> BucketState:
        """Read the newest snapshot and the journal after it."""
        keys = [key async for page in bucket.list_keys(f"{prefix}/") for key in page]
        snapshots = sorted(_number(key) for key in keys if "/snapshot-" in key)
        journal = sorted(_number(key) for key in keys if "/journal-" in key)
        database = Database(":memory:")
        number = 0
        if snapshots:
            number = snapshots[-1]
            body = await _read(bucket, _name(prefix, "snapshot", number))
            try:
                database.replace(bytes(cramjam.zstd.decompress(body)))
            except (cramjam.DecompressionError, sqlite3.DatabaseError, StateError) as error:
                raise _damaged(prefix, f"snapshot {number}: {error}") from error
        for entry_number in (found for found in journal if found > number):
            if entry_number != number + 1:
                raise _damaged(prefix, f"journal object {number + 1} is missing")
            _replay(database, prefix, entry_number, await _read(bucket, _name(prefix, "journal", entry_number)))
            number = entry_number
        if journal and not snapshots:
            raise _damaged(prefix, "there is a journal and no snapshot")
        state = cls(bucket, prefix, database, number)
        if not snapshots:
            await state.save()  # it holds the key that viewers are hashed with
        return state

    async def taken(self) -> State:
        """Read the state again, as another process may have written it meanwhile, and make it this process's own.

        Raises Transient when another process has just done the same.
        """
        state = await BucketState.open(self._bucket, self._prefix)
        try:
            await state.take()
        except BaseException:
            state.close()
            raise
        return state

    async def commit(self, changes: Changes) -> None:
        """Write the journal object; raises LeaseLost when another process has written one of that number."""
        async with self._turn:
            if self._encoded is not None and self._encoded[0] is not changes:
                await self._write_encoded()
            if self._finished is not changes:
                if self._encoded is None:
                    self._encoded = (changes, await self.run(self._encode, changes), len(self._steps))
                await self._write_encoded()
            self._finished = None
        if self._number - self._snapshot >= _SNAPSHOT_EVERY:
            # The commit is done, and may not be tried again because of this; the next one tries the snapshot again.
            with suppress(Transient, Misconfigured):
                await self.save()

    async def take(self) -> None:
        """Make the state this process's own: whoever had it before can commit nothing more. Transient when just now
        somebody did; then the state is to be read again."""
        try:
            await self._append(self._number + 1, _packed(_Entry(self._writer, [], None)))
        except LeaseLost as error:
            raise Transient(str(error)) from error
        self._number += 1

    async def _write_encoded(self) -> None:
        """Write the journal object that is encoded, and do what it says."""
        assert self._encoded is not None  # noqa: S101
        changes, body, steps = self._encoded
        await self._append(self._number + 1, body)
        self._number += 1
        self._encoded, self._steps = None, self._steps[steps:]
        if changes is not None:
            await self.run(self.database.commit, changes)
            self._finished = changes

    async def _write_steps(self) -> None:
        """Write the steps since the last commit in a journal object of their own."""
        if self._encoded is not None:
            await self._write_encoded()
        self._encoded = (None, await self.run(self._encode, None), len(self._steps))
        await self._write_encoded()

    def _encode(self, changes: Changes | None) -> bytes:
        return _packed(_Entry(self._writer, self._steps, changes))

    async def _append(self, number: int, body: bytes) -> None:
        key = _name(self._prefix, "journal", number)
        try:
            await self._bucket.put(key, body, if_none_match=True)
        except Conflict as error:
            found = await self._bucket.get(key)
            if found is None or found[0] != body:  # else the first attempt had arrived and only its answer was lost
                raise LeaseLost(f"another process has written {key}: it works on this state") from error

    async def save(self) -> None:
        """Write a snapshot, then remove what it makes needless."""
        async with self._turn:
            number = self._number
            body = await self.run(lambda: bytes(cramjam.zstd.compress(self.database.serialize(), level=3)))
            await self._bucket.put(_name(self._prefix, "snapshot", number), body)
            self._snapshot = number
        async for page in self._bucket.list_keys(f"{self._prefix}/"):
            for key in page:
                old = _number(key)
                if ("/journal-" in key and old <= number) or ("/snapshot-" in key and old < number):
                    await self._bucket.remove(key)

    async def ask(self, method: Callable[Concatenate[Database, P], T], /, *values: P.args, **named: P.kwargs) -> T:
        """Call a method of the database; what it changes goes along with the next commit."""
        if method.__name__ not in _LOGGED:
            return await super().ask(method, *values, **named)
        async with self._turn:
            result = await super().ask(method, *values, **named)
            bound = signature(method).bind(self.database, *values, **named)
            bound.apply_defaults()
            self._steps.append((method.__name__, [_plain(value) for value in bound.args[1:]]))
            if method.__name__ == "mark_sending" or bound.arguments.get("sending"):
                await self._write_steps()
        return result


def _packed(entry: _Entry) -> bytes:
    return bytes(cramjam.zstd.compress(msgspec.msgpack.encode(entry, enc_hook=list), level=3))


def _plain(value: Any) -> Any:
    return [value.key, value.etag, value.size, value.modified_ms] if isinstance(value, LogFile) else value


def _name(prefix: str, kind: str, number: int) -> str:
    return f"{prefix}/{kind}-{number:0{_DIGITS}d}"


def _number(key: str) -> int:
    tail = key.rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1


async def _read(bucket: Objects, key: str) -> bytes:
    found = await bucket.get(key)
    if found is None:
        raise Transient(f"the state object {key} has gone while it was read")  # its owner has just tidied up
    return found[0]


def _completed(name: str, values: list[Any]) -> list[Any]:
    """Return the values of a step, with what 0.1.0 did not have."""
    missing: dict[str, list[Any]] = {"set_aside": [""], "mark_done": [0, None]}
    return values + missing.get(name, []) if len(values) == 2 else values


def _changes(given: dict[str, Any] | None) -> Changes | None:
    """Return a commit; those of 0.1.0 have lists where there are rows now."""
    if given is None:
        return None
    if isinstance(given["series"], list):
        given |= {"series": values_of(given["series"]), "pending": pending_of(given["pending"])}
    return msgspec.convert(given, Changes)


def _replay(database: Database, prefix: str, number: int, body: bytes) -> None:
    try:
        entry = msgspec.msgpack.decode(bytes(cramjam.zstd.decompress(body)), type=_Entry)
        changes = _changes(entry.changes)
        steps = [
            (name, list(msgspec.convert(_completed(name, values), _LOGGED[name])))
            for name, values in entry.steps
            if name != "prune"
        ]  # which 0.1.0 wrote, and which need not be done
    except (cramjam.DecompressionError, msgspec.MsgspecError, KeyError) as error:
        raise _damaged(prefix, f"journal object {number}: {error}") from error
    for name, values in steps:
        if name == "set_aside":
            values[0] = LogFile(*values[0])
        getattr(database, name)(*values)
    if changes is not None:
        database.commit(changes)


def _damaged(prefix: str, what: str) -> StateError:
    return StateError(
        f"the state under {prefix}/ in the bucket is damaged ({what})",
        "copy that prefix away and empty it to start fresh, or restore it from a copy",
    )
