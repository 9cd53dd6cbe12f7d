"""The life of a file: a table of the moves that it may make, and the one book of which file is where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cdn77_exporter.core.files import LogFile
from cdn77_exporter.flow.ordered import Permits
from cdn77_exporter.flow.ports import Report

if TYPE_CHECKING:
    from cdn77_exporter.telemetry.messages import MessageName

_MAX_REMEMBERED = 10_000

Identity = tuple[str, str]


class At(StrEnum):
    """The stations of a file. The last four end its life in this process; a later poll may begin another one."""

    LISTED = "listed"  # found by a poll, not begun
    FETCHING = "fetching"
    FETCHED = "fetched"  # its bytes are there, or whoever decodes it fetches it
    DECODING = "decoding"
    DECODED = "decoded"  # what it counts is there
    UNREADABLE = "unreadable"  # it cannot be inflated, or is not what was listed
    COUNTED = "counted"  # it is part of the totals, and waits for their commit
    COMMITTED = "committed"  # the ledger has it
    LEFT = "left"  # to a later poll, or to the next process
    GONE = "gone"  # no longer in the bucket
    SET_ASIDE = "set aside"  # in the ledger, as one that cannot be read


#: Where a file takes memory: it has a permit while it is there.
IN_MEMORY = frozenset({At.FETCHING, At.FETCHED, At.DECODING, At.DECODED, At.UNREADABLE})
#: Where a file is still expected to bring its shard's progress: the watermark waits for it.
OUTSTANDING = IN_MEMORY | {At.LISTED}
#: From where a file may go to where, and the message that tells of it, if any. Nothing else may happen to a file.
MOVES: Mapping[At, Mapping[At, MessageName | None]] = {
    At.LISTED: {At.FETCHING: None, At.LEFT: None},
    At.FETCHING: {
        At.FETCHED: None,
        At.UNREADABLE: "file_unreadable",
        At.GONE: "file_gone",
        At.LEFT: "file_fetch_failed",
        At.SET_ASIDE: "file_set_aside",
    },
    At.FETCHED: {At.DECODING: None},
    At.DECODING: {
        At.DECODED: None,
        At.UNREADABLE: "file_unreadable",
        At.GONE: "file_gone",
        At.LEFT: "file_fetch_failed",
        At.SET_ASIDE: "file_set_aside",
    },
    At.UNREADABLE: {At.SET_ASIDE: "file_set_aside", At.LEFT: None},
    At.DECODED: {At.COUNTED: "file_counted"},
    At.COUNTED: {At.COMMITTED: None},
}


def takes_permit(at: At, to: At) -> bool:
    """Tell whether a move takes a memory permit."""
    return at not in IN_MEMORY and to in IN_MEMORY


def frees_permit(at: At, to: At) -> bool:
    """Tell whether a move frees the file's memory permit."""
    return at in IN_MEMORY and to not in IN_MEMORY


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often in a row a file could not be counted, whether others could, and how many failed since the last."""

    count: int
    others_succeed: bool
    failing: int


class ForbiddenMove(Exception):
    """A file was to make a move that is not in `MOVES`: a fault of the program, never of the file."""


class InFlight:
    """Knows every file from its listing to the end of its life, and what follows from where it is.

    At most `most` files are in memory. A move that has a message is reported with the file's key.
    """

    def __init__(self, most: int, report: Report) -> None:
        self.permits = Permits(most)
        self._report = report
        self._at: dict[Identity, At] = {}
        self._keys: set[str] = set()  # of the same; no two files of one key are in flight
        self._files: dict[At, dict[Identity, LogFile]] = {at: {} for at in MOVES}
        self._outstanding: Counter[str] = Counter()
        self.decoded = 0  # files, since the beginning
        self._failing: set[Identity] = set()  # since the last that was decoded
        self._attempts: dict[Identity, tuple[int, int]] = {}  # how often in a row, and `decoded` at the first

    def __len__(self) -> int:
        return len(self._at)

    def count(self, at: At) -> int:
        """Return how many files are there."""
        return len(self._files[at])

    def files(self, at: At) -> list[LogFile]:
        """Return the files that are there, in the order in which they came."""
        return list(self._files[at].values())

    @property
    def outstanding(self) -> Mapping[str, int]:
        """The number of files by shard that are expected to bring its progress; shards without any are not in it."""
        return self._outstanding

    def unknown(self, files: Iterable[LogFile]) -> list[LogFile]:
        """Return those of `files` whose keys are not in flight; of a key listed twice the last one."""
        return [file for file in {file.key: file for file in files}.values() if file.key not in self._keys]

    def list(self, files: Iterable[LogFile]) -> None:
        """Enter files that a poll has found; raises ForbiddenMove for one that is in flight."""
        for file in files:
            if file.key in self._keys:
                raise ForbiddenMove(f"{file.key} is in flight and was listed as a new file")
            self._enter(file, At.LISTED)

    def move(self, file: LogFile, to: At, **fields: object) -> None:
        """Move a file; that takes or frees its permit, tells its shard, and is reported with `fields`.

        Raises ForbiddenMove for what is not in `MOVES`.
        """
        at = self._at.get(file.identity)
        if at is None or to not in MOVES[at]:
            raise ForbiddenMove(f"{file.key} is {at or 'not in flight'} and was to be {to}")
        if takes_permit(at, to):
            self.permits.take()
        elif frees_permit(at, to):
            self.permits.free()
        self._leave(file, at)
        if to in MOVES:
            self._enter(file, to)
        if to is At.DECODED:
            self.decoded += 1
            self._failing.clear()
        if to in (At.DECODED, At.SET_ASIDE):
            self._attempts.pop(file.identity, None)
        if message := MOVES[at][to]:
            self._report(message, key=file.key, **fields)

    def _enter(self, file: LogFile, at: At) -> None:
        identity = file.identity
        self._at[identity] = at
        self._keys.add(file.key)
        self._files[at][identity] = file
        if at in OUTSTANDING:
            self._outstanding[file.shard] += 1

    def _leave(self, file: LogFile, at: At) -> None:
        identity = file.identity
        del self._at[identity], self._files[at][identity]
        self._keys.remove(file.key)
        if at in OUTSTANDING:
            self._outstanding[file.shard] -= 1
            if not self._outstanding[file.shard]:
                del self._outstanding[file.shard]

    # Files that cannot be counted

    def attempt(self, file: LogFile) -> Attempts:
        """Note that a file could not be fetched or decoded, and return how often that was so in a row."""
        count, decoded = self._attempts.pop(file.identity, (0, self.decoded))
        if len(self._attempts) >= _MAX_REMEMBERED:
            self._attempts.pop(next(iter(self._attempts)))
        self._attempts[file.identity] = count + 1, decoded
        self._failing.add(file.identity)
        # At a first failure the others of its poll have yet to be tried.
        return Attempts(count + 1, self.decoded > (decoded if count else 0), len(self._failing))
