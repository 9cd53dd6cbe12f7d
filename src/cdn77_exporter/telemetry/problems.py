"""The current problems of the service, for readiness and the status page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from cdn77_exporter.core.visible import visible
from cdn77_exporter.telemetry.fields import cut, iso

_REMEDY_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong at the moment."""

    what: Annotated[str, Meta(description="The subject: bucket, receiver, state, deletion, clock, ...")]
    since: Annotated[str, Meta(description="ISO 8601, UTC.")]
    remedy: Annotated[str, Meta(description="What is wrong and what to do.")]


class Problems:
    """The current problems, one for each subject; `since` stays when the same subject is found again."""

    def __init__(self, mask: Callable[[str], str] = str, now: Callable[[], float] = time.time) -> None:
        self._mask = mask
        self._now = now
        self._current: dict[str, Problem] = {}

    def found(self, what: str, remedy: str) -> None:
        """Add or renew the problem of a subject; `remedy` says what is wrong and what to do."""
        known = self._current.get(what)
        since = known.since if known else iso(self._now())
        self._current[what] = Problem(what, since, cut(visible(self._mask(remedy)), _REMEDY_CHARACTERS))

    def has(self, what: str) -> bool:
        """Return whether there is a problem of a subject."""
        return what in self._current

    def solved(self, what: str) -> None:
        """Remove the problem of a subject, if there is one."""
        self._current.pop(what, None)

    def current(self) -> list[Problem]:
        """Return the current problems, the oldest first."""
        return sorted(self._current.values(), key=lambda problem: (problem.since, problem.what))

    def __len__(self) -> int:
        return len(self._current)
