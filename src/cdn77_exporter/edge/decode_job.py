"""What a decoding thread, process or machine is asked to do; imports nothing but what decoding needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cdn77_exporter.core.bundle import Bundle, Failure, decode_together
from cdn77_exporter.core.decode import Decoder, Limits

_own = threading.local()


@dataclass(frozen=True, slots=True)
class DecoderRules:
    """What a decoder is made from; goes to other processes as it is."""

    tick_seconds: int
    stream_pattern: str
    limits: Limits
    allow: Callable[[str], bool] | None = None


def decode_files(
    rules: DecoderRules, bodies: Iterable[bytes | Failure], latest_ms: Sequence[int], oldest_ms: int
) -> Bundle:
    """Decode files with the decoder of this thread, which is kept; see `decode_together`."""
    if getattr(_own, "rules", None) != rules:
        _own.rules = rules
        _own.decoder = Decoder(
            tick_seconds=rules.tick_seconds,
            stream_pattern=rules.stream_pattern,
            limits=rules.limits,
            examples=True,
            allow=rules.allow,
        )
    return decode_together(_own.decoder, bodies, latest_ms, oldest_ms)
