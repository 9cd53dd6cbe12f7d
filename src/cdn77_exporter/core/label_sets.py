"""The label sets of a limited measure: the busiest count on their own, and the rest as OTHER.

What is refused is remembered for a while, with its requests. When it has become busier than one of those that count
on their own, that one ends, and its place is free.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.keys import Codes, RowTable
from cdn77_exporter.core.keys import Places as Numbers

Amounts = npt.NDArray[np.int64]

#: Seconds in which what was seen counts half.
_HALF_LIFE_SECONDS = 600
#: Requests that nobody is displaced for, and how many times as busy one must be as what it displaces.
_NOISE, _BUSIER = 10.0, 2.0
#: Requests that label sets of an earlier process are taken to have had.
_RESTORED = 1000.0
_QUIET = 0.1  # requests that are as good as none
_WAITING = 4  # times as many as the limit are remembered
_AT_ONCE = 10  # one in so many may be displaced in one tick


class LabelSets:
    """The label sets, rows of `table`, that count on their own: at most `limit`, those that are OTHER apart.

    `own`: the places of the labels that OTHER stands in for; the others are kept.
    """

    def __init__(self, table: RowTable, own: list[int], limit: int) -> None:
        self._table = table
        self.own = own
        self._limit = limit
        self._recent: npt.NDArray[np.float64] = np.zeros(0)  # requests by row
        # Hashes of those that are refused, in order, and their requests.
        self._keys: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._waiting: npt.NDArray[np.float64] = np.zeros(0)

    def saw(self, numbers: Numbers, requests: npt.NDArray[Any]) -> None:
        """Note requests [rows] of rows of the table."""
        if len(self._recent) < len(self._table.rows):
            more = np.zeros(len(self._table.rows) - len(self._recent))
            self._recent = np.append(self._recent, more)
        np.add.at(self._recent, numbers, requests)

    def take_up(self, numbers: Numbers) -> None:
        """Take rows up that an earlier process had: how busy they are is not known yet."""
        self.saw(numbers, np.full(len(numbers), _RESTORED))

    def refuse(self, rows: Codes, requests: Amounts, other: int) -> npt.NDArray[np.bool_]:
        """Admit rows, which are different and absent, as far as there is room; return which are refused."""
        keys = self._table.hashes(rows).view(np.int64)
        counts = requests + self._waited(keys)
        ours = (rows[:, self.own] == other).all(axis=1)
        refused: npt.NDArray[np.bool_] = ~ours
        order = np.argsort(-counts, kind="stable")
        refused[order[~ours[order]][: max(0, self._limit - len(self._named(other)))]] = False
        self._remember(keys[refused], counts[refused])
        return refused

    def _named(self, other: int) -> Numbers:
        """Return the rows that count on their own."""
        numbers = self._table.numbers().astype(np.int64)
        others = (self._table.rows[numbers][:, self.own] == other).all(axis=1)
        named: Numbers = numbers[~others]
        return named

    def _waited(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        if not len(self._keys):
            return np.zeros(len(keys))
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found: npt.NDArray[np.float64] = np.where(self._keys[at] == keys, self._waiting[at], 0)
        return found

    def _remember(self, keys: npt.NDArray[np.int64], counts: npt.NDArray[np.float64]) -> None:
        new = ~np.isin(self._keys, keys)
        whole = np.concatenate((self._keys[new], keys))
        amounts = np.concatenate((self._waiting[new], counts))
        if len(whole) > _WAITING * self._limit:
            kept = np.argsort(-amounts, kind="stable")[: _WAITING * self._limit]
            whole, amounts = whole[kept], amounts[kept]
        order = np.argsort(whole)
        self._keys, self._waiting = whole[order], amounts[order]

    def quiet(self, numbers: Numbers) -> npt.NDArray[np.bool_]:
        """Return which rows [rows] have had no request for long."""
        found: npt.NDArray[np.bool_] = self._recent[numbers] < _QUIET
        return found

    def displace(self, counted: Numbers, other: int) -> Numbers:
        """Return rows that give their places to busier ones; not those that are `counted` in open ticks."""
        named = self._named(other)
        if len(named) < self._limit or not len(self._waiting):
            return named[:0]
        idle = np.setdiff1d(named, counted)
        idle = idle[np.argsort(self._recent[idle], kind="stable")]
        busy = -np.sort(-self._waiting)
        most = min(len(idle), len(busy), max(1, self._limit // _AT_ONCE))
        gone: Numbers = idle[:most][busy[:most] > _NOISE + _BUSIER * self._recent[idle[:most]]]
        return gone

    def forget(self, numbers: Numbers) -> None:
        """Forget how busy rows were that are gone."""
        self._recent[numbers] = 0

    def pass_time(self, seconds: int) -> None:
        """Let what was seen count for less."""
        share = 0.5 ** (seconds / _HALF_LIFE_SECONDS)
        self._recent *= share
        self._waiting *= share
        kept = self._waiting >= 1
        self._keys, self._waiting = self._keys[kept], self._waiting[kept]

    def forget_waiting(self) -> None:
        """Forget those that are refused: numbers of texts have changed."""
        self._keys, self._waiting = np.zeros(0, np.int64), np.zeros(0)
