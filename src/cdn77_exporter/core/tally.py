"""What one file counts, per tick; tallies merge in any order to the same whole."""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar, Generic, Self, TypeVar

import numpy as np

from cdn77_exporter.core.columns import Counts, Groups, Viewers
from cdn77_exporter.core.keys import Vocabulary

K = TypeVar("K")
#: stream, CDN id, cache status, POP, response status
Group = tuple[str, str, str, str, str]
#: stream, client IP, device type, client country of the log
ViewerSeen = tuple[str, str, str, str]


def whole_numbers(numbers: Iterable[int]) -> Sequence[int]:
    """The numbers in 8 bytes each, unless one of them is too large for that."""
    kept = list(numbers)
    try:
        return array("q", kept)
    except OverflowError:
        return kept


class Rows(ABC, Generic[K]):
    """Keys, each different, with `width` whole numbers each.

    Tallies wait for one another, so their numbers are kept in an array: lists of objects take several times that.
    """

    __slots__ = ("keys", "numbers")
    width: ClassVar[int]

    def __init__(self, rows: Mapping[K, Sequence[int]] | None = None) -> None:
        self.keys: list[K] = list(rows or ())
        self.numbers = whole_numbers(chain.from_iterable(rows.values())) if rows else whole_numbers(())

    @classmethod
    def of(cls, keys: list[K], numbers: Sequence[int]) -> Self:
        """Keys with the numbers of all of them, one after the other; of keys that are equal the rows are combined."""
        rows = cls()
        rows.keys, rows.numbers = keys, numbers
        return rows if len(set(keys)) == len(keys) else cls.joined((rows,))

    @classmethod
    def joined(cls, parts: Iterable[Rows[K]]) -> Self:
        """All rows of the parts, those of the same key combined."""
        rows: dict[K, list[int]] = {}
        combine = cls.combine
        for part in parts:
            for key, numbers in part.items():
                own = rows.get(key)
                if own is None:
                    rows[key] = list(numbers)
                else:
                    combine(own, numbers)
        return cls(rows)

    @staticmethod
    @abstractmethod
    def combine(own: list[int], numbers: Sequence[int]) -> None:
        """Put in other numbers of the same key."""

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and dict(self.items()) == dict(other.items())

    __hash__ = None  # type: ignore[assignment]  # rows can be changed

    def items(self) -> Iterator[tuple[K, tuple[int, ...]]]:
        """Each key with its numbers."""
        return zip(self.keys, zip(*(iter(self.numbers),) * self.width, strict=True), strict=True)

    def column(self, place: int) -> Sequence[int]:
        """One of the numbers of every key."""
        return self.numbers[place :: self.width]


class Sums(Rows[Group]):
    """Groups: requests, bytes, sum (ms) and number of the times to first byte that are above 0."""

    __slots__ = ()
    width = 4

    @staticmethod
    def combine(own: list[int], numbers: Sequence[int]) -> None:
        """Add up."""
        own[0] += numbers[0]
        own[1] += numbers[1]
        own[2] += numbers[2]
        own[3] += numbers[3]


class Times(Rows[ViewerSeen]):
    """Viewers: first and last event, Unix milliseconds."""

    __slots__ = ()
    width = 2

    @staticmethod
    def combine(own: list[int], numbers: Sequence[int]) -> None:
        """Reach from the earlier to the later."""
        own[0] = min(own[0], numbers[0])
        own[1] = max(own[1], numbers[1])


def add_sums(groups: dict[Group, list[int]], group: Group, sums: Sequence[int]) -> None:
    """Add a group's sums to those that there are; `sums` itself is not kept."""
    own = groups.get(group)
    if own is None:
        groups[group] = list(sums)
    else:
        Sums.combine(own, sums)


@dataclass(slots=True)
class TickTally:
    """What happened before one tick and after the one before it."""

    groups: Sums = field(default_factory=Sums)
    viewers: Times = field(default_factory=Times)

    def __len__(self) -> int:
        """Groups and viewers."""
        return len(self.groups) + len(self.viewers)

    @property
    def requests(self) -> int:
        """How many events there are."""
        return sum(self.groups.column(0))

    @classmethod
    def joined(cls, parts: Sequence[TickTally]) -> TickTally:
        """The parts of one tick as one; the parts themselves stay as they are."""
        if len(parts) == 1:
            return parts[0]
        return cls(Sums.joined(part.groups for part in parts), Times.joined(part.viewers for part in parts))


def join_ticks(tallies: Iterable[Mapping[int, TickTally]]) -> dict[int, TickTally]:
    """The ticks of several tallies as those of one."""
    parts: dict[int, list[TickTally]] = {}
    for ticks in tallies:
        for tick, part in ticks.items():
            parts.setdefault(tick, []).append(part)
    return {tick: TickTally.joined(found) for tick, found in parts.items()}


@dataclass(slots=True)
class Example:
    """One rejected line, with nothing personal in it."""

    line: int
    reason: str
    excerpt: str


@dataclass(slots=True)
class Tally:
    """What a file, or several, count. `ticks` is keyed by the tick after the events (Unix seconds)."""

    ticks: dict[int, TickTally] = field(default_factory=dict)
    lines: int = 0
    events: int = 0
    bytes: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    newest_ms: int = 0  # 0 without an event
    oldest_ms: int = 0
    seconds: float = 0.0  # what decoding took
    examples: list[Example] = field(default_factory=list)

    def merge(self, other: Tally) -> None:
        """Add another file's tally."""
        self.ticks = join_ticks((self.ticks, other.ticks))
        self.lines += other.lines
        self.events += other.events
        self.bytes += other.bytes
        for reason, count in other.rejects.items():
            self.rejects[reason] = self.rejects.get(reason, 0) + count
        self.newest_ms = max(self.newest_ms, other.newest_ms)
        if other.oldest_ms:
            self.oldest_ms = min(self.oldest_ms or other.oldest_ms, other.oldest_ms)
        self.seconds += other.seconds
        self.examples += other.examples


def counts_of(ticks: Mapping[int, TickTally]) -> Counts:
    """Return the same as columns."""
    vocabulary = Vocabulary()
    rows = [
        (tick, vocabulary.codes(group), sums) for tick, part in ticks.items() for group, sums in part.groups.items()
    ]
    profiles: dict[tuple[int, ...], int] = {}
    addresses: dict[bytes, int] = {}
    seen = []
    for part in ticks.values():
        for (stream, ip, device, country), (first, last) in part.viewers.items():
            labels = tuple(vocabulary.codes((stream, device, country)).tolist())
            address = ipaddress.ip_address(ip)
            packed = b"\0" * 10 + b"\xff\xff" + address.packed if address.version == 4 else address.packed
            profile = profiles.setdefault(labels, len(profiles))
            seen.append((addresses.setdefault(packed, len(addresses)), profile, first, last))
    groups = Groups(
        np.array([tick for tick, _, _ in rows], np.int64),
        np.array([labels for _, labels, _ in rows], np.uint32).reshape(-1, 5),
        np.array([sums for _, _, sums in rows], np.int64).reshape(-1, 4),
    )
    columns = np.array(seen, np.int64).reshape(-1, 4).T
    viewers = Viewers(columns[0].astype(np.uint32), columns[1].astype(np.uint32), columns[2], columns[3])
    table = np.array(list(profiles), np.uint32).reshape(-1, 3)
    return Counts(vocabulary.texts, [groups], table, b"".join(addresses), viewers)
