"""The demonstration's strict receiver with scripted misbehaviour: answers on order, stalls, and being away."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web

from cdn77_exporter.demo.receiver import Labels, Receiver, Sample, Store


@dataclass(frozen=True, slots=True)
class Answer:
    """One scripted answer; with `store_first` the request is kept before, as when only the answer is lost."""

    status: int
    words: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    store_first: bool = False


class FakeReceiver:
    """A receiver on a free loopback port; an async context manager.

    Without orders it behaves. `bodies` and `headers` hold every write that arrived, in order, whatever the answer was.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        credentials: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.store = store or Store()
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[object] = set()  # the peers that wrote
        self._credentials, self._tls = credentials, tls
        self._answers: deque[Answer] = deque()
        self._gate = asyncio.Event()
        self._gate.set()
        self._arrived = asyncio.Condition()
        self._receiver = self._new(0)

    def _new(self, port: int) -> Receiver:
        return Receiver(self.store, port=port, credentials=self._credentials, tls=self._tls, before=self._before)

    async def __aenter__(self) -> Self:
        await self._receiver.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._receiver.__aexit__(kind, error, trace)

    @property
    def write_url(self) -> str:
        """Where to write; the same after it was away."""
        return self._receiver.write_url

    def series(self) -> dict[Labels, list[Sample]]:
        """What was accepted."""
        return self.store.series()

    # Orders

    def answer(
        self, status: int, words: str = "", *, times: int = 1, store_first: bool = False, **headers: str
    ) -> None:
        """Answer the next `times` writes like this; a header's underscores become dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._answers.extend([Answer(status, words, named, store_first)] * times)

    def stall(self) -> None:
        """Take writes and do not answer, until `go_on`."""
        self._gate.clear()

    def go_on(self) -> None:
        """Answer what waits, and everything after it."""
        self._gate.set()

    async def go_away(self) -> None:
        """Stop to listen, and drop all connections."""
        await self._receiver.__aexit__(None, None, None)

    async def come_back(self) -> None:
        """Listen again on the same port."""
        self._receiver = self._new(self._receiver.port)
        await self._receiver.__aenter__()

    async def arrived(self, count: int) -> None:
        """Wait until that many writes have arrived since the start."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.bodies) >= count)

    async def _before(self, request: web.Request) -> web.StreamResponse | None:
        body = await request.read()
        async with self._arrived:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
            if request.transport is not None:
                self.connections.add(request.transport.get_extra_info("peername"))
            self._arrived.notify_all()
        await self._gate.wait()
        if not self._answers:
            return None
        answer = self._answers.popleft()
        if answer.store_first:
            self.store.take(body)
        return web.Response(status=answer.status, text=answer.words, headers=answer.headers)
