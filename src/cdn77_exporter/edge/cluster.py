"""A Dask cluster behind the standard executor: its workers do the calls, and what goes wrong is told apart."""

from __future__ import annotations

import asyncio
import logging
import pickle  # nosec B403
import threading
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import distributed
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from cdn77_exporter.core.errors import Transient
from cdn77_exporter.edge.workers import WorkerDied

T = TypeVar("T")

_CONNECT_SECONDS = 10.0
#: The longest that a call may take from its submission to its result, waiting for a free worker included.
_CALL_SECONDS = 180.0
_LEAVE_SECONDS = 1.0
_UNUSABLE = ("closed", "closing", "newly-created")  # of a client's states


class Cluster(Executor):
    """Up to `width` calls at a time on the workers of the scheduler at `address`.

    A call raises WorkerDied when worker after worker has died on it, and Transient when the scheduler or a worker
    cannot be reached or lacks the program, or no worker has done it within `call_seconds`. Whatever it raises, the call
    may be repeated. The connection lives on an event loop in a thread of its own, where every wait can be ended.
    """

    def __init__(
        self,
        address: str,
        *,
        width: int,
        connect_seconds: float = _CONNECT_SECONDS,
        call_seconds: float = _CALL_SECONDS,
    ) -> None:
        self._address = address
        self._connect_seconds = connect_seconds
        self._call_seconds = call_seconds
        self._places = asyncio.Semaphore(width)
        self._connecting = asyncio.Lock()
        self._client: Any = None
        self._over = asyncio.Event()
        self._lock = threading.Lock()
        self._calls: set[Future[Any]] = set()
        self._closed = False
        _hush()
        self._runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._serve, name="cluster", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[..., T], /, *values: Any, **named: Any) -> Future[T]:
        """Run `call`, which must be importable on the workers, on one of them."""
        asked: Coroutine[Any, Any, T] = self._ask(_Call(partial(call, *values, **named)))
        with self._lock:
            if self._closed:
                asked.close()
                raise RuntimeError("the cluster has been left")
            found = asyncio.run_coroutine_threadsafe(asked, self._loop)
            self._calls.add(found)
        found.add_done_callback(self._forget)
        return found

    def _forget(self, call: Future[Any]) -> None:
        with self._lock:
            self._calls.discard(call)

    def _serve(self) -> None:
        with self._runner:  # whose end cancels what is still in progress
            self._runner.run(self._live())

    async def _live(self) -> None:
        await self._over.wait()
        client, self._client = self._client, None
        await _leave(client)

    async def _ask(self, call: _Call) -> Any:
        async with self._places:
            client = await self._connected()
            task = None
            try:
                async with asyncio.timeout(self._call_seconds):
                    task = client.submit(pickle.loads, pickle.dumps(call), key=f"call-{uuid.uuid4().hex}", pure=False)
                    return await task.result()
            except KilledWorker as error:
                worker = getattr(error.last_worker, "address", "unknown")
                raise WorkerDied(f"worker {worker}", "it has died on this call, as others before it") from None
            except TimeoutError:
                words = f"no worker of {self._address} has answered within {self._call_seconds:.0f} s"
                raise Transient(words) from None
            except ImportError as error:
                words = f"a worker of {self._address} cannot import {error.name or 'the program'}"
                raise Transient(f"{words}; install this version on all workers") from None
            except (CancelledError, CommClosedError, OSError) as error:
                await self._give_up(client)
                raise Transient(f"the connection to {self._address} is lost: {type(error).__name__}") from None
            except RuntimeError as error:
                if "deserialization" in str(error):  # the scheduler's words
                    words = f"the scheduler {self._address} does not understand a call: {error}"
                    raise Transient(f"{words}; run one version of Dask and of Python everywhere") from None
                if client.status == "running":
                    raise
                await self._give_up(client)  # the client's words for being closed
                raise Transient(f"the connection to {self._address} is lost: {error}") from None
            finally:
                await _drop(task)

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is not None and self._client.status in _UNUSABLE:
                self._client = None
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> Any:
        client, connected = None, False
        new: Any = distributed.Client  # which has no types
        try:
            async with asyncio.timeout(self._connect_seconds):  # the library waits without end for a greeting
                client = new(
                    self._address,
                    asynchronous=True,
                    timeout=self._connect_seconds,
                    set_as_default=False,
                    name="cdn77-exporter",
                )
                await client
            connected = True
        except (OSError, TimeoutError, ValueError) as error:
            reason = str(error) or f"no answer within {self._connect_seconds:.0f} s"
            raise Transient(f"the scheduler {self._address} cannot be reached: {reason}") from None
        finally:
            if not connected:
                await _leave(client)
        return client

    async def _give_up(self, client: Any) -> None:
        """Make a new connection for the next call."""
        if self._client is client:
            self._client = None
            await _leave(client)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster: with `wait` when all calls have ended, else at once."""
        with self._lock:
            first, self._closed = not self._closed, True
            calls = set(self._calls)
        if wait and not cancel_futures:
            wait_for(calls)
        if first:
            self._loop.call_soon_threadsafe(self._over.set)
        if wait:
            self._thread.join()


class _Call:
    """Pickles as a call that is made when it is unpickled.

    So what a scheduler and a worker have to understand before the task runs are bytes, and where the program is not
    installed the task fails and says so. With arguments of the program's own types the worker itself would end.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return self._call, ()


async def _drop(task: Any) -> None:
    """Release a result that nobody waits for; in time the cluster forgets it by itself, too."""
    if task is not None:
        with suppress(Exception):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await task.cancel(force=True)


async def _leave(client: Any) -> None:
    if client is not None:
        with suppress(Exception):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await client.close()
        client.status = "closed"  # or its destructor would try again, when its event loop is no longer there


def _hush() -> None:
    """Send the library's log lines the way of all others; by default it writes them to stderr."""
    for name in ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET if name != "distributed" else logging.ERROR)
