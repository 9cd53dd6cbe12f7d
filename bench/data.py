"""The log files that are measured: made-up traffic of the real form, of two kinds, the same in every run."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.support.files import COUNTRIES, EXAMPLE_MS, POPS, USER_AGENTS, gzip_bytes, json_line, stream_name, timestamp
from tests.support.files import traffic as few_viewers

LINES = 16_000
FILE_SECONDS = 30
#: Every event of the files that `write_files` makes lies well before this instant.
LATEST_MS = EXAMPLE_MS + 86_400_000
#: The same for `inspect --now`.
NOW = "2026-01-11T00:00:00Z"

# Many viewers: what follows gives about 5,870 groups and 15,140 viewer rows for a file of 16,000 lines.
_STREAMS = 200
_VIEWERS = 9_000  # of one file; each sends a request every 17 s
_POPS_OF_A_STREAM = 5
_WITHOUT_STREAM = 0.05
_JITTER_MS = 2_500


class Kind(StrEnum):
    """The kind of lines: of 1,500 viewers who each send many, or of so many that nearly each is a viewer row."""

    FEW = "few"
    MANY = "many"


def kinds(smoke: bool) -> tuple[Kind, ...]:
    """Return the kinds that a part measures; one is enough to see that it runs."""
    return (Kind.MANY,) if smoke else tuple(Kind)


@dataclass(frozen=True, slots=True)
class File:
    """A file to be made: the requests of the crowd `seed`, from `start_ms` on."""

    path: Path
    kind: Kind
    lines: int
    seed: int
    start_ms: int

    def write(self) -> None:
        """Write it, unless it is there."""
        if not self.path.exists():
            self.path.write_bytes(body(self.kind, self.lines, self.seed, self.start_ms))


def body(kind: Kind, lines: int, seed: int, start_ms: int) -> bytes:
    """Return a file of 30 seconds; the same crowd sends the same requests, whenever it begins."""
    return gzip_bytes(
        b"".join(
            b'{"timestamp":"%b","startTimeMs":%d,%b' % (timestamp(start_ms + ms).encode(), start_ms + ms, rest)
            for ms, rest in _requests(kind, lines, seed)
        )
    )


@lru_cache(4)
def _requests(kind: Kind, lines: int, seed: int) -> list[tuple[int, bytes]]:
    """Return when each request of a crowd is sent, in milliseconds after the start, and the rest of its line."""
    events = few_viewers(lines, seed=seed) if kind is Kind.FEW else many_viewers(lines, seed)
    found = []
    for event in events:
        ms = event.pop("startTimeMs") - EXAMPLE_MS
        del event["timestamp"]
        found.append((ms, json_line(event)[1:]))
    return found


def many_viewers(lines: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield events of viewers who send requests one after the other; some are for no stream."""
    draw = random.Random(-1 - seed)  # noqa: S311
    crowd = [_viewer(draw) for _ in range(_VIEWERS * lines // LINES or 1)]
    for number, event in enumerate(few_viewers(lines, seed=seed)):
        stream, changed = crowd[number % len(crowd)]
        leaf = event["clientRequestPath"].partition("/")[2].partition("/")[2]
        path = "/favicon.ico" if draw.random() < _WITHOUT_STREAM else f"/{stream}/{leaf}"
        ms = EXAMPLE_MS + number * FILE_SECONDS * 1000 // lines + draw.randrange(-_JITTER_MS, _JITTER_MS)
        yield {**event, **changed, "startTimeMs": ms, "clientRequestPath": path}


def _viewer(draw: random.Random) -> tuple[str, dict[str, Any]]:
    """Return the stream that somebody watches, and the fields that are the same in all their requests."""
    number = int(draw.random() ** 2 * _STREAMS)  # a squared draw makes some streams more popular than others
    place = random.Random(number).sample(range(len(POPS)), _POPS_OF_A_STREAM)[draw.randrange(_POPS_OF_A_STREAM)]  # noqa: S311
    ip = (
        f"{draw.randrange(1, 224)}.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(1, 255)}"
        if draw.random() < 0.8
        else f"2001:db8:{draw.randrange(1, 65536):x}:{draw.randrange(1, 65536):x}::{draw.randrange(1, 65536):x}"
    )
    cdn = (1693215245, 1281764910)[number % 2]
    return stream_name(number), {
        "clientIP": ip,
        "clientRequestXForwardedFor": ip,
        "clientRequestUserAgent": draw.choice(USER_AGENTS),
        "clientCountry": COUNTRIES[place],
        "locationID": POPS[place],
        "resourceID": cdn,
        "clientRequestHost": f"{cdn}.rsc.cdn77.org",
    }


# Files


def write_all(files: Iterable[File]) -> None:
    """Write files, those of one crowd in one process."""
    crowds: dict[tuple[Kind, int, int], list[File]] = {}
    for file in files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        crowds.setdefault((file.kind, file.lines, file.seed), []).append(file)
    with multiprocessing.get_context("spawn").Pool() as pool:  # this process stays small: its children are measured
        pool.map(_write, crowds.values(), chunksize=1)


def _write(files: Sequence[File]) -> None:
    for file in files:
        file.write()


def write_files(folder: Path, kind: Kind, count: int, lines: int, shards: int = 2) -> list[Path]:
    """Write files of `shards` writers, one each half minute and each of a crowd of its own; in the order of times."""
    files = [
        File(
            folder / f"{kind}-rtl.bench+{number % shards}+{number // shards}-{lines}.ndjson.gz",
            kind,
            lines,
            number,
            EXAMPLE_MS + number // shards * FILE_SECONDS * 1000,
        )
        for number in range(count)
    ]
    write_all(files)
    return [file.path for file in files]
