"""A command of the program as a process of its own, with nothing in its environment but what a test gives."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cdn77_exporter.__main__ import main

_SOURCES = Path(__file__).parents[2] / "src"


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


def run_command(*words: str, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Ended:
    """Run `python -m cdn77_exporter` with words; standard output and error are no terminals."""
    ended = subprocess.run(
        [sys.executable, "-m", "cdn77_exporter", *words],
        env={"PATH": os.defpath, "PYTHONPATH": str(_SOURCES), **(environ or {})},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run_here(*words: str, environ: Mapping[str, str]) -> Ended:
    """The same within this process, which is quicker; the environment is only what is given."""
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ, environ, clear=True), redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return Ended(code, out.getvalue(), err.getvalue())
