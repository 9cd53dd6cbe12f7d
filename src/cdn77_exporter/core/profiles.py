"""Profiles of viewers: what their gauges are labelled with, by number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """What a viewer's gauges are labelled with; None where its facets carry it instead."""

    stream: str
    device: str | None
    country: str | None  # of the log
    place: tuple[str, str] | None  # country and region of the GeoIP database


class Profiles:
    """Profiles by number, in both directions."""

    def __init__(self) -> None:
        self._numbers: dict[Profile, int] = {}
        self.all: list[Profile] = []
        self._new: list[int] = []

    def __len__(self) -> int:
        return len(self.all)

    def number(self, profile: Profile) -> int:
        """The profile's number; a new one is given the next."""
        found = self._numbers.get(profile)
        if found is None:
            found = self._numbers[profile] = len(self.all)
            self.all.append(profile)
            self._new.append(found)
        return found

    def take_new(self) -> list[tuple[int, Profile]]:
        """Numbers and profiles made since the last call."""
        new, self._new = self._new, []
        return [(number, self.all[number]) for number in new]

    def restore(self, profiles: Iterable[Profile]) -> None:
        """Take up profiles in the order of their numbers (must be empty)."""
        for profile in profiles:
            self.number(profile)
        self._new = []
