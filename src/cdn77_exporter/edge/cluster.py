"""A Dask cluster behind the standard executor: its workers do the calls, and what goes wrong is told apart."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
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


class Cluster(ThreadPoolExecutor):
    """Up to `width` calls at a time on the workers of the scheduler at `address`; a thread here waits for each.

    A call raises WorkerDied when worker after worker has died on it, and Transient when the scheduler or a worker
    cannot be reached, or no worker has done it within `call_seconds`. Whatever it raises, the call may be repeated.
    """

    def __init__(
        self,
        address: str,
        *,
        width: int,
        connect_seconds: float = _CONNECT_SECONDS,
        call_seconds: float = _CALL_SECONDS,
    ) -> None:
        super().__init__(width, "cluster")
        self._address = address
        self._connect_seconds = connect_seconds
        self._call_seconds = call_seconds
        self._lock = threading.Lock()
        self._client: Any = None
        self._closed = False
        _hush()

    def submit(self, call: Callable[..., T], /, *values: Any, **named: Any) -> Future[T]:
        """Have `call`, which must be importable on the workers, done by one of them."""
        return super().submit(self._ask, call, values, named)

    def _ask(self, call: Callable[..., T], values: tuple[Any, ...], named: dict[str, Any]) -> T:
        client = self._connected()
        name = f"{getattr(call, '__name__', 'call')}-{uuid.uuid4().hex}"
        task = None
        try:
            task = client.submit(call, *values, key=name, pure=False, **named)
            result: T = task.result(timeout=self._call_seconds)
            return result
        except KilledWorker as error:
            worker = getattr(error.last_worker, "address", "unknown")
            raise WorkerDied(f"worker {worker}", "it has died on this call, as others before it") from None
        except TimeoutError:
            raise Transient(f"no worker of {self._address} has answered within {self._call_seconds:.0f} s") from None
        except ImportError as error:
            raise Transient(f"the workers of {self._address} cannot import {error.name or 'the program'}") from None
        except (CancelledError, CommClosedError, OSError) as error:
            self._leave(client)
            raise Transient(f"the connection to {self._address} is lost: {type(error).__name__}") from None
        except RuntimeError as error:  # the client's words for being closed
            if client.status == "running":
                raise
            self._leave(client)
            raise Transient(f"the connection to {self._address} is lost: {error}") from None
        finally:
            if task is not None:
                with suppress(Exception):  # the cluster forgets what nobody waits for, in time also by itself
                    task.cancel(force=True)

    def _connected(self) -> Any:
        with self._lock:
            if self._closed:
                raise Transient("the cluster has been let go")
            if self._client is not None and self._client.status in ("closed", "closing", "newly-created"):
                self._client = None
            if self._client is None:
                connect: Any = distributed.Client  # which has no types
                try:
                    self._client = connect(
                        self._address, timeout=self._connect_seconds, set_as_default=False, name="cdn77-exporter"
                    )
                except (OSError, TimeoutError, ValueError) as error:
                    raise Transient(f"the scheduler {self._address} cannot be reached: {error}") from None
            return self._client

    def _leave(self, client: Any) -> None:
        """Make a new connection for the next call."""
        with self._lock:
            if self._client is not client:
                return
            self._client = None
        with suppress(Exception):
            client.close(timeout=1)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster: with `wait` when all calls have ended, else at once."""
        if wait:
            super().shutdown(wait=True, cancel_futures=cancel_futures)
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close(timeout=1)
        super().shutdown(wait=False, cancel_futures=True)


def _hush() -> None:
    """Let the library's log lines take the way of all others; of its own accord it writes them to stderr."""
    for name in ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET if name != "distributed" else logging.ERROR)
