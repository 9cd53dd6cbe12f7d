"""An S3 server without access control, as a process of its own on loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from tests.support.exporter_process import wait_until
from tests.support.prometheus import free_port

_START_SECONDS = 30


@contextmanager
def moto_server() -> Iterator[str]:
    """Its endpoint, as long as it runs."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _answers(server, port), _START_SECONDS, "an S3 server (moto)")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    assert server.poll() is None, f"moto ended with {server.returncode}; is the extra `demo` installed?"
    try:
        with urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
