"""The receiver: one attempt of one request over one kept connection, and what its answer means."""

from __future__ import annotations

import base64
import errno
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec
from yarl import URL

from cdn77_exporter import __version__
from cdn77_exporter.core.encode.version import version_of
from cdn77_exporter.core.errors import (
    NO_HISTOGRAMS,
    TOO_LARGE,
    TOO_OLD,
    HistogramsRefused,
    Misconfigured,
    Refused,
    Transient,
    UnsupportedVersion,
)
from cdn77_exporter.edge.http_faults import TlsFault, retry_after, tls_fault
from cdn77_exporter.edge.receiver.answers import Connector
from cdn77_exporter.edge.stamp import Stamp, stamp_of

_WORDS_CHARACTERS = 500
_WORDS_BYTES = 4 * _WORDS_CHARACTERS
_DRAIN_BYTES = 65536  # of an answer that nobody reads, so that the connection can be used again
_CONNECT_SECONDS = 10.0
_KEEP_ALIVE_SECONDS = 45.0  # longer than the time between two ticks

_HEADERS = {
    "User-Agent": f"cdn77-exporter/{__version__}",
    "Accept-Encoding": "identity",  # an answer is a sentence; nothing to inflate
}
#: What a request has beside these, by its version.
_WRITE_HEADERS = {
    version: {
        "Content-Encoding": "snappy",
        "Content-Type": content,
        "X-Prometheus-Remote-Write-Version": number,
    }
    for version, content, number in (
        (1, "application/x-protobuf", "0.1.0"),
        (2, "application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    )
}
#: A receiver of remote write 2.0 has at least one of these in its answer; those that are missing are 0.
_WRITTEN = tuple(f"X-Prometheus-Remote-Write-{kind}-Written" for kind in ("Samples", "Histograms", "Exemplars"))
_MOST_DIGITS = 18

_CREDENTIALS = "check PROMETHEUS_USER and PROMETHEUS_PASSWORD, or PROMETHEUS_BEARER_TOKEN"
_REMEDIES = {
    401: _CREDENTIALS,
    403: f"the receiver knows who writes but does not allow it: {_CREDENTIALS}, the tenant in PROMETHEUS_HEADERS, "
    "and the rights of that account",
    404: "check the path of PROMETHEUS_URL (Prometheus: /api/v1/write), and that the receiver takes remote write: "
    "Prometheus does so only when started with --web.enable-remote-write-receiver",
    405: "check the path of PROMETHEUS_URL; what lies there takes no POST (Prometheus: /api/v1/write)",
    407: "a proxy before the receiver asks for credentials: put them into HTTPS_PROXY or HTTP_PROXY as "
    "`http://user:password@host:port`, or name the receiver in NO_PROXY",
    415: "PROMETHEUS_URL must lead to a receiver of that version of remote write; REMOTE_WRITE_VERSION=auto tries both",
}
_REDIRECTED = "set PROMETHEUS_URL to the address that it redirects to, if that is the receiver; it is not followed"
_WEB_PAGE = "PROMETHEUS_URL leads to a web page (a login form or a proxy, perhaps), not to a remote-write receiver"
_NO_SUCCESS = "PROMETHEUS_URL leads to something that answers 200 to failures too: check its words and the address"
#: Names of a JSON object that say so when they have a value, and values of its status.
_FAILURES = ("error", "errors", "errortype", "error_code", "exception", "fault")
_FAILED = {"error", "fail", "failed", "failure"}
_ERROR_CODE = re.compile(r"[45][0-9]{2,4}")
_TRANSIENT = {408, 425, 429}
#: A gateway answers so when what became of the request behind it is not known.
_ANSWER_LOST = {502, 504}
#: Web servers answer plain HTTP on a TLS port with 400, which would otherwise mean that the samples are bad.
_PLAIN_TO_TLS = re.compile(r"HTTP request.{0,20} HTTPS (server|port)")

_UNTRUSTED = (
    "set PROMETHEUS_CA_BUNDLE to the authority that signed the receiver's certificate, and check its names and dates"
)
_CLIENT_REFUSED = "set PROMETHEUS_CLIENT_CERT and PROMETHEUS_CLIENT_KEY to a certificate that the receiver accepts"
_NOT_TLS = "check the scheme and port of PROMETHEUS_URL; the server did not answer with TLS"
_TLS_REMEDIES = {
    TlsFault.UNTRUSTED: _UNTRUSTED,
    TlsFault.CLIENT_REFUSED: _CLIENT_REFUSED,
    TlsFault.NOT_TLS: _NOT_TLS,
}

_CLOSED = "the receiver closed the connection without an answer"
#: Since TLS 1.3 that is all a client gets to see of a server that misses its certificate.
_CLOSED_TLS = f"{_CLOSED}; if it wants a client certificate, set PROMETHEUS_CLIENT_CERT and PROMETHEUS_CLIENT_KEY"

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\u167f\u1681-\u200a\u2010-\u2027\u2030-\u205e\u2070-\ud7ff\uf900-\uffef]+")

SecretText = str | Callable[[], str] | None


class RemoteWriter:
    """Writes to one receiver; an async context manager.

    A user, password or token may be a callable that is asked before every attempt, as `headers` are, so that a changed
    secret is used at once; certificate files are read again when they change. TLS certificates are always verified.
    Redirects are not followed, since they would carry the credentials to another place.
    """

    def __init__(
        self,
        url: str,
        *,
        user: SecretText = None,
        password: SecretText = None,
        bearer_token: SecretText = None,
        headers: Mapping[str, str] | None = None,
        ca_bundle: Path | str | None = None,
        client_cert: Path | str | None = None,
        client_key: Path | str | None = None,
        timeout_seconds: float = 30.0,
        proxy: URL | None = None,
    ) -> None:
        parsed = URL(url)
        self._url = parsed.with_user(None)  # without the password too: addresses stand in error texts
        self._user = user or parsed.user
        self._password = password or parsed.password
        self._bearer_token = bearer_token
        self._own_headers = headers or {}
        self._tls = _Tls(ca_bundle, client_cert, client_key) if parsed.scheme == "https" else None
        self._timeout_seconds = timeout_seconds
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=Connector(limit=1, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=self._timeout_seconds, sock_connect=min(_CONNECT_SECONDS, self._timeout_seconds)
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def _headers(self) -> dict[str, str]:
        return {**self._own_headers, **_HEADERS}

    async def write(self, body: bytes) -> int | None:
        """Try one request of either version once; returns when the receiver has it, or says so.

        Return how many samples it says to have written; None when it does not, as of 1.0. Raises Refused, Misconfigured
        or Transient.
        """
        version = version_of(body)
        headers = {**self._headers, **_WRITE_HEADERS[version]}
        async with self._answer("POST", self._url, data=body, headers=headers) as response:
            written = _written(response) if version == 2 else None
            await _judge(response, written)
            return written

    async def ask(self, url: str, form: Mapping[str, str], most_bytes: int) -> tuple[int, bytes]:
        """Ask another address of the receiver with the same credentials: the status and at most so many bytes.

        Raises Misconfigured or Transient when there is no answer.
        """
        headers = {name: text for name, text in self._headers.items() if name not in _WRITE_HEADERS[1]}
        method = "POST" if form else "GET"
        async with self._answer(method, URL(url), data=form or None, headers=headers) as response:
            return response.status, await _read(response, most_bytes)

    @asynccontextmanager
    async def _answer(
        self, method: str, url: URL, *, data: object, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Return the answer to one request; what goes wrong below HTTP becomes one of `core.errors`."""
        if self._session is None:
            raise RuntimeError("RemoteWriter is used outside its context")
        context = self._tls.context() if self._tls else True
        try:
            async with self._session.request(
                method,
                url,
                data=data,
                headers={**headers, **self._authorization()},
                ssl=context,
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                yield response
        except aiohttp.ClientHttpProxyError as error:
            if error.status == 407:
                raise Misconfigured("the proxy answers 407", _REMEDIES[407]) from error
            raise Transient(f"the proxy answers {error.status}; see HTTPS_PROXY and NO_PROXY") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise Transient("no connection in time") from error
        except TimeoutError as error:
            raise Transient(f"no answer within {self._timeout_seconds:g} seconds", lost=True) from error
        except aiohttp.InvalidURL as error:
            raise Misconfigured("the address is none that HTTP can reach", "check PROMETHEUS_URL") from error
        except aiohttp.ServerDisconnectedError as error:
            closed = _CLOSED if self._tls is None or self._tls.shows_client else _CLOSED_TLS
            raise Transient(closed, lost=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _network_error(error) from error
        except ValueError:
            # Its text may hold the value of a header, which may be a secret.
            raise Misconfigured(
                "a header cannot be sent", "remove line breaks and the like from PROMETHEUS_HEADERS"
            ) from None

    def _authorization(self) -> dict[str, str]:
        try:
            token = _reveal(self._bearer_token)
            user, password = _reveal(self._user), _reveal(self._password)
        except OSError as error:
            raise Misconfigured(
                f"a secret cannot be read ({type(error).__name__})",
                "check the files that PROMETHEUS_PASSWORD_FILE and PROMETHEUS_BEARER_TOKEN_FILE name",
            ) from error
        if token:
            if not (token.isascii() and token.isprintable()):
                raise Misconfigured(
                    "the bearer token has characters that no header can carry", "check PROMETHEUS_BEARER_TOKEN"
                )
            return {"Authorization": f"Bearer {token}"}
        if user:
            return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
        return {}


class _Tls:
    """The TLS context; made anew when one of its files has changed."""

    def __init__(
        self, ca_bundle: Path | str | None, client_cert: Path | str | None, client_key: Path | str | None
    ) -> None:
        self._ca_bundle, self._client_cert, self._client_key = ca_bundle, client_cert, client_key
        self._paths = [Path(path) for path in (ca_bundle, client_cert, client_key) if path]
        self.shows_client = client_cert is not None
        self._stamp: list[Stamp] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Return the context of the files as they are; while they cannot be read, the one before."""
        try:
            stamp = [stamp_of(path) for path in self._paths]
            if self._context is None or stamp != self._stamp:
                self._context = self._load()
                self._stamp = stamp
        except OSError as error:  # ssl.SSLError is one too
            # A certificate and its key are rarely replaced in one step; the next attempt finds both.
            if self._context is None:
                raise Misconfigured(
                    f"the TLS files cannot be used ({_first_line(error)})",
                    "check the files that PROMETHEUS_CA_BUNDLE, PROMETHEUS_CLIENT_CERT and PROMETHEUS_CLIENT_KEY name",
                ) from error
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._ca_bundle)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._client_cert:
            context.load_cert_chain(self._client_cert, self._client_key, password=_no_passphrase)
        return context


def _no_passphrase() -> str:
    """Raise instead of OpenSSL's question on the terminal."""
    return ""


def _reveal(secret: SecretText) -> str:
    return (secret() if callable(secret) else secret) or ""


def _written(response: aiohttp.ClientResponse) -> int | None:
    """Return how many samples, native histograms among them, an answer says to have written; None when it does not."""
    texts = [text.strip() for name in _WRITTEN if (text := response.headers.get(name)) is not None]
    if not texts or any(not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS for text in texts):
        return None
    return sum(int(response.headers.get(name, "0")) for name in _WRITTEN[:2])


async def _judge(response: aiohttp.ClientResponse, written: int | None) -> None:
    """Return for an accepted request; raise what the answer means for any other."""
    status = response.status
    if 200 <= status < 300:
        _judge_accepted(response, await _read_what_comes(response, _DRAIN_BYTES) if status != 204 else b"")
        return
    words = _words(await _read_what_comes(response, _WORDS_BYTES))
    said = f"{status} {words}".rstrip()
    if status < 400:
        target = response.headers.get("Location", "")
        raise Misconfigured(f"{status} redirects to {_address(target)}", _REDIRECTED)
    if status == 400 and _PLAIN_TO_TLS.search(words):
        raise Misconfigured(said, "the receiver speaks TLS: let PROMETHEUS_URL begin with https")
    if status in _REMEDIES:
        raise (UnsupportedVersion if status == 415 else Misconfigured)(said, _REMEDIES[status])
    if NO_HISTOGRAMS.search(words):  # Prometheus says so with 500
        raise HistogramsRefused(status, words, written)
    # Some say with 500 what no other attempt can change: Prometheus up to 2.x that a sample is too old, gateways that a
    # request is too large.
    passes = status in _TRANSIENT or (status >= 500 and not TOO_LARGE.search(words))
    if passes and not TOO_OLD.search(words):
        lost = status in _ANSWER_LOST
        raise Transient(
            said, retry_after(response.headers), answered=not lost, lost=lost or bool(written), written=written
        )
    raise Refused(status, words, written)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the first bytes of an answer, up to `most`; the rest stays unread and costs the connection."""
    read = bytearray()
    await _read_into(read, response, most)
    return bytes(read)


async def _read_what_comes(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the first bytes of an answer whose status says what it means, so what does not arrive does not matter."""
    read = bytearray()
    with suppress(aiohttp.ClientError, OSError):
        await _read_into(read, response, most)
    return bytes(read)


async def _read_into(read: bytearray, response: aiohttp.ClientResponse, most: int) -> None:
    while len(read) < most:
        piece = await response.content.read(most - len(read))
        if not piece:
            break
        read += piece


def _judge_accepted(response: aiohttp.ClientResponse, body: bytes) -> None:
    """Raise Misconfigured for a success that is none: a web page, or an error in JSON."""
    text = body.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<") or (text and "html" in response.content_type):
        raise Misconfigured(f"{response.status} with a web page", _WEB_PAGE)
    if text.startswith((b"{", b"[")) and _tells_error(text):
        raise Misconfigured(f"{response.status} with an error: {_words(text[:_WORDS_BYTES])}", _NO_SUCCESS)


def _tells_error(text: bytes) -> bool:
    """Return whether a JSON object, or one in a list, is about a failure."""
    try:
        said = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    if isinstance(said, list):
        return any(_is_failure(one) for one in said)
    return _is_failure(said)


def _is_failure(said: object) -> bool:
    if not isinstance(said, dict):
        return False
    said = {str(name).lower(): value for name, value in said.items()}
    if any(said.get(name) for name in _FAILURES):
        return True
    if said.get("success", True) is False or said.get("ok", True) is False:
        return True
    if str(said.get("status", "")).lower() in _FAILED:
        return True
    codes = [str(said.get(name)) for name in ("status", "code", "statuscode", "status_code")]
    return any(_ERROR_CODE.fullmatch(code) for code in codes)


def _words(body: bytes) -> str:
    """Return what a receiver said, fit for a log line: one line, printable, cut."""
    text = _UNPRINTABLE.sub(" ", body.decode("utf-8", "replace"))
    return " ".join(text.split())[:_WORDS_CHARACTERS]


def _address(target: str) -> str:
    """Return where a redirect leads, without what may be secret in an address."""
    try:
        parsed = URL(target).with_query(None).with_fragment(None)
        return _words(str(parsed.with_user(None) if parsed.host else parsed).encode())
    except ValueError:
        return "an address that is none"


def _network_error(error: BaseException) -> Transient | Misconfigured:
    """Return the meaning of a failure below HTTP: TLS that cannot work as it is set up, or something that may pass."""
    found = tls_fault(error)
    if found is not None and found[0] in _TLS_REMEDIES:
        fault, _, cause = found
        return Misconfigured(f"TLS: {_first_line(cause)}", _TLS_REMEDIES[fault])
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Transient(f"the name {error.host} cannot be resolved ({_first_line(error.os_error)})")
    if isinstance(error, aiohttp.ClientConnectorError):
        why = "closed during the handshake" if error.os_error.args == (None,) else _why(error.os_error)
        return Transient(f"no connection to {error.host}:{error.port} ({why})")
    if isinstance(error, aiohttp.ClientResponseError):  # its text holds the address as it was asked
        return Transient("the answer is no HTTP; see that PROMETHEUS_URL names the port of the receiver", lost=True)
    return Transient(f"{type(error).__name__}: {_first_line(error)}", lost=True)


def _why(error: OSError) -> str:
    """Return the system's words for an error, without the address, which is told before."""
    code = error.errno
    return os.strerror(code) if code is not None and code in errno.errorcode else _first_line(error)


def _first_line(error: BaseException) -> str:
    return _words(str(error).partition("\n")[0].encode("utf-8", "replace"))[:200] or type(error).__name__
