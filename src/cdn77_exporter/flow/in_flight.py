"""The life of a file: a table of the moves that it may make, and the one book of which file is where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cdn77_exporter.core.files import LogFile
from cdn77_exporter.flow.ordered import Permits
from cdn77_exporter.flow.ports import Report

if TYPE_CHECKING:
    from cdn77_exporter.telemetry.messages import MessageName

_MAX_REMEMBERED = 10_000
_TRYING_SECONDS = 600.0  # attempts in vain that are further apart have nothing to do with each other

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
    """Failures of a file: how many in a row, whether others could be counted, and how many failed since the last."""

    count: int
    others_succeed: bool
    failing: int


class ForbiddenMove(Exception):
    """A file was to make a move that is not in `MOVES`: a fault of the program, never of the file."""


class InFlight:
    """Knows every file from its listing to the end of its life, and what follows from where it is.

    At most `most` files are in memory. A move that has a message is reported with the file's key. `steady`: the seconds
    of a clock that never jumps. `patience`: the seconds for which a file is expected that cannot be fetched.
    """

    def __init__(self, most: int, report: Report, *, steady: Callable[[], float], patience: float) -> None:
        self.permits = Permits(most)
        self.patience = patience
        self._report = report
        self._steady = steady
        self._at: dict[Identity, At] = {}
        self._keys: set[str] = set()  # of the same; no two files of one key are in flight
        self._files: dict[At, dict[Identity, LogFile]] = {at: {} for at in MOVES}
        self._outstanding: Counter[str] = Counter()
        self._in_turn: Counter[str] = Counter()  # of those: to be fetched, for the first time
        self._fetched: Counter[str] = Counter()  # of those: fetched
        self._again: dict[Identity, LogFile] = {}  # of those: to be fetched, after an attempt of an earlier poll
        self._begun: dict[Identity, float] = {}  # when a file was begun first that has not been decoded since
        # Since when files of a shard are begun and none of them was fetched, and when one was begun last.
        self._trying: dict[str, tuple[float, float]] = {}
        self._arrived: dict[Identity, float] = {}
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
        """The number of files by shard that are still to bring its progress; shards without any are not in it."""
        return self._outstanding

    @property
    def expected(self) -> set[str]:
        """The shards that will deliver a listed file soon.

        A file that cannot be fetched is not expected any more when `patience` has passed since it was begun first, nor
        is a shard of which no file can be fetched.
        """
        oldest = self._steady() - self.patience
        in_turn = {shard for shard in self._in_turn if self._trying.get(shard, (oldest,))[0] >= oldest}
        again = {file.shard for key, file in self._again.items() if self._begun.get(key, 0.0) >= oldest}
        return in_turn | again | self._fetched.keys()

    def is_tried_again(self, file: LogFile) -> bool:
        """Return whether a file that is to be fetched was begun before, and left."""
        return file.identity in self._again

    def unknown(self, files: Iterable[LogFile]) -> list[LogFile]:
        """Return those of `files` whose keys are not in flight; of a key listed twice the last one."""
        return [file for file in {file.key: file for file in files}.values() if file.key not in self._keys]

    def arrived(self, file: LogFile) -> float | None:
        """Return shortly after which time (steady) the file came into the bucket; None when it may have lain there."""
        return self._arrived.get(file.identity)

    def list(self, files: Iterable[LogFile], *, just_came: bool = False) -> None:
        """Enter files that a poll has found; raises ForbiddenMove for one that is in flight.

        `just_came`: they were not there shortly before.
        """
        for file in files:
            if file.key in self._keys:
                raise ForbiddenMove(f"{file.key} is in flight and was listed as a new file")
            if file.identity in self._begun:
                self._again[file.identity] = file
            elif just_came:
                self._arrived[file.identity] = self._steady()
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
        self._note_attempt(file, to)
        if to in OUTSTANDING:
            self._enter(file, to)
        else:
            self._arrived.pop(file.identity, None)
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
        self._count_at(file, at, 1)

    def _leave(self, file: LogFile, at: At) -> None:
        identity = file.identity
        del self._at[identity], self._files[at][identity]
        self._keys.remove(file.key)
        self._count_at(file, at, -1)

    def _count_at(self, file: LogFile, at: At, by: int) -> None:
        counters = [self._outstanding] if at in OUTSTANDING else []
        if at in OUTSTANDING - {At.LISTED, At.FETCHING}:
            counters.append(self._fetched)
        elif at in OUTSTANDING and file.identity not in self._again:
            counters.append(self._in_turn)
        for counter in counters:
            counter[file.shard] += by
            if not counter[file.shard]:
                del counter[file.shard]

    # Files that cannot be fetched

    def _note_attempt(self, file: LogFile, to: At) -> None:
        """Remember since when a file, and its shard, are tried in vain."""
        if to is At.FETCHING:
            now = self._steady()
            self._begun.setdefault(file.identity, now)
            since, last = self._trying.pop(file.shard, (now, now))
            self._trying[file.shard] = (since if now - last < _TRYING_SECONDS else now, now)
            for remembered in (self._begun, self._trying):
                if len(remembered) > _MAX_REMEMBERED:
                    del remembered[next(iter(remembered))]  # type: ignore[arg-type]
            return
        self._again.pop(file.identity, None)
        if to not in (At.LISTED, At.LEFT):
            self._trying.pop(file.shard, None)
        if to not in (At.FETCHED, At.DECODING, At.UNREADABLE, At.LEFT):
            self._begun.pop(file.identity, None)

    # Files that cannot be counted

    @property
    def has_failing(self) -> bool:
        """True if a file that failed since the last that was decoded is tried again."""
        return any(identity in self._at for identity in self._failing)

    def attempt(self, file: LogFile) -> Attempts:
        """Note that a file could not be fetched or decoded, and return how often that was so in a row."""
        count, decoded = self._attempts.pop(file.identity, (0, self.decoded))
        if len(self._attempts) >= _MAX_REMEMBERED:
            self._attempts.pop(next(iter(self._attempts)))
        self._attempts[file.identity] = count + 1, decoded
        self._failing.add(file.identity)
        # At a first failure the others of its poll have yet to be tried.
        return Attempts(count + 1, self.decoded > (decoded if count else 0), len(self._failing))
