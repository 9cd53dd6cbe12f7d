"""Programs and files that the deployment tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def program(name: str, package: str) -> str:
    """Where a program is; skips the test without it, and in CI fails it."""
    beside = Path(sys.executable).parent / name  # those that Python packages bring
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(f"CI needs {name}, of the package {package}")
        pytest.skip(f"needs {name}, of the package {package}")
    return found


def run(*command: str | Path, environ: Mapping[str, str] | None = None, folder: Path = ROOT) -> str:
    """What a program prints; fails the test, with its words, when its exit code is not 0."""
    told = subprocess.run(
        [str(word) for word in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        env=environ,
        cwd=folder,
    )
    assert told.returncode == 0, f"{command}\n{told.stdout}\n{told.stderr}"
    return told.stdout
