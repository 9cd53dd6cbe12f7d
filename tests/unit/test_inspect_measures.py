"""`inspect --measures`: a file of measures tried on log files, before anything is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdn77_exporter.__main__ import main
from tests.support.files import log_file
from tests.unit.test_measures_file import EXAMPLE, lines_of

NOW = "2023-11-15T00:00:00Z"


@pytest.fixture
def log(tmp_path: Path) -> str:
    """A log file with 400 events."""
    path = tmp_path / "log.ndjson.gz"
    path.write_bytes(log_file(lines_of(400)))
    return str(path)


def test_each_measure_is_shown_with_its_label_sets_and_largest_values(
    log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the usual summary there is a part for each metric of the file."""
    assert main(["inspect", "--measures", str(EXAMPLE), "--now", NOW, "--top", "2", log]) == 0
    shown = capsys.readouterr().out
    assert "cdn77_bytes_by_asn_total (counter): 24 label sets; 24 series" in shown
    assert "cdn77_requests_by_protocol_total (counter): 12 label sets; 12 series" in shown
    assert "cdn77_bytes_by_content_type_total (counter): 3 label sets; 3 series" in shown
    assert "cdn77_cache_age_seconds (histogram): 3 label sets; 27 series" in shown
    assert "cdn77_active_viewers_by_asn (gauge): 24 label sets; 24 series" in shown
    assert "400 events" in shown


def test_values_and_shares_are_those_of_the_lines(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Totals as JSON equal an independent count, and the limit's share of `other` that of the quiet ones."""
    assert main(["inspect", "--measures", str(EXAMPLE), "--now", NOW, "--json", log]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["measures"]}
    lines = lines_of(400)
    assert found["cdn77_bytes_by_asn_total"]["total"] == sum(line["responseBytes"] for line in lines)
    complete = sum(line["responseBytes"] for line in lines if line["clientRequestCompleted"])
    assert found["cdn77_bytes_by_content_type_total"]["total"] == complete
    assert found["cdn77_cache_age_seconds"]["total"] == sum(line["cacheAge"] > 0 for line in lines)
    viewers = {(line["clientRequestPath"], line["clientIP"], line["clientASN"]) for line in lines}
    assert found["cdn77_active_viewers_by_asn"]["total"] == len(viewers)
    assert found["cdn77_active_viewers_by_asn"]["other_share"] == 0


def test_a_limit_and_personal_labels(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The share that a limit turns into `other` is told, and no client's address is shown."""
    path = tmp_path / "measures.toml"
    path.write_text(
        '[[counter]]\nname = "cdn77_x_total"\nhelp = "X."\nlabels = { client = "clientIP" }\nlimit = 30\n', "utf-8"
    )
    assert main(["inspect", "--measures", str(path), "--now", NOW, log]) == 0
    shown = capsys.readouterr().out
    assert "40 label sets, the busiest 30 with their names, 25.0 % as other; 31 series" in shown
    assert "198.51.100" not in shown
    assert "***" in shown


def test_faults_of_the_file_are_told_and_nothing_is_read(
    log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All faults with their lines, and exit code 2."""
    path = tmp_path / "measures.toml"
    path.write_text('[[counter]]\nname = "x"\nlimit = 0\n', "utf-8")
    assert main(["inspect", "--measures", str(path), log]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"{path}: ").partition(":")[0] for line in lines] == ["line 1", "line 2", "line 3"]
    assert main(["inspect", "--measures", str(tmp_path / "none.toml"), log]) == 2
    assert "cannot be read" in capsys.readouterr().err
