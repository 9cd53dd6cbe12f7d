"""The embedded database that makes a crash harmless: one file, one atomic step per commit.

It holds the counters, the file ledger, what is counted and not yet settled, the viewer windows, the last tick and the
encoded requests that no receiver has acknowledged. The rollback journal (not a write-ahead log) keeps all of it in a
single file, so that no loss of a second file can take back a commit; every commit is synced to the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from zlib import crc32

import msgspec

from cdn77_exporter.core.changes import Changes, CountedFile, Snapshot
from cdn77_exporter.core.errors import StateError, Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.viewers.rows import merge_runs
from cdn77_exporter.edge.state.file import RESTART, check, open_file, state_error
from cdn77_exporter.edge.state.schema import ASIDE, COUNTED, DONE

_UNWRITABLE = "free some space or make the state file writable; nothing is lost meanwhile"
_FAN_IN = 8  # runs of viewers of one level that are merged into one of the next
_LEVELS = 100  # more than there ever are; every part of the viewers has so many, and what has just come is 0


class Database:
    """The state as plain calls; one thread at a time. `path`: a file, or ":memory:" for a process that keeps nothing.

    `on_statement` is called before every statement, so that tests can make each of them the last.
    """

    def __init__(self, path: str, on_statement: Callable[[str], None] | None = None) -> None:
        self.path = path
        self._on_statement = on_statement
        self._connection = open_file(path)

    def _execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        if self._on_statement:
            self._on_statement(statement)
        return self._connection.execute(statement, values)

    def _each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        if self._on_statement:
            self._on_statement(statement)
        self._connection.executemany(statement, rows)

    def _atomically(self, step: Callable[[], None]) -> None:
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

    def close(self) -> None:
        """Give up the lock."""
        self._connection.close()

    def serialize(self) -> bytes:
        """The whole state as the bytes of a database file."""
        return self._connection.serialize()

    def replace(self, content: bytes) -> None:
        """Become what `serialize` gave (for a state in memory)."""
        self._connection.deserialize(content)
        check(self._connection, self.path)

    # Restoring

    def secret_key(self) -> bytes:
        """The random key that viewers are hashed with; made with the state."""
        return bytes(self._connection.execute("SELECT key FROM secret").fetchone()[0])

    def load(self) -> Snapshot | None:
        """What was committed last, or None when nothing was."""
        select = self._connection.execute
        meta = dict(select("SELECT name, value FROM meta"))
        if "settled" not in meta:
            return None
        profiles = [
            (number, *msgspec.msgpack.decode(labels, type=tuple[str, str | None, str | None, tuple[str, str] | None]))
            for number, labels in select("SELECT number, labels FROM profiles ORDER BY number")
        ]
        return Snapshot(
            meta=meta,
            profiles=profiles,
            series=self._series(),
            pending=list(select("SELECT slot, value FROM pending")),
            waits=list(select("SELECT slot, total_ms, count FROM waits")),
            viewer_runs=map(self._unseal, select("SELECT rows FROM viewer_runs ORDER BY level DESC, id")),
            held=((tick, self._unseal((tally,))) for tick, tally in select("SELECT tick, tally FROM held ORDER BY id")),
            shards=list(select("SELECT name, newest_ms, seen_ms FROM shards")),
        )

    def _series(self) -> Iterator[tuple[str, float, int, int, bool]]:
        rows = self._connection.execute("SELECT slot, key, value, changed, written, live FROM series ORDER BY slot")
        for expected, (slot, key, value, changed, written, live) in enumerate(rows):
            if slot != expected:
                raise StateError(f"the state file {self.path} lacks series {expected}", RESTART)
            yield key, value, changed, written, bool(live)

    # Committing

    def commit(self, changes: Changes) -> None:
        """Write all of `changes` or nothing; Transient when the disk refuses, after which it may be tried again."""
        self._atomically(lambda: self._write(changes))

    def _write(self, changes: Changes) -> None:
        self._each(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            changes.meta.items(),
        )
        self._each(
            "INSERT INTO profiles VALUES (?, ?)",
            ((number, msgspec.msgpack.encode(labels)) for number, *labels in changes.profiles),
        )
        self._each("INSERT INTO series (slot, key) VALUES (?, ?)", changes.series_new)
        self._each(
            "UPDATE series SET value = ?2, changed = ?3, written = ?4, live = ?5 WHERE slot = ?1", changes.series
        )
        self._execute("DELETE FROM pending")
        self._each("INSERT INTO pending VALUES (?, ?)", changes.pending)
        self._execute("DELETE FROM waits")
        self._each("INSERT INTO waits VALUES (?, ?, ?)", changes.waits)
        if changes.viewers:
            self._execute("INSERT INTO viewer_runs (level, rows) VALUES (0, ?)", (_seal(changes.viewers),))
            self._merge_runs(0, changes.meta.get("viewers_since_ms", 0))
        self._execute("DELETE FROM held WHERE tick <= ?", (changes.held_until,))
        self._each(
            "INSERT INTO held (tick, tally) VALUES (?, ?)", ((tick, _seal(tally)) for tick, tally in changes.held)
        )
        self._each("INSERT OR REPLACE INTO shards VALUES (?, ?, ?)", changes.shards)
        self._each(
            "INSERT OR REPLACE INTO files VALUES (?, ?, 0, ?, ?, ?, '')",
            ((file.key, file.etag, file.due, file.size, file.modified_ms) for file in changes.files),
        )
        self._each(
            "INSERT INTO outbox VALUES (?, ?, ?, ?)",
            ((request.number, request.tick, request.samples, _seal(request.body)) for request in changes.requests),
        )

    def _merge_runs(self, level: int, since_ms: int) -> None:
        count = self._execute("SELECT count(*) FROM viewer_runs WHERE level = ?", (level,)).fetchone()[0]
        if count < _FAN_IN:
            return
        runs = self._execute("SELECT rows FROM viewer_runs WHERE level = ? ORDER BY id", (level,))
        merged = merge_runs(map(self._checked, runs), since_ms)  # one after the other, for they are large
        self._execute("DELETE FROM viewer_runs WHERE level = ?", (level,))
        for part, rows in enumerate(merged):
            if rows:
                above = part * _LEVELS + level % _LEVELS + 1
                self._execute("INSERT INTO viewer_runs (level, rows) VALUES (?, ?)", (above, _seal(rows)))
                self._merge_runs(above, since_ms)

    # The outbox

    def outbox(self) -> list[tuple[int, int, int]]:
        """Number, tick and samples of the requests not yet done, in order."""
        return self._execute("SELECT number, tick, samples FROM outbox ORDER BY number").fetchall()

    def body(self, number: int) -> bytes:
        """The body of a request in the outbox."""
        return self._unseal(self._execute("SELECT body FROM outbox WHERE number = ?", (number,)).fetchone())

    def _unseal(self, row: tuple[bytes]) -> bytes:
        """A copy of what `_checked` gives."""
        return bytes(self._checked(row))

    def _checked(self, row: tuple[bytes]) -> memoryview:
        """A row's only value without its checksum; StateError when it is not what was written."""
        content = memoryview(row[0])
        if crc32(content[:-4]).to_bytes(4, "little") != content[-4:]:
            raise StateError(f"the state file {self.path} is damaged (a checksum is wrong)", RESTART)
        return content[:-4]

    def mark_done(self, numbers: Sequence[int], acknowledged: int | None) -> None:
        """Take requests out of the outbox; `acknowledged`: the last tick that has been accepted whole, if it moved."""

        def step() -> None:
            self._each("DELETE FROM outbox WHERE number = ?", ((number,) for number in numbers))
            if acknowledged is not None:
                self._execute(
                    "INSERT INTO meta VALUES ('acknowledged', ?) "
                    "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                    (acknowledged,),
                )

        self._atomically(step)

    # The ledger

    def known(self, files: Sequence[LogFile], again: bool = False) -> set[tuple[str, str]]:
        """The identities among `files` that the ledger has.

        `again`: those of them that had been deleted are in the bucket again and are to be deleted again.
        """
        if not files:
            return set()
        keys = [file.key for file in files]
        rows = self._execute(
            "SELECT key, etag, status FROM files WHERE key BETWEEN ? AND ?", (min(keys), max(keys))
        ).fetchall()
        listed = {file.identity for file in files}
        back = [(key, etag) for key, etag, status in rows if status == DONE and (key, etag) in listed]
        if again and back:
            self._atomically(lambda: self._each("UPDATE files SET status = 0 WHERE key = ? AND etag = ?", back))
        return listed & {(key, etag) for key, etag, _ in rows}

    def acknowledged(self) -> int:
        """Return the last tick (Unix seconds) up to which the receiver has everything; 0 when there is none."""
        row = self._execute("SELECT coalesce(max(value), 0) FROM meta WHERE name = 'acknowledged'").fetchone()
        return int(row[0])

    def deletable(self, through: int, most: int, skip: int = 0) -> list[CountedFile]:
        """Return counted files that are due by the tick `through`, oldest first, without the first `skip`."""
        rows = self._execute(
            "SELECT key, etag, due, size, modified_ms FROM files WHERE status = 0 AND due <= ? "
            "ORDER BY due, key LIMIT ? OFFSET ?",
            (through, most, skip),
        )
        return [CountedFile(*row) for row in rows]

    def mark_deleted(self, files: Sequence[tuple[str, str]]) -> None:
        """The files are no longer in the bucket (or are kept there for good); the ledger remembers them."""
        self._atomically(lambda: self._each("UPDATE files SET status = 1 WHERE key = ? AND etag = ?", files))

    def set_aside(self, file: LogFile, reason: str) -> None:
        """The file cannot be read and will not be tried again."""
        row = (file.key, file.etag, ASIDE, 0, file.size, file.modified_ms, reason)
        self._atomically(lambda: self._each("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", [row]))

    def aside(self, most: int = 1000) -> list[tuple[str, str, str, int]]:
        """Key, ETag, reason and size of files set aside."""
        rows = self._execute("SELECT key, etag, reason, size FROM files WHERE status = 2 ORDER BY key LIMIT ?", (most,))
        return rows.fetchall()

    def uploaded_again(self, files: Sequence[LogFile]) -> list[str]:
        """The keys of files that were set aside and have been written again since, with the same content."""
        if not files:
            return []
        rows = self._execute(
            "SELECT key, etag, modified_ms FROM files WHERE status = 2 AND key BETWEEN ? AND ?",
            (min(file.key for file in files), max(file.key for file in files)),
        )
        aside = {(key, etag): modified_ms for key, etag, modified_ms in rows}
        return [file.key for file in files if file.modified_ms > aside.get(file.identity, file.modified_ms)]

    def release(self, key: str) -> bool:
        """Forget that a file was set aside, so that it is tried again; whether there was one."""
        found = []
        self._atomically(
            lambda: found.append(self._execute("DELETE FROM files WHERE status = 2 AND key = ?", (key,)).rowcount)
        )
        return bool(found[0])

    def prune(self, before_ms: int) -> None:
        """Forget files that are gone from the bucket and too old to be listed again."""
        self._atomically(
            lambda: (self._execute("DELETE FROM files WHERE status = 1 AND modified_ms < ?", (before_ms,)), None)[1]
        )

    def counts(self) -> dict[str, int]:
        """How many files the ledger holds, by status, and requests and bytes of the outbox."""
        found = dict(self._execute("SELECT status, count(*) FROM files GROUP BY status"))
        requests, size = self._execute("SELECT count(*), coalesce(sum(length(body) - 4), 0) FROM outbox").fetchone()
        return {
            "counted": found.get(COUNTED, 0),
            "done": found.get(DONE, 0),
            "aside": found.get(ASIDE, 0),
            "requests": requests,
            "bytes": size,
        }


def _seal(content: bytes) -> bytes:
    """With a checksum behind it: the pages of large values are the ones that SQLite's own check cannot judge."""
    return content + crc32(content).to_bytes(4, "little")
