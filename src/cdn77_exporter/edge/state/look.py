"""Looks at a state file without changing it and without its lock, so that a running exporter is not disturbed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

from cdn77_exporter.core.changes import AsideFile
from cdn77_exporter.edge.state.migration import OLD_VERSION

#: Below this the disk may be full before somebody looks again.
LITTLE_ROOM_BYTES = 256 * 1024 * 1024


class Access(StrEnum):
    """The condition of a state file."""

    MISSING = "missing"
    READ = "read"
    IN_USE = "in use"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class StateLook:
    """The visible content of a state file. `emitted`: the last tick written, Unix seconds, 0 for none."""

    access: Access
    writable: bool  # file and folder, for this user
    free_bytes: int
    emitted: int = 0
    aside: tuple[AsideFile, ...] = ()
    words: str = ""


def look_at_state(path: Path) -> StateLook:
    """Return what can be seen of the file now."""
    folder = _existing(path.parent)
    writable = _can_write(folder) and (not path.exists() or os.access(path, os.R_OK | os.W_OK))
    free = shutil.disk_usage(folder).free
    if not path.exists():
        return StateLook(Access.MISSING, writable, free)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=0.2)) as connection:
            meta = dict(connection.execute("SELECT name, value FROM meta"))
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            table = "files WHERE status = 2" if version == OLD_VERSION else "aside"
            rows = connection.execute(f"SELECT key, etag, reason, size, modified_ms FROM {table} ORDER BY key")  # noqa: S608
            aside = tuple(AsideFile(*row) for row in rows)
            return StateLook(Access.READ, writable, free, meta.get("emitted", 0), aside)
    except sqlite3.Error as error:
        access = Access.IN_USE if "locked" in str(error) else Access.UNREADABLE
        return StateLook(access, writable, free, words=str(error))


def _can_write(folder: Path) -> bool:
    """Try to write a file without a name: permissions are not the whole truth for root and odd file systems."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
