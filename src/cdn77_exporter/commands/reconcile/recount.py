"""Both sides of a reconciliation: what the files of a span count, and by how much the receiver's counters grew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdn77_exporter.commands.log_folder import decode_path
from cdn77_exporter.commands.reconcile.comparison import Increments
from cdn77_exporter.core.columns import Counts, Groups
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.errors import FileGone, Unreadable
from cdn77_exporter.core.files import MAX_AGE_MS, LogFile, LogNames, hour_prefixes
from cdn77_exporter.core.judging import judge
from cdn77_exporter.core.measures import STREAM, Cube, Events, Measures, Observations, Sum
from cdn77_exporter.edge.receiver.query import Labels, QueryApi, TooMuch, selector
from cdn77_exporter.edge.s3 import S3Bucket

_LATE_HOURS = 2  # after the span, in which its events may still have been uploaded
_STEP_SECONDS = 600  # of samples in one answer
_BEFORE = "1h"  # how far back a series' value before the span is looked for
#: A sample may be up to this much later than its tick (TIMESTAMP_OFFSET_MS).
_OFFSET_SECONDS = 0.999


def comparable(measures: Measures, names: Sequence[str] = ()) -> Measures:
    """Return the counters that follow from the events of a span alone, of some names if there are any.

    Those of viewers and players do not: who was there before the span is not in its files.
    """
    return Measures(
        row
        for row in measures.rows
        if isinstance(row.value, Events | Sum | Observations) and not row.native and (not names or row.name in names)
    )


@dataclass(slots=True)
class Recount:
    """The counts of the files, by some measures."""

    increments: Increments
    measures: Measures
    files: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # key or path, and reason

    def add(self, counts: Counts) -> None:
        """Count a file."""
        for cube, groups in zip(self.measures.cubes, counts.groups, strict=True):
            for of_streams in (True, False):
                columns = [
                    (measure.name, cube.places(measure)[-1])
                    for measure in cube.measures
                    if (STREAM in measure.by) is of_streams
                ]
                if columns:
                    self._add(counts.texts, groups.by(*_places(cube, of_streams=of_streams), ticks=True), columns)

    def _add(self, texts: Sequence[str], groups: Groups, columns: Sequence[tuple[str, int]]) -> None:
        streams = groups.labels[:, 0].tolist() if groups.labels.shape[1] else [None] * len(groups)
        for tick, number, sums in zip(groups.ticks.tolist(), streams, groups.sums.tolist(), strict=True):
            stream = "" if number is None else texts[number]
            for name, place in columns:
                if sums[place]:
                    self.increments.add(stream, name, tick, sums[place])


def _places(cube: Cube, *, of_streams: bool) -> tuple[int, ...]:
    return (cube.labels.index(STREAM),) if of_streams else ()


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
    api: QueryApi,
    increments: Increments,
    measures: Measures,
    external: Labels,
    tick_seconds: int,
    advance: Callable[[], None],
) -> int:
    """Add up by how much the receiver's counters grew at each tick; the newest sample's time (Unix ms), 0 for none.

    `external`: the labels that tell this exporter's series from those of others.

    The stored samples themselves are read, one after the other: increase() would extrapolate.
    """
    newest_ms = 0
    for name, per in {measure.name: measure.per for measure in measures.rows}.items():
        metric = name + selector(external)
        last: dict[tuple[tuple[str, str], ...], int] = {}
        at = increments.begin + _OFFSET_SECONDS
        for series in await api.query(f"last_over_time({metric}[{_BEFORE}])", at):
            last[_key(series.labels)] = round(series.samples[0][1] * per)
        async for labels, samples in _stored(api, metric, increments.begin, increments.end, advance):
            key = _key(labels)
            stream = labels.get("stream_name", "")
            # Before its first value a series has zeros, and one that comes back has its old value.
            counted = [(at_ms, round(value * per)) for at_ms, value in samples]
            before = last.get(key, counted[0][1])
            for at_ms, value in counted:
                grown = value - before if value >= before else value  # it began anew
                before = value
                if grown:
                    tick = at_ms // 1000 // tick_seconds * tick_seconds
                    increments.add(stream, name, tick, grown)
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
