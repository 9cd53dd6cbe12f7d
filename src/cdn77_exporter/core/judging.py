"""Decides whether a file that was read to its end is an access log at all; what is none must not be deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from cdn77_exporter.core.errors import Unreadable

#: Rejects that are log lines all the same, and so say nothing against their file.
HEALTHY_REJECTS = frozenset({"no_stream", "stream_not_allowed", "too_old"})


class LineExample(Protocol):
    """A rejected line that may be shown."""

    @property
    def line(self) -> int: ...
    @property
    def excerpt(self) -> str: ...


class LineCounts(Protocol):
    """The counts of a file's lines that matter here."""

    @property
    def lines(self) -> int: ...
    @property
    def events(self) -> int: ...
    @property
    def rejects(self) -> Mapping[str, int]: ...
    @property
    def examples(self) -> Sequence[LineExample]: ...


def unfit(stats: LineCounts) -> str | None:
    """Return why a file must not count, as one of `UNREADABLE_REASONS`, or None for one that may."""
    healthy = sum(count for reason, count in stats.rejects.items() if reason in HEALTHY_REJECTS)
    bad = sum(stats.rejects.values()) - healthy
    if bad > stats.events + healthy or (bad and bad >= stats.lines - bad and not stats.events):
        return "not_a_log"
    if not stats.events and stats.rejects.get("too_old"):
        return "too_old"
    return None


def judge(stats: LineCounts) -> None:
    """Raise Unreadable for a file that must not count."""
    if reason := unfit(stats):
        raise refuse(reason, stats)


def without_event(stats: LineCounts) -> bool:
    """Tell whether a file has lines and none of them is an event."""
    return stats.lines > 0 and not stats.events


def refuse(reason: str, stats: LineCounts) -> Unreadable:
    """Return the error of a file that must not count, with what its lines are and one of them."""
    rejects = ", ".join(f"{count} {name}" for name, count in sorted(stats.rejects.items(), key=lambda one: -one[1]))
    example = next(iter(stats.examples), None)
    shown = f'; line {example.line}: "{example.excerpt}"' if example else ""
    return Unreadable(reason, f"{stats.lines} lines, {stats.events} events; {rejects}{shown}")
