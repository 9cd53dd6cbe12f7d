"""The watermark: each shard's progress, and the instant up to which nothing more is expected."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

#: Shards that are remembered at most; of more, the ones silent for the longest are forgotten.
MAX_SHARDS = 10_000
#: A lagging shard has caught up when it is this much nearer to the others than a shard that begins to lag.
_CAUGHT_UP = 1 / 2
_NEVER = float("-inf")


class ShardState(StrEnum):
    """The watermark's view of a shard."""

    CURRENT = "current"  # it is waited for
    LAGGING = "lagging"  # too far behind the others, or its files cannot be fetched: its events will be late
    SILENT = "silent"  # nothing came of it for a while, and nothing is there to come


@dataclass(slots=True)
class Shard:
    """One writer of log files. Times are Unix milliseconds, 0 for never; `seen` is on the clock that never jumps."""

    newest_ms: int = 0  # newest event that was delivered
    seen: float = _NEVER  # when it last delivered events, in seconds
    lags: bool = False  # it was left behind, and has not caught up


class Watermark:
    """The smallest newest event time over the live shards that do not lag.

    A shard is live while a listed file of it is expected, or for `idle_seconds` after it delivered events. It lags when
    it is more than `wait_seconds` behind the most advanced live shard although it has nothing left to deliver. When
    no shard is waited for the watermark follows the clock at a distance of `lag_seconds`. It never goes back.
    `lateness_seconds` are subtracted from each shard's newest event.

    `steady` is always the time in seconds on a clock that never jumps.
    """

    def __init__(
        self, *, idle_seconds: float, lag_seconds: float, wait_seconds: float = 300, lateness_seconds: float = 0
    ) -> None:
        self._idle = idle_seconds
        self._lag_ms = int(lag_seconds * 1000)
        self._wait_ms = int(wait_seconds * 1000)
        self._lateness_ms = int(lateness_seconds * 1000)
        self.shards: dict[str, Shard] = {}
        self.value_ms = 0
        self._listed: float | None = None
        self._changed: set[str] = set()

    def listed(self, steady: float) -> None:
        """Note that a listing was completed."""
        self._listed = steady

    def delivered(self, name: str, newest_ms: int, steady: float) -> None:
        """Note that a listed file has been counted; `newest_ms` is its newest event, 0 when it had none."""
        if newest_ms:
            shard = self._shard(name)
            shard.newest_ms = max(shard.newest_ms, newest_ms)
            shard.seen = steady
            self._changed.add(name)

    def advance(self, expected: Collection[str], now_ms: int, steady: float) -> int:
        """Return the watermark now (Unix ms), judged at the time of the last complete listing.

        `expected`: shards of which a listed file is still to be delivered. `now_ms`: what time it is (Unix ms). While
        listings fail nothing is known about what arrives, so time does not go on either.
        """
        if self._listed is None:
            return self.value_ms
        now_ms -= round((steady - self._listed) * 1000)
        waited = self.waited_for(expected)
        found = min(map(self.newest_ms, waited)) - self._lateness_ms if waited else now_ms - self._lag_ms
        self.value_ms = max(self.value_ms, min(found, now_ms))
        return self.value_ms

    def waited_for(self, expected: Collection[str]) -> set[str]:
        """Return the live shards that do not lag; `expected` as in `advance`.

        A shard is not left behind for what it has listed: that it is not counted yet is our own doing.
        """
        live = self._live().union(expected)
        reached = max(map(self.newest_ms, live), default=0)
        reached = max(reached, self.value_ms)
        for name in live & self.shards.keys():
            shard = self.shards[name]
            behind = reached - shard.newest_ms
            if shard.lags:
                shard.lags = behind > self._wait_ms * _CAUGHT_UP
            else:
                shard.lags = behind > self._wait_ms and name not in expected and shard.newest_ms > 0
        return {name for name in live if not self.lags(name)}

    def _live(self) -> set[str]:
        if self._listed is None:
            return set()
        oldest = self._listed - self._idle
        return {name for name, shard in self.shards.items() if shard.seen >= oldest}

    def lags(self, name: str) -> bool:
        """Return whether a shard was left behind."""
        shard = self.shards.get(name)
        return shard is not None and shard.lags

    def states(self, expected: Collection[str], outstanding: Collection[str]) -> dict[str, ShardState]:
        """Return the state of every shard; `outstanding`: those of which a listed file is not delivered yet."""
        live = self._live().union(expected)
        states = {}
        for name in self.shards.keys() | outstanding:
            if name in live:
                states[name] = ShardState.LAGGING if self.lags(name) else ShardState.CURRENT
            else:
                states[name] = ShardState.LAGGING if name in outstanding else ShardState.SILENT
        return states

    def progress_ms(self, name: str) -> int:
        """Return how far a shard has come (Unix ms), for the order of work: what lags is not in a hurry."""
        return max(self.newest_ms(name), self.value_ms if self.lags(name) else 0)

    def newest_ms(self, name: str) -> int:
        """Return the newest event (Unix ms) that a shard has delivered, 0 without any."""
        shard = self.shards.get(name)
        return shard.newest_ms if shard else 0

    def _shard(self, name: str) -> Shard:
        shard = self.shards.get(name)
        if shard is None:
            if len(self.shards) >= MAX_SHARDS:
                del self.shards[min(self.shards, key=lambda name: self.shards[name].seen)]
            shard = self.shards[name] = Shard()
        return shard

    # State

    def take_changes(self) -> list[tuple[str, int]]:
        """Return name and newest event of the shards that moved since the last call."""
        names, self._changed = self._changed, set()
        return [(name, self.shards[name].newest_ms) for name in names if name in self.shards]

    def restore(self, rows: Iterable[tuple[str, int]], value_ms: int, steady: float) -> None:
        """Take up shards as `take_changes` gave them, and the watermark.

        A shard that the watermark had not passed was waited for, and is waited for again as if it had just delivered.
        """
        for name, newest_ms in rows:
            shard = self._shard(name)
            shard.newest_ms = newest_ms
            shard.seen = steady if newest_ms >= value_ms > 0 else _NEVER
        self.value_ms = value_ms
