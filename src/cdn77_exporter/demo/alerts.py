"""A small webhook for Alertmanager that says each alert in a line, for as long as there is no real receiver."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from cdn77_exporter.core.visible import visible
from cdn77_exporter.demo.serving import Served

_MAX_BYTES = 4 << 20
#: Labels that the line does not repeat.
_SAID = ("alertname", "severity", "job")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a notification. `status`: firing or resolved."""

    status: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def line(self) -> str:
        """The alert in a line: what, where, how urgent, and the address of the runbook."""
        where = ", ".join(f"{name}={value}" for name, value in sorted(self.labels.items()) if name not in _SAID)
        words = (
            self.status.upper(),
            self.labels.get("severity", ""),
            self.labels.get("alertname", ""),
            f"({where})" if where else "",
            self.annotations.get("summary", ""),
            self.annotations.get("description", ""),
            self.annotations.get("runbook_url", ""),
        )
        return visible(" ".join(word for word in words if word))


def read(body: bytes) -> Iterator[Alert]:
    """Yield the alerts of a notification; raises ValueError when it is none of Alertmanager's."""
    found = orjson.loads(body)
    if not isinstance(found, dict) or not isinstance(found.get("alerts"), list):
        raise ValueError("no notification of Alertmanager")
    for one in found["alerts"]:
        if not isinstance(one, dict) or not isinstance(one.get("labels"), dict):
            raise ValueError("an alert without labels")
        yield Alert(str(one.get("status", "firing")), _texts(one["labels"]), _texts(one.get("annotations")))


def _texts(found: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


class AlertReceiver(Served):
    """The webhook over HTTP. `told` is given each alert."""

    def __init__(self, told: Callable[[Alert], None], *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host, port)
        self._told = told

    @property
    def url(self) -> str:
        """The address for `webhook_configs`."""
        return f"{self.address}/"

    def application(self) -> web.Application:
        """Return what takes notifications."""
        app = web.Application(client_max_size=_MAX_BYTES)
        app.router.add_post("/", self._take)
        app.router.add_get("/healthz", self._alive)
        return app

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _take(self, request: web.Request) -> web.Response:
        try:
            alerts = list(read(await request.read()))
        except ValueError as error:  # that of orjson is one, too
            return web.Response(status=400, text=f"{error}\n")
        for alert in alerts:
            self._told(alert)
        return web.Response(text="taken\n")


async def serve(host: str, port: int) -> None:
    """Say each alert on stdout until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AlertReceiver(lambda alert: print(alert.line, flush=True), host=host, port=port) as receiver:
        print(f"waiting for alerts at {receiver.url}", flush=True)
        await stop.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m cdn77_exporter.demo.alerts", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=9178, help="port; 0 takes a free one (9178)")
    options = parser.parse_args(arguments)
    asyncio.run(serve(options.host, options.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
