"""Several files decoded together: what they count as a whole, and what has to be said of each by itself.

Sums and viewers of files that are counted in one step may be merged before: the step adds up the same numbers. What is
about a single file, such as its lines, how far it has brought its shard, or why it cannot be read, stays apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.errors import FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.tally import Example, Tally, TickTally, join_ticks


@dataclass(slots=True)
class Share:
    """What one file has in a bundle. `requests`: its events by their tick (Unix seconds); `examples`: one a reason."""

    lines: int = 0
    events: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    newest_ms: int = 0  # 0 without an event
    seconds: float = 0.0  # what decoding took
    requests: dict[int, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a file has no share: an error of `core.errors` as plain values, since not every error survives a journey."""

    kind: str
    reason: str = ""
    more: str = ""  # an unreadable file's detail, or the remedy

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """What an error says; other errors than those of `error` are raised again."""
        if isinstance(error, Unreadable):
            return cls("unreadable", error.reason, error.detail)
        if isinstance(error, Misconfigured):
            return cls("misconfigured", error.reason, error.remedy)
        if isinstance(error, Transient):
            return cls("transient", error.reason)
        if isinstance(error, FileGone):
            return cls("gone", str(error))
        raise error

    def error(self) -> Unreadable | Misconfigured | Transient | FileGone:
        """The error again."""
        if self.kind == "unreadable":
            return Unreadable(self.reason, self.more)
        if self.kind == "misconfigured":
            return Misconfigured(self.reason, self.more)
        return Transient(self.reason) if self.kind == "transient" else FileGone(self.reason)


@dataclass(slots=True)
class Bundle:
    """What files count together, by tick, and each one's share or failure, in the order of the files."""

    shares: list[Share | Failure] = field(default_factory=list)
    ticks: dict[int, TickTally] = field(default_factory=dict)

    def extend(self, other: Bundle) -> None:
        """Add the files that follow."""
        self.shares += other.shares
        self.ticks = join_ticks((self.ticks, other.ticks))


def share_of(tally: Tally) -> Share:
    """What is said of a file alone."""
    requests = {tick: part.requests for tick, part in tally.ticks.items()}
    examples = list({example.reason: example for example in tally.examples}.values())
    return Share(tally.lines, tally.events, tally.rejects, tally.newest_ms, tally.seconds, requests, examples)


def decode_together(
    decoder: Decoder, bodies: Iterable[bytes | Failure], latest_ms: Sequence[int], oldest_ms: int
) -> Bundle:
    """Decode files one after the other into one bundle; a failure in the place of a body stays in its place.

    `latest_ms` is each file's latest event time, as in `Decoder.decode`.
    """
    bundle = Bundle()
    found: list[dict[int, TickTally]] = []
    for body, latest in zip(bodies, latest_ms, strict=True):
        if isinstance(body, Failure):
            bundle.shares.append(body)
            continue
        try:
            tally = decoder.decode(body, latest_ms=latest, oldest_ms=oldest_ms)
        except Unreadable as error:
            bundle.shares.append(Failure.of(error))
        else:
            bundle.shares.append(share_of(tally))
            found.append(tally.ticks)
    bundle.ticks = join_ticks(found)
    return bundle
