"""Numbers for texts and for rows of numbers: what makes it possible to count with arrays.

A text or a row that was seen before is found without Python looking at it; only what is new is given a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]

_FIRST_ROWS = 256
# Python's hash of a text is keyed with a secret of the process, so nobody outside can choose rows that collide.
_SECRET = hash("a row of labels") & 0xFFFFFFFFFFFFFFFF
_ODD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class Vocabulary:
    """Texts by number, in both directions."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self.texts: list[str] = []

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)

    def code(self, text: str) -> int:
        """Return the text's number; a new text is given the next."""
        found = self._codes.get(text)
        if found is None:
            found = self._codes[text] = len(self.texts)
            self.texts.append(text)
        return found

    def codes(self, texts: Iterable[str]) -> Codes:
        """Return the numbers of texts [texts]."""
        known, code = self._codes.get, self.code
        found = [code(text) if (number := known(text)) is None else number for text in texts]
        return np.array(found, np.uint32)

    def named(self, codes: Sequence[int]) -> tuple[str, ...]:
        """Return the texts of some numbers."""
        return tuple(self.texts[code] for code in codes)

    def keep(self, used: npt.NDArray[np.bool_]) -> Codes:
        """Forget all texts but the used ones [texts]; return each old number's new one [old texts]."""
        new = np.cumsum(used, dtype=np.uint32) - np.uint32(1)
        self.texts = [self.texts[number] for number in np.flatnonzero(used).tolist()]
        self._codes = {text: number for number, text in enumerate(self.texts)}
        return new


class RowTable:
    """Rows of numbers, all different, by their own numbers; found by a keyed 64-bit hash and compared whole."""

    def __init__(self, width: int) -> None:
        self._width = width
        self.rows: Codes = np.zeros((_FIRST_ROWS, width), np.uint32)
        self._seed = 0
        self._free: list[int] = []
        self._end = 0  # row numbers that were ever given
        self._hashes: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)  # sorted
        self._numbers: Codes = np.zeros(0, np.uint32)  # of the rows with these hashes

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._hashes)

    @property
    def end(self) -> int:
        """A number above that of every row."""
        return self._end

    def numbers(self) -> Codes:
        """Return the numbers of all rows, in no order."""
        return self._numbers

    def find(self, rows: Codes) -> tuple[Places, npt.NDArray[np.bool_]]:
        """Return the number of each row [rows], and whether there is one; the number of an absent row means nothing."""
        if not len(self._hashes):
            return np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
        hashes = self.hashes(rows)
        order = np.argsort(hashes)  # searching in order walks through memory
        at = np.empty(len(rows), np.int64)
        at[order] = np.searchsorted(self._hashes, hashes[order])
        at[at == len(self._hashes)] = 0
        numbers = self._numbers[at].astype(np.int64)
        known = self._hashes[at] == hashes
        for same in (self.rows.take(numbers, axis=0) == rows).T:
            known &= same
        return numbers, known

    def add(self, rows: Codes) -> Places:
        """Add rows that are different and absent; return their numbers."""
        numbers = self._new_numbers(len(rows))
        self.rows[numbers] = rows
        hashes = self.hashes(rows)
        order = np.argsort(hashes)
        at = np.searchsorted(self._hashes, hashes[order])
        self._hashes = np.insert(self._hashes, at, hashes[order])
        self._numbers = np.insert(self._numbers, at, numbers[order].astype(np.uint32))
        while (self._hashes[1:] == self._hashes[:-1]).any():  # two rows with one hash: another seed parts them
            self._seed += 1
            self._sort()
        return numbers

    def _new_numbers(self, count: int) -> Places:
        reused = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = range(self._end, self._end + count - len(reused))
        self._end += len(fresh)
        if self._end > len(self.rows):
            more = max(self._end, len(self.rows) * 5 // 4) - len(self.rows)
            self.rows = np.concatenate((self.rows, np.zeros((more, self._width), np.uint32)))
        return np.array([*reused, *fresh], np.int64)

    def remove(self, numbers: npt.NDArray[Any]) -> None:
        """Forget rows; their numbers may be given again."""
        gone = np.isin(self._numbers, numbers)
        self._free += self._numbers[gone].tolist()
        self._hashes, self._numbers = self._hashes[~gone], self._numbers[~gone]

    def recode(self, new: Codes) -> None:
        """Replace every number in the rows by `new[number]`, which keeps them different."""
        self.rows[self._numbers] = new[self.rows[self._numbers]]
        self._sort()

    def _sort(self) -> None:
        hashes = self.hashes(self.rows[self._numbers])
        order = np.argsort(hashes)
        self._hashes, self._numbers = hashes[order], self._numbers[order]

    def hashes(self, rows: Codes) -> npt.NDArray[np.uint64]:
        """Return a keyed hash of each row [rows]."""
        found = np.full(len(rows), (_SECRET + self._seed) & 0xFFFFFFFFFFFFFFFF, np.uint64)
        for column in range(self._width):
            found = (found ^ rows[:, column]) * _ODD
            found ^= found >> _HALF
        return found
