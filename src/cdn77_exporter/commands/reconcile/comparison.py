"""Compares what files hold with what a receiver holds, by metric and stream and to the unit; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Increments:
    """By how much each stream's quantities grew at each tick (Unix seconds), from `begin` on, not including it.

    A quantity is a metric, by its name, in the units in which it is counted. What is of no stream has an empty name.
    """

    begin: int
    end: int
    ticks: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)  # stream and quantity -> tick -> amount

    def add(self, stream: str, quantity: str, tick: int, amount: int) -> None:
        """Count; what lies outside of the ticks is left out."""
        if self.begin < tick <= self.end:
            own = self.ticks.setdefault((stream, quantity), {})
            own[tick] = own.get(tick, 0) + amount

    def between(self, stream: str, quantity: str, begin: int, end: int) -> int:
        """Return the amount after tick `begin`, up to tick `end`."""
        own = self.ticks.get((stream, quantity), {})
        return sum(amount for tick, amount in own.items() if begin < tick <= end)


@dataclass(frozen=True, slots=True)
class Difference:
    """One stream's quantity in files and at the receiver.

    `late`: how much of the plain difference is because events of the span were counted after it (positive), or
    earlier ones in it (negative). `unexplained`: what is missing at the receiver (positive) or too much (negative).
    """

    stream: str
    quantity: str
    files: int
    receiver: int
    late: int = 0

    @property
    def unexplained(self) -> int:
        """The part of the difference that late events do not explain."""
        return self.files - self.receiver - self.late


def compare(files: Increments, receiver: Increments, begin: int, end: int) -> Iterator[Difference]:
    """Compare every stream's quantities over the ticks after `begin` up to `end`, by the streams' names.

    The increments reach further on both sides, where late events are looked for.
    """
    for stream, quantity in sorted(files.ticks.keys() | receiver.ticks.keys()):
        own, other = (side.between(stream, quantity, begin, end) for side in (files, receiver))
        if not own and not other:
            continue
        # Also when both are equal: one that came late into the span would hide one that is missing.
        yield Difference(stream, quantity, own, other, _late(files, receiver, stream, quantity, begin, end))


def _late(files: Increments, receiver: Increments, stream: str, quantity: str, begin: int, end: int) -> int:
    """Return how much more of the stream waits to be counted at `end` than at `begin`.

    What the files have and the receiver has not yet, at a tick, is what waits there, plus a number that is the same
    at all ticks as long as nothing is lost. The least of the ticks around is taken for one at which nothing waits.
    """
    own, other = (side.ticks.get((stream, quantity), {}) for side in (files, receiver))
    distance, at_begin, at_end = 0, 0, 0
    before, after = [0], []  # the distances at the ticks before the span, and behind it
    for tick in sorted({*own, *other, begin, end}):
        distance += own.get(tick, 0) - other.get(tick, 0)
        if tick <= begin:
            before.append(distance)
            at_begin = distance
        if tick >= end:
            after.append(distance)
            at_end = after[0]
    return (at_end - min(after)) - (at_begin - min(before))


def total(differences: Iterable[Difference], quantity: str) -> tuple[int, int]:
    """Return a quantity of all streams, in files and at the receiver."""
    rows = [row for row in differences if row.quantity == quantity]
    return sum(row.files for row in rows), sum(row.receiver for row in rows)
