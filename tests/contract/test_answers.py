"""Answers that real servers and proxies give although they should not: the status counts, whatever comes with it."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.edge.proxies import Proxies
from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.edge.receiver.query import Memory
from cdn77_exporter.edge.s3 import S3Bucket
from tests.support.fake_receiver import FakeReceiver
from tests.support.prometheus import Prometheus
from tests.support.requests import request_body

_OK = b"HTTP/1.1 200 OK\r\n"
_BIG = b"X-Big: " + b"a" * 12_000 + b"\r\n"
TAKEN = {
    "a header of 12 KB": _OK + _BIG + b"Content-Length: 0\r\n\r\n",
    "300 headers": _OK + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 200) for n in range(300)) + b"Content-Length: 0\r\n\r\n",
    "a length told twice": _OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a length told twice in one header": _OK + b"Content-Length: 2, 2\r\n\r\nok",
    "two lengths": _OK + b"Content-Length: 0\r\nContent-Length: 2\r\n\r\nok",
    "a length that is none": _OK + b"Content-Length: +2\r\n\r\nok",
    "a length and chunks": _OK + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks that are none": _OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a body after 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    "a body after 204 without a length": b"HTTP/1.1 204 No Content\r\n\r\nhello",
    "chunks after 204": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a second answer": b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    "a blank in a header's name": _OK + b"X Bad: 1\r\nContent-Length: 0\r\n\r\n",
    "a NUL": _OK + b"X-Bad: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "a folded header": _OK + b"X-Bad: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a long reason": b"HTTP/1.1 200 " + b"O" * 12_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "hints first": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "words": _OK + b"Content-Length: 14\r\n\r\n" + b'{"status":"ok"}'[:14],
    "JSON that tells of a success": _OK + b'Content-Length: 34\r\n\r\n{"status":"success","errors":[ ] }',
}


@asynccontextmanager
async def _server(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """A server that answers each request with these bytes, on connections that it keeps; its address."""
    connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                writer.write(answer(head))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1/write"
    finally:
        server.close()
        for connection in connections:
            connection.close()


@pytest.mark.guarantee("receiver.odd_success")
@pytest.mark.parametrize("name", TAKEN)
async def test_what_is_taken_is_taken_once(name: str) -> None:
    """A 2xx is done at its first attempt, and so is the next request."""
    count = 0

    def answer(_: bytes) -> bytes:
        nonlocal count
        count += 1
        return TAKEN[name]

    async with _server(answer) as url, RemoteWriter(url, timeout_seconds=5) as writer:
        for _ in range(3):
            await writer.write(b"body")
    assert count == 3


async def test_a_refusal_with_a_big_header_keeps_its_words() -> None:
    """What is not accepted is read by the same rules."""
    answer = b"HTTP/1.1 400 Bad\r\n" + _BIG + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nbad"
    async with _server(lambda _: answer) as url, RemoteWriter(url, timeout_seconds=5) as writer:
        with pytest.raises(Refused) as raised:
            await writer.write(b"body")
    assert raised.value.words == "bad"


@pytest.mark.parametrize(
    "answer",
    [b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"\x15\x03\x01\x00\x02", b"a" * 2_000_000],
)
async def test_what_is_no_answer_may_have_been_taken(answer: bytes) -> None:
    """Without a status nobody knows whether the request is stored."""
    async with _server(lambda _: answer) as url, RemoteWriter(url, timeout_seconds=2) as writer:
        with pytest.raises(Transient) as raised:
            await writer.write(b"body")
    assert raised.value.lost


@pytest.mark.guarantee("receiver.web_page")
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/xhtml+xml", '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>'),
        ("", "<!DOCTYPE html><title>Sign in</title>"),
        ("text/plain", "\ufeff\n <HTML>"),
        ("text/html; charset=utf-8", "Sign in"),
        ("application/json", '{"status":"error","errorType":"bad_data","error":"no such tenant"}'),
        ("", '{"error": {"message": "denied"}}'),
        ("", '{"errors": ["denied"]}'),
        ("text/plain", '{"success": false}'),
        ("application/json", '{"statusCode": 404, "message": "Not Found"}'),
        ("application/problem+json", '{"title": "Forbidden", "status": 403}'),
        ("application/json", '{"code": "401", "message": "Unauthorized"}'),
        ("application/json", '[{"error": "denied"}]'),
    ],
)
async def test_a_success_that_is_a_page_or_an_error_is_none(kind: str, body: str) -> None:
    """A login form or a gateway's error with 200 is a misconfiguration, whatever type it has."""
    content = body.encode()
    head = b"HTTP/1.1 200 OK\r\n" + (b"Content-Type: " + kind.encode() + b"\r\n" if kind else b"")
    answer = head + b"Content-Length: %d\r\n\r\n" % len(content) + content
    async with _server(lambda _: answer) as url, RemoteWriter(url, timeout_seconds=5) as writer:
        with pytest.raises(Misconfigured) as raised:
            await writer.write(b"body")
    assert "PROMETHEUS_URL" in raised.value.remedy


async def test_a_success_with_any_json_is_one() -> None:
    """JSON that tells of no error, or is nested deeper than anything reads, is no reason to send a request again."""
    for body in (b'{"code": 200}', b'{"status": "success"}', b"[1, [2]]", b"{}", b'{"a":' + b"[" * 4000):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        async with _server(lambda _, answer=answer: answer) as url, RemoteWriter(url, timeout_seconds=5) as writer:  # type: ignore[misc]
            await writer.write(b"body")


async def test_no_part_of_an_address_that_may_be_secret_is_told() -> None:
    """Neither of the receiver's own address, nor of one that it redirects to."""
    location = b"https://user:hidden@elsewhere/x?token=hidden#hidden"
    redirect = b"HTTP/1.1 307 x\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"
    for answer in (redirect, b"nonsense\r\n\r\n"):
        async with _server(lambda _, answer=answer: answer) as url:  # type: ignore[misc]
            writer = RemoteWriter(f"{url}?token=hidden", timeout_seconds=2)
            async with writer:
                with pytest.raises((Misconfigured, Transient)) as raised:
                    await writer.write(b"body")
        assert "hidden" not in str(raised.value)


@pytest.mark.guarantee("receiver.too_old")
@pytest.mark.parametrize("status", [400, 429, 500, 503])
async def test_too_old_is_a_refusal_with_any_status(status: int) -> None:
    """No other attempt can make a sample younger: Prometheus 2.42 says so with 500."""
    async with FakeReceiver() as receiver:
        receiver.answer(status, "too old sample")
        async with RemoteWriter(receiver.write_url) as writer:
            with pytest.raises(Refused) as raised:
                await writer.write(request_body())
    assert raised.value.too_old


@pytest.mark.guarantee("receiver.too_old")
@pytest.mark.prometheus
@pytest.mark.parametrize("window", ["", "10m"])
async def test_prometheus_says_that_a_sample_is_too_old(tmp_path: Path, window: str) -> None:
    """With an out-of-order window and without, in whatever status and words it says so, and what it holds is known."""
    now_ms = int(time.time() * 1000)
    young, old = (request_body(({"__name__": "m"}, [(now_ms - age, 1.0)])) for age in (0, 90 * 60_000))
    with Prometheus(tmp_path, out_of_order=window) as prometheus:
        async with RemoteWriter(prometheus.write_url) as writer:
            memory = Memory(writer, prometheus.write_url)
            await writer.write(young)
            with pytest.raises(Refused) as raised:
                await writer.write(old)
            assert raised.value.too_old or not window
            assert await memory.holds(young) is True
            assert await memory.holds(old) is False


@asynccontextmanager
async def _forward_proxy(credentials: str = "") -> AsyncIterator[tuple[int, list[str]]]:
    """A forward proxy for plain HTTP and for tunnels; its port, and what went through."""
    seen: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        wanted = f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}"
        if credentials and wanted.encode() not in head:
            writer.write(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()
            return
        seen.append(f"{method} {target}")
        url = URL(f"http://{target}" if method == "CONNECT" else target)
        to_reader, to_writer = await asyncio.open_connection(url.host, url.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            to_writer.write(head.replace(target.encode(), url.raw_path.encode(), 1))
        tasks.add(asyncio.create_task(pump(to_reader, writer)))
        await pump(reader, to_writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()


@pytest.mark.guarantee("receiver.proxy")
async def test_a_receiver_behind_a_forward_proxy() -> None:
    """Requests go through the proxy that the environment names, with its credentials, unless NO_PROXY covers them."""
    async with FakeReceiver() as receiver, _forward_proxy("user:p@ss") as (port, seen):
        environ = {"HTTP_PROXY": f"http://user:p%40ss@127.0.0.1:{port}"}
        url = receiver.write_url
        async with RemoteWriter(url, proxy=Proxies.of(environ).url_for(url)) as writer:
            await writer.write(request_body())
        assert seen == [f"POST {url}"]
        async with RemoteWriter(url, proxy=Proxies.of(environ | {"NO_PROXY": "127.0.0.0/8"}).url_for(url)) as writer:
            await writer.write(request_body())
        assert len(seen) == 1
        async with RemoteWriter(url, proxy=URL(f"http://127.0.0.1:{port}")) as writer:
            with pytest.raises(Misconfigured) as raised:
                await writer.write(request_body())
        assert "HTTPS_PROXY" in raised.value.remedy


@pytest.mark.guarantee("receiver.proxy")
async def test_a_bucket_behind_a_forward_proxy(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket is asked through the proxy that it is given, and through none otherwise."""
    async with _forward_proxy("user:p@ss") as (port, seen):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        login: dict[str, Any] = {"access_key": "a", "secret_key": "b"}
        proxy = URL(f"http://user:p%40ss@127.0.0.1:{port}")
        async with S3Bucket(endpoint=moto, bucket="behind-a-proxy", proxy=proxy, **login) as bucket:
            with pytest.raises(Misconfigured, match="bucket"):
                await bucket.get("key")
        assert seen[0].startswith(f"GET {moto}/behind-a-proxy/key")
        through = len(seen)
        async with S3Bucket(endpoint=moto, bucket="behind-a-proxy", **login) as bucket:
            with pytest.raises(Misconfigured, match="bucket"):
                await bucket.get("key")
        assert len(seen) == through


@pytest.mark.guarantee("receiver.proxy")
@pytest.mark.parametrize(
    ("environ", "target", "shown"),
    [
        ({}, "https://p/", ""),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://p/w", "http://proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, "https://p/w", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://p/w", ""),
        ({"https_proxy": "http://small:1", "HTTPS_PROXY": "http://large:1"}, "https://p/w", "http://small:1"),
        ({"ALL_PROXY": "http://proxy:3128"}, "http://p/w", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://u:secret@proxy:3128/"}, "https://p/w", "http://***@proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "*"}, "https://p/w", ""),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "x, .example.org"}, "https://p.example.org/w", ""),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "example.org"}, "https://p.EXAMPLE.org/w", ""),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "example.org"}, "https://anexample.org/w", "http://proxy:1"),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "p:9090"}, "https://p:9090/w", ""),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "p:9090"}, "https://p/w", "http://proxy:1"),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "10.0.0.0/8"}, "http://10.1.2.3:9090/w", ""),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "10.0.0.0/8"}, "http://11.1.2.3:9090/w", "http://proxy:1"),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "fd00::/8"}, "http://[fd00::1]:9090/w", ""),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "10.0.0.0/8:9090"}, "http://10.1.2.3:9090/w", ""),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "10.0.0.0/8:9090"}, "http://10.1.2.3/w", "http://proxy:1"),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "[::1], p"}, "http://[::1]:9090/w", ""),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "[::1]:9090"}, "http://[::1]:9090/w", ""),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "[::1]:9090"}, "http://[::1]/w", "http://proxy:1"),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "[fd00::]/8"}, "http://[fd00::1]:9090/w", ""),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "*:9090"}, "http://p:9090/w", ""),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "*:9090"}, "http://p/w", "http://proxy:1"),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "x example.org."}, "http://p.example.org./w", ""),
        ({"HTTP_PROXY": "http://proxy:1", "no_proxy": "."}, "http://p/w", "http://proxy:1"),
    ],
)
def test_the_environment_names_the_proxy(environ: dict[str, str], target: str, shown: str) -> None:
    """The usual names and rules; no password is shown."""
    proxies = Proxies.of(environ)
    assert proxies.shown_for(target) == shown
    assert "secret" not in repr(proxies)


def test_no_spelling_of_the_login_is_shown() -> None:
    """The password is masked as it is and as the environment has it, and so is the header made of the login."""
    texts = Proxies.of({"HTTPS_PROXY": "http://user:p%40ss@proxy:3128"}).secret_texts()
    assert {"p@ss", "p%40ss", "dXNlcjpwQHNz"} <= texts


@pytest.mark.parametrize("text", ["socks5://p:1", "http://", "http://p:99999999", "::::"])
def test_what_is_no_proxy_is_a_fault(text: str) -> None:
    """Its variable is named, and its value is not, which may hold a password."""
    with pytest.raises(ValueError, match="HTTPS_PROXY is no proxy that can be used"):
        Proxies.of({"HTTPS_PROXY": text})
