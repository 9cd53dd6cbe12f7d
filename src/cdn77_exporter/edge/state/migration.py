"""Makes a state of this version of one of version 3, which is that of release 0.1.0."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

import msgspec

from cdn77_exporter.core.series_rows import pending_of, values_of
from cdn77_exporter.edge.state import schema
from cdn77_exporter.edge.state.schema import Damaged, Table

OLD_VERSION = 3
#: Of release 0.2.0, with the same tables, without their sums; runs of viewers say themselves what they hold.
SAME_TABLES = 4
#: Of release 0.3.0, with the same tables and sums; runs of series say themselves what they hold, too.
SAME_SCHEMA = 5

_WHERE = "stream_name,cdn_id,cache_status,pop"
#: The metrics that the keys of series name by their place in this list.
_METRICS = (
    ("cdn77_transfer_bytes_total", _WHERE),
    ("cdn77_requests_total", _WHERE),
    ("cdn77_responses_total", f"{_WHERE},response_status"),
    ("cdn77_viewers_total", "stream_name"),
    ("cdn77_viewers_by_device_total", "stream_name,device_type"),
    ("cdn77_viewers_by_country_total", "stream_name,country"),
    ("cdn77_viewers_by_region_total", "stream_name,country,region"),
    ("cdn77_active_viewers", "stream_name,window"),
    ("cdn77_active_viewers_by_device", "stream_name,device_type,window"),
    ("cdn77_active_viewers_by_country", "stream_name,country,window"),
    ("cdn77_active_viewers_by_region", "stream_name,country,region,window"),
    ("cdn77_time_to_first_byte_ms", _WHERE),
)
#: Its tables; their names are used again.
_OLD = ("meta", "secret", "profiles", "series", "pending", "waits", "viewer_runs", "held", "shards", "files", "outbox")
_COUNTED, _DONE, _ASIDE = 0, 1, 2  # a file's status
#: Rows of a new table that are made of an old one by SQL alone.
_COPIED = (
    (schema.META, "SELECT name, value FROM old_meta"),
    (schema.META, "SELECT 'events_seen', 1 FROM old_series LIMIT 1"),
    (schema.META, "SELECT 'ledger_since_ms', value FROM old_meta WHERE name = 'watermark_ms'"),  # it forgot sooner
    (schema.SECRET, "SELECT 0, key FROM old_secret"),
    (schema.PROFILES, "SELECT number, labels FROM old_profiles"),
    (schema.SERIES, "SELECT slot, key FROM old_series"),
    (schema.SHARDS, "SELECT name, newest_ms FROM old_shards"),
    (schema.OUTBOX, "SELECT number, tick, samples, length(body) - 4 FROM old_outbox"),
)
#: A key may have had files of several ETags; the last one stays.
_LATEST = (
    "FROM old_files AS one WHERE status = ?1 AND NOT EXISTS (SELECT 1 FROM old_files AS other WHERE "
    "other.key = one.key AND (other.status = 2) = (?1 = 2) "
    "AND (other.modified_ms, other.etag) > (one.modified_ms, one.etag))"
)
_LEDGER = (
    (schema.COUNTED, f"SELECT key, etag, due, size, modified_ms, -1, 0 {_LATEST}", _COUNTED),
    (schema.DONE, f"SELECT key, etag, modified_ms, -1, 0 {_LATEST}", _DONE),
    (schema.ASIDE, f"SELECT key, etag, reason, size, modified_ms, '' {_LATEST}", _ASIDE),
)
#: Rows whose last column had a checksum behind it.
_SEALED = (
    (schema.VIEWER_RUNS, "SELECT id, level, rows FROM old_viewer_runs"),
    (schema.HELD, "SELECT id, tick, tally FROM old_held"),
    (schema.BODIES, "SELECT number, body FROM old_outbox"),
)


def add_sums(connection: sqlite3.Connection) -> None:
    """Make the sums of the tables of a state that has none, all or nothing."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        schema.make_sums(connection)
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")


def migrate(connection: sqlite3.Connection) -> None:
    """Make the new tables of the old ones, all or nothing. Raises Damaged when a checksum is wrong."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _migrate(connection)
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection) -> None:
    for index in ("files_due", "files_aside"):
        connection.execute(f"DROP INDEX {index}")
    for name in _OLD:
        connection.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    schema.make_tables(connection)

    def write(table: Table, rows: Iterable[Sequence[object]]) -> None:
        connection.executemany(table.insert, rows)

    for table, select in _COPIED:
        write(table, connection.execute(select))
    for table, select, status in _LEDGER:
        write(table, connection.execute(select, (status,)))
    for table, select in _SEALED:
        write(table, _unsealed(table, connection.execute(select)))
    values = values_of(connection.execute("SELECT slot, value, changed, written, live FROM old_series ORDER BY slot"))
    write(schema.SERIES_RUNS, [(1, 0, values)])
    waits = msgspec.msgpack.encode(connection.execute("SELECT * FROM old_waits").fetchall())
    pending = pending_of(connection.execute("SELECT slot, value FROM old_pending"))
    write(schema.LISTS, [("pending", pending), ("waits", waits)])
    write(schema.METRICS, ((code, name, labels) for code, (name, labels) in enumerate(_METRICS)))
    for name in _OLD:
        connection.execute(f"DROP TABLE old_{name}")


def _unsealed(table: Table, rows: Iterable[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
    for *values, sealed in rows:
        content = bytes(sealed) if isinstance(sealed, bytes) else b""
        if crc32(content[:-4]).to_bytes(4, "little") != content[-4:]:
            raise Damaged(f"a checksum is wrong in {table.name}")
        yield (*values, content[:-4])
