"""Opens files, and nothing else: a named pipe waits for a writer for ever, and a device never ends."""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotAFile(OSError):
    """There is something under the name that is no file; its `strerror` says what."""


def what_is(mode: int) -> str:
    """Return what something of this mode is, such as `a folder`; nothing for a file."""
    return next((name for is_it, name in _KINDS if is_it(mode)), "")


def look(path: Path) -> os.stat_result:
    """Return what is known of a file without opening it; links are followed. Raises OSError, NotAFile among them."""
    found = path.stat()
    kind = what_is(found.st_mode)
    if kind:
        raise NotAFile(errno.EINVAL, f"it is {kind}, not a file", str(path))
    return found


def open_plain(path: Path) -> FileIO:
    """Open a file for reading, unbuffered; never waits. Raises OSError, NotAFile among them."""
    look(path)
    # Should it have become a pipe since, then it is opened and read without waiting, too.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
