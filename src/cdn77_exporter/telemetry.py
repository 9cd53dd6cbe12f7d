"""Says what happens: one event becomes one JSON log line and moves the self-metrics that are bound to it."""

from __future__ import annotations

import logging
import math
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

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
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cdn77_exporter import __version__
from cdn77_exporter.core.events import EVENTS, Event, Holds, Level, Move
from cdn77_exporter.core.model import REJECT_REASONS, UNREADABLE_REASONS
from cdn77_exporter.settings import Settings
from cdn77_exporter.slim import structlog

PREFIX = "cdn77_exporter_"
_TEXT_SIGNS = 4_000
_TRACEBACK_SIGNS = 8_000
_TABLE_ENTRIES = 200
_RECENT_LINES = 100
_SHORT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LONG_SECONDS = (1.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)


# The self-metrics


@dataclass(frozen=True, slots=True)
class SelfMetric:
    """One self-metric, named without the prefix.

    `kind`: counter, gauge, histogram, or probe (a gauge that is read from a callable at the scrape). `labels`: the
    values that each label starts with, so that every series is there from the beginning.
    """

    name: str
    kind: str
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    buckets: tuple[float, ...] = ()


_OUTCOMES = ("counted", "fetch_failed", "unreadable", "set_aside", "gone", "changed")

SELF_METRICS: tuple[SelfMetric, ...] = (
    SelfMetric("polls_total", "counter", "Looks into the bucket.", (("outcome", ("finished", "failed")),)),
    SelfMetric("poll_seconds", "histogram", "How long a poll took.", buckets=_SHORT_SECONDS),
    SelfMetric("last_poll_success_timestamp_seconds", "gauge", "When the bucket was last listed; 0 for never."),
    SelfMetric("listed_files", "gauge", "Objects in the hour folders at the last poll."),
    SelfMetric("new_files", "gauge", "Those of them that had not been claimed before."),
    SelfMetric("files_total", "counter", "Files, by what became of them.", (("outcome", _OUTCOMES),)),
    SelfMetric(
        "unreadable_files_total",
        "counter",
        "Attempts to read a file that could not be read, by reason.",
        (("reason", tuple(UNREADABLE_REASONS)),),
    ),
    SelfMetric("file_bytes_total", "counter", "Compressed bytes of counted files."),
    SelfMetric("lines_total", "counter", "Lines in counted files."),
    SelfMetric("events_total", "counter", "Lines that count."),
    SelfMetric("rejects_total", "counter", "Lines that do not count, by reason.", (("reason", tuple(REJECT_REASONS)),)),
    SelfMetric("late_events_total", "counter", "Events that came after their tick and count in the next one."),
    SelfMetric(
        "late_seconds", "histogram", "How late the latest event of a file with late events was.", buckets=_LONG_SECONDS
    ),
    SelfMetric("skipped_files_total", "counter", "Sequence numbers that are missing between files of a shard."),
    SelfMetric("fetch_seconds", "histogram", "How long a download took.", buckets=_SHORT_SECONDS),
    SelfMetric("decode_seconds", "histogram", "How long decoding a file took.", buckets=_SHORT_SECONDS),
    SelfMetric("deleted_files_total", "counter", "Files deleted after everything in them was acknowledged."),
    SelfMetric("delete_failures_total", "counter", "Files that could not be deleted at an attempt."),
    SelfMetric("quarantined_files_total", "counter", "Files moved to QUARANTINE_PREFIX."),
    SelfMetric("pushes_total", "counter", "Batches done, by outcome.", (("outcome", ("accepted", "incomplete")),)),
    SelfMetric("samples_pushed_total", "counter", "Samples in the batches that are done."),
    SelfMetric("pushed_bytes_total", "counter", "Bytes of the requests in the batches that are done."),
    SelfMetric("push_seconds", "histogram", "How long a batch took, retries included.", buckets=_SHORT_SECONDS),
    SelfMetric(
        "push_lag_seconds", "histogram", "How old a batch's last tick was when it was done.", buckets=_LONG_SECONDS
    ),
    SelfMetric("push_retries_total", "counter", "Requests sent again after a failure that may pass."),
    SelfMetric("requests_refused_total", "counter", "Requests that the receiver refused for good."),
    SelfMetric("requests_set_aside_total", "counter", "Requests given up after PUSH_RETRY_SECONDS."),
    SelfMetric("receiver_misconfigured_total", "counter", "Attempts that the receiver answered as misconfigured."),
    SelfMetric("last_push_success_timestamp_seconds", "gauge", "When a batch was last accepted; 0 for never."),
    SelfMetric("commit_failures_total", "counter", "Attempts to write the state that failed."),
    SelfMetric(
        "limits_reached_total",
        "counter",
        "How often a bound on streams or series was reached.",
        (("limit", ("MAX_STREAMS", "MAX_SERIES")),),
    ),
    SelfMetric("workers_replaced_total", "counter", "Decoding workers that died and were replaced."),
    SelfMetric("decoders_unavailable_total", "counter", "How often the cluster that decodes could not be reached."),
    SelfMetric("secret_reloads_total", "counter", "Secrets that were read anew because their file changed."),
    SelfMetric("geoip_failures_total", "counter", "Attempts to open the GeoIP database that failed."),
    SelfMetric("geoip_database_build_timestamp_seconds", "gauge", "When the GeoIP database was built; 0 for none."),
    SelfMetric("library_warnings_total", "counter", "Warnings of libraries."),
    SelfMetric("status_failures_total", "counter", "Requests that the status server failed to answer."),
    SelfMetric(
        "log_events_total", "counter", "Events said, by level, written or not.", (("level", tuple(map(str, Level))),)
    ),
    SelfMetric("log_lines_lost_total", "counter", "Log lines that could not be written to stdout."),
    # Read at the scrape; `stage` and `shard` come with the probe.
    SelfMetric("queue_depth", "probe", "Items in the channel behind a stage.", (("stage", ()),)),
    SelfMetric("files_in_memory", "probe", "Files of which the content is in memory."),
    SelfMetric("pending_files", "probe", "Files that are listed and wait to be downloaded."),
    SelfMetric("watermark_timestamp_seconds", "probe", "Up to when time is complete."),
    SelfMetric("watermark_lag_seconds", "probe", "The clock less the watermark."),
    SelfMetric("outbox_requests", "probe", "Encoded requests that are not yet acknowledged."),
    SelfMetric("outbox_bytes", "probe", "Their bytes."),
    SelfMetric("series", "probe", "Series in memory, idle ones included."),
    SelfMetric("streams", "probe", "Streams that count on their own."),
    SelfMetric("viewers", "probe", "Viewers in the session windows."),
    SelfMetric("limited_requests", "probe", 'Requests counted under stream_name="other" since the start.'),
    SelfMetric("ledger_files", "probe", "Files in the ledger: counted and not yet forgotten."),
    SelfMetric("files_set_aside", "probe", "Files set aside because they cannot be read."),
    SelfMetric("commit_seconds", "probe", "How long the last commit of the state took."),
    SelfMetric("clock_skew_seconds", "probe", "This machine's clock less the bucket's."),
    SelfMetric("event_loop_lag_p99_seconds", "probe", "How late the event loop is: the 99th percentile of a minute."),
    SelfMetric("event_loop_lag_max_seconds", "probe", "The maximum of the same minute."),
    SelfMetric("event_loop_tasks", "probe", "Tasks of the event loop; their number does not grow."),
    SelfMetric("problems", "probe", "What is wrong at the moment; see /readyz."),
)


class _Probes(Collector):
    """Gauges that are asked for their value when somebody scrapes."""

    def __init__(self, table: Iterable[SelfMetric]) -> None:
        self._table = {metric.name: metric for metric in table if metric.kind == "probe"}
        self._asked: dict[str, dict[tuple[str, ...], Callable[[], float | None]]] = {name: {} for name in self._table}

    def watch(self, name: str, ask: Callable[[], float | None], labels: Mapping[str, str]) -> None:
        metric = self._table.get(name)
        if metric is None or {label for label, _ in metric.labels} != labels.keys():
            raise LookupError(f"no probe {name} with labels {sorted(labels)} in SELF_METRICS")
        self._asked[name][tuple(labels[label] for label, _ in metric.labels)] = ask

    def collect(self) -> Iterator[Metric]:
        for name, asked in self._asked.items():
            metric = self._table[name]
            family = GaugeMetricFamily(PREFIX + name, metric.help, labels=[label for label, _ in metric.labels])
            for values, ask in asked.items():
                value = _answer(ask)
                if value is not None:
                    family.add_metric(values, value)
            yield family


def _answer(ask: Callable[[], float | None]) -> float | None:
    try:
        value = ask()
    except Exception:  # a part that is being closed has no answer; the others still have theirs
        return None
    return None if value is None else float(value)


# What is wrong


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong at the moment."""

    what: str
    since: str  # ISO 8601 UTC
    remedy: str

    def as_json(self) -> dict[str, str]:
        """For the status server."""
        return {"what": self.what, "since": self.since, "remedy": self.remedy}


class Problems:
    """What is wrong at the moment, one entry per subject; `since` stays when the same is found again."""

    def __init__(self, mask: Callable[[str], str] = str, now: Callable[[], float] = time.time) -> None:
        self._mask = mask
        self._now = now
        self._current: dict[str, Problem] = {}

    def found(self, what: str, remedy: str) -> None:
        """Something is wrong; `remedy` says what to do."""
        known = self._current.get(what)
        since = known.since if known else _iso(self._now())
        self._current[what] = Problem(what, since, _cut(self._mask(remedy), _TEXT_SIGNS))

    def solved(self, what: str) -> None:
        """It is no longer."""
        self._current.pop(what, None)

    def current(self) -> list[Problem]:
        """What is wrong now, the oldest first."""
        return sorted(self._current.values(), key=lambda problem: (problem.since, problem.what))

    def __len__(self) -> int:
        return len(self._current)


class LoopLag:
    """How late the event loop came to what was due, over the last measurements."""

    def __init__(self, most: int = 1200) -> None:
        self._late: deque[float] = deque(maxlen=most)

    def observe(self, seconds: float) -> None:
        """One measurement."""
        self._late.append(max(0.0, seconds))

    def p99(self) -> float | None:
        """The 99th percentile, or None without a measurement."""
        if not self._late:
            return None
        ordered = sorted(self._late)
        return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * 0.99) - 1)]

    def most(self) -> float | None:
        """The maximum, or None without a measurement."""
        return max(self._late, default=None)


# The voice


class Telemetry:
    """The voice of the service: `telemetry("file_counted", key=..., lines=...)`. Safe to use from every thread."""

    def __init__(
        self, settings: Settings, *, stream: BinaryIO | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._mask = settings.masker()
        self._least = settings.log_level.rank
        self._now = now
        self._log = structlog.BytesLogger(stream or sys.stdout.buffer)
        self.problems = Problems(self._mask, now)
        self.loop_lag = LoopLag()
        self.recent: deque[dict[str, object]] = deque(maxlen=_RECENT_LINES)  # warnings and worse, as written
        self.registry = CollectorRegistry(auto_describe=False)
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}
        self._probes = _Probes(SELF_METRICS)
        self._register()
        self.problems.found("start", "the first look into the bucket has not succeeded yet; wait for it")

    def _register(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody reads
        for metric in SELF_METRICS:
            if metric.kind != "probe":
                self._metrics[metric.name] = _made(metric, self.registry)
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
        told = EVENTS.get(event)
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
                traceback=whole[-_TRACEBACK_SIGNS:],
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
        return _cut(masked.encode("utf-8", "replace").decode(), _TRACEBACK_SIGNS)

    # Self-metrics

    def _move(self, event: Event, values: Mapping[str, object]) -> None:
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

    def _write(self, event: Event, values: Mapping[str, object]) -> None:
        line: dict[str, object] = {"timestamp": _iso(self._now()), "level": event.level, "event": event.name, **values}
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


def _made(metric: SelfMetric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    names = [label for label, _ in metric.labels]
    made: Counter | Gauge | Histogram
    if metric.kind == "histogram":
        made = Histogram(PREFIX + metric.name, metric.help, names, buckets=metric.buckets, registry=registry)
    else:
        make: Any = Counter if metric.kind == "counter" else Gauge
        made = make(PREFIX + metric.name, metric.help, names, registry=registry)
    for _, values in metric.labels:
        for value in values:
            made.labels(value)
    return made


def _number(value: float | int | bool | None) -> object:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 10**300 else None
    return value


def _cut(text: str, signs: int) -> str:
    return text if len(text) <= signs else text[: signs - 1] + "…"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
    package = str(Path(__file__).parent)
    stage = "unknown"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if str(path).startswith(package):
            module = ".".join(path.relative_to(package).with_suffix("").parts)
            stage = f"{module}.{frame.f_code.co_qualname}"
    return stage
