"""Connects the S3 library: keys asked for at every signature, verified TLS, and answers with a bound.

The hooks into the library's inner parts are all here and in `model`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Self

import aiohttp
from aiobotocore.credentials import AioCredentials
from aiobotocore.httpsession import AIOHTTPSession
from botocore.credentials import ReadOnlyCredentials
from botocore.httpsession import get_cert_path

SecretText = str | Callable[[], str]

#: More than any answer needs that is not the body of an object; a page of 1,000 keys has 4 MB at most.
MOST_ANSWER_BYTES = 8 * 1024 * 1024
#: An error is a code and some words. The library reads them with a parser that takes many times their length.
MOST_ERROR_BYTES = 64 * 1024


class AnswerTooLong(aiohttp.ClientError):
    """An answer goes on beyond what it may need."""


class Keys(AioCredentials):  # type: ignore[misc]
    """The access keys, asked for at every signature, so that changed ones are used at once."""

    def __init__(self, access_key: SecretText, secret_key: SecretText) -> None:
        super().__init__("", "")
        self._read_access, self._read_secret = access_key, secret_key

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the keys as they are now."""
        return ReadOnlyCredentials(_text(self._read_access), _text(self._read_secret), None)

    async def load_credentials(self) -> Self:
        """Return the keys themselves: they are the only place in which the library looks."""
        return self


class _Answer(aiohttp.ClientResponse):
    """An answer of which no more is read into memory than it may need. Bodies of objects are not read by this."""

    async def read(self) -> bytes:
        """Return the body; of an error that is too long, nothing, for then its status must do."""
        is_error = self.status >= 300
        most = MOST_ERROR_BYTES if is_error else MOST_ANSWER_BYTES
        body = bytearray()
        try:
            async for part in self.content.iter_any():
                body += part
                if len(body) > most:
                    raise AnswerTooLong(f"more than {most} bytes")
        except BaseException as error:
            self.close()  # what was not read to its end is no connection for another request
            if is_error and isinstance(error, AnswerTooLong):
                return b""
            raise
        return bytes(body)


class Connections(AIOHTTPSession):  # type: ignore[misc]
    """The library's connections, with all of TLS verified, no redirect followed, and answers with a bound.

    By default the library does not compare the server's name with the certificate's, so any valid certificate would be
    accepted; through a proxy it verifies nothing.
    """

    def _create_connector(self, proxy_url: str | None) -> aiohttp.TCPConnector:
        context = ssl.create_default_context(cafile=get_cert_path(self._verify))
        return aiohttp.TCPConnector(limit=self._max_pool_connections, ssl=context, **self._connector_args)

    async def _get_session(self, proxy_url: str | None) -> _Staying:
        if proxy_url not in self._sessions:
            session = aiohttp.ClientSession(
                connector=self._create_connector(proxy_url),
                timeout=self._timeout,
                skip_auto_headers={"Content-Type"},
                auto_decompress=False,
                response_class=_Answer,
            )
            self._sessions[proxy_url] = await self._exit_stack.enter_async_context(session)
        return _Staying(self._sessions[proxy_url])


class _Staying:
    """A session that follows no redirect, which would carry requests and their bodies to another host."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **values: Any) -> aiohttp.ClientResponse:
        """Send a request as the session does."""
        return await self._session.request(method, allow_redirects=False, **values)


def _text(secret: SecretText) -> str:
    return secret() if callable(secret) else secret
