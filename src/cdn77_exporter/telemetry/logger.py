"""Logs messages: each becomes one JSON line and updates the self-metrics that its row names."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from typing import Any, BinaryIO

import orjson

from cdn77_exporter.core.masking import Masker
from cdn77_exporter.telemetry import crash
from cdn77_exporter.telemetry.conditions import CONDITIONS, Severity
from cdn77_exporter.telemetry.fields import clean, iso
from cdn77_exporter.telemetry.loop_lag import LoopLag
from cdn77_exporter.telemetry.messages import MESSAGES, Level, MessageName
from cdn77_exporter.telemetry.problems import Problem, Problems
from cdn77_exporter.telemetry.registry import Registry
from cdn77_exporter.telemetry.structlog_without_rich import structlog

_RECENT_LINES = 100

# A message on its way through structlog's processors; from the second one on, the line as it is written.
_Entry = MutableMapping[str, Any]


class Telemetry:
    """The service's log and self-metrics: `telemetry("file_counted", key=..., lines=...)`.

    Safe to use from every thread. A message or a field that is not in the table raises LookupError; a field that is
    None is left out of the line.
    """

    def __init__(
        self,
        mask: Masker,
        level: Level = Level.INFO,
        *,
        stream: BinaryIO | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._mask = mask
        self._least = level.rank
        self._now = now
        self._metrics = Registry(now)
        self.problems = Problems(mask, now, self._tell_problem)
        self.loop_lag = LoopLag()
        self.recent: deque[_Entry] = deque(maxlen=_RECENT_LINES)  # warnings and worse, as written
        self._log = structlog.wrap_logger(
            _Lines(stream or sys.stdout.buffer, self._metrics.line_lost),
            processors=[
                self._masked_fields,
                self._update_metrics,
                self._remember_warning,
                self._drop_below_level,
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            wrapper_class=structlog.BoundLogger,
        ).bind()
        self.watch("event_loop_lag_p99_seconds", self.loop_lag.p99)
        self.watch("event_loop_lag_max_seconds", self.loop_lag.most)
        self.watch_each("problems", lambda: {(what,): float(self.problems.has(what)) for what in CONDITIONS})

    def __call__(self, message: MessageName, /, **fields: object) -> None:
        """Log a message of the table and update its self-metrics."""
        self._log.msg(message, **fields)

    def crashed(self, error: BaseException) -> None:
        """Log the error that ends the service: what, where, and the calls that led there; no variables' values."""
        for leaf in crash.leaves(error):
            self("service_crashed", stage=crash.stage(leaf), error=crash.summary(leaf), traceback=crash.calls(leaf))

    def watch(self, name: str, ask: Callable[[], float | None], /, **labels: str) -> None:
        """Read a probe from `ask` at each scrape; None for no value."""
        self._metrics.watch(name, ask, labels)

    def watch_each(self, name: str, ask: Callable[[], Mapping[tuple[str, ...], float]], /) -> None:
        """Read all series of a probe from `ask` at each scrape: their values by the values of their labels."""
        self._metrics.watch_each(name, ask)

    def total(self, name: str, /, **labels: str) -> float:
        """Return a counter's value since the start: the sum over its series with these labels."""
        return self._metrics.total(name, labels)

    def masked(self, text: str) -> str:
        """Return the text without secrets and addresses."""
        return self._mask(text)

    def exposition(self) -> bytes:
        """Return all self-metrics in the Prometheus text format."""
        return self._metrics.exposition()

    def _tell_problem(self, problem: Problem, begins: bool) -> None:
        if problem.severity is Severity.WAITING:
            return  # every process starts, and one that stands by says so itself
        what = problem.what
        if begins:
            words, remedy = problem.words, problem.remedy
            self("problem_found", what=what, severity=problem.severity, words=words, remedy=remedy)
        else:
            seconds = self._now() - datetime.fromisoformat(problem.since).timestamp()
            self("problem_solved", what=what, seconds=round(max(0.0, seconds), 3))

    # The processors, in their order

    def _masked_fields(self, _logger: object, _method: str, entry: _Entry) -> _Entry:
        """Check the message against the table; return the line with its fields in order, clean and masked."""
        name = entry.pop("event")  # structlog's own name for a message
        row = MESSAGES.get(name)
        if row is None:
            raise LookupError(f"{name} is not in the table of messages")
        unknown = entry.keys() - {field.name for field in row.fields}
        if unknown:
            raise LookupError(f"{name} has no field {', '.join(sorted(unknown))}")
        line: _Entry = {"timestamp": iso(self._now()), "level": row.level, "message": name}
        for field in row.fields:
            value = entry.get(field.name)
            if value is not None:
                line[field.name] = clean(value, field.holds, self._mask)
        return line

    def _update_metrics(self, _logger: object, _method: str, line: _Entry) -> _Entry:
        self._metrics.update(MESSAGES[line["message"]], line)  # before the level decides: a quiet log counts the same
        return line

    def _remember_warning(self, _logger: object, _method: str, line: _Entry) -> _Entry:
        if line["level"].rank >= Level.WARNING.rank:
            self.recent.append(line)
        return line

    def _drop_below_level(self, _logger: object, _method: str, line: _Entry) -> _Entry:
        if line["level"].rank < self._least:
            raise structlog.DropEvent
        return line


class _Lines:
    """Writes finished lines; one that cannot be written, since nobody reads stdout any more, is counted as lost."""

    def __init__(self, stream: BinaryIO, lost: Callable[[], None]) -> None:
        self._out = structlog.BytesLogger(stream)
        self._lost = lost

    def msg(self, line: bytes) -> None:
        try:
            self._out.msg(line)
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._lost()
