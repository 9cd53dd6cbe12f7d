"""The watch time of the demo's players: of all their requests, and of those that the exporter counted in time."""

from __future__ import annotations

from collections import Counter, deque

PRESENCE_MS = 30_000  # PRESENCE_SECONDS, where it is not set

Player = tuple[str, str, str]  # stream, device type, IP
File = tuple[int, int]  # shard, and which of its spans


class Watching:
    """Watch time by player. Requests come in the order of their times (Unix ms)."""

    def __init__(self) -> None:
        self._players: dict[Player, tuple[int, int]] = {}  # milliseconds before the last request, and its time

    def see(self, ms: int, player: Player) -> None:
        """Take in a request."""
        watched, before = self._players.get(player, (0, ms))
        self._players[player] = watched + min(ms - before, PRESENCE_MS), ms

    def before(self, at_ms: int) -> Counter[tuple[str, ...]]:
        """Return the milliseconds watched before an instant after all requests, by stream and device type."""
        found: Counter[tuple[str, ...]] = Counter()
        for (stream, device, _), (watched, last) in self._players.items():
            found[stream, device] += watched + min(at_ms - last, PRESENCE_MS)
        return found


class InTime:
    """The same without the requests in files that came late, which is known once they are counted.

    Of a late request only what goes beyond that which was known counts: what the exporter tells is nowhere less than
    this, and nowhere more than with all requests.
    """

    def __init__(self) -> None:
        self._watching = Watching()
        self._waiting: deque[tuple[int, Player, File]] = deque()  # until their files are counted
        self._files: dict[str, File] = {}
        self._late: dict[File, bool] = {}

    def see(self, ms: int, player: Player, file: File) -> None:
        """Take in a request that is in a file."""
        self._waiting.append((ms, player, file))

    def named(self, file: File, key: str) -> None:
        """Note the key of a file."""
        self._files[key] = file

    def counted(self, key: str, late: int) -> None:
        """Note that a file was counted, and how many of its events were late."""
        file = self._files.pop(key, None)
        if file is None:
            return
        self._late[file] = late > 0
        while self._waiting and self._waiting[0][2] in self._late:
            ms, player, file = self._waiting.popleft()
            if not self._late[file]:
                self._watching.see(ms, player)

    def before(self, at_ms: int) -> Counter[tuple[str, ...]]:
        """Return the milliseconds watched before an instant after all requests, by stream and device type."""
        return self._watching.before(at_ms)
