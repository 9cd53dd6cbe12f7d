"""A reverse proxy that does to requests and answers what networks and servers do now and then, when a test asks for it.

It stands before an S3 server or a receiver. Requests pass with their own Host header, path and body, so that signatures
hold. Faults wait in a queue; each is used once, by the first request that it is meant for.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

_NOT_PASSED = {
    "connection",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_START_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong with one request.

    `on`: what the request's line (`GET /bucket/key?query`) must contain.
    """

    on: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers(Fault):
    """An answer of the proxy's own; the server never sees the request."""

    status: int
    code: str = ""  # of an S3 error
    retry_after: str | None = None
    body: bytes | None = None
    content_type: str = "application/xml"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resets(Fault):
    """The connection is reset; with `after`, when the server has done the work and only its answer is lost."""

    after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls(Fault):
    """No answer ever comes; with `after`, the server has done the work; with `inside`, it stops within its body."""

    inside: bool = False
    after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drips(Fault):
    """The body comes a byte at a time, `pause` seconds apart."""

    pause: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncates(Fault):
    """The connection ends after half of the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupts(Fault):
    """One bit of the body is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrites(Fault):
    """The server does its work; another body comes back, with status 200."""

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Renames(Fault):
    """The server does its work; a header of its answer has another value, or is missing."""

    header: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came, and how it was answered: 0 when it was not."""

    line: str
    status: int
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def _nothing(line: str, body: bytes) -> None:
    """What is done before a request is passed on, unless a test wants more."""


@dataclass
class FaultProxy:
    """The proxy before `target`, an address without a path; an async context manager.

    `tls`: what it is spoken to with, when over TLS. `before` is called with the line and the body of each request
    before it is passed on. `judge` may give a fault for a request of that line and Authorization.
    """

    target: str
    tls: ssl.SSLContext | None = None
    down: bool = False  # every connection is reset
    faults: list[Fault] = field(default_factory=list)  # waiting, in order
    seen: list[Seen] = field(default_factory=list)
    before: Callable[[str, bytes], Awaitable[None]] = field(default=_nothing)
    judge: Callable[[str, str], Fault | None] = lambda line, authorization: None

    async def __aenter__(self) -> Self:
        self._over = asyncio.Event()
        self._session = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=60), connector=aiohttp.TCPConnector(limit=0)
        )
        self._runner = web.ServerRunner(web.Server(self._serve, auto_decompress=False), shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        self.endpoint = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        await self._runner.cleanup()
        await self._session.close()

    def inject(self, *faults: Fault) -> None:
        """Let these happen, each once."""
        self.faults += faults

    def met(self, fault: Fault) -> bool:
        """Whether a request has met that very fault."""
        return any(one.fault is fault for one in self.seen)

    def count(self, part: str) -> int:
        """How many requests came whose line contains a text."""
        return sum(part in one.line for one in self.seen)

    def _next(self, line: str) -> Fault | None:
        for number, fault in enumerate(self.faults):
            if fault.on in line:
                return self.faults.pop(number)
        return None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:  # noqa: PLR0911
        line = f"{request.method} {request.raw_path}"
        try:
            body = await _body(request)
        except ConnectionError:
            return self._reset(request, line, None)  # whoever called has gone
        if self.down:
            return self._reset(request, line, None)
        fault = self._next(line) or self.judge(line, request.headers.get("Authorization", ""))
        if isinstance(fault, Answers):
            self.seen.append(Seen(line, fault.status, fault))
            return await self._send(request, _own(fault))
        if isinstance(fault, Stalls) and not (fault.inside or fault.after):
            return await self._stall(request, line, fault)
        answer: _Answer | None = None
        if not (isinstance(fault, Resets) and not fault.after):
            await self.before(line, body)
            with suppress(aiohttp.ClientError):  # else the server itself is away
                answer = await self._pass(request, body)
        if answer is None or isinstance(fault, Resets):
            return self._reset(request, line, fault)
        if isinstance(fault, Stalls) and fault.after:
            return await self._stall(request, line, fault)
        self.seen.append(Seen(line, answer.status, fault))
        try:
            return await self._spoil(request, answer, fault)
        except ConnectionError:
            return self._abort(request)  # whoever called has gone

    async def _stall(self, request: web.BaseRequest, line: str, fault: Fault) -> web.StreamResponse:
        self.seen.append(Seen(line, 0, fault))
        await self._over.wait()
        return self._abort(request)

    async def _pass(self, request: web.BaseRequest, body: bytes) -> _Answer:
        url = URL(self.target + request.raw_path, encoded=True)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _NOT_PASSED]
        async with self._session.request(
            request.method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_PASSED}
            return _Answer(answer.status, kept, await answer.read())

    async def _spoil(self, request: web.BaseRequest, answer: _Answer, fault: Fault | None) -> web.StreamResponse:
        body = answer.body
        if isinstance(fault, Corrupts) and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if isinstance(fault, Renames):
            headers = {name: value for name, value in answer.headers.items() if name.lower() != fault.header.lower()}
            headers |= {} if fault.value is None else {fault.header: fault.value}
            return await self._send(request, _Answer(answer.status, headers, body))
        if isinstance(fault, Rewrites):
            headers = {**answer.headers, "Content-Type": "application/xml", "Content-Length": str(len(fault.body))}
            return await self._send(request, _Answer(200, headers, fault.body))
        if not isinstance(fault, Truncates | Stalls | Drips):
            return await self._send(request, _Answer(answer.status, answer.headers, body))
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(body)
        await response.prepare(request)
        with suppress(ConnectionError):
            if isinstance(fault, Drips):
                await self._drip(response, body, fault.pause)
            else:
                await response.write(body[: len(body) // 2])
            if isinstance(fault, Stalls):
                await self._over.wait()
        if not isinstance(fault, Drips):
            self._abort(request)
        return response

    async def _drip(self, response: web.StreamResponse, body: bytes, pause: float) -> None:
        for byte in body:
            await response.write(bytes([byte]))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), pause)

    async def _send(self, request: web.BaseRequest, answer: _Answer) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        if "Content-Length" not in answer.headers and answer.status not in (204, 304):
            response.content_length = len(answer.body)
        await response.prepare(request)
        if answer.body and request.method != "HEAD":
            await response.write(answer.body)
        await response.write_eof()
        return response

    def _reset(self, request: web.BaseRequest, line: str, fault: Fault | None) -> web.StreamResponse:
        self.seen.append(Seen(line, 0, fault))
        return self._abort(request)

    def _abort(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.StreamResponse()  # nobody gets it


async def _body(request: web.BaseRequest) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    return await request.read()


def _own(fault: Answers) -> _Answer:
    body = fault.body
    if body is None:
        code = f"<Code>{fault.code}</Code><Message>words of the server</Message>" if fault.code else ""
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error>{code}</Error>'.encode() if code else b""
    headers = {"Content-Type": fault.content_type, **fault.headers}
    if fault.retry_after is not None:
        headers["Retry-After"] = fault.retry_after
    return _Answer(fault.status, headers, body)


@contextmanager
def fault_proxy_beside(target: str, tls: ssl.SSLContext | None = None) -> Iterator[FaultProxy]:
    """The proxy in a thread of its own, for tests that have no event loop; its fields may be set from outside."""
    proxy = FaultProxy(target, tls)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result(_START_SECONDS)
        try:
            yield proxy
        finally:
            asyncio.run_coroutine_threadsafe(proxy.__aexit__(None, None, None), loop).result(_START_SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_START_SECONDS)
        loop.close()
