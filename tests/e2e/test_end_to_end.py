"""What goes into the bucket comes out of a real Prometheus, to the byte: real process, environment and signals."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cdn77_exporter.demo.traffic import PLACES, Plan, Stream, stream_name, usual_streams
from tests.e2e.scene import ACCESS_KEY, SECRET_KEY, Bucket, Scene, differences, open_scene, usual_plan
from tests.support.geo_database import build_geoip, locate
from tests.support.prometheus import Prometheus

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(180)]

_SECONDS = 12
#: Three shards with overlapping files, a stream that ends, one that begins late, bad lines, and a file that is late.
PLAN = usual_plan(_SECONDS, late=((1, 1, 4.0),))


def check_manners(scene: Scene) -> None:
    """What it printed is JSON only, and holds neither secrets nor clients' addresses."""
    exporter = scene.exporter
    assert exporter.noise == []
    printed = repr(exporter.lines) + exporter.stderr()
    for secret in (SECRET_KEY, ACCESS_KEY):
        assert secret not in printed
    for place in PLACES:
        assert f"10.{place.number}." not in printed
        assert f"2001:db8:{place.number:x}:" not in printed


def test_everything_comes_out_as_it_went_in(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """Counters equal the truth to the unit, windows and increase() too; the bucket is empty, nothing was refused."""
    scene = open_scene(tmp_path, bucket, prometheus)
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("poll_finished")
        with scene.writing(PLAN) as writer:
            writer.until(_SECONDS)
        scene.settle()
        truth = scene.truth(writer.traffic)
        scene.check_complete(truth)
        counted = exporter.messages("file_counted")
        assert sum(line["events"] for line in counted) == writer.traffic.totals.events
        rejects = sum(sum(line["rejects"].values()) for line in counted)
        assert rejects == sum(writer.traffic.totals.rejects.values()) > 0
        assert sum(line["late"] for line in counted) > 0
        assert exporter.stop() == 0
    check_manners(scene)


@pytest.mark.parametrize("way", ["SIGTERM", "SIGKILL"])
def test_a_restart_in_the_middle_changes_nothing(
    tmp_path: Path, bucket: Bucket, prometheus: Prometheus, way: str
) -> None:
    """With its state the next process goes on as if there had been one, however the first one ended."""
    scene = open_scene(tmp_path, bucket, prometheus)
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("poll_finished")
        with scene.writing(PLAN) as writer:
            writer.until(_SECONDS / 2)
            exporter.wait_for("batch_pushed")
            if way == "SIGTERM":
                assert exporter.stop() == 0
            else:
                exporter.kill()
            writer.until(_SECONDS / 2 + 3)
            exporter.start()
            writer.until(_SECONDS)
        scene.settle()
        scene.check_complete(scene.truth(writer.traffic))
        assert exporter.stop() == 0
    check_manners(scene)


@pytest.mark.guarantee("receiver.away")
def test_the_receiver_may_be_away(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """While the receiver is down nothing is deleted that it has not got, and afterwards everything is there."""
    scene = open_scene(tmp_path, bucket, prometheus)
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("poll_finished")
        with scene.writing(PLAN) as writer:
            exporter.wait_for("batch_pushed")
            writer.until(3)
            scene.refused = prometheus.refused()
            prometheus.stop()
            exporter.wait_for("push_retried", count=4)
            before = set(bucket.keys())
            writer.until(9)
            assert before <= set(bucket.keys())
            prometheus.start()
            writer.until(_SECONDS)
        scene.settle()
        scene.check_complete(scene.truth(writer.traffic))
        assert exporter.stop() == 0


def test_without_state_a_clean_restart_loses_nothing(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """With STATE_PATH=off and a SIGTERM in between, the sums over both processes' counters are the truth."""
    scene = open_scene(tmp_path, bucket, prometheus, STATE_PATH="off")
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("poll_finished")
        with scene.writing(PLAN) as writer:
            writer.until(_SECONDS / 2)
            exporter.wait_for("batch_pushed")
            assert exporter.stop() == 0
            exporter.start()
            writer.until(_SECONDS)
        scene.settle()
        expected = scene.truth(writer.traffic).counters()
        for name in ("cdn77_transfer_bytes_total", "cdn77_requests_total", "cdn77_responses_total"):
            found = {key: _grown(values) for key, values in prometheus.samples(name).items()}
            differences(name, found, expected[name])
        scene.check_nothing_refused()
        assert exporter.stop() == 0


def _grown(values: list[tuple[int, float]]) -> float:
    """How much a counter grew over its samples, from zero and over resets."""
    grown, before = 0.0, 0.0
    for _, value in values:
        grown += value - before if value >= before else value
        before = value
    return grown


def test_regions_come_from_the_geoip_database(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """With a database viewers are counted by its countries and regions, and the windows show them."""
    build_geoip(tmp_path / "city.mmdb")
    scene = open_scene(tmp_path, bucket, prometheus, locate=locate, GEOIP_DB_PATH=str(tmp_path / "city.mmdb"))
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("poll_finished")
        with scene.writing(PLAN) as writer:
            writer.until(8)
        scene.settle()
        truth = scene.truth(writer.traffic)
        assert len(truth.counters()["cdn77_viewers_by_region_total"]) > 10
        scene.check_complete(truth)
        assert exporter.stop() == 0
    check_manners(scene)


def test_an_hour_that_lies_ready_comes_out_tick_by_tick(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """A fresh bucket with an hour of three shards: every counter and gauge is the truth on every tick of that hour."""
    window = 600
    scene = open_scene(
        tmp_path, bucket, prometheus, BACKFILL_WINDOW="2h", TICK_SECONDS="15", SESSION_WINDOW_SECONDS=str(window)
    )
    streams = (*usual_streams(3600), Stream(stream_name(5, 5), 0.02, begins=600, ends=660))
    plan = Plan(lines_per_second=4, viewers=50, stay_seconds=400, overlap_seconds=0, streams=streams,
                session_window_seconds=window)  # fmt: skip
    traffic = scene.traffic(plan, start_ms=int((time.time() - 3620) * 1000))
    for upload in [*traffic.until(traffic.begin_ms + 3_600_000), *traffic.finish()]:
        bucket.put(upload.key, upload.body)
    assert len(bucket.keys()) > 300
    with scene.exporter as exporter:
        exporter.start()
        scene.settle(90)
        truth = scene.truth(traffic)
        scene.check_counters(truth)
        scene.check_every_tick(truth, 15, step=3)
        scene.check_increase(truth)
        scene.check_nothing_refused()
        assert exporter.stop() == 0
