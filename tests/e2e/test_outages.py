"""Everything around the daemon fails: it retries or says what to do, never hangs or dies, and ends with the truth."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from urllib.error import URLError

import pytest

from cdn77_exporter.telemetry.conditions import CONDITIONS, ConditionName
from tests.e2e.killing import Campaign, campaign
from tests.e2e.scene import PREFIX, Bucket
from tests.support.exporter_process import Exporter
from tests.support.fault_proxy import (
    Answers,
    Corrupts,
    Drips,
    Fault,
    Resets,
    Rewrites,
    Stalls,
    Truncates,
)
from tests.support.prometheus import Prometheus

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(200)]

_LIST, _FILE, _DELETE = "?list-type=2", f"/{PREFIX}/", "?delete"
_NOT_DELETED = (
    b'<?xml version="1.0" encoding="UTF-8"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Error><Key>%s</Key><Code>InternalError</Code><Message>words</Message></Error></DeleteResult>"
)

#: What happens to requests for the bucket, and then to those for the receiver.
BUCKET_FAULTS: tuple[Fault, ...] = (
    Stalls(on=_FILE, inside=True),
    Stalls(on=_LIST),
    Truncates(on=_FILE),
    Corrupts(on=_FILE),
    Drips(on=_FILE, pause=0.001),
    Answers(on=_FILE, status=500, code="InternalError"),
    Answers(on=_FILE, status=503, code="SlowDown", retry_after="1"),
    Answers(on=_FILE, status=429, code="TooManyRequests"),
    Answers(on=_FILE, status=429, code="TooManyRequests", retry_after="1"),
    Resets(on=_FILE),
    Resets(on=_FILE, after=True),
    Resets(on=_LIST),
    Truncates(on=_LIST),
    Answers(on=_LIST, status=503, code="SlowDown"),
    Answers(on=_LIST, status=403, code="ExpiredToken"),
    Answers(on=_DELETE, status=500, code="InternalError"),
    Resets(on=_DELETE),
    Resets(on=_DELETE, after=True),
    Answers(on=_DELETE, status=429, code="TooManyRequests", retry_after="1"),
)
RECEIVER_FAULTS: tuple[Fault, ...] = (
    Stalls(after=True),
    Answers(status=500, body=b"no space", content_type="text/plain"),
    Answers(status=503, retry_after="1"),
    Answers(status=429),
    Answers(status=429, retry_after="2"),
    Resets(),
    Resets(after=True),
    Answers(status=502, body=b"<html>bad gateway</html>", content_type="text/html"),
)


def problems(exporter: Exporter) -> dict[ConditionName, str]:
    """What `/readyz` says is wrong: the condition, and what is said of it."""
    try:
        status, body = exporter.get("/readyz")
    except URLError:
        return {"start": "it does not listen yet"}
    told = json.loads(body)
    found = {problem["what"]: f"{problem['words']}; {problem['remedy']}" for problem in told["problems"]}
    assert (status == 200) is told["ready"] is not any(not CONDITIONS[what].ready for what in found)
    return found


def wait_for_problem(exporter: Exporter, what: ConditionName, *words: str, seconds: float = 30) -> None:
    """Wait until `/readyz` names it, with these words in what it says to do."""
    exporter.wait_until(
        lambda: all(word in problems(exporter).get(what, "") for word in words), seconds, f"{what}: {words}"
    )


def wait_until_ready(exporter: Exporter, seconds: float = 60) -> None:
    """Wait until nothing is wrong but what the traffic itself has: bad lines, and files that are missing."""
    exporter.wait_until(lambda: all(CONDITIONS[what].ready for what in problems(exporter)), seconds, "readiness")


def end(found: Campaign) -> None:
    """The traffic ends, all is well again, and every number is the truth."""
    exporter, scene = found.scene.exporter, found.scene
    found.writer.finish()
    scene.settle(120)
    wait_until_ready(exporter)
    assert found.early == []
    truth = scene.truth(found.writer.traffic)
    scene.check_counters(truth)
    scene.check_last_windows(truth)
    assert not exporter.messages("service_crashed")
    assert exporter.stop() == 0


def test_a_storm_of_faults_changes_no_number(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """Each fault of the bucket and of the receiver is met, survived and told, and the counters are the truth."""
    # Metadata is not tried again, so that a fault that met it would not show as a retry.
    with campaign(tmp_path, bucket, prometheus, seed=1, SEND_METADATA="false") as found:
        exporter = found.scene.exporter
        exporter.wait_for("batch_pushed")
        for fault in RECEIVER_FAULTS:
            since = len(exporter.lines)
            found.receiver.inject(fault)
            exporter.wait_until(partial(found.receiver.met, fault), 45, str(fault))
            if fault is RECEIVER_FAULTS[0]:
                found.s3.inject(*BUCKET_FAULTS)  # the stalls of both at once, since they take longest
            exporter.wait_for("push_retried", 45, since)
            exporter.wait_for("batch_pushed", 45, since)
        exporter.wait_until(lambda: all(map(found.s3.met, BUCKET_FAULTS)), 60, "all faults were met")
        end(found)
        assert len(exporter.messages("push_retried")) >= len(RECEIVER_FAULTS)
        found.scene.check_increase(found.scene.truth(found.writer.traffic))


def test_a_failure_inside_a_success_and_a_refusal(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """A 200 that says that a file was not deleted is read; a 400 is counted and told with its words; both heal."""
    with campaign(tmp_path, bucket, prometheus, seed=2) as found:
        exporter = found.scene.exporter
        key = exporter.wait_for("file_counted")[0]["key"]
        found.s3.inject(Rewrites(on=_DELETE, body=_NOT_DELETED % key.encode()))
        exporter.wait_for("delete_failed")
        since = len(exporter.lines)
        exporter.wait_for("files_deleted", since=since)
        # A request, three of its series that are tried alone, and perhaps metadata.
        found.receiver.inject(*[Answers(status=400, body=b"out of order, it said", content_type="text/plain")] * 5)
        (refused,) = exporter.wait_for("request_refused")
        assert (refused["status"], refused["words"]) == (400, "out of order, it said")
        assert exporter.own_metrics()["cdn77_exporter_requests_refused_total"] == 1
        end(found)


def test_an_operator_is_told_what_to_do(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """401 of the receiver and an expired key of the bucket delete nothing, and log and `/readyz` say what to change."""
    with campaign(tmp_path, bucket, prometheus, seed=4) as found:
        exporter = found.scene.exporter
        exporter.wait_for("files_deleted")
        found.receiver.inject(Answers(status=401, body=b"who are you", content_type="text/plain"))
        exporter.wait_for("receiver_misconfigured")
        wait_for_problem(exporter, "receiver", "401 who are you", "PROMETHEUS_BEARER_TOKEN")
        (told,) = exporter.messages("receiver_misconfigured")
        assert "PROMETHEUS_USER" in told["remedy"]
        deleted, kept = found.s3.count(_DELETE), set(bucket.keys(PREFIX))
        found.s3.inject(*[Answers(on=_LIST, status=403, code="ExpiredToken")] * 50)
        wait_for_problem(exporter, "bucket", "ExpiredToken", "renew the credentials")
        assert "renew the credentials" in exporter.messages("poll_failed")[-1]["remedy"]
        found.s3.faults.clear()
        exporter.wait_until(lambda: "bucket" not in problems(exporter), 20, "the bucket is well again")
        assert "receiver" in problems(exporter)
        assert kept <= set(bucket.keys(PREFIX))
        assert found.s3.count(_DELETE) == deleted
        wait_until_ready(exporter)
        end(found)
        found.scene.check_nothing_refused()
