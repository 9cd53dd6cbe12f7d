"""The fields that decoding reads for a table of measures, and where each stands in cubes and profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np

from cdn77_exporter.core.buckets import bounds, first_bucket
from cdn77_exporter.core.fields import FIELDS, Reads
from cdn77_exporter.core.measures import Cube, Label, Measures, Source

#: The fields without which a line is no event, whatever is measured.
NEEDED = ("timestamp", "clientRequestPath")
#: Where the viewer is; a line without it has none.
ADDRESS = "clientIP"
# Where labels stand that are no field's text, as the compiled scan is told; buckets have numbers from there on.
_DERIVED = {Source.STREAM: 255, Source.TRACK: 254, Source.IP_VERSION: 253}
_BUCKETS = 128

_OF_FIELDS = (Source.FIELD, Source.DEVICE)


class Adds(IntEnum):
    """The ways in which an event adds to a column, as the compiled scan is told."""

    ONE = 0
    VALUE = 1
    ONE_IF_POSITIVE = 2
    ONE_IF_AT_MOST = 3


_READS = {Reads.TEXT: 0, Reads.NUMBER: 1, Reads.FLAG: 2}

_CubeForScan = tuple[bytes, bytes, bytes, bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is read, how, and whether a label is made of it."""

    name: str
    reads: Reads
    is_label: bool


class Layout:
    """The fields that decoding reads for `measures`: needed ones first, then the address, then the others.

    Raises ValueError for what no line tells.
    """

    def __init__(self, measures: Measures) -> None:
        self.cubes = measures.cubes
        self.audiences = measures.audiences
        self.labels = tuple(
            dict.fromkeys(
                label for labels in (*self.audiences, *(cube.labels for cube in self.cubes)) for label in labels
            )
        )
        for label in self.labels:
            if label.source not in (*_OF_FIELDS, *_DERIVED, Source.BUCKET):
                raise ValueError(f"a line does not tell the {label.source.value} (label {label.name})")
        self._columns = [column for cube in self.cubes for column in cube.columns]
        for column in self._columns:
            if column.field and FIELDS[column.field] is Reads.TEXT:
                raise ValueError(f"{column.field} is text, which does not add up")
        self._conditions = [*dict.fromkeys(one for column in self._columns for one in column.where)]
        self._buckets = [label for label in self.labels if label.source is Source.BUCKET]
        of_labels = {label.field for label in self.labels if label.source in _OF_FIELDS}
        read = of_labels | {column.field for column in self._columns} | {field for field, _ in self._conditions}
        read |= {label.field for label in self._buckets}
        first = (*NEEDED, ADDRESS)
        names = (*first, *(name for name in FIELDS if name in read and name not in first))
        self.fields = tuple(Field(name, FIELDS[name], name in of_labels) for name in names)
        self._places = {name: place for place, name in enumerate(names)}
        #: The label of device types, if there is one: of its field it is counted which texts no rule knows.
        self.device = next((label for label in self.labels if label.source is Source.DEVICE), None)

    @property
    def has_tracks(self) -> bool:
        """True if a label is the track's name."""
        return any(label.source is Source.TRACK for label in self.labels)

    def _place(self, label: Label) -> int:
        if label.source is Source.BUCKET:
            return _BUCKETS + self._buckets.index(label)
        return _DERIVED.get(label.source) or self._places[label.field]

    def _places_of(self, labels: Sequence[Label]) -> bytes:
        return bytes(map(self._place, labels))

    def _required(self, labels: Sequence[Label]) -> bytes:
        return self._places_of([label for label in labels if label.required])

    @cached_property
    def for_scan(self) -> dict[str, tuple[Any, ...]]:
        """The fields and labels to be read, as the compiled scan takes them."""
        counted = self.device.field if self.device else ""
        return {
            "fields": tuple(
                (field.name, _READS[field.reads], field.is_label + (field.name == counted)) for field in self.fields
            ),
            "conditions": tuple((self._places[field], text_of(value).encode()) for field, value in self._conditions),
            "buckets": tuple(
                (self._places[label.field], np.array(bounds(label.per), np.uint64).tobytes(), first_bucket(label.per))
                for label in self._buckets
            ),
            "cubes": tuple(map(self._cube_for_scan, self.cubes)),
            "audiences": tuple((self._places_of(labels), self._required(labels)) for labels in self.audiences),
        }

    def _cube_for_scan(self, cube: Cube) -> _CubeForScan:
        needs = [sum(1 << self._conditions.index(one) for one in column.where) for column in cube.columns]
        return (
            self._places_of(cube.labels),
            self._required(cube.labels),
            bytes(Adds[column.add.name] for column in cube.columns),
            bytes(self._places[column.field] if column.field else 0 for column in cube.columns),
            np.array([column.most for column in cube.columns], np.uint64).tobytes(),
            np.array(needs, np.uint64).tobytes(),
        )


def is_about_viewer(field: str, wanted: str | int | bool) -> bool:
    """Return whether a condition asks for an address that is one, or none, and not for what the field holds."""
    return field == ADDRESS and isinstance(wanted, bool)


def text_of(value: str | int | bool) -> str:
    """Return a field's value as a line of JSON has it, a text without its quotes."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
