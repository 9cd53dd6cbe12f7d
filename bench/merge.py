"""What one exporter can take in, whoever decodes: absorbing, settling, encoding and committing, without the decoding.

Files of many shards are decoded before; then they go through the timeline and the state as the service has them go,
half minute after half minute. What it costs a file in CPU bounds how many lines a second the whole can take.
"""

from __future__ import annotations

import pickle  # nosec B403
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

from bench.data import FILE_SECONDS
from bench.measuring import Row, spread
from cdn77_exporter.core.bundle import Bundle, decode_together
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.edge.state import Database
from cdn77_exporter.flow.sizes import FILES_A_CALL
from tests.support.files import EXAMPLE_MS, traffic_file

LINES = 16_000
_HALF_MINUTES = 6  # of which the first ones, that make the series, do not count
_WARM = 2
_STEPS = ("unpickle", "absorb", "advance", "commit")


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """The results, and what could not be measured."""
    del folder
    shard_counts, lines = ((2,), 300) if smoke else ((4, 16, 64), LINES)
    rows = [measure(shards, lines) for shards in shard_counts]
    return {"lines": lines, "files_a_call": FILES_A_CALL, "shards": list(shard_counts), "rows": rows}, []


@cache
def _body(lines: int, seed: int, start_ms: int) -> bytes:
    return traffic_file(lines, seed=seed, start_ms=start_ms)


def _arrivals(shards: int, lines: int, half_minute: int) -> list[bytes]:
    """The files of one half minute as workers send them: bundles of some files each, pickled."""
    decoder = Decoder()
    found = []
    start = EXAMPLE_MS + half_minute * FILE_SECONDS * 1000
    for begin in range(0, shards, FILES_A_CALL):
        count = min(FILES_A_CALL, shards - begin)
        # Eight different crowds; the same viewers go on from half minute to half minute.
        bodies = [_body(lines, (begin + number) % 8, start) for number in range(count)]
        bundle = decode_together(decoder, bodies, [start + 86_400_000] * count, 0)
        found.append(pickle.dumps(bundle, 5))
    return found


def measure(shards: int, lines: int) -> Row:
    """CPU milliseconds a file by step, and what follows from them."""
    timeline = Timeline(Rules(), start_ms=EXAMPLE_MS - 600_000, key=b"k" * 32)
    spent: dict[str, list[float]] = {name: [] for name in _STEPS}
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"{folder}/state.db")
        for half_minute in range(_HALF_MINUTES):
            arrivals = _arrivals(shards, lines, half_minute)
            size = sum(map(len, arrivals))
            now_ms = EXAMPLE_MS + (half_minute + 1) * FILE_SECONDS * 1000
            costs = dict.fromkeys(_STEPS, 0.0)
            number = 0
            for pickled in arrivals:
                began = time.process_time()
                bundle: Bundle = pickle.loads(pickled)  # noqa: S301 # nosec B301
                costs["unpickle"] += time.process_time() - began
                files = []
                for share in bundle.shares:
                    name = f"logs/rtl.w+{number}+{half_minute}.ndjson.gz"
                    files.append((LogFile(name, "e", 1_700_000, now_ms), replace(share)))
                    number += 1
                began = time.process_time()
                timeline.absorb_together(files, bundle.ticks)  # type: ignore[arg-type]  # none of them is a failure
                costs["absorb"] += time.process_time() - began
            began = time.process_time()
            requests, _ = timeline.advance(now_ms - 2000, now_ms)
            costs["advance"] += time.process_time() - began
            began = time.process_time()
            database.commit(timeline.take_changes(requests, now_ms - 2000, []))
            database.mark_done([request.number for request in requests], None)
            costs["commit"] += time.process_time() - began
            if half_minute >= min(_WARM, _HALF_MINUTES - 1):
                for name, seconds in costs.items():
                    spent[name].append(seconds / shards * 1000)
        database.close()
    steps = {name: spread(values) for name, values in spent.items()}
    whole = sum(step["median"] for step in steps.values())
    return {
        "steps_ms": steps,
        "whole_ms": whole,
        "files_per_second": 1000 / whole,
        "lines_per_second": 1000 / whole * lines,
        "pickled_bytes_a_file": size / shards,
        "series": len(timeline.series),
    }
