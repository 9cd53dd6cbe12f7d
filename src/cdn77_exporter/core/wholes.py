"""Series of several parts: a native histogram is one series to a receiver, and a slot for each of its buckets here.

The key of a part is that of the whole and one value more: the number of its bucket, or `SUM`. A part counts as any
other series does; what happens to one of a whole's parts as a series (it begins, ends, is owed, is forgotten) happens
to all of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.measures import SUM

#: The number that stands for `SUM`.
SUM_NUMBER = -(2**31)
#: So many buckets of a whole cost as much as a series.
_BUCKETS_A_SERIES = 8

Slots = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_NO_SLOTS: Slots = np.zeros(0, np.int64)


class Wholes:
    """The slots that are parts of one whole. The first of them stands for all, as any other series does for itself."""

    def __init__(self, size: int) -> None:
        self._slots: dict[tuple[str, ...], list[int]] = {}  # whole -> its parts
        self._of: dict[int, tuple[str, ...]] = {}  # part -> its whole
        self.is_part: Flags = np.zeros(size, np.bool_)  # [slots]
        self.first: Slots = np.arange(size)  # [slots]
        self.number: npt.NDArray[np.int32] = np.zeros(size, np.int32)  # [slots]: of the bucket, or `SUM_NUMBER`

    def grow(self, size: int) -> None:
        """Make room for the slots below `size`."""
        more = size - len(self.first)
        self.is_part = np.append(self.is_part, np.zeros(more, np.bool_))
        self.first = np.append(self.first, np.arange(len(self.first), size))
        self.number = np.append(self.number, np.zeros(more, np.int32))

    @property
    def cost(self) -> int:
        """The number of ordinary series that cost as much as all wholes."""
        return max(len(self._slots), len(self._of) // _BUCKETS_A_SERIES)

    @property
    def parts(self) -> int:
        """The number of parts of all wholes."""
        return len(self._of)

    def put(self, slot: int, whole: tuple[str, ...], part: str) -> int | None:
        """Enter a part by what identifies its whole; return a slot of the same whole, None when it is new."""
        slots = self._slots.setdefault(whole, [])
        slots.append(slot)
        self._of[slot] = whole
        self.is_part[slot] = True
        self.first[slot] = slots[0]
        self.number[slot] = SUM_NUMBER if part == SUM else int(part)
        return slots[0] if len(slots) > 1 else None

    def remove(self, slots: Slots) -> None:
        """Remove series that are forgotten: of a whole all parts."""
        for slot in slots[self.is_part[slots]].tolist():
            self._slots.pop(self._of.pop(slot), None)
        self.is_part[slots] = False
        self.first[slots] = slots

    def find(self, whole: tuple[str, ...]) -> list[int]:
        """Return the slots of a whole's parts; none when there is no such whole."""
        return self._slots.get(whole, [])

    def of(self, slot: int) -> list[int]:
        """Return the slots of all parts of the same whole; the slot itself of a series that has no parts."""
        whole = self._of.get(slot)
        return [slot] if whole is None else self._slots[whole]

    # With arrays

    def with_all_parts(self, slots: Slots) -> Slots:
        """Return ascending slots together with those of all parts of the same wholes."""
        own = slots[self.is_part[slots]]
        return np.union1d(slots, self._of_wholes(own)) if len(own) else slots

    def spread(self, flags: Flags) -> Flags:
        """Return flags [slots] that all parts of a whole have if one of them has."""
        own = np.flatnonzero(flags & self.is_part[: len(flags)])
        if not len(own):
            return flags
        found = flags.copy()
        found[self._of_wholes(own)] = True
        return found

    def _of_wholes(self, own: Slots) -> Slots:
        """Return the slots of all parts of the wholes that have these parts."""
        chosen = np.zeros(len(self.first), np.bool_)
        chosen[self.first[own]] = True
        parts = np.flatnonzero(self.is_part)
        return parts[chosen[self.first[parts]]]

    def level(self, numbers: npt.NDArray[np.int64]) -> None:
        """Give all parts of a whole the largest of their numbers [slots]."""
        if not self._of:
            return
        parts = np.flatnonzero(self.is_part)
        largest = np.zeros(len(self.first), np.int64)
        np.maximum.at(largest, self.first[parts], numbers[parts])
        numbers[parts] = largest[self.first[parts]]
