"""The real program as a process of its own: started, listened to, waited for, ended, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from cdn77_exporter.telemetry.messages import MessageName
from tests.support.prometheus import free_port

_SOURCES = Path(__file__).parents[2] / "src"


def wait_until(
    condition: Callable[[], object], seconds: float, what: str, alive: Callable[[], None] | None = None
) -> None:
    """Ask until the condition holds; `alive` raises when there is no point in waiting on."""
    deadline = time.monotonic() + seconds
    while not condition():
        if alive is not None:
            alive()
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


class Exporter:
    """The daemon. `environ` is its whole configuration; what it prints is kept over restarts.

    Leaving the context ends the process in any case.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.status_address = f"http://127.0.0.1:{free_port()}"
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
        self._environ = {
            **inherited,
            "PYTHONPATH": str(_SOURCES),
            "PYTHONUNBUFFERED": "1",
            "HTTP_ADDR": self.status_address.removeprefix("http://"),
            "STATE_PATH": str(folder / "state.db"),
            **environ,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self.lines: list[dict[str, Any]] = []  # every log line so far, oldest first
        self.noise: list[bytes] = []  # lines on stdout that were not JSON

    def __enter__(self) -> Exporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            error.add_note(self.last_words())

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self, **changed: str) -> None:
        """Start the process, with changed variables if any."""
        assert self._process is None
        with (self._folder / "stderr").open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cdn77_exporter"],
                env={**self._environ, **changed},
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=self._folder,
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with (self._folder / "stdout").open("ab") as whole:  # for whoever looks why a test failed
            for line in process.stdout:
                whole.write(line)
                try:
                    self.lines.append(orjson.loads(line))
                except orjson.JSONDecodeError:
                    self.noise.append(line)

    def _ended(self, seconds: float) -> int:
        assert self._process is not None
        assert self._reader is not None
        code = self._process.wait(seconds)
        self._reader.join(5)
        self._process = None
        return code

    def stop(self, seconds: float = 40) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._ended(seconds)

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._ended(10)

    def wait(self, seconds: float = 40) -> int:
        """The exit code, when the process ends by itself."""
        return self._ended(seconds)

    def require_alive(self) -> None:
        """Fail when the process has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"the exporter ended by itself with exit code {self._process.returncode}")

    # What it says

    def messages(self, name: MessageName, since: int = 0) -> list[dict[str, Any]]:
        """The log lines of one message, from the line numbered `since` on."""
        return [line for line in self.lines[since:] if line.get("message") == name]

    def wait_for(self, name: MessageName, seconds: float = 20, since: int = 0, count: int = 1) -> list[dict[str, Any]]:
        """Wait until a message was logged `count` times."""
        wait_until(
            lambda: len(self.messages(name, since)) >= count,
            seconds,
            f"{count} x {name} in the log",
            self.require_alive,
        )
        return self.messages(name, since)

    def wait_until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait for anything else, as long as the process lives."""
        wait_until(condition, seconds, what, self.require_alive)

    def stderr(self) -> str:
        """What was written to the standard error so far."""
        path = self._folder / "stderr"
        return path.read_text(errors="replace") if path.exists() else ""

    def last_words(self, count: int = 25) -> str:
        """The end of its log and of its standard error, to be read by a person."""
        log = [orjson.dumps(line).decode() for line in self.lines[-count:]]
        return "\n".join(["last log lines:", *log, "stderr:", self.stderr()[-4000:]])

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask the status server: status code and body."""
        try:
            with urllib.request.urlopen(self.status_address + path, timeout=5) as answer:  # noqa: S310
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def first_event(self, path: str) -> str:
        """The first of the server-sent events of an answer that does not end."""
        with urllib.request.urlopen(self.status_address + path, timeout=5) as answer:  # noqa: S310
            return b"".join(iter(answer.readline, b"\n")).decode()

    def own_metrics(self) -> dict[str, float]:
        """The program's own metrics: `name{labels}` as in the text format to value."""
        status, body = self.get("/metrics")
        assert status == 200, body
        rows = (line.rpartition(" ") for line in body.decode().splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}
