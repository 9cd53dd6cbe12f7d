"""The rows of `cdn77_viewer_return_seconds`: the seconds between a viewer's requests on a stream.

In any span of time [a, b) each viewer makes exactly one request whose previous one was before a: the one with a gap
longer than the time since a. So the number of these requests is the number of distinct viewers, and two neighbouring
bounds of a histogram enclose it, without anything being stored for the span.

Gaps shorter than a tick are not told apart: they are all in the lowest bucket.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count, takewhile

from cdn77_exporter.core.buckets import bounds, bucket_of, first_bucket
from cdn77_exporter.core.measures import (
    PART,
    STREAM,
    SUM,
    Family,
    Histograms,
    Kind,
    Label,
    Measure,
    Returned,
    ReturnedAfter,
    ReturnedInBucket,
    Source,
    bound,
)

NAME = "cdn77_viewer_return_seconds"
_FAMILY = Family(
    NAME,
    Kind.HISTOGRAM,
    "Seconds between a viewer's requests on the stream; beyond every bound for its first one, and for one after more "
    "than RETURN_HORIZON.",
)


def bounds_ms(horizon_seconds: int, tick_seconds: int) -> list[int]:
    """Return the bounds of classic buckets in milliseconds, ascending.

    They are a factor of the square root of 2 apart, from the horizon down to a tick.
    """
    every = (round(horizon_seconds * 1000 / 2 ** (number / 2)) for number in count())
    return sorted(takewhile(lambda found: found >= tick_seconds * 1000, every))


def text_of(milliseconds: int) -> str:
    """Return a bound as the label `le` has it, in seconds: `86400`, `61094.026`."""
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".")


def return_rows(horizon_seconds: int, tick_seconds: int, how: Histograms) -> tuple[Measure, ...]:
    """Return the rows of the metric; none without a horizon. It is classic unless histograms are native."""
    if not horizon_seconds:
        return ()
    if how is Histograms.NATIVE:
        return _native(tick_seconds)
    edges = [*bounds_ms(horizon_seconds, tick_seconds), None]
    rows = [
        Measure(f"{NAME}_bucket", Returned(most), (STREAM, bound(text_of(most) if most else "+Inf")), _FAMILY.help)
        for most in edges
    ]
    rows.append(Measure(f"{NAME}_sum", ReturnedAfter(), (STREAM,), _FAMILY.help))
    rows.append(Measure(f"{NAME}_count", Returned(), (STREAM,), _FAMILY.help))
    return tuple(replace(row, part_of=_FAMILY) for row in rows)


def _native(tick_seconds: int) -> tuple[Measure, ...]:
    """Return the parts of a native histogram: the bucket of a tick, those above it, and the sum."""
    lowest = bucket_of(tick_seconds * 1000, 1000)
    most = bounds(1000)[int(lowest) - first_bucket(1000)]
    parts = (
        (Returned(most), Label(PART, Source.CONSTANT, text=lowest)),
        (ReturnedInBucket(most), Label(PART, Source.BUCKET, required=True, per=1000)),
        (ReturnedAfter(), Label(PART, Source.CONSTANT, text=SUM)),
    )
    return tuple(
        Measure(NAME, value, (STREAM, part), _FAMILY.help, part_of=_FAMILY, native=True) for value, part in parts
    )
