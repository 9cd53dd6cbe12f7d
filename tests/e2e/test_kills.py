"""The real process is killed (SIGKILL) at every step and at random instants: in the end every counter is the truth."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.killing import PLAN, POINTS, campaign
from tests.e2e.scene import Bucket, open_scene
from tests.support.prometheus import Prometheus
from tests.support.victoria_metrics import VictoriaMetrics

_KILLS = int(os.environ.get("KILLS", "12"))  # of each run; hundreds in `make soak`

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(120 + 10 * _KILLS)]


@pytest.mark.guarantee(
    "crash.while_reading",
    "crash.before_push",
    "crash.during_push",
    "crash.before_mark",
    "crash.before_deletion",
    "crash.during_deletion",
)
@pytest.mark.parametrize(
    "receiver",
    [Prometheus, partial(Prometheus, out_of_order="2h"), VictoriaMetrics],
    ids=["in order only", "out of order too", "VictoriaMetrics"],
)
def test_no_kill_changes_a_number(tmp_path: Path, bucket: Bucket, receiver: Callable[[Path], Prometheus]) -> None:
    """Killed at each step of commit, push, mark and delete, and in between, the daemon neither loses nor doubles."""
    with receiver(tmp_path / "receiver") as server, campaign(tmp_path, bucket, server, seed=_KILLS) as found:
        found.scene.exporter.kill()
        found.run(_KILLS)
        found.finish()
        assert {point.name for point in POINTS} <= set(found.kills)
        speaks_2 = not isinstance(server, VictoriaMetrics) and server.is_left_open
        told = found.scene.exporter.messages("remote_write_version")
        assert {message["version"] for message in told} == {2 if speaks_2 else 1}


@pytest.mark.guarantee("copies.damaged")
def test_a_torn_state_is_refused_with_a_way_out(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """A damaged state file ends the start with exit code 1 and a sentence with a way out, which works."""
    scene = open_scene(tmp_path, bucket, prometheus)
    state = tmp_path / "exporter" / "state.db"
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("poll_finished")
        with scene.writing(PLAN) as writer:
            exporter.wait_for("batch_pushed", count=2)
            assert exporter.stop() == 0
            sound = state.read_bytes()
            for torn in (sound[: len(sound) * 2 // 3], b"garbage" * 999, b""):
                state.write_bytes(torn)
                since, before = len(exporter.lines), set(bucket.keys())
                exporter.start()
                assert exporter.wait() == 1
                (said,) = exporter.messages("service_crashed", since)
                assert said["stage"] == "state"
                assert "state.db" in said["error"]
                assert "move it away" in said["error"]
                assert "restore it from a backup" in said["error"]
                assert not exporter.messages("batch_pushed", since)
                assert before <= set(bucket.keys())
            state.write_bytes(sound)
        exporter.start()
        scene.settle()
        scene.check_complete(scene.truth(writer.traffic))
        assert exporter.stop() == 0
