"""The servers that the end-to-end tests share."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scene import Bucket
from tests.support.exporter_process import wait_until
from tests.support.prometheus import Prometheus, free_port

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server as a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port), 30, "an S3 server")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def bucket(s3_endpoint: str) -> Bucket:
    """A bucket that nothing else uses."""
    return Bucket(s3_endpoint, f"logs-{next(_numbers)}")


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    """An empty Prometheus without an out-of-order window."""
    with Prometheus(tmp_path / "prometheus") as server:
        yield server
