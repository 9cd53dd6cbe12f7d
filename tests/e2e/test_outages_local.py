"""The machine itself misbehaves: its disk, clock, names and certificates; and files come back or change."""

from __future__ import annotations

import itertools
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme

from tests.e2e.killing import PLAN, campaign
from tests.e2e.scene import PREFIX, Bucket, Scene, open_scene
from tests.e2e.test_outages import problems, wait_for_problem, wait_until_ready
from tests.support.fault_proxy import fault_proxy_beside
from tests.support.files import event, log_file
from tests.support.prometheus import Prometheus
from tests.support.truth import Truth

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(200)]

_SOURCES = Path(__file__).parents[2] / "src"
#: Loaded by the interpreter before everything else: a wall clock that is off by what a file says.
_WRONG_CLOCK = """
import time
from pathlib import Path

def shifted(real=time.time, shift=Path(__file__).with_name("shift")):
    return real() + float(shift.read_text())

time.time = shifted
"""


def set_clock(shift: Path, seconds: int) -> None:
    """Let the processes that read `shift` be off by `seconds` from now on, and never half written."""
    fresh = shift.with_suffix(".new")
    fresh.write_text(str(seconds))
    fresh.replace(shift)


def fill_disk(pid: int) -> Callable[[], object]:
    """From now on files of the process cannot grow beyond a KiB, as on a disk without room; what makes room again."""
    process = psutil.Process(pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    assert isinstance(before, tuple)
    process.rlimit(psutil.RLIMIT_FSIZE, (1024, before[1]))
    return lambda: process.rlimit(psutil.RLIMIT_FSIZE, before)


def test_a_full_disk_holds_everything_and_loses_nothing(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """While the state cannot be written nothing is pushed or deleted; with room again the counters are the truth."""
    with campaign(tmp_path, bucket, prometheus, seed=6) as found:
        exporter = found.scene.exporter
        exporter.wait_for("files_deleted")
        make_room = fill_disk(exporter.pid)
        (first, *_) = exporter.wait_for("state_commit_failed")
        assert "free some space" in first["remedy"]
        wait_for_problem(exporter, "state", "free some space")
        since = len(exporter.lines)
        exporter.wait_for("state_commit_failed", since=since, count=2)
        assert not exporter.messages("batch_pushed", since)
        assert not exporter.messages("files_deleted", since)
        make_room()
        exporter.wait_until(lambda: "state" not in problems(exporter), 30, "a state that is written")
        found.writer.finish()
        found.scene.settle()
        wait_until_ready(exporter)
        assert found.early == []
        found.scene.check_complete(found.scene.truth(found.writer.traffic))
        assert exporter.stop() == 0


@pytest.mark.guarantee("crash.stop_cut_off")
def test_a_full_disk_does_not_hold_a_stop_up(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """A stop on a full disk ends within `DRAIN_SECONDS`, and the next process makes it good."""
    with campaign(tmp_path, bucket, prometheus, seed=7, DRAIN_SECONDS="2") as found:
        exporter = found.scene.exporter
        exporter.wait_for("files_deleted")
        fill_disk(exporter.pid)
        exporter.wait_for("state_commit_failed")
        assert exporter.stop() == 0
        assert exporter.messages("service_stopped")[-1]["drained"] is False
        exporter.start()
        found.writer.finish()
        found.scene.settle()
        found.scene.check_complete(found.scene.truth(found.writer.traffic))
        assert exporter.stop() == 0


@pytest.mark.guarantee("clocks.machine", "clocks.jumps")
def test_a_clock_that_jumps_moves_no_sample(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """An hour forward at the start, an hour back later: it is told, and samples and numbers stay those of true time."""
    off = tmp_path / "clock"
    off.mkdir()
    (off / "sitecustomize.py").write_text(_WRONG_CLOCK)
    shift = off / "shift"
    set_clock(shift, 3600)
    began_ms = time.time() * 1000
    with campaign(tmp_path, bucket, prometheus, seed=8, PYTHONPATH=f"{off}:{_SOURCES}") as found:
        exporter = found.scene.exporter
        wait_for_problem(exporter, "clock_doubtful", "NTP")
        exporter.wait_for("batch_pushed", 90, count=2)  # once the events have agreed with the bucket for a while
        set_clock(shift, -3600)
        exporter.wait_until(
            lambda: any(line["skew_seconds"] < 0 for line in exporter.messages("clock_skewed")), 20, "the other skew"
        )
        exporter.wait_for("batch_pushed", since=len(exporter.lines), count=2)
        set_clock(shift, 0)
        wait_until_ready(exporter)
        found.writer.finish()
        found.scene.settle()
        found.scene.check_complete(found.scene.truth(found.writer.traffic))
        values = itertools.chain.from_iterable(prometheus.samples("cdn77_requests_total").values())
        stamps = [stamp for stamp, _ in values]
        assert {round(line["skew_seconds"] / 60) for line in exporter.messages("clock_skewed")} == {60, -60}
        assert began_ms - 1000 <= min(stamps)
        assert max(stamps) <= time.time() * 1000 + 1000
        assert exporter.stop() == 0


@pytest.mark.guarantee("files.again", "files.grown", "files.changed")
def test_a_key_counts_once_whatever_is_put_there(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """The same content again counts nothing, a longer one its tail, and any other is set aside and told."""
    scene = open_scene(tmp_path, bucket, prometheus)
    now_ms = int(time.time() * 1000)
    hour = time.strftime("%Y%m%d/%H", time.gmtime(now_ms / 1000))
    key = f"{PREFIX}/{hour}/rtl.a+0+0.ndjson.gz"
    first, tail, other = ([event(now_ms, clientIP=f"192.0.2.{number}", responseBytes=number)] for number in range(1, 4))
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("poll_finished")
        bucket.put(key, log_file(first))
        exporter.wait_for("files_deleted")
        bucket.put(key, log_file(first))
        exporter.wait_for("files_deleted", count=2)
        bucket.put(key, log_file([*first, *tail]))
        exporter.wait_for("files_deleted", count=3)
        bucket.put(key, log_file(other))
        (aside,) = exporter.wait_for("file_set_aside")
        assert (aside["key"], aside["reason"]) == (key, "changed")
        scene.check_numbers(Truth([*first, *tail]))
        assert bucket.keys() == [key]
        assert exporter.stop() == 0


def test_names_that_do_not_resolve_are_told(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """An endpoint or receiver that DNS does not know is named in `/readyz`, and the process lives on and can stop."""
    scene = open_scene(tmp_path / "bucket", bucket, prometheus, S3_ENDPOINT="http://bucket.invalid:9000")
    with scene.exporter as exporter:
        exporter.start()
        wait_for_problem(exporter, "bucket", "S3_ENDPOINT", "DNS", seconds=60)
        assert exporter.stop() == 0
    scene = open_scene(tmp_path / "receiver", bucket, prometheus, PROMETHEUS_URL="http://receiver.invalid/api/v1/write")
    with scene.exporter as exporter:
        exporter.start()
        with scene.writing(PLAN):
            wait_for_problem(exporter, "receiver", "receiver.invalid", "cannot be resolved", seconds=60)
        assert bucket.keys(PREFIX)
        assert not exporter.messages("files_deleted")
        assert exporter.stop() == 0


@contextmanager
def tls_scene(
    folder: Path, bucket: Bucket, prometheus: Prometheus, authority: trustme.CA, **environ: Any
) -> Iterator[Scene]:
    """Bucket and receiver by TLS; the receiver wants a client certificate. They know only this authority."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(asking)
    authority.configure_trust(asking)
    asking.verify_mode = ssl.CERT_REQUIRED
    with (
        fault_proxy_beside(bucket.endpoint, server) as s3,
        fault_proxy_beside(prometheus.address, asking) as receiver,
    ):
        endpoints = {"S3_ENDPOINT": s3.endpoint, "PROMETHEUS_URL": f"{receiver.endpoint}/api/v1/write"}
        yield open_scene(folder, bucket, prometheus, **{**endpoints, **environ})


def test_only_right_certificates_are_accepted(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """An unknown authority, another name and a missing client certificate are told; with all of them right it works."""
    authority, stranger = trustme.CA(), trustme.CA()
    bundle, wrong, client, key = (str(tmp_path / name) for name in ("ca.pem", "wrong.pem", "client.pem", "client.key"))
    authority.cert_pem.write_to_path(bundle)
    stranger.cert_pem.write_to_path(wrong)
    own = authority.issue_cert("exporter.example.com")
    own.private_key_pem.write_to_path(key)
    own.cert_chain_pems[0].write_to_path(client)
    with tls_scene(tmp_path / "a", bucket, prometheus, authority, S3_CA_BUNDLE=wrong) as scene, scene.exporter as first:
        first.start()
        wait_for_problem(first, "bucket", "S3_CA_BUNDLE")
        assert first.stop() == 0
    by_name = {"S3_CA_BUNDLE": bundle, "PROMETHEUS_CA_BUNDLE": bundle}
    with tls_scene(tmp_path / "b", bucket, prometheus, authority, **by_name) as scene, scene.exporter as second:
        second.start()
        second.wait_for("poll_finished")
        with scene.writing(PLAN) as writer:
            wait_for_problem(second, "receiver", "PROMETHEUS_CLIENT_CERT")
            assert not second.messages("files_deleted")
            assert second.stop() == 0
            environ = {**by_name, "PROMETHEUS_CLIENT_CERT": client, "PROMETHEUS_CLIENT_KEY": key}
            second.start(**{name: environ[name] for name in ("PROMETHEUS_CLIENT_CERT", "PROMETHEUS_CLIENT_KEY")})
            second.wait_for("batch_pushed")
        scene.settle()
        scene.check_complete(scene.truth(writer.traffic))
        assert second.stop() == 0


def test_a_certificate_of_another_name_is_refused(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """A certificate of the right authority for another host does not pass: neither for the bucket nor the receiver."""
    authority = trustme.CA()
    bundle = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(bundle)
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example.com").configure_cert(other)
    with fault_proxy_beside(bucket.endpoint, other) as s3, fault_proxy_beside(prometheus.address, other) as receiver:
        scene = open_scene(tmp_path / "s3", bucket, prometheus, S3_ENDPOINT=s3.endpoint, S3_CA_BUNDLE=bundle)
        with scene.exporter as exporter:
            exporter.start()
            wait_for_problem(exporter, "bucket", "S3_CA_BUNDLE")
            assert exporter.stop() == 0
        url = f"{receiver.endpoint}/api/v1/write"
        scene = open_scene(tmp_path / "rw", bucket, prometheus, PROMETHEUS_URL=url, PROMETHEUS_CA_BUNDLE=bundle)
        with scene.exporter as exporter:
            exporter.start()
            with scene.writing(PLAN):
                wait_for_problem(exporter, "receiver", "PROMETHEUS_CA_BUNDLE")
            assert exporter.stop() == 0
        assert receiver.seen == []
        assert bucket.keys(PREFIX)
