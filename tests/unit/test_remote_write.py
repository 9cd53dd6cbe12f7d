"""What the writer sends, and what it makes of every answer."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme

from cdn77_exporter import __version__
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.edge.receiver import RemoteWriter
from tests.support.fake_receiver import FakeReceiver
from tests.support.prometheus import free_port
from tests.support.requests import request_body

LABELS = {"__name__": "m_total", "a": "b"}


def body(value: float = 1.0) -> bytes:
    """A request with one sample of now."""
    return request_body((LABELS, [(int(time.time() * 1000), value)]))


@pytest.fixture
async def receiver() -> AsyncIterator[FakeReceiver]:
    """A receiver on loopback."""
    async with FakeReceiver() as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of this test run."""
    return trustme.CA()


def server_tls(authority: trustme.CA, *, name: str = "127.0.0.1", clients: trustme.CA | None = None) -> ssl.SSLContext:
    """A server's TLS context; with `clients` it asks for a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if clients:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[str]:
    """A server that reads one request, says some bytes, and hangs up; its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
        await reader.readexactly(int(length.partition(":")[2]))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1/write"


async def once(url: str, sent: bytes = b"", **options: Any) -> None:
    """One write with a writer of its own."""
    async with RemoteWriter(url, **options) as writer:
        await writer.write(sent or body())


async def test_a_request_has_the_headers_of_the_specification(receiver: FakeReceiver) -> None:
    """Encoding, type, version and program are named, and the body arrives as it was given."""
    sent = body()
    await once(receiver.write_url, sent)
    headers = receiver.headers[0]
    assert receiver.bodies == [sent]
    assert headers["Content-Encoding"] == "snappy"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    assert headers["User-Agent"] == f"cdn77-exporter/{__version__}"
    assert headers["Content-Length"] == str(len(sent))
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"user": "u", "password": "päß"}, "Basic dTpww6TDnw=="),
        ({"user": "u"}, "Basic dTo="),
        ({"bearer_token": "t0ken"}, "Bearer t0ken"),
        ({"headers": {"Authorization": "Custom x"}}, "Custom x"),
    ],
)
async def test_credentials_become_a_header(receiver: FakeReceiver, options: dict[str, Any], expected: str) -> None:
    """Basic and bearer authentication look as their specifications say."""
    await once(receiver.write_url, **options)
    assert receiver.headers[0]["Authorization"] == expected


async def test_a_changed_secret_is_used_at_once(receiver: FakeReceiver) -> None:
    """A callable is asked before every attempt."""
    tokens = iter(["first", "second"])
    async with RemoteWriter(receiver.write_url, bearer_token=lambda: next(tokens)) as writer:
        await writer.write(body())
        await writer.write(body())
    assert [headers["Authorization"] for headers in receiver.headers] == ["Bearer first", "Bearer second"]


@pytest.mark.guarantee("copies.secrets")
async def test_headers_that_have_changed_are_used_at_once(receiver: FakeReceiver) -> None:
    """The mapping is read before every attempt: its file may have been replaced."""
    headers = {"X-Token": "first"}
    async with RemoteWriter(receiver.write_url, headers=headers) as writer:
        await writer.write(body())
        headers["X-Token"] = "second"
        await writer.write(body())
    assert [sent["X-Token"] for sent in receiver.headers] == ["first", "second"]


async def test_credentials_in_the_address_are_used_and_hidden(receiver: FakeReceiver) -> None:
    """They go into the header, and no error text shows them."""
    url = receiver.write_url.replace("://", "://someone:s3cret@")
    await once(url)
    assert receiver.headers[0]["Authorization"] == "Basic c29tZW9uZTpzM2NyZXQ="
    await receiver.go_away()
    with pytest.raises(Transient) as raised:
        await once(url)
    assert "s3cret" not in str(raised.value)


async def test_extra_headers_are_sent_and_cannot_break_the_protocol(receiver: FakeReceiver) -> None:
    """A tenant header arrives; one of the protocol's own keeps its value."""
    await once(receiver.write_url, headers={"X-Scope-OrgID": "team", "Content-Encoding": "gzip"})
    assert receiver.headers[0]["X-Scope-OrgID"] == "team"
    assert receiver.headers[0]["Content-Encoding"] == "snappy"


@pytest.mark.parametrize("options", [{"headers": {"X-A": "s3cret\r\nX-B: c"}}, {"bearer_token": "s3cret\nx"}])
async def test_a_header_that_cannot_be_sent_is_a_misconfiguration(
    receiver: FakeReceiver, options: dict[str, Any]
) -> None:
    """Line breaks never reach the receiver, and the value is not told."""
    with pytest.raises(Misconfigured) as raised:
        await once(receiver.write_url, **options)
    assert "s3cret" not in f"{raised.value} {raised.value.remedy}"
    assert receiver.bodies == []


async def test_a_secret_that_cannot_be_read_is_a_misconfiguration(receiver: FakeReceiver, tmp_path: Path) -> None:
    """A secret's file that has gone stops the writing, not the process."""
    with pytest.raises(Misconfigured) as raised:
        await once(receiver.write_url, user="u", password=(tmp_path / "gone").read_text)
    assert "PROMETHEUS_PASSWORD_FILE" in raised.value.remedy


async def test_the_connection_is_kept(receiver: FakeReceiver) -> None:
    """Many writes, refused ones among them, use one connection."""
    sent = body()
    async with RemoteWriter(receiver.write_url) as writer:
        for _ in range(5):
            await writer.write(sent)
        receiver.answer(400, "no " * 10_000)
        receiver.answer(503)
        with pytest.raises(Refused):
            await writer.write(body())
        with pytest.raises(Transient):
            await writer.write(body())
    assert len(receiver.bodies) == 7
    assert len(receiver.connections) <= 2  # an answer that is too long to be read to its end may cost one


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_every_2xx_is_done(receiver: FakeReceiver, status: int) -> None:
    """Acceptance has several codes."""
    receiver.answer(status, "" if status == 204 else "fine")
    await once(receiver.write_url)


async def test_a_web_page_is_no_acceptance(receiver: FakeReceiver) -> None:
    """A login form answers 200 to anything; taking that for a receipt would lose everything."""
    receiver.answer(200, "<html>", Content_Type="text/html")
    with pytest.raises(Misconfigured) as raised:
        await once(receiver.write_url)
    assert "PROMETHEUS_URL" in raised.value.remedy


@pytest.mark.parametrize("status", [400, 402, 406, 409, 413, 422, 431])
async def test_bad_data_is_refused_for_good(receiver: FakeReceiver, status: int) -> None:
    """A 4xx about the request carries the receiver's words."""
    receiver.answer(status, "out of order\nsample")
    with pytest.raises(Refused) as raised:
        await once(receiver.write_url)
    assert (raised.value.status, raised.value.words) == (status, "out of order sample")


@pytest.mark.parametrize(
    ("status", "named"),
    [
        (301, "PROMETHEUS_URL"),
        (302, "PROMETHEUS_URL"),
        (308, "PROMETHEUS_URL"),
        (401, "PROMETHEUS_PASSWORD"),
        (403, "PROMETHEUS_HEADERS"),
        (404, "--web.enable-remote-write-receiver"),
        (405, "PROMETHEUS_URL"),
        (407, "HTTPS_PROXY"),
        (415, "PROMETHEUS_URL"),
    ],
)
async def test_a_misconfiguration_comes_with_a_remedy(receiver: FakeReceiver, status: int, named: str) -> None:
    """What an operator must change is named, and a redirect is not followed."""
    receiver.answer(status, "no", Location=receiver.write_url)
    with pytest.raises(Misconfigured) as raised:
        await once(receiver.write_url)
    assert named in raised.value.remedy
    assert len(receiver.bodies) == 1


async def test_a_redirect_tells_its_target_without_secrets(receiver: FakeReceiver) -> None:
    """User, password and query of a Location are left out."""
    receiver.answer(307, Location="https://u:s3cret@elsewhere.example/write?token=s3cret")
    with pytest.raises(Misconfigured) as raised:
        await once(receiver.write_url)
    assert str(raised.value) == "307 redirects to https://elsewhere.example/write"


@pytest.mark.parametrize(
    "words",
    ["Client sent an HTTP request to an HTTPS server.", "<html><body>The plain HTTP request was sent to HTTPS port"],
)
async def test_plain_http_to_a_tls_port_is_a_misconfiguration(receiver: FakeReceiver, words: str) -> None:
    """That 400 is about the address, not about the samples."""
    receiver.answer(400, words)
    with pytest.raises(Misconfigured) as raised:
        await once(receiver.write_url)
    assert "https" in raised.value.remedy


@pytest.mark.guarantee("receiver.away", "receiver.fails")
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_trouble_may_pass(receiver: FakeReceiver, status: int) -> None:
    """Overload and server errors are worth another attempt; a gateway that failed may have lost an answer."""
    receiver.answer(status, "later")
    with pytest.raises(Transient) as raised:
        await once(receiver.write_url)
    assert raised.value.retry_after is None
    assert str(raised.value) == f"{status} later"
    assert raised.value.lost == (status in (502, 504))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("17", 17.0),
        (" 2.5 ", 2.5),
        ("Fri, 01 Jan 2016 00:00:00 GMT", 0.0),
        ("-3", None),
        ("soon", None),
        ("1e9999", None),
        ("٣", None),
        ("", None),
    ],
)
async def test_the_wish_to_wait_is_read(receiver: FakeReceiver, text: str, seconds: float | None) -> None:
    """Seconds and past dates are understood; nonsense is no wish."""
    receiver.answer(503, Retry_After=text)
    with pytest.raises(Transient) as raised:
        await once(receiver.write_url)
    assert raised.value.retry_after == seconds


async def test_a_date_to_wait_for_is_meant_by_the_receivers_clock(receiver: FakeReceiver) -> None:
    """A receiver whose clock is years off asks for a minute and gets a minute."""
    then = 1_000_000_000
    receiver.answer(429, Date=formatdate(then, usegmt=True), Retry_After=formatdate(then + 60, usegmt=True))
    with pytest.raises(Transient) as raised:
        await once(receiver.write_url)
    assert raised.value.retry_after == 60.0


async def test_words_are_cut_and_cleaned(receiver: FakeReceiver) -> None:
    """Of a long and dirty answer one printable line of at most 500 characters is left."""
    receiver.answer(400, "a\x00b\x1b[31m\r\nc\u2028d\u202ee " + "x" * 100_000)
    with pytest.raises(Refused) as raised:
        await once(receiver.write_url)
    assert raised.value.words.startswith("a b [31m c d e xxx")
    assert raised.value.words.isprintable()
    assert len(raised.value.words) == 500


async def test_a_silent_receiver_is_left_in_time(receiver: FakeReceiver) -> None:
    """Without an answer the attempt ends; the next one works."""
    receiver.stall()
    async with RemoteWriter(receiver.write_url, timeout_seconds=0.2) as writer:
        with pytest.raises(Transient) as raised:
            await writer.write(body())
        assert "0.2 seconds" in str(raised.value)
        assert raised.value.lost
        receiver.go_on()
        await writer.write(body())


async def test_an_absent_receiver_may_come_back(receiver: FakeReceiver) -> None:
    """A refused connection and a dropped one are transient; of the dropped one the answer may be lost."""
    async with RemoteWriter(receiver.write_url) as writer:
        await writer.write(body())
        await receiver.go_away()
        with pytest.raises(Transient) as dropped:
            await writer.write(body())
        with pytest.raises(Transient) as refused:
            await writer.write(body())
        assert (dropped.value.lost, refused.value.lost) == (True, False)
        await receiver.come_back()
        await writer.write(body())


async def test_an_unknown_name_may_be_known_later() -> None:
    """A DNS failure is transient and says which name."""
    with pytest.raises(Transient) as raised:
        await once("http://receiver.invalid/api/v1/write")
    assert "receiver.invalid" in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort",
    ],
)
async def test_an_accepted_request_is_accepted_whatever_follows(answer: bytes) -> None:
    """Once the status says yes, a broken rest of the answer changes nothing."""
    async with raw_server(answer) as url:
        await once(url)


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 2", b"\x00" * 100, b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000]
)
async def test_what_is_no_answer_is_transient(answer: bytes) -> None:
    """Nothing, garbage and half an answer are no acceptance."""
    async with raw_server(answer) as url:
        with pytest.raises(Transient):
            await once(url)


async def test_a_refusal_counts_even_when_its_words_do_not_arrive() -> None:
    """The status alone says what it means."""
    async with raw_server(b"HTTP/1.1 400 Bad\r\nContent-Length: 1000\r\n\r\nout of") as url:
        with pytest.raises(Refused) as raised:
            await once(url)
    assert raised.value.status == 400


async def test_a_certificate_of_the_own_authority_is_trusted(authority: trustme.CA, tmp_path: Path) -> None:
    """With its authority in PROMETHEUS_CA_BUNDLE a private receiver is written to."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with FakeReceiver(tls=server_tls(authority)) as receiver:
        await once(receiver.write_url, ca_bundle=tmp_path / "ca.pem")
        assert len(receiver.bodies) == 1


@pytest.mark.parametrize("wrong", ["authority", "name", "no bundle"])
async def test_a_certificate_that_cannot_be_trusted_is_a_misconfiguration(
    authority: trustme.CA, tmp_path: Path, wrong: str
) -> None:
    """Nothing is sent to a receiver that cannot prove who it is."""
    (trustme.CA() if wrong == "authority" else authority).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    name = "other.example" if wrong == "name" else "127.0.0.1"
    async with FakeReceiver(tls=server_tls(authority, name=name)) as receiver:
        with pytest.raises(Misconfigured) as raised:
            await once(receiver.write_url, ca_bundle=None if wrong == "no bundle" else tmp_path / "ca.pem")
        assert receiver.bodies == []
    assert "CERTIFICATE_VERIFY_FAILED" in str(raised.value)
    assert "PROMETHEUS_CA_BUNDLE" in raised.value.remedy


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_tls_files_that_cannot_be_used_are_a_misconfiguration(tmp_path: Path, content: str | None) -> None:
    """A missing or wrong file is named by its variable."""
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(Misconfigured) as raised:
        await once(f"https://127.0.0.1:{free_port()}/", ca_bundle=tmp_path / "ca.pem")
    assert "PROMETHEUS_CA_BUNDLE" in raised.value.remedy


async def test_tls_to_a_plain_port_is_a_misconfiguration(receiver: FakeReceiver) -> None:
    """https in the address of a receiver without TLS is not retried for ever."""
    with pytest.raises(Misconfigured) as raised:
        await once(receiver.write_url.replace("http:", "https:"))
    assert "PROMETHEUS_URL" in raised.value.remedy


def write_client(authority: trustme.CA, folder: Path, name: str = "exporter@example.org") -> dict[str, Any]:
    """Write a client's certificate and key; the writer's options for them."""
    issued = authority.issue_cert(name)
    issued.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
    issued.private_key_pem.write_to_path(str(folder / "client.key"))
    return {"client_cert": folder / "client.pem", "client_key": folder / "client.key"}


async def test_a_client_certificate_is_shown(authority: trustme.CA, tmp_path: Path) -> None:
    """A receiver that asks for a certificate gets it; without one it takes nothing."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client = write_client(authority, tmp_path)
    async with FakeReceiver(tls=server_tls(authority, clients=authority)) as receiver:
        await once(receiver.write_url, ca_bundle=tmp_path / "ca.pem", **client)
        with pytest.raises((Transient, Misconfigured)):
            await once(receiver.write_url, ca_bundle=tmp_path / "ca.pem")
        assert len(receiver.bodies) == 1


async def test_a_replaced_client_certificate_is_used_without_a_restart(authority: trustme.CA, tmp_path: Path) -> None:
    """New files lead to a new connection; while only half of a pair is replaced, the old one goes on."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client = write_client(trustme.CA(), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    write_client(authority, other)
    async with FakeReceiver(tls=server_tls(authority, clients=authority)) as receiver:
        async with RemoteWriter(receiver.write_url, ca_bundle=tmp_path / "ca.pem", **client) as writer:
            with pytest.raises((Transient, Misconfigured)):
                await writer.write(body())
            os.replace(other / "client.pem", tmp_path / "client.pem")  # noqa: PTH105
            with pytest.raises((Transient, Misconfigured)):
                await writer.write(body())
            os.replace(other / "client.key", tmp_path / "client.key")  # noqa: PTH105
            await writer.write(body())
        assert len(receiver.bodies) == 1
