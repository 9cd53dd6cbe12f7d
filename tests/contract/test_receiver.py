"""One suite over the demonstration's receiver and a real Prometheus: the writer is told the same by both."""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import trustme

from cdn77_exporter.core.encode.blocks import compress
from cdn77_exporter.core.encode.remote_write_1 import labels_of, metadata_entries, series_entry
from cdn77_exporter.core.encode.remote_write_pb2 import Sample
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.core.measures import MEASURES
from cdn77_exporter.demo.receiver import Receiver
from cdn77_exporter.edge.receiver import RemoteWriter
from tests.support.prometheus import BINARY, Prometheus, free_port, require_prometheus
from tests.support.requests import STALE, request_body

Samples = list[tuple[int, float]]
_names = (f"contract_{number}_total" for number in itertools.count())


class Subject(Protocol):
    """A receiver under test."""

    @property
    def write_url(self) -> str:
        """Where it takes requests."""

    def stored(self, metric: str) -> Samples:
        """The samples of a metric with one series; stale markers are left out."""


@dataclass
class Embedded:
    """The demonstration's receiver."""

    receiver: Receiver

    @property
    def write_url(self) -> str:
        return self.receiver.write_url

    def stored(self, metric: str) -> Samples:
        found = [
            [(at, value) for at, value in samples if value == value]  # noqa: PLR0124
            for labels, samples in self.receiver.store.series().items()
            if dict(labels)["__name__"] == metric
        ]
        return found[0] if found else []


@dataclass
class Real:
    """A real Prometheus."""

    prometheus: Prometheus

    @property
    def write_url(self) -> str:
        return self.prometheus.write_url

    def stored(self, metric: str) -> Samples:
        found = list(self.prometheus.samples(metric).values())
        return found[0] if found else []


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus without an out-of-order window."""
    with Prometheus(tmp_path_factory.mktemp("prometheus")) as running:
        yield running


@pytest.fixture(params=["embedded", pytest.param("prometheus", marks=pytest.mark.prometheus)])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """Each receiver in turn."""
    if request.param == "prometheus":
        yield Real(request.getfixturevalue("prometheus"))
        return
    async with Receiver() as receiver:
        yield Embedded(receiver)


@pytest.fixture
async def writer(subject: Subject) -> AsyncIterator[RemoteWriter]:
    """A writer to the receiver under test."""
    async with RemoteWriter(subject.write_url) as ready:
        yield ready


@pytest.fixture
def metric() -> str:
    """A metric that no other test writes."""
    return next(_names)


@pytest.fixture
def now() -> int:
    """A minute ago: far from the edge of what may be asked for."""
    return int(time.time() * 1000) - 60_000


def body(metric: str, *samples: tuple[int, float]) -> bytes:
    """A request with one series."""
    return request_body((((("__name__", metric), ("pop", "parisFR"))), samples))


async def test_samples_arrive(subject: Subject, writer: RemoteWriter, metric: str, now: int) -> None:
    """Several samples of a series in one request are all stored, in their order."""
    samples = [(now, 1.0), (now + 1000, 2.0), (now + 2000, 4.5)]
    await writer.write(body(metric, *samples))
    assert subject.stored(metric) == samples


async def test_the_bytes_of_the_service_arrive(subject: Subject, writer: RemoteWriter, now: int) -> None:
    """A request put together by the encoder, with metadata, is understood."""
    chosen = MEASURES.rows[1]
    labels = labels_of(chosen, [f'{name} "\\ä\n' for name in chosen.labels])
    samples = [Sample(value=7.0, timestamp=now), Sample(value=8.0, timestamp=now + 15_000)]
    await writer.write(compress(series_entry(labels, samples) + metadata_entries(MEASURES.rows)))
    assert subject.stored(chosen.name) == [(now, 7.0), (now + 15_000, 8.0)]


async def test_metadata_alone_is_accepted(writer: RemoteWriter, metric: str) -> None:
    """A request without a series is no fault."""
    await writer.write(request_body(metadata=[(metric, "counter", "Things.")]))


async def test_a_request_may_come_twice(subject: Subject, writer: RemoteWriter, metric: str, now: int) -> None:
    """What was already stored is accepted again when it is the newest, and is not stored twice."""
    sent = body(metric, (now, 1.0))
    await writer.write(sent)
    await writer.write(sent)
    assert subject.stored(metric) == [(now, 1.0)]


@pytest.mark.parametrize("step", [1, 1000, 30 * 60_000])
async def test_out_of_order_is_refused(
    subject: Subject, writer: RemoteWriter, metric: str, now: int, step: int
) -> None:
    """A sample older than the newest of its series is refused with 400 and words that say so."""
    await writer.write(body(metric, (now, 1.0)))
    with pytest.raises(Refused) as raised:
        await writer.write(body(metric, (now - step, 0.5)))
    assert raised.value.status == 400
    assert "out of order" in raised.value.words
    assert subject.stored(metric) == [(now, 1.0)]


async def test_another_value_at_the_same_time_is_refused(
    subject: Subject, writer: RemoteWriter, metric: str, now: int
) -> None:
    """What is stored at an instant stays."""
    await writer.write(body(metric, (now, 1.0)))
    with pytest.raises(Refused) as raised:
        await writer.write(body(metric, (now, 2.0)))
    assert "duplicate sample for timestamp" in raised.value.words
    assert subject.stored(metric) == [(now, 1.0)]


async def test_one_bad_sample_costs_the_whole_request(
    subject: Subject, writer: RemoteWriter, metric: str, now: int
) -> None:
    """Of good series beside a refused sample nothing is stored."""
    await writer.write(body(metric, (now, 1.0)))
    others = [((("__name__", f"beside_{metric}"), ("n", str(number))), [(now, 1.0)]) for number in range(99)]
    with pytest.raises(Refused):
        await writer.write(request_body(*others, ((("__name__", metric), ("pop", "parisFR")), [(now - 1, 1.0)])))
    assert subject.stored(f"beside_{metric}") == []


async def test_a_series_can_end_and_come_back(subject: Subject, writer: RemoteWriter, metric: str, now: int) -> None:
    """A stale marker is accepted, and a later sample after it too."""
    await writer.write(body(metric, (now, 1.0)))
    await writer.write(body(metric, (now + 1000, STALE)))
    await writer.write(body(metric, (now + 2000, 3.0)))
    assert subject.stored(metric) == [(now, 1.0), (now + 2000, 3.0)]


async def test_a_new_series_may_be_behind_the_others(
    subject: Subject, writer: RemoteWriter, metric: str, now: int
) -> None:
    """Up to nearly an hour behind the newest sample of all a series may begin; beyond that it is refused."""
    await writer.write(body(metric, (now, 1.0)))
    await writer.write(body(f"behind_{metric}", (now - 58 * 60_000, 1.0)))
    with pytest.raises(Refused) as raised:
        await writer.write(body(f"far_{metric}", (now - 63 * 60_000, 1.0)))
    assert raised.value.status == 400
    assert subject.stored(f"behind_{metric}") == [(now - 58 * 60_000, 1.0)]
    assert subject.stored(f"far_{metric}") == []


@pytest.mark.parametrize("sent", [b"\xff" * 30, b"no snappy at all", b""])
async def test_what_is_not_snappy_is_refused(writer: RemoteWriter, sent: bytes) -> None:
    """Bytes that cannot be inflated are answered with 400."""
    with pytest.raises(Refused) as raised:
        await writer.write(sent)
    assert raised.value.status == 400


async def test_another_path_is_a_misconfiguration(subject: Subject) -> None:
    """A wrong path is answered by 404 or 405, and the remedy names the variable."""
    async with RemoteWriter(subject.write_url.replace("/write", "/wrote")) as writer:
        with pytest.raises(Misconfigured) as raised:
            await writer.write(request_body())
    assert "PROMETHEUS_URL" in raised.value.remedy


#: bcrypt of the password "test", as in Prometheus' own documentation.
_HASH = "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay"


@dataclass
class Guarded:
    """A Prometheus that asks for a client certificate and a password, over TLS."""

    port: int
    ca_bundle: Path
    client: Path  # certificate and key in one file
    stranger: Path  # of another authority

    @property
    def write_url(self) -> str:
        return f"https://127.0.0.1:{self.port}/api/v1/write"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """It runs for the tests of this module."""
    require_prometheus()
    folder = tmp_path_factory.mktemp("guarded")
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(str(folder / "server.key"))
    server.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, issuer in (("client", authority), ("stranger", trustme.CA())):
        issuer.issue_cert(f"{name}@example.org").private_key_and_cert_chain_pem.write_to_path(str(folder / name))
    (folder / "web.yml").write_text(
        f"tls_server_config: {{cert_file: {folder}/server.pem, key_file: {folder}/server.key, max_version: TLS12, "
        f"client_auth_type: RequireAndVerifyClientCert, client_ca_file: {folder}/ca.pem}}\n"
        f"basic_auth_users: {{exporter: '{_HASH}'}}\n"
    )
    (folder / "prometheus.yml").write_text("")
    port = free_port()
    running = subprocess.Popen(
        [
            str(BINARY),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.config.file={folder}/web.yml",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-remote-write-receiver",
            "--log.level=error",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield Guarded(port, folder / "ca.pem", folder / "client", folder / "stranger")
    finally:
        running.terminate()
        running.wait(15)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


async def written(guarded: Guarded, url: str | None = None, **options: Any) -> None:
    """One write to the guarded Prometheus."""
    given: dict[str, Any] = {
        "user": "exporter",
        "password": "test",
        "ca_bundle": guarded.ca_bundle,
        "client_cert": guarded.client,
    }
    async with RemoteWriter(url or guarded.write_url, **(given | options)) as writer:
        await until_ready(writer)


async def until_ready(writer: RemoteWriter) -> None:
    """Write to a server that listens, and answers 503 until its storage is open."""
    deadline = time.monotonic() + 30
    while True:
        try:
            await writer.write(request_body(metadata=[("m", "counter", "Things.")]))
        except Transient:
            if time.monotonic() > deadline:
                raise
        else:
            return
        await asyncio.sleep(0.1)


@pytest.mark.prometheus
async def test_certificate_and_password_open_a_guarded_receiver(guarded: Guarded) -> None:
    """Mutual TLS and basic authentication work together against the real server."""
    await written(guarded)


@pytest.mark.prometheus
@pytest.mark.parametrize("options", [{"password": "wrong"}, {"user": "nobody"}, {"user": None}])
async def test_wrong_credentials_are_a_misconfiguration(guarded: Guarded, options: dict[str, Any]) -> None:
    """The real 401 leads to the credentials' variables."""
    with pytest.raises(Misconfigured) as raised:
        await written(guarded, **options)
    assert "401" in str(raised.value)
    assert "PROMETHEUS_PASSWORD" in raised.value.remedy


@pytest.mark.prometheus
@pytest.mark.parametrize("which", ["none", "stranger"])
async def test_a_client_without_a_right_certificate_is_told(guarded: Guarded, which: str) -> None:
    """The alert of the real server leads to the certificate's variables."""
    with pytest.raises(Misconfigured) as raised:
        await written(guarded, client_cert=guarded.stranger if which == "stranger" else None)
    assert "PROMETHEUS_CLIENT_CERT" in raised.value.remedy


@pytest.mark.prometheus
async def test_plain_http_to_the_real_tls_port_is_a_misconfiguration(guarded: Guarded) -> None:
    """The real server's 400 for it is not taken for bad samples."""
    with pytest.raises(Misconfigured) as raised:
        await written(guarded, guarded.write_url.replace("https:", "http:"))
    assert "https" in raised.value.remedy


@pytest.mark.prometheus
async def test_a_receiver_that_is_switched_off_is_a_misconfiguration(tmp_path: Path) -> None:
    """Prometheus without its receiver answers 404, and the remedy names the switch."""
    require_prometheus()
    (tmp_path / "prometheus.yml").write_text("")
    port = free_port()
    running = subprocess.Popen(  # noqa: ASYNC220
        [
            str(BINARY),
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        async with RemoteWriter(f"http://127.0.0.1:{port}/api/v1/write") as writer:
            with pytest.raises(Misconfigured) as raised:
                await until_ready(writer)
        assert "--web.enable-remote-write-receiver" in raised.value.remedy
    finally:
        running.terminate()
        running.wait(15)
