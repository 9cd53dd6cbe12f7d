"""Writes recording rules for the number of distinct viewers of long spans: between which two numbers it is.

They need `cdn77_viewer_return_seconds` (RETURN_HORIZON). In a span [a, b) each viewer has one request whose last one
was before a. The span is cut into pieces; of the requests in the piece from a + x to a + y

- those after a gap of more than y have their last one before a, so at least so many viewers there are;
- those after a gap of at most x have not, so at most as many as the others there are.

In the first piece, which is as long as a player is present after a request, no more viewers come than players are
there. `lower` is exact; `upper` looks a tick further to both sides, as `increase()` sees what is between samples only.

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
    """The bounds of the number of distinct viewers by stream, as PromQL. All lengths are seconds.

    `lag`: how far behind the time of asking the span ends. `presence`: PRESENCE_SECONDS of the exporter.
    """

    def __init__(
        self, horizon: int, *, tick: int = 15, presence: int = 30, lag: int = 90, native: bool = False
    ) -> None:
        self._tick = tick
        self._presence = math.ceil(presence / tick) * tick
        self._lag = lag
        self._native = native
        self._horizon = horizon
        self._bounds = list(_powers(tick, horizon)) if native else [ms / 1000 for ms in bounds_ms(horizon, tick)]

    def _pieces(self, span: int) -> Iterator[tuple[int, int]]:
        """Yield where pieces begin and end, after the beginning of the span: on ticks, near the bounds."""
        cuts = (math.ceil(found / self._tick) * self._tick for found in self._bounds)
        edges = [self._presence, *(cut for cut in cuts if self._presence < cut < span), span]
        yield 0, min(self._presence, span)
        yield from ((begin, end) for begin, end in pairwise(dict.fromkeys(edges)) if begin < span)

    def _after(self, bound: float, selector: str, of: str = "") -> str:
        """Return how many requests came after a gap of more than `bound`; `of`: a function around the counters."""
        closing = ")" if of else ""
        if self._native:
            histogram = f"{of}{NAME}{selector}{closing}"
            counted = f"histogram_fraction({bound!r}, Inf, {histogram}) * histogram_count({histogram})"
            return f"sum by (stream_name) ({counted} >= 0)"  # of an empty histogram a fraction is no number
        every, within = (f'{of}{NAME}_bucket{{le="{le}"}}{selector}{closing}' for le in ("+Inf", self._text(bound)))
        return f"sum by (stream_name) ({every} - ignoring (le) {within})"

    def _text(self, bound: float) -> str:
        return text_of(round(bound * 1000))

    def lower(self, span: int) -> str:
        """Return what there are at least, in a span of that length."""
        found = []
        for begin, end in self._pieces(span):
            bound = next((bound for bound in self._bounds if bound >= end), None)
            if bound is not None:
                now, then = (self._after(bound, f" offset {self._lag + span - at}s") for at in (end, begin))
                found.append(f"clamp_min({now} - ({then} or {now} * 0), 0)")
        return _added(found)

    def upper(self, span: int) -> str:
        """Return what there are at most."""
        offset = self._lag + span - self._presence
        found = [f"sum by (stream_name) (cdn77_concurrent_viewers offset {offset}s)"] if self._presence <= span else []
        for begin, end in self._pieces(span):
            below = [bound for bound in self._bounds if bound <= begin]
            if below and begin:
                seconds, offset = end - begin + 2 * self._tick, self._lag + span - end - self._tick
                found.append(self._after(below[-1], f"[{seconds}s] offset {offset}s", "increase("))
        return _added(found)


def _powers(tick: int, horizon: int) -> Iterator[float]:
    """Yield bounds of native buckets, a factor of the square root of 2 apart: from a tick up to the horizon."""
    for half in range(2 * math.ceil(math.log2(tick)), 2 * math.floor(math.log2(horizon)) + 1):
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
