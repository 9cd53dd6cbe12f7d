"""The status server: its answers, and that nobody can hold it up."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from cdn77_exporter import settings
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.status import server as server_module
from cdn77_exporter.status.server import KEEP, SECURITY_HEADERS, StatusServer
from cdn77_exporter.telemetry.logger import Telemetry
from tests.support.settings import LEAST

LOOPBACK = ("127.0.0.1", 0)


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
    """503 while a problem is not merely amber; 200 otherwise, with those that are."""
    async with client.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"ready": True, "problems": []})
    telemetry.problems.found("lines_rejected", "1.1 % of the lines rejected", "look")
    amber = {"what": "lines_rejected", "severity": "amber", "words": "1.1 % of the lines rejected", "remedy": "look"}
    amber["since"] = "1970-01-01T00:00:00.000Z"
    async with client.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"ready": True, "problems": [amber]})
    telemetry.problems.found("receiver", "401", "check AKIAEXAMPLEKEY")
    red = {"what": "receiver", "severity": "red", "words": "401", "remedy": "check ***", "since": amber["since"]}
    async with client.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (503, {"ready": False, "problems": [red, amber]})


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
    words = b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    assert (await ask(server.port, words)).startswith(b"HTTP/1.1 405 ")


_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.guarantee("copies.connections")
@pytest.mark.parametrize("words", [b"", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"], ids=["silent", "half asked"])
async def test_one_that_takes_every_connection_keeps_nobody_from_the_health_checks(
    telemetry: Telemetry, words: bytes
) -> None:
    """Of 120 connections that are held open at most the bound stay; each health check is answered all the same."""
    async with StatusServer(LOOPBACK, telemetry) as server:
        held = []
        for number in range(120):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(words)
            held.append((reader, writer))
            if number % 10 == 0:
                assert b'{"alive":true}' in await ask(server.port, _HEALTH)
        assert b'{"alive":true}' in await ask(server.port, _HEALTH)
        assert b"200 OK" in await ask(server.port, _HEALTH.replace(b"healthz", b"readyz"))
        oldest, newest = held[0][0], held[-1][0]
        assert await oldest.read() == b""
        assert not newest.at_eof()
        for _, writer in held:
            writer.close()


async def test_who_has_few_connections_keeps_them(telemetry: Telemetry) -> None:
    """It is the address with most connections that loses one, however old those of the others are."""
    async with StatusServer(LOOPBACK, telemetry, connections=3) as server:
        early, asking = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0))
        greedy = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(12)]
        assert await greedy[0][0].read() == b""
        asking.write(_HEALTH)
        assert b'{"alive":true}' in await early.read()
        for _, writer in (*greedy, (early, asking)):
            writer.close()


@pytest.mark.parametrize(
    ("address", "neighbours"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_addresses_that_one_machine_can_have_are_one(address: str, neighbours: str) -> None:
    """A client is known by its address, or by its network where that is its own."""
    assert server_module._neighbours(address) == neighbours


_EXPECTED = ["localhost", "LOCALHOST.", "sub.localhost", "127.0.0.1", "[::1]", "10.1.2.3", "the-service", "The-Service"]


@pytest.mark.parametrize("port", ["", ":9177"])
@pytest.mark.parametrize("host", [*_EXPECTED, socket.gethostname()])
async def test_an_expected_host_is_answered(telemetry: Telemetry, host: str, port: str) -> None:
    """Its address, this machine's name, loopback, IP addresses such as a pod's, and those of HTTP_HOSTS."""
    async with StatusServer(LOOPBACK, telemetry, hosts=["the-service"]) as server:
        words = f"GET /readyz HTTP/1.1\r\nHost: {host}{port}\r\n\r\n"
        assert b"200 OK" in await ask(server.port, words.encode())


@pytest.mark.guarantee("copies.host")
@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nothing"])
@pytest.mark.parametrize(
    "host", ["evil.example.com", "127.0.0.1.evil.example.com", "localhost.evil.example", "x:1", ""]
)
async def test_an_unexpected_host_is_refused(server: StatusServer, log: io.BytesIO, host: str, path: str) -> None:
    """A page of another site whose name leads here (DNS rebinding) reads nothing; the operator is told once a name."""
    words = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    for _ in range(3):
        answer = await ask(server.port, words)
        assert answer.startswith(b"HTTP/1.1 421 ")
        assert b"HTTP_HOSTS" in answer
        assert b"alive" not in answer
        assert b"X-Frame-Options: DENY" in answer
    told = [json.loads(line) for line in log.getvalue().splitlines()]
    assert len([line for line in told if line["message"] == "status_host_refused"]) == 1


async def test_unexpected_hosts_do_not_fill_the_log(server: StatusServer, log: io.BytesIO) -> None:
    """Anybody can invent names."""
    for number in range(50):
        await ask(server.port, f"GET / HTTP/1.1\r\nHost: evil-{number}\r\n\r\n".encode())
    assert log.getvalue().count(b"status_host_refused") == 10


async def test_a_request_without_a_host_is_answered(server: StatusServer) -> None:
    """Simple probes send none; browsers always do."""
    assert b"200 OK" in await ask(server.port, b"GET /healthz HTTP/1.0\r\n\r\n")


async def test_every_host_can_be_allowed(telemetry: Telemetry) -> None:
    """Behind a proxy that looks at names itself."""
    async with StatusServer(LOOPBACK, telemetry, hosts=["*"]) as server:
        assert b"200 OK" in await ask(server.port, b"GET /healthz HTTP/1.1\r\nHost: any.example.com\r\n\r\n")


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
        streaming = asyncio.create_task(ask(held.port, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"))
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
