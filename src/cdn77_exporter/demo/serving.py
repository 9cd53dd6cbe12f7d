"""Serves an application on an address of this machine, for as long as a context lasts."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Self

from aiohttp import web


class Served:
    """An application over HTTP or TLS; an async context manager. `port` 0 takes a free one, which it is then."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.host, self.port = host, port
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        """The address at which it listens."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    def application(self) -> web.Application:
        """Return what is served."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        # Requests that wait are ended with the server; there is nothing to wait for.
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
