"""The counts of files, as columns: the one shape in which counts travel from decoding to the series.

Texts stand once each in a list, and rows name them by their numbers in it. Rows of events are kept by cube (see
`measures`), rows of viewers by address and profile. Whoever decodes hands these arrays over as they are, from a thread,
a process or another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.measures import PROFILE

#: Bytes of an address; an IPv4 address is the IPv6 one that it is mapped to (RFC 4291, 2.5.5.2).
ADDRESS_BYTES = 16
#: A sum that would be larger ends there.
MOST_SUM = 2**63 - 1

_WORDS = np.dtype(np.uint64)  # of an address, as they lie in memory
_MOST_KEYS = 2**62

Numbers = npt.NDArray[np.uint32]
Amounts = npt.NDArray[np.int64]


@dataclass(slots=True)
class Groups:
    """Sums of one cube, a row for each tick and group of labels; no two rows are of the same tick and labels.

    `ticks` [rows]: the tick after the events (Unix seconds). `labels` [rows, labels of the cube]: numbers of texts.
    `sums` [rows, columns of the cube].
    """

    ticks: Amounts
    labels: Numbers
    sums: Amounts

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ticks)

    def by(self, *places: int, ticks: bool = False) -> Groups:
        """Return the sums by the labels in these places alone, and by tick if `ticks`; else all are of tick 0."""
        return reduce_groups(self.ticks if ticks else np.zeros_like(self.ticks), self.labels[:, places], self.sums)


def _no_numbers() -> Numbers:
    return np.zeros(0, np.uint32)


def _no_amounts() -> Amounts:
    return np.zeros(0, np.int64)


@dataclass(slots=True)
class Viewers:
    """The viewers that were seen, by the labels of an audience (see `Measures.audiences`).

    `labels` [profiles, labels of the audience]: numbers of texts, each row once. The others have an entry for each
    tick, address and profile. `addresses`, `profiles`: numbers of `Counts.addresses` and of `labels`. `first`, `last`:
    the first and the last event (Unix milliseconds), which lie before the same tick and not before the tick in front
    of it.
    """

    labels: Numbers
    addresses: Numbers = field(default_factory=_no_numbers)
    profiles: Numbers = field(default_factory=_no_numbers)
    first: Amounts = field(default_factory=_no_amounts)
    last: Amounts = field(default_factory=_no_amounts)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.addresses)

    def rows(self, chosen: npt.NDArray[Any]) -> Viewers:
        """Return these rows; the profiles stay as they are."""
        return Viewers(
            self.labels, self.addresses[chosen], self.profiles[chosen], self.first[chosen], self.last[chosen]
        )


@dataclass(slots=True)
class Counts:
    """The counts of one file, or of several together; without anything, nothing.

    `texts`: label values, cleaned, each once. `groups`: by cube, in the order of `Measures.cubes`. `addresses`:
    `ADDRESS_BYTES` each, each once. `audiences`: viewers, in the order of `Measures.audiences`. Arrays may be
    read-only: whoever changes them makes copies.
    """

    texts: list[str] = field(default_factory=list)
    groups: list[Groups] = field(default_factory=list)
    addresses: bytes = b""
    audiences: list[Viewers] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of rows of groups and of viewers."""
        return sum(map(len, self.groups)) + sum(map(len, self.audiences))

    @property
    def entries(self) -> int:
        """The number of groups of the cube, or viewers of the audience, that has the most."""
        return max((*map(len, self.groups), *map(len, self.audiences)), default=0)

    @property
    def viewers(self) -> Viewers:
        """The viewers by `measures.PROFILE`."""
        return self.audiences[0] if self.audiences else Viewers(np.zeros((0, len(PROFILE)), np.uint32))

    @property
    def ticks(self) -> Amounts:
        """The ticks of all rows, in order, each once."""
        ticks = np.sort(np.concatenate([_no_amounts(), *(group.ticks for group in self.groups)]))
        return ticks[np.diff(ticks, prepend=ticks[:1] - 1) > 0]  # np.unique would import masked arrays for it

    def ticks_of(self, viewers: Viewers) -> Amounts:
        """Return the tick of each row of viewers: the first after its events, which is one of those of the groups."""
        ticks = self.ticks
        return ticks[np.searchsorted(ticks, viewers.first // 1000, "right")]

    def of_ticks(self, first: int, last: int) -> Counts:
        """Return the rows of the ticks from `first` to `last`; the other columns stay as they are."""
        groups = []
        for group in self.groups:
            wanted = (group.ticks >= first) & (group.ticks <= last)
            groups.append(Groups(group.ticks[wanted], group.labels[wanted], group.sums[wanted]))
        audiences = []
        for viewers in self.audiences:
            ticks = self.ticks_of(viewers)
            audiences.append(viewers.rows((ticks >= first) & (ticks <= last)))
        return Counts(self.texts, groups, self.addresses, audiences)


# Rows that become one


def number_rows(columns: Sequence[npt.NDArray[Any]]) -> tuple[Amounts, Amounts]:
    """Tell equal rows: return where each different row stands for the first time, and the number of each row's own.

    `columns` hold whole numbers and have one length; a row is what they have in one place.
    """
    _, firsts, numbers = np.unique(_keys(columns)[0], return_index=True, return_inverse=True)
    return firsts, numbers.reshape(-1)


def _keys(columns: Sequence[npt.NDArray[Any]]) -> tuple[Amounts, int]:
    """Return a number for each row, equal for equal rows, and how many numbers there can be."""
    keys, span = np.zeros(len(columns[0]), np.int64), 1
    if not len(keys):
        return keys, span
    for column in columns:
        offsets, width = _offsets(column)
        if span * width > _MOST_KEYS:
            offsets, width = _dense(offsets)
            if span * width > _MOST_KEYS:
                keys, span = _dense(keys)  # now neither has more values than there are rows
        keys, span = keys * width + offsets, span * width
    return keys, span


def _equal_rows(keys: Amounts) -> tuple[Amounts, Amounts] | None:
    """Return an order in which equal keys stand together, and where each different one begins; None if all differ."""
    together = np.sort(keys)
    if not np.any(together[1:] == together[:-1]):
        return None
    order = np.argsort(keys)
    together = keys[order]
    return order, np.flatnonzero(np.concatenate(([True], together[1:] != together[:-1])))


def _offsets(column: npt.NDArray[Any]) -> tuple[Amounts, int]:
    """Return whole numbers from 0 on, equal where those of the column are, and how many there can be."""
    least, most = int(column.min()), int(column.max())
    if most - least > _MOST_KEYS:
        return _dense(column)
    return (column - column.dtype.type(least)).astype(np.int64), most - least + 1


def _dense(column: npt.NDArray[Any]) -> tuple[Amounts, int]:
    values, numbers = np.unique(column, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64), len(values)


def stable_order(numbers: npt.NDArray[Any]) -> Amounts:
    """Return an order of whole numbers, at least one, in which equal ones stay as they are."""
    offsets, width = _offsets(numbers)
    # Numbers that are this small are sorted by counting, which takes a tenth of the time.
    return np.argsort(offsets.astype(np.uint16) if width <= 1 << 16 else offsets, kind="stable")


def sum_by(numbers: Amounts, amounts: Amounts) -> tuple[Amounts, Amounts]:
    """Return each different number once, in order, and the sums [numbers, columns] of its rows of amounts."""
    found, rows = np.unique(numbers, return_inverse=True)
    return found, _sum_at(rows, len(found), amounts)


def _sum_at(places: Amounts, count: int, amounts: Amounts) -> Amounts:
    """Return rows [count, columns], each the sum of those rows of amounts that have its place, ended at `MOST_SUM`."""
    exact = _is_exact(amounts)
    sums = np.zeros((count, amounts.shape[1]), np.int64 if exact else object)
    for column in range(amounts.shape[1]):  # one by one takes a fifth of the time of all at once
        np.add.at(sums[:, column], places, amounts[:, column])
    return sums if exact else _ended(sums)


def reduce_groups(ticks: Amounts, labels: Numbers, sums: Amounts) -> Groups:
    """Return groups in which rows of the same tick and labels are one; sums end at `MOST_SUM`."""
    keys, span = _keys([ticks, *labels.T])
    if span <= len(ticks):
        return _scattered(keys, span, ticks, labels, sums)
    equal = _equal_rows(keys)
    if equal is None:
        return Groups(ticks, labels, sums)
    order, begins = equal
    kept = order[begins]
    return Groups(ticks[kept], labels.take(kept, axis=0), _add_up(sums.take(order, axis=0), begins))


def _add_up(sums: Amounts, begins: Amounts) -> Amounts:
    """Return the sums of the rows [rows, columns] from each begin to the next; they end at `MOST_SUM`."""
    if _is_exact(sums):
        return np.add.reduceat(sums, begins, axis=0)
    return _ended(np.add.reduceat(sums.astype(object), begins, axis=0))


def _is_exact(amounts: Amounts) -> bool:
    return int(amounts.max(initial=0)) * len(amounts) <= MOST_SUM


def _ended(sums: npt.NDArray[Any]) -> Amounts:
    """Return sums of any size, those that are too large ended at `MOST_SUM`."""
    ended: Amounts = np.minimum(sums, MOST_SUM).astype(np.int64)
    return ended


def _scattered(keys: Amounts, span: int, ticks: Amounts, labels: Numbers, sums: Amounts) -> Groups:
    """Return groups reduced without sorting, where there can be few of them."""
    rows = np.full(span, -1)
    rows[keys] = np.arange(len(keys))  # the last of each
    used = np.flatnonzero(rows >= 0)
    kept = rows[used]
    return Groups(ticks[kept], labels.take(kept, axis=0), _sum_at(keys, span, sums).take(used, axis=0))


def reduce_viewers(viewers: Viewers, ticks: Amounts) -> Viewers:
    """Return viewers in which rows of the same tick, address and profile are one; `ticks` has each row's."""
    keys, _ = _keys([ticks, viewers.addresses, viewers.profiles])
    equal = _equal_rows(keys)
    if equal is None:
        return viewers
    order, begins = equal
    kept = order[begins]
    return Viewers(
        viewers.labels,
        viewers.addresses[kept],
        viewers.profiles[kept],
        np.minimum.reduceat(viewers.first[order], begins),
        np.maximum.reduceat(viewers.last[order], begins),
    )


def join(parts: Sequence[Counts]) -> Counts:
    """Return what several files count together; a single part is returned as it is, and none is changed."""
    parts = [part for part in parts if part.groups]
    if len(parts) < 2:
        return parts[0] if parts else Counts()
    texts: dict[str, int] = {}
    own = [np.array([texts.setdefault(text, len(texts)) for text in part.texts], np.uint32) for part in parts]
    groups = [
        reduce_groups(
            np.concatenate([group.ticks for group in of_cube]),
            np.concatenate([numbers[group.labels] for numbers, group in zip(own, of_cube, strict=True)]),
            np.concatenate([group.sums for group in of_cube]),
        )
        for of_cube in zip(*(part.groups for part in parts), strict=True)
    ]
    addresses = np.concatenate([np.frombuffer(part.addresses, _WORDS).reshape(-1, 2) for part in parts])
    apart, numbers_of_addresses = number_rows([*addresses.T])
    counts = [len(part.addresses) // ADDRESS_BYTES for part in parts]
    audiences = []
    for of_parts in zip(*(part.audiences for part in parts), strict=True):
        labels = np.concatenate([numbers[viewers.labels] for numbers, viewers in zip(own, of_parts, strict=True)])
        different, numbers_of_profiles = number_rows([*labels.T])
        viewers = Viewers(
            labels[different],
            _renumbered(numbers_of_addresses, [viewers.addresses for viewers in of_parts], counts),
            _renumbered(
                numbers_of_profiles, [viewers.profiles for viewers in of_parts], [len(one.labels) for one in of_parts]
            ),
            np.concatenate([viewers.first for viewers in of_parts]),
            np.concatenate([viewers.last for viewers in of_parts]),
        )
        ticks = np.concatenate([part.ticks_of(viewers) for part, viewers in zip(parts, of_parts, strict=True)])
        audiences.append(reduce_viewers(viewers, ticks))
    return Counts(list(texts), groups, addresses[apart].tobytes(), audiences)


def _renumbered(numbers: Amounts, parts: Sequence[Numbers], entries: Sequence[int]) -> Numbers:
    """Return numbers within each part as numbers of the whole; the parts have so many entries each."""
    begins = np.cumsum([0, *entries]).tolist()
    found = [numbers[begin : begin + count][own] for begin, count, own in zip(begins[:-1], entries, parts, strict=True)]
    return np.concatenate(found).astype(np.uint32)
