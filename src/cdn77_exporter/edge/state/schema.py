"""The tables of the state, and the versions of its format."""

from __future__ import annotations

import secrets
import sqlite3

APPLICATION_ID = 0x63373765
VERSION = 3
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE secret (key BLOB NOT NULL);
CREATE TABLE profiles (number INTEGER PRIMARY KEY, labels BLOB NOT NULL);
CREATE TABLE series (
    slot INTEGER PRIMARY KEY, key TEXT NOT NULL, value REAL NOT NULL DEFAULT 0,
    changed INTEGER NOT NULL DEFAULT 0, written INTEGER NOT NULL DEFAULT 0, live INTEGER NOT NULL DEFAULT 0);
CREATE TABLE pending (slot INTEGER PRIMARY KEY, value REAL NOT NULL);
CREATE TABLE waits (slot INTEGER PRIMARY KEY, total_ms INTEGER NOT NULL, count INTEGER NOT NULL);
CREATE TABLE viewer_runs (id INTEGER PRIMARY KEY AUTOINCREMENT, level INTEGER NOT NULL, rows BLOB NOT NULL);
CREATE TABLE held (id INTEGER PRIMARY KEY, tick INTEGER NOT NULL, tally BLOB NOT NULL);
CREATE TABLE shards (name TEXT PRIMARY KEY, newest_ms INTEGER NOT NULL, seen_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE files (
    key TEXT NOT NULL, etag TEXT NOT NULL, status INTEGER NOT NULL, due INTEGER NOT NULL, size INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL, reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (key, etag)) WITHOUT ROWID;
CREATE INDEX files_due ON files (due) WHERE status = 0;
CREATE INDEX files_aside ON files (key) WHERE status = 2;
CREATE TABLE outbox (number INTEGER PRIMARY KEY, tick INTEGER NOT NULL, samples INTEGER NOT NULL, body BLOB NOT NULL);
"""

# A file's status in the ledger.
COUNTED, DONE, ASIDE = 0, 1, 2


def fill(connection: sqlite3.Connection) -> None:
    """Make the tables of a new state."""
    for statement in _SCHEMA.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute("INSERT INTO secret VALUES (?)", (secrets.token_bytes(32),))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
