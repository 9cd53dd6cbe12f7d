"""Says what happens: one event becomes one JSON log line and moves the self-metrics that are bound to it."""

from __future__ import annotations

import logging
import math
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import orjson
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from cdn77_exporter import __version__
from cdn77_exporter.core.masking import Masker
from cdn77_exporter.telemetry.messages import MESSAGES, Holds, Level, Message, Move
from cdn77_exporter.telemetry.metrics import PREFIX, SELF_METRICS
from cdn77_exporter.telemetry.problems import Problems
from cdn77_exporter.telemetry.registry import LoopLag, Probes, make_metric
from cdn77_exporter.telemetry.structlog_without_rich import structlog
from cdn77_exporter.telemetry.text import cut, iso

_TRACEBACK_CHARACTERS = 8_000
_TABLE_ENTRIES = 200
_RECENT_LINES = 100


class Telemetry:
    """The voice of the service: `telemetry("file_counted", key=..., lines=...)`. Safe to use from every thread."""

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
        self._log = structlog.BytesLogger(stream or sys.stdout.buffer)
        self.problems = Problems(self._mask, now)
        self.loop_lag = LoopLag()
        self.recent: deque[dict[str, object]] = deque(maxlen=_RECENT_LINES)  # warnings and worse, as written
        self.registry = CollectorRegistry(auto_describe=False)
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}
        self._probes = Probes(SELF_METRICS)
        self._register()
        self.problems.found("start", "the first look into the bucket has not succeeded yet; wait for it")

    def _register(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody reads
        for metric in SELF_METRICS:
            if metric.kind != "probe":
                self._metrics[metric.name] = make_metric(metric, self.registry)
        self.registry.register(self._probes)
        info = Gauge(PREFIX + "build_info", "1, with the version.", ["version"], registry=self.registry)
        info.labels(__version__).set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.watch("event_loop_lag_p99_seconds", self.loop_lag.p99)
        self.watch("event_loop_lag_max_seconds", self.loop_lag.most)
        self.watch("problems", lambda: len(self.problems))

    def __call__(self, event: str, /, **fields: object) -> None:
        """Say that an event of the closed list has happened."""
        told = MESSAGES.get(event)
        if told is None:
            raise LookupError(f"{event} is not in the closed list of events")
        values: dict[str, object] = {}
        for field in told.fields:
            if field.name in fields:
                values[field.name] = self._clean(fields.pop(field.name), field.holds)
        if fields:
            raise LookupError(f"{event} has no field {', '.join(sorted(fields))}")
        if event == "poll_finished":
            self.problems.solved("start")
        self._move(told, values)
        self._write(told, values)

    def crashed(self, error: BaseException) -> None:
        """Say that the service ends because of an error: what, where, and how it came there; no variables' values."""
        for leaf in _leaves(error):
            whole = "".join(traceback.TracebackException.from_exception(leaf, limit=-30).format())
            self(
                "service_crashed",
                stage=_stage(leaf),
                error=f"{type(leaf).__name__}: {leaf}" if str(leaf) else type(leaf).__name__,
                traceback=whole[-_TRACEBACK_CHARACTERS:],
            )

    def watch(self, name: str, ask: Callable[[], float | None], /, **labels: str) -> None:
        """Let a gauge be read from `ask` at each scrape; None for no value."""
        self._probes.watch(name, ask, labels)

    def total(self, name: str, /, **labels: str) -> float:
        """A counter's value since the start: the sum over its series with these labels."""
        return sum(
            sample.value
            for family in self._counter(name).collect()
            for sample in family.samples
            if sample.name.endswith("_total") and labels.items() <= sample.labels.items()
        )

    def masked(self, text: str) -> str:
        """The text without secrets and addresses."""
        return self._mask(text)

    def exposition(self) -> bytes:
        """All self-metrics in the Prometheus text format."""
        return generate_latest(self.registry)

    def adopt_logging(self) -> None:
        """Let what libraries write to `logging` come out as events, so that every line is JSON and masked."""
        root = logging.getLogger()
        for handler in list(root.handlers):
            root.removeHandler(handler)
        root.addHandler(_Adopted(self))
        root.setLevel(logging.WARNING)
        logging.captureWarnings(True)

    # Cleaning

    def _clean(self, value: object, holds: Holds) -> object:
        if isinstance(value, (bool, int, float)) or value is None:
            return _number(value)
        if isinstance(value, Mapping):
            entries = list(value.items())[:_TABLE_ENTRIES]
            return {self._text(str(name), holds): self._clean(item, holds) for name, item in entries}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._clean(item, holds) for item in list(value)[:_TABLE_ENTRIES]]
        return self._text(str(value), holds)

    def _text(self, text: str, holds: Holds) -> str:
        # Masked before it is cut: half a secret at the end would not be found.
        masked = self._mask.secrets(text) if holds is Holds.NAME else self._mask(text)
        return cut(masked.encode("utf-8", "replace").decode(), _TRACEBACK_CHARACTERS)

    # Self-metrics

    def _move(self, event: Message, values: Mapping[str, object]) -> None:
        self._counter("log_events_total").labels(event.level).inc()
        for move in event.moves:
            wanted = not move.only_if.startswith("!")
            if not move.only_if or bool(values.get(move.only_if.lstrip("!"), True)) is wanted:
                self._move_one(move, values)

    def _move_one(self, move: Move, values: Mapping[str, object]) -> None:
        if move.by and move.by not in values:
            return
        amount = values[move.by] if move.by else None
        if isinstance(amount, Mapping):
            for name, part in amount.items():
                self._apply(move, part, {"$*": name})
        else:
            self._apply(move, amount, {f"${name}": str(value) for name, value in values.items()})

    def _apply(self, move: Move, amount: object, named: Mapping[str, str]) -> None:
        metric = self._metrics[move.metric]
        if move.labels:
            metric = metric.labels(**{label: named.get(value, value) for label, value in move.labels})
        number = float(amount) if isinstance(amount, (int, float)) else None
        if isinstance(metric, Counter):
            metric.inc(1.0 if not move.by else max(0.0, number or 0.0))
        elif isinstance(metric, Gauge):
            metric.set(self._now() if not move.by else number or 0.0)
        elif number is not None:
            metric.observe(number)

    def _counter(self, name: str) -> Counter:
        return cast(Counter, self._metrics[name])

    # Lines

    def _write(self, event: Message, values: Mapping[str, object]) -> None:
        line: dict[str, object] = {"timestamp": iso(self._now()), "level": event.level, "event": event.name, **values}
        if event.level.rank >= Level.WARNING.rank:
            self.recent.append(line)
        if event.level.rank < self._least:
            return
        try:
            self._log.msg(orjson.dumps(line))
        except (OSError, ValueError):  # nobody reads stdout any more; counting goes on
            self._counter("log_lines_lost_total").inc()


class _Adopted(logging.Handler):
    """Turns a library's warning into an event."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__(logging.WARNING)
        self._telemetry = telemetry

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
            self._telemetry("library_warned", library=record.name, text=text)
        except Exception:  # a warning that cannot be said must not become an error of its own
            self._telemetry("library_warned", library=record.name, text="a warning that cannot be formatted")


def _number(value: float | int | bool | None) -> object:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 10**300 else None
    return value


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors within a group; one that several tasks share is named once."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    found: list[BaseException] = []
    for part in error.exceptions:
        found += [leaf for leaf in _leaves(part) if leaf not in found]
    return found[:5]


def _stage(error: BaseException) -> str:
    """The innermost function of this package through which the error came."""
    package = str(Path(__file__).parent.parent)
    stage = "unknown"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if str(path).startswith(package):
            module = ".".join(path.relative_to(package).with_suffix("").parts)
            stage = f"{module}.{frame.f_code.co_qualname}"
    return stage
