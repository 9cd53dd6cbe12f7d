"""The scan of one file: how it is begun, and what it has counted as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cdn77_exporter.core import scan
from cdn77_exporter.core.columns import (
    Counts,
    Groups,
    Numbers,
    Viewers,
    number_rows,
    reduce_groups,
    reduce_viewers,
)
from cdn77_exporter.core.label_texts import LabelTexts
from cdn77_exporter.core.layout import Layout
from cdn77_exporter.core.measures import Cube, Label
from cdn77_exporter.core.path_pattern import PathPattern

if TYPE_CHECKING:
    from cdn77_exporter.core.scan._scan import Scanner

    _Rows: TypeAlias = tuple[bytes, bytes, bytes]

# Python's hash of a text is keyed with a secret of the process.
_SECRETS = (hash("one half"), hash("the other half"))
_LONGEST = 2**62  # beyond all times and lengths, and within the scan's numbers
_MORE_ROWS = 65_536  # that come before they are counted again
#: The rejects that the scan counts itself, in its order.
SCANNED_REJECTS = ("no_stream", "stream_not_allowed", "too_old")


@dataclass(frozen=True, slots=True)
class Scanned:
    """The result of a scan.

    `rejects`: lines by reason. `ignored`: malformed values of events, by field. `oldest_ms`, `newest_ms`: first and
    last of the events whose viewers are not known (Unix milliseconds), 0 without any. `agents`: events by User-Agent,
    if it is read.
    """

    counts: Counts
    rejects: dict[str, int]
    ignored: dict[str, int]
    oldest_ms: int
    newest_ms: int
    agents: dict[str, int]


def begin_scan(
    layout: Layout,
    stream: PathPattern,
    track: PathPattern | None,
    *,
    tick_seconds: int,
    line_bytes: int,
    oldest_ms: int,
    latest_ms: int,
    rows: int,
    admitted_only: bool,
    examples: int,
    ipv6_prefix: int = 128,
) -> Scanner | None:
    """Begin the scan of one file; None where there is none.

    `rows`: how many groups and viewers there may be before it is ended. `admitted_only`: take the lines of streams for
    which `admit` has said whether they count, and no others. `examples`: lines of each reason in `SCANNED_REJECTS` that
    are left. `ipv6_prefix`: how many bits of an IPv6 address tell viewers apart.
    """
    if not scan.COMPILED:
        return None
    return scan._scan.Scanner(
        **layout.for_scan,
        stream=stream.for_scan,
        track=track.for_scan if track and layout.has_tracks else (),
        tick_seconds=tick_seconds,
        line_bytes=min(line_bytes, _LONGEST),
        oldest_ms=max(min(oldest_ms, _LONGEST), 0),
        latest_ms=max(min(latest_ms, _LONGEST), 0),
        rows=min(rows, _LONGEST) + _MORE_ROWS,
        admitted_only=admitted_only,
        examples=examples,
        ipv6_prefix=ipv6_prefix,
        secrets=_SECRETS,
    )


def end_scan(scanner: Scanner, layout: Layout, values: Mapping[Label, LabelTexts]) -> Scanned:
    """End a scan, and return what it has counted; `values` are those of each label."""
    events = np.frombuffer(scanner.events(), np.uint64).tolist()
    raw, cubes, addresses, audiences, rejects, ignored, span = scanner.close()
    relabel = _Relabel(raw, values)
    groups = [relabel.groups(cube, rows) for cube, rows in zip(layout.cubes, cubes, strict=True)]
    viewers = [relabel.viewers(labels, *rows) for labels, rows in zip(layout.audiences, audiences, strict=True)]
    found = Counts(list(relabel.texts), groups, addresses, viewers)
    for place, (own, joined) in enumerate(zip(found.audiences, relabel.joined, strict=True)):
        if joined:
            found.audiences[place] = reduce_viewers(own, found.ticks_of(own))
    names = (field.name for field in layout.fields)
    return Scanned(
        found,
        {reason: count for reason, count in zip(SCANNED_REJECTS, rejects, strict=True) if count},
        {name: count for name, count in zip(names, ignored, strict=True) if count},
        *span,
        {text: count for text, count in zip(raw, events, strict=True) if count},
    )


class _Relabel:
    """Numbers of the scan's texts as numbers of label values, each of which stands in `texts` once."""

    def __init__(self, raw: tuple[str, ...], values: Mapping[Label, LabelTexts]) -> None:
        self._raw = raw
        self._values = values
        self.texts: dict[str, int] = {}
        self.joined: list[bool] = []  # of each audience: whether different profiles became one

    def __call__(self, numbers: Numbers, labels: tuple[Label, ...]) -> tuple[Numbers, bool]:
        """Return the rows with their new numbers, and whether different texts became one label value."""
        found, joined = np.empty(numbers.shape, np.uint32), False
        new = np.zeros(len(self._raw), np.uint32)
        for place, label in enumerate(labels):
            column, values = numbers[:, place], self._values[label]
            used = np.flatnonzero(np.bincount(column))
            own = [self.texts.setdefault(values[self._raw[number]], len(self.texts)) for number in used.tolist()]
            joined |= len(set(own)) < len(own)
            new[used] = own
            found[:, place] = new[column]
        return found, joined

    def groups(self, cube: Cube, rows: _Rows) -> Groups:
        """Return a cube's groups."""
        ticks = np.frombuffer(rows[0], np.int64)
        labels, joined = self(np.frombuffer(rows[1], np.uint32).reshape(len(ticks), len(cube.labels)), cube.labels)
        sums = np.frombuffer(rows[2], np.int64).reshape(len(ticks), len(cube.columns))
        return reduce_groups(ticks, labels, sums) if joined else Groups(ticks, labels, sums)

    def viewers(self, labels: tuple[Label, ...], profiles: bytes, rows: tuple[bytes, bytes, bytes, bytes]) -> Viewers:
        """Return an audience's viewers."""
        of_profiles, _ = self(np.frombuffer(profiles, np.uint32).reshape(-1, len(labels)), labels)
        firsts, numbers = number_rows([*of_profiles.T])
        own = np.frombuffer(rows[1], np.uint32)
        self.joined.append(len(firsts) < len(of_profiles))
        if self.joined[-1]:
            of_profiles, own = of_profiles[firsts], numbers.astype(np.uint32)[own]
        return Viewers(
            of_profiles,
            np.frombuffer(rows[0], np.uint32),
            own,
            np.frombuffer(rows[2], np.int64),
            np.frombuffer(rows[3], np.int64),
        )
