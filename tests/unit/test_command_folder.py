"""Local log files: which are found, and at what time each is taken to have been uploaded."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cdn77_exporter.commands.log_folder import decode_path, log_paths
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.files import MAX_AGE_MS
from tests.support.files import event, log_file

HOUR_MS = int(datetime(2026, 1, 10, 14, tzinfo=UTC).timestamp() * 1000)
NOW_MS = HOUR_MS + 90 * 24 * 3_600_000
_MINUTE_MS = 60_000


def written(path: Path, *times_ms: int, modified_ms: int = NOW_MS) -> Path:
    """A log file with an event at each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log_file([event(at) for at in times_ms]))
    os.utime(path, (modified_ms / 1000, modified_ms / 1000))
    return path


def test_files_are_found_below_the_folder(tmp_path: Path) -> None:
    """Every *.gz in any folder, in the order of the names; nothing else."""
    for name in ("b/2.gz", "a/1.gz", "0.gz", "a/notes.txt"):
        written(tmp_path / name, HOUR_MS)
    assert log_paths(str(tmp_path)) == [tmp_path / name for name in ("0.gz", "a/1.gz", "b/2.gz")]


@pytest.mark.parametrize("name", ["nothing", "file", "empty"])
def test_a_folder_without_files_is_said(tmp_path: Path, name: str) -> None:
    """A folder that is none, is a file, or holds no log file is a fault in one sentence."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"folder|holds no log file"):
        log_paths(str(tmp_path / name))


@pytest.mark.parametrize(
    ("modified_ms", "latest_ms"),
    [(HOUR_MS + 30 * _MINUTE_MS, HOUR_MS + 30 * _MINUTE_MS), (NOW_MS, HOUR_MS + 65 * _MINUTE_MS)],
    ids=["the file's own time", "the end of the hour"],
)
def test_an_event_ahead_counts_when_its_file_was_uploaded(tmp_path: Path, modified_ms: int, latest_ms: int) -> None:
    """In an hour folder the upload is the file's own time where that fits the hour, else the hour's end."""
    path = written(tmp_path / "20260110/14/x.gz", HOUR_MS + 1000, HOUR_MS + 86_400_000, modified_ms=modified_ms)
    stats, _ = decode_path(Decoder(), path, NOW_MS)
    assert (stats.events, stats.newest_ms) == (2, latest_ms)


def test_without_an_hour_folder_the_files_own_time_counts_if_it_can(tmp_path: Path) -> None:
    """A time between the events shows that the later ones were ahead; a later time shows nothing."""
    times = (HOUR_MS, HOUR_MS + 86_400_000)
    path = written(tmp_path / "x.gz", *times, modified_ms=HOUR_MS + _MINUTE_MS)
    assert decode_path(Decoder(), path, NOW_MS)[0].newest_ms == HOUR_MS + _MINUTE_MS
    path = written(tmp_path / "y.gz", *times)
    assert decode_path(Decoder(), path, NOW_MS)[0].newest_ms == HOUR_MS + 86_400_000


def test_the_seven_days_end_at_the_upload(tmp_path: Path) -> None:
    """However long ago a file was uploaded, what was more than seven days old then is rejected and the rest counts."""
    times = (HOUR_MS - MAX_AGE_MS - 2 * 3_600_000, HOUR_MS)
    for name in ("20260110/14/x.gz", "x.gz"):
        stats, _ = decode_path(Decoder(), written(tmp_path / name, *times), NOW_MS)
        assert (stats.events, stats.rejects) == (1, {"too_old": 1}), name


def test_a_folder_that_is_no_hour_is_taken_for_none(tmp_path: Path) -> None:
    """Digits that are no date do not stop anything."""
    stats, _ = decode_path(Decoder(), written(tmp_path / "20261399/77/x.gz", HOUR_MS), NOW_MS)
    assert (stats.events, stats.newest_ms) == (1, HOUR_MS)
