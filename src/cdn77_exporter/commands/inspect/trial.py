"""Tries measures of one's own on log files: what each would count, and what its limit would do."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

import numpy as np

from cdn77_exporter.commands.inspect.distinct import Distinct, mixed
from cdn77_exporter.core.columns import Counts, number_rows
from cdn77_exporter.core.masking import MASK, Masker
from cdn77_exporter.core.measures import STREAM, Family, Kind, Label, Measure, Measures, Source, audience_of
from cdn77_exporter.core.scan.addresses import hash_addresses

#: Label sets that are told apart, and viewers in all; of more, what is found is a least number.
_MOST_SETS = 200_000
_MOST_VIEWERS = 3_000_000
_PERSONAL = {"clientIP", "clientRequestXForwardedFor"}
_KEY = os.urandom(32)  # which addresses would have one hash is nobody's to know
_MASK = Masker()

LabelSet = tuple[str, ...]


@dataclass(slots=True)
class Tried:
    """One family of measures: what it counts by label set, in the metric's units.

    `events`: how busy each label set is, which decides who keeps a name. `more`: what is beyond the label sets that are
    told apart.
    """

    family: Family
    labels: tuple[Label, ...]
    limit: int
    rows: int  # of the table, so many series has each label set
    values: defaultdict[LabelSet, float] = field(default_factory=lambda: defaultdict(float))
    events: defaultdict[LabelSet, int] = field(default_factory=lambda: defaultdict(int))
    more: float = 0.0

    def add(self, labels: LabelSet, value: float, events: int) -> None:
        """Count for a label set."""
        if labels in self.events or len(self.events) < _MOST_SETS:
            self.values[labels] += value
            self.events[labels] += events
        else:
            self.more += value

    @property
    def complete(self) -> bool:
        """True if all label sets have been told apart."""
        return len(self.events) < _MOST_SETS

    @property
    def total(self) -> float:
        """The sum over all label sets."""
        return sum(self.values.values()) + self.more

    @property
    def own(self) -> list[LabelSet]:
        """The label sets that keep their names, the busiest first."""
        bounded = self.limit and any(label != STREAM for label in self.labels)
        most = self.limit if bounded else len(self.events)
        return nlargest(most, self.events, key=lambda labels: (self.events[labels], labels))

    @property
    def other(self) -> float:
        """The share of the total that is `other`."""
        left = self.total - sum(self.values[labels] for labels in self.own)
        return max(0.0, left / self.total) if self.total else 0.0

    @property
    def series(self) -> int:
        """The number of series that there would be."""
        own = self.own
        places = [place for place, label in enumerate(self.labels) if label == STREAM]
        others = {tuple(labels[place] for place in places) for labels in self.events.keys() - set(own)}
        return (len(own) + len(others)) * self.rows

    def top(self, count: int) -> list[tuple[dict[str, str], float]]:
        """Return the largest label sets with their values; personal ones and addresses are masked."""
        largest = nlargest(count, self.values.items(), key=lambda entry: (entry[1], entry[0]))
        return [
            ({label.name: _shown(label, text) for label, text in zip(self.labels, labels, strict=True)}, value)
            for labels, value in largest
        ]


def _shown(label: Label, text: str) -> str:
    return MASK if label.field in _PERSONAL and label.source is Source.FIELD else _MASK(text)


class Trial:
    """Counts what rows of a table of measures would count; `measures`: the whole table, which files are decoded by."""

    def __init__(self, measures: Measures, rows: Iterable[Measure]) -> None:
        self._measures = measures
        self._rows: list[tuple[Measure, Tried]] = []
        self._seen = Distinct(_MOST_VIEWERS)
        self.tried: list[Tried] = []
        families: dict[Family, list[Measure]] = {}
        for row in rows:
            families.setdefault(row.family, []).append(row)
        for family, members in families.items():
            # Of a histogram the number of observations is told.
            chosen = members[-1]
            labels = tuple(label for label in chosen.told if label.source is not Source.WINDOW)
            self.tried.append(Tried(family, labels, chosen.limit, len(members)))
            self._rows.append((chosen, self.tried[-1]))

    @property
    def viewers_complete(self) -> bool:
        """True if all viewers have been told apart."""
        return not self._seen.is_full

    def add(self, counts: Counts) -> None:
        """Add a file."""
        for number, (row, tried) in enumerate(self._rows):
            if row.kind is Kind.GAUGE:
                self._add_viewers(number, row, tried, counts)
            else:
                self._add_events(row, tried, counts)

    def _add_events(self, row: Measure, tried: Tried, counts: Counts) -> None:
        number, cube = self._measures.cube_of(row)
        places = [cube.labels.index(label) for label in tried.labels]
        (column,) = cube.places(row)
        groups = counts.groups[number].by(*places)
        for labels, sums in zip(groups.labels.tolist(), groups.sums.tolist(), strict=True):
            texts = tuple(counts.texts[text] for text in labels)
            if sums[column]:
                tried.add(texts, sums[column] / row.per, sums[0])

    def _add_viewers(self, number: int, row: Measure, tried: Tried, counts: Counts) -> None:
        audience = audience_of(row)
        viewers = counts.audiences[self._measures.audiences.index(audience)]
        once, _ = number_rows([viewers.addresses, viewers.profiles])
        profiles = viewers.profiles[once]
        keys = hash_addresses(counts.addresses, _KEY)[viewers.addresses[once]] + np.uint64(number)
        hashes = np.array([hash(text) for text in counts.texts], np.int64).view(np.uint64)
        places = [audience.index(label) for label in tried.labels]
        for place in places:
            keys = mixed(keys, hashes[viewers.labels[profiles, place]])
        new, _ = self._seen.add(keys, keys)
        for texts, viewer_count in _counted(viewers.labels[profiles[new]][:, places].tolist()).items():
            tried.add(tuple(counts.texts[text] for text in texts), viewer_count, viewer_count)


def _counted(rows: Sequence[Sequence[int]]) -> dict[tuple[int, ...], int]:
    found: dict[tuple[int, ...], int] = defaultdict(int)
    for row in rows:
        found[tuple(row)] += 1
    return found
