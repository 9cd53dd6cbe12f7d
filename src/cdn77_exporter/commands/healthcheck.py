"""Asks a running service whether it is alive, as a container's health check does."""

from __future__ import annotations

import argparse
import http.client
import os

from cdn77_exporter.commands.output import say
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.settings import DEFAULT_HTTP_ADDR, host_to_ask, http_address


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the address and the question."""
    parser.add_argument("--ready", action="store_true", help="ask whether it is ready, not only whether it is alive")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="the longest wait (5)")


def run(arguments: argparse.Namespace) -> int:
    """Ask the service; return 0 when it says yes, and 1 when it says no or nothing."""
    given = os.environ.get("HTTP_ADDR", "").strip() or DEFAULT_HTTP_ADDR
    try:
        address = http_address(given)
    except ValueError as error:
        raise ConfigError([f"HTTP_ADDR {error}."]) from error
    if address is None:
        print("HTTP_ADDR is off: there is nobody to ask")
        return 0
    host, port = address
    path = "/readyz" if arguments.ready else "/healthz"
    connection = http.client.HTTPConnection(host_to_ask(host), port, timeout=arguments.timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(65_536).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        say(f"no answer from {host}:{port}: {error or type(error).__name__}")
        return 1
    finally:
        connection.close()
    print(body)
    return 0 if answer.status == 200 else 1
