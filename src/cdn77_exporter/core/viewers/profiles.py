"""Profiles of viewers: what their series are labelled with, by number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint32]
Place = tuple[str, str]

_UNKNOWN = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Profile:
    """The values that a viewer's series are labelled with.

    A viewer that shows one device and one country has all of it. One that shows several has neither here, and for each
    device and each country a *facet*: a profile of its own, without what follows from the address.
    """

    stream: str
    device: str | None
    country: str | None  # of the log
    place: Place | None  # country and region of the GeoIP database
    version: str | None = None  # of the address; None where an older state has not kept it

    @property
    def is_facet(self) -> bool:
        """True if it is one device or one country of a viewer that shows several."""
        return self.place is None


class Profiles:
    """Profiles by number, in both directions, and which of them belong together."""

    def __init__(self) -> None:
        self._numbers: dict[Profile, int] = {}
        self.all: list[Profile | None] = []  # None where a number is free
        self._free: list[int] = []
        self._new: list[int] = []
        self._gone: list[int] = []
        # By number, made when they are first asked for: the profile without device and country, and the two facets.
        self._whole: Numbers = np.zeros(0, np.uint32)
        self._facets: npt.NDArray[np.uint32] = np.zeros((0, 2), np.uint32)

    def __len__(self) -> int:
        """Return the number of profiles."""
        return len(self._numbers)

    def __getitem__(self, number: int) -> Profile:
        """Return the profile of a number."""
        profile = self.all[number]
        if profile is None:
            raise KeyError(number)
        return profile

    @property
    def end(self) -> int:
        """A number above that of every profile."""
        return len(self.all)

    def number(self, profile: Profile) -> int:
        """Return the profile's number; a new one is given one that is free."""
        found = self._numbers.get(profile)
        if found is None:
            found = self._free.pop() if self._free else len(self.all)
            self._put(found, profile)
            self._new.append(found)
        return found

    def _put(self, number: int, profile: Profile) -> None:
        while number >= len(self.all):
            self.all.append(None)
        self.all[number] = profile
        self._numbers[profile] = number
        if number < len(self._whole):
            self._whole[number] = _UNKNOWN

    def whole_of(self, numbers: Numbers) -> Numbers:
        """Return the profiles [numbers] of the same viewers without device and country."""
        self._relate(numbers)
        return self._whole[numbers]

    def facets_of(self, numbers: Numbers) -> Numbers:
        """Return the facets [numbers, 2] of profiles that have a device and a country."""
        self._relate(numbers)
        return self._facets[numbers]

    def is_whole(self, numbers: Numbers) -> npt.NDArray[np.bool_]:
        """Return which profiles [numbers] are those of viewers whose devices and countries are facets."""
        self._relate(numbers)
        found: npt.NDArray[np.bool_] = self._whole[numbers] == numbers
        return found

    def _relate(self, numbers: Numbers) -> None:
        short = len(self.all) - len(self._whole)
        if short > 0:
            more = max(short, len(self._whole) // 4)
            self._whole = np.append(self._whole, np.full(more, _UNKNOWN))
            self._facets = np.concatenate((self._facets, np.zeros((more, 2), np.uint32)))
        unknown = numbers[self._whole[numbers] == _UNKNOWN]
        for number in np.unique(unknown).tolist():
            profile = self[number]
            if profile.device is None or profile.country is None:
                self._whole[number] = number
                continue
            whole = self.number(Profile(profile.stream, None, None, profile.place, profile.version))
            device = self.number(Profile(profile.stream, profile.device, None, None))
            country = self.number(Profile(profile.stream, None, profile.country, None))
            if len(self.all) > len(self._whole):
                self._relate(numbers[:0])
            self._whole[number] = whole
            self._facets[number] = device, country

    # Forgetting

    def forget_streams(self, streams: set[str]) -> list[int]:
        """Forget all profiles of some streams, which no viewer may have; return their numbers, which are free then."""
        return self._forget([number for profile, number in self._numbers.items() if profile.stream in streams])

    def keep(self, used: set[int]) -> list[int]:
        """Forget all profiles but those that are used, and what belongs to these; return the numbers, free then.

        `used`: all that viewers have.
        """
        numbers = np.fromiter(used, np.int64, len(used))
        numbers = numbers[numbers < len(self._whole)]
        numbers = numbers[(self._whole[numbers] != _UNKNOWN) & (self._whole[numbers] != numbers)]
        kept = used.union(self._whole[numbers].tolist(), self._facets[numbers].ravel().tolist())
        return self._forget([number for number in self._numbers.values() if number not in kept])

    def _forget(self, gone: list[int]) -> list[int]:
        for number in gone:
            del self._numbers[self[number]]
            self.all[number] = None
        self._free += gone
        self._gone += gone
        return gone

    # State

    def take_new(self) -> list[tuple[int, Profile]]:
        """Return numbers and profiles made since the last call, those that have gone again left out."""
        new, self._new = self._new, []
        return [(number, profile) for number in dict.fromkeys(new) if (profile := self.all[number]) is not None]

    def take_gone(self) -> list[int]:
        """Return the numbers that were forgotten since the last call; a number may be in use again."""
        gone, self._gone = self._gone, []
        return gone

    def restore(self, profiles: Iterable[tuple[int, Profile]]) -> None:
        """Take up numbers and profiles (must be empty)."""
        for number, profile in profiles:
            self._put(number, profile)
        self._free = [number for number, profile in enumerate(self.all) if profile is None]
