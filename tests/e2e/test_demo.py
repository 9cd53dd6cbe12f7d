"""The demo as a newcomer starts it: its own processes, its table, its exit code, and nothing left behind."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from cdn77_exporter.demo.live import compare
from cdn77_exporter.demo.run import Options, run_demo
from tests.e2e.scene import Bucket
from tests.support.exporter_process import wait_until
from tests.support.prometheus import require_prometheus

_SOURCES = str(Path(__file__).parents[2] / "src")
_COUNTERS = 13  # one more needs a GeoIP database


def begin(folder: Path, *words: str, **environ: str) -> subprocess.Popen[str]:
    """Start the demo with its temporary files in `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "cdn77_exporter", "demo", *words],
        env={**os.environ, "PYTHONPATH": _SOURCES, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )


def read_until(demo: subprocess.Popen[str], pattern: str) -> str:
    """What it prints up to the line that fits."""
    assert demo.stdout is not None
    printed = ""
    for line in demo.stdout:
        printed += line
        if re.search(pattern, line):
            return printed
    raise AssertionError(f"no line like {pattern!r} in:\n{printed}")


def check_success(folder: Path, demo: subprocess.Popen[str], printed: str = "") -> str:
    """It ends with 0, says that all is equal, and leaves neither files nor processes."""
    rest, _ = demo.communicate(timeout=150)
    printed += rest
    assert demo.returncode == 0, printed
    assert len(re.findall(r"^│ cdn77_\w+ +│.*│ yes[^│]*│$", printed, re.MULTILINE)) == _COUNTERS, printed
    assert list(folder.iterdir()) == []
    assert programs_in(folder) == []
    return printed


def programs_in(folder: Path) -> list[str]:
    """Processes that were started with a file in the folder, or work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
            if str(folder) in words or str(folder) in str((entry / "cwd").readlink()):
                found.append(words)
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.prometheus
def test_the_demo_proves_itself_with_prometheus(tmp_path: Path) -> None:
    """A short run ends with exit code 0 and every counter equal in a real Prometheus."""
    require_prometheus()
    printed = check_success(tmp_path, begin(tmp_path, "--seconds", "12"))
    assert "Receiver: Prometheus" in printed
    if shutil.which("prometheus-alertmanager"):
        assert "Alertmanager: http://127.0.0.1:" in printed
        assert "by Alertmanager" in printed.split("┘")[-1]


@pytest.mark.slow
def test_the_demo_works_without_prometheus(tmp_path: Path) -> None:
    """Where there is no Prometheus the embedded receiver takes its place; with --keep all stays up until Ctrl-C."""
    demo = begin(tmp_path, "--keep", PATH=str(Path(sys.executable).parent), DEMO_SECONDS="6")
    printed = read_until(demo, "Ctrl-C ends them")
    address = re.search(r"daemon: (http://127\.0\.0\.1:\d+/metrics)", printed)
    assert address is not None
    with urllib.request.urlopen(address[1], timeout=10) as answer:  # noqa: S310
        assert b"cdn77_exporter_" in answer.read()
    demo.send_signal(signal.SIGINT)
    assert "apt-get install prometheus" in check_success(tmp_path, demo, printed)


@pytest.mark.slow
def test_an_interrupt_ends_the_traffic_and_the_numbers_still_agree(tmp_path: Path) -> None:
    """Ctrl-C ends the writing sooner; what was written until then is worked off and compared."""
    demo = begin(tmp_path, "--seconds", "600", PATH=str(Path(sys.executable).parent))
    printed = read_until(demo, r"writing traffic: ([3-9]|\d\d+) files")
    demo.send_signal(signal.SIGINT)
    check_success(tmp_path, demo, printed)


@pytest.mark.slow
def test_traffic_alone_goes_into_the_bucket_that_is_named(tmp_path: Path, s3_endpoint: str, bucket: Bucket) -> None:
    """With --traffic-only files appear in the given bucket under the given prefix, and nothing else is started."""
    demo = begin(tmp_path, "--traffic-only", "--endpoint", s3_endpoint, "--bucket", bucket.name,
                 "--prefix", "some/logs", "--seconds", "6")  # fmt: skip
    try:
        wait_until(bucket.keys, 30, "a file in the bucket")
        printed, _ = demo.communicate(timeout=60)
    finally:
        demo.kill()
    assert demo.returncode == 0, printed
    keys = bucket.keys()
    assert all(re.fullmatch(r"some/logs/\d{8}/\d\d/rtl\.[0-9a-f-]{36}\+\d\+\d+\.ndjson\.gz", key) for key in keys)
    assert f"{len(keys)} files with" in printed


def test_without_an_s3_server_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without moto the demo is one sentence with the remedy, and exit code 1."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "moto" else real(name, *rest))
    assert run_demo(Options()) == 1
    printed = capsys.readouterr().out
    assert "locks/demo.txt" in printed
    assert len(printed.strip().splitlines()) == 1


def test_a_difference_is_seen() -> None:
    """A missing series, a strange one and a wrong value each make the comparison unequal, and are named."""
    written: dict[tuple[str, ...], int] = {("a",): 1, ("b",): 2, ("c",): 3}
    found = compare("cdn77_requests_total", written, {("a",): 1.0, ("b",): 5.0, ("d",): 1.0})
    assert not found.equal
    assert [words.partition(":")[0] for words in found.different] == ["b", "c", "d"]
    assert compare("cdn77_requests_total", written, {key: float(value) for key, value in written.items()}).equal
    least: dict[tuple[str, ...], int] = {("a",): 1, ("b",): 1}
    held: dict[tuple[str, ...], float] = {("a",): 1.0, ("b",): 1.5, ("c",): 3.0}
    assert compare("cdn77_watch_seconds_total", written, held, least).equal
    assert not compare("cdn77_watch_seconds_total", written, held | {("b",): 0.5}, least).equal
