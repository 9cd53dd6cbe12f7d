"""Compares the compiled scan with Python on mutated lines: `python -m tests.fuzz_scan [--lines N] [--seed N]`.

The lines are those of the corpus and the hostile ones, with bytes changed, left out, doubled and put in. No line may
make the two ways count differently; under the sanitizers (`make sanitize`) none may make the scan touch memory that is
not its own. It needs nothing but what the product needs, and the same seed does the same.
"""

from __future__ import annotations

import argparse
import random
import sys
import zlib
from collections.abc import Iterator
from typing import Any

from cdn77_exporter.core.decode import Decoder, Limits
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.scan import COMPILED
from tests.support import corpus, hostile
from tests.support.counts import plain_audience, plain_counts, plain_groups
from tests.support.files import EXAMPLE_MS, event, gzip_bytes, json_line, stream_name, traffic
from tests.support.other_measures import DERIVED_MEASURES, OTHER_MEASURES
from tests.support.tokens import TOKENS

_LONGEST = 3000  # bytes of a line that is mutated
_AT_ONCE = 25  # lines of a file
_WEEK_MS = 7 * 24 * 3600 * 1000
_WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"examples": True, "limits": Limits(line_bytes=1400)},
    {"allow": lambda stream: stream != stream_name(1)},
    {"limits": Limits(entries=3)},
    {"stream_pattern": "/([^/]*)/", "tick_seconds": 1},
    {"stream_pattern": r"([a-z0-9]+)[.]", "examples": True},
    {"stream_pattern": "^/([a-f0-9/]{3,40})"},
    {"measures": OTHER_MEASURES},
    {"measures": DERIVED_MEASURES},
    {"measures": DERIVED_MEASURES, "track_pattern": "/([a-z0-9]*)[.]", "ipv6_prefix": 64},
    {"ipv6_prefix": 40},
)


def seeds() -> list[bytes]:
    """Return the lines that are mutated, each with its newline."""
    lines = [line for _, line, _ in hostile.bad_lines()]
    lines += [line for _, line in hostile.odd_lines()]
    lines += [json_line(fields) for fields in traffic(50, seed=1)]
    lines += [json_line(event(clientRequestPath=f"/{stream_name(number)}/x")) for number in range(3)]
    for name in corpus.EXPECTED:
        try:
            lines += zlib.decompress(corpus.body(name), 31).splitlines(keepends=True)[:50]
        except zlib.error:
            continue
    return [line for line in dict.fromkeys(lines) if len(line) < _LONGEST]


def mutated(draw: random.Random, line: bytes) -> bytes:
    """Return a line with up to four places of it changed."""
    for _ in range(draw.randrange(5)):
        place = draw.randrange(len(line) + 1)
        length = draw.choice((0, 0, 1, 1, 2, 5, 20))
        kind = draw.randrange(9)
        if kind < 5:
            line = line[:place] + draw.choice(TOKENS) + line[place + length :]
        elif kind == 5:
            line = line[:place] + draw.randbytes(draw.randrange(5)) + line[place + length :]
        elif kind == 6:
            line = line[:place] + line[place : place + length] * 2 + line[place + length :]
        elif kind == 7:
            line = line.replace(
                draw.choice((b"/", b",", b":", b"e")), draw.choice((b"\\/", b", ", b" : ", b"\xc3\xa9"))
            )
        else:
            begin = line.find(b":", place) + 1
            end = line.find(b",", begin)
            if 0 < begin < end:  # a value that stands where another one belongs
                line = line[:begin] + draw.choice(TOKENS) + line[end:]
    return line


def files(lines: int, draw: random.Random) -> Iterator[bytes]:
    """Yield so many mutated lines, some at a time."""
    known = seeds()
    while lines > 0:
        yield b"".join(mutated(draw, draw.choice(known)) for _ in range(_AT_ONCE))
        lines -= _AT_ONCE


def outcome(decoder: Decoder, content: bytes) -> Any:
    """Return all that a decoder says of lines."""
    try:
        stats, counts = decoder.decode(
            gzip_bytes(content, 1), latest_ms=EXAMPLE_MS + 20_000, oldest_ms=EXAMPLE_MS - _WEEK_MS
        )
    except Unreadable as error:
        return error.reason
    stats.seconds = 0.0
    groups = [plain_groups(counts, cube) for cube in range(len(counts.groups))]
    return stats, plain_counts(counts), groups, [plain_audience(counts, viewers) for viewers in counts.audiences]


def main() -> int:
    """Compare; 1 when a difference was found, which is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if not COMPILED:
        print("The compiled scan is not there.")
        return 1
    draw = random.Random(given.seed)
    ways = [(Decoder(**way), Decoder(accelerate=False, **way)) for way in _WAYS]
    for number, content in enumerate(files(given.lines, draw)):
        compiled, pure = ways[number % len(ways)]
        with_scan, without = outcome(compiled, content), outcome(pure, content)
        if with_scan != without:
            print(f"Way {number % len(ways)} differs on\n{content!r}\nwith the scan: {with_scan}\nwithout: {without}")
            return 1
    print(f"{given.lines} lines: no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
