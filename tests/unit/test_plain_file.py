"""What is no file where one is named (a pipe, a socket, a device, a folder) is told, and never waited for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdn77_exporter.core.errors import ConfigError, StateError
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.edge.state import Database
from cdn77_exporter.settings import load, parse
from cdn77_exporter.settings.device_rules import device_rules_file
from cdn77_exporter.settings.measures_file import measures_file
from cdn77_exporter.settings.secret import as_secret
from cdn77_exporter.settings.variables import VARIABLES, Variable
from tests.support.command import run_command, run_here
from tests.support.settings import LEAST

pytestmark = pytest.mark.timeout(60)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


#: What may lie there: how it is said, and how it is made.
KINDS: dict[str, Callable[[Path], None]] = {
    "a named pipe": os.mkfifo,
    "a socket": _socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
}
_PATHS = {parse.readable_file, parse.state_place, parse.allowlist, device_rules_file, measures_file}


def _named() -> Iterator[str]:
    """Each variable that names a file which is read at the start."""
    for variable in VARIABLES:
        if variable.parse in _PATHS:
            yield variable.name
        if variable.from_file:
            yield f"{variable.name}_FILE"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of thing that is no file."""
    return str(request.param)


@pytest.fixture
def other(tmp_path: Path, kind: str) -> Path:
    """Something of that kind."""
    path = tmp_path / "thing"
    KINDS[kind](path)
    return path


@pytest.mark.guarantee("copies.no_file")
@pytest.mark.parametrize("name", list(_named()))
def test_no_setting_waits_for_what_is_no_file(name: str, kind: str, other: Path) -> None:
    """The start fails with the variable's name and what lies there."""
    given = {other_name: text for other_name, text in LEAST.items() if f"{other_name}_FILE" != name}
    with pytest.raises(ConfigError) as caught:
        load({**given, name: str(other)})
    (fault,) = [fault for fault in caught.value.faults if name in fault]
    assert kind in fault


def test_every_setting_that_names_a_file_is_tried() -> None:
    """A parser of paths that is not among those above would not be tried here."""

    def takes_path(variable: Variable) -> bool:
        return variable.example.startswith("/") or (variable.default or "").startswith("/")

    named = {*_named(), "GEOIP_DB_PATH", "STREAM_PATTERN"}
    assert {variable.name for variable in VARIABLES if takes_path(variable)} <= named


@pytest.mark.guarantee("copies.no_file")
def test_the_service_ends_with_code_2_when_the_state_is_no_file(kind: str, other: Path) -> None:
    """It says what lies at STATE_PATH and what to do, and does not wait."""
    ended = run_here(environ={**LEAST, "STATE_PATH": str(other)})
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("STATE_PATH ")
    assert kind in ended.err


@pytest.mark.guarantee("copies.no_file")
@pytest.mark.parametrize("suffix", ["", "-journal"])
def test_a_state_or_journal_that_is_no_file_is_refused(kind: str, tmp_path: Path, suffix: str) -> None:
    """Also one that came later than the settings were read; SQLite is never asked to open it."""
    path = tmp_path / "state.db"
    if suffix:
        Database(str(path)).close()
    KINDS[kind](Path(f"{path}{suffix}"))
    with pytest.raises(StateError, match=kind) as caught:
        Database(str(path))
    assert "STATE_PATH" in caught.value.remedy


def test_a_geoip_database_that_is_no_file_is_a_fault(kind: str, other: Path) -> None:
    """The service goes on without it, and says what lies there; it is told at the start, too."""
    assert kind in GeoIp(other).fault
    settings = load({**LEAST, "GEOIP_DB_PATH": str(other)})
    assert [name for name, _ in settings.doubts if name == "GEOIP_DB_PATH"]


def test_a_secret_that_becomes_something_else_keeps_its_value(kind: str, tmp_path: Path) -> None:
    """A file that is replaced by what is none while the service runs is neither waited for nor read."""
    path = tmp_path / "secret"
    path.write_text("first")
    secret = as_secret("first", path)
    path.unlink()
    KINDS[kind](path)
    assert secret.reveal() == "first"


@pytest.mark.guarantee("copies.no_file")
def test_inspect_refuses_what_is_no_file(tmp_path: Path) -> None:
    """Each is told and the exit code is 1; whoever wants to pipe one in names the standard input."""
    pipe, device = tmp_path / "a.ndjson.gz", tmp_path / "b.ndjson.gz"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for words in ((str(pipe), str(device)), (str(tmp_path),)):
        ended = run_here("inspect", *words, environ={})
        assert ended.code == 1
        assert "a.ndjson.gz: cannot be read: it is a named pipe (FIFO), not a file" in ended.err
        assert "b.ndjson.gz: cannot be read: it is a device, not a file" in ended.err


@pytest.mark.guarantee("copies.no_file")
def test_backfill_and_reconcile_refuse_what_is_no_file(tmp_path: Path) -> None:
    """Neither a folder that is none nor a pipe in it is waited for."""
    os.mkfifo(tmp_path / "a.ndjson.gz")
    out = str(tmp_path / "out")
    assert run_command("backfill", str(tmp_path), "--out", out).code == 1
    assert run_command("backfill", str(tmp_path / "a.ndjson.gz"), "--out", out).code == 2
    assert run_command("backfill", str(tmp_path), "--out", str(tmp_path / "a.ndjson.gz")).code == 2
    span = ("--from", "2026-01-10T14:00:00Z", "--to", "2026-01-10T15:00:00Z")
    url = ("--query-url", "http://127.0.0.1:9/")
    ended = run_command("reconcile", *span, *url, "--files", str(tmp_path))
    assert ended.code == 1
