"""Has files decoded on any `concurrent.futures.Executor`: a thread, worker processes, or a cluster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from cdn77_exporter.core import scan
from cdn77_exporter.core.decoded import Decoded, Failure
from cdn77_exporter.core.files import RawLog
from cdn77_exporter.edge.decode_job import DecoderRules, decode_files

if TYPE_CHECKING:
    from cdn77_exporter.telemetry.messages import MessageName

#: How often a file is decoded by itself after its decoder has died, before it is held to be the cause.
_ALONE_ATTEMPTS = 2


class Report(Protocol):
    """Log a message of the table, with its fields."""

    def __call__(self, message: MessageName, /, **fields: object) -> None: ...


#: For some files the function to be called, which both ends can import, and its values before the bounds of time and
#: before what was counted of each file already.
Job = Callable[[Sequence[RawLog]], tuple[Callable[..., Decoded], tuple[Any, ...]]]


def fetched(rules: DecoderRules) -> Job:
    """Return the job of decoding files whose bodies are here."""
    return lambda logs: (decode_files, (rules, [log.body for log in logs]))


def decoding_threads() -> int:
    """Return how many threads decode well beside the event loop.

    The compiled scan works without the interpreter, so that two do half as much again as one where there is a second
    core; without the scan two are slower than one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, cores) if scan.COMPILED else 1


class ExecutorDecoder:
    """Decodes on an executor; by default on `decoding_threads` threads.

    `most`: files that are given to it at a time. `width`: calls that it can have at a time, one of them waiting.
    `job`: what it is asked to do for some files. A call that fails because what it ran on has died is repeated,
    each of its files by itself; a file that dies so again and again is unreadable. What else
    the executor raises is passed on, such as Transient.
    """

    def __init__(
        self,
        job: Job,
        executor: Executor | None = None,
        *,
        most: int = 1,
        width: int = 2,
        report: Report,
    ) -> None:
        self._job = job
        self._executor = executor or ThreadPoolExecutor(decoding_threads(), "decode")
        self._report = report
        self.most = most
        self.width = width

    async def decode(self, logs: Sequence[RawLog], latest_ms: Sequence[int], oldest_ms: int) -> Decoded:
        """Decode files together. `latest_ms` is each file's latest event time, `oldest_ms` that of all."""
        try:
            return await self._call(logs, latest_ms, oldest_ms)
        except BrokenExecutor as error:
            self._died(error, len(logs))
        return Decoded.joined(
            [await self._alone(log, latest, oldest_ms) for log, latest in zip(logs, latest_ms, strict=True)]
        )

    async def _alone(self, log: RawLog, latest_ms: int, oldest_ms: int) -> Decoded:
        for _ in range(_ALONE_ATTEMPTS):
            try:
                return await self._call([log], [latest_ms], oldest_ms)
            except BrokenExecutor as error:
                self._died(error, 1)
        return Decoded([Failure("unreadable", "decoder_died")])

    async def _call(self, logs: Sequence[RawLog], latest_ms: Sequence[int], oldest_ms: int) -> Decoded:
        call, values = self._job(logs)
        counted = [log.file.counted for log in logs]
        return await asyncio.wrap_future(self._executor.submit(call, *values, latest_ms, oldest_ms, counted))

    def _died(self, error: BrokenExecutor, files: int) -> None:
        worker = getattr(error, "worker", "")
        self._report("worker_replaced", worker=worker, error=getattr(error, "reason", str(error)), files=files)

    def close(self) -> None:
        """Release threads, processes or machines; what is not done is not done."""
        self._executor.shutdown(wait=False, cancel_futures=True)
