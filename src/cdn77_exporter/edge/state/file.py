"""The state file itself: made whole, locked, and checked before anything is taken from it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from cdn77_exporter.core.errors import StateError, StateLocked
from cdn77_exporter.edge.plain_file import look
from cdn77_exporter.edge.state import schema
from cdn77_exporter.edge.state.migration import OLD_VERSION, SAME_SCHEMA, SAME_TABLES, add_sums, migrate

#: What SQLite raises on what it cannot read; the second, when not even its words can be.
READ_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)
RESTART = (
    "move it away (and its -journal) to start fresh: then files that are still in the bucket are counted from now on, "
    "or restore it from a backup"
)
#: Behind the name of a file that was put in the place of the state while it was open.
REPLACED_SUFFIX = ".replaced"
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # of the kernel, which knows all locks on its files


def place_of(path: str) -> str | None:
    """Return what tells a state file from every other one, a copy of it too, until the machine is started again.

    None for a state in memory, and on a system that does not number its starts.
    """
    try:
        found = Path(path).stat()
        return f"{_BOOT.read_text('ascii').strip()} {found.st_dev} {found.st_ino}"
    except OSError:
        return None


def open_file(path: str, content: bytes | None = None) -> sqlite3.Connection:
    """Open, lock and check the state file, which is made if there is none; ":memory:" for a state without a file.

    `content`: the bytes of a database that a state in memory has, instead of a new one. Raises StateLocked when another
    process holds it, and StateError when it cannot be used.
    """
    if path != ":memory:":
        private_folder(Path(path).parent)
        if not Path(path).exists():
            _make(path)
        _look_at(path)
    connection = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
    try:
        schema.register(connection)
        if content is not None:
            connection.deserialize(content)
        elif path == ":memory:":
            schema.fill(connection)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -1024")
        # Debian's SQLite overwrites what is deleted with zeros, by which twice as much is written.
        connection.execute("PRAGMA secure_delete = OFF")
        check(connection, path)
    except BaseException as error:
        connection.close()  # the lock must not outlive the refusal
        if isinstance(error, READ_ERRORS):
            raise state_error(path, error) from error
        raise
    return connection


def check(connection: sqlite3.Connection, path: str) -> None:
    """Lock a state, check that it is one, whole and writable, and bring it to this version. Raises as `open_file`."""
    connection.execute("BEGIN EXCLUSIVE")  # held until the connection is closed
    application, version, pages, page_size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version", "page_count", "page_size")
    )
    connection.execute("COMMIT")
    if application != schema.APPLICATION_ID:
        raise StateError(f"{path} is not a state file of this program", RESTART)
    if version not in (OLD_VERSION, SAME_TABLES, SAME_SCHEMA, schema.VERSION):
        raise StateError(
            f"the state file {path} has version {version}, this program reads version {schema.VERSION}",
            "run the version that wrote it, or " + RESTART,
        )
    size = pages * page_size
    if path != ":memory:" and Path(path).stat().st_size != size:  # a last page cut short reads as zeros
        raise damaged(path, f"it does not have {size} bytes")
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise damaged(path, found)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE secret SET key = key")  # SQLite opens a file that is read-only without a word
    connection.execute("ROLLBACK")
    if version == OLD_VERSION:
        try:
            migrate(connection)
        except schema.Damaged as error:
            raise damaged(path, error) from error
    if version == SAME_TABLES:
        add_sums(connection)
    if version == SAME_SCHEMA:
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    if not schema.is_intact(connection):
        raise damaged(path, "its schema is not this program's")
    if table := schema.incomplete(connection):
        raise damaged(path, f"rows are missing, or are not the last ones, in {table}")


def damaged(path: str, what: object) -> StateError:
    """Return the error for a state that is not what was written."""
    return StateError(f"the state file {path} is damaged ({what})", RESTART)


def private_folder(folder: Path) -> None:
    """Make the folder of a state, for this user only, if it is not there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"the state folder {folder} cannot be made: {error.strerror}",
            "make it writable for this user, or set STATE_PATH to a file in a folder that is",
        ) from error


def _make(path: str) -> None:
    """Make a new state file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.fill(connection)
        copy_to(connection, path)


def copy_to(connection: sqlite3.Connection, path: str) -> None:
    """Copy a state to a file that is not there. It appears whole or not at all: a kill leaves no half that nobody can
    open. One that another process has made meanwhile stays."""
    try:
        number, temporary = tempfile.mkstemp(prefix=f".{Path(path).name}.", dir=Path(path).parent)  # for this user only
        os.close(number)
        try:
            with closing(sqlite3.connect(temporary)) as target:
                connection.backup(target)
            with Path(temporary).open("rb") as file:
                os.fsync(file.fileno())
            _appear(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except (OSError, sqlite3.OperationalError) as error:
        raise StateError(
            f"the state file {path} cannot be made: {getattr(error, 'strerror', None) or error}",
            "make its folder writable for this user, free some disk space, or set STATE_PATH to another place",
        ) from error


def _appear(temporary: str, path: str) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was faster; the lock decides
    except OSError:  # a file system without links
        Path(temporary).rename(path)


def _look_at(path: str) -> None:
    """Reject what cannot be a state file before SQLite would take it for an empty database and write to it."""
    journal = Path(f"{path}-journal")
    for name in (Path(path), journal):
        _insist_on_file(name)
    if journal.exists() and journal.stat().st_size:
        return  # SQLite first takes back what was not committed
    try:
        with Path(path).open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise StateError(
            f"the state file {path} cannot be read: {error.strerror}",
            "make the file and its folder writable for this user, or set STATE_PATH to another place",
        ) from error
    if not head:
        raise StateError(f"the state file {path} is empty", RESTART)
    if head != b"SQLite format 3\0":
        raise StateError(f"{path} is not a state file of this program", RESTART)


def _insist_on_file(path: Path) -> None:
    """Raise StateError for what is no file: SQLite would wait for a pipe, and write to a device."""
    try:
        look(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StateError(
            f"the state file {path} cannot be used: {error.strerror}",
            "remove it if nobody needs it, or set STATE_PATH to a file, which need not be there yet",
        ) from error


def state_error(path: str, error: Exception) -> Exception:
    """Return what an error of SQLite means to an operator."""
    words = str(error)
    if "locked" in words:
        return StateLocked(f"another process holds the state file {path}")
    if "readonly" in words or "unable to open" in words:
        access = "" if os.access(Path(path).parent, os.W_OK) else " (its folder is not writable)"
        return StateError(
            f"the state file {path} cannot be opened for writing{access}: {words}",
            "make the file and its folder writable for this user, or set STATE_PATH to another place",
        )
    if "full" in words:
        return StateError(f"the disk of the state file {path} is full", "free some space; nothing is lost meanwhile")
    return damaged(path, words)
