"""Gathers the content of the status page from all parts of the service, and keeps the history of the last hour."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import orjson

from cdn77_exporter import __version__
from cdn77_exporter.core.changes import AsideFile
from cdn77_exporter.core.decoded import Example as RejectExample
from cdn77_exporter.core.measures import window_label
from cdn77_exporter.core.numbering import Numbers
from cdn77_exporter.core.reasons import REJECT_REASONS, UNREADABLE_REASONS
from cdn77_exporter.core.timeline import Timeline
from cdn77_exporter.core.visible import visible
from cdn77_exporter.core.watermark import Shard, ShardState, Watermark
from cdn77_exporter.flow.in_flight import At, InFlight
from cdn77_exporter.flow.pipeline import Pipeline
from cdn77_exporter.flow.shard_reports import shard_states
from cdn77_exporter.flow.stages.fetch import LOOKAHEAD
from cdn77_exporter.settings import Settings
from cdn77_exporter.status.audience import AudienceReader, Ranking
from cdn77_exporter.status.document import (
    Aside,
    Audience,
    Completeness,
    Example,
    History,
    Ignored,
    Owed,
    Push,
    Ranked,
    Reject,
    Stage,
    Status,
    UnknownAgent,
    UnknownAgents,
    Verdict,
    Warned,
)
from cdn77_exporter.status.document import Shard as ShownShard
from cdn77_exporter.telemetry.logger import Telemetry
from cdn77_exporter.telemetry.problems import Problem

STEP_SECONDS = 15
_POINTS = 240
_SHARDS = 100
_STATES = (ShardState.LAGGING, ShardState.CURRENT, ShardState.SILENT)  # the order in which they are shown
_WARNINGS = 20
#: Files set aside that are shown.
ASIDE_SHOWN = 50
AGENTS_SHOWN = 20
OWED_SHOWN = 20
_TEXT_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class _Point:
    """Counters at one moment, or their growth in one step (events and samples: by the second)."""

    at: float
    events: float
    samples: float
    failures: float
    lag: float | None


class Overview:
    """Answers for the service at any time: before its pipeline exists, while it works, and while it stops."""

    def __init__(self, settings: Settings, telemetry: Telemetry, now: Callable[[], float]) -> None:
        self._telemetry = telemetry
        self._now = now
        self._started = now()
        self._settings = {name: _shown(value) for name, value in settings.public().items()}
        self._history: deque[_Point] = deque(maxlen=_POINTS)
        self._before: _Point | None = None
        self._pipeline: Pipeline | None = None
        self._timeline: Timeline | None = None
        self._reader = AudienceReader(settings.measures, window_label(settings.session_window_seconds))
        self._owed: tuple[int, list[tuple[str, int]]] = (0, [])
        self.aside: list[AsideFile] = []
        self.counts: Mapping[str, int] = {}  # of the ledger and the outbox, as `Database.counts` gives them

    def attach(self, pipeline: Pipeline, timeline: Timeline) -> None:
        """Include the pipeline from now on."""
        self._pipeline, self._timeline = pipeline, timeline

    # Measuring

    async def run(self, stop: asyncio.Event) -> None:
        """Add a point to the history and read the series, every `STEP_SECONDS` until the stop."""
        while not stop.is_set():
            try:
                await self.measure()
            except Exception as error:  # an observer must not end the service
                self._telemetry("status_answer_failed", path="/", error=f"{type(error).__name__}: {error}")
            with suppress(TimeoutError):
                async with asyncio.timeout(STEP_SECONDS):
                    await stop.wait()

    async def measure(self) -> None:
        """Add one point to the history and read the series."""
        totals = self._totals()
        if self._before is not None and totals.at > self._before.at:
            self._history.append(_difference(self._before, totals))
        self._before = totals
        if self._pipeline is not None:
            await self._pipeline.aggregator.between_steps(self._look)

    def _look(self) -> None:
        if self._timeline is not None:
            self._reader.read(self._timeline.series, self._timeline.settled)
            self._owed = self._timeline.owed_for_long(OWED_SHOWN)

    def _totals(self) -> _Point:
        total = self._telemetry.total
        failures = ("push_retries_total", "requests_refused_total", "receiver_misconfigured_total")
        return _Point(
            at=self._now(),
            events=total("events_total"),
            samples=total("samples_pushed_total"),
            failures=sum(total(name) for name in failures),
            lag=self._lag(),
        )

    def _lag(self) -> float | None:
        value_ms = self._pipeline.watermark.value_ms if self._pipeline else 0
        return round(self._now() - value_ms / 1000, 1) if value_ms > 0 else None

    # The answer

    def status(self) -> Status:
        """Return the whole status as it is now."""
        problems = self._telemetry.problems.current()
        pipeline = self._pipeline
        stopping = pipeline is not None and pipeline.common.stop.is_set()
        return Status(
            verdict=_verdict(problems, working=pipeline is not None, stopping=stopping),
            version=__version__,
            now=round(self._now(), 3),
            started=round(self._started, 3),
            ready=self._telemetry.problems.ready,
            working=pipeline is not None,
            stopping=stopping,
            problems=problems,
            pipeline=_stages(pipeline, self._timeline, self.counts),
            completeness=self._completeness(pipeline),
            push=self._push(pipeline),
            history=self._shown_history(),
            audience=self._audience(),
            unknown_agents=self._unknown_agents(pipeline),
            rejects=self._rejects(pipeline),
            ignored=self._ignored(pipeline),
            aside=[
                Aside(
                    key=visible(file.key),
                    reason=file.reason,
                    meaning=_meaning(file.reason),
                    detail=visible(self._mask(file.detail)),
                    size=file.size,
                )
                for file in self.aside
            ],
            aside_files=self.counts.get("aside", 0),
            warnings=[_warned(line) for line in list(self._telemetry.recent)[: -_WARNINGS - 1 : -1]],
            settings=self._settings,
        )

    def _completeness(self, pipeline: Pipeline | None) -> Completeness:
        if pipeline is None or self._timeline is None:
            return Completeness(watermark=None, lag_seconds=None, written=None, shards=[], shards_known=0)
        watermark = pipeline.watermark
        return Completeness(
            watermark=watermark.value_ms / 1000 or None,
            lag_seconds=self._lag(),
            written=float(self._timeline.emitted) or None,
            shards=_shards(watermark, pipeline.aggregator.numbering.shards, pipeline.in_flight),
            shards_known=len(watermark.shards),
        )

    def _push(self, pipeline: Pipeline | None) -> Push:
        total = self._telemetry.total
        limit = pipeline.pusher.limit if pipeline and pipeline.pusher.limit.in_force else None
        owed_series, owed = self._owed
        return Push(
            last_poll=pipeline.lister.stats.last_poll_ms / 1000 or None if pipeline else None,
            last_push=pipeline.pusher.stats.last_push_ms / 1000 or None if pipeline else None,
            accepted=int(total("pushes_total", outcome="accepted")),
            incomplete=int(total("pushes_total", outcome="incomplete")),
            samples=int(total("samples_pushed_total")),
            retries=int(total("push_retries_total")),
            refused=int(total("requests_refused_total")),
            outbox_requests=self.counts.get("requests", 0),
            outbox_bytes=self.counts.get("bytes", 0),
            version=pipeline.pusher.spoken.version if pipeline else None,
            limit_samples=limit.samples if limit else None,
            limit_bytes=limit.size if limit else None,
            owed=[Owed(series=visible(self._mask(name)), accepted=float(tick) or None) for name, tick in owed],
            owed_series=owed_series,
        )

    def _shown_history(self) -> History:
        points = list(self._history)
        return History(
            step_seconds=STEP_SECONDS,
            until=points[-1].at if points else round(self._now(), 1),
            events_per_second=[point.events for point in points],
            lag_seconds=[point.lag for point in points],
            samples_per_second=[point.samples for point in points],
            failed_attempts=[point.failures for point in points],
        )

    def _audience(self) -> Audience:
        found = self._reader.audience
        return Audience(
            tick=float(found.tick) or None,
            viewers=found.viewers,
            watching=found.watching,
            watch_seconds=found.watch_seconds,
            sessions=found.sessions,
            bits_per_second=found.bits_per_second,
            streams=len(self._timeline.streams) if self._timeline else 0,
            streams_by_viewers=_ranked(found.streams_by_viewers),
            streams_by_watching=_ranked(found.streams_by_watching),
            streams_by_watch_time=_ranked(found.streams_by_watch_time),
            streams_by_sessions=_ranked(found.streams_by_sessions),
            streams_by_bandwidth=_ranked(found.streams_by_bandwidth),
            devices=_ranked(found.devices),
            countries=_ranked(found.countries),
            pops=_ranked(found.pops),
        )

    def _unknown_agents(self, pipeline: Pipeline | None) -> UnknownAgents:
        if pipeline is None or not pipeline.decoder.stats.unknown_agents.of:
            return UnknownAgents(share=0.0, frequent=[])
        found = pipeline.decoder.stats.unknown_agents
        return UnknownAgents(
            share=round(found.requests / found.of, 6),
            frequent=[
                UnknownAgent(
                    user_agent=visible(self._mask(agent)), requests=requests, share=round(requests / found.of, 6)
                )
                for agent, requests in found.frequent(AGENTS_SHOWN).items()
            ],
        )

    def _rejects(self, pipeline: Pipeline | None) -> list[Reject]:
        found = []
        examples = pipeline.decoder.stats.examples if pipeline else {}
        for reason, meaning in REJECT_REASONS.items():
            lines = int(self._telemetry.total("rejects_total", reason=reason))
            if not lines:
                continue
            key, example = examples.get(reason, ("", None))
            shown = self._example(key, example) if example else None
            found.append(Reject(reason=reason, meaning=meaning, lines=lines, example=shown))
        return sorted(found, key=lambda reject: -reject.lines)

    def _ignored(self, pipeline: Pipeline | None) -> list[Ignored]:
        found = pipeline.decoder.stats.ignored if pipeline else {}
        return sorted(
            (Ignored(field=name, values=values, key=visible(key)) for name, (values, key) in found.items()),
            key=lambda ignored: -ignored.values,
        )

    def _example(self, key: str, example: RejectExample) -> Example:
        return Example(key=visible(key), line=example.line, excerpt=visible(self._mask(example.excerpt)))

    def _mask(self, text: str) -> str:
        return self._telemetry.masked(text)


def _verdict(problems: Sequence[Problem], *, working: bool, stopping: bool) -> Verdict:
    """Return the most urgent of what is to be said, and how much more there is."""
    if stopping:
        return Verdict(colour="waiting", headline="Stopping")
    if not problems:
        return Verdict(colour="green", headline="Up to date") if working else _STARTING
    first, more = problems[0], len(problems) - 1
    headline = first.headline + (f", and {more} more" if more else "")
    return Verdict(colour=first.severity.value, headline=headline)


_STARTING = Verdict(colour="waiting", headline="Starting")


def _difference(before: _Point, after: _Point) -> _Point:
    seconds = after.at - before.at
    return _Point(
        at=round(after.at, 1),
        events=round(max(0.0, after.events - before.events) / seconds, 2),
        samples=round(max(0.0, after.samples - before.samples) / seconds, 2),
        failures=max(0.0, after.failures - before.failures),
        lag=after.lag,
    )


def _stages(pipeline: Pipeline | None, timeline: Timeline | None, counts: Mapping[str, int]) -> list[Stage]:
    if pipeline is None or timeline is None:
        return []
    at, permits = pipeline.in_flight.count, pipeline.in_flight.permits
    ledger = sum(counts.get(name, 0) for name in ("counted", "done", "aside"))
    listed, outbox = f"{pipeline.lister.stats.listed} listed", _bytes(counts.get("bytes", 0))
    in_memory = f"{permits.taken} of {permits.most} files in memory"
    rows: Iterable[tuple[str, int, str, int | None, str]] = (
        ("list", at(At.LISTED), "files waiting", LOOKAHEAD, listed),
        ("fetch", at(At.FETCHING), "downloads", permits.most, in_memory),
        ("decode", at(At.DECODING), "files", None, f"{ledger} in the ledger"),
        ("count", timeline.held_ticks, "open ticks", None, f"{len(timeline.series):,} series"),
        ("push", counts.get("requests", 0), "requests", None, outbox),
        ("delete", counts.get("counted", 0), "files to delete", None, ""),
    )
    queues = [(len(channel), channel.capacity) for channel in pipeline.channels]
    return [
        Stage(name=name, holds=holds, unit=unit, limit=limit, queue=queue, capacity=capacity, note=note)
        for (name, holds, unit, limit, note), (queue, capacity) in zip(rows, [*queues, (None, None)], strict=True)
    ]


def _shards(watermark: Watermark, numbers: Mapping[str, Numbers], in_flight: InFlight) -> list[ShownShard]:
    outstanding = in_flight.outstanding
    known = dict.fromkeys(outstanding, Shard()) | watermark.shards
    none = Numbers("", -1, -1)
    states = shard_states(watermark, in_flight)

    def rank(item: tuple[str, Shard]) -> tuple[int, bool, int]:
        return _STATES.index(states[item[0]]), not numbers.get(item[0], none).gaps, item[1].newest_ms

    first = sorted(sorted(known.items(), key=rank)[:_SHARDS], key=lambda item: _natural(item[0]))
    return [
        ShownShard(
            name=name,
            newest=shard.newest_ms / 1000 or None,
            state=states[name],
            waiting=outstanding.get(name, 0),
            first=numbers[name].first if name in numbers else None,
            highest=numbers[name].highest if name in numbers else None,
            missing=numbers.get(name, none).missing,
            gaps=numbers.get(name, none).gaps,
        )
        for name, shard in first
    ]


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)


def _ranked(ranking: Ranking) -> list[Ranked]:
    return [Ranked(name=name, amount=round(amount, 1)) for name, amount in ranking]


def _meaning(reason: str) -> str:
    return UNREADABLE_REASONS.get(reason, "")


def _bytes(size: int) -> str:
    if size >= 100_000:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e3:.1f} kB" if size >= 1_000 else f"{size} B"


def _shown(value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _warned(line: Mapping[str, object]) -> Warned:
    shown = {name: value for name, value in line.items() if name not in {"timestamp", "level", "message", "traceback"}}
    text = ", ".join(f"{name}: {_shown(value)}" for name, value in shown.items())
    return Warned(
        timestamp=str(line["timestamp"]),
        level=str(line["level"]),
        message=str(line["message"]),
        text=text[:_TEXT_CHARACTERS],
    )
