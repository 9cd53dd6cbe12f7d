"""What a check has found: one line of its table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from cdn77_exporter.core.errors import Conflict, FileGone, Misconfigured, Refused, StateError, Transient, Unreadable


class Status(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do if it is not right."""

    check: str
    status: Status
    found: str
    remedy: str = ""


@dataclass(slots=True)
class Findings:
    """The findings of one part, in their order."""

    seconds: float  # how long one contact may take
    all: list[Finding] = field(default_factory=list)

    def ok(self, check: str, found: str) -> None:
        """It is as it should be."""
        self.all.append(Finding(check, Status.OK, found))

    def warn(self, check: str, found: str, remedy: str) -> None:
        """It works, but is worth a look."""
        self.all.append(Finding(check, Status.WARNING, found, remedy))

    def fail(self, check: str, found: str, remedy: str) -> None:
        """It does not work."""
        self.all.append(Finding(check, Status.FAILED, found, remedy))

    def skip(self, check: str, found: str) -> None:
        """It need not, or could not be looked at."""
        self.all.append(Finding(check, Status.SKIPPED, found))

    @asynccontextmanager
    async def contact(self, check: str, *, needed: bool = True, otherwise: str = "") -> AsyncIterator[None]:
        """One contact within its time; an error becomes the check's finding.

        What is not `needed` is a warning, and `otherwise` says what cannot be done without it.
        """
        note = self.fail if needed else self.warn
        tail = f" ({otherwise})" if otherwise else ""
        try:
            async with asyncio.timeout(self.seconds + 1):
                yield
        except (Misconfigured, StateError) as error:
            note(check, f"{error}{tail}", error.remedy)
        except (Transient, TimeoutError) as error:
            words = str(error) or f"no answer within {self.seconds:g} s"
            note(
                check,
                f"{words}{tail}",
                "check that the server is running and reachable from here",
            )
        except (Refused, FileGone, Unreadable, Conflict) as error:
            note(check, f"{error}{tail}", "check the server's own log")

    def has(self, check: str) -> bool:
        """Whether there is a finding of this check."""
        return any(finding.check == check for finding in self.all)
