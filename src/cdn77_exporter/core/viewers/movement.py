"""The changes of one tick among the viewers, by profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
Times = npt.NDArray[np.int64]
Counts = tuple[Places, Times]  # profiles, each once, and a number of each


@dataclass(slots=True)
class Movement:
    """Viewers that appeared, that came into a window and that left it; what players watched, and their sessions.

    Windows are told apart by their length in seconds. Watch time is in milliseconds.
    """

    _appeared: list[Numbers] = field(default_factory=list)
    _came: dict[int, list[Numbers]] = field(default_factory=dict)
    _left: dict[int, list[Numbers]] = field(default_factory=dict)
    _begun: list[Numbers] = field(default_factory=list)
    _over: list[tuple[Numbers, Times]] = field(default_factory=list)
    _present: list[tuple[Numbers, int]] = field(default_factory=list)
    _watched: list[tuple[Places, Times]] = field(default_factory=list)
    _returned: list[tuple[Numbers, Times, Times]] = field(default_factory=list)

    def appear(self, profiles: Numbers) -> None:
        """Count viewers that were not in their session window."""
        self._appeared.append(profiles)

    def come(self, window: int, profiles: Numbers) -> None:
        """Count viewers that are in a window from now on."""
        self._came.setdefault(window, []).append(profiles)

    def leave(self, window: int, profiles: Numbers) -> None:
        """Count viewers that no longer are."""
        self._left.setdefault(window, []).append(profiles)

    def begin(self, profiles: Numbers) -> None:
        """Count sessions that began."""
        self._begun.append(profiles)

    def end(self, profiles: Numbers, watched: Times) -> None:
        """Count sessions that are over, each with its watch time."""
        self._over.append((profiles, watched))

    def watch(self, profiles: Numbers | Places, milliseconds: Times) -> None:
        """Add to the watch time, or take from it what those who are present did not stay for."""
        self._watched.append((profiles.astype(np.int64), milliseconds))

    def come_back(self, profiles: Numbers, after: Times, added: Times) -> None:
        """Count visits: `after` how long (ms) since the last request each came, and how much time it adds to that."""
        self._returned.append((profiles, after, added))

    def forget_returns(self) -> None:
        """Leave all visits out."""
        self._returned = []

    def join(self, profiles: Numbers, count: int) -> None:
        """Note players who are (`count` 1) or no longer are (-1) present until the tick."""
        self._present.append((profiles, count))

    def appeared(self) -> Counts:
        """Return profiles, and how many viewers appeared under them."""
        return total(self._appeared, [])

    def present(self, window: int) -> Counts:
        """Return profiles, and by how much the number of their viewers in a window changed."""
        return total(self._came.get(window, []), self._left.get(window, []))

    def begun(self) -> Counts:
        """Return profiles, and how many sessions began."""
        return total(self._begun, [])

    def over(self) -> tuple[Places, Times]:
        """Return the profile of each session that is over, and its watch time."""
        if not self._over:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        profiles, watched = zip(*self._over, strict=True)
        return np.concatenate(profiles).astype(np.int64), np.concatenate(watched)

    def returned(self) -> tuple[Places, Times, Times]:
        """Return of each visit its profile, after how long it came, and the time between all of its requests."""
        if not self._returned:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
        profiles, after, added = zip(*self._returned, strict=True)
        return np.concatenate(profiles).astype(np.int64), np.concatenate(after), np.concatenate(added)

    def watched(self) -> Counts:
        """Return profiles, and how long their players watched since the tick before."""
        found = np.zeros(_end(profiles for profiles, _ in self._watched), np.int64)
        for profiles, milliseconds in self._watched:
            np.add.at(found, profiles, milliseconds)
        numbers = np.flatnonzero(found)
        return numbers, found[numbers]

    def apply_joined(self, present: Times) -> Times:
        """Return how many players are present after the tick [profiles], of how many there were before it."""
        end = _end(profiles for profiles, _ in self._present)
        if end > len(present):
            present = np.append(present, np.zeros(max(end - len(present), len(present) // 4), np.int64))
        for profiles, count in self._present:
            np.add.at(present, profiles, count)
        return present


def _end(parts: Iterable[Numbers | Places]) -> int:
    """Return a number above all of these."""
    return max((int(part.max()) + 1 for part in parts if len(part)), default=0)


def total(plus: Sequence[Numbers], minus: Sequence[Numbers]) -> Counts:
    """Return profiles, each once, and how often each is in `plus`, less how often in `minus`."""
    more = np.concatenate(plus) if plus else np.zeros(0, np.uint32)
    fewer = np.concatenate(minus) if minus else np.zeros(0, np.uint32)
    end = max(int(more.max(initial=0)), int(fewer.max(initial=0))) + 1
    found = np.bincount(more, minlength=end) - np.bincount(fewer, minlength=end)
    numbers = np.flatnonzero(found)
    return numbers, found[numbers]
