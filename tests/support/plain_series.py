"""One series by the contract's rules, without any cleverness; shares no code with the program."""

from __future__ import annotations

from dataclasses import dataclass, field


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

    def emit(self, tick: int, step: int, pad_from: int, offset_ms: int) -> None:
        """Write one tick by the rules 6, 7 and 8."""
        counter, sparse = self.metric.endswith("_total"), self.metric == "cdn77_time_to_first_byte_ms"
        if self.touched:
            if counter:
                for at in range(0, tick, step)[-300 // step :]:
                    if at >= pad_from and at > self.last:
                        self._write(at, offset_ms, self.emitted_value)
            self.live, self.changed = True, tick
        ended = tick - self.changed >= 600 if counter or sparse else self.value == 0 and self.changed < tick
        if self.live and ended:
            self._write(tick, offset_ms, None)
            self.live = False
        elif self.live and (self.touched or not sparse):
            self._write(tick, offset_ms, self.value)
        self.touched, self.emitted_value = False, self.value

    def _write(self, at: int, offset_ms: int, value: float | None) -> None:
        stamp = at * 1000 + offset_ms
        assert stamp not in self.samples
        self.samples[stamp] = value
        self.last = at
