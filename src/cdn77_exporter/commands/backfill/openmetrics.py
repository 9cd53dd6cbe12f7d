"""Samples of any number as OpenMetrics text: each family together, each series together, times ascending.

Samples come tick by tick, over all series; the text wants them series by series. So they are kept in files of their
own on the way, each for a few series of one family, and every one of those files is sorted by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import cramjam
import numpy as np
import numpy.typing as npt

from cdn77_exporter.core import wire
from cdn77_exporter.core.catalogue import CATALOGUE, Kind, Metric

_SERIES_A_FILE = 64
_BUFFER_BYTES = 32 * 1024 * 1024
_ROW = np.dtype([("series", "<u4"), ("at", "<i8"), ("value", "<f8")])
_STALE = wire.STALE_BITS.to_bytes(8, "little")
_TIMESERIES = 0x0A
_LABEL = 0x0A
_CODES = {metric.name: code for code, metric in enumerate(CATALOGUE)}


@dataclass(slots=True)
class _Family:
    """The series of one metric, in the order in which they were met: their label text and their number."""

    series: list[tuple[str, int]] = field(default_factory=list)


class Spool:
    """Takes request bodies and writes their samples as text. `folder`: where it may keep what does not fit memory."""

    def __init__(self, folder: Path, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._folder = folder
        self._most = buffer_bytes
        self._numbers: dict[bytes, tuple[bytes, bytearray]] = {}  # label bytes -> number, buffer of its file
        self._families = [_Family() for _ in CATALOGUE]
        self._buffers: dict[tuple[int, int], bytearray] = {}  # family and place of the file -> rows not yet written
        self._stamps: dict[bytes, bytes] = {}
        self._buffered = 0
        self.samples = 0
        self.oldest_ms = 0
        self.newest_ms = 0

    @property
    def series(self) -> int:
        """Series met so far."""
        return len(self._numbers)

    # In

    def add(self, body: bytes) -> None:
        """Keep the samples of one compressed request. Stale markers have no text and are left out."""
        data = bytes(cramjam.snappy.decompress_raw(body))
        known = self._numbers.get
        samples, place, end = 0, 0, len(data)
        while place < end:
            tag = data[place]
            length, place = _varint(data, place + 1)
            entry = data[place : place + length]
            place += length
            if tag != _TIMESERIES:
                continue
            found = known(entry[: -wire.SAMPLE_BYTES])
            begin = len(entry) - wire.SAMPLE_BYTES
            if found is None:  # several samples, or a new series
                begin = _labels_end(entry)
                found = known(entry[:begin]) or self._meet(entry[:begin])
            number, rows = found
            for at in range(begin, len(entry), wire.SAMPLE_BYTES):
                value = entry[at + wire.VALUE_OFFSET : at + wire.VALUE_OFFSET + 8]
                if value != _STALE:
                    stamp = entry[at + wire.TIMESTAMP_OFFSET : at + wire.SAMPLE_BYTES]
                    rows += number + (self._stamps.get(stamp) or self._stamp(stamp)) + value
                    samples += 1
        self.samples += samples
        self._buffered += samples * _ROW.itemsize
        if self._buffered > self._most:
            self._flush()

    def _stamp(self, varint: bytes) -> bytes:
        """A timestamp as a row has it."""
        at_ms, _ = _varint(varint, 0)
        self.oldest_ms = min(self.oldest_ms or at_ms, at_ms)
        self.newest_ms = max(self.newest_ms, at_ms)
        if len(self._stamps) > 10_000:
            self._stamps.clear()
        found = self._stamps[varint] = at_ms.to_bytes(8, "little")
        return found

    def _meet(self, labels: bytes) -> tuple[bytes, bytearray]:
        pairs = dict(_pairs(labels))
        code = _CODES[pairs.pop("__name__")]
        family = self._families[code]
        number = len(self._numbers)
        rows = self._buffers.setdefault((code, len(family.series) // _SERIES_A_FILE), bytearray())
        family.series.append((_label_text(pairs), number))
        found = self._numbers[labels] = (number.to_bytes(4, "little"), rows)
        return found

    def _flush(self) -> None:
        for (code, place), rows in self._buffers.items():
            if rows:
                with self._path(code, place).open("ab") as file:
                    file.write(rows)
                rows.clear()
        self._buffered = 0

    def _path(self, code: int, place: int) -> Path:
        return self._folder / f"{code}-{place}.rows"

    # Out

    def write(self, out: BinaryIO) -> None:
        """All samples as one OpenMetrics text; the spool is used up by it."""
        self._flush()
        for code, (metric, family) in enumerate(zip(CATALOGUE, self._families, strict=True)):
            if family.series:
                out.write(_head(metric))
            for place in range(-(-len(family.series) // _SERIES_A_FILE)):
                path = self._path(code, place)
                rows = np.fromfile(path, _ROW)
                path.unlink()
                some = family.series[place * _SERIES_A_FILE : (place + 1) * _SERIES_A_FILE]
                for text in _lines(metric.name, some, rows):
                    out.write(text)
        out.write(b"# EOF\n")


def _head(metric: Metric) -> bytes:
    """A counter's family is named without the suffix that its samples have."""
    name = metric.name.removesuffix("_total") if metric.kind is Kind.COUNTER else metric.name
    return f"# HELP {name} {_escaped(metric.help)}\n# TYPE {name} {metric.kind}\n".encode()


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


# The wire format


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _labels_end(entry: bytes) -> int:
    place = 0
    while place < len(entry) and entry[place] == _LABEL:
        length, place = _varint(entry, place + 1)
        place += length
    return place


def _pairs(labels: bytes) -> Iterator[tuple[str, str]]:
    """Names and values of a series' Label fields."""
    place = 0
    while place < len(labels):
        _, place = _varint(labels, place + 1)
        texts = []
        for _ in range(2):
            length, place = _varint(labels, place + 1)
            texts.append(labels[place : place + length].decode())
            place += length
        yield texts[0], texts[1]
