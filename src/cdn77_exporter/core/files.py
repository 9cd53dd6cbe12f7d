"""Log files: their names, the order in which they are taken, and the hour folders in which they lie."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cdn77_exporter.core.content import Content

_NAME = re.compile(r"(?:^|/)rtl\.(?P<writer>[^/+]*)\+(?P<shard>\d{1,18})\+(?P<sequence>\d{1,18})\.[^/]*$")
_HOUR = re.compile(r"\d{8}/\d{2}/")
#: Events and files older than this are not counted (seven days).
MAX_AGE_MS = 7 * 24 * 3600 * 1000
_CLOCKS_DIFFER_MS = 5 * 60 * 1000
#: The shard of every file whose name has another form.
OTHER_SHARD = "other"


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log object as the listing names it; never its content. Identified by key and ETag."""

    key: str
    etag: str  # without quotes
    size: int  # bytes
    modified_ms: int  # LastModified, Unix milliseconds
    shard: str = field(init=False)  # the number between the two `+`, or OTHER_SHARD
    writer: str = field(init=False)  # the uuid in the name, or ""
    sequence: int = field(init=False)  # the number after the second plus sign, or -1
    counted: Content | None = field(default=None, compare=False)  # what was counted under this key before

    def __post_init__(self) -> None:
        found = _NAME.search(self.key)
        set_ = object.__setattr__
        set_(self, "shard", str(int(found["shard"])) if found else OTHER_SHARD)
        set_(self, "writer", found["writer"] if found else "")
        set_(self, "sequence", int(found["sequence"]) if found else -1)

    @property
    def identity(self) -> tuple[str, str]:
        """Key and ETag."""
        return (self.key, self.etag)

    @property
    def folder(self) -> str:
        """The key up to its last slash: the hour prefix."""
        return self.key.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class RawLog:
    """A fetched file: its compressed bytes, already checked against the listing."""

    file: LogFile
    body: bytes
    fetch_seconds: float = 0.0


def hour_prefixes(prefix: str, now_ms: int, lookback_hours: float) -> list[str]:
    """List the hour folders under `prefix` from the lookback to five minutes past now (UTC), oldest first."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    hour = (now - timedelta(hours=lookback_hours)).replace(minute=0, second=0, microsecond=0)
    last = now + timedelta(milliseconds=_CLOCKS_DIFFER_MS)
    found = []
    while hour <= last:
        found.append(f"{prefix}/{hour:%Y%m%d}/{hour:%H}/" if prefix else f"{hour:%Y%m%d}/{hour:%H}/")
        hour += timedelta(hours=1)
    return found


def hour_of(prefix: str, key: str) -> int | None:
    """Return the end of the hour whose folder under `prefix` a key lies in (Unix ms), or None where it is in none."""
    found = _HOUR.match(key.removeprefix(f"{prefix}/" if prefix else ""))
    if found is None:
        return None
    try:
        begin = datetime.strptime(found[0], "%Y%m%d/%H/").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(begin.timestamp() * 1000) + 3_600_000


@dataclass(frozen=True, slots=True)
class LogNames:
    """The names of log files in a bucket: keys under `prefix` (a folder without its last slash) with a `suffix`."""

    prefix: str
    suffix: str = ".ndjson.gz"

    def take(self, page: Sequence[LogFile]) -> tuple[list[LogFile], int, int]:
        """Return the log files of a page, and how many objects are none, and how many have no bytes."""
        logs = [self._dated(file) for file in page if file.key.endswith(self.suffix)]
        full = [file for file in logs if file.size]
        return full, len(page) - len(logs), len(logs) - len(full)

    def _dated(self, file: LogFile) -> LogFile:
        """Return the file with a time that can be that of its upload: not before the hour of its folder."""
        end_ms = _hour_of_folder(self.prefix, file.folder)
        if end_ms is None or file.modified_ms >= end_ms - 3_600_000 - _CLOCKS_DIFFER_MS:
            return file
        return replace(file, modified_ms=end_ms)


@lru_cache(maxsize=256)
def _hour_of_folder(prefix: str, folder: str) -> int | None:
    return hour_of(prefix, f"{folder}/")


def oldest_first(files: Sequence[LogFile]) -> list[LogFile]:
    """Return each shard's files in chronological order, the shards of an hour interleaved.

    Uploads are in the order of their times. One that was late goes to its place among its writer's numbers; numbers
    that begin again, are a time or belong to all shards change nothing.
    """
    shards: dict[tuple[str, str], dict[str, list[LogFile]]] = {}
    for file in files:
        shards.setdefault((file.folder, file.shard), {}).setdefault(file.writer, []).append(file)
    placed: list[tuple[str, float, str, LogFile]] = []
    for (folder, shard), writers in shards.items():
        members = _merged(run for members in writers.values() for run in _runs(members))
        for number, file in enumerate(members):
            placed.append((folder, (number + 0.5) / len(members), shard, file))
    placed.sort(key=lambda entry: entry[:3])
    return [file for *_, file in placed]


def _runs(members: list[LogFile]) -> list[list[LogFile]]:
    """Split a writer's files where its numbers begin again; each part is in the order of its numbers.

    A number below the highest of a part is a late upload when it is missing there, or is the one before the first.
    """
    members.sort(key=lambda file: (file.modified_ms, file.sequence, file.key))
    runs: list[dict[int, LogFile]] = []
    first = -1
    unnumbered = [file for file in members if file.sequence < 0]
    for file in members:
        number = file.sequence
        if number < 0:
            continue
        if runs and number >= first - 1 and number not in runs[-1]:
            runs[-1][number] = file
            first = min(first, number)
        else:
            runs.append({number: file})
            first = number
    parts = [[run[number] for number in sorted(run)] for run in runs]
    return [*parts, *([file] for file in unnumbered)]


def _merged(runs: Iterable[list[LogFile]]) -> list[LogFile]:
    """Merge runs of files, each of which is in order: between them the uploads decide."""
    keyed: list[tuple[int, int, int, str, LogFile]] = []
    for members in runs:
        began, latest = min(file.modified_ms for file in members), 0
        for number, file in enumerate(members):
            latest = max(latest, file.modified_ms)
            keyed.append((latest, began, number, file.key, file))
    keyed.sort(key=lambda entry: entry[:4])
    return [file for *_, file in keyed]
