"""Ticks that are not settled: what they count so far, and what of it no commit holds yet.

What a commit holds names its labels and columns, so that another table of measures finds in it what it still has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.columns import sum_by
from cdn77_exporter.core.keys import Codes, Places, Vocabulary
from cdn77_exporter.core.measures import Cube, Measure
from cdn77_exporter.core.viewers.rows import PARTS, merge_runs_of_seen, split

#: Rows that a tick keeps as they come; of more, those of one viewer, or of one group, are merged.
ROWS_AS_THEY_COME = 200_000
_MOST_BEFORE_MERGING = 2.5  # times as many rows as there were when they were merged last

Amounts = npt.NDArray[np.int64]
Rows = npt.NDArray[np.void]


class HeldCube(msgspec.Struct, frozen=True):
    """Sums of one cube as a commit holds them: names, and arrays as their bytes."""

    labels: list[str]
    columns: list[str]
    texts: list[str]
    groups: bytes  # [rows, labels], numbers of texts
    sums: bytes  # [rows, columns]


class Held(msgspec.Struct, frozen=True):
    """The part of a commit that is of one open tick, or what came to it since the commit before."""

    cubes: list[HeldCube]
    viewers: bytes  # rows of `SEEN`


@dataclass(slots=True)
class Sums:
    """Sums of one cube by cell, in parts as they come."""

    cells: list[Places] = field(default_factory=list)
    sums: list[Amounts] = field(default_factory=list)
    _count: int = 0
    _merged: int = 0

    def add(self, cells: Places, sums: Amounts) -> None:
        """Keep rows; when they have become many, each cell once."""
        self.cells.append(cells)
        self.sums.append(sums)
        self._count += len(cells)
        if self._count > max(ROWS_AS_THEY_COME, self._merged * _MOST_BEFORE_MERGING):
            cells, sums = self.take()
            self.cells, self.sums = [cells], [sums]
            self._count = self._merged = len(cells)

    def take(self) -> tuple[Places, Amounts]:
        """Return all rows, each cell once, which are no longer here then."""
        cells, sums = self.cells, self.sums
        self.cells, self.sums, self._count = [], [], 0
        return sum_by(np.concatenate(cells), np.concatenate(sums))


class OpenTick:
    """The counts of one tick so far. `cubes`: those of the table of measures."""

    __slots__ = ("_count", "_merged", "_new_sums", "_new_viewers", "_viewers", "sums")

    def __init__(self, cubes: Sequence[Cube]) -> None:
        self.sums = [Sums() for _ in cubes]
        self._new_sums = [Sums() for _ in cubes]
        self._viewers: list[list[Rows]] = [[] for _ in range(PARTS)]
        self._new_viewers: list[Rows] = []
        self._count = self._merged = 0  # rows of viewers

    def add_sums(self, cube: int, cells: Places, sums: Amounts, *, committed: bool = False) -> None:
        """Count the events of some cells."""
        self.sums[cube].add(cells, sums)
        if not committed:
            self._new_sums[cube].add(cells, sums)

    def add_viewers(self, rows: Rows, tick_seconds: int, *, committed: bool = False) -> None:
        """Keep rows of `SEEN`. Hours of late files all fall into one tick, so that they are merged now and then."""
        if not committed:
            self._new_viewers.append(rows)
        for part, own in zip(self._viewers, split(rows), strict=True):
            if len(own):
                part.append(own)
        self._count += len(rows)
        if self._count > max(ROWS_AS_THEY_COME, self._merged * _MOST_BEFORE_MERGING):
            for part in self._viewers:
                part[:] = merge_runs_of_seen(part, tick_seconds * 1000) if part else []
            self._count = self._merged = sum(len(own) for part in self._viewers for own in part)

    def take_viewers(self) -> Iterator[Rows]:
        """Yield all rows of viewers, part by part, which are no longer here then."""
        self._new_viewers = []
        for part in filter(None, self._viewers):
            yield np.concatenate(part)
            part.clear()

    def cells(self, cube: int) -> Iterable[Places]:
        """Return the cells that are counted, in parts."""
        return self.sums[cube].cells

    def profiles(self) -> set[int]:
        """Return the profiles of the viewers that are counted."""
        return {int(number) for part in self._viewers for rows in part for number in np.unique(rows["profile"])}

    def take_new(self, cubes: Sequence[Cube], rows_of: Sequence[Codes], vocabulary: Vocabulary) -> bytes:
        """Return what no commit holds yet, encoded; `rows_of` [cubes]: the labels of every cell of a cube."""
        held = []
        for cube, new, rows in zip(cubes, self._new_sums, rows_of, strict=True):
            if new.cells:
                held.append(_held(cube, *new.take(), rows, vocabulary))
        viewers, self._new_viewers = self._new_viewers, []
        return msgspec.msgpack.encode(Held(held, b"".join(part.data for part in viewers)))


def _held(cube: Cube, cells: Places, sums: Amounts, rows: Codes, vocabulary: Vocabulary) -> HeldCube:
    codes, numbers = np.unique(rows[cells], return_inverse=True)
    return HeldCube(
        [label.name for label in cube.labels],
        [column.name for column in cube.columns],
        [vocabulary.texts[code] for code in codes.tolist()],
        numbers.astype(np.uint32).tobytes(),
        sums.tobytes(),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """The part of held sums that a cube has: texts, groups [rows, labels of the cube] as numbers of them, and sums."""

    texts: list[str]
    groups: Codes
    sums: Amounts


def sums_of(held: Sequence[HeldCube], cube: Cube, begun: Collection[Measure]) -> Iterator[Found]:
    """Yield what held cubes have of the columns of `cube`, each column of the one whose labels are most like its own.

    Sums over labels that the cube has no longer are added up later; a label that the held ones lack is missing, unless
    it is required: then they tell nothing of the cube. Columns of measures alone that have `begun` are left out, as
    are those that no held cube has: they begin at zero.
    """
    labels = [label.name for label in cube.labels]
    required = {label.name for label in cube.labels if label.required}
    held = [one for one in held if required <= set(one.labels)]
    wanted = {place for row in cube.measures if row not in begun for place in cube.places(row)}
    best: dict[int, list[int]] = {}
    for place in sorted(wanted):
        name = cube.columns[place].name
        having = [number for number, one in enumerate(held) if name in one.columns]
        if having:
            most = max(having, key=lambda number: len(set(labels) & set(held[number].labels)))
            best.setdefault(most, []).append(place)
    for number, places in best.items():
        yield _found(held[number], cube, places)


def _found(held: HeldCube, cube: Cube, places: Sequence[int]) -> Found:
    """Return what a held cube has of some columns of another."""
    groups = np.frombuffer(held.groups, np.uint32).reshape(-1, len(held.labels))
    given = np.frombuffer(held.sums, np.int64).reshape(-1, len(held.columns))
    texts = list(held.texts)
    own = np.zeros((len(groups), len(cube.labels)), np.uint32)
    for place, label in enumerate(cube.labels):
        if label.name in held.labels:
            own[:, place] = groups[:, held.labels.index(label.name)]
        else:
            own[:, place] = len(texts)
            texts.append(label.missing)
    sums = np.zeros((len(given), len(cube.columns)), np.int64)
    for place in places:
        sums[:, place] = given[:, held.columns.index(cube.columns[place].name)]
    return Found(texts, own, sums)


def decode_held(encoded: bytes) -> Held:
    """Return what a commit holds of an open tick; that of version 0.1.0, too."""
    if encoded[:1] == b"\x92":  # a pair: groups with four sums each, and viewers
        groups, viewers = msgspec.msgpack.decode(encoded, type=tuple[list[tuple[list[str], list[int]]], bytes])
        vocabulary = Vocabulary()
        codes = [vocabulary.codes(labels) for labels, _ in groups]
        cube = HeldCube(
            ["stream_name", "cdn_id", "cache_status", "pop", "response_status"],
            ["one", "value:responseBytes", "value:timeToFirstByteMs", "one if positive:timeToFirstByteMs"],
            vocabulary.texts,
            b"".join(row.tobytes() for row in codes),
            np.array([sums for _, sums in groups], np.int64).tobytes(),
        )
        return Held([cube] if groups else [], viewers)
    return msgspec.msgpack.decode(encoded, type=Held)
