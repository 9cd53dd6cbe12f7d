"""Reads from rows what labels are made of: fields as they stand there, and what only follows from one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

from cdn77_exporter.core.buckets import bucket_of
from cdn77_exporter.core.label_texts import Raw
from cdn77_exporter.core.lines import ip_version
from cdn77_exporter.core.measures import Label, Source
from cdn77_exporter.core.path_pattern import DEFAULT_TRACK_PATTERN

Raws = tuple[Raw, ...]

_KNOWN = 50_000  # addresses, and numbers, whose versions and buckets are remembered


class RawLabels:
    """Makes the functions that read rows. `track_pattern`: its first group, or the whole match, is a path's track."""

    def __init__(self, track_pattern: str = DEFAULT_TRACK_PATTERN) -> None:
        self._pattern = re.compile(track_pattern)
        self._group = min(1, self._pattern.groups)
        self._version = lru_cache(_KNOWN)(ip_version)

    def of(self, labels: Sequence[Label]) -> Callable[[Any], Raws]:
        """Return what reads all of some labels but the stream's."""
        labels = [label for label in labels if label.source is not Source.STREAM]
        if all(label.source in (Source.FIELD, Source.DEVICE) for label in labels):
            return fields([label.field for label in labels])
        readers = tuple(map(self._reader, labels))
        return lambda row: tuple(reader(row) for reader in readers)

    def _reader(self, label: Label) -> Callable[[Any], Raw]:
        field = attrgetter(label.field)
        match label.source:
            case Source.TRACK:
                return lambda row: self._track(field(row))
            case Source.IP_VERSION:
                return lambda row: self._version(field(row))
            case Source.BUCKET:
                bucket = lru_cache(_KNOWN)(lambda number: bucket_of(number, label.per))
                return lambda row: bucket(field(row))
        return field

    def _track(self, path: str) -> str:
        found = self._pattern.search(path)
        return (found[self._group] or "") if found else ""


@lru_cache(_KNOWN)
def has_address(text: str | None) -> bool:
    """Return whether a line's client address is one."""
    return bool(ip_version(text))


def fields(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what reads some fields."""
    if len(names) > 1:
        return attrgetter(*names)
    if names:
        one = attrgetter(names[0])
        return lambda row: (one(row),)
    return lambda _: ()
