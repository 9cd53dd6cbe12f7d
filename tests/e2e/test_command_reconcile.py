"""`reconcile` against a real exporter and a real Prometheus: equal to the unit, and every difference by its name."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.scene import Bucket, Scene, open_scene, usual_plan
from tests.support.command import Ended, run_here
from tests.support.files import event, log_file
from tests.support.prometheus import Prometheus
from tests.support.truth import Truth

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(120)]

_SECONDS = 8
PLAN = usual_plan(_SECONDS, lines_per_second=150, late=((1, 1, 4.0),))


def instant(at_ms: float) -> str:
    """An instant as the command takes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def reconcile(scene: Scene, begin_ms: float, end_ms: float, *words: str, **environ: str) -> Ended:
    """The command over a span, with the exporter's own configuration."""
    settings = {
        **scene.bucket.settings,
        "PROMETHEUS_URL": scene.prometheus.write_url,
        "TICK_SECONDS": "1",
        "KEEP_FILES": "true",
        **environ,
    }
    span = ("--from", instant(begin_ms), "--to", instant(end_ms), "--slack", "60s")
    return run_here("reconcile", *span, *words, environ=settings)


def wait_until_counted(scene: Scene, truth: Truth) -> None:
    """Wait until Prometheus has every request."""
    whole = sum(truth.counters()["cdn77_requests_total"].values())
    scene.exporter.wait_until(
        lambda: sum(scene.prometheus.last("cdn77_requests_total").values()) >= whole, 40, "every request counted"
    )


def test_the_files_of_a_span_are_what_prometheus_holds(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """With files kept in the bucket, the whole and any part are equal to the unit, late files and restarts included.

    What one file more or less makes is named: the stream, the requests and the bytes.
    """
    scene = open_scene(tmp_path, bucket, prometheus, KEEP_FILES="true")
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("poll_finished")
        with scene.writing(PLAN) as writer:
            writer.until(_SECONDS / 2)
            exporter.kill()
            exporter.start()
            writer.until(_SECONDS)
        truth = scene.truth(writer.traffic)
        wait_until_counted(scene, truth)
        assert exporter.stop() == 0
    end_ms = time.time() * 1000
    begin_ms = truth.first_ms - 2000

    whole = reconcile(scene, begin_ms, end_ms, "--json")
    assert whole.code == 0, whole
    found = whole.json
    assert found["equal"]
    assert found["files"] == len(writer.uploads)
    counters = {name: values for name, values in truth.counters().items() if "viewers" not in name}
    for stream, quantities in found["streams"].items():
        assert quantities.keys() <= counters.keys()
        for name, values in counters.items():
            expected = sum(value for key, value in values.items() if dict(key)["stream_name"] == stream)
            row = quantities.get(name, {"files": 0, "receiver": 0})
            assert row["files"] == row["receiver"] == pytest.approx(expected, abs=1e-6), name
    requests = counters["cdn77_requests_total"]
    assert len(found["streams"]) == len({dict(key)["stream_name"] for key in requests})

    middle_ms = (truth.first_ms + truth.last_ms) / 2
    for part in ((begin_ms, middle_ms), (middle_ms - 1500, middle_ms + 1500)):
        ended = reconcile(scene, *part, "--json")
        assert ended.code == 0, (part, ended)
        assert ended.json["streams"]

    _check_differences(scene, tmp_path / "files", begin_ms, end_ms, writer.uploads)


def _check_differences(scene: Scene, folder: Path, begin_ms: float, end_ms: float, uploads: list) -> None:  # type: ignore[type-arg]
    for upload in uploads:
        path = folder / upload.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(upload.body)
    query = scene.prometheus.address
    local = ("--files", str(folder), "--query-url", query)
    plain = {"S3_ENDPOINT": "", "S3_BUCKET": "", "PROMETHEUS_URL": "", "KEEP_FILES": ""}
    assert reconcile(scene, begin_ms, end_ms, *local, **plain).code == 0

    stream = "0123456789abcdef" * 2
    more = [
        event(int(begin_ms) + 3000 + number, clientRequestPath=f"/{stream}/x", responseBytes=7) for number in range(5)
    ]
    (path.parent / "rtl.x+9+1.ndjson.gz").write_bytes(log_file(more))
    missing = reconcile(scene, begin_ms, end_ms, *local, "--json", **plain)
    assert missing.code == 1
    wrong = {
        name: {quantity: row["difference"] for quantity, row in rows.items() if row["difference"]}
        for name, rows in missing.json["streams"].items()
    }
    assert {name: rows for name, rows in wrong.items() if rows} == {
        stream: {
            "cdn77_requests_total": -5,
            "cdn77_responses_total": -5,
            "cdn77_transfer_bytes_total": -35,
            "cdn77_time_to_first_byte_seconds_count": -5,
            "cdn77_time_to_first_byte_seconds_sum": -0.66,
        }
    }
    text = reconcile(scene, begin_ms, end_ms, *local, **plain)
    assert text.code == 1
    assert stream in text.out
    assert "1 of " in text.out
    only = reconcile(scene, begin_ms, end_ms, *local, "--json", "--metric", "cdn77_requests_by_track_total", **plain)
    assert (only.code, only.json["equal"]) == (0, True)
    assert {name for rows in only.json["streams"].values() for name in rows} == {"cdn77_requests_by_track_total"}
    refused = reconcile(scene, begin_ms, end_ms, *local, "--metric", "cdn77_watch_seconds_total", **plain)
    assert refused.code == 2
    assert "cdn77_watch_seconds_total cannot be compared" in refused.err

    (path.parent / "rtl.x+9+1.ndjson.gz").write_bytes(b"broken")
    broken = reconcile(scene, begin_ms, end_ms, *local, "--json", **plain)
    assert (broken.code, broken.json["equal"]) == (1, True)
    assert [one["reason"] for one in broken.json["unreadable"]] == ["not_gzip"]
