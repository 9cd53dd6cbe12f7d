"""Says numbers, lengths of time and instants in the words of messages, problems and commands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

_NAMED = 5


def number(count: float, unit: str = "") -> str:
    """Return a count with its unit: `1,234 files`, `1 file`."""
    text = f"{count:,}" if isinstance(count, int) else f"{count:,.0f}"
    return f"{text} {unit}{'' if count == 1 else 's'}" if unit else text


def span(seconds: float) -> str:
    """Return a length of time in the two largest units: `12 s`, `3 min`, `2 h 5 min`, `4 d 3 h`."""
    whole = int(abs(seconds))
    units = (("d", whole // 86_400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60))
    first = next((place for place, (_, count) in enumerate(units) if count), 3)
    shown = units[first : first + (1 if first >= 2 else 2)]
    return " ".join(f"{count} {unit}" for unit, count in shown if count or unit == "s")


def moment(seconds: float) -> str:
    """Return an instant (Unix seconds) for people: `2026-01-10 14:31:05 UTC`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def named(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
