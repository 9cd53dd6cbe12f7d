"""Players by brute force, straight from the contract: who watches, for how long, and in which sessions.

Every request is kept with the presence that it added, to the millisecond; shares no code with the program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass
class Session:
    """A run of requests of one player."""

    last_ms: int
    presence: list[tuple[int, int]] = field(default_factory=list)  # from, to: no two overlap
    is_over: bool = False

    @property
    def watched_ms(self) -> int:
        """The player's presence in it, the last interval included."""
        return sum(end - begin for begin, end in self.presence)


class Players(Generic[Key]):
    """Players of one label set. `kept_seconds`: for how long after its last request a player is known.

    `tick`: the last one (Unix seconds) that was settled before the first of them came, 0 for none.
    """

    def __init__(self, presence_seconds: int, gap_seconds: int, kept_seconds: int, tick: int = 0) -> None:
        self._presence_ms, self._gap_ms = presence_seconds * 1000, gap_seconds * 1000
        self._kept_ms = kept_seconds * 1000
        self._requests: dict[Key, list[int]] = {}
        self._sessions: list[Session] = []
        self._running: dict[Key, Session] = {}
        self._tick_ms: int | None = tick * 1000 if tick else None

    def settle(self, tick: int, requests: Iterable[tuple[Key, int]]) -> None:
        """Take in what arrived before a tick (Unix seconds): player, Unix ms. In the order of time, as far as one tick
        is concerned."""
        for player, at in sorted(requests, key=lambda one: one[1]):
            self._request(player, at)
        self._tick_ms = tick * 1000
        for player, session in list(self._running.items()):
            if session.last_ms < self._tick_ms - self._gap_ms:
                session.is_over = True
                del self._running[player]

    def _request(self, player: Key, at: int) -> None:
        known = self._requests.setdefault(player, [])
        reached = max(known, default=-(10**15))
        if self._tick_ms is not None and reached < self._tick_ms - self._kept_ms:
            # Whoever is not known may have made a request just before that: time before it counts as known.
            reached = self._tick_ms - self._kept_ms - 1
        known.append(at)
        if at <= reached:
            return  # it extends nothing
        running = self._running.get(player)
        if running is not None and at - running.last_ms > self._gap_ms:
            running.is_over = True
            running = None
        if running is None:
            running = self._running[player] = Session(at)
            self._sessions.append(running)
        running.last_ms = at
        running.presence.append((max(at, reached + self._presence_ms), at + self._presence_ms))

    def watched_ms(self) -> int:
        """Return the presence before the last tick, over all players."""
        tick_ms = self._tick_ms or 0
        return sum(
            min(end, tick_ms) - begin
            for session in self._sessions
            for begin, end in session.presence
            if begin < tick_ms
        )

    def concurrent(self) -> int:
        """Return how many players have a request in the presence before the last tick."""
        end = self._tick_ms or 0
        begin = end - self._presence_ms
        return sum(any(begin <= at < end for at in times) for times in self._requests.values())

    def begun(self) -> int:
        """Return how many sessions began."""
        return len(self._sessions)

    def over(self) -> list[int]:
        """Return the watch times (ms) of the sessions that are over."""
        return [session.watched_ms for session in self._sessions if session.is_over]


def buckets(watched_ms: Iterable[int]) -> Counter[str]:
    """Return the classic histogram of watch times: cumulative counts by `le`."""
    found: Counter[str] = Counter()
    for one in watched_ms:
        for bound in (60, 180, 300, 600, 1200, 1800, 3600, 7200):
            found[str(bound)] += one <= bound * 1000
        found["+Inf"] += 1
    return found
