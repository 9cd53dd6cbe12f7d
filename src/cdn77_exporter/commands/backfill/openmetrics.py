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
from cdn77_exporter.core.measures import Measure
from cdn77_exporter.core.series import STALE_BITS, Frame, SeriesTable

_SERIES_A_FILE = 64
_BUFFER_BYTES = 32 * 1024 * 1024
_ROW = np.dtype([("series", "<u4"), ("at", "<i8"), ("value", "<f8")])


@dataclass(slots=True)
class _Family:
    """The series of one metric, in the order in which they were met: their label text and their number."""

    series: list[tuple[str, int]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)


class Spool:
    """An encoder that keeps samples and writes them as text. `folder`: where it may keep what does not fit memory."""

    def __init__(self, folder: Path, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._folder = folder
        self._most = buffer_bytes
        self._families: dict[str, tuple[Measure, _Family]] = {}
        self._known: dict[str, int] = {}  # series by their keys: their numbers
        self._files: list[int] = []  # of each number
        self._numbers: npt.NDArray[np.int64] = np.zeros(0, np.int64)  # of the series that has a slot now
        self._born: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)  # which one that is
        self._buffers: list[bytearray] = []  # of each file: rows not yet written
        self._buffered = 0
        self.samples = 0
        self.oldest_ms = 0
        self.newest_ms = 0

    @property
    def series(self) -> int:
        """Series met so far."""
        return len(self._files)

    # In

    def encode(self, series: SeriesTable, frames: Iterable[Frame]) -> list[tuple[bytes, int]]:
        """Keep the samples of frames; there is no request to send. Stale markers have no text and are left out."""
        self._take_in(series)
        for frame in frames:
            real = frame.values.view(np.uint64) != STALE_BITS
            numbers, values = self._numbers[frame.slots[real]], frame.values[real]
            for at_ms in frame.times_ms:
                self._keep(numbers, at_ms, values)
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
        for slot in np.flatnonzero((self._born[:end] != series.born[:end]) & series.there[:end]).tolist():
            key = series.key(slot)
            number = self._known.get(key)
            self._numbers[slot] = self._meet(series, key) if number is None else number
            self._born[slot] = series.born[slot]

    def _meet(self, series: SeriesTable, key: str) -> int:
        code, values = split_key(key)
        measure = series.catalogue.measure(code)
        if measure is None:
            raise KeyError(f"no metric has the number {code}")
        _, family = self._families.setdefault(measure.name, (measure, _Family()))
        if len(family.series) % _SERIES_A_FILE == 0:
            family.files.append(len(self._buffers))
            self._buffers.append(bytearray())
        number = self._known[key] = len(self._files)
        labels = [*zip(measure.labels, values, strict=True), *series.catalogue.external]
        family.series.append((_label_text(dict(labels)), number))
        self._files.append(family.files[-1])
        return number

    def _keep(self, numbers: npt.NDArray[np.int64], at_ms: int, values: npt.NDArray[np.float64]) -> None:
        if not len(numbers):
            return
        files = np.array(self._files)[numbers]
        order = np.lexsort((numbers, files))
        rows = np.empty(len(numbers), _ROW)
        rows["series"], rows["at"], rows["value"] = numbers[order], at_ms, values[order]
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
        for measure, family in self._families.values():
            out.write(_head(measure))
            for place, number in enumerate(family.files):
                path = self._path(number)
                rows = np.fromfile(path, _ROW) if path.exists() else np.zeros(0, _ROW)
                path.unlink(missing_ok=True)
                some = family.series[place * _SERIES_A_FILE : (place + 1) * _SERIES_A_FILE]
                for text in _lines(measure.name, some, rows):
                    out.write(text)
        out.write(b"# EOF\n")


def _head(measure: Measure) -> bytes:
    """Return a family's head; that of a counter is named without the suffix that its samples have.

    The parts of a summary are families of their own, of no type: together they would have to alternate.
    """
    name, kind = measure.name, "unknown" if measure.part_of else str(measure.kind)
    if name.endswith("_total"):
        name = name.removesuffix("_total")
    return f"# HELP {name} {_escaped(measure.help)}\n# TYPE {name} {kind}\n".encode()


def _lines(name: str, series: list[tuple[str, int]], rows: npt.NDArray[np.void]) -> Iterator[bytes]:
    rows = rows[np.lexsort((rows["at"], rows["series"]))]
    begins = np.searchsorted(rows["series"], [number for _, number in series])
    ends = np.searchsorted(rows["series"], [number for _, number in series], side="right")
    for (labels, _), begin, end in zip(series, begins.tolist(), ends.tolist(), strict=True):
        head = f"{name}{labels} "
        values, times = rows["value"][begin:end].tolist(), rows["at"][begin:end].tolist()
        yield "".join(
            [f"{head}{_number(value)} {_time(at)}\n" for value, at in zip(values, times, strict=True)]
        ).encode()


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _time(at_ms: int) -> str:
    return str(at_ms // 1000) if at_ms % 1000 == 0 else f"{at_ms // 1000}.{at_ms % 1000:03d}"


def _label_text(pairs: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in pairs.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
