"""The command line: what runs, what it says, and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import cdn77_exporter
from cdn77_exporter import __main__ as command_line
from cdn77_exporter import service
from cdn77_exporter.commands import COMMANDS
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.scan import COMPILED
from tests.support.settings import LEAST

SOURCE = Path(cdn77_exporter.__file__).parent.parent


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cdn77_exporter", *words],
        env={"PYTHONPATH": str(SOURCE), "PATH": os.defpath} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_configuration_the_service_says_everything_that_is_missing() -> None:
    """Exit code 2, a line on stderr for each variable, nothing on stdout, and no secret."""
    ended = run(S3_SECRET_KEY="wJalrXUtnFEMIexample", POLL_INTERVAL="soon")
    assert (ended.returncode, ended.stdout) == (2, "")
    named = [line.split()[0] for line in ended.stderr.splitlines()]
    assert named == ["S3_ENDPOINT", "S3_BUCKET", "S3_PREFIX", "S3_ACCESS_KEY", "PROMETHEUS_URL", "POLL_INTERVAL"]
    assert "wJalrXUtnFEMIexample" not in ended.stderr


@pytest.mark.parametrize("closed", [0, 1, 2])
@pytest.mark.parametrize("words", ["inspect -", "check", "healthcheck", ""])
def test_a_stream_that_is_closed_is_the_null_device(closed: int, words: str, tmp_path: Path) -> None:
    """A process that is started without a standard stream ends as with one, and says nothing of its insides."""
    command = f"exec {sys.executable} -m cdn77_exporter {words} {closed}{'>' if closed else '<'}&-"
    ended = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PYTHONPATH": str(SOURCE), "PATH": os.defpath},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert ended.returncode == (1 if words in ("inspect -", "healthcheck") else 2)
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("words", [["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_everywhere(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help goes to stdout with exit code 0 and needs no configuration."""
    with pytest.raises(SystemExit) as ended:
        command_line.main(words)
    assert ended.value.code == 0
    assert "usage: cdn77_exporter" in capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands are found without reading the documentation."""
    with pytest.raises(SystemExit):
        command_line.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the one place that holds it, and whether the compiled scan is there."""
    with pytest.raises(SystemExit) as ended:
        command_line.main(["--version"])
    scan = " (with the compiled scan)" if COMPILED else ""
    assert (ended.value.code, capsys.readouterr().out) == (0, f"cdn77_exporter {cdn77_exporter.__version__}{scan}\n")


@pytest.mark.parametrize("words", [["bogus"], ["--bogus"], ["healthcheck", "--bogus"]])
def test_a_wrong_word_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and stderr says which word it was."""
    with pytest.raises(SystemExit) as ended:
        command_line.main(words)
    assert ended.value.code == 2
    assert "bogus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError(["A is wrong.", "B is wrong."]), 2, "A is wrong.\nB is wrong.\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            ModuleNotFoundError("no", name="moto.server"),
            1,
            "cdn77_exporter: the package moto.server is not installed; see the extras in the documentation\n",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "x.gz"),
            1,
            "cdn77_exporter: No such file or directory: x.gz\n",
        ),
    ],
)
def test_errors_of_a_command_are_sentences_and_exit_codes(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A fault of the operator never shows a traceback."""

    def fail(arguments: object) -> int:
        raise error

    module = types.ModuleType("cdn77_exporter.commands.failing")
    module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    module.run = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(COMMANDS, "failing", ("failing", "fail"))
    assert (command_line.main(["failing"]), capsys.readouterr().err) == (code, said)


def test_the_service_gets_its_settings_and_gives_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a command the service runs with what the environment says."""
    given = []
    app = types.ModuleType("cdn77_exporter.service.app")
    app.run = lambda settings: given.append(settings) or 7  # type: ignore[attr-defined,func-returns-value]
    monkeypatch.setitem(sys.modules, "cdn77_exporter.service.app", app)
    monkeypatch.setattr(service, "app", app, raising=False)
    for name, value in LEAST.items():
        monkeypatch.setenv(name, value)
    assert command_line.main([]) == 7
    assert given[0].s3_bucket == "logs"


def test_a_command_imports_only_what_it_needs() -> None:
    """The command line itself loads neither the service nor its libraries."""
    heavy = ["aiohttp", "aioboto3", "botocore", "google.protobuf", "prometheus_client", "structlog", "uvloop", "rich"]
    code = f"import sys, cdn77_exporter.__main__; print([name for name in {heavy} if name in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout == "[]\n"


def test_healthcheck_without_a_service_fails_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on port 1: exit code 1."""
    ended = run("healthcheck", HTTP_ADDR="127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("no answer from 127.0.0.1:1: ")


@pytest.mark.parametrize(("address", "code"), [("off", 0), ("nonsense", 2)])
def test_healthcheck_reads_the_address_as_the_service_does(
    address: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`off` leaves nobody to ask; nonsense is a fault of the configuration."""
    monkeypatch.setenv("HTTP_ADDR", address)
    assert command_line.main(["healthcheck"]) == code
    assert "HTTP_ADDR" in "".join(capsys.readouterr())
