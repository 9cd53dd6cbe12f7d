"""Which files are under way: a file is claimed from its listing until its commit, and never twice at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdn77_exporter.core.files import LogFile

#: Polls at which an unreadable file is tried before it is set aside.
MAX_ATTEMPTS = 3
_MAX_REMEMBERED = 10_000


class Claims:
    """Identities of files listed and not yet committed, and how often unreadable ones were tried."""

    def __init__(self) -> None:
        self._claimed: set[tuple[str, str]] = set()
        self._attempts: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._claimed)

    def unclaimed(self, files: Iterable[LogFile]) -> list[LogFile]:
        """Those of `files` that are not under way."""
        return [file for file in files if file.identity not in self._claimed]

    def claim(self, files: Iterable[LogFile]) -> None:
        """Take files; they are under way."""
        self._claimed.update(file.identity for file in files)

    def release(self, identity: tuple[str, str]) -> None:
        """The file is no longer under way: the ledger has it, or a later poll may take it again."""
        self._claimed.discard(identity)

    def failed(self, file: LogFile) -> int:
        """The file could not be read; how often that has happened now."""
        count = self._attempts.pop(file.identity, 0) + 1
        if len(self._attempts) >= _MAX_REMEMBERED:
            self._attempts.pop(next(iter(self._attempts)))
        self._attempts[file.identity] = count
        return count

    def forget(self, identity: tuple[str, str]) -> None:
        """The file was read or set aside: its attempts no longer matter."""
        self._attempts.pop(identity, None)


def oldest_first(files: Sequence[LogFile]) -> list[LogFile]:
    """Each shard's files in chronological order, the shards of an hour interleaved.

    A writer's files are in the order of their sequence numbers, whatever their upload times say. Another writer of the
    same shard has numbers of its own, so that between writers the upload times decide.
    """
    shards: dict[tuple[str, str], dict[str, list[LogFile]]] = {}
    for file in files:
        shards.setdefault((file.folder, file.shard), {}).setdefault(file.writer, []).append(file)
    placed: list[tuple[str, float, str, LogFile]] = []
    for (folder, shard), writers in shards.items():
        members = _merged(writers.values())
        for number, file in enumerate(members):
            placed.append((folder, (number + 0.5) / len(members), shard, file))
    placed.sort(key=lambda entry: entry[:3])
    return [file for *_, file in placed]


def _merged(writers: Iterable[list[LogFile]]) -> list[LogFile]:
    """The files of some writers: each one's by its sequence, and between writers by their uploads."""
    keyed: list[tuple[int, int, int, str, LogFile]] = []
    for members in writers:
        members.sort(key=lambda file: (file.sequence, file.modified_ms, file.key))
        began, latest = min(file.modified_ms for file in members), 0
        for number, file in enumerate(members):
            latest = max(latest, file.modified_ms)
            keyed.append((latest, began, number, file.key, file))
    keyed.sort(key=lambda entry: entry[:4])
    return [file for *_, file in keyed]
