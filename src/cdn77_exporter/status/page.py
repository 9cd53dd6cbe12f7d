"""The status page: its files, the status as JSON (once or as server-sent events), and the description of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.resources import files

import msgspec
from aiohttp import web

from cdn77_exporter.status.document import Status, description
from cdn77_exporter.status.server import KEEP, SECURITY_HEADERS

_LISTENERS = 16
_SECONDS = 2.0
_WRITE_SECONDS = 10.0

# No content from other hosts, and none inline.
_OWN = " ".join(f"{kind}-src 'self';" for kind in ("script", "style", "img", "connect"))
_POLICY = f"{_OWN} {SECURITY_HEADERS['Content-Security-Policy']}"
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Page:
    """Routes for the status server. `status` is called at most once in half an interval, however many listen.

    At most `listeners` receive events at once; one that does not read for ten seconds is disconnected.
    """

    def __init__(
        self, status: Callable[[], Status], version: str, *, listeners: int = _LISTENERS, seconds: float = _SECONDS
    ) -> None:
        self._status = status
        self._most = listeners
        self._seconds = seconds
        self._listening = 0
        self._made: tuple[float, bytes] | None = None
        self._description = msgspec.json.encode(description(version))
        self._files = {path: (_read(name), media) for path, (name, media) in _FILES.items()}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        return [
            *(web.get(path, self._file) for path in self._files),
            web.get("/api/status", self._answer),
            web.get("/api/events", self._events, allow_head=False),
            web.get("/api/openapi.json", self._describe),
        ]

    async def _file(self, request: web.Request) -> web.Response:
        body, media = self._files[request.path]
        headers = {"Content-Security-Policy": _POLICY}
        return web.Response(body=body, content_type=media, charset="utf-8", headers=headers)

    async def _answer(self, request: web.Request) -> web.Response:
        return web.Response(body=self._encoded(), content_type="application/json")

    async def _describe(self, request: web.Request) -> web.Response:
        return web.Response(body=self._description, content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._listening >= self._most:
            raise web.HTTPServiceUnavailable
        self._listening += 1
        try:
            return await self._send_events(request)
        finally:
            self._listening -= 1

    async def _send_events(self, request: web.Request) -> web.StreamResponse:
        request.app[KEEP](request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.force_close()
        try:
            await response.prepare(request)
            while True:
                async with asyncio.timeout(_WRITE_SECONDS):
                    await response.write(b"event: status\ndata: " + self._encoded() + b"\n\n")
                await asyncio.sleep(self._seconds)
        except (ConnectionError, TimeoutError):
            if request.transport:
                request.transport.abort()
            return response

    def _encoded(self) -> bytes:
        now = asyncio.get_running_loop().time()
        if self._made is None or now - self._made[0] > self._seconds / 2:
            self._made = (now, msgspec.json.encode(self._status()))
        return self._made[1]


def _read(name: str) -> bytes:
    return files("cdn77_exporter.status").joinpath("web", name).read_bytes()
