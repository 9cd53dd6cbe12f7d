"""`python -m bench`: measures, keeps the results, and writes `docs/performance.md` from all that are there."""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.measuring import RESULTS, Result, load, machine

#: Part -> what it measures. Each is a module of this package with `run(smoke, folder)`.
PARTS = {
    "decode": "inspect against other ways to the same numbers, and where its time goes",
    "workers": "one worker process against two",
    "merge": "what one exporter can take in, whoever decodes",
    "loop": "how late the event loop is while a backlog is worked off",
    "memory": "the memory of the real process, idle and while it works off 960 files",
    "large": "a million series, ten million viewers",
    "keys": "a hundred thousand keys in the bucket, ten thousand of them new",
    "latency": "from an event to the query that sees it, in real time (ten minutes)",
}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be given several times")
    parser.add_argument("--smoke", action="store_true", help="little data, only to see that it runs; writes no page")
    parser.add_argument("--results", type=Path, default=None, metavar="FOLDER", help="where the results are kept")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the page from what is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        results = options.results or (Path(scratch, "results") if options.smoke else RESULTS)
        for part in () if options.report else options.part or PARTS:
            measure(part, options.smoke, results, Path(scratch))
    if not options.smoke:
        from bench.report import write  # noqa: PLC0415 - it imports what would make this process large

        write(RESULTS if options.results is None else options.results)
    return 0


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
