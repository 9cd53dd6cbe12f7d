"""`quarantine` beside a real exporter: what was set aside is listed with its reason, and counts once when released."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.scene import PREFIX, Bucket, open_scene
from tests.support.command import Ended, run_here
from tests.support.exporter_process import wait_until
from tests.support.files import event, gzip_bytes, ndjson
from tests.support.prometheus import Prometheus

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(120)]

_EVENTS = 7


def key_at(age_hours: float, name: str) -> str:
    """A log file's key in the folder of an hour."""
    at = datetime.fromtimestamp(time.time() - age_hours * 3600, UTC)
    return f"{PREFIX}/{at:%Y%m%d/%H}/rtl.{name}+1+1.ndjson.gz"


def quarantine(bucket: Bucket, *words: str, **environ: str) -> Ended:
    """The command, for which the receiver need not be known."""
    settings = {
        **bucket.settings,
        "QUARANTINE_PREFIX": "aside",
        "STATE_PATH": "off",
        **environ,
    }
    return run_here("quarantine", *words, environ=settings)


def test_a_file_is_moved_listed_released_and_counted_once(
    tmp_path: Path, bucket: Bucket, prometheus: Prometheus
) -> None:
    """A file that one setting made unreadable counts, whole and once, when it is released under another setting."""
    body = gzip_bytes(ndjson(event(int(time.time() * 1000) - 5000 + number) for number in range(_EVENTS)) + b"bad\n")
    scene = open_scene(tmp_path, bucket, prometheus, QUARANTINE_PREFIX="aside", MAX_BAD_LINES="0")
    here, older = key_at(0, "a"), key_at(50, "b")
    bucket.put(here, body)
    with scene.exporter as exporter:
        exporter.start()
        (moved,) = exporter.wait_for("file_quarantined")
        assert (moved["key"], moved["target"]) == (here, f"aside/{here}")
        assert bucket.keys() == [f"aside/{here}", f"aside/{here}.reason.json"]
        bucket.put(f"aside/{older}", body)  # of days ago, and without a reason

        listed = quarantine(bucket, "list", "--json")
        assert listed.code == 0, listed
        files = {one["key"]: (one["reason"], one["size"]) for one in listed.json["files"]}
        assert files == {here: ("too_many_bad_lines", len(body)), older: ("unknown", len(body))}
        assert here in quarantine(bucket, "list").out

        exporter.kill()
        exporter.start(MAX_BAD_LINES="10")
        unknown = quarantine(bucket, "release", "nothing")
        assert (unknown.code, "nothing: no such file" in unknown.err) == (1, True)
        released = quarantine(bucket, "release", "--all", "--json")
        assert released.code == 0, released
        targets = {one["key"]: one["to"] for one in released.json["released"]}
        assert targets[here] == here
        assert targets[older].startswith(PREFIX)
        assert targets[older] != older  # its own folder is listed no more
        scene.settle()
        assert sum(prometheus.last("cdn77_requests_total").values()) == 2 * _EVENTS
        assert exporter.stop() == 0
    assert bucket.keys() == []
    assert quarantine(bucket, "list").out == "No file is set aside.\n"


def test_a_file_left_in_its_place_is_listed_from_the_state_and_released(
    tmp_path: Path, bucket: Bucket, prometheus: Prometheus
) -> None:
    """Without a prefix the file stays; the state knows it once the exporter has ended; a release lets it be tried."""
    key = key_at(0, "c")
    body = gzip_bytes(ndjson(event(int(time.time() * 1000) - 5000 + number) for number in range(_EVENTS)) + b"bad\n")
    bucket.put(key, body)
    scene = open_scene(tmp_path, bucket, prometheus, MAX_BAD_LINES="0", STATE_PATH=str(tmp_path / "state.db"))
    place = {"QUARANTINE_PREFIX": "", "STATE_PATH": str(tmp_path / "state.db")}
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("file_set_aside")
        running = quarantine(bucket, "list", **place)
        assert (running.code, "A running exporter holds the state" in running.err) == (0, True)
        assert exporter.stop() == 0
        listed = quarantine(bucket, "list", "--json", **place).json["files"]
        assert [(one["key"], one["at"], one["reason"]) for one in listed] == [(key, key, "too_many_bad_lines")]
        written = time.time()
        wait_until(lambda: time.time() > written + 1.1, 5, "a later second, since an S3 server may know no less")
        assert quarantine(bucket, "release", key, **place).code == 0
        exporter.start(MAX_BAD_LINES="10")
        exporter.wait_for("file_released")
        (counted,) = exporter.wait_for("file_counted")
        assert (counted["key"], counted["events"]) == (key, _EVENTS)
        assert exporter.stop() == 0
