"""Two processes on one bucket: one works, the other waits and takes over, and nothing is lost or counted twice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.killing import PLAN, STATE_POINTS, campaign
from tests.e2e.scene import Bucket, open_scene
from tests.support.exporter_process import Exporter
from tests.support.prometheus import Prometheus

_KILLS = int(os.environ.get("KILLS", "8"))

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(180 + 10 * _KILLS)]


def check_waiting(exporter: Exporter) -> None:
    """It stands by: it says so, is alive, is not ready, and has touched no log file."""
    exporter.wait_for("standby_waiting")
    status, body = exporter.get("/readyz")
    problems = {problem["what"]: problem["words"] for problem in json.loads(body)["problems"]}
    assert status == 503
    assert "takes over" in problems["standby"]
    assert exporter.get("/healthz")[0] == 200
    assert not exporter.messages("poll_finished")


def check_working(exporter: Exporter, since: int = 0) -> None:
    """It has taken over and is ready."""
    exporter.wait_for("batch_pushed", seconds=60, since=since)
    exporter.wait_until(lambda: exporter.get("/readyz")[0] == 200, 20, "readiness")


@pytest.mark.guarantee("copies.two_writers")
def test_a_stand_by_on_another_machine_takes_over(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """With the state in the bucket a stand-by goes on exactly when the first freezes; thawed, that one ends itself."""
    scenes = [
        open_scene(tmp_path / place, bucket, prometheus, STATE_PATH=f"s3://{bucket.name}/exporter-state")
        for place in ("here", "there", "elsewhere")
    ]
    first, second, third = (scene.exporter for scene in scenes)
    with first, second, third:
        first.start()
        first.wait_for("poll_finished")
        with scenes[0].writing(PLAN) as writer:
            first.wait_for("batch_pushed", count=2)
            second.start()
            check_waiting(second)
            os.kill(first.pid, signal.SIGSTOP)
            check_working(second)
            os.kill(first.pid, signal.SIGCONT)
            assert first.wait() == 1
            third.start()
            check_waiting(third)
            assert second.stop() == 0
            check_working(third)
        scenes[2].settle()
        scenes[2].check_numbers(scenes[2].truth(writer.traffic))  # the thawed one may have been refused
        assert third.stop() == 0


def test_one_state_file_has_one_user(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """Of two processes with one state file the second waits for its lock, and goes on with the same numbers."""
    state = str(tmp_path / "shared.db")
    scene = open_scene(tmp_path / "here", bucket, prometheus, STATE_PATH=state)
    second = open_scene(tmp_path / "there", bucket, prometheus, STATE_PATH=state).exporter
    with scene.exporter as first, second:
        first.start()
        first.wait_for("poll_finished")
        with scene.writing(PLAN) as writer:
            first.wait_for("batch_pushed", count=2)
            second.start()
            check_waiting(second)
            assert first.stop() == 0
            check_working(second)
        scene.exporter = second
        scene.settle()
        scene.check_complete(scene.truth(writer.traffic))
        assert second.stop() == 0


def test_one_bucket_has_one_reader(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """Of two processes with states of their own the second waits for the bucket's lease and counts nothing twice."""
    scenes = [open_scene(tmp_path / place, bucket, prometheus) for place in ("here", "there")]
    first, second = (scene.exporter for scene in scenes)
    with first, second:
        first.start()
        first.wait_for("poll_finished")
        with scenes[0].writing(PLAN) as writer:
            first.wait_for("batch_pushed", count=2)
            second.start()
            check_waiting(second)
        scenes[0].settle()
        scenes[0].check_complete(scenes[0].truth(writer.traffic))
        check_waiting(second)
        assert first.stop() == 0
        second.wait_for("lease_taken")
        second.wait_until(lambda: second.get("/readyz")[0] == 200, 20, "readiness")
        assert second.stop() == 0


def test_a_container_without_a_volume_is_exact(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """With the state in the bucket kills at every step, the writing of a commit among them, change no number."""
    state = f"s3://{bucket.name}/exporter-state"
    with campaign(tmp_path, bucket, prometheus, seed=5, STATE_PATH=state) as found:
        found.scene.exporter.kill()
        found.run(_KILLS, STATE_POINTS)
        found.finish()
        assert {point.name for point in STATE_POINTS} <= set(found.kills)
        assert not list((tmp_path / "exporter").glob("*.db*"))
