"""The tables of the state: what they hold, how their rows are checked, and the version of their format.

Every row carries a checksum of its values, since SQLite's own check sees damage of its structure and not of
what is stored. Beside the tables stand the number of their rows and the sum of the checksums, kept by triggers: pages
that were never written, or were written to another place, leave rows that are sound, but not all of them. Text of the
schema is compared as a whole, so that damage to it is no other schema.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zlib import crc32

import msgspec

APPLICATION_ID = 0x63373765
VERSION = 6

_encode = msgspec.msgpack.Encoder().encode


class Damaged(Exception):
    """A row is not what was written."""


def _checksum(*values: object) -> int:
    return crc32(_encode(values))


@dataclass(frozen=True, eq=False)
class Table:
    """A table: its name, the declared type of each column, and the columns of its primary key."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]

    @cached_property
    def create(self) -> str:
        """The statement that makes it. Other keys than a single integer are those of the table's own tree."""
        columns = [f"{name} {kind} NOT NULL" for name, kind in self.columns.items()]
        parts = ", ".join([*columns, "checksum INTEGER NOT NULL", f"PRIMARY KEY ({', '.join(self.key)})"])
        return f"CREATE TABLE {self.name} ({parts}){'' if self._is_numbered else ' WITHOUT ROWID'}"

    @cached_property
    def triggers(self) -> tuple[str, str]:
        """The statements that make the triggers which keep the table's sums."""
        return tuple(  # type: ignore[return-value]
            f"CREATE TRIGGER {self.name}_{event.lower()} AFTER {event} ON {self.name} BEGIN UPDATE sums SET "  # noqa: S608
            f"entries = entries {sign} 1, total = total {sign} {row}.checksum WHERE name = '{self.name}'; END"
            for event, sign, row in (("INSERT", "+", "NEW"), ("DELETE", "-", "OLD"))
        )

    @cached_property
    def insert(self) -> str:
        """The statement that adds a row of all columns and gives it its checksum."""
        return f"INSERT INTO {self._values}"

    @cached_property
    def replace(self) -> str:
        """The same in place of the row with the same key."""
        return f"INSERT OR REPLACE INTO {self._values}"

    @cached_property
    def select(self) -> str:
        """The statement, up to its conditions, that reads rows for `sound`."""
        return f"SELECT {', '.join(self.columns)}, checksum FROM {self.name}"  # noqa: S608 - constants

    @cached_property
    def verify(self) -> str:
        """The statement that counts the rows, and those whose checksum is wrong; for tables without blobs."""
        return (
            f"SELECT count(*), coalesce(sum(checksum({', '.join(self.columns)}) <> checksum), 0) "  # noqa: S608
            f"FROM {self.name}"
        )

    def sound(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that `select` gave, without their checksums. Raises Damaged at one that was altered."""
        for row in rows:
            values = row[:-1]
            seen = [crc32(value) if isinstance(value, bytes) else value for value in values] if self._blobs else values
            if crc32(_encode(seen)) != row[-1]:
                raise Damaged(f"a checksum is wrong in {self.name}")
            yield values

    @property
    def _is_numbered(self) -> bool:
        return [self.columns[name] for name in self.key] == ["INTEGER"]

    @cached_property
    def _blobs(self) -> bool:
        return "BLOB" in self.columns.values()

    @cached_property
    def _values(self) -> str:
        seen = {"BLOB": "crc32(?{})", "REAL": "CAST(?{} AS REAL)"}  # a blob is not copied; 7 is stored as 7.0
        places = range(1, len(self.columns) + 1)
        checked = (seen.get(kind, "?{}").format(at) for at, kind in zip(places, self.columns.values(), strict=True))
        values = ", ".join(f"?{at}" for at in places)
        return f"{self.name} VALUES ({values}, checksum({', '.join(checked)}))"


#: Numbers by name: the floor, the last tick that was written, and the like.
META = Table("meta", {"name": "TEXT", "value": "INTEGER"}, ("name",))
#: The key that viewers are hashed with.
SECRET = Table("secret", {"id": "INTEGER", "key": "BLOB"}, ("id",))
#: What the codes in keys of series mean; `labels`: names, with commas between them, in the order of a key's values.
METRICS = Table("metrics", {"code": "INTEGER", "name": "TEXT", "labels": "TEXT"}, ("code",))
PROFILES = Table("profiles", {"number": "INTEGER", "labels": "BLOB"}, ("number",))
SERIES = Table("series", {"slot": "INTEGER", "key": "TEXT"}, ("slot",))
#: Runs of the values of series that changed; see `core.series_rows`. Of two runs the later one holds.
SERIES_RUNS = Table("series_runs", {"id": "INTEGER", "level": "INTEGER", "rows": "BLOB"}, ("id",))
#: Lists that are replaced as a whole, encoded: `pending` and `waits` by every commit, `owed` when it changes.
LISTS = Table("lists", {"name": "TEXT", "content": "BLOB"}, ("name",))
VIEWER_RUNS = Table("viewer_runs", {"id": "INTEGER", "level": "INTEGER", "rows": "BLOB"}, ("id",))
#: What ticks hold that are not settled.
HELD = Table("held", {"id": "INTEGER", "tick": "INTEGER", "tally": "BLOB"}, ("id",))
SHARDS = Table("shards", {"name": "TEXT", "newest_ms": "INTEGER"}, ("name",))
_FILE = {"key": "TEXT", "etag": "TEXT"}
_CONTENT = {"length": "INTEGER", "hash": "INTEGER"}  # see `Content`
#: The ledger: a key that has counted is in one of the first two, whatever its ETag is by now.
COUNTED = Table(
    "counted", {**_FILE, "due": "INTEGER", "size": "INTEGER", "modified_ms": "INTEGER", **_CONTENT}, ("key",)
)
DONE = Table("done", {**_FILE, "modified_ms": "INTEGER", **_CONTENT}, ("key",))
#: Beside these, a file that must not count, such as one whose content has changed.
ASIDE = Table(
    "aside", {**_FILE, "reason": "TEXT", "size": "INTEGER", "modified_ms": "INTEGER", "detail": "TEXT"}, ("key",)
)
LEDGER = (COUNTED, DONE, ASIDE)
OUTBOX = Table("outbox", {"number": "INTEGER", "tick": "INTEGER", "samples": "INTEGER", "size": "INTEGER"}, ("number",))
#: What each tick tells of counters, for as long as a request of it is in the outbox; see `core.owed`.
TOLD = Table("told", {"tick": "INTEGER", "content": "BLOB"}, ("tick",))
#: Apart from the outbox, which is read without them.
BODIES = Table("bodies", {"number": "INTEGER", "body": "BLOB"}, ("number",))

TABLES = (
    META,
    SECRET,
    METRICS,
    PROFILES,
    SERIES,
    SERIES_RUNS,
    LISTS,
    VIEWER_RUNS,
    HELD,
    SHARDS,
    *LEDGER,
    OUTBOX,
    TOLD,
    BODIES,
)
_INDEXES = ("CREATE INDEX counted_due ON counted (due, key)",)
_SUM = "count(*), coalesce(sum(checksum), 0)"
_SUMS = (
    "CREATE TABLE sums (name TEXT PRIMARY KEY, entries INTEGER NOT NULL, total INTEGER NOT NULL) WITHOUT ROWID",
    *(statement for table in TABLES for statement in table.triggers),
)


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that the statements of the tables use."""
    connection.create_function("checksum", -1, _checksum, deterministic=True)
    connection.create_function("crc32", 1, crc32, deterministic=True)
    connection.execute("PRAGMA recursive_triggers = ON")  # else a row that is replaced would not count as deleted


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables, empty."""
    for table in TABLES:
        connection.execute(table.create)
    for statement in _INDEXES:
        connection.execute(statement)
    make_sums(connection)


def make_sums(connection: sqlite3.Connection) -> None:
    """Make the sums of the tables that there are."""
    for statement in _SUMS:
        connection.execute(statement)
    for table in TABLES:
        connection.execute(f"INSERT INTO sums SELECT '{table.name}', {_SUM} FROM {table.name}")  # noqa: S608 - constants


def fill(connection: sqlite3.Connection) -> None:
    """Make the tables of a new state, with a key of its own."""
    register(connection)
    make_tables(connection)
    connection.execute(SECRET.insert, (0, secrets.token_bytes(32)))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def is_intact(connection: sqlite3.Connection) -> bool:
    """Return whether the schema is, to the letter, the one that `fill` makes."""
    found = connection.execute("SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'")
    return {sql for (sql,) in found} == {*(table.create for table in TABLES), *_INDEXES, *_SUMS}


def incomplete(connection: sqlite3.Connection) -> str:
    """Return the name of a table that has not all of its rows, or others; empty when there is none."""
    sums = {name: (entries, total) for name, entries, total in connection.execute("SELECT * FROM sums")}
    for table in TABLES:
        found = connection.execute(f"SELECT {_SUM} FROM {table.name}").fetchone()  # noqa: S608 - constants
        if sums.get(table.name) != found:
            return table.name
    return ""
