"""`python -m bench`: measures, keeps the results, and writes `docs/performance.md` from all that are there."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from bench.measuring import RESULTS, Result, load, machine
from bench.parts import PARTS

_SIDE_BY_SIDE = 4  # most parts wait for servers more than they work


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be given several times")
    parser.add_argument("--smoke", action="store_true", help="little data, only to see that it runs; writes no page")
    parser.add_argument("--results", type=Path, default=None, metavar="FOLDER", help="keep them there; writes no page")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the page from what is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        results = options.results or (Path(scratch, "results") if options.smoke else RESULTS)
        parts = [] if options.report else options.part or list(PARTS)
        if options.smoke and len(parts) > 1:
            return measure_side_by_side(parts, results)
        for part in parts:
            measure(part, options.smoke, results, Path(scratch))
    if options.results is None and not options.smoke:
        from bench.report import write  # noqa: PLC0415 - it imports what would make this process large

        write(RESULTS)
    return 0


def measure_side_by_side(parts: list[str], results: Path) -> int:
    """Run parts on little data, several at a time; the exit code. How long they take says nothing then."""

    def run(part: str) -> int:
        command = [sys.executable, "-m", "bench", "--smoke", "--part", part, "--results", str(results)]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603
        print(done.stdout, end="", flush=True)
        return done.returncode

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as threads:
        return max(threads.map(run, parts))


def measure(part: str, smoke: bool, results: Path, scratch: Path) -> None:
    """Run a part and keep what it found."""
    print(f"{part}: {PARTS[part]}", flush=True)
    before, began = load(), time.monotonic()
    found, left_out = importlib.import_module(f"bench.{part}").run(smoke, scratch / part)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    Result(part, smoke, now, before, machine(), left_out, found).save(results)
    for words in left_out:
        print(f"  left out: {words}")
    print(f"  {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
