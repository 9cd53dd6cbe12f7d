"""The job of a decoding thread, process or machine; imports nothing but what decoding needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cdn77_exporter.core.content import Content
from cdn77_exporter.core.decode import Decoder, Limits
from cdn77_exporter.core.decoded import Decoded, Failure
from cdn77_exporter.core.device import DeviceRules
from cdn77_exporter.core.measures import MEASURES, Measures
from cdn77_exporter.core.path_pattern import DEFAULT_TRACK_PATTERN

_own = threading.local()


@dataclass(frozen=True, slots=True)
class DecoderRules:
    """The rules that a decoder is made from; goes to other processes as it is."""

    tick_seconds: int
    stream_pattern: str
    limits: Limits
    allow: Callable[[str], bool] | None = None
    ipv6_prefix: int = 128
    measures: Measures = MEASURES
    devices: DeviceRules | None = None  # None for the built-in rules
    track_pattern: str = DEFAULT_TRACK_PATTERN

    def decoder(self, *, examples: bool = False, content: bool = True) -> Decoder:
        """Return a new decoder; `examples` and `content` as there."""
        return Decoder(
            self.measures,
            tick_seconds=self.tick_seconds,
            stream_pattern=self.stream_pattern,
            track_pattern=self.track_pattern,
            limits=self.limits,
            examples=examples,
            allow=self.allow,
            ipv6_prefix=self.ipv6_prefix,
            devices=self.devices,
            content=content,
        )


def decode_files(
    rules: DecoderRules,
    bodies: Iterable[bytes | Failure],
    latest_ms: Sequence[int],
    oldest_ms: int,
    counted: Sequence[Content | None] = (),
) -> Decoded:
    """Decode files with the decoder of this thread, which is kept; see `Decoder.decode_all`."""
    if getattr(_own, "rules", None) != rules:
        _own.rules = rules
        _own.decoder = rules.decoder(examples=True)
    decoder: Decoder = _own.decoder
    return decoder.decode_all(bodies, latest_ms, oldest_ms, counted)
