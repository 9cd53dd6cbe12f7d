"""The benchmark runs from end to end on little data, says what it leaves out, and its page can be written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import PARTS

_ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.prometheus
def test_every_part_runs_and_all_ways_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part keeps a result; the ways to the same numbers agree, with an engine that lacks named as left out."""
    command = [sys.executable, "-m", "bench", "--smoke", "--results", str(tmp_path)]
    done = subprocess.run(command, check=False, cwd=_ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {part: json.loads((tmp_path / f"{part}.json").read_text()) for part in PARTS}
    assert all(result["smoke"] for result in results.values())
    decode = results["decode"]
    lacking = {words.partition(":")[0] for words in decode["left_out"]}
    assert {"inspect", "core", "pure", "plain", "duckdb", "polars", "chdb"} - lacking == set(
        decode["found"]["same_numbers"]
    )
    assert all(f"left out: {words}" in done.stdout for result in results.values() for words in result["left_out"])
    pytest.importorskip("matplotlib", reason="the plots need the extra `bench`")
    from bench import report

    monkeypatch.setattr(report, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(report, "IMAGES", tmp_path)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    report.write(tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert page.count("On little data") == len(PARTS)
    assert "Not measured" not in page
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"bench-{name}.png" for name in ("decode", "large", "latency", "memory")
    }
