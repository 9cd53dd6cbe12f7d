"""Decoding: `inspect` as a process against other ways to the same numbers, and where its time goes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.data import LATEST_MS, LINES, NOW, Kind, kinds, write_files
from bench.measuring import Row, Used, child, in_turn, python, ratios, summary
from cdn77_exporter.core.scan import COMPILED

FILES, ROUNDS = 20, 7
OTHERS = ("plain", "duckdb", "polars", "chdb")
#: What the numbers must come to, by the kind of data and the other way: `inspect`'s CPU time over its.
BARS: dict[Kind, dict[str, float]] = {
    Kind.FEW: {"plain": 0.17, "duckdb": 0.40, "polars": 0.33},
    Kind.MANY: {"plain": 0.22, "duckdb": 0.66, "polars": 0.50},
}
MEMORY_BAR = 40 * 2**20

# `inspect` as it is where the package was built without a compiler.
_PURE = """
import sys
from cdn77_exporter.core import scan
scan.COMPILED = False
from cdn77_exporter.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results, and what could not be measured."""
    files, lines, rounds = (2, 500, 1) if smoke else (FILES, LINES, ROUNDS)
    left_out = [f"{way}: not installed" for way in OTHERS if way != "plain" and find_spec(way) is None]
    ways = [way for way in OTHERS if way == "plain" or find_spec(way) is not None]
    if not COMPILED:
        left_out.append("the compiled scan: not built")
    found = {}
    for kind in kinds(smoke):
        paths = [str(path) for path in write_files(folder, kind, files, lines)]
        found[kind] = measure(paths, ways, rounds) | {
            "bars": BARS[kind],
            "split": json.loads(child(python("-m", "bench.decode", str(1 if smoke else 5), *paths[:4])).out),
        }
    return {"files": files, "lines": lines, "rounds": rounds, "memory_bar": MEMORY_BAR, "kinds": found}, left_out


def measure(paths: list[str], ways: list[str], rounds: int) -> Row:
    """`inspect` against the other ways on some files, after all have come to the same numbers."""
    same = compare(paths, ways)
    contenders: dict[str, Callable[[], Row]] = {"inspect": partial(_measured, _inspect_command(paths))}
    if COMPILED:
        contenders["pure"] = partial(_measured, python("-c", _PURE, *_inspect_words(paths)))
    for way in ways:
        contenders[way] = partial(_measured, python("-m", "bench.engines", way, *paths))
    contenders["idle"] = partial(_measured, python("-c", "pass"))
    rows = in_turn(contenders, rounds)
    return {
        "same_numbers": same,
        "ways": {name: summary(of) for name, of in rows.items()},
        "cpu_ratios": {
            way: ratios(rows["inspect"], rows[way], "cpu_seconds") for way in rows if way not in ("inspect", "idle")
        },
        "peak_above_idle_bytes": _peak(rows["inspect"]) - _peak(rows["idle"]),
    }


def _peak(rows: list[Row]) -> float:
    return float(max(row["peak_bytes"] for row in rows))


def _row(used: Used) -> Row:
    return {"cpu_seconds": used.cpu_seconds, "wall_seconds": used.wall_seconds, "peak_bytes": float(used.peak_bytes)}


def _measured(command: list[str]) -> Row:
    return _row(child(command))


def _inspect_command(paths: list[str]) -> list[str]:
    return python("-m", "cdn77_exporter", *_inspect_words(paths))


def _inspect_words(paths: list[str]) -> list[str]:
    return ["inspect", "--json", "--now", NOW, *paths]


def compare(paths: list[str], ways: list[str]) -> list[str]:
    """Return the ways that come to the very same numbers as the exporter's decoder; a difference ends the benchmark."""
    digests = {
        way: child(python("-m", "bench.engines", way, "--digest", *paths)).out for way in ("core", "pure", *ways)
    }
    wrong = [way for way, digest in digests.items() if digest != digests["core"]]
    if wrong:
        raise SystemExit(f"other numbers than the exporter's come from {', '.join(wrong)}")
    shown = json.loads(child(_inspect_command(paths)).out)
    whole = json.loads(child(python("-m", "bench.engines", "plain", *paths)).out)
    told = {"requests": shown["events"], "bytes": shown["bytes"], "viewers": shown["viewers"]}
    if told != whole:
        raise SystemExit(f"inspect says {told}, the plain way {whole}")
    return ["inspect", *digests]


# Where the time goes, in a process of its own


def split(rounds: int, paths: list[str]) -> Row:
    """Measure the CPU milliseconds a file of inflating alone, with scanning or decoding the lines, and of all of it."""
    from cdn77_exporter.core.decode import Decoder  # noqa: PLC0415 - this process must stay small when it starts others
    from cdn77_exporter.core.formats.ndjson import Ndjson  # noqa: PLC0415
    from cdn77_exporter.core.inflate import inflate  # noqa: PLC0415
    from cdn77_exporter.core.layout import Layout  # noqa: PLC0415
    from cdn77_exporter.core.measures import MEASURES  # noqa: PLC0415
    from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN, DEFAULT_TRACK_PATTERN, PathPattern  # noqa: PLC0415
    from cdn77_exporter.core.scan.scanned import begin_scan  # noqa: PLC0415

    bodies = [Path(path).read_bytes() for path in paths]
    layout, pattern = Layout(MEASURES), PathPattern.of(DEFAULT_STREAM_PATTERN)
    assert pattern is not None  # noqa: S101
    lines = Ndjson(layout)
    decoder, pure = Decoder(), Decoder(accelerate=False)

    def inflating(body: bytes) -> None:
        for _ in inflate(body, 2**31):
            pass

    def by_lines(body: bytes, take: Callable[[bytes, int], object]) -> None:
        carry = b""
        for piece in inflate(body, 2**31):
            begin = piece.find(b"\n") + 1
            end = piece.rfind(b"\n") + 1
            if carry and begin:
                take(carry + piece[:begin], 0)
            elif not carry:
                begin = 0
            if begin < end:
                take(piece[:end], begin)
            carry = piece[end:]

    def typing(body: bytes) -> None:
        by_lines(body, lambda piece, begin: lines.rows(piece[begin:]))

    def scanning(body: bytes) -> None:
        scanner = begin_scan(
            layout,
            pattern,
            PathPattern.of(DEFAULT_TRACK_PATTERN),
            tick_seconds=15,
            line_bytes=2**20,
            oldest_ms=0,
            latest_ms=LATEST_MS,
            rows=500_000,
            admitted_only=False,
            examples=0,
        )
        assert scanner is not None  # noqa: S101
        by_lines(body, scanner.take)

    def whole(body: bytes, how: Decoder) -> None:
        how.decode(body, latest_ms=LATEST_MS, oldest_ms=0)

    def timed(call: Callable[[bytes], None]) -> Row:
        began = time.process_time()
        for body in bodies:
            call(body)
        return {"ms": (time.process_time() - began) / len(bodies) * 1000}

    steps: dict[str, Callable[[bytes], None]] = {
        "inflate": inflating,
        "inflate_and_decode": typing,
        "whole_pure": partial(whole, how=pure),
    }
    if COMPILED:
        steps |= {"inflate_and_scan": scanning, "whole": partial(whole, how=decoder)}
    rows = in_turn({name: partial(timed, call) for name, call in steps.items()}, rounds + 1)
    return {name: summary(of[1:])["ms"] for name, of in rows.items()}  # the first round warms the tables


def main() -> None:
    """Run as the process that `run` starts."""
    import sys  # noqa: PLC0415

    rounds, *paths = sys.argv[1:]
    found: Any = split(int(rounds), paths)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
