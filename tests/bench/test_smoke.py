"""The benchmark runs from end to end on little data, says what it leaves out, and its page can be written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.measuring import RESULTS
from bench.parts import PARTS

_ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.prometheus
def test_every_part_runs_and_all_ways_agree(tmp_path: Path) -> None:
    """Each part keeps a result; the ways to the same numbers agree, with an engine that lacks named as left out."""
    command = [sys.executable, "-m", "bench", "--smoke", "--results", str(tmp_path)]
    done = subprocess.run(command, check=False, cwd=_ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {part: json.loads((tmp_path / f"{part}.json").read_text()) for part in PARTS}
    assert all(result["smoke"] for result in results.values())
    decode = results["decode"]
    lacking = {words.partition(":")[0] for words in decode["left_out"]}
    for of in decode["found"]["kinds"].values():
        assert {"inspect", "core", "pure", "plain", "duckdb", "polars", "chdb"} - lacking == set(of["same_numbers"])
    assert all(f"left out: {words}" in done.stdout for result in results.values() for words in result["left_out"])
    pytest.importorskip("matplotlib", reason="the plots need the extra `bench`")
    from bench import report

    docs = tmp_path / "docs"
    docs.mkdir()
    shutil.copy(report.DOCS / "scaling.md", docs)
    report.write(tmp_path, docs)
    page = (docs / "performance.md").read_text()
    assert page.count("On little data") == len(PARTS)
    assert "Not measured" not in page + (docs / "scaling.md").read_text()
    assert {path.name for path in docs.glob("images/*.png")} == {
        f"bench-{name}.png" for name in ("decode-many", "large", "latency", "memory")
    }


def test_the_pages_say_what_the_results_say() -> None:
    """Nobody has changed by hand what `make bench` writes."""
    from bench import report

    for name, text in report.pages(RESULTS).items():
        assert (report.DOCS / name).read_text("utf-8") == text, f"{name}: python -m bench --report"
