"""Measures both versions of remote write against one another: encoding ticks of the same series, and bytes sent."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.large import CATALOGUE, START, TICK, keys, touch
from bench.measuring import Row
from cdn77_exporter.core.encode.blocks import BlockEncoder, Encoded
from cdn77_exporter.core.encode.parts import in_version
from cdn77_exporter.core.encode.remote_write_1 import RemoteWrite1
from cdn77_exporter.core.encode.remote_write_2 import RemoteWrite2
from cdn77_exporter.core.series import Frame, SeriesTable

#: CPU of a tick by 2.0 against that by 1.0, and the bytes of its requests.
BAR, BAR_BYTES = 1.2, 1.0
_SERIES, _TICKS = 50_000, 20


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results; nothing is left out."""
    del folder
    count, ticks = (1000, 2) if smoke else (_SERIES, _TICKS)
    table, source = SeriesTable(CATALOGUE, TICK), random.Random(1)  # noqa: S311
    encoders: dict[int, BlockEncoder] = {1: RemoteWrite1(CATALOGUE), 2: RemoteWrite2(CATALOGUE)}
    for key in keys(count):
        table.add(table.slot(key), 1)
    begin = {version: spent for version, spent, _ in _encode(encoders, table, table.emit(START, pad_from=START - 300))}
    ratios, size = [], {}
    for number in range(1, ticks + 1):
        touch(table, source)
        seconds = {}
        for version, spent, bodies in _encode(encoders, table, table.emit(START + TICK * number)):
            seconds[version] = spent
            size[version] = sum(len(body) for body, _ in bodies)
            body, samples = bodies[0]
        ratios.append(seconds[2] / seconds[1])
    found: Row = {
        "series": count,
        "ticks": ticks,
        "tick_ratio": statistics.median(ratios),
        "begin_ratio": begin[2] / begin[1],
        "bytes_a_sample": {str(version): of / count for version, of in size.items()},
        "bytes_ratio": size[2] / size[1],
        "convert_ms": 1000 * _cpu_seconds(lambda: in_version(body, 1)),
        "convert_samples": samples,
        "bar": BAR,
        "bar_bytes": BAR_BYTES,
    }
    return found, []


def _encode(
    encoders: dict[int, BlockEncoder], table: SeriesTable, frames: Sequence[Frame]
) -> list[tuple[int, float, list[Encoded]]]:
    """Return version, CPU seconds and requests of the same frames by each encoder."""
    found = []
    for version, encoder in encoders.items():
        bodies: list[Encoded] = []
        spent = _cpu_seconds(lambda encoder=encoder, bodies=bodies: bodies.extend(encoder.encode(table, frames)))  # type: ignore[misc]
        found.append((version, spent, bodies))
    return found


def _cpu_seconds(do: Callable[[], object]) -> float:
    began = time.process_time()
    do()
    return time.process_time() - began
