"""A receiver that takes every request and keeps nothing: `python -m bench.null_receiver PORT`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bench.measuring import ROOT, python, wait_for_port
from tests.support.prometheus import free_port


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # which keeps connections

    def do_POST(self) -> None:
        """Take it."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(204)

    def do_GET(self) -> None:
        """Answer that there is nothing to ask for."""
        self._answer(404)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def null_receiver() -> Iterator[str]:
    """Run one as a process of its own; its address for writes."""
    port = free_port()
    with subprocess.Popen(python("-m", "bench.null_receiver", str(port)), cwd=ROOT) as server:  # noqa: S603
        try:
            wait_for_port(port)
            yield f"http://127.0.0.1:{port}/api/v1/write"
        finally:
            server.kill()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Answers).serve_forever()
