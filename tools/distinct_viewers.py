"""Writes recording rules that enclose the number of distinct viewers of long spans between two bounds.

They need `cdn77_viewer_return_seconds` (RETURN_HORIZON). In a span [a, b) each viewer makes one request whose previous
one was before a. The rules cut the span into pieces. Of the requests between a + x and a + y

- those with a gap of more than y have their previous one before a: there are at least this many viewers;
- those with a gap of at most x do not: there are at most as many viewers as the others.

At the beginning of the span, and for any piece no longer than a player is present after a request, there are at most as
many viewers as players at its end. `lower` is exact; `upper` looks one tick further on both sides, because `increase()`
only sees what lies between samples.

    python tools/distinct_viewers.py --horizon 7d 1h 1d 7d > distinct-viewers.rules.yml
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from cdn77_exporter.core.returns import NAME, bounds_ms, text_of

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Expressions:
    """PromQL for the bounds of the number of distinct viewers by stream. All lengths are in seconds.

    `lag`: how long before the time of the query the span ends. `presence`: PRESENCE_SECONDS of the exporter.
    """

    def __init__(
        self, horizon: int, *, tick: int = 15, presence: int = 30, lag: int = 90, native: bool = False
    ) -> None:
        self._tick = tick
        self._presence = max(presence, tick) // tick * tick
        self._lag = lag
        self._native = native
        self._horizon = horizon
        self._bounds = list(_powers(tick, horizon)) if native else [ms / 1000 for ms in bounds_ms(horizon, tick)]
        if not self._bounds or self._bounds[-1] < self._presence:
            raise ValueError(
                f"a horizon of {horizon} seconds is too short for ticks of {tick} and a presence of {self._presence}"
            )

    def _pieces(self, span: int, first: int) -> Iterator[tuple[int, int]]:
        """Yield where pieces begin and end, after the beginning of the span: on ticks, near the bounds.

        `first`: the length of the first one.
        """
        cuts = (math.ceil(found / self._tick) * self._tick for found in self._bounds)
        edges = [first, *(cut for cut in cuts if first < cut < span), span]
        yield 0, min(first, span)
        yield from ((begin, end) for begin, end in pairwise(dict.fromkeys(edges)) if begin < span)

    def _every(self, selector: str, of: str = "") -> str:
        return f'{of}{NAME}_bucket{{le="+Inf"}}{selector}{")" if of else ""}'

    def _within(self, bound: float, selector: str, of: str = "") -> str:
        return f'{of}{NAME}_bucket{{le="{text_of(round(bound * 1000))}"}}{selector}{")" if of else ""}'

    def _beyond(self, bound: float, histogram: str) -> str:
        """Return what a native histogram has after a gap of more than `bound`."""
        counted = f"histogram_fraction({bound!r}, Inf, {histogram}) * histogram_count({histogram})"
        return f"({counted} >= 0)"  # of an empty histogram a fraction is no number

    def _after(self, bound: float, offset: int) -> str:
        """Return how many requests had come after a gap of more than `bound`, so long ago."""
        selector = f" offset {offset}s"
        if self._native:
            return self._beyond(bound, NAME + selector)
        return f"({self._every(selector)} - ignoring (le) {self._within(bound, selector)})"

    def _came(self, bound: float, begin: int, end: int) -> str:
        """Return how many requests came after a gap of more than `bound`, between two times so long ago; no more.

        A series that begins there began at zero. Where only its bound is new, since RETURN_HORIZON or TICK_SECONDS
        was changed, and nobody came within it yet, it is not known how many had before.
        """
        now = self._after(bound, end)
        if self._native:
            return f"sum by (stream_name) (clamp_min({now} - ({self._after(bound, begin)} or {now} * 0), 0))"
        selector = f" offset {begin}s"
        every = f"({self._every(selector)} > 0)"
        then = f"{every} - ignoring (le) ({self._within(bound, selector)} > 0)"
        return f"sum by (stream_name) (clamp_min({now} - ({then} or ({now} unless ignoring (le) {every}) * 0), 0))"

    def _may_have_come(self, bound: float, seconds: int, offset: int) -> str:
        """Return how many came in so many seconds, so long ago; no fewer. Without the bound it may be all of them."""
        selector = f"[{seconds}s] offset {offset}s"
        if self._native:
            return f"sum by (stream_name) {self._beyond(bound, f'increase({NAME}{selector})')}"
        every, within = self._every(selector, "increase("), self._within(bound, selector, "increase(")
        return f"sum by (stream_name) ({every} - ignoring (le) ({within} or ignoring (le) {every} * 0))"

    def lower(self, span: int) -> str:
        """Return what there are at least, in a span of that length."""
        found = []
        for begin, end in self._pieces(span, self._presence):
            bound = next((bound for bound in self._bounds if bound >= end), None)
            if bound is not None:
                found.append(self._came(bound, self._lag + span - begin, self._lag + span - end))
        return _added(found)

    def upper(self, span: int) -> str:
        """Return what there are at most."""
        first = math.ceil(self._bounds[0] / self._presence) * self._presence  # from there on there are bounds
        found = []
        for end in range(self._presence, min(first, span) + self._presence, self._presence):
            offset = self._lag + span - min(end, span)
            found.append(f"sum by (stream_name) (cdn77_concurrent_viewers offset {offset}s)")
        for begin, end in self._pieces(span, first):
            below = [bound for bound in self._bounds if bound <= begin]
            if below:
                seconds, offset = end - begin + 2 * self._tick, self._lag + span - end - self._tick
                found.append(self._may_have_come(below[-1], seconds, offset))
        return _added(found)


def _powers(tick: int, horizon: int) -> Iterator[float]:
    """Yield bounds of native buckets, a factor of the square root of 2 apart: from a tick up to the horizon."""
    for half in range(2 * math.ceil(math.log2(tick)), math.floor(2 * math.log2(horizon)) + 1):
        yield 2 ** (half / 2)


def _added(pieces: Sequence[str]) -> str:
    """Return the sum of pieces, of which a stream may lack some."""
    marked = (f'label_replace({piece}, "piece", "{number}", "", "")' for number, piece in enumerate(pieces))
    return "sum by (stream_name) (\n  " + "\n  or ".join(marked) + "\n)"


def rules(expressions: Expressions, spans: Sequence[str]) -> str:
    """Return a file of recording rules for spans such as `1h`."""
    lines = ["groups:", "  - name: cdn77-distinct-viewers", "    interval: 1m", "    rules:"]
    for span in spans:
        for what, expression in (("lower", expressions.lower), ("upper", expressions.upper)):
            lines.append(f"      - record: stream:cdn77_distinct_viewers:{what}{span}")
            lines.append("        expr: |-")
            lines += [f"          {line}" for line in expression(seconds_of(span)).splitlines()]
    return "\n".join(lines) + "\n"


def seconds_of(text: str) -> int:
    """Return the seconds of a span such as `90m`. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if not found:
        raise ValueError(f"`{text}` is no span of time; such as 90m, 1h, 7d")
    return int(found[1]) * _UNITS[found[2]]


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spans", nargs="+", metavar="SPAN", help="such as 1h 1d 7d")
    parser.add_argument("--horizon", default="1d", help="RETURN_HORIZON of the exporter (1d)")
    parser.add_argument("--tick", type=int, default=15, help="TICK_SECONDS of the exporter (15)")
    parser.add_argument("--presence", type=int, default=30, help="PRESENCE_SECONDS of the exporter (30)")
    parser.add_argument("--native", action="store_true", help="with HISTOGRAMS=native")
    asked = parser.parse_args()
    try:
        horizon = seconds_of(asked.horizon)
        found = Expressions(horizon, tick=asked.tick, presence=asked.presence, native=asked.native)
        print(rules(found, asked.spans), end="")
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    _main()
