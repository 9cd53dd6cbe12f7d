"""Log files in a local folder: which there are, when they were uploaded, and what is in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.files import MAX_AGE_MS
from cdn77_exporter.core.judging import judge
from cdn77_exporter.edge.plain_file import open_plain

_READ_BYTES = 64 * 1024
_HOUR_MS = 3_600_000
_AFTER_MS = 300_000  # a file may be uploaded a little after the hour of its folder
_HOUR_FOLDER = re.compile(r"(?:^|/)(\d{8})/(\d{2})/[^/]*$")


def log_paths(folder: str) -> list[Path]:
    """Return every `*.gz` in the folder and below, by name; raises ConfigError when there is none."""
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError([f"{folder} is not a folder; name one that holds log files (*.gz)."])

    def refuse(error: OSError) -> None:
        raise error

    found = [
        Path(parent, name)
        for parent, _, names in os.walk(root, onerror=refuse)
        for name in names
        if name.endswith(".gz")
    ]
    if not found:
        raise ConfigError([f"{folder} holds no log file (*.gz)."])
    return sorted(found)


def decode_path(decoder: Decoder, path: Path, now_ms: int) -> tuple[FileStats, Counts]:
    """Decode a file as if it were counted when it was uploaded. Raises Unreadable or OSError."""
    stats, counts = _decode(decoder, path, now_ms)
    judge(stats)
    return stats, counts


def _decode(decoder: Decoder, path: Path, now_ms: int) -> tuple[FileStats, Counts]:
    uploaded_ms = _uploaded_ms(path, now_ms)
    if uploaded_ms is not None:
        return decoder.decode(_pieces(path), latest_ms=uploaded_ms, oldest_ms=uploaded_ms - MAX_AGE_MS)
    # Nothing tells the upload but perhaps the file's own time, which copying may have changed.
    latest_ms, oldest_ms = now_ms, 0
    stats, counts = decoder.decode(_pieces(path), latest_ms=latest_ms, oldest_ms=oldest_ms)
    modified_ms = int(path.stat().st_mtime * 1000)
    if stats.oldest_ms < modified_ms < stats.newest_ms:
        latest_ms = modified_ms
    newest_ms = min(stats.newest_ms, latest_ms)
    oldest_ms = newest_ms - MAX_AGE_MS
    if stats.events and (stats.newest_ms > newest_ms or stats.oldest_ms < oldest_ms):
        return decoder.decode(_pieces(path), latest_ms=latest_ms, oldest_ms=oldest_ms)
    return stats, counts


def _uploaded_ms(path: Path, now_ms: int) -> int | None:
    """Return when the file was uploaded: its own time if that fits its hour folder, else the end of that hour."""
    found = _HOUR_FOLDER.search(path.absolute().as_posix())
    if found is None:
        return None
    try:
        hour = datetime.strptime(f"{found[1]}{found[2]}", "%Y%m%d%H").replace(tzinfo=UTC)
    except ValueError:
        return None
    begin_ms = int(hour.timestamp() * 1000)
    end_ms = begin_ms + _HOUR_MS + _AFTER_MS
    modified_ms = int(path.stat().st_mtime * 1000)
    return min(now_ms, modified_ms if begin_ms <= modified_ms <= end_ms else end_ms)


def _pieces(path: Path) -> Iterator[bytes]:
    with open_plain(path) as file:
        while piece := file.read(_READ_BYTES):
            yield piece
