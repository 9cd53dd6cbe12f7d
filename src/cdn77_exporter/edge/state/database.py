"""The embedded database that makes a crash harmless: one file, one atomic step per commit.

It holds the counters, the file ledger, what is counted and not yet settled, the viewer windows, the last tick and the
encoded requests that no receiver has acknowledged. The rollback journal (not a write-ahead log) keeps all of it in a
single file, so that no loss of a second file can take back a commit; every commit is synced to the disk.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from cdn77_exporter.core.changes import AsideFile, Changes, CountedFile, Owing, ProfileRow, Snapshot, Sorted, Unsent
from cdn77_exporter.core.content import Content
from cdn77_exporter.core.errors import StateError, Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.reasons import NO_STREAM_YET
from cdn77_exporter.core.series_rows import latest, packed
from cdn77_exporter.core.viewers.rows import merge_runs
from cdn77_exporter.edge.state import schema
from cdn77_exporter.edge.state.file import (
    READ_ERRORS,
    REPLACED_SUFFIX,
    copy_to,
    damaged,
    open_file,
    private_folder,
    state_error,
)
from cdn77_exporter.edge.state.schema import ASIDE, COUNTED, DONE, LEDGER, Damaged, Table

Identity = tuple[str, str]

_UNWRITABLE = "free some space or make the state file writable; nothing is lost meanwhile"
_FAN_IN = 8  # runs of viewers of one level that are merged into one of the next
_SERIES_FAN_IN = 4  # the same for runs of series, each of which may hold all of them
_LEVELS = 100  # more than there ever are; every part of the viewers has so many, and what has just come is 0
_KEYS_AT_ONCE = 500
_FORGOTTEN_AT_ONCE = 5_000  # rows that one call looks at
_WITH_KEYS = f"WHERE key IN ({', '.join('?' * _KEYS_AT_ONCE)})"
_decode_profile = msgspec.msgpack.Decoder(list[Any]).decode
_decode_waits = msgspec.msgpack.Decoder(list[tuple[int, int, int]]).decode
_decode_owed = msgspec.msgpack.Decoder(list[Owing]).decode
_NO_TICK = 2**62  # after all
# Requests are numbered in the order of ticks, so that the first of them tells the first tick.
_FIRST_TICK = "coalesce((SELECT tick FROM outbox ORDER BY number LIMIT 1), ?)"
_DELETE_TOLD = f"DELETE FROM told WHERE tick < {_FIRST_TICK}"  # noqa: S608
_EMPTY_LIST = msgspec.msgpack.encode([])


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from every other one on this machine; None when there is none, or only memory."""
    try:
        found = os.stat(path)  # noqa: PTH116 - it may be ":memory:"
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Database:
    """The state as plain calls; one thread at a time. `path`: a file, or ":memory:" for a process that keeps nothing.

    `on_statement` is called before every statement, so that tests can make each of them the last.
    """

    def __init__(self, path: str, on_statement: Callable[[str], None] | None = None) -> None:
        self.path = path
        self._on_statement = on_statement
        self._connection = open_file(path)
        self._file = _identity(path)
        self._counts: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()  # what the step that is being done adds to the counts
        try:
            self._count_anew()
        except BaseException:
            self.close()  # the lock must not outlive the refusal
            raise

    def close(self) -> None:
        """Give up the lock. A file that was removed or replaced is made again before, if that can be done."""
        with suppress(StateError, OSError):
            if self.lost():
                self._copy_file()
        self._connection.close()

    def lost(self) -> str:
        """Say what has become of the state file: it was `removed`, or `replaced` by another; empty when it is there."""
        found = _identity(self.path)
        if found == self._file:
            return ""
        return "removed" if found is None else "replaced"

    def make_file_again(self) -> None:
        """Make the state file again that is `lost`, and go on with it; the other one is kept beside it.

        Raises StateError, after which the open state is as it was, if it is the folder that cannot be written.
        """
        self._copy_file()
        self._connection.close()
        self._connection = open_file(self.path)
        self._file = _identity(self.path)

    def _copy_file(self) -> None:
        path = Path(self.path)
        private_folder(path.parent)
        journal = Path(f"{path}-journal")
        if journal.exists() and journal.stat().st_size:  # of the other file
            journal.replace(f"{path}{REPLACED_SUFFIX}-journal")
        if path.exists():
            path.replace(f"{path}{REPLACED_SUFFIX}")
        copy_to(self._connection, self.path)

    def serialize(self) -> bytes:
        """Return the whole state as the bytes of a database file."""
        return self._connection.serialize()

    def replace(self, content: bytes) -> None:
        """Replace the content by what `serialize` returned (for a state in memory)."""
        # By a new connection: an old one would use statements again that it has prepared for other tables.
        connection = open_file(self.path, content)
        self._connection.close()
        self._connection = connection
        self._count_anew()

    # Statements

    def _execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        if self._on_statement:
            self._on_statement(statement)
        return self._connection.execute(statement, values)

    def _each(self, statement: str, rows: Iterable[Sequence[object]]) -> int:
        """Do a statement for every row; how many rows of the table it changed."""
        if self._on_statement:
            self._on_statement(statement)
        return self._connection.executemany(statement, rows).rowcount

    def _rows(self, table: Table, rest: str = "", values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a table as they were written; raises StateError when one was altered."""
        try:
            yield from table.sound(self._connection.execute(f"{table.select} {rest}", values))
        except Damaged as error:
            raise damaged(self.path, error) from error
        except READ_ERRORS as error:
            if self._connection.in_transaction and isinstance(error, sqlite3.OperationalError):
                raise  # the step may be tried again
            raise state_error(self.path, error) from error

    def _atomically(self, step: Callable[[], None]) -> None:
        """Do all of a step or nothing. Raises Transient when the disk refuses; then it may be tried again."""
        self._counted.clear()
        try:
            self._execute("BEGIN IMMEDIATE")
            step()
            self._execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise Transient(f"the state file {self.path} cannot be written: {error}", remedy=_UNWRITABLE) from error
            if isinstance(error, sqlite3.DatabaseError):
                raise state_error(self.path, error) from error
            raise
        self._counts.update(self._counted)

    # Restoring

    def secret_key(self) -> bytes:
        """Return the random key that viewers are hashed with; it is made with the state."""
        for _, key in self._rows(schema.SECRET):
            return bytes(key)
        raise damaged(self.path, "it has no key")

    def load(self) -> Snapshot | None:
        """Return what was committed last, or None when nothing was."""
        meta = dict(self._rows(schema.META))
        if "settled" not in meta:
            return None
        lists = dict(self._rows(schema.LISTS))
        return Snapshot(
            meta=meta,
            profiles=[
                msgspec.convert([number, *_decode_profile(labels)], ProfileRow)
                for number, labels in self._rows(schema.PROFILES, "ORDER BY number")
            ],
            series_keys=self._rows(schema.SERIES, "ORDER BY slot"),
            series=(rows for _, _, rows in self._rows(schema.SERIES_RUNS, "ORDER BY level DESC, id")),
            pending=bytes(lists.get("pending", b"")),
            waits=_decode_waits(lists.get("waits", _EMPTY_LIST)),
            viewer_runs=(rows for _, _, rows in self._rows(schema.VIEWER_RUNS, "ORDER BY level DESC, id")),
            held=((tick, tally) for _, tick, tally in self._rows(schema.HELD, "ORDER BY id")),
            shards=list(self._rows(schema.SHARDS)),
            metrics=list(self._rows(schema.METRICS, "ORDER BY code")),
            outbox=[(number, tick) for number, tick, _ in self.outbox()],
            owed=_decode_owed(lists.get("owed", _EMPTY_LIST)),
        )

    # Committing

    def commit(self, changes: Changes) -> None:
        """Write all of `changes` or nothing; Transient when the disk refuses, after which it may be tried again."""
        self._atomically(lambda: self._write(changes))

    def _write(self, changes: Changes) -> None:
        self._each(schema.META.replace, changes.meta.items())
        self._each(schema.METRICS.replace, changes.metrics)
        for table, gone in (("profiles", changes.profiles_gone), ("series", changes.series_gone)):
            self._delete(table, gone)
        profiles = map(msgspec.structs.astuple, changes.profiles)
        self._each(schema.PROFILES.insert, ((number, msgspec.msgpack.encode(labels)) for number, *labels in profiles))
        self._each(schema.SERIES.insert, changes.series_new)
        if changes.series:
            self._add_run(schema.SERIES_RUNS, 0, changes.series)
            self._merge_series(0)
        self._execute(schema.LISTS.replace, ("pending", changes.pending))
        self._execute(schema.LISTS.replace, ("waits", msgspec.msgpack.encode(changes.waits)))
        self._write_owed(changes.owed)
        self._each(schema.TOLD.replace, changes.told)
        if changes.viewers:
            self._add_run(schema.VIEWER_RUNS, 0, changes.viewers)
            self._merge_runs(0, changes.meta.get("viewers_since_ms", 0))
        self._execute("DELETE FROM held WHERE tick <= ?", (changes.held_until,))
        ids = count(self._next_id("held"))
        self._each(schema.HELD.insert, ((next(ids), tick, tally) for tick, tally in changes.held))
        self._each(schema.SHARDS.replace, (row[:2] for row in changes.shards))
        self._add_files(changes.files)
        requests = changes.requests
        self._each(schema.OUTBOX.insert, ((one.number, one.tick, one.samples, len(one.body)) for one in requests))
        self._each(schema.BODIES.insert, ((one.number, one.body) for one in requests))
        self._counted.update(requests=len(requests), bytes=sum(len(one.body) for one in requests))

    def _write_owed(self, owed: Sequence[Owing] | None) -> None:
        if owed is not None:
            self._execute(schema.LISTS.replace, ("owed", msgspec.msgpack.encode(owed)))

    def _delete(self, table: str, numbers: Iterable[int]) -> None:
        """Delete rows of a table whose key is a number."""
        self._each(f"DELETE FROM {table} WHERE rowid = ?", ((number,) for number in numbers))  # noqa: S608 - constants

    def _next_id(self, table: str) -> int:
        """Return an id for a new row, later than all others."""
        found: int = self._execute(f"SELECT coalesce(max(id), 0) + 1 FROM {table}").fetchone()[0]  # noqa: S608
        return found

    def _add_run(self, table: Table, level: int, rows: bytes) -> None:
        self._execute(table.insert, (self._next_id(table.name), level, rows))

    def _merge_series(self, level: int) -> None:
        found = self._execute("SELECT count(*) FROM series_runs WHERE level = ?", (level,)).fetchone()
        if found[0] < _SERIES_FAN_IN:
            return
        runs = self._rows(schema.SERIES_RUNS, "WHERE level = ? ORDER BY id", (level,))
        merged = latest(rows for _, _, rows in runs)
        self._execute("DELETE FROM series_runs WHERE level = ?", (level,))
        self._add_run(schema.SERIES_RUNS, level + 1, packed(merged))
        self._merge_series(level + 1)

    def _merge_runs(self, level: int, since_ms: int) -> None:
        found = self._execute("SELECT count(*) FROM viewer_runs WHERE level = ?", (level,)).fetchone()
        if found[0] < _FAN_IN:
            return
        runs = self._rows(schema.VIEWER_RUNS, "WHERE level = ? ORDER BY id", (level,))
        merged = merge_runs((rows for _, _, rows in runs), since_ms)  # one after the other, for they are large
        self._execute("DELETE FROM viewer_runs WHERE level = ?", (level,))
        for part, rows in enumerate(merged):
            if rows:
                above = part * _LEVELS + level % _LEVELS + 1
                self._add_run(schema.VIEWER_RUNS, above, rows)
                self._merge_runs(above, since_ms)

    # The outbox

    def outbox(self) -> list[Unsent]:
        """Return the requests not yet done, in order."""
        return [Unsent(*row[:3]) for row in self._rows(schema.OUTBOX, "ORDER BY number")]

    def body(self, number: int) -> bytes:
        """Return the body of a request in the outbox."""
        for _, body in self._rows(schema.BODIES, "WHERE number = ?", (number,)):
            return bytes(body)
        raise damaged(self.path, f"it lacks the body of request {number}")

    def sending(self) -> int:
        """Return the number of the request of which an answer may be lost, 0 for none."""
        for _, number in self._rows(schema.META, "WHERE name = 'sending'"):
            return int(number)
        return 0

    def mark_sending(self, number: int) -> None:
        """Record the request of which an answer may be lost from now on, 0 for none."""
        self._atomically(lambda: self._mark_sending(number))

    def _mark_sending(self, number: int) -> None:
        self._execute(schema.META.replace, ("sending", number))

    def told(self, tick: int) -> bytes | None:
        """Return what a tick that has requests in the outbox tells of counters; None of a tick of 0.1.0."""
        for _, content in self._rows(schema.TOLD, "WHERE tick = ?", (tick,)):
            return bytes(content)
        return None

    def mark_done(
        self,
        numbers: Sequence[int],
        acknowledged: int | None,
        sending: int = 0,
        owed: Sequence[Owing] | None = None,
    ) -> None:
        """Take requests out of the outbox, and note which is sent next.

        `acknowledged`: the last tick that has been accepted whole, if it moved. `owed`: the series that are owed then;
        None when they are the same as before.
        """

        def step() -> None:
            for number in set(numbers):
                for _, _, _, size in self._rows(schema.OUTBOX, "WHERE number = ?", (number,)):
                    self._counted.update(requests=-1, bytes=-size)
            for table in ("outbox", "bodies"):
                self._each(f"DELETE FROM {table} WHERE number = ?", ((number,) for number in numbers))  # noqa: S608
            self._execute(_DELETE_TOLD, (_NO_TICK,))
            self._write_owed(owed)
            if acknowledged is not None:
                self._execute(schema.META.replace, ("acknowledged", max(acknowledged, self.acknowledged())))
            self._mark_sending(sending)

        self._atomically(step)

    def acknowledged(self) -> int:
        """Return the last tick (Unix seconds) up to which the receiver has everything; 0 when there is none."""
        for _, tick in self._rows(schema.META, "WHERE name = 'acknowledged'"):
            return int(tick)
        return 0

    # The ledger

    def meta(self) -> dict[str, int]:
        """Return the numbers of the state, by name."""
        return dict(self._rows(schema.META))

    def events_seen(self, rules: int) -> bool:
        """Tell whether an event was counted by these rules for streams, given by a hash; others are noted."""
        meta = self.meta()
        same = meta.get("stream_rules", rules) == rules
        seen = meta.get("events_seen", 0) if same else 0
        if not same or "stream_rules" not in meta:

            def step() -> None:
                self._each(schema.META.replace, [("stream_rules", rules), ("events_seen", seen)])

            with suppress(Transient):  # then the next start notes it
                self._atomically(step)
        return bool(seen)

    def note(self, name: str, number: int) -> int | None:
        """Note a number that stands for a setting; return the one that was noted before, None without one."""
        before = self.meta().get(name)
        if before != number:

            def step() -> None:
                self._execute(schema.META.replace, (name, number))

            with suppress(Transient):  # then the next start notes it
                self._atomically(step)
        return before

    def sort_out(self, files: Sequence[LogFile], *, again: bool = False) -> Sorted:
        """Tell which of some listed files, no two of one key, are to be counted.

        `again`: files that had been deleted and are in the bucket again are to be deleted again.
        """
        listed = {file.key: file for file in files}
        aside, counted, done = (self._with_keys(table, listed) for table in (ASIDE, COUNTED, DONE))
        found = Sorted([], [])
        back = []
        for key, file in listed.items():
            if key in aside:
                row = AsideFile(*aside[key])
                if row.etag == file.etag and file.modified_ms <= row.modified_ms:
                    continue
                found.released.append(key)
            known = counted.get(key) or done.get(key)
            if known is None:
                found.new.append(file)
            elif known[1] != file.etag:
                found.new.append(replace(file, counted=Content(*known[-2:])))
            elif again and key in done:
                back.append((key, file.etag, 0, file.size, file.modified_ms, *known[-2:]))
        if back or found.released:

            def step() -> None:
                self._forget(ASIDE, found.released)
                self._forget(DONE, [row[0] for row in back])
                self._add(COUNTED, back)

            self._atomically(step)
        return found

    def _with_keys(self, table: Table, wanted: Iterable[str]) -> dict[str, tuple[Any, ...]]:
        """Return the rows of one of the ledger's tables that have these keys, by key."""
        keys = sorted(set(wanted)) if self._counts[table.name] else []
        found: dict[str, tuple[Any, ...]] = {}
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[begin : begin + _KEYS_AT_ONCE]
            some += some[-1:] * (_KEYS_AT_ONCE - len(some))  # the same statement for any number of keys
            found.update((row[0], row) for row in self._rows(table, _WITH_KEYS, some))
        return found

    def _add(self, table: Table, rows: Sequence[Sequence[object]]) -> None:
        self._each(table.insert, rows)
        self._counted[table.name] += len(rows)

    def _forget(self, table: Table, keys: Iterable[str]) -> None:
        gone = ((key,) for key in keys)
        self._counted[table.name] -= self._each(f"DELETE FROM {table.name} WHERE key = ?", gone)  # noqa: S608

    def _add_files(self, files: Iterable[CountedFile]) -> None:
        """Enter files; what is counted of a key comes to what was counted of it before."""
        rows = {file.key: file for file in files}
        due = {key: row[2] for key, row in self._with_keys(COUNTED, rows).items()}
        for table in LEDGER:
            self._forget(table, rows)
        self._add(COUNTED, [_row(file, max(file.due, due.get(file.key, 0))) for file in rows.values()])
        if any(file.due for file in rows.values()):
            self._note_events()

    def deletable(self, through: int, most: int, skip: int = 0) -> list[CountedFile]:
        """Return counted files that are due by the tick `through`, oldest first, without the first `skip`.

        Nothing as long as no event was ever counted: settings that fit no line must not empty a bucket.
        """
        if not self._counts[COUNTED.name] or not self.meta().get("events_seen"):
            return []
        rest = "WHERE due <= ? ORDER BY due, key LIMIT ? OFFSET ?"
        return [CountedFile(*row) for row in self._rows(COUNTED, rest, (through, most, skip))]

    def mark_deleted(self, files: Sequence[Identity]) -> None:
        """Mark files that are no longer in the bucket, or are kept there permanently; the ledger remembers them."""

        def step() -> None:
            etags = dict(files)
            rows = [row for key, row in self._with_keys(COUNTED, etags).items() if row[1] == etags[key]]
            self._forget(COUNTED, [row[0] for row in rows])
            self._add(DONE, [(*row[:2], *row[4:]) for row in rows])

        self._atomically(step)

    # Files set aside

    def _note_events(self) -> None:
        """Note that the state has seen an event; files that wait for that are to be looked at again."""
        self._execute(schema.META.replace, ("events_seen", 1))
        self._release_waiting()

    def release_waiting(self) -> None:
        """Forget the files that were set aside as they had no stream yet: the settings may be others now."""
        self._atomically(self._release_waiting)

    def _release_waiting(self) -> None:
        if self._counts[ASIDE.name]:
            gone = self._execute("DELETE FROM aside WHERE reason = ?", (NO_STREAM_YET,)).rowcount
            self._counted[ASIDE.name] -= gone

    def set_aside(self, file: LogFile, reason: str, detail: str = "") -> None:
        """Set aside a file that cannot be counted and will not be tried again."""

        def step() -> None:
            self._forget(ASIDE, [file.key])
            self._add(ASIDE, [(file.key, file.etag, reason, file.size, file.modified_ms, detail)])

        self._atomically(step)

    def aside(self, most: int = 1000) -> list[AsideFile]:
        """Return files that are set aside, by key."""
        return [AsideFile(*row) for row in self._rows(ASIDE, "ORDER BY key LIMIT ?", (most,))]

    def aside_reasons(self) -> dict[str, int]:
        """Return how many files are set aside, by reason."""
        return dict(self._connection.execute("SELECT reason, count(*) FROM aside GROUP BY reason"))

    def release(self, key: str) -> None:
        """Forget that a file was set aside, so that it is tried again."""
        self._atomically(lambda: self._forget(ASIDE, [key]))

    def forget_absent(self, after: str, upto: str, listed: Collection[str], gone_ms: int, old_ms: int) -> str:
        """Forget files between two keys that a listing did not name; return the key up to which that is done.

        Of those set aside the ones uploaded before `gone_ms`, of those deleted the ones uploaded before `old_ms`: they
        cannot be listed again. A call looks at some thousands of them, so that none takes long.
        """
        between = "WHERE key > ? AND key <= ? ORDER BY key LIMIT ?"
        values = (after, upto, _FORGOTTEN_AT_ONCE)
        aside = [AsideFile(*row) for row in self._rows(ASIDE, between, values)] if self._counts[ASIDE.name] else []
        done = list(self._rows(DONE, between, values)) if old_ms and self._counts[DONE.name] else []
        reached = upto
        for keys in ([row[0] for row in done], [row.key for row in aside]):
            if len(keys) == _FORGOTTEN_AT_ONCE:
                reached = min(reached, keys[-1])
        lost = [row.key for row in aside if row.key not in listed and row.modified_ms < gone_ms and row.key <= reached]
        old = [row[0] for row in done if row[0] not in listed and row[2] < old_ms and row[0] <= reached]
        if lost or old:

            def step() -> None:
                self._forget(ASIDE, lost)
                self._forget(DONE, old)

            self._atomically(step)
        return reached

    # Counts

    def counts(self) -> dict[str, int]:
        """Return how many files the ledger holds, by kind, and requests and bytes of the outbox; at no cost."""
        return {name: self._counts[name] for name in (*(table.name for table in LEDGER), "requests", "bytes")}

    def _count_anew(self) -> None:
        """Count what there is, and check the ledger: a file whose key is damaged would be counted again."""
        self._counts.clear()
        try:
            for table in LEDGER:
                found, wrong = self._connection.execute(table.verify).fetchone()
                if wrong:
                    raise damaged(self.path, f"a checksum is wrong in {table.name}")
                self._counts[table.name] = found
            outbox = self._connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM outbox")
            requests, size = outbox.fetchone()
        except READ_ERRORS as error:
            raise state_error(self.path, error) from error
        self._counts.update(requests=requests, bytes=size)


def _row(file: CountedFile, due: int) -> tuple[object, ...]:
    return (file.key, file.etag, due, file.size, file.modified_ms, file.length, file.hash)
