"""`check` against real servers: what works is said to work, what does not is named with what to do, nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cdn77_exporter.__main__ import main
from cdn77_exporter.commands.check import bucket as check_bucket
from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.edge.state import Database
from tests.e2e.scene import ACCESS_KEY, PREFIX, SECRET_KEY, Bucket, open_scene
from tests.support.fault_proxy import Answers, FaultProxy, Stalls, fault_proxy_beside
from tests.support.files import log_file, traffic
from tests.support.geo_database import write_city_database
from tests.support.prometheus import Prometheus
from tests.support.requests import request_body
from tests.support.victoria_metrics import VictoriaMetrics

Found = dict[str, dict[str, str]]


class Setting:
    """An installation as its variables describe it, and the command in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **environ: str) -> None:
        for name in list(os.environ):
            if name.startswith(("S3_", "PROMETHEUS_", "STATE_", "HTTP_")):
                monkeypatch.delenv(name)
        self._patch, self._capsys = monkeypatch, capsys
        self.set(**environ)

    def set(self, **environ: str) -> None:
        for name, text in environ.items():
            self._patch.setenv(name, text)

    def check(self) -> tuple[int, Found]:
        """The exit code, and the findings by what was checked."""
        code, answer = self.answer()
        return code, {one["check"]: one for one in answer["checks"]}

    def answer(self) -> tuple[int, Any]:
        code = main(["check", "--json", "--timeout", "3"])
        printed = self._capsys.readouterr()
        assert SECRET_KEY not in printed.out + printed.err
        return code, json.loads(printed.out)


@pytest.fixture
def setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, bucket: Bucket
) -> Setting:
    """A bucket, and a receiver that is not there."""
    return Setting(
        monkeypatch,
        capsys,
        S3_ENDPOINT=bucket.endpoint,
        S3_BUCKET=bucket.name,
        S3_PREFIX=PREFIX,
        S3_ACCESS_KEY=ACCESS_KEY,
        S3_SECRET_KEY=SECRET_KEY,
        PROMETHEUS_URL="http://127.0.0.1:9/api/v1/write",
        STATE_PATH=str(tmp_path / "state" / "state.db"),
        HTTP_ADDR="off",
    )


@pytest.fixture
def proxied(setting: Setting, bucket: Bucket) -> Iterator[FaultProxy]:
    """A proxy before the bucket, through which the command goes."""
    with fault_proxy_beside(bucket.endpoint) as proxy:
        setting.set(S3_ENDPOINT=proxy.endpoint)
        yield proxy


def put_log(bucket: Bucket, age_seconds: float = 0.0) -> str:
    """A log file in the folder of its hour; its key."""
    at = time.time() - age_seconds
    key = f"{PREFIX}/{datetime.fromtimestamp(at, UTC):%Y%m%d/%H}/rtl.x+1+1.ndjson.gz"
    bucket.put(key, log_file(traffic(50, start_ms=int((at - 60) * 1000))))
    return key


@pytest.mark.prometheus
@pytest.mark.slow
def test_everything_works_beside_a_running_exporter(tmp_path: Path, setting: Setting, bucket: Bucket) -> None:
    """Every check is right, the exporter that holds the state is not disturbed, and neither server keeps anything."""
    with Prometheus(tmp_path / "prometheus", out_of_order="2h") as prometheus:
        scene = open_scene(tmp_path, bucket, prometheus, KEEP_FILES="true", STATE_PATH=str(tmp_path / "state.db"))
        key = put_log(bucket)
        with scene.exporter as exporter:
            exporter.start()
            exporter.wait_for("file_counted")
            setting.set(
                PROMETHEUS_URL=prometheus.write_url,
                STATE_PATH=str(tmp_path / "state.db"),
                HTTP_ADDR=exporter.status_address.removeprefix("http://"),
                GEOIP_DB_PATH=str(write_city_database(tmp_path / "city.mmdb")),
            )
            exporter.wait_until(lambda: prometheus.last("cdn77_requests_total"), 20, "samples in Prometheus")
            code, found = setting.check()
            assert code == 0, found
            assert {one["status"] for one in found.values()} == {"ok"}, found
            assert "in use by a running exporter, complete up to" in found["state"]["found"]
            assert "the lease is held by state-" in found["other exporters"]["found"]
            assert "taken up to 2h late" in found["out-of-order samples"]["found"]
            assert "50 events" in found["bucket: read"]["found"]
            assert key in found["newest log file"]["found"]
            exporter.require_alive()
            assert exporter.stop() == 0
        assert bucket.keys() == [key]
        assert prometheus.query('count({__name__!~"cdn77_.*", __name__!=""})') == {}
        code, found = setting.check()
        assert (code, found["state"]["status"]) == (0, "ok")
        assert "writable, last tick" in found["state"]["found"]


def test_an_empty_bucket_and_no_receiver(setting: Setting, tmp_path: Path) -> None:
    """The rights can be told without a file; the receiver that is not there is the failure; nothing is made."""
    code, found = setting.check()
    assert code == 1
    for check in ("bucket: list", "bucket: read", "bucket: delete", "bucket: write", "clock", "state"):
        assert found[check]["status"] == "ok", check
    assert found["newest log file"]["status"] == "warning"
    assert found["receiver"]["status"] == "failed"
    assert "no connection" in found["receiver"]["found"]
    assert "fresh start" in found["state"]["found"]
    assert not (tmp_path / "state").exists()


def test_rights_that_are_missing_are_named(setting: Setting, proxied: FaultProxy, bucket: Bucket) -> None:
    """Without the right to delete the check fails, without that to write it warns, and no object is touched."""
    key = put_log(bucket)
    proxied.inject(
        Answers(on="DELETE", status=403, code="AccessDenied"), Answers(on="?uploads", status=403, code="AccessDenied")
    )
    code, found = setting.check()
    assert code == 1
    assert found["bucket: delete"]["status"] == "failed"
    assert "KEEP_FILES" in found["bucket: delete"]["remedy"]
    assert found["bucket: write"]["status"] == "warning"
    assert bucket.keys() == [key]


def test_a_bucket_that_cannot_be_listed_is_asked_no_more(setting: Setting, proxied: FaultProxy) -> None:
    """The one failure is told with its remedy, and what depends on it is left out."""
    proxied.inject(Answers(on="list-type", status=403, code="InvalidAccessKeyId"))
    code, found = setting.check()
    assert code == 1
    assert "S3_ACCESS_KEY" in found["bucket: list"]["remedy"]
    assert found["bucket: read"]["status"] == found["bucket: delete"]["status"] == "skipped"


def test_a_server_that_never_answers_is_given_up(setting: Setting, proxied: FaultProxy) -> None:
    """Every wait has its bound; the finding says how long it was."""
    proxied.inject(*(Stalls(on="list-type") for _ in range(9)))
    code, found = setting.check()
    assert code == 1
    assert found["bucket: list"]["status"] == "failed"


def test_a_wrong_prefix_is_told_with_the_right_one(setting: Setting, bucket: Bucket) -> None:
    """When there are hour folders elsewhere in the bucket, their folder is what to set."""
    put_log(bucket)
    setting.set(S3_PREFIX="logs/elsewhere")
    code, found = setting.check()
    assert code == 1
    assert f"`{PREFIX}`" in found["newest log file"]["remedy"]


def test_the_quarantine_is_not_taken_for_the_logs(setting: Setting, bucket: Bucket) -> None:
    """A bucket that is worked off has hour folders only where files were set aside, which is no fault."""
    put_log(bucket)
    setting.set(S3_PREFIX="logs", QUARANTINE_PREFIX=PREFIX)
    code, found = setting.check()
    assert found["newest log file"]["status"] == "warning"
    assert code == 1  # for the receiver that is not there
    assert found["receiver"]["status"] == "failed"


def test_an_old_file_a_wrong_clock_and_an_old_database(
    setting: Setting, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What goes on for too long is said: no new file, a clock that differs, a database that cannot be read."""
    put_log(bucket)
    ahead = SimpleNamespace(time=lambda: time.time() + 1200)
    monkeypatch.setattr(check_bucket, "time", ahead)
    (tmp_path / "city.mmdb").write_bytes(b"no database")
    setting.set(GEOIP_DB_PATH=str(tmp_path / "city.mmdb"))
    code, found = setting.check()
    assert code == 1
    assert found["clock"]["status"] == "failed"
    assert "1200 s ahead of" in found["clock"]["found"].replace("1199", "1200")
    assert found["newest log file"]["status"] == "warning"
    assert "20 min old" in found["newest log file"]["found"]
    assert found["GeoIP database"]["status"] == "failed"


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (Answers(status=401), "failed", "PROMETHEUS_BEARER_TOKEN"),
        (Answers(status=404), "failed", "--web.enable-remote-write-receiver"),
        (Answers(status=400, body=b"no samples", content_type="text/plain"), "warning", "request_refused"),
        (Answers(status=503), "failed", "is running"),
    ],
    ids=["401", "404", "400", "503"],
)
def test_what_the_receiver_answers_is_told_with_its_remedy(
    setting: Setting, bucket: Bucket, fault: Answers, status: str, words: str
) -> None:
    """A refusal for want of rights or of a receiver fails, one of an empty write is a warning."""
    with fault_proxy_beside(bucket.endpoint) as proxy:
        proxy.inject(fault)
        setting.set(PROMETHEUS_URL=f"{proxy.endpoint}/api/v1/write")
        _, found = setting.check()
    assert found["receiver"]["status"] == status
    assert words in found["receiver"]["remedy"]


def test_variables_at_fault_are_a_table_too(setting: Setting) -> None:
    """Exit code 2; every fault is a line, and nothing is contacted."""
    setting.set(POLL_INTERVAL="soon", S3_BUCKET="")
    code, answer = setting.answer()
    assert code == 2
    assert not answer["ok"]
    faults = [one["found"].split()[0] for one in answer["checks"] if one["check"] == "variables"]
    assert faults == ["S3_BUCKET", "POLL_INTERVAL"]
    assert {one["status"] for one in answer["checks"]} == {"failed", "skipped"}


def test_the_table_for_people_fits_a_small_terminal(
    setting: Setting, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line a check or more where it must, each within the width, with the verdict as the last."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(["check", "--timeout", "3"]) == 1
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1].endswith("checks failed.")
    assert any(line.strip().startswith("→") or " → " in line for line in lines)


def test_a_state_of_a_killed_exporter_and_one_that_is_none(setting: Setting, tmp_path: Path) -> None:
    """A whole state is writable; something else in its place is a warning that says who repairs it."""
    path = tmp_path / "state" / "state.db"
    Database(str(path)).close()
    _, found = setting.check()
    assert "writable, nothing written yet" in found["state"]["found"]
    path.write_bytes(b"not a database at all, but long enough to look like one")
    _, found = setting.check()
    assert found["state"]["status"] == "warning"


def test_a_state_in_the_bucket(setting: Setting, bucket: Bucket) -> None:
    """It is writable when uploads may be begun under its prefix; what lies there is counted, nothing is made."""
    setting.set(STATE_PATH=f"s3://{bucket.name}/exporter-state")
    _, found = setting.check()
    assert (found["state"]["status"], "a fresh start" in found["state"]["found"]) == ("ok", True)
    assert bucket.keys() == []
    bucket.put("exporter-state/snapshot-000000000001", b"x")
    _, found = setting.check()
    assert "writable, 1 objects, last written" in found["state"]["found"]


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"no gzip", "does not start with a gzip header"), (log_file([{"timestamp": 1}] * 9), "rejects: bad_timestamp 9")],
    ids=["unreadable", "rejects"],
)
def test_a_newest_file_that_cannot_be_counted_is_told(
    setting: Setting, bucket: Bucket, body: bytes, words: str
) -> None:
    """The right to read is there; what is wrong with the file is a warning that names it."""
    key = put_log(bucket)
    bucket.put(key, body)
    _, found = setting.check()
    assert found["bucket: read"]["status"] == "warning"
    assert words in found["bucket: read"]["found"]
    assert key in found["bucket: read"]["remedy"]


async def _write(url: str, body: bytes) -> None:
    async with RemoteWriter(url) as writer:
        await writer.write(body)


@pytest.mark.guarantee("receiver.short_window")
@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("window", "wanted", "status"),
    [("10m", "2h", "failed"), ("2h", "2h", "failed"), ("3h", "2h", "ok"), ("10m", "30m", "")],
)
def test_a_window_that_reaches_further_back_than_the_receiver(
    tmp_path: Path, setting: Setting, window: str, wanted: str, status: str
) -> None:
    """BACKFILL_WINDOW is tried with one old sample; a receiver that refuses it fails the check, with the remedy."""
    with Prometheus(tmp_path / "prometheus", out_of_order=window) as prometheus:
        now_ms = int(time.time() * 1000)
        asyncio.run(_write(prometheus.write_url, request_body(({"__name__": "other"}, [(now_ms, 1.0)]))))
        setting.set(PROMETHEUS_URL=prometheus.write_url, BACKFILL_WINDOW=wanted)
        for _ in range(2):
            code, found = setting.check()
            assert code == (status == "failed")
            assert found.get("BACKFILL_WINDOW", {"status": ""})["status"] == status
        if status == "failed":
            assert ("too old" if window == "10m" else "2h late at most") in found["BACKFILL_WINDOW"]["found"]
            assert "out_of_order_time_window" in found["BACKFILL_WINDOW"]["remedy"]


@pytest.mark.prometheus
@pytest.mark.slow
@pytest.mark.parametrize(
    ("receiver", "features", "status", "words"),
    [
        (Prometheus, "native-histograms", "ok", "accepted and kept"),
        (Prometheus, "", "failed", "refused (500: native histograms are disabled)"),
        (VictoriaMetrics, "", "failed", "accepted, but not kept"),
    ],
)
def test_whether_native_histograms_are_kept(
    tmp_path: Path, setting: Setting, receiver: type[Prometheus], features: str, status: str, words: str
) -> None:
    """With HISTOGRAMS=native one is written and looked for; a receiver without them fails, with the remedy."""
    with receiver(tmp_path / "receiver", features=features) as server:
        setting.set(PROMETHEUS_URL=server.write_url, HISTOGRAMS="native", EXTERNAL_LABELS="env=test")
        for _ in range(2):
            code, found = setting.check()
            assert found["native histograms"]["status"] == status
            assert words in found["native histograms"]["found"]
            assert found["receiver"]["status"] == "ok"
            assert code == (status == "failed")
        assert ("HISTOGRAMS to classic" in found["native histograms"]["remedy"]) == (status == "failed")
        setting.set(HISTOGRAMS="classic")
        code, found = setting.check()
        assert (code, found["native histograms"]["status"]) == (0, "ok")
        assert words in found["native histograms"]["found"]
        # That of Debian's VictoriaMetrics has no version in it.
        program = r"Prometheus \d+\.\d+\.\d+\S*" if receiver is Prometheus else r"VictoriaMetrics( \d+\S+)?"
        assert re.fullmatch(program, found["receiver's program"]["found"])
        samples = found["out-of-order samples"]["found"]
        assert samples.startswith("taken, as old as" if receiver is VictoriaMetrics else "off; ")


@pytest.mark.guarantee("receiver.proxy")
def test_a_proxy_is_shown_without_its_password(setting: Setting) -> None:
    """What goes through a proxy says so, and what does not go through at all, too."""
    setting.set(HTTP_PROXY="http://user:a-secret-word@127.0.0.1:9")
    code, found = setting.check()
    assert code == 1
    assert "http://***@127.0.0.1:9" in found["receiver"]["found"]
    assert "http://***@127.0.0.1:9" in found["bucket: list"]["found"]
    assert "NO_PROXY" in found["receiver"]["remedy"]
    assert "a-secret-word" not in str(found)
