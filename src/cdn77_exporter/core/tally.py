"""What one file counts, per tick; tallies merge in any order to the same whole."""

from __future__ import annotations

from dataclasses import dataclass, field

#: stream, CDN id, cache status, POP, response status
Group = tuple[str, str, str, str, str]
#: stream, client IP, device type, client country of the log
ViewerSeen = tuple[str, str, str, str]


def add_sums(groups: dict[Group, list[int]], group: Group, sums: list[int]) -> None:
    """Add a group's sums to those that there are; `sums` itself is not kept."""
    own = groups.get(group)
    if own is None:
        groups[group] = sums.copy()
    else:
        own[0] += sums[0]
        own[1] += sums[1]
        own[2] += sums[2]
        own[3] += sums[3]


@dataclass(slots=True)
class TickTally:
    """What happened before one tick and after the one before it.

    `groups`: requests, bytes, sum (ms) and number of times to first byte that are above 0.
    `viewers`: first and last event, Unix milliseconds.
    """

    groups: dict[Group, list[int]] = field(default_factory=dict)
    viewers: dict[ViewerSeen, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Groups and viewers."""
        return len(self.groups) + len(self.viewers)

    def merge(self, other: TickTally) -> None:
        """Add another tally of the same tick."""
        for group, sums in other.groups.items():
            add_sums(self.groups, group, sums)
        for viewer, (first, last) in other.viewers.items():
            seen = self.viewers.get(viewer)
            if seen is None:
                self.viewers[viewer] = [first, last]
            else:
                seen[0] = min(seen[0], first)
                seen[1] = max(seen[1], last)


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
        for tick, part in other.ticks.items():
            self.ticks.setdefault(tick, TickTally()).merge(part)
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
