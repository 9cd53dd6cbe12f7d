"""The systemd unit: systemd accepts it, and finds it hardened."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.deploy.tools import DEPLOY, program, run

UNIT = DEPLOY / "systemd" / "cdn77-exporter.service"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is on this machine."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text("utf-8").replace("/opt/cdn77-exporter/bin/python", sys.executable), "utf-8")
    return path


def test_systemd_accepts_the_unit(unit: Path) -> None:
    """`systemd-analyze verify` finds nothing."""
    assert run(program("systemd-analyze", "systemd"), "verify", unit) == ""


def test_unit_is_hardened(unit: Path) -> None:
    """systemd rates the exposure below 1.5 of 10; what is left is the network, which it needs."""
    told = run(program("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager", unit)
    rating = re.search(r"exposure level for \S+: ([\d.]+)", told)
    assert rating
    assert float(rating[1]) < 1.5


def test_stop_waits_longer_than_the_drain() -> None:
    """systemd kills nothing before DRAIN_SECONDS (25) are over."""
    seconds = re.search(r"(?m)^TimeoutStopSec=(\d+)$", UNIT.read_text("utf-8"))
    assert seconds
    assert int(seconds[1]) > 25


def test_faulty_configuration_is_not_tried_again() -> None:
    """Exit code 2 means a configuration at fault, which no restart mends."""
    assert re.search(r"(?m)^RestartPreventExitStatus=2$", UNIT.read_text("utf-8"))
