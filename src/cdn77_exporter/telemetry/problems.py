"""What is wrong with the service at the moment, for readiness and the status page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cdn77_exporter.telemetry.text import cut, iso

_REMEDY_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong at the moment."""

    what: str
    since: str  # ISO 8601 UTC
    remedy: str

    def as_json(self) -> dict[str, str]:
        """For the status server."""
        return {"what": self.what, "since": self.since, "remedy": self.remedy}


class Problems:
    """What is wrong at the moment, one entry per subject; `since` stays when the same is found again."""

    def __init__(self, mask: Callable[[str], str] = str, now: Callable[[], float] = time.time) -> None:
        self._mask = mask
        self._now = now
        self._current: dict[str, Problem] = {}

    def found(self, what: str, remedy: str) -> None:
        """Something is wrong; `remedy` says what to do."""
        known = self._current.get(what)
        since = known.since if known else iso(self._now())
        self._current[what] = Problem(what, since, cut(self._mask(remedy), _REMEDY_CHARACTERS))

    def solved(self, what: str) -> None:
        """It is no longer."""
        self._current.pop(what, None)

    def current(self) -> list[Problem]:
        """What is wrong now, the oldest first."""
        return sorted(self._current.values(), key=lambda problem: (problem.since, problem.what))

    def __len__(self) -> int:
        return len(self._current)
