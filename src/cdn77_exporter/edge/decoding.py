"""Where files are decoded: any `concurrent.futures.Executor`, each of whose threads or processes keeps one decoder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass

from cdn77_exporter.core.decode import Decoder, Limits
from cdn77_exporter.core.model import RawLog
from cdn77_exporter.core.tally import Tally

_own = threading.local()


@dataclass(frozen=True, slots=True)
class DecoderRules:
    """What a decoder is made from; goes to other processes as it is."""

    tick_seconds: int
    stream_pattern: str
    limits: Limits
    allow: Callable[[str], bool] | None = None


def decode_file(rules: DecoderRules, body: bytes, latest_ms: int, oldest_ms: int) -> Tally:
    """Decode one file with the decoder of this thread; raises Unreadable."""
    if getattr(_own, "rules", None) != rules:
        _own.rules = rules
        _own.decoder = Decoder(
            tick_seconds=rules.tick_seconds, stream_pattern=rules.stream_pattern, limits=rules.limits, allow=rules.allow
        )
    decoder: Decoder = _own.decoder
    return decoder.decode(body, latest_ms=latest_ms, oldest_ms=oldest_ms)


class ExecutorDecoder:
    """Decodes on an executor; by default on one thread beside the event loop (two are slower than one)."""

    def __init__(self, rules: DecoderRules, executor: Executor | None = None) -> None:
        self._rules = rules
        self._executor = executor or ThreadPoolExecutor(1, "decode")

    def submit(self, raw: RawLog, latest_ms: int, oldest_ms: int) -> Future[Tally]:
        """Begin to decode a file."""
        return self._executor.submit(decode_file, self._rules, raw.body, latest_ms, oldest_ms)

    def close(self) -> None:
        """Let go of threads or processes; what is not begun is not done."""
        self._executor.shutdown(wait=False, cancel_futures=True)
