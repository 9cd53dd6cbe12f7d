"""One series by the contract's rules, without any cleverness; shares no code with the program."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Counters that stay while their stream is watched.
_VIEWERS = ("cdn77_viewers", "cdn77_watch", "cdn77_session")
#: Counted in milliseconds.
_IN_SECONDS = ("_seconds_sum", "_watch_seconds_total")


@dataclass
class PlainSeries:
    """One series as the contract sees it: its value, and what was written of it."""

    metric: str
    value: float = 0.0
    emitted_value: float = 0.0
    touched: bool = False
    live: bool = False
    changed: int = 0
    last: int = 0
    samples: dict[int, float | None] = field(default_factory=dict)

    def emit(
        self, tick: int, step: int, pad_from: int, offset_ms: int, *, idle: int = 86_400, watched: bool = False
    ) -> None:
        """Write one tick by the rules 6, 7 and 8; `watched`: whether the stream's window holds somebody."""
        counter = self.metric.endswith(("_total", "_sum", "_count", "_bucket"))
        sparse = self.metric == "cdn77_time_to_first_byte_ms"
        gap = counter and self.live and self.last < tick - 300
        if gap:  # it begins again at zero, with what was counted since
            self.value -= self.emitted_value
        if counter and self.touched and not self.live and self.last == tick - step:
            # It ended a tick ago: no tick is left for a zero, so this one has it and the next one the value.
            self._write(tick, offset_ms, 0.0)
            self.live, self.changed, self.emitted_value = True, tick, 0.0
            return
        if counter and (gap or (self.touched and not self.live)):
            for at in range(0, tick, step)[-300 // step :]:
                if at >= pad_from and at > self.last:
                    self._write(at, offset_ms, 0.0)
        if self.touched:
            self.changed = tick
            if counter or sparse or self.value:  # a window that is empty again was never worth a sample
                self.live = True
        if counter:
            ended = tick - self.changed >= idle and not (watched and self.metric.startswith(_VIEWERS))
        elif sparse:
            ended = tick - self.changed >= 600
        else:
            ended = self.value == 0 and self.changed < tick
        if self.live and ended:
            self._write(tick, offset_ms, None)
            self.live, self.value = False, 0
        elif self.live and (self.touched or not sparse):
            self._write(tick, offset_ms, self.value / 1000 if self.metric.endswith(_IN_SECONDS) else self.value)
        self.touched, self.emitted_value = False, self.value

    def _write(self, at: int, offset_ms: int, value: float | None) -> None:
        stamp = at * 1000 + offset_ms
        assert stamp not in self.samples
        self.samples[stamp] = value
        self.last = at
