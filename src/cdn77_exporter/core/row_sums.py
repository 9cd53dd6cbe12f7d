"""Decoded rows of one file, added up in dicts, and then given as columns; the way of lines that no scan has taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cdn77_exporter.core.columns import MOST_SUM, Amounts, Counts, Groups, Numbers, Viewers
from cdn77_exporter.core.label_texts import MEMO_LENGTH, LabelTexts
from cdn77_exporter.core.layout import Layout, is_about_viewer
from cdn77_exporter.core.measures import Add, Column, Cube, Label, Source
from cdn77_exporter.core.raw_labels import RawLabels, Raws, fields, has_address

_MOST_KNOWN = 50_000  # groups and profiles that are known by their raw fields

Seen = dict[tuple[bytes, int], list[int]]  # first and last time, by address and number of the profile


class CubeReader:
    """The parts of a row that a cube uses: what its labels are made of, and which fields are added to which columns.

    `raws`: reads the former, but for the stream; `required`: those of them without which a row does not count.
    `amounts`: reads the fields of plain columns. `adds`: for each of these, its place, its field's place in the
    amounts, and whether only 1 is added. `others`: the places of the other columns but the first, and what reads how
    much is added there.
    """

    def __init__(self, cube: Cube, values: Mapping[Label, LabelTexts], raw_labels: RawLabels) -> None:
        self.raws = raw_labels.of(cube.labels)
        self._labels = cube.labels
        self._values = values
        plain = [column for column in cube.columns if column.field and not column.where and not column.most]
        names = [*dict.fromkeys(column.field for column in plain)]
        self.amounts = fields(names)
        self.adds = tuple(
            (cube.columns.index(column), names.index(column.field), column.add is Add.ONE_IF_POSITIVE)
            for column in plain
        )
        self.others = tuple(
            (place, _amount_of(column)) for place, column in enumerate(cube.columns[1:], 1) if column not in plain
        )
        self.columns = len(cube.columns)
        self.required = _required(cube.labels)

    def labels(self, stream: str, raws: Raws) -> tuple[str, ...]:
        """Return the label values of what the fields hold."""
        return label_values(self._labels, self._values, stream, raws)


def _required(labels: Sequence[Label]) -> tuple[int, ...]:
    """Return which of what labels are made of, the stream left out, must be there."""
    told = [label for label in labels if label.source is not Source.STREAM]
    return tuple(place for place, label in enumerate(told) if label.required)


def _amount_of(column: Column) -> Callable[[Any], int]:
    """Return what reads how much a row adds to a column."""
    value = fields([column.field] if column.field else [])
    plain = [(field, wanted) for field, wanted in column.where if not is_about_viewer(field, wanted)]
    held, wanted = fields([field for field, _ in plain]), tuple(wanted for _, wanted in plain)
    viewer = [wanted for field, wanted in column.where if is_about_viewer(field, wanted)]

    def amount_of(row: Any) -> int:
        if held(row) != wanted or any(has_address(row.clientIP) != one for one in viewer):
            return 0
        if column.add is Add.ONE:
            return 1
        amount: int = value(row)[0] or 0
        if column.add is Add.VALUE:
            return amount
        return int(amount > 0 and (not column.most or amount <= column.most))

    return amount_of


def label_values(
    labels: Sequence[Label], values: Mapping[Label, LabelTexts], stream: str, raws: Raws
) -> tuple[str, ...]:
    """Return the values of labels: the stream, and those of the others' fields."""
    rest = iter(raws)
    return tuple(stream if label.source is Source.STREAM else values[label][next(rest)] for label in labels)


class AudienceReader:
    """The profiles of an audience by number, and by what a row's labels are made of, which `raws` reads."""

    def __init__(self, labels: tuple[Label, ...], values: Mapping[Label, LabelTexts], raw_labels: RawLabels) -> None:
        self.raws = raw_labels.of(labels)
        self.required = _required(labels)
        self.labels = labels
        self._values = values
        self.known: dict[tuple[str, Raws], int] = {}
        self.profiles: dict[tuple[str, ...], int] = {}

    def profile(self, stream: str, raws: Raws, *, remember: bool) -> int:
        """Return the number of a profile that is not known by its raw fields."""
        profile = label_values(self.labels, self._values, stream, raws)
        number = self.profiles.setdefault(profile, len(self.profiles))
        if remember:
            self.known[stream, raws] = number
        return number


class Part:
    """The counts of one tick of a file so far.

    `cubes`, `audiences`: what the loop over rows needs of each: its reader's ways, the sums by stream and raw fields
    that are known to belong to a group, and who was seen.
    """

    def __init__(self, readers: Sequence[CubeReader], audiences: Sequence[AudienceReader]) -> None:
        self.groups: list[dict[tuple[str, ...], list[int]]] = [{} for _ in readers]
        self.known: list[dict[tuple[str, Raws], list[int]]] = [{} for _ in readers]
        self.seen: list[Seen] = [{} for _ in audiences]
        self.cubes = [
            (place, reader.raws, reader.required, reader.amounts, reader.adds, reader.others, known.get)
            for place, (reader, known) in enumerate(zip(readers, self.known, strict=True))
        ]
        self.audiences = [
            (place, reader.raws, reader.required, reader.known.get, seen)
            for place, (reader, seen) in enumerate(zip(audiences, self.seen, strict=True))
        ]

    def sizes(self) -> list[int]:
        """Return the number of groups of each cube, and of viewers of each audience."""
        return [*map(len, self.groups), *map(len, self.seen)]


class RowSums:
    """The counts of the rows of one file, by tick."""

    def __init__(self, layout: Layout, values: Mapping[Label, LabelTexts], raw_labels: RawLabels) -> None:
        self._readers = [CubeReader(cube, values, raw_labels) for cube in layout.cubes]
        self._audiences = [AudienceReader(labels, values, raw_labels) for labels in layout.audiences]
        self._layout = layout
        self._parts: dict[int, Part] = {}
        self._known = 0

    def __len__(self) -> int:
        """Return the number of groups or viewers of that kind of which there are the most."""
        sizes = [part.sizes() for part in self._parts.values()]
        return max(map(sum, zip(*sizes, strict=True)), default=0)

    def part(self, tick: int) -> Part:
        """Return what a tick counts."""
        part = self._parts.get(tick)
        if part is None:
            part = self._parts[tick] = Part(self._readers, self._audiences)
        return part

    def profile(self, audience: int, stream: str, raws: Raws) -> int:
        """Return the number of a profile that is not known by its raw fields."""
        return self._audiences[audience].profile(stream, raws, remember=self._may_remember(raws))

    def sums(self, part: Part, cube: int, stream: str, raws: Raws) -> list[int]:
        """Return the sums of a group that is not known by its raw fields."""
        reader = self._readers[cube]
        labels = reader.labels(stream, raws)
        sums = part.groups[cube].get(labels)
        if sums is None:
            sums = part.groups[cube][labels] = [0] * reader.columns
        if self._may_remember(raws):
            part.known[cube][stream, raws] = sums
        return sums

    def _may_remember(self, raws: Raws) -> bool:
        self._known += 1
        return self._known < _MOST_KNOWN and all(len(raw) <= MEMO_LENGTH for raw in raws if isinstance(raw, str))

    def counts(self) -> Counts:
        """Return all of it."""
        texts: dict[str, int] = {}
        groups = [self._groups(place, cube, texts) for place, cube in enumerate(self._layout.cubes)]
        addresses: dict[bytes, int] = {}
        audiences = [self._viewers(place, texts, addresses) for place in range(len(self._audiences))]
        return Counts(list(texts), groups, b"".join(addresses), audiences)

    def _viewers(self, place: int, texts: dict[str, int], addresses: dict[bytes, int]) -> Viewers:
        reader = self._audiences[place]
        parts = [part.seen[place] for part in self._parts.values()]
        own = [addresses.setdefault(address, len(addresses)) for seen in parts for address, _ in seen]
        profiles = [profile for seen in parts for _, profile in seen]
        spans = np.array([span for seen in parts for span in seen.values()], np.int64).reshape(-1, 2)
        labels = _numbers(list(reader.profiles), len(reader.labels), texts)
        return Viewers(labels, np.array(own, np.uint32), np.array(profiles, np.uint32), spans[:, 0], spans[:, 1])

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
