"""The daemon with its decoding in worker processes or on a cluster: whatever dies, the numbers are the true ones."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tests.e2e.scene import SECRET_KEY, Bucket, open_scene, usual_plan
from tests.support.cluster import local_cluster
from tests.support.prometheus import Prometheus

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(240)]

PLAN = usual_plan(20)


def descendants(pid: int, *words: str) -> list[int]:
    """Processes below one whose command line has these words."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        line = " ".join(child.cmdline())
        if all(word in line for word in words):
            found.append(child.pid)
    return found


def test_worker_processes_that_are_killed_cost_nothing(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """Workers are killed again and again while traffic comes in; they are replaced, and all numbers are true."""
    scene = open_scene(tmp_path, bucket, prometheus, DECODE_WORKERS="2")
    exporter = scene.exporter
    with exporter, scene.writing(PLAN) as writer:
        exporter.start()
        exporter.wait_for("file_counted", count=3)
        for _ in range(4):
            since = len(exporter.lines)
            exporter.wait_until(lambda: descendants(exporter.pid, "spawn_main"), 20, "a worker")
            os.kill(descendants(exporter.pid, "spawn_main")[0], signal.SIGKILL)
            exporter.wait_for("worker_replaced", since=since)
        writer.finish()
        scene.settle()
        own = exporter.own_metrics()
        assert own["cdn77_exporter_workers_replaced_total"] >= 4
        late = [own[f"cdn77_exporter_event_loop_lag_{name}_seconds"] for name in ("max", "p99")]
        assert late[0] >= late[1] > 0  # it is measured
        workers = descendants(exporter.pid, "spawn_main")
        assert exporter.stop() == 0
        assert not any(psutil.pid_exists(pid) for pid in workers)
        scene.check_complete(scene.truth(writer.traffic))
        assert not exporter.noise


def test_a_cluster_that_loses_a_worker_and_its_scheduler_costs_nothing(
    tmp_path: Path, bucket: Bucket, prometheus: Prometheus
) -> None:
    """Workers fetch and decode; one is killed, then the scheduler is away for a while; all numbers are true.

    Before that, the scheduler accepts the connection and is silent: the daemon is not ready until it answers. The
    credentials are in the workers' environment alone: neither log has the secret, and the daemon fetches nothing.
    """
    environ = {name: value for name, value in bucket.settings.items() if name != "S3_PREFIX"}
    folder = tmp_path / "cluster"
    folder.mkdir()
    with local_cluster(folder, workers=2, environ=environ) as cluster:
        scene = open_scene(tmp_path, bucket, prometheus, DASK_SCHEDULER=cluster.address)
        exporter = scene.exporter
        with exporter, scene.writing(PLAN) as writer:
            cluster.wait_for_scheduler()
            with cluster.frozen_scheduler():
                exporter.start()
                (first, *_) = exporter.wait_for("decoders_unavailable", seconds=60)
                assert "cannot be reached" in first["error"]
                exporter.wait_until(lambda: exporter.get("/readyz")[0] == 503, 20, "not ready while nothing decodes")
            exporter.wait_for("file_counted", seconds=60, count=5)
            nanny = cluster.processes[0].pid
            os.kill(descendants(nanny, "spawn_main")[-1], signal.SIGKILL)
            since = len(exporter.lines)
            exporter.wait_for("file_counted", seconds=60, since=since, count=5)
            cluster.stop_scheduler()
            exporter.wait_for("decoders_unavailable", seconds=60)
            exporter.wait_until(lambda: exporter.get("/readyz")[0] == 503, 20, "not ready while nothing decodes")
            cluster.start_scheduler()
            cluster.start_workers(2)
            since = len(exporter.lines)
            exporter.wait_for("file_counted", seconds=90, since=since, count=5)
            writer.finish()
            scene.settle(120)
            assert exporter.get("/readyz")[0] == 200
            assert exporter.stop() == 0
            scene.check_complete(scene.truth(writer.traffic))
            assert {line["fetch_seconds"] for line in exporter.messages("file_counted")} == {0}
            said = b"".join(repr(line).encode() for line in exporter.lines)
            assert SECRET_KEY.encode() not in said + (folder / "cluster.log").read_bytes()
            assert not exporter.noise


def test_a_stop_does_not_wait_for_a_scheduler_that_says_nothing(
    tmp_path: Path, bucket: Bucket, prometheus: Prometheus
) -> None:
    """While the connection is being made a stop ends the process; its files wait, and count in the next one."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        scene = open_scene(tmp_path, bucket, prometheus, DRAIN_SECONDS="1")
        exporter = scene.exporter
        with exporter, scene.writing(PLAN) as writer:
            exporter.start(DASK_SCHEDULER=address)
            peer, _ = silent.accept()
            with peer:
                assert exporter.stop() == 0
            (stopped,) = exporter.messages("service_stopped")
            assert not stopped["drained"]
            assert not exporter.messages("file_counted")
            exporter.start()
            exporter.wait_for("file_counted", count=5)
            writer.finish()
            scene.settle()
            assert exporter.stop() == 0
            scene.check_complete(scene.truth(writer.traffic))
            assert not exporter.noise
            assert "Traceback" not in exporter.stderr()
