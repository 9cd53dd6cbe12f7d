"""Reads a file of measures: TOML, checked with every fault at once, and described by a JSON Schema.

Each of its tables becomes rows of the table of measures, which decide all else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cdn77_exporter.core.fields import FIELDS, Reads
from cdn77_exporter.core.measures import (
    CACHE,
    CDN,
    COUNTRY,
    DEVICE,
    IP_VERSION,
    POP,
    STATUS,
    STREAM,
    TRACK,
    WINDOW,
    Events,
    Histograms,
    Label,
    Measure,
    Measures,
    Present,
    Source,
    Sum,
    Where,
    built_in,
    histogram,
)
from cdn77_exporter.core.returns import return_rows
from cdn77_exporter.settings.toml_file import Place, TomlFile, read_toml, shown
from cdn77_exporter.settings.toml_kinds import (
    Choice,
    Flag,
    Key,
    Kind,
    ListOf,
    MapOf,
    Number,
    Table,
    Tables,
    Text,
    Whole,
    schema_text,
)

#: Label sets that a measure may have on their own when the file says nothing else.
DEFAULT_LIMIT = 1000
#: Bounds of a histogram's buckets when the file names none, in the field's own units.
DEFAULT_BUCKETS = (*tuple(digit * 10**power for power in range(5) for digit in (1, 2, 5)), 100000)

_MOST_MEASURES = 50  # of each kind
_MOST_AUDIENCES = 12
_MOST_COLUMNS = 250  # of measures with the same labels
_MOST_CONDITIONS = 60
_MOST_COUNT = 2**53

#: What a label is made of when that is not a field as it stands in a line; such a label has its own name.
_DERIVED = {"stream": STREAM, "device": DEVICE, "track": TRACK, "ip_version": IP_VERSION}
_SOURCES = (*_DERIVED, *FIELDS)
#: What stands for a missing field, where the built-in metrics have something of their own.
_KNOWN = {label.field: label for label in (CDN, CACHE, POP, STATUS, COUNTRY)}
_TAKEN = {"le", "quantile", WINDOW.name}

_LABEL = Text(64, r"(?!__)[a-z_][a-z0-9_]*", "of small letters, digits and `_`, no digit first, not two `_` first")
_WORDS = "of small letters, digits and `_`"
_NOT_OURS = "(?!cdn77_exporter_|_)"
_COUNTER_NAME = Text(100, rf"{_NOT_OURS}[a-z][a-z0-9_]*_total", f"{_WORDS} that ends in `_total`")
_OTHER_NAME = Text(
    100,
    rf"(?![\s\S]*_(?:total|bucket|sum|count)$){_NOT_OURS}[a-z][a-z0-9_]*",
    f"{_WORDS} that does not end in `_total`, `_bucket`, `_sum` or `_count`",
)
_HELP = Text(300, r"[^\r\n]+", "of one line")

#: Words that a metric's name should not have, as `promtool check metrics` says, with those that it should.
_UNITS = {
    **dict.fromkeys(
        ("ms", "us", "ns", "s", "sec", "milliseconds", "microseconds", "minutes", "hours", "days"), "seconds"
    ),
    **dict.fromkeys(("b", "kb", "mb", "gb", "kilobytes", "megabytes", "gigabytes", "kibibytes", "mebibytes"), "bytes"),
}
_KINDS = {"counter", "gauge", "histogram", "summary"}


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a line that can be added up."""

    flags: bool

    @property
    def _options(self) -> tuple[str, ...]:
        reads = (Reads.NUMBER, Reads.FLAG) if self.flags else (Reads.NUMBER,)
        return tuple(name for name, how in FIELDS.items() if how in reads)

    @property
    def expected(self) -> str:
        """In words."""
        return "a field of a line that is a number, such as `responseBytes`"

    def read(self, value: object, place: Place) -> str | None:
        """Return the field's name."""
        if isinstance(value, str) and value in FIELDS and value not in self._options:
            place.fault(f"`{place.name}` is `{value}`, which does not add up; it must be {self.expected}.")
            return None
        return Choice(self._options).read(value, place)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return Choice(self._options).schema()


_CONDITIONS: dict[Reads, Kind] = {Reads.TEXT: Text(128), Reads.NUMBER: Whole(0, _MOST_COUNT), Reads.FLAG: Flag()}


def _asks_for_something(where: Mapping[str, Any], place: Place) -> None:
    del where
    if not place.value:
        place.fault("`where` is an empty table; leave it out, or name fields with what they must hold.")


_WHERE = Table(
    "Fields with what they must hold, all of them; other events are not counted.",
    tuple(Key(name, _CONDITIONS[how], f"What `{name}` must hold.") for name, how in FIELDS.items()),
    (_asks_for_something,),
    {"minProperties": 1},
)


def _good_name(measure: Mapping[str, Any], place: Place) -> None:
    """Refuse names that `promtool check metrics` would complain of."""
    name = measure["name"]
    parts = name.split("_") if name else []
    at = place.at("name")
    for part in parts:
        if part in _UNITS:
            better = "_".join(_UNITS.get(one, one) for one in parts)
            at.fault(f"`{shown(name)}` has the unit `{part}`; metrics are in base units: `{better}`, with `per`.")
        if part in _KINDS:
            at.fault(f"`{shown(name)}` has the word `{part}`; its type is no part of a metric's name.")


def _good_labels(measure: Mapping[str, Any], place: Place) -> None:
    """Refuse labels that are taken, and other names for what every metric calls the same."""
    del measure  # which has no labels if one of them is wrong
    labels = place.value.get("labels")
    for name, source in labels.items() if isinstance(labels, dict) else ():
        at = place.at("labels").at(name)
        if name in _TAKEN:
            at.fault(f"`{name}` is a label that Prometheus or the exporter gives itself; choose another name.")
        own = _DERIVED.get(source) if isinstance(source, str) else None
        if own and name != own.name:
            at.fault(f"A label that is made of `{source}` is called `{own.name}` in all metrics; call it so.")
        if not own and name in {label.name for label in _DERIVED.values()}:
            at.fault(f"`{name}` is something else in other metrics; choose another name.")


def _good_buckets(measure: Mapping[str, Any], place: Place) -> None:
    buckets, per = measure["buckets"], measure["per"] or 1
    if not buckets:
        return
    at = place.at("buckets")
    if any(after <= before for before, after in itertools.pairwise(buckets)):
        at.fault("`buckets` are not in order; write each once, the smallest first.")
    if buckets[0] * per < 1:
        at.fault(f"`buckets` begin with {buckets[0]:g}, below which the field has no value; begin with {1 / per:g}.")


def _keys(name: Text, about: str, *more: Key) -> tuple[Key, ...]:
    return (
        Key("name", name, f"The name of the metric, {about}.", required=True),
        Key("help", _HELP, "A sentence that says what it is.", required=True),
        *more,
    )


_LABELS = Key(
    "labels",
    MapOf(_LABEL, Choice(_SOURCES), 20),
    "The labels, each with what it is made of: `stream`, `device`, `track`, `ip_version`, or a field of a line.",
)
_LIMIT = Key(
    "limit",
    Whole(1, 1_000_000),
    "How many label sets it may have; of more, the busiest keep their names, and the labels of the others, but for the "
    "stream's, are `other`.",
    DEFAULT_LIMIT,
)
_PER = Key("per", Whole(1, 10**12), "How many of the field's units are one of the metric's, such as 1000.", 1)
_WHERE_KEY = Key("where", _WHERE, _WHERE.help)
_COUNTER = Table(
    "A counter of events, or of what a field of theirs adds up to.",
    _keys(
        _COUNTER_NAME,
        "which ends in `_total`",
        Key("value", _Field(flags=True), "The field that is added up; without it events are counted."),
        _PER,
        _LABELS,
        _WHERE_KEY,
        _LIMIT,
    ),
    (_good_name, _good_labels),
)
_HISTOGRAM = Table(
    "A histogram of the values above 0 that a field has.",
    _keys(
        _OTHER_NAME,
        "without `_bucket`, `_sum` and `_count`",
        Key("value", _Field(flags=False), "The field whose values are observed.", required=True),
        _PER,
        Key(
            "buckets",
            ListOf(Number(), 60),
            "The upper bounds of the buckets, in the metric's units; without it 1, 2, 5, 10, 20, 50 and so on up to "
            "100,000 of the field's.",
            (),
        ),
        _LABELS,
        _WHERE_KEY,
        _LIMIT,
    ),
    (_good_name, _good_labels, _good_buckets),
)
_VIEWERS = Table(
    "A gauge of the distinct viewers in the session window (and in those of `ACTIVE_WINDOWS`), by labels.",
    _keys(
        _OTHER_NAME,
        "without `_total`",
        Key("labels", _LABELS.kind, _LABELS.help, required=True),
        _LIMIT,
    ),
    (_good_name, _good_labels),
)


def _names_of(kind: str, name: str) -> set[str]:
    return {name, *(f"{name}_{part}" for part in ("bucket", "sum", "count"))} if kind == "histogram" else {name}


def _built_in_names() -> set[str]:
    kinds = (Histograms.OFF, Histograms.CLASSIC)
    rows = (row for how in kinds for row in (*built_in(how).rows, *return_rows(86_400, 15, how)))
    return {name for row in rows for name in (row.name, row.family.name)}


def _different_names(found: Mapping[str, Any], place: Place) -> None:
    """Refuse names that some other metric has, or a part of it."""
    taken = _built_in_names()
    for kind in ("counter", "histogram", "viewers"):
        for number, measure in enumerate(found[kind] or ()):
            name = measure["name"]
            if name is None:
                continue
            own = _names_of(kind, name)
            if own & taken:
                place.at(kind).at(number).at("name").fault(
                    f"`{shown(name)}` is the name of another metric, or of a part of it; choose another one."
                )
            taken |= own


FILE = Table(
    "Metrics of one's own, which are counted and sent like the built-in ones.",
    (
        Key("counter", Tables(_COUNTER, _MOST_MEASURES), _COUNTER.help),
        Key("histogram", Tables(_HISTOGRAM, _MOST_MEASURES), _HISTOGRAM.help),
        Key("viewers", Tables(_VIEWERS, _MOST_AUDIENCES), _VIEWERS.help),
    ),
    (_different_names,),
)


def schema() -> str:
    """Return the JSON Schema of a file of measures, as text."""
    return schema_text(FILE, "Measures of cdn77-exporter")


# What the tables of a file become


def _label(name: str, source: str) -> Label:
    if source in _DERIVED:
        return _DERIVED[source]
    known = _KNOWN.get(source)
    missing = known.missing if known else "0" if FIELDS[source] is Reads.NUMBER else "unknown"
    return Label(name, Source.FIELD, source, missing)


def _by(measure: Mapping[str, Any]) -> tuple[Label, ...]:
    """Return the labels, the stream's first."""
    labels = [_label(name, source) for name, source in (measure["labels"] or {}).items()]
    return tuple(sorted(labels, key=lambda label: label != STREAM))


def _where(measure: Mapping[str, Any]) -> Where:
    return tuple((name, value) for name, value in (measure["where"] or {}).items() if value is not None)


def _counter(measure: Mapping[str, Any]) -> Measure:
    field, where = measure["value"], _where(measure)
    value = Sum(field, measure["per"], where) if field else Events(where)
    return Measure(measure["name"], value, _by(measure), measure["help"])


def _text_of(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _histogram(measure: Mapping[str, Any]) -> tuple[Measure, ...]:
    per = measure["per"]
    buckets = measure["buckets"] or tuple(bound / per for bound in DEFAULT_BUCKETS)
    return histogram(
        measure["name"],
        measure["value"],
        per,
        _by(measure),
        measure["help"],
        [_text_of(bound) for bound in buckets],
        where=_where(measure),
    )


def _viewers(measure: Mapping[str, Any]) -> Measure:
    return Measure(measure["name"], Present(), (*_by(measure), WINDOW), measure["help"])


@dataclass(frozen=True, slots=True)
class MeasuresFile:
    """A file of measures and the rows that it adds to the table; its text is its path."""

    path: Path
    rows: tuple[Measure, ...]

    def __str__(self) -> str:
        return str(self.path)


def _rows(found: Mapping[str, Any]) -> Iterator[Measure]:
    for measure in found["counter"] or ():
        yield replace(_counter(measure), limit=measure["limit"])
    for measure in found["histogram"] or ():
        yield from (replace(row, limit=measure["limit"]) for row in _histogram(measure))
    for measure in found["viewers"] or ():
        yield replace(_viewers(measure), limit=measure["limit"])


def _check_bounds(rows: Iterable[Measure], place: Place) -> None:
    """Refuse what decoding could not hold, beside all built-in metrics."""
    cubes = Measures((*built_in(Histograms.CLASSIC).rows, *rows)).cubes
    conditions = {one for cube in cubes for column in cube.columns for one in column.where}
    if len(conditions) > _MOST_CONDITIONS:
        place.fault(f"There are {len(conditions)} different conditions; there can be {_MOST_CONDITIONS} at most.")
    most = max(len(cube.columns) for cube in cubes)
    if most > _MOST_COLUMNS:
        place.fault(
            f"Measures of the same labels count {most} different numbers, each bucket of a histogram among them; "
            f"there can be {_MOST_COLUMNS} at most."
        )


def read_measures(file: TomlFile) -> tuple[Measure, ...]:
    """Return the rows of a file; raises FileFaults with all that is wrong."""
    found = FILE.read(file.content, file.root)
    file.raise_faults()
    assert found is not None  # noqa: S101 - the content is a table
    rows = tuple(_rows(found))
    _check_bounds(rows, file.root)
    file.raise_faults()
    return rows


def measures_file(text: str) -> MeasuresFile:
    """Return the measures of the file at a path; raises FileFaults with all that is wrong."""
    path = Path(text)
    return MeasuresFile(path, read_measures(read_toml(path)))
