"""Both sides of a reconciliation: what the files of a span count, and by how much the receiver's counters grew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdn77_exporter.commands.log_folder import decode_path
from cdn77_exporter.commands.reconcile.comparison import BYTES, REQUESTS, Increments
from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.errors import FileGone, Unreadable
from cdn77_exporter.core.files import MAX_AGE_MS, LogFile, LogNames, hour_prefixes
from cdn77_exporter.core.judging import judge
from cdn77_exporter.core.measures import REQUESTS as REQUESTS_METRIC
from cdn77_exporter.core.measures import STREAM, TRANSFER_BYTES, Measures
from cdn77_exporter.edge.receiver.query import Labels, QueryApi, TooMuch, selector
from cdn77_exporter.edge.s3 import S3Bucket

METRICS = {REQUESTS: REQUESTS_METRIC.name, BYTES: TRANSFER_BYTES.name}

_LATE_HOURS = 2  # after the span, in which its events may still have been uploaded
_STEP_SECONDS = 600  # of samples in one answer
_BEFORE = "1h"  # how far back a series' value before the span is looked for
#: A sample may be up to this much later than its tick (TIMESTAMP_OFFSET_MS).
_OFFSET_SECONDS = 0.999
#: All that is counted here, whatever else is sent.
MEASURES = Measures((REQUESTS_METRIC, TRANSFER_BYTES))
_CUBE_NUMBER, _CUBE = MEASURES.cube_of(TRANSFER_BYTES)
_STREAM = _CUBE.labels.index(STREAM)
(_BYTES,) = _CUBE.places(TRANSFER_BYTES)


@dataclass(slots=True)
class Recount:
    """The counts of the files."""

    increments: Increments
    files: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # key or path, and reason

    def add(self, counts: Counts) -> None:
        """Count a file."""
        of_streams = counts.groups[_CUBE_NUMBER].by(_STREAM, ticks=True)
        rows = zip(of_streams.ticks.tolist(), of_streams.labels[:, 0].tolist(), of_streams.sums.tolist(), strict=True)
        for tick, number, sums in rows:
            stream = counts.texts[number]
            self.increments.add(stream, REQUESTS, tick, sums[0])
            self.increments.add(stream, BYTES, tick, sums[_BYTES])


# Files


def count_paths(recount: Recount, paths: Sequence[Path], decoder: Decoder, advance: Callable[[], None]) -> None:
    """Count local files."""
    now_ms = int(time.time() * 1000)
    for path in paths:
        recount.files += 1
        try:
            recount.add(decode_path(decoder, path, now_ms)[1])
        except Unreadable as error:
            recount.unreadable.append((str(path), error.reason))
        except OSError as error:
            recount.unreadable.append((str(path), error.strerror or type(error).__name__))
        advance()


async def list_span(bucket: S3Bucket, names: LogNames, begin: int, end: int) -> list[LogFile]:
    """List the files that may hold events of the span (Unix seconds): those of its hours, and of the two after it."""
    until_ms = int(min(time.time(), end + _LATE_HOURS * 3600) * 1000)
    hours = max(0.0, until_ms / 3_600_000 - begin / 3600)
    return [
        file
        for folder in hour_prefixes(names.prefix, until_ms, hours)
        async for page in bucket.list_files(folder)
        for file in names.take(page)[0]
    ]


async def count_objects(
    recount: Recount,
    bucket: S3Bucket,
    files: Sequence[LogFile],
    decoder: Decoder,
    advance: Callable[[], None],
    width: int,
) -> None:
    """Count files of the bucket, `width` of them at a time in memory."""
    for first in range(0, len(files), width):
        some = files[first : first + width]
        bodies = await asyncio.gather(*(bucket.fetch(file) for file in some), return_exceptions=True)
        for file, body in zip(some, bodies, strict=True):
            advance()
            if isinstance(body, FileGone):
                continue
            recount.files += 1
            try:
                if isinstance(body, BaseException):
                    raise body
                latest_ms = file.modified_ms
                stats, counts = await asyncio.to_thread(
                    decoder.decode, body, latest_ms=latest_ms, oldest_ms=latest_ms - MAX_AGE_MS
                )
                judge(stats)
                recount.add(counts)
            except Unreadable as error:
                recount.unreadable.append((file.key, error.reason))


# The receiver


async def read_counters(
    api: QueryApi, increments: Increments, external: Labels, tick_seconds: int, advance: Callable[[], None]
) -> int:
    """Add up by how much the receiver's counters grew at each tick; the newest sample's time (Unix ms), 0 for none.

    `external`: the labels that tell this exporter's series from those of others.

    The stored samples themselves are read, one after the other: increase() would extrapolate.
    """
    newest_ms = 0
    for quantity, name in METRICS.items():
        metric = name + selector(external)
        last: dict[tuple[tuple[str, str], ...], float] = {}
        at = increments.begin + _OFFSET_SECONDS
        for series in await api.query(f"last_over_time({metric}[{_BEFORE}])", at):
            last[_key(series.labels)] = series.samples[0][1]
        async for labels, samples in _stored(api, metric, increments.begin, increments.end, advance):
            key = _key(labels)
            stream = labels.get("stream_name", "")
            # Before its first value a series has zeros, and one that comes back has its old value.
            before = last.get(key, samples[0][1])
            for at_ms, value in samples:
                grown = value - before if value >= before else value  # it began anew
                before = value
                if grown:
                    tick = at_ms // 1000 // tick_seconds * tick_seconds
                    increments.add(stream, quantity, tick, int(grown))
            last[key] = before
            newest_ms = max(newest_ms, samples[-1][0])
    return newest_ms


async def _stored(
    api: QueryApi, metric: str, begin: int, end: int, advance: Callable[[], None]
) -> AsyncIterator[tuple[Labels, Sequence[tuple[int, float]]]]:
    """Yield the stored samples after `begin` up to `end`, in steps that the receiver answers."""
    step = _STEP_SECONDS
    at = begin
    while at < end:
        until = min(end, at + step)
        try:
            found = await api.query(f"{metric}[{(until - at) * 1000}ms]", until + _OFFSET_SECONDS)
        except TooMuch:
            if step <= 1:
                raise
            step = max(1, step // 4)
            continue
        for series in found:
            yield series.labels, series.samples
        at = until
        advance()


def _key(labels: Labels) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, text) for name, text in labels.items() if name != "__name__"))
