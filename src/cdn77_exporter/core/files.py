"""Log files: their names, the order in which they are taken, and the hour folders in which they lie."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

_NAME = re.compile(r"(?:^|/)rtl\.(?P<writer>[^/+]*)\+(?P<shard>\d{1,18})\+(?P<sequence>\d{1,18})\.ndjson\.gz$")
#: Events and files older than this are not counted (seven days).
MAX_AGE_MS = 7 * 24 * 3600 * 1000
#: The shard of every file whose name has another form.
OTHER_SHARD = "other"


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log object as the listing names it; never its content. Identified by key and ETag."""

    key: str
    etag: str  # without quotes
    size: int  # bytes
    modified_ms: int  # LastModified, Unix milliseconds
    shard: str = field(init=False)  # the number between the plus signs, or OTHER_SHARD
    writer: str = field(init=False)  # the uuid in the name, or ""
    sequence: int = field(init=False)  # the number after the second plus sign, or -1

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
    last = now + timedelta(minutes=5)  # clocks differ
    found = []
    while hour <= last:
        found.append(f"{prefix}/{hour:%Y%m%d}/{hour:%H}/" if prefix else f"{hour:%Y%m%d}/{hour:%H}/")
        hour += timedelta(hours=1)
    return found


def oldest_first(files: Sequence[LogFile]) -> list[LogFile]:
    """Return each shard's files in chronological order, the shards of an hour interleaved.

    A writer's files are in the order of their sequence numbers, whatever their upload times say. Another writer of the
    same shard has numbers of its own, so that between writers the upload times decide.
    """
    shards: dict[tuple[str, str], dict[str, list[LogFile]]] = {}
    for file in files:
        shards.setdefault((file.folder, file.shard), {}).setdefault(file.writer, []).append(file)
    placed: list[tuple[str, float, str, LogFile]] = []
    for (folder, shard), writers in shards.items():
        members = _merged(writers.values())
        for number, file in enumerate(members):
            placed.append((folder, (number + 0.5) / len(members), shard, file))
    placed.sort(key=lambda entry: entry[:3])
    return [file for *_, file in placed]


def _merged(writers: Iterable[list[LogFile]]) -> list[LogFile]:
    """Merge the files of some writers: each one's by its sequence, and between writers by their uploads."""
    keyed: list[tuple[int, int, int, str, LogFile]] = []
    for members in writers:
        members.sort(key=lambda file: (file.sequence, file.modified_ms, file.key))
        began, latest = min(file.modified_ms for file in members), 0
        for number, file in enumerate(members):
            latest = max(latest, file.modified_ms)
            keyed.append((latest, began, number, file.key, file))
    keyed.sort(key=lambda entry: entry[:4])
    return [file for *_, file in keyed]
