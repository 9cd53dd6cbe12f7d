"""The current problems of the service, for readiness, the log, the metrics and the status page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from cdn77_exporter.core.visible import visible
from cdn77_exporter.telemetry.conditions import CONDITIONS, ConditionName, Severity
from cdn77_exporter.telemetry.fields import cut, iso

_CHARACTERS = 4_000
_SHORT = 60  # characters of a headline


@dataclass(frozen=True, slots=True)
class Problem:
    """A condition that holds at the moment."""

    what: Annotated[ConditionName, Meta(description="The condition's name, as in the table of conditions.")]
    severity: Annotated[Severity, Meta(description="red, amber, or waiting; only with amber ones is it ready.")]
    since: Annotated[str, Meta(description="ISO 8601, UTC.")]
    words: Annotated[str, Meta(description="What is wrong, and how much.")]
    remedy: Annotated[str, Meta(description="What to do.")]

    @property
    def headline(self) -> str:
        """The problem in a few words: its own ones if they are short."""
        words = self.words if len(self.words) <= _SHORT else CONDITIONS[self.what].title
        return words[:1].upper() + words[1:]


class Problems:
    """The current problems, one for each condition; `since` stays when the same condition is found again.

    `tell` is called with a problem that begins, and with one that ends.
    """

    def __init__(
        self,
        mask: Callable[[str], str] = str,
        now: Callable[[], float] = time.time,
        tell: Callable[[Problem, bool], None] = lambda problem, begins: None,
    ) -> None:
        self._mask = mask
        self._now = now
        self._tell = tell
        self._current: dict[ConditionName, Problem] = {}

    def found(self, what: ConditionName, words: str, remedy: str = "") -> None:
        """Add or renew a problem: what is wrong and how much, and what to do if that is not what the table says."""
        row, known = CONDITIONS[what], self._current.get(what)
        since = known.since if known else iso(self._now())
        problem = Problem(what, row.severity, since, self._clean(words), self._clean(remedy or row.action))
        self._current[what] = problem
        if known is None:
            self._tell(problem, True)

    def has(self, what: ConditionName) -> bool:
        """Return whether a condition holds."""
        return what in self._current

    def solved(self, what: ConditionName) -> None:
        """Remove the problem of a condition, if there is one."""
        problem = self._current.pop(what, None)
        if problem is not None:
            self._tell(problem, False)

    def current(self) -> list[Problem]:
        """Return the current problems, the most urgent and oldest first."""
        return sorted(self._current.values(), key=lambda problem: (problem.severity.rank, problem.since, problem.what))

    @property
    def ready(self) -> bool:
        """True when none of them keeps the service from being ready."""
        return all(CONDITIONS[what].ready for what in self._current)

    def __len__(self) -> int:
        return len(self._current)

    def _clean(self, text: str) -> str:
        return cut(visible(self._mask(text)), _CHARACTERS)
