"""How far time is complete: each shard's progress, and the instant up to which nothing more is expected."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

#: Shards that are remembered at most; of more, the ones silent for the longest are forgotten.
MAX_SHARDS = 10_000


@dataclass(slots=True)
class Shard:
    """One writer of log files. Times are Unix milliseconds, 0 for never."""

    newest_ms: int = 0  # newest event that was delivered
    seen_ms: int = 0  # clock when it last delivered events


class Watermark:
    """The smallest newest event time over the live shards.

    A shard is live while a listed file of it is not yet delivered, or for `idle_seconds` after it delivered events.
    When no shard is live the watermark follows the clock at a distance of `lag_seconds`. It never goes back.
    """

    def __init__(self, *, idle_seconds: float, lag_seconds: float) -> None:
        self._idle_ms = int(idle_seconds * 1000)
        self._lag_ms = int(lag_seconds * 1000)
        self.shards: dict[str, Shard] = {}
        self.value_ms = 0
        self._listed_ms = 0
        self._changed: set[str] = set()

    def listed(self, now_ms: int) -> None:
        """Note that a listing was completed at `now_ms`."""
        self._listed_ms = max(self._listed_ms, now_ms)

    def delivered(self, name: str, newest_ms: int, now_ms: int) -> None:
        """Note that a listed file has been counted; `newest_ms` is its newest event, 0 when it had none."""
        if newest_ms:
            shard = self._shard(name)
            shard.newest_ms = max(shard.newest_ms, newest_ms)
            shard.seen_ms = max(shard.seen_ms, now_ms)
            self._changed.add(name)

    def advance(self, outstanding: Collection[str]) -> int:
        """Return the watermark now (Unix ms), judged at the time of the last complete listing.

        `outstanding`: shards of which a listed file is not yet delivered. While listings fail nothing is known about
        what arrives, so time does not go on either.
        """
        now_ms = self._listed_ms
        live = self.live(outstanding)
        found = min(map(self.newest_ms, live)) if live else now_ms - self._lag_ms
        self.value_ms = max(self.value_ms, min(found, now_ms))
        return self.value_ms

    def live(self, outstanding: Collection[str]) -> set[str]:
        """Return the names of the live shards; `outstanding` as in `advance`."""
        oldest_ms = max(1, self._listed_ms - self._idle_ms)
        return {name for name, shard in self.shards.items() if shard.seen_ms >= oldest_ms}.union(outstanding)

    def newest_ms(self, name: str) -> int:
        """Return the newest event (Unix ms) that a shard has delivered, 0 without any."""
        shard = self.shards.get(name)
        return shard.newest_ms if shard else 0

    def _shard(self, name: str) -> Shard:
        shard = self.shards.get(name)
        if shard is None:
            if len(self.shards) >= MAX_SHARDS:
                del self.shards[min(self.shards, key=lambda name: self.shards[name].seen_ms)]
            shard = self.shards[name] = Shard()
        return shard

    # State

    def take_changes(self) -> list[tuple[str, int, int]]:
        """Name, newest event and time seen of the shards that moved since the last call."""
        names, self._changed = self._changed, set()
        return [(name, self.shards[name].newest_ms, self.shards[name].seen_ms) for name in names if name in self.shards]

    def restore(self, rows: Iterable[tuple[str, int, int]], value_ms: int) -> None:
        """Take up shards as `take_changes` gave them, and the watermark."""
        for name, newest_ms, seen_ms in rows:
            shard = self._shard(name)
            shard.newest_ms, shard.seen_ms = newest_ms, seen_ms
        self.value_ms = value_ms
