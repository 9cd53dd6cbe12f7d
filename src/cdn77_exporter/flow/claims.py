"""Which files are under way: a file is claimed from its listing until its commit, and never twice at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdn77_exporter.core.model import LogFile

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

    Within a shard's hour the order is that of the writers' first uploads, then of the sequence numbers, then of the
    uploads: a sequence is in order by itself, but starts anew with another writer.
    """
    began: dict[tuple[str, str, str], int] = {}
    for file in files:
        group = (file.folder, file.shard, file.writer)
        began[group] = min(began.get(group, file.modified_ms), file.modified_ms)
    shards: dict[tuple[str, str], list[LogFile]] = {}
    for file in files:
        shards.setdefault((file.folder, file.shard), []).append(file)
    placed: list[tuple[str, float, str, LogFile]] = []
    for (folder, shard), members in shards.items():
        members.sort(
            key=lambda file: (began[file.folder, file.shard, file.writer], file.sequence, file.modified_ms, file.key)
        )
        for number, file in enumerate(members):
            placed.append((folder, (number + 0.5) / len(members), shard, file))
    placed.sort(key=lambda entry: entry[:3])
    return [file for *_, file in placed]
