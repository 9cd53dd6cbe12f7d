"""The log files that are measured: made-up traffic of the real form, the same in every run."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.files import EXAMPLE_MS, traffic_file

#: Every event of the files lies well before this instant.
LATEST_MS = EXAMPLE_MS + 86_400_000
#: The same for `inspect --now`.
NOW = "2026-01-11T00:00:00Z"
FILE_SECONDS = 30


def write_files(folder: Path, count: int, lines: int, shards: int = 2) -> list[Path]:
    """Files of `shards` writers, one each half minute, in the order of their times; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        path = folder / f"rtl.bench+{number % shards}+{number // shards}-{lines}.ndjson.gz"
        if not path.exists():
            start = EXAMPLE_MS + number // shards * FILE_SECONDS * 1000
            path.write_bytes(traffic_file(lines, seed=number, start_ms=start))
        found.append(path)
    return found


def addresses(count: int) -> list[str]:
    """Client addresses, all different, in no order."""
    numbers = list(range(count))
    random.Random(1).shuffle(numbers)  # noqa: S311
    return [f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" for number in numbers]
