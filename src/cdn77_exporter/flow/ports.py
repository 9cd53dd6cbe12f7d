"""Ports: the narrow interfaces that the flow needs, which the edges implement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cdn77_exporter.core.changes import Changes, CountedFile, Owing, Sorted, Unsent
from cdn77_exporter.core.decoded import Decoded
from cdn77_exporter.core.files import LogFile, RawLog

if TYPE_CHECKING:
    from cdn77_exporter.flow.delivery import Delivery
    from cdn77_exporter.flow.stages.aggregate import Batch
    from cdn77_exporter.telemetry.conditions import ConditionName
    from cdn77_exporter.telemetry.messages import MessageName


class Report(Protocol):
    """Log a message of the table, with its fields."""

    def __call__(self, message: MessageName, /, **fields: object) -> None: ...


class Problems(Protocol):
    """The current problems, for readiness: one entry for each condition."""

    def found(self, what: ConditionName, words: str, remedy: str = "") -> None:
        """Enter a problem: what is wrong and how much, and what to do if that is not what the table says."""

    def solved(self, what: ConditionName) -> None:
        """Remove a problem."""


class Waits(Protocol):
    """A stopwatch, and waiting."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that never jumps."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Clock(Waits, Protocol):
    """Time, and waiting for it. Times are Unix milliseconds."""

    def now_ms(self) -> int:
        """Return the time, also in doubt: for what can be moved back."""

    def believed_ms(self) -> int | None:
        """Return the time that is believed, None in doubt."""

    def began_ms(self) -> int | None:
        """Return the believed time of the start of the process, None in doubt."""

    def bucket_ms(self) -> int:
        """Return the time by the clock of the bucket's server."""

    def possible_ms(self) -> list[int]:
        """Return the times that it may be: the believed one; in doubt several, the earliest one first."""

    def latest_ms(self, modified_ms: int) -> int:
        """Return the latest time of an event in a file that was uploaded at `modified_ms` by the bucket's clock."""

    def oldest_ms(self) -> int:
        """Return the time before which events are too old."""

    def hear_events(self, newest_ms: int, arrived: float) -> None:
        """Take the newest event of a file that came shortly before `arrived` (monotonic) for a witness of the time."""


@dataclass(frozen=True, slots=True)
class Common:
    """The means of every stage: time, messages, problems, and the signal to stop."""

    clock: Clock
    report: Report
    problems: Problems
    stop: asyncio.Event


class Lists(Protocol):
    """The bucket as the lister sees it."""

    def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        """List the files under a prefix, page by page; raises Transient or Misconfigured."""


class Fetches(Protocol):
    """The bucket as the downloaders see it."""

    async def fetch(self, file: LogFile) -> bytes:
        """Return a file's checked body; raises Transient, Misconfigured, FileGone or Unreadable."""


class Deletes(Protocol):
    """The bucket as the deleter sees it."""

    async def delete(self, files: Sequence[LogFile]) -> dict[tuple[str, str], str]:
        """Delete; return why it did not succeed for some, by identity. Raises Transient or Misconfigured."""


class Decodes(Protocol):
    """The decoders: a thread, processes, or other machines."""

    @property
    def most(self) -> int:
        """Files that it takes at a time."""

    @property
    def width(self) -> int:
        """Calls that it can have at a time."""

    async def decode(self, logs: Sequence[RawLog], latest_ms: Sequence[int], oldest_ms: int) -> Decoded:
        """Decode files together; `latest_ms` is each one's latest event time, `oldest_ms` that of all."""


class Receives(Protocol):
    """The receiver as the pusher sees it."""

    async def write(self, body: bytes) -> int | None:
        """Make one attempt; return how many samples it says to have written, None when it does not say.

        Raises Transient, Refused or Misconfigured.
        """


class Recalls(Protocol):
    """The receiver's memory, asked when the answer to a request was lost."""

    async def holds(self, body: bytes) -> bool | None:
        """Return whether it has what a request carries, None when it does not say; raises nothing."""


class KnowsFiles(Protocol):
    """The state as the lister sees it."""

    async def sort_out(self, files: Sequence[LogFile], *, again: bool = False) -> Sorted:
        """Tell which of some files, no two of one key, are to be counted; with `again` deleted ones are deleted again.

        A file that was set aside and has been written again, with the same content or another, is no longer set aside.
        """

    async def release_waiting(self) -> None:
        """Forget the files that were set aside as they had no stream yet; raises Transient."""

    async def forget_absent(self, after: str, upto: str, listed: Collection[str], gone_ms: int, old_ms: int) -> str:
        """Forget files between two keys that a listing did not name; return the key up to which that is done.

        Of those set aside the ones uploaded before `gone_ms`, of those deleted the ones uploaded before `old_ms`.
        """


class SetsAside(Protocol):
    """The state as whoever cannot read a file sees it."""

    async def set_aside(self, file: LogFile, reason: str, detail: str = "") -> None:
        """Remember a file as one that is not tried again; raises Transient."""


class Commits(Protocol):
    """The state as the aggregator sees it."""

    async def commit(self, changes: Changes) -> None:
        """Write all or nothing; raises Transient or Misconfigured, after which it may be tried again."""


class Outbox(Protocol):
    """The state as the pusher sees it: the committed requests that are not finished."""

    async def acknowledged(self) -> int:
        """Return the last tick (Unix seconds) up to which the receiver has everything, 0 without any."""

    async def outbox(self) -> list[Unsent]:
        """List the requests, in order."""

    async def body(self, number: int) -> bytes:
        """Return the body of a request."""

    async def sending(self) -> int:
        """Return the number of the request of which an answer may be lost, 0 for none; negative when sent in parts."""

    async def mark_sending(self, number: int) -> None:
        """Record the request of which an answer may be lost from now on, 0 for none; raises Transient."""

    async def mark_done(
        self,
        numbers: Sequence[int],
        acknowledged: int | None,
        sending: int = 0,
        owed: Sequence[Owing] | None = None,
    ) -> None:
        """Remove requests, note the tick that is acknowledged with them, if it is, and the request that is sent next.

        `owed`: the series that are owed then; None when they are the same as before. Raises Transient.
        """


class Accounts(Protocol):
    """Whoever keeps account of what the receiver has been told."""

    async def to_send(self, body: bytes) -> bytes:
        """Return the part of a request that is to be sent now; empty for none of it."""

    async def settled(self, number: int, tick: int, body: bytes, delivery: Delivery) -> None:
        """Take note that a request, or a part of it, is stored or not stored, before it leaves the outbox.

        `body`: all that became of it alike, as a request. It may come again after a crash, and in other parts.
        """

    def owing(self) -> Sequence[Owing] | None:
        """Return all that is owed, if that has changed; it is committed with the end of the request."""

    def done(self, numbers: Sequence[int]) -> None:
        """Take note that requests have left the outbox."""

    def wait_for_histograms(self, wait: bool) -> None:
        """Say whether anything waits until native histograms are stored; not for a receiver that takes none."""

    def acknowledged(self, batch: Batch) -> int | None:
        """Return the tick up to which the receiver has everything, now that a batch is settled; None for no news."""


class Ledger(Protocol):
    """The state as the deleter sees it."""

    async def deletable(self, through: int, most: int, skip: int = 0) -> list[CountedFile]:
        """List counted files that are due by the tick `through`, oldest first, without the first `skip`."""

    async def mark_deleted(self, files: Sequence[tuple[str, str]]) -> None:
        """Mark files, given by their identities, as deleted; raises Transient."""
