"""Numbers for metrics: series are kept by them, and a state says which number it means which metric by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cdn77_exporter.core.measures import PART, STREAM, SUM, Measure, Measures

_SEPARATOR = "\x1f"
_LABEL = re.compile(r"(\w*)([:=]?)(.*)", re.DOTALL)  # and a text, if it is constant, or external

#: Labels that every series of ours has, with their values: EXTERNAL_LABELS.
External = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its labels, whose values a series key has, and with those of all series: what a number stands for.

    `constants`: those of the labels that are always the same, with their texts, which tell metrics of one name apart.
    `measure`: its row of the table; None for a *former* metric, which no longer is sent under these labels.
    """

    name: str
    labels: tuple[str, ...]
    constants: tuple[tuple[str, str], ...]
    external: External
    measure: Measure | None = None

    @property
    def is_by_stream(self) -> bool:
        """True if the first label is the stream's name."""
        return self.labels[:1] == (STREAM.name,)

    @property
    def identity(self) -> tuple[str, str]:
        """Its name and labels as a state has them, such as `pop,le:0.5,env=prod`."""
        texts = dict(self.constants)
        own = [f"{name}:{texts[name]}" if name in texts else name for name in self.labels]
        return self.name, ",".join([*own, *(f"{name}={text}" for name, text in self.external)])

    @property
    def native(self) -> bool:
        """True if its series are parts of native histograms; the last of the labels tells which."""
        return PART in self.labels

    def whole(self, values: Sequence[str]) -> tuple[str, ...]:
        """Return what the parts of one histogram have in common; `values` of the labels, that of the part last."""
        external = (f"{name}={text}" for name, text in self.external)
        return (self.name, ",".join((*self.labels, *external)), *values[:-1])

    @classmethod
    def of_state(cls, name: str, labels: str) -> Metric:
        """Return the metric of an identity; no row of the table is looked for."""
        parts = [found.groups() for found in map(_LABEL.fullmatch, labels.split(",")) if found] if labels else []
        own = tuple(label for label, kind, _ in parts if kind != "=")
        constants = tuple((label, text) for label, kind, text in parts if kind == ":")
        return cls(name, own, constants, tuple((label, text) for label, kind, text in parts if kind == "="))


class Catalogue:
    """The metrics of a table of measures by number; a metric is its name with its labels.

    `external`: the labels of every series. A restored catalogue also has former metrics.
    """

    def __init__(self, measures: Measures, external: External = ()) -> None:
        self.external = external
        self._rows = measures.rows
        self._codes: dict[tuple[str, str], int] = {}
        self.metrics: list[Metric | None] = []  # by number
        self._of_row: dict[int, int] = {}  # by the row's identity: to hash one takes long
        self._new: list[tuple[int, str, str]] = []
        #: Rows of the table that the restored state knew under no labels, and under other labels.
        self.begun: list[Measure] = []
        self.relabelled: list[Measure] = []
        for measure in measures.rows:
            self._number(measure)
        self._know_rows()

    def _know_rows(self) -> None:
        self._of_row = {id(row): self._codes[self._metric(row).identity] for row in self._rows}

    def _metric(self, measure: Measure) -> Metric:
        # All buckets of a native histogram are of one metric, whichever row counts them: which one does may change.
        constants = tuple((name, text) for name, text in measure.constants if name != PART or text == SUM)
        return Metric(measure.name, measure.labels, constants, self.external, measure)

    def _number(self, measure: Measure) -> None:
        code = len(self.metrics)
        metric = self._metric(measure)
        if metric.identity in self._codes:
            return
        self._codes[metric.identity] = code
        self.metrics.append(metric)
        self._new.append((code, *metric.identity))

    def code(self, measure: Measure) -> int:
        """Return the metric's number."""
        found = self._of_row.get(id(measure))
        return self._codes[self._metric(measure).identity] if found is None else found

    def metric(self, code: int) -> Metric | None:
        """Return the metric of a number."""
        return self.metrics[code] if code < len(self.metrics) else None

    def measure(self, code: int) -> Measure | None:
        """Return the row of the table that a number stands for; None when the table no longer has it."""
        metric = self.metric(code)
        return metric.measure if metric else None

    def successor(self, metric: Metric) -> Measure | None:
        """Return the row that a former metric goes on in, under other labels; None when it is no longer sent."""
        same = (row for row in self._rows if (row.name, row.constants) == (metric.name, metric.constants))
        return next(same, None)

    def take_new(self) -> list[tuple[int, str, str]]:
        """Return number, name and labels, as `Metric.identity` has them, of metrics that no state has yet."""
        new, self._new = self._new, []
        return new

    def restore(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Take up the numbers of a state; metrics that it does not know are given the next."""
        wanted = {self._metric(row).identity: row for row in self._rows}
        self._codes, self.metrics, self._new = {}, [], []
        names = set()
        for code, name, labels in sorted(rows):
            names.add(name)
            while len(self.metrics) <= code:
                self.metrics.append(None)
            measure = wanted.get((name, labels))
            self.metrics[code] = self._metric(measure) if measure else Metric.of_state(name, labels)
            if measure:
                self._codes[name, labels] = code
        new = [row for row in self._rows if self._metric(row).identity not in self._codes]
        self.begun = [row for row in new if row.name not in names]
        self.relabelled = [row for row in new if row.name in names]
        for row in new:
            self._number(row)
        self._know_rows()


def series_key(code: int, values: Iterable[str]) -> str:
    """Return a series' key: its metric's number and its label values, as one text."""
    return _SEPARATOR.join((str(code), *values))


def split_key(key: str) -> tuple[int, list[str]]:
    """Return what `series_key` was given."""
    code, *values = key.split(_SEPARATOR)
    return int(code), values


def first_value(key: str) -> str:
    """Return the first label's value of a series that has labels."""
    return key.split(_SEPARATOR, 2)[1]
