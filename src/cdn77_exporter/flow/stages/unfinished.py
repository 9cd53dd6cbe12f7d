"""Files that cannot be fetched or decoded: what is said of them, and whether a later poll may try again."""

from __future__ import annotations

from dataclasses import dataclass

from cdn77_exporter.core.errors import FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.flow.in_flight import MAX_ATTEMPTS, At, InFlight
from cdn77_exporter.flow.ports import Common, SetsAside

#: What can keep a file from being counted.
Hindrance = FileGone | Unreadable | Misconfigured | Transient


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Ends the life of files that cannot be counted now; none of them is ever deleted."""

    common: Common
    in_flight: InFlight
    ledger: SetsAside

    async def end(self, file: LogFile, error: Hindrance) -> None:
        """Report why the file is not counted, and set it aside or leave it to a later poll."""
        if isinstance(error, Unreadable):
            await self._end_unreadable(file, error)
        elif isinstance(error, FileGone):
            self.in_flight.move(file, At.GONE)
        elif isinstance(error, Misconfigured):
            words = f"{error}; {error.remedy}"
            self.in_flight.move(file, At.LEFT, error=words)
            self.common.problems.found("bucket", words)
        else:
            self.in_flight.move(file, At.LEFT, error=str(error))

    async def _end_unreadable(self, file: LogFile, error: Unreadable) -> None:
        """Keep an unreadable file for later polls, or set it aside when they were enough."""
        self.in_flight.move(file, At.UNREADABLE, reason=error.reason)
        if self.in_flight.attempts(file) >= MAX_ATTEMPTS:
            try:
                await self.ledger.set_aside(file, error.reason)
            except Transient:
                pass  # it will be tried once more, and set aside then
            else:
                return self.in_flight.move(file, At.SET_ASIDE, reason=error.reason)
        return self.in_flight.move(file, At.LEFT)
