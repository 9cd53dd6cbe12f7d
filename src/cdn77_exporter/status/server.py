"""The status server: answers Prometheus, supervisors and people about the state of the service; changes nothing."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

import orjson
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.telemetry.logger import Telemetry

_CONNECTIONS = 64
_SECONDS = 15.0
_HEADER_BYTES = 4096
_SERVER = "cdn77_exporter"

#: On every answer. A page may set a Content-Security-Policy of its own.
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

# What aiohttp would log holds the client's address; a failed answer is logged as a message instead.
_silent = logging.getLogger("cdn77_exporter.status")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


#: Called by a route with its request, so that its connection may stay open as long as it wants (server-sent events).
KEEP: web.AppKey[Callable[[web.Request], None]] = web.AppKey("keep", Callable)  # type: ignore[arg-type]

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StatusServer:
    """Serves `/metrics`, `/healthz` and `/readyz`, and the routes that it is given.

    Every connection carries one request and ends within `seconds`, unless its route calls `KEEP`; at most `connections`
    are open at once. So nobody who can reach the port can block the service.
    """

    def __init__(
        self,
        address: tuple[str, int],
        telemetry: Telemetry,
        routes: Iterable[web.AbstractRouteDef] = (),
        *,
        connections: int = _CONNECTIONS,
        seconds: float = _SECONDS,
    ) -> None:
        self._address = address
        self._telemetry = telemetry
        self._routes = list(routes)
        self._most = connections
        self._seconds = seconds
        self._timers: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port in use; the system chooses one when the address has port 0."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server else 0

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard], client_max_size=_HEADER_BYTES)
        app[KEEP] = self._keep
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._health),
                web.get("/readyz", self._readiness),
                *self._routes,
            ]
        )
        app.on_response_prepare.append(_secure)
        self._runner = web.AppRunner(app, access_log=None, logger=_silent, shutdown_timeout=1.0)
        await self._runner.setup()
        host, port = self._address
        try:
            self._server = await asyncio.get_running_loop().create_server(self._connection, host, port, backlog=128)
        except OSError as error:
            await self._runner.cleanup()
            # asyncio puts the address into the error's text once more; a failed look-up has a negative number.
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise ConfigError(
                [f"HTTP_ADDR: cannot listen on {_shown(host, port)} ({reason}); use another address, or `off`."]
            ) from error
        self._telemetry("status_server_started", address=_shown(host, self.port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server:
            self._server.close()
        if self._runner:
            await self._runner.cleanup()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _keep(self, request: web.Request) -> None:
        timer = self._timers.pop(request.protocol, None)
        if timer:
            timer.cancel()

    # Connections

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server if self._runner else None
        if server is None or len(server.connections) >= self._most:
            return _TurnedAway()
        loop = asyncio.get_running_loop()
        made = _Connection(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for no log
            logger=_silent,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            max_headers=64,
            lingering_time=1.0,
        )
        made.lost = self._forget
        self._timers[made] = loop.call_later(self._seconds, self._end, made)
        return made

    def _end(self, connection: _Connection) -> None:
        self._timers.pop(connection, None)
        connection.force_close()
        if connection.transport:
            connection.transport.abort()

    def _forget(self, connection: asyncio.BaseProtocol) -> None:
        timer = self._timers.pop(connection, None)
        if timer:
            timer.cancel()

    # Answers

    @web.middleware
    async def _guard(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as refusal:
            response = _json({"error": refusal.reason.lower()}, refusal.status)
            if "Allow" in refusal.headers:
                response.headers["Allow"] = refusal.headers["Allow"]
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # a failed answer must not end the service
            self._telemetry("status_answer_failed", path=request.path, error=f"{type(error).__name__}: {error}")
            response = _json({"error": "internal error; see the log"}, 500)
        response.force_close()
        return response

    async def _metrics(self, request: web.Request) -> web.Response:
        body = self._telemetry.exposition()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _health(self, request: web.Request) -> web.Response:
        return _json({"alive": True})  # the answer itself proves that the event loop runs

    async def _readiness(self, request: web.Request) -> web.Response:
        problems = self._telemetry.problems.current()
        return _json({"ready": not problems, "problems": problems}, 503 if problems else 200)


class _Connection(web.RequestHandler):
    """A connection that reports its end, and answers what is not HTTP with the same headers as everything else."""

    __slots__ = ("lost",)
    lost: Callable[[asyncio.BaseProtocol], None]

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.lost(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; an error can no longer be sent")
        response = _json({"error": "bad request" if status < 500 else "internal error"}, status)
        response.headers.update({**SECURITY_HEADERS, "Server": _SERVER})
        response.force_close()
        return response


class _TurnedAway(asyncio.Protocol):
    """A connection beyond the limit: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _secure(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = _SERVER
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
