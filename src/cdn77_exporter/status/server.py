"""The status server: answers Prometheus, supervisors and people about the state of the service; changes nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network, ip_address
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
_MISDIRECTED = {"error": "unexpected host; name it in HTTP_HOSTS"}
_HOSTS_TOLD = 10  # anybody can invent them
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
    others are open at once. One more ends the oldest of the address that has most of them, where the addresses that a
    machine can have by IP version 6 are one: so nobody who can reach the port can block the service, or keep others
    from its answers.

    `hosts`: names by which it may be asked, beside its address, this machine's name and IP addresses. A page of another
    site whose name was made to lead here (DNS rebinding) is refused by them. `*` takes every name.
    """

    def __init__(
        self,
        address: tuple[str, int],
        telemetry: Telemetry,
        routes: Iterable[web.AbstractRouteDef] = (),
        *,
        hosts: Collection[str] = (),
        connections: int = _CONNECTIONS,
        seconds: float = _SECONDS,
    ) -> None:
        self._address = address
        self._telemetry = telemetry
        self._routes = list(routes)
        self._most = connections
        self._seconds = seconds
        self._hosts = {"localhost", address[0].lower(), *_own_names(), *(name.lower() for name in hosts)}
        self._refused: set[str] = set()  # unexpected hosts that were told
        self._timers: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}
        self._open: dict[_Connection, str] = {}  # in the order in which they came, with the other end's address
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
        self._forget(request.protocol)

    # Connections

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server if self._runner else None
        if server is None:
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
        made.made, made.lost = self._enter, self._forget
        self._timers[made] = loop.call_later(self._seconds, self._end, made)
        return made

    def _enter(self, connection: _Connection, address: str) -> None:
        self._open[connection] = address
        if len(self._open) > self._most:
            ((most, _),) = Counter(self._open.values()).most_common(1)
            self._end(next(one for one, address in self._open.items() if address == most))

    def _end(self, connection: _Connection) -> None:
        self._forget(connection)
        connection.force_close()
        if connection.transport:
            connection.transport.abort()

    def _forget(self, connection: asyncio.BaseProtocol) -> None:
        self._open.pop(connection, None)  # type: ignore[call-overload]  # whatever is in it is a connection
        timer = self._timers.pop(connection, None)
        if timer:
            timer.cancel()

    # Answers

    @web.middleware
    async def _guard(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        try:
            response = await handler(request) if self._is_meant(request) else _json(_MISDIRECTED, 421)
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

    def _is_meant(self, request: web.Request) -> bool:
        """Tell whether a request is meant for this server; one without a `Host` comes from no browser."""
        if "*" in self._hosts:
            return True
        for given in request.headers.getall("Host", []):
            host = _name_of(given)
            if host in self._hosts or host.endswith(".localhost") or _is_address(host):
                continue
            if host not in self._refused and len(self._refused) < _HOSTS_TOLD:
                self._refused.add(host)
                self._telemetry("status_host_refused", host=host)
            return False
        return True

    async def _metrics(self, request: web.Request) -> web.Response:
        body = self._telemetry.exposition()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _health(self, request: web.Request) -> web.Response:
        return _json({"alive": True})  # the answer itself proves that the event loop runs

    async def _readiness(self, request: web.Request) -> web.Response:
        problems = self._telemetry.problems
        return _json({"ready": problems.ready, "problems": problems.current()}, 200 if problems.ready else 503)


class _Connection(web.RequestHandler):
    """A connection that reports its end, and answers what is not HTTP with the same headers as everything else."""

    __slots__ = ("lost", "made")
    made: Callable[[_Connection, str], None]
    lost: Callable[[asyncio.BaseProtocol], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.made(self, _neighbours(str(peer[0])) if peer else "")

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
    """A connection of a server that has ended: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _neighbours(address: str) -> str:
    """Return the address, or of version 6 the network of 64 bits: one machine has all the addresses of that."""
    with suppress(ValueError):
        found = IPv6Address(address.partition("%")[0])
        return str(found.ipv4_mapped or IPv6Network((int(found) >> 64 << 64, 64)))
    return address


def _own_names() -> set[str]:
    """Return the names of this machine."""
    name = socket.gethostname().lower()
    return {name, name.partition(".")[0]}


def _name_of(host: str) -> str:
    """Return the name or address in a `Host` header, without its port, brackets and last dot."""
    return re.sub(r":[0-9]*$", "", host.strip()).strip("[]").rstrip(".").lower()


def _is_address(host: str) -> bool:
    """Tell whether it is an IP address, which no name server can make lead elsewhere."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _secure(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = _SERVER
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
