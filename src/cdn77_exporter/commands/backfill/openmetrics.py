"""Frames of any number as OpenMetrics text: each family together, each series together, times ascending.

Samples come tick by tick, over all series; the text wants them series by series. So they are kept in files of their
own on the way, each for a few series of one family, and every one of those files is sorted by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.catalogue import split_key
from cdn77_exporter.core.measures import Family, Kind, Measure
from cdn77_exporter.core.series import STALE_BITS, Frame, SeriesTable, Slots

_SERIES_A_FILE = 64
_BUFFER_BYTES = 32 * 1024 * 1024
#: `part`: which of the family's metrics it is of.
_ROW = np.dtype([("series", "<u4"), ("part", "u1"), ("at", "<i8"), ("value", "<f8")])


@dataclass(slots=True)
class _Family:
    """The names of a family's metrics, and its series by their label text: their numbers, in the order of meeting.

    All metrics of a family that have the same labels are one series here, as the text wants them together.
    """

    names: list[str] = field(default_factory=list)
    series: dict[str, int] = field(default_factory=dict)
    files: list[int] = field(default_factory=list)


class Spool:
    """An encoder that keeps samples and writes them as text. `folder`: where it may keep what does not fit memory."""

    def __init__(self, folder: Path, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._folder = folder
        self._most = buffer_bytes
        self._families: dict[Family, _Family] = {}
        self._known: dict[str, tuple[int, int]] = {}  # series by their keys: their numbers and parts
        self._files: list[int] = []  # of each number
        self._numbers: npt.NDArray[np.int64] = np.zeros(0, np.int64)  # of the series that has a slot now
        self._parts: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._born: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)  # which one that is
        self._buffers: list[bytearray] = []  # of each file: rows not yet written
        self._buffered = 0
        self.samples = 0
        self.oldest_ms = 0
        self.newest_ms = 0

    @property
    def series(self) -> int:
        """Series met so far."""
        return len(self._known)

    # In

    def encode(self, series: SeriesTable, frames: Iterable[Frame]) -> list[tuple[bytes, int]]:
        """Keep the samples of frames; there is no request to send. Stale markers have no text and are left out."""
        self._take_in(series)
        for frame in frames:
            real = frame.values.view(np.uint64) != STALE_BITS
            slots, values = frame.slots[real], frame.values[real]
            for at_ms in frame.times_ms:
                self._keep(slots, at_ms, values)
        if self._buffered > self._most:
            self._flush()
        return []

    def describe(self, measures: Iterable[Measure]) -> bytes:
        """Return nothing: the text itself says what its families are."""
        del measures
        return b""

    def _take_in(self, series: SeriesTable) -> None:
        """Take in the series that are new, or have the slot of one that is gone; one that has returned is the same."""
        end = series.end
        more = end - len(self._born)
        if more > 0:
            self._born = np.append(self._born, np.zeros(more, np.uint32))
            self._numbers = np.append(self._numbers, np.zeros(more, np.int64))
            self._parts = np.append(self._parts, np.zeros(more, np.uint8))
        for slot in np.flatnonzero((self._born[:end] != series.born[:end]) & series.there[:end]).tolist():
            key = series.key(slot)
            if key not in self._known:
                self._known[key] = self._meet(series, key)
            self._numbers[slot], self._parts[slot] = self._known[key]
            self._born[slot] = series.born[slot]

    def _meet(self, series: SeriesTable, key: str) -> tuple[int, int]:
        code, values = split_key(key)
        measure = series.catalogue.measure(code)
        if measure is None:
            raise KeyError(f"no metric has the number {code}")
        family = self._families.setdefault(measure.family, _Family())
        if measure.name not in family.names:
            family.names.append(measure.name)
        labels = _label_text(dict(zip(measure.labels, values, strict=True)))
        if labels not in family.series:
            if len(family.series) % _SERIES_A_FILE == 0:
                family.files.append(len(self._buffers))
                self._buffers.append(bytearray())
            family.series[labels] = len(self._files)
            self._files.append(family.files[-1])
        return family.series[labels], family.names.index(measure.name)

    def _keep(self, slots: Slots, at_ms: int, values: npt.NDArray[np.float64]) -> None:
        if not len(slots):
            return
        numbers = self._numbers[slots]
        files = np.array(self._files)[numbers]
        order = np.lexsort((numbers, files))
        rows = np.empty(len(numbers), _ROW)
        rows["series"], rows["part"] = numbers[order], self._parts[slots][order]
        rows["at"], rows["value"] = at_ms, values[order]
        files = files[order]
        starts = np.flatnonzero(np.append(True, files[1:] != files[:-1]))
        for file, part in zip(files[starts].tolist(), np.split(rows, starts[1:]), strict=True):
            self._buffers[file] += part.tobytes()
        self.samples += len(rows)
        self._buffered += rows.nbytes
        self.oldest_ms = min(self.oldest_ms or at_ms, at_ms)
        self.newest_ms = max(self.newest_ms, at_ms)

    def _flush(self) -> None:
        for number, rows in enumerate(self._buffers):
            if rows:
                with self._path(number).open("ab") as file:
                    file.write(rows)
                rows.clear()
        self._buffered = 0

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.rows"

    # Out

    def write(self, out: BinaryIO) -> None:
        """Write all samples as one OpenMetrics text; the spool is used up by it."""
        self._flush()
        for described, family in self._families.items():
            out.write(_head(described))
            series = list(family.series.items())
            for place, number in enumerate(family.files):
                path = self._path(number)
                rows = np.fromfile(path, _ROW) if path.exists() else np.zeros(0, _ROW)
                path.unlink(missing_ok=True)
                some = series[place * _SERIES_A_FILE : (place + 1) * _SERIES_A_FILE]
                for text in _lines(family.names, some, rows):
                    out.write(text)
        out.write(b"# EOF\n")


def _head(family: Family) -> bytes:
    """Return a family's head; that of a counter is named without the suffix that its samples have."""
    name = family.name.removesuffix("_total") if family.kind is Kind.COUNTER else family.name
    return f"# HELP {name} {_escaped(family.help)}\n# TYPE {name} {family.kind}\n".encode()


def _lines(names: list[str], series: list[tuple[str, int]], rows: npt.NDArray[np.void]) -> Iterator[bytes]:
    rows = rows[np.lexsort((rows["part"], rows["at"], rows["series"]))]
    begins = np.searchsorted(rows["series"], [number for _, number in series])
    ends = np.searchsorted(rows["series"], [number for _, number in series], side="right")
    for (labels, _), begin, end in zip(series, begins.tolist(), ends.tolist(), strict=True):
        heads = [f"{name}{labels} " for name in names]
        yield "".join(
            [
                f"{heads[part]}{_number(value)} {_time(at)}\n"
                for part, at, value in rows[["part", "at", "value"]][begin:end].tolist()
            ]
        ).encode()


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _time(at_ms: int) -> str:
    return str(at_ms // 1000) if at_ms % 1000 == 0 else f"{at_ms // 1000}.{at_ms % 1000:03d}"


def _label_text(pairs: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in pairs.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
