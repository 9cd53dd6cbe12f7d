"""The fields that decoding reads for a table of measures, and where each stands in cubes and profiles."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from cdn77_exporter.core.fields import FIELDS, Reads
from cdn77_exporter.core.measures import PROFILE, Add, Cube, Label, Measures, Source

#: The fields without which a line is no event, whatever is measured.
NEEDED = ("timestamp", "clientRequestPath")
#: Where the viewer is; a line without it has none.
ADDRESS = "clientIP"
#: Stands among the fields of labels for the stream's name, which is found in the path.
STREAM_FIELD = 255

_LABELS_OF_LINES = (Source.FIELD, Source.STREAM, Source.DEVICE)


class Adds(IntEnum):
    """The ways in which an event adds to a column, as the compiled scan is told."""

    ONE = 0
    VALUE = 1
    ONE_IF_POSITIVE = 2


_ADDS = {Add.ONE: Adds.ONE, Add.VALUE: Adds.VALUE, Add.ONE_IF_POSITIVE: Adds.ONE_IF_POSITIVE}
_READS = {Reads.TEXT: 0, Reads.NUMBER: 1, Reads.FLAG: 2}


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
        if not self.cubes:
            raise ValueError("no measure counts events")
        labels = [*PROFILE, *(label for cube in self.cubes for label in cube.labels)]
        for label in labels:
            if label.source not in _LABELS_OF_LINES:
                raise ValueError(f"a line does not tell the {label.source.value} (label {label.name})")
        columns = [column for cube in self.cubes for column in cube.columns if column.field]
        for column in columns:
            if FIELDS[column.field] is Reads.TEXT:
                raise ValueError(f"{column.field} is text, which does not add up")
        of_labels = {label.field for label in labels if label.source is not Source.STREAM}
        of_columns = {column.field for column in columns}
        first = (*NEEDED, ADDRESS)
        names = (*first, *(name for name in FIELDS if name in of_labels | of_columns and name not in first))
        self.fields = tuple(Field(name, FIELDS[name], name in of_labels) for name in names)
        self._places = {name: place for place, name in enumerate(names)}
        #: The label of device types, if there is one: of its field it is counted which texts no rule knows.
        self.device = next((label for label in labels if label.source is Source.DEVICE), None)

    def place(self, label: Label) -> int:
        """Return where a label's field stands among the fields; `STREAM_FIELD` for the stream's name."""
        return STREAM_FIELD if label.source is Source.STREAM else self._places[label.field]

    @cached_property
    def for_scan(self) -> tuple[tuple[tuple[str, int, int], ...], tuple[tuple[bytes, bytes, bytes], ...], bytes]:
        """Fields, cubes and profile as the compiled scan takes them."""
        counted = self.device.field if self.device else ""
        fields = tuple(
            (field.name, _READS[field.reads], field.is_label + (field.name == counted)) for field in self.fields
        )
        return fields, tuple(map(self._cube_for_scan, self.cubes)), bytes(map(self.place, PROFILE))

    def _cube_for_scan(self, cube: Cube) -> tuple[bytes, bytes, bytes]:
        return (
            bytes(map(self.place, cube.labels)),
            bytes(_ADDS[column.add] for column in cube.columns),
            bytes(self._places[column.field] if column.field else 0 for column in cube.columns),
        )
