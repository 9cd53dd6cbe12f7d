"""Numbers for metrics: series are kept by them, and a state says which number it means which metric by."""

from __future__ import annotations

from collections.abc import Iterable

from cdn77_exporter.core.measures import Measure, Measures

_SEPARATOR = "\x1f"


class Catalogue:
    """The metrics of a table of measures by number; a metric is its name with its labels."""

    def __init__(self, measures: Measures) -> None:
        self._codes: dict[tuple[str, tuple[str, ...]], int] = {}
        self._measures: list[Measure | None] = []
        self._rows = measures.rows
        self._new: list[tuple[int, str, str]] = []
        for measure in measures.rows:
            self._number(measure)

    def _number(self, measure: Measure) -> None:
        code = len(self._measures)
        self._codes[measure.name, measure.labels] = code
        self._measures.append(measure)
        self._new.append((code, measure.name, ",".join(measure.labels)))

    def code(self, measure: Measure) -> int:
        """Return the metric's number."""
        return self._codes[measure.name, measure.labels]

    def measure(self, code: int) -> Measure | None:
        """Return the metric of a number; None when the table no longer has it."""
        return self._measures[code] if code < len(self._measures) else None

    @property
    def measures(self) -> list[Measure | None]:
        """Every metric by number."""
        return self._measures

    def take_new(self) -> list[tuple[int, str, str]]:
        """Return number, name and labels, parted by commas, of metrics that no state has yet."""
        new, self._new = self._new, []
        return new

    def restore(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Take up the numbers of a state; metrics that it does not know are given the next."""
        wanted = {(row.name, row.labels): row for row in self._rows}
        self._codes, self._measures, self._new = {}, [], []
        for code, name, labels in sorted(rows):
            identity = (name, tuple(labels.split(",")))
            while len(self._measures) <= code:
                self._measures.append(None)
            self._measures[code] = wanted.get(identity)
            if identity in wanted:
                self._codes[identity] = code
        for row in self._rows:
            if (row.name, row.labels) not in self._codes:
                self._number(row)


def series_key(code: int, values: Iterable[str]) -> str:
    """Return a series' key: its metric's number and its label values, as one text."""
    return f"{code}{_SEPARATOR}{_SEPARATOR.join(values)}"


def split_key(key: str) -> tuple[int, list[str]]:
    """Return what `series_key` was given."""
    code, *values = key.split(_SEPARATOR)
    return int(code), values


def stream_of(key: str) -> str:
    """Return the first label's value of a series, which is its stream."""
    return key.split(_SEPARATOR, 2)[1]
