"""Tells whether a file was replaced or written, without reading it."""

from __future__ import annotations

from pathlib import Path

from cdn77_exporter.edge.plain_file import look

Stamp = tuple[int, int, int, int]


def stamp_of(path: Path) -> Stamp:
    """Return what differs between one content of a file and the next; links are followed, as mounted secrets are
    links that are swapped. Raises OSError, also for what is no file and would be waited for."""
    found = look(path)
    return (found.st_ino, found.st_dev, found.st_mtime_ns, found.st_size)
