"""The findings of `check`: each is one line of its table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from cdn77_exporter.core.errors import Conflict, FileGone, Misconfigured, Refused, StateError, Transient, Unreadable


class Status(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """The subject of a check, its state, and the remedy if something is wrong."""

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
        """Record a check that passed."""
        self.all.append(Finding(check, Status.OK, found))

    def warn(self, check: str, found: str, remedy: str) -> None:
        """Record something that works but deserves attention."""
        self.all.append(Finding(check, Status.WARNING, found, remedy))

    def fail(self, check: str, found: str, remedy: str) -> None:
        """Record a check that failed."""
        self.all.append(Finding(check, Status.FAILED, found, remedy))

    def skip(self, check: str, found: str) -> None:
        """Record a check that was skipped."""
        self.all.append(Finding(check, Status.SKIPPED, found))

    @asynccontextmanager
    async def contact(
        self, check: str, *, needed: bool = True, otherwise: str = "", through: str = ""
    ) -> AsyncIterator[None]:
        """Limit the time of one contact; turn an error into the finding of the check.

        What is not `needed` is a warning, and `otherwise` says what cannot be done without it. `through`: the proxy.
        """
        note = self.fail if needed else self.warn
        tail = f" ({otherwise})" if otherwise else ""
        tail += f" (through the proxy {through})" if through else ""
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
                "check that the server is running and reachable from here"
                + (", and HTTPS_PROXY, HTTP_PROXY and NO_PROXY" if through else ""),
            )
        except (Refused, FileGone, Unreadable, Conflict) as error:
            note(check, f"{error}{tail}", "check the server's own log")

    def has(self, check: str) -> bool:
        """Return whether this check has a finding."""
        return any(finding.check == check for finding in self.all)
