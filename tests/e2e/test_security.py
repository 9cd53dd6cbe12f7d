"""Nothing secret or personal leaves the process, secrets can be changed while it runs, and nobody is let in."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import sqlite3
import urllib.request
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError

from tests.e2e.killing import PLAN, campaign
from tests.e2e.scene import ACCESS_KEY, PREFIX, SECRET_KEY, Bucket, open_scene
from tests.support.exporter_process import Exporter
from tests.support.fault_proxy import Answers, Fault, Resets
from tests.support.geo_database import build_geoip, locate
from tests.support.moto_server import moto_server
from tests.support.prometheus import Prometheus

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(150)]

_PASSWORD, _TENANT = "pass/word with%signs", "tenant-secret-4711"
_STRANGER, _STRANGER_V6 = "203.0.113.77", "2001:db8:77::42"
SECRETS = (ACCESS_KEY, SECRET_KEY, _PASSWORD, _TENANT)
_EVENTS = "/api/events"  # without an end
_HEADERS = ("Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy")


def forms(secret: str) -> set[str]:
    """The ways in which a secret can stand in a text."""
    login = base64.b64encode(f"exporter:{secret}".encode()).decode()
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1], login, encoded, secret.encode().hex()}


def texts_of(exporter: Exporter) -> dict[str, str]:
    """Everything that can be read of it from outside: its output, its answers, its command line."""
    paths = {"/", "/metrics", "/healthz", "/readyz", "/api/status", f"/x/{_STRANGER}?token={quote(_TENANT)}"}
    found: dict[str, str] = {}
    while left := paths - found.keys():
        for path in left:
            _, body = exporter.get(path)
            found[path] = body.decode(errors="replace")
            links = re.findall(r"""(?:href|src|fetch\()\s*=?\s*["'](/?[A-Za-z0-9_./-]+)["']""", found[path])
            links += re.findall(r"""["'](/api/[A-Za-z0-9_./-]*)["']""", found[path])
            paths |= {link if link.startswith("/") else f"/{link}" for link in links if link != _EVENTS}
    found[_EVENTS] = exporter.first_event(_EVENTS)
    assert "data:" in found[_EVENTS]
    found["log"] = repr(exporter.lines) + repr(exporter.noise)
    found["stderr"] = exporter.stderr()
    found["command line"] = " ".join(psutil.Process(exporter.pid).cmdline())
    return found


def check_clean(texts: dict[str, str], addresses: Iterable[str]) -> None:
    """No secret in any form and no client's address is in any of the texts."""
    wanted = set().union(*map(forms, SECRETS))
    for place, text in texts.items():
        leaked = [form for form in wanted if form in text]
        assert not leaked, f"{place} shows {leaked}"
        seen = set(re.findall(r"(?<![\d.])\d+\.\d+\.\d+\.\d+(?![\d.])", text)) | set(re.findall(r"[0-9a-f:]{6,}", text))
        shown = seen & set(addresses)
        assert not shown, f"{place} shows {shown}"


def test_nothing_secret_or_personal_leaves_the_process(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """Through faults that repeat secrets, bad lines, a debug log and a crash: no output has a secret or an address."""
    files = {name: tmp_path / name for name in ("S3_SECRET_KEY", "PROMETHEUS_PASSWORD", "PROMETHEUS_HEADERS")}
    for path, text in zip(files.values(), (SECRET_KEY, _PASSWORD, f"X-Scope-OrgID: {_TENANT}"), strict=True):
        path.write_text(text + "\n")
    build_geoip(tmp_path / "city.mmdb")
    environ: dict[str, Any] = {f"{name}_FILE": str(path) for name, path in files.items()}
    environ |= {"S3_SECRET_KEY": "", "PROMETHEUS_USER": "exporter", "LOG_LEVEL": "debug"}
    environ |= {"GEOIP_DB_PATH": str(tmp_path / "city.mmdb")}
    said = f"{_PASSWORD} {_TENANT} {quote(_PASSWORD)} {SECRET_KEY} of {_STRANGER} and [{_STRANGER_V6}]:443"
    with campaign(tmp_path, bucket, prometheus, seed=9, locate=locate, **environ) as found:
        exporter = found.scene.exporter
        exporter.wait_for("batch_pushed")
        found.s3.inject(
            Answers(on="?list-type=2", status=403, code=SECRET_KEY),
            Answers(on=f"/{PREFIX}/", status=403, code="AccessDenied", body=said.encode()),
            Answers(on=f"/{PREFIX}/", status=500, code=_STRANGER.replace(".", "-")),
            Resets(on="?delete"),
        )
        found.receiver.inject(
            Answers(status=500, body=said.encode(), content_type="text/plain"),
            Resets(),
            Answers(status=302, body=said.encode(), content_type=f"text/plain; x={_TENANT}"),
            Answers(status=400, body=said.encode(), content_type="text/plain"),
        )
        hour = bucket.keys(PREFIX)[0].rpartition("/")[0] if bucket.keys(PREFIX) else f"{PREFIX}/20260101/00"
        bucket.put(f"{hour}/rtl.x+9+0.ndjson.gz", b"not gzip")
        exporter.wait_for("receiver_misconfigured")
        exporter.wait_for("poll_failed")
        found.writer.until(8)
        addresses = {fields["clientIP"] for fields in found.writer.traffic.events or ()} | {_STRANGER, _STRANGER_V6}
        assert len(addresses) > 30
        retried = repr(exporter.messages("push_retried") + exporter.messages("request_refused"))
        assert " of *** and [***]:443" in retried  # the words were there to be masked
        check_clean(texts_of(exporter), addresses)
        # A crash: somebody else takes the lease. What it says is a traceback.
        found.writer.finish()
        bucket.take_lease()
        assert exporter.wait() == 1
        assert "Traceback" in exporter.messages("service_crashed")[-1]["traceback"]
        check_clean({"log": repr(exporter.lines), "stderr": exporter.stderr()}, addresses)
        check_state(tmp_path / "exporter" / "state.db", addresses)
        label_values = {value for key in prometheus.last("cdn77_viewers_by_region_total") for _, value in key}
        check_clean({"series": repr(label_values)}, addresses)


def check_state(path: Path, addresses: set[str]) -> None:
    """The state database holds no secret of the settings and no address, as text or as bytes."""
    content = path.read_bytes()
    for secret in SECRETS:
        assert secret.encode() not in content
    for address in addresses:
        assert address.encode() not in content
        packed = ipaddress.ip_address(address).packed
        if len(packed) == 16:  # four bytes can be there by chance
            assert packed not in content
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as state:
        (key,) = state.execute("SELECT key FROM secret").fetchone()
        assert len(key) == 32
        assert state.execute("SELECT count(*) FROM viewer_runs").fetchone()[0] > 0
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.guarantee("copies.secrets")
def test_secrets_are_changed_while_it_runs(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """From the moment that the files change the new keys and the new token are used, by nobody's leave or restart."""
    files = {name: tmp_path / name for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY", "PROMETHEUS_BEARER_TOKEN")}

    def write(generation: str) -> None:
        for name, path in files.items():
            fresh = path.with_suffix(".new")
            fresh.write_text(f"{generation}-{name.lower().replace('_', '-')}\n")
            fresh.replace(path)

    environ: dict[str, Any] = {f"{name}_FILE": str(path) for name, path in files.items()}
    environ |= dict.fromkeys(("S3_ACCESS_KEY", "S3_SECRET_KEY"), "")
    refused: list[str] = []
    valid = "old"

    def of_bucket(line: str, authorization: str) -> Fault | None:
        if f"Credential={valid}-s3-access-key/" in authorization:
            return None
        refused.append(line)
        return Answers(status=403, code="InvalidAccessKeyId")

    def of_receiver(line: str, authorization: str) -> Fault | None:
        if authorization == f"Bearer {valid}-prometheus-bearer-token":
            return None
        refused.append(line)
        return Answers(status=401)

    write("old")
    with campaign(tmp_path, bucket, prometheus, seed=10, **environ) as found:
        exporter = found.scene.exporter
        found.s3.judge, found.receiver.judge = of_bucket, of_receiver
        exporter.wait_for("files_deleted")
        before, valid = len(refused), "new"
        write("new")
        exporter.wait_for("secret_reloaded", count=3)
        assert {line["setting"] for line in exporter.messages("secret_reloaded")} == set(files)
        found.writer.finish()
        found.scene.settle()
        found.scene.check_numbers(found.scene.truth(found.writer.traffic))
        # Requests that were under way may have had the old ones; those after them have not.
        assert before == 0
        assert len(refused) <= 5
        assert exporter.stop() == 0
        assert not [form for generation in ("old", "new") for form in (f"{generation}-s3", f"{generation}-prometheus")
                    if form in repr(exporter.lines) + exporter.stderr()]  # fmt: skip


def test_the_status_server_keeps_to_itself(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """Unless told otherwise it listens on loopback only, and every answer has the security headers."""
    scene = open_scene(tmp_path, bucket, prometheus)
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("poll_finished")
        for path in ("/metrics", "/healthz", "/readyz"):
            with urllib.request.urlopen(exporter.status_address + path, timeout=5) as answer:  # noqa: S310
                assert all(answer.headers[name] for name in _HEADERS)
                assert "Python" not in answer.headers["Server"]
        assert exporter.stop() == 0
        exporter.start(HTTP_ADDR="")  # as if it were not set
        exporter.wait_for("poll_finished", count=2)
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(exporter.pid).net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]
        assert exporter.stop() == 0


def least_policy(bucket: str) -> str:
    """The policy that the documentation says is enough, for another bucket."""
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    (policy,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    rights = json.loads(policy.replace("my-logs", bucket))
    # This server asks for the right to delete several objects at the bucket, where others ask at each object.
    rights["Statement"].append({"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{bucket}"})
    return json.dumps(rights)


def test_the_least_policy_is_enough(tmp_path: Path, prometheus: Prometheus) -> None:
    """With a key that has only the rights of the documented policy the daemon does all of its work, lease included."""
    with moto_server() as endpoint:
        bucket = Bucket(endpoint, "guarded-logs")
        iam = boto3.client(
            "iam",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        iam.create_user(UserName="exporter")
        iam.put_user_policy(UserName="exporter", PolicyName="least", PolicyDocument=least_policy(bucket.name))
        key = iam.create_access_key(UserName="exporter")["AccessKey"]
        keys = {"S3_ACCESS_KEY": key["AccessKeyId"], "S3_SECRET_KEY": key["SecretAccessKey"]}
        traffic = open_scene(tmp_path, bucket, prometheus).traffic(PLAN)
        uploads = [*traffic.until(traffic.begin_ms + 4000), *traffic.finish()]
        for upload in uploads:
            bucket.put(upload.key, upload.body)
        # From now on every request needs a right; the number is how many do not.
        question = urllib.request.Request(  # noqa: S310
            f"{endpoint}/moto-api/reset-auth", data=b"0", method="POST", headers={"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(question, timeout=5) as answer:  # noqa: S310
            assert answer.status == 200
        scene = open_scene(tmp_path, bucket, prometheus, **keys)
        with scene.exporter as exporter:
            exporter.start()
            exporter.wait_for("lease_taken")
            exporter.wait_for("file_counted", count=len(uploads), seconds=40)
            exporter.wait_until(
                lambda: sum(line["count"] for line in exporter.messages("files_deleted")) == len(uploads),
                40,
                "deletion",
            )
            assert exporter.stop() == 0
            # The traffic has files that are missing and lines that do not count.
            of_traffic = {"files_missing", "lines_rejected", "shard_silent", "shard_lagging"}
            wrong = {
                line["message"]
                for line in exporter.lines
                if line["level"] in ("warning", "error") and line.get("what") not in of_traffic
            }
            assert not wrong, wrong
        with pytest.raises(ClientError, match=r"AccessDenied|InvalidAccessKeyId|Forbidden"):
            bucket.keys()  # the server does check: its owner's key has no rights any more
