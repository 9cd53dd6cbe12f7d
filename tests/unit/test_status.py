"""The status server: its answers, and that nobody can hold it up."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from cdn77_exporter import settings
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.status.server import KEEP, SECURITY_HEADERS, StatusServer
from cdn77_exporter.telemetry.logger import Telemetry

LOOPBACK = ("127.0.0.1", 0)
LEAST = {
    "S3_ENDPOINT": "https://eu-1.cdn77-storage.com",
    "S3_BUCKET": "logs",
    "S3_PREFIX": "all",
    "S3_ACCESS_KEY": "AKIAEXAMPLEKEY",
    "S3_SECRET_KEY": "wJalrXUtnFEMIexample",
    "PROMETHEUS_URL": "https://prometheus.example.com/api/v1/write",
}


@pytest.fixture
def log() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def telemetry(log: io.BytesIO) -> Telemetry:
    return Telemetry(settings.load(LEAST).masker(), stream=log, now=lambda: 0.0)


async def fail(request: web.Request) -> web.Response:
    raise RuntimeError("wJalrXUtnFEMIexample at 203.0.113.9")


async def page(request: web.Request) -> web.Response:
    return web.Response(text="a page", headers={"Content-Security-Policy": "default-src 'self'"})


@pytest.fixture
async def server(telemetry: Telemetry) -> AsyncIterator[StatusServer]:
    async with StatusServer(LOOPBACK, telemetry, [web.get("/fail", fail), web.get("/page", page)]) as server:
        yield server


@pytest.fixture
async def client(server: StatusServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session


async def ask(port: int, words: bytes) -> bytes:
    """Everything that the server answers to these bytes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(words)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_metrics_are_served_in_the_text_format(client: aiohttp.ClientSession, telemetry: Telemetry) -> None:
    """A scrape gives the self-metrics as they are now."""
    telemetry("files_deleted", count=3)
    async with client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "cdn77_exporter_deleted_files_total 3.0" in await answer.text()


async def test_the_service_is_alive_while_it_answers(client: aiohttp.ClientSession) -> None:
    """Liveness does not depend on the bucket or the receiver."""
    async with client.get("/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"alive": True})


async def test_readiness_says_what_is_wrong_since_when_and_what_to_do(
    client: aiohttp.ClientSession, telemetry: Telemetry
) -> None:
    """503 with the problems while something is wrong; 200 otherwise."""
    async with client.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"ready": True, "problems": []})
    telemetry.problems.found("receiver", "401: check AKIAEXAMPLEKEY")
    async with client.get("/readyz") as answer:
        problem = {"what": "receiver", "since": "1970-01-01T00:00:00.000Z", "remedy": "401: check ***"}
        assert (answer.status, await answer.json()) == (503, {"ready": False, "problems": [problem]})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 200),
        ("HEAD", "/metrics", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/", 404),
        ("GET", "/metrics/../etc/passwd", 404),
        ("POST", "/metrics", 405),
        ("GET", "/fail", 500),
    ],
)
async def test_every_answer_has_the_security_headers(
    client: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    """Also errors; and no answer names the server's software or is kept by a cache."""
    async with client.request(method, path) as answer:
        assert answer.status == status
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert answer.headers["Server"] == "cdn77_exporter"
        assert answer.headers["Connection"] == "close"
        if status == 405:
            assert answer.headers["Allow"] == "GET,HEAD"


async def test_a_page_may_have_a_policy_of_its_own(client: aiohttp.ClientSession) -> None:
    """A route that is added keeps its Content-Security-Policy."""
    async with client.get("/page") as answer:
        assert answer.headers["Content-Security-Policy"] == "default-src 'self'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "words", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n"]
)
async def test_what_is_not_http_is_refused_with_the_same_headers(server: StatusServer, words: bytes) -> None:
    """TLS on the plain port, an unknown version, an endless path: 400, and the headers of every answer."""
    answer = await ask(server.port, words)
    head = answer.partition(b"\r\n\r\n")[0].decode()
    assert head.startswith("HTTP/1.") and " 400 " in head.splitlines()[0]
    for name, value in SECURITY_HEADERS.items():
        assert f"{name}: {value}" in head
    assert "aiohttp" not in head


async def test_a_failing_answer_is_told_and_masked(
    client: aiohttp.ClientSession, telemetry: Telemetry, log: io.BytesIO
) -> None:
    """The client learns nothing of the error, the log has it without secrets, and the server goes on."""
    async with client.get("/fail") as answer:
        assert await answer.json() == {"error": "internal error; see the log"}
    told = json.loads(log.getvalue().splitlines()[-1])
    assert (told["message"], told["error"]) == ("status_answer_failed", "RuntimeError: *** at ***")
    async with client.get("/healthz") as answer:
        assert answer.status == 200


async def test_a_body_is_not_waited_for(server: StatusServer) -> None:
    """A request that announces a gigabyte gets its answer and the connection is closed."""
    words = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    assert (await ask(server.port, words)).startswith(b"HTTP/1.1 405 ")


async def test_only_so_many_connections_are_open_at_once(telemetry: Telemetry) -> None:
    """One more than the bound is closed at once; when one ends, there is room again."""
    async with StatusServer(LOOPBACK, telemetry, connections=2) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        assert await ask(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        for _, writer in silent:
            writer.close()
        answer = b""
        while not answer:  # until the server has seen that they are gone
            answer = await ask(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b'{"alive":true}' in answer


@pytest.mark.parametrize("words", [b"", b"GET /healthz HTTP/1.1\r\nHost:"])
async def test_a_client_that_does_not_finish_its_request_is_cut_off(telemetry: Telemetry, words: bytes) -> None:
    """Neither silence nor half a request holds a connection longer than the bound."""
    async with StatusServer(LOOPBACK, telemetry, seconds=0.05) as server:
        assert await ask(server.port, words) == b""


async def test_a_route_may_keep_its_connection(telemetry: Telemetry) -> None:
    """A stream of events goes on past the bound of other connections."""
    go_on = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        request.app[KEEP](request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await go_on.wait()
        await response.write(b"data: 2\n\n")
        return response

    held = StatusServer(LOOPBACK, telemetry, [web.get("/events", stream)], seconds=0.05)
    async with held:
        streaming = asyncio.create_task(ask(held.port, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"))
        # Another connection that is cut off proves that the bound has passed for the first as well.
        await ask(held.port, b"")
        go_on.set()
        assert b"data: 2" in await streaming


async def test_an_address_in_use_is_a_fault_of_the_configuration(server: StatusServer, telemetry: Telemetry) -> None:
    """The operator is told which variable to change."""
    with pytest.raises(ConfigError) as caught:
        async with StatusServer(("127.0.0.1", server.port), telemetry):
            pass
    said = (
        f"HTTP_ADDR: cannot listen on 127.0.0.1:{server.port} (Address already in use); use another address, or `off`."
    )
    assert caught.value.faults == [said]


async def test_the_server_says_where_it_listens(server: StatusServer, log: io.BytesIO) -> None:
    """With port 0 the line has the port that was chosen."""
    assert json.loads(log.getvalue())["address"] == f"127.0.0.1:{server.port}"
