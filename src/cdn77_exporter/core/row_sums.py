"""Decoded rows of one file, added up in dicts, and then given as columns; the way of lines that no scan has taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from cdn77_exporter.core.columns import MOST_SUM, Amounts, Counts, Groups, Numbers, Viewers
from cdn77_exporter.core.label_texts import MEMO_LENGTH, LabelTexts, Raw
from cdn77_exporter.core.layout import Layout
from cdn77_exporter.core.measures import PROFILE, Add, Cube, Label, Source

_MOST_KNOWN = 50_000  # groups and profiles that are known by their raw fields

_Raws = tuple[Raw, ...]


class CubeReader:
    """The parts of a row that a cube uses: its fields, and which of them are added to which columns.

    `raws`: what the fields of its labels hold, but for the stream. `amounts`: the fields of its columns.
    `adds`: for each column but the first, its place, its field's place in the amounts, and whether only 1 is added.
    """

    def __init__(self, cube: Cube, values: Mapping[Label, LabelTexts]) -> None:
        self.raws = _fields(cube.labels)
        self._labels = cube.labels
        self._values = values
        fields = [*dict.fromkeys(column.field for column in cube.columns if column.field)]
        self.amounts = _getter(fields)
        self.adds = tuple(
            (place, fields.index(column.field), column.add is Add.ONE_IF_POSITIVE)
            for place, column in enumerate(cube.columns)
            if column.field
        )
        self.columns = len(cube.columns)

    def labels(self, stream: str, raws: _Raws) -> tuple[str, ...]:
        """Return the label values of what the fields hold."""
        return label_values(self._labels, self._values, stream, raws)


def label_values(
    labels: Sequence[Label], values: Mapping[Label, LabelTexts], stream: str, raws: _Raws
) -> tuple[str, ...]:
    """Return the values of labels: the stream, and those of the others' fields."""
    rest = iter(raws)
    return tuple(stream if label.source is Source.STREAM else values[label][next(rest)] for label in labels)


def _fields(labels: Sequence[Label]) -> Callable[[Any], _Raws]:
    """Return what gives the fields of labels, but for the stream."""
    return _getter([label.field for label in labels if label.source is not Source.STREAM])


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    if names:
        one = attrgetter(names[0])
        return lambda row: (one(row),)
    return lambda _: ()


#: What a row's fields are for a profile, but for the stream.
profile_raws = _fields(PROFILE)


class Part:
    """The counts of one tick of a file so far.

    `cubes`: what the loop over rows needs of each: its reader's ways, and the sums by stream and raw fields that are
    known to belong to a group. `viewers`: first and last time by address and number of the profile.
    """

    def __init__(self, readers: Sequence[CubeReader]) -> None:
        self.groups: list[dict[tuple[str, ...], list[int]]] = [{} for _ in readers]
        self.known: list[dict[tuple[str, _Raws], list[int]]] = [{} for _ in readers]
        self.viewers: dict[tuple[bytes, int], list[int]] = {}
        self.cubes = [
            (place, reader.raws, reader.amounts, reader.adds, known.get)
            for place, (reader, known) in enumerate(zip(readers, self.known, strict=True))
        ]

    def __len__(self) -> int:
        return sum(map(len, self.groups)) + len(self.viewers)


class RowSums:
    """The counts of the rows of one file, by tick."""

    def __init__(self, layout: Layout, values: Mapping[Label, LabelTexts]) -> None:
        self._readers = [CubeReader(cube, values) for cube in layout.cubes]
        self._layout = layout
        self._values = values
        self._parts: dict[int, Part] = {}
        self._profiles: dict[tuple[str, ...], int] = {}
        self._known = 0
        self.profiles: dict[tuple[str, _Raws], int] = {}  # numbers, by stream and raw fields

    def __len__(self) -> int:
        """Return the number of groups and viewers."""
        return sum(map(len, self._parts.values()))

    def part(self, tick: int) -> Part:
        """Return what a tick counts."""
        part = self._parts.get(tick)
        if part is None:
            part = self._parts[tick] = Part(self._readers)
        return part

    def profile(self, stream: str, raws: _Raws) -> int:
        """Return the number of a profile that is not known by its raw fields."""
        profile = label_values(PROFILE, self._values, stream, raws)
        number = self._profiles.setdefault(profile, len(self._profiles))
        if self._may_remember(raws):
            self.profiles[stream, raws] = number
        return number

    def sums(self, part: Part, cube: int, stream: str, raws: _Raws) -> list[int]:
        """Return the sums of a group that is not known by its raw fields."""
        reader = self._readers[cube]
        labels = reader.labels(stream, raws)
        sums = part.groups[cube].get(labels)
        if sums is None:
            sums = part.groups[cube][labels] = [0] * reader.columns
        if self._may_remember(raws):
            part.known[cube][stream, raws] = sums
        return sums

    def _may_remember(self, raws: _Raws) -> bool:
        self._known += 1
        return self._known < _MOST_KNOWN and all(len(raw) <= MEMO_LENGTH for raw in raws if isinstance(raw, str))

    def counts(self) -> Counts:
        """Return all of it."""
        texts: dict[str, int] = {}
        groups = [self._groups(place, cube, texts) for place, cube in enumerate(self._layout.cubes)]
        addresses: dict[bytes, int] = {}
        own = [addresses.setdefault(key[0], len(addresses)) for part in self._parts.values() for key in part.viewers]
        profiles = [key[1] for part in self._parts.values() for key in part.viewers]
        times = [seen for part in self._parts.values() for seen in part.viewers.values()]
        spans = np.array(times, np.int64).reshape(-1, 2)
        viewers = Viewers(np.array(own, np.uint32), np.array(profiles, np.uint32), spans[:, 0], spans[:, 1])
        labels = _numbers(list(self._profiles), len(PROFILE), texts)
        return Counts(list(texts), groups, labels, b"".join(addresses), viewers)

    def _groups(self, place: int, cube: Cube, texts: dict[str, int]) -> Groups:
        parts = [(tick, part.groups[place]) for tick, part in self._parts.items()]
        labels = [group for _, groups in parts for group in groups]
        sums = [sums for _, groups in parts for sums in groups.values()]
        return Groups(
            np.array([tick for tick, groups in parts for _ in groups], np.int64),
            _numbers(labels, len(cube.labels), texts),
            _amounts(sums, len(cube.columns)),
        )


def _numbers(rows: Sequence[tuple[str, ...]], width: int, texts: dict[str, int]) -> Numbers:
    return np.array([texts.setdefault(text, len(texts)) for row in rows for text in row], np.uint32).reshape(
        len(rows), width
    )


def _amounts(rows: Sequence[Sequence[int]], width: int) -> Amounts:
    try:
        return np.array(rows, np.int64).reshape(len(rows), width)
    except OverflowError:
        return np.array([[min(amount, MOST_SUM) for amount in row] for row in rows], np.int64)
