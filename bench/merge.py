"""Measures what one exporter can take in: absorbing, settling, encoding and committing, without the decoding.

Files of many writers are decoded before; then they go through the timeline and the state as the service has them go,
half minute after half minute. What it costs a file in CPU bounds how many lines a second the whole can take.
"""

from __future__ import annotations

import pickle  # nosec B403
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from bench.data import FILE_SECONDS, LINES, Kind, body, kinds
from bench.measuring import Row, spread
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.decoded import Decoded
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.edge.state import Database
from cdn77_exporter.flow.sizes import FILES_A_CALL
from tests.support.files import EXAMPLE_MS

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
#: CPU milliseconds a file, by kind and number of writers.
BARS: dict[Kind, dict[int, float]] = {Kind.FEW: {16: 10.0, 64: 5.0}, Kind.MANY: {16: 20.0, 64: 11.0}}
HALF_MINUTES = 6
WARM = 2  # of which these, that make the series and meet the viewers, do not count
CROWDS = 8  # different ones; the same viewers go on from half minute to half minute
STEPS = ("unpickle", "absorb", "advance", "commit")


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results, and what could not be measured."""
    del folder
    writers, lines = ((2,), 300) if smoke else ((4, 16, 64), LINES)
    found = {
        kind: {"bars": BARS[kind], "rows": [measure(kind, count, lines) for count in writers]} for kind in kinds(smoke)
    }
    return {"lines": lines, "files_a_call": FILES_A_CALL, "writers": list(writers), "kinds": found}, []


class Merging:
    """A timeline and a state, which take in decoded files and note the CPU seconds of each step."""

    def __init__(self, folder: str) -> None:
        self.timeline = Timeline(Rules(), start_ms=EXAMPLE_MS - 600_000, key=b"k" * 32)
        self.costs = dict.fromkeys(STEPS, 0.0)
        self._database = Database(f"{folder}/state.db")

    def timed(self, step: str, call: Callable[[], T]) -> T:
        """Call, and add what it takes to a step."""
        began = time.thread_time()  # other threads may receive meanwhile
        found = call()
        self.costs[step] += time.thread_time() - began
        return found

    def absorb(self, decoded: Decoded, writer: int, half_minute: int) -> int:
        """Take in files of consecutive writers, the first of which is `writer`; how many."""
        files: list[Any] = [
            (
                LogFile(f"logs/rtl.w+{writer + place}+{half_minute}.ndjson.gz", "e", 1_700_000, end_ms(half_minute)),
                stats,
            )
            for place, stats in enumerate(decoded.files)
        ]
        self.timed("absorb", lambda: self.timeline.absorb(files, decoded.counts))
        return len(files)

    def settle(self, half_minute: int) -> None:
        """Emit what is complete, and commit it; at first the empty ticks since the start take several steps."""
        while self._step(end_ms(half_minute)):
            pass

    def _step(self, now_ms: int) -> bool:
        """Emit and commit some ticks; return whether there are more."""
        requests, more = self.timed("advance", lambda: self.timeline.advance(now_ms - 2000, now_ms))

        def commit() -> None:
            self._database.commit(self.timeline.take_changes(requests, now_ms - 2000, []))
            numbers = [request.number for request in requests]
            self.timeline.done(numbers)
            self._database.mark_done(numbers, None)

        self.timed("commit", commit)
        return more

    def close(self) -> None:
        """Close the state."""
        self._database.close()


@contextmanager
def merging() -> Iterator[Merging]:
    """Begin with nothing."""
    with tempfile.TemporaryDirectory() as folder:
        made = Merging(folder)
        yield made
        made.close()


def start_ms(half_minute: int) -> int:
    """Return when a half minute begins."""
    return EXAMPLE_MS + half_minute * FILE_SECONDS * 1000


def end_ms(half_minute: int) -> int:
    """Return when a half minute's files are there."""
    return start_ms(half_minute + 1)


@lru_cache(CROWDS * len(Kind))
def _body(kind: Kind, lines: int, seed: int, half_minute: int) -> bytes:
    return body(kind, lines, seed, start_ms(half_minute))


def _arrivals(kind: Kind, writers: int, lines: int, half_minute: int) -> list[bytes]:
    """Return the files of one half minute as workers send them: some decoded together, pickled."""
    decoder = Decoder()
    found = []
    for begin in range(0, writers, FILES_A_CALL):
        numbers = range(begin, min(begin + FILES_A_CALL, writers))
        bodies = [_body(kind, lines, number % CROWDS, half_minute) for number in numbers]
        latest_ms = [start_ms(half_minute) + 86_400_000] * len(bodies)
        found.append(pickle.dumps(decoder.decode_all(bodies, latest_ms, 0), 5))
    return found


def measure(kind: Kind, writers: int, lines: int) -> Row:
    """Measure the CPU milliseconds a file by step, and what follows from them."""
    spent: dict[str, list[float]] = {name: [] for name in STEPS}
    size = 0
    with merging() as made:
        for half_minute in range(HALF_MINUTES):
            arrivals = _arrivals(kind, writers, lines, half_minute)
            size = sum(map(len, arrivals))
            made.costs = dict.fromkeys(STEPS, 0.0)
            writer = 0
            for pickled in arrivals:
                decoded = made.timed("unpickle", partial(pickle.loads, pickled))
                writer += made.absorb(decoded, writer, half_minute)
            made.settle(half_minute)
            if half_minute >= WARM:
                for name, seconds in made.costs.items():
                    spent[name].append(seconds / writers * 1000)
        series = len(made.timeline.series)
    wholes = [sum(steps) for steps in zip(*spent.values(), strict=True)]
    whole = spread(wholes)
    return {
        "writers": writers,
        "steps_ms": {name: spread(values) for name, values in spent.items()},
        "whole_ms": whole,
        "files_per_second": 1000 / whole["median"],
        "lines_per_second": 1000 / whole["median"] * lines,
        "pickled_bytes_a_file": size / writers,
        "series": series,
    }
