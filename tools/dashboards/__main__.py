"""Writes the Grafana dashboards from the tables beside it; `--check` reports whether they are what the tables give."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.dashboards.exporter import EXPORTER
from tools.dashboards.grafana import made
from tools.dashboards.logs import LOGS
from tools.dashboards.model import Dashboard
from tools.dashboards.stream import STREAM
from tools.dashboards.traffic import TRAFFIC

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboards"
DASHBOARDS = {"traffic.json": TRAFFIC, "stream.json": STREAM, "exporter.json": EXPORTER, "logs.json": LOGS}


def written(dashboard: Dashboard) -> str:
    """Return the text of the file."""
    return json.dumps(made(dashboard), indent=1, ensure_ascii=False) + "\n"


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the files that differ from what the tables give."""
    return [
        name
        for name, dashboard in DASHBOARDS.items()
        if not (folder / name).is_file() or (folder / name).read_text("utf-8") != written(dashboard)
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Write the files, or with `--check` name the stale ones; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is stale")
    if parser.parse_args(words).check:
        for name in (found := stale()):
            print(f"deploy/grafana/dashboards/{name} is stale; run `python -m tools.dashboards`", file=sys.stderr)
        return 1 if found else 0
    FOLDER.mkdir(exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / name).write_text(written(dashboard), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
