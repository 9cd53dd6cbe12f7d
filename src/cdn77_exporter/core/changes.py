"""The content of one commit, and what a process takes up from the commits before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from cdn77_exporter.core.files import LogFile

#: A series that is owed: slot, seen, last value and its tick, the tick that carried something else; see `core.owed`.
Owing = tuple[int, float, float | None, int, int]


class CountedFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that is counted; it may be deleted when a tick of at least `due` (Unix seconds) was acknowledged."""

    key: str
    etag: str
    due: int
    size: int = 0
    modified_ms: int = 0
    length: int = -1  # of the inflated content, and a hash of it; see `Content`
    hash: int = 0


class AsideFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that is set aside, and why."""

    key: str
    etag: str
    reason: str
    size: int
    modified_ms: int
    detail: str = ""


class Sorted(NamedTuple):
    """Of some listed files those that are to be counted, and the keys of those that are no longer set aside."""

    new: list[LogFile]
    released: list[str]


class Request(msgspec.Struct, frozen=True, array_like=True):
    """An encoded request: its place in the order of all requests, the tick it ends, its samples and its body."""

    number: int
    tick: int
    samples: int
    body: bytes


class ProfileRow(msgspec.Struct, frozen=True, array_like=True):
    """A profile's number, and what it stands for; 0.2.0 kept no version."""

    number: int
    stream: str
    device: str | None
    country: str | None
    place: tuple[str, str] | None
    version: str | None = None


class Unsent(NamedTuple):
    """A request of the outbox without its body."""

    number: int
    tick: int
    samples: int  # none in one that describes the metrics


class Changes(msgspec.Struct, frozen=True):
    """All that one step changes; it is committed whole or not at all."""

    meta: dict[str, int]  # floor, settled, emitted, watermark, ...
    profiles: list[ProfileRow]
    series_new: list[tuple[int, str]]
    series: bytes  # a run of rows; see `core.series_rows`
    pending: bytes  # rows that replace the ones before
    waits: list[tuple[int, int, int]]  # the same; slot, sum (ms) and number of times to first byte of no tick yet
    viewers: bytes  # a run of rows
    held: list[tuple[int, bytes]]  # ticks that are not settled, with what they count since the last commit
    held_until: int  # held ticks up to this one are settled
    shards: list[tuple[str | int, ...]]  # name, newest event (Unix ms); journals of 0.1.0 have one more
    files: list[CountedFile]
    requests: list[Request]
    metrics: list[tuple[int, str, str]] = []  # number, name and labels, of those that no state has yet
    # Slots and profiles that were forgotten; some of these numbers may be in use again, and are new then.
    series_gone: list[int] = []
    profiles_gone: list[int] = []
    told: list[tuple[int, bytes]] = []  # ticks, with what of counters their requests tell
    owed: list[Owing] | None = None  # replaces the ones before; None when they are still right


class Snapshot(msgspec.Struct, frozen=True):
    """The state that an earlier process left."""

    meta: dict[str, int]
    profiles: list[ProfileRow]
    series_keys: Iterable[tuple[int, str]]
    series: Iterable[bytes]  # runs, oldest first
    pending: bytes
    waits: list[tuple[int, int, int]]
    viewer_runs: Iterable[bytes]  # oldest first
    held: Iterable[tuple[int, bytes]]  # of a tick several, which add up
    shards: list[tuple[str, int]]
    metrics: list[tuple[int, str, str]] = []  # number, name and labels
    outbox: list[tuple[int, int]] = []  # number and tick of the requests that are not done
    owed: list[Owing] = []
