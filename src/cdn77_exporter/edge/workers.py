"""Worker processes behind the standard executor: each takes one call at a time, and one that dies is replaced."""

from __future__ import annotations

import gc
import multiprocessing
import pickle  # nosec B403
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from cdn77_exporter.runtime import become_worker

T = TypeVar("T")

_spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of this process's threads as they are
_END_SECONDS = 5.0
#: The longest that a call may take; four of the largest files that are allowed take less than a minute.
_CALL_SECONDS = 300.0


class WorkerDied(BrokenExecutor):
    """The process or machine that was on a call has ended, maybe because of it. Others go on; the call may be repeated.

    `worker` says which one it was.
    """

    def __init__(self, worker: str, reason: str) -> None:
        super().__init__(f"{worker}: {reason}")
        self.worker = worker
        self.reason = reason


class Workers(ThreadPoolExecutor):
    """`count` processes, started when there is work for them. A call whose process dies raises WorkerDied.

    A process that gives no answer within `call_seconds` is ended. Each has a thread here that waits for it, and ends
    with this process, however that ends.
    """

    def __init__(self, count: int, *, call_seconds: float = _CALL_SECONDS) -> None:
        super().__init__(count, "worker")
        self._call_seconds = call_seconds
        self._own = threading.local()
        self._lock = threading.Lock()
        self._started: set[_Worker] = set()
        self._closed = False

    def submit(self, call: Callable[..., T], /, *values: Any, **named: Any) -> Future[T]:
        """Run `call`, which must be importable, on the next process that is free."""
        return super().submit(self._ask, call, values, named)

    def _ask(self, call: Callable[..., T], values: tuple[Any, ...], named: dict[str, Any]) -> T:
        worker = self._worker()
        try:
            fault, result = worker.ask((call, values, named), self._call_seconds)
        except (EOFError, OSError):
            self._own.worker = None
            with self._lock:
                self._started.discard(worker)
            raise WorkerDied(worker.name, worker.end()) from None
        if fault is not None:
            raise fault
        return result  # type: ignore[no-any-return]  # whatever the call gave

    def _worker(self) -> _Worker:
        worker: _Worker | None = getattr(self._own, "worker", None)
        if worker is None:
            with self._lock:
                if self._closed:
                    raise RuntimeError("the workers have been shut down")
                worker = self._own.worker = _Worker()
                self._started.add(worker)
        return worker

    @property
    def pids(self) -> list[int]:
        """The processes' ids."""
        with self._lock:
            return sorted(worker.pid for worker in self._started)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: with `wait` when they have done what they are on, else at once."""
        if wait:
            super().shutdown(wait=True, cancel_futures=cancel_futures)
        with self._lock:
            self._closed = True
            started, self._started = self._started, set()
        for worker in started:
            worker.kill()
        super().shutdown(wait=False, cancel_futures=True)


class _Worker:
    """One process and this end of the pipe to it."""

    def __init__(self) -> None:
        self._pipe, theirs = _spawn.Pipe()
        self._process: SpawnProcess = _spawn.Process(target=serve, args=(theirs,), name="worker", daemon=True)
        self._process.start()
        theirs.close()  # or a worker's end would not be seen
        self.pid: int = self._process.pid or 0
        self.name = f"process {self.pid}"
        self._silent = 0.0  # seconds after which it was ended because it gave no answer

    def ask(self, call: object, seconds: float) -> tuple[Exception | None, Any]:
        """Run a call within some seconds; raises EOFError or OSError when the process is gone."""
        watch = threading.Timer(seconds, self._give_up, (seconds,))
        watch.daemon = True
        watch.start()
        try:
            self._pipe.send(call)  # which waits as well, for a process that does not read
            fault, result = self._pipe.recv()
            return fault, result
        finally:
            watch.cancel()

    def _give_up(self, seconds: float) -> None:
        self._silent = seconds
        self._process.kill()

    def kill(self) -> None:
        """End the process, whatever it is on."""
        self._process.kill()
        self._process.join(_END_SECONDS)

    def end(self) -> str:
        """End the process if it is still there; return how it ended."""
        self._process.join(0.2)  # it may just be on its way
        if self._process.exitcode is None:
            self.kill()
        self._pipe.close()
        if self._silent:
            return f"gave no answer within {self._silent:g} s"
        code = self._process.exitcode
        if code is not None and code < 0:
            with suppress(ValueError):
                return f"ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


def serve(pipe: Connection) -> None:
    """Do the calls that come through the pipe until its other end is closed."""
    # Signals to the whole group are for the service, which stops its workers when it has no more work for them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    become_worker()  # tallies are full of containers without cycles; it is enough to collect after each call
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            call, values, named = pipe.recv()
            try:
                answer: tuple[Exception | None, Any] = (None, call(*values, **named))
            except Exception as error:
                answer = (error, None)
            _send(pipe, answer)
            del call, values, named, answer
            gc.collect()


def _send(pipe: Connection, answer: tuple[Exception | None, Any]) -> None:
    try:
        pipe.send(answer)
    except (TypeError, AttributeError, pickle.PicklingError) as error:  # nothing of it was sent
        pipe.send((TypeError(f"the answer cannot be sent: {error}"), None))
