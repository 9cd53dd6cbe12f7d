"""How far time is complete: each shard's progress, and the instant up to which nothing more is expected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

#: Shards that are remembered at most; of more, the ones silent for the longest are forgotten.
MAX_SHARDS = 10_000
#: Gaps that are remembered of a shard; of more, the oldest are forgotten.
MAX_GAPS = 20


@dataclass(slots=True)
class Shard:
    """One writer of log files. Times are Unix milliseconds, 0 for never."""

    newest_ms: int = 0  # newest event that was delivered
    seen_ms: int = 0  # clock when it last delivered events
    outstanding: int = 0  # files listed and not yet delivered
    highest: int = -1  # highest sequence number delivered, and by which writer
    writer: str = ""
    missing: int = 0  # sequence numbers that were passed over
    gaps: list[tuple[int, int]] = field(default_factory=list)  # the same, first and last number of each run


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

    def listed(self, names: Iterable[str], now_ms: int) -> None:
        """A listing was completed at `now_ms` and found a new file for each of `names` (a shard once per file)."""
        for name in names:
            self._shard(name).outstanding += 1
        self._listed_ms = max(self._listed_ms, now_ms)

    def delivered(self, name: str, newest_ms: int, now_ms: int) -> None:
        """A listed file has been counted; `newest_ms` is its newest event, 0 when it had none."""
        shard = self._shard(name)
        shard.outstanding = max(0, shard.outstanding - 1)
        if newest_ms:
            shard.newest_ms = max(shard.newest_ms, newest_ms)
            shard.seen_ms = max(shard.seen_ms, now_ms)
            self._changed.add(name)

    def withdrawn(self, name: str) -> None:
        """A listed file will not be delivered now: it could not be fetched, read, or was not begun."""
        shard = self._shard(name)
        shard.outstanding = max(0, shard.outstanding - 1)

    def numbered(self, name: str, writer: str, sequence: int) -> int:
        """Note a delivered file's sequence number; how many numbers it leaves out after the highest before it."""
        shard = self._shard(name)
        skipped = sequence - shard.highest - 1 if writer == shard.writer and shard.highest >= 0 else 0
        if skipped > 0:
            shard.missing += skipped
            shard.gaps = [*shard.gaps, (shard.highest + 1, sequence - 1)][-MAX_GAPS:]
        elif skipped < 0 and (left := _without(shard.gaps, sequence)) != shard.gaps:
            shard.missing -= 1  # a number that was passed over has come after all
            shard.gaps = left
        if writer != shard.writer:
            shard.gaps = []  # another writer has numbers of its own
        if writer != shard.writer or sequence > shard.highest:
            shard.writer, shard.highest = writer, sequence
        return skipped

    def advance(self) -> int:
        """The watermark now (Unix ms), judged at the time of the last complete listing.

        While listings fail nothing is known about what arrives, so time does not go on either.
        """
        now_ms = self._listed_ms
        live = [shard for shard in self.shards.values() if self._is_live(shard, now_ms)]
        found = min(shard.newest_ms for shard in live) if live else now_ms - self._lag_ms
        self.value_ms = max(self.value_ms, min(found, now_ms))
        return self.value_ms

    def _is_live(self, shard: Shard, now_ms: int) -> bool:
        return shard.outstanding > 0 or (shard.seen_ms > 0 and now_ms - shard.seen_ms <= self._idle_ms)

    def live(self) -> list[str]:
        """Names of the live shards."""
        return sorted(name for name, shard in self.shards.items() if self._is_live(shard, self._listed_ms))

    def _shard(self, name: str) -> Shard:
        shard = self.shards.get(name)
        if shard is None:
            if len(self.shards) >= MAX_SHARDS:
                idle = [name for name, known in self.shards.items() if not known.outstanding]
                self.shards.pop(min(idle, key=lambda name: self.shards[name].seen_ms, default=""), None)
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


def _without(gaps: list[tuple[int, int]], number: int) -> list[tuple[int, int]]:
    """The gaps when one number of them has come."""
    left = []
    for first, last in gaps:
        parts = ((first, number - 1), (number + 1, last)) if first <= number <= last else ((first, last),)
        left += [part for part in parts if part[0] <= part[1]]
    return left
