"""Where the documentation's commands are run: an installation with log files, and folders that look like the project.

The exporter of `world()` has counted the log files of one hour, some minutes ago, and has set one aside that it could
not read. What stands for a place, a time or an address in the documentation is put in before a command is run.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from tests.docs.pages import ROOT
from tests.docs.stand_ins import STAND_INS
from tests.e2e.scene import ACCESS_KEY, PREFIX, QUICK, SECRET_KEY, Bucket
from tests.support.exporter_process import Exporter
from tests.support.files import event, log_file, traffic
from tests.support.moto_server import moto_server
from tests.support.prometheus import Prometheus, free_port

#: Programs of every Debian that are run as they are.
SYSTEM = ("cat", "chmod", "cp", "grep", "install", "mkdir", "printf")
#: What the documentation calls the file, the hour and the shard that examples are about.
_FILE = "rtl.6f0c+3+1042.ndjson.gz"
_UNREADABLE = "rtl.a+1+5.ndjson.gz"
_LINES = 40  # a file
_SECONDS = 100


@dataclass
class World:
    """What the commands find when they look beyond their folder."""

    endpoint: str
    prometheus: Prometheus
    exporter: Exporter
    hour: datetime
    begin: datetime
    files: Path
    log: Path

    def settings(self) -> dict[str, str]:
        """The variables of the exporter that is running; commands are run with them."""
        return {
            "S3_ENDPOINT": self.endpoint,
            "S3_BUCKET": "docs-logs",
            "S3_PREFIX": PREFIX,
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
            "PROMETHEUS_URL": self.prometheus.write_url,
            "QUARANTINE_PREFIX": "aside",
            "BACKFILL_WINDOW": "3h",
            "LOOKBACK_HOURS": "3",
            "POLL_INTERVAL": "1",
            "SHARD_IDLE_SECONDS": "1",
        }

    def placed(self, text: str, root: Path) -> str:
        """A command with what is here in place of what stands for it."""
        day, hour = f"{self.hour:%Y%m%d}", f"{self.hour:%Y%m%d/%H}"
        end = self.begin + timedelta(seconds=2 * _SECONDS)
        for there, here in {
            "https://eu-1.cdn77-storage.com": self.endpoint,
            "https://prometheus.example.com": self.prometheus.address,
            "http://localhost:9177": self.exporter.status_address,
            "http://127.0.0.1:9177": self.exporter.status_address,
            "20260110/14/": f"{hour}/",
            "20261124/00/": f"{hour}/",
            "20260110": day,
            "2026-11-24T00:32:30Z": f"{self.begin:%Y-%m-%dT%H:%M:%SZ}",
            "2026-11-24T00:33:40Z": f"{end:%Y-%m-%dT%H:%M:%SZ}",
            " FILE": f" {shlex.quote(str(self.files / hour / _FILE))}",
            " /etc/": f" {root}/etc/",
            " /opt/": f" {root}/opt/",
        }.items():
            text = text.replace(there, here)
        return text.replace("\n/opt/", f"\n{root}/opt/")


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """The installation, at work."""
    end = datetime.now(UTC) - timedelta(minutes=16)
    hour = end.replace(minute=0, second=0, microsecond=0)
    if end < hour + timedelta(seconds=3 * _SECONDS):
        hour -= timedelta(hours=1)
    with ExitStack() as stack:
        endpoint = stack.enter_context(moto_server())
        prometheus = stack.enter_context(Prometheus(folder / "prometheus", out_of_order="4h"))
        files = folder / "files"
        made = World(endpoint, prometheus, Exporter(folder, {}), hour, hour, files, folder / "log")
        _write_logs(made)
        made.exporter = stack.enter_context(Exporter(folder / "exporter", made.settings()))
        made.exporter.start()
        made.exporter.wait_for("file_quarantined")
        made.exporter.wait_until(lambda: _has_caught_up(made.exporter), 40, "everything until ten minutes ago")
        made.log.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in list(made.exporter.lines)))
        yield made


def _has_caught_up(exporter: Exporter) -> bool:
    own = exporter.own_metrics()
    return own["cdn77_exporter_watermark_lag_seconds"] < 500 and own["cdn77_exporter_outbox_requests"] == 0


def _write_logs(made: World) -> None:
    """Three files in the hour, one that cannot be read, and the same where other examples look for them."""
    kept = Bucket(made.endpoint, "docs-logs")
    mine = Bucket(made.endpoint, "my-logs")
    place = f"{made.hour:%Y%m%d/%H}"
    (made.files / place).mkdir(parents=True)
    for number in range(3):
        start_ms = int(made.begin.timestamp() + number * _SECONDS) * 1000 + 2000
        body = log_file(traffic(_LINES, seed=number, start_ms=start_ms, span_ms=_SECONDS * 900, streams=3, viewers=9))
        name = f"rtl.6f0c+3+{1040 + number}.ndjson.gz"
        (made.files / place / name).write_bytes(body)
        kept.put(f"{PREFIX}/{place}/{name}", body)
        mine.put(f"all/{place}/{name}", body)
    kept.put(f"{PREFIX}/{place}/{_UNREADABLE}", b"no gzip at all")
    for bucket in (kept, mine):  # long past, so that nobody counts it and the prefix is never empty
        bucket.put(f"{PREFIX}/20261001/11/rtl.6f0c+3+1.ndjson.gz", body)
    assert (made.files / place / _FILE).exists()
    now = datetime.now(UTC)
    # Of another stream, since both exporters push to one Prometheus.
    mine.put(
        f"{PREFIX}/{now:%Y%m%d/%H}/{_FILE}",
        log_file(event(int(now.timestamp() * 1000) - number) for number in range(_LINES)),
    )


@dataclass
class Sandbox:
    """A folder that looks like the project's, and a shell in it that knows only the programs of the table."""

    folder: Path
    world: World
    environ: dict[str, str]

    def run(self, text: str) -> tuple[int, str, str]:
        """Run lines of a shell, up to the first that fails: exit code, output, and what was said besides."""
        ended = subprocess.run(
            [self.folder / "bin" / "bash", "-euo", "pipefail", "-c", self.world.placed(text, self.folder / "root")],
            check=False,
            capture_output=True,
            text=True,
            timeout=90,
            cwd=self.folder / "project",
            env=self.environ,
        )
        return ended.returncode, ended.stdout, ended.stderr


def sandbox(folder: Path, made: World, *, configured: bool) -> Sandbox:
    """A fresh one; `configured`: commands find the variables of the exporter that runs, else only shortened waits."""
    programs, project, root = folder / "bin", folder / "project", folder / "root"
    for place in (programs, project, root / "etc" / "systemd" / "system", root / "opt", folder / "home"):
        place.mkdir(parents=True)
    for name in (*SYSTEM, "bash"):
        found = shutil.which(name)
        assert found is not None, name
        (programs / name).symlink_to(found)
    for name in STAND_INS:
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.docs.stand_ins {name} "$@"\n', "utf-8")
        script.chmod(0o755)
    for name in (
        "compose.yaml",
        "constraints.txt",
        "locks",
        "deploy",
        "examples",
        "tools",
        "pyproject.toml",
        ".env.example",
    ):
        (project / name).symlink_to(ROOT / name)
    (project / ".env").write_text((ROOT / ".env.example").read_text("utf-8"), "utf-8")
    (project / "secrets").mkdir()
    for name in ("s3_access_key", "s3_secret_key"):
        (project / name).write_text("a key", "utf-8")  # where the page on Kubernetes has them
        (project / "secrets" / name).write_text("a key", "utf-8")
    hour = f"{made.hour:%Y%m%d/%H}"
    for name in (f"{made.hour:%Y%m%d}", "kept", "old"):
        target = project / name / (hour.partition("/")[2] if name.isdigit() else hour)
        shutil.copytree(made.files / hour, target)
    shutil.copy(made.files / hour / _FILE, project)
    settings = made.settings() if configured else {**QUICK, "SHARD_IDLE_SECONDS": "1", "IDLE_LAG_SECONDS": "1"}
    environ = {
        "PATH": str(programs),
        "HOME": str(folder / "home"),
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "DOCS_PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DOCS_ROOT": str(root),
        "DOCS_LOG": str(made.log),
        "HTTP_ADDR": f"127.0.0.1:{free_port()}",
        **({"CI": os.environ["CI"]} if "CI" in os.environ else {}),
        **settings,
    }
    return Sandbox(folder, made, environ)
