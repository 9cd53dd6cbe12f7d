"""The service in memory and in virtual time: a bucket, a strict receiver, a state file, and files that come as they do.

Every place at which a kill could strike is a *point*: each await of a port, each statement of the state store. A test
sees all of them through `World.on_point`, and may copy the world there or raise.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import math
import random
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import cramjam

from cdn77_exporter.core.arrivals import Arrivals
from cdn77_exporter.core.clocks import ClockSource
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.decoded import Decoded
from cdn77_exporter.core.encode.parts import has_histograms
from cdn77_exporter.core.encode.remote_write_pb2 import Histogram, WriteRequest
from cdn77_exporter.core.errors import FileGone, HistogramsRefused, Refused
from cdn77_exporter.core.files import LogFile, LogNames, RawLog
from cdn77_exporter.core.measures import MEASURES, Measures
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.edge.state import Database, State
from cdn77_exporter.flow.accounts import ToldUntilAccepted
from cdn77_exporter.flow.in_flight import InFlight
from cdn77_exporter.flow.pipeline import Pipeline
from cdn77_exporter.flow.ports import Common
from cdn77_exporter.flow.shard_reports import ShardReports
from cdn77_exporter.flow.stages.aggregate import Aggregator
from cdn77_exporter.flow.stages.decode import FileDecoder
from cdn77_exporter.flow.stages.delete import Deleter
from cdn77_exporter.flow.stages.fetch import Fetcher
from cdn77_exporter.flow.stages.list import Lister
from cdn77_exporter.flow.stages.push import Pusher
from cdn77_exporter.flow.stages.sweep import Sweeper
from cdn77_exporter.telemetry.conditions import CONDITIONS, ConditionName
from cdn77_exporter.telemetry.messages import MESSAGES
from tests.support import files as log_files
from tests.support.plain_wholes import Content, Samples, content_of, over_all, rounded
from tests.support.truth import COUNTERS, WINDOW_GAUGES, Labels, Truth
from tests.support.virtual_time import Inline, VirtualClock

T = TypeVar("T")
Event = Mapping[str, Any]
OnPoint = Callable[[str], None]

PREFIX = "logs"
TICK_SECONDS = 15
BEGAN_MS = 1_768_056_004_321  # 2026-01-10T14:40:04.321Z, on no tick


@dataclass(frozen=True)
class Upload:
    """A file as the CDN puts it into the bucket, with what is in it."""

    file: LogFile
    body: bytes
    events: tuple[Event, ...]
    own_pop: str  # only this file's events have this POP, so that its counters tell whether it was delivered


def upload(shard: int, sequence: int, modified_ms: int, events: Sequence[Event], writer: str = "0b5e") -> Upload:
    """A log file; every second of its events gets a POP of its own."""
    own_pop = f"pop-{writer}-{shard}-{sequence}"
    told = tuple({**event, "locationID": own_pop} if number % 2 else event for number, event in enumerate(events))
    body = log_files.log_file(told)
    hour = datetime.fromtimestamp(modified_ms / 1000, UTC).strftime("%Y%m%d/%H")
    key = f"{PREFIX}/{hour}/rtl.{writer}+{shard}+{sequence}.ndjson.gz"
    file = LogFile(key, hashlib.md5(body, usedforsecurity=False).hexdigest(), len(body), modified_ms)
    return Upload(file, body, told, own_pop)


def traffic(seed: int = 1, *, files: int = 7, shards: int = 3, lines: int = 8, late: bool = True) -> list[Upload]:
    """Some minutes of `shards` writers with a file each half minute; with `late`, files overlap and one is late."""
    draw = random.Random(seed)
    crowd = [f"198.51.100.{number}" for number in range(12)]
    found = []
    for shard in range(shards):
        for sequence in range(files):
            begin = BEGAN_MS + 30_000 + sequence * 30_000 + shard * 7_000
            early = draw.randrange(12_000) if late else 0
            times = sorted(draw.randrange(begin - early, begin + 30_000) for _ in range(lines))
            delay = draw.randrange(3_000, 15_000)
            if late and (shard, sequence) == (1, 3):
                delay += 95_000
            events = [
                log_files.event(
                    ms,
                    clientIP=draw.choice(crowd),
                    clientRequestPath=f"/{log_files.stream_name(draw.randrange(3))}/index.m3u8",
                    clientRequestUserAgent=draw.choice(log_files.USER_AGENTS),
                    clientCountry=draw.choice(("US", "DE", "")),
                    locationID=draw.choice(("londonGB", "parisFR")),
                    responseStatus=draw.choice((200, 200, 206, 404)),
                    responseBytes=draw.randrange(1, 100_000),
                )
                for ms in times
            ]
            found.append(upload(shard, sequence, begin + 30_000 + delay, events))
    return found


def backlog(count: int, shards: int = 3) -> list[Upload]:
    """Files of the ten minutes before the start, all in the bucket already."""
    found = []
    for number in range(count):
        at = BEGAN_MS - 600_000 + number * 500_000 // count
        events = [log_files.event(at + step * 100, clientIP=f"192.0.2.{number}") for step in range(4)]
        found.append(upload(number % shards, number // shards, at + 1000, events, writer="01d"))
    return found


# The receiver


class Receiver:
    """Keeps samples as Prometheus does: a request whole or not at all, in order per series unless told otherwise.

    `most_bytes`: of a request, before compression; larger ones are answered 413.
    """

    def __init__(self, *, out_of_order: bool = False, most_bytes: int | None = None) -> None:
        self.out_of_order = out_of_order
        self.most_bytes = most_bytes
        self.too_large = 0
        self.series: dict[Labels, dict[int, float]] = {}
        self.histograms: dict[Labels, Samples] = {}
        self.refused: list[str] = []

    def copy(self) -> Receiver:
        """The same content, apart."""
        twin = Receiver(out_of_order=self.out_of_order, most_bytes=self.most_bytes)
        twin.series = {labels: dict(samples) for labels, samples in self.series.items()}
        twin.histograms = {labels: list(samples) for labels, samples in self.histograms.items()}
        return twin

    def take(self, body: bytes) -> None:
        """Store a request, or raise Refused and store nothing of it."""
        plain = bytes(cramjam.snappy.decompress_raw(body))
        if self.most_bytes is not None and len(plain) > self.most_bytes:
            self.too_large += 1
            raise Refused(413, "")
        request = WriteRequest.FromString(plain)
        fresh: dict[Labels, dict[int, float]] = {}
        for series in request.timeseries:
            labels = tuple((label.name, label.value) for label in series.labels)
            if series.histograms:
                self._take_histograms(labels, series.histograms)
                continue
            kept = self.series.get(labels, {})
            new = fresh.setdefault(labels, {})
            newest = max(next(reversed(kept), 0), next(reversed(new), 0))
            for sample in series.samples:
                at, value = sample.timestamp, sample.value
                known = new.get(at, kept.get(at))
                if known is not None and struct.pack("<d", known) != struct.pack("<d", value):
                    self._refuse(f"duplicate sample for timestamp {at}: {known} and {value} of {labels}")
                if at < newest and not self.out_of_order:
                    self._refuse(f"out of order sample {at} after {newest} of {labels}")
                new[at] = value
                newest = max(newest, at)
        for labels, new in fresh.items():
            kept = self.series.setdefault(labels, {})
            in_order = not kept or not new or min(new) >= next(reversed(kept))
            kept.update(new)
            if not in_order:
                self.series[labels] = dict(sorted(kept.items()))

    def _take_histograms(self, labels: Labels, histograms: Iterable[Histogram]) -> None:
        """Store native histograms, in order; the same once more is fine."""
        kept = self.histograms.setdefault(labels, [])
        for one in histograms:
            new = (one.timestamp, content_of(one))
            if kept and new[0] <= kept[-1][0]:
                if new not in kept:
                    self._refuse(f"out of order sample {new} after {kept[-1]} of {labels}")
                continue
            kept.append(new)

    def _refuse(self, words: str) -> None:
        self.refused.append(words)
        raise Refused(400, words)

    def observed(self) -> dict[Labels, Content]:
        """What every native histogram has grown by, as increase() sees it; without those of which that is nothing."""
        found = {labels: rounded(over_all(samples)) for labels, samples in self.histograms.items()}
        return {labels: content for labels, content in found.items() if content}

    def values(self, names: Iterable[str]) -> dict[str, dict[Labels, float]]:
        """The last value of every series of some metrics; stale markers are no values."""
        found: dict[str, dict[Labels, float]] = {name: {} for name in names}
        for labels, samples in self.series.items():
            pairs = dict(labels)
            name = pairs.pop("__name__")
            if name not in found:
                continue
            real = next((value for value in reversed(samples.values()) if not math.isnan(value)), None)
            if real is not None:
                found[name][tuple(sorted(pairs.items()))] = real
        return found

    def grown(self, names: Iterable[str]) -> dict[str, dict[Labels, float]]:
        """How much every series of some counters has grown, as increase() sees it: a fall is a beginning at zero."""
        found: dict[str, dict[Labels, float]] = {name: {} for name in names}
        for labels, samples in self.series.items():
            pairs = dict(labels)
            name = pairs.pop("__name__")
            if name in found:
                values = [value for value in samples.values() if not math.isnan(value)]
                growth = [now - before if now >= before else now for before, now in itertools.pairwise(values)]
                found[name][tuple(sorted(pairs.items()))] = round(sum(growth), 3)  # to the millisecond
        return found

    def requests_by_pop(self) -> dict[str, float]:
        """Requests counted, by POP."""
        found: dict[str, float] = {}
        for labels, value in self.grown(["cdn77_requests_total"])["cdn77_requests_total"].items():
            pop = dict(labels)["pop"]
            found[pop] = found.get(pop, 0) + value
        return found


class ReceiverPort:
    """The receiver as the pusher sees it; `stopped` while nothing answers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.bodies: list[bytes] = []

    async def write(self, body: bytes) -> None:
        await self._world.point("write, before it is stored")
        while not self._world.receiver_answers.is_set():
            await self._world.receiver_answers.wait()
        self.bodies.append(body)
        if has_histograms(body) and self._world.clock.true_ms() < self._world.histograms_from_ms:
            raise HistogramsRefused(500, "native histograms are disabled")
        self._world.receiver.take(body)
        await self._world.point("write, after it is stored")


# The bucket


class BucketPort:
    """The bucket as the stages see it: files appear at their time and are gone once deleted."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.fetches = 0

    def _there(self) -> list[Upload]:
        now_ms = self._world.clock.true_ms()
        gone = self._world.deleted
        written = sorted(self._world.uploads, key=lambda one: one.file.modified_ms)
        there = {one.file.key: one for one in written if one.file.modified_ms <= now_ms}  # the last of each key
        return [one for key, one in there.items() if key not in gone]

    async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        await self._world.point("list")
        self._world.clock.answer()
        ahead_ms = round(self._world.clock.bucket_ahead_ms)
        there = (one.file for one in self._there() if one.file.key.startswith(prefix))
        found = [replace(file, modified_ms=file.modified_ms + ahead_ms) for file in there]
        for begin in range(0, len(found), 5):
            yield found[begin : begin + 5]
            await self._world.point("list, after a page")

    async def fetch(self, file: LogFile) -> bytes:
        self.fetches += 1
        await self._world.point("fetch, before")
        found = [one.body for one in self._there() if one.file.identity == file.identity]
        if not found:
            raise FileGone(file.key)
        await asyncio.sleep(self._world.latency())
        await self._world.point("fetch, after")
        return found[0]

    async def delete(self, files: Sequence[LogFile]) -> dict[tuple[str, str], str]:
        await self._world.point("delete, before")
        there = {one.file.key: one.file for one in self._there()}
        failures = {}
        for file in files:
            if there.get(file.key, file).etag != file.etag:
                failures[file.identity] = "changed"
                continue
            self._world.gone(file)
            await self._world.point("delete, after a file")
        return failures


class InlineState(State):
    """The state without its thread, so that nothing happens beside the loop."""

    async def run(self, call: Callable[..., T], *values: object) -> T:
        """`call(*values)`, now; others may run before and after it."""
        await asyncio.sleep(0)
        result = call(*values)
        await asyncio.sleep(0)
        return result


class InlineDecoder:
    """The real decoder on the thread that asks, which takes up to `most` files at a time."""

    def __init__(
        self,
        most: int = 1,
        width: int = 2,
        stream_pattern: str = DEFAULT_STREAM_PATTERN,
        measures: Measures = MEASURES,
    ) -> None:
        self.most = most
        self.width = width
        self._decoder = Decoder(
            tick_seconds=TICK_SECONDS, stream_pattern=stream_pattern, measures=measures, examples=True
        )

    async def decode(self, logs: Sequence[RawLog], latest_ms: Sequence[int], oldest_ms: int) -> Decoded:
        counted = [log.file.counted for log in logs]
        return self._decoder.decode_all([log.body for log in logs], latest_ms, oldest_ms, counted)


class Said:
    """What was reported; every event must be in the closed list, with exactly fields that are declared for it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, /, **fields: object) -> None:
        declared = {one.name for one in MESSAGES[event].fields}
        assert fields.keys() <= declared, f"{event}: {sorted(fields.keys() - declared)} not declared"
        self.events.append((event, fields))

    def of(self, event: str) -> list[dict[str, object]]:
        """The fields of every report of an event."""
        return [fields for name, fields in self.events if name == event]


class Trouble:
    """What is wrong at the moment, all that ever was, and what has ended, each time."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}
        self.ever: list[tuple[str, str]] = []
        self.ended: list[str] = []

    def found(self, what: ConditionName, words: str, remedy: str = "") -> None:
        told = f"{words}; {remedy or CONDITIONS[what].action}"
        self.now[what] = told
        self.ever.append((what, told))

    def solved(self, what: ConditionName) -> None:
        if self.now.pop(what, None) is not None:
            self.ended.append(what)


# The world


@dataclass(frozen=True)
class Moment:
    """What is left of the world when the process is killed."""

    name: str
    now_ms: int
    state: tuple[bytes | None, bytes | None]  # the database file and its journal
    deleted: frozenset[str]
    receiver: Receiver


@dataclass
class World:
    """Everything outside the process, and what one process of it needs. `until_ms`: when it is told to stop."""

    folder: Path
    uploads: list[Upload]
    began_ms: int = BEGAN_MS
    receiver: Receiver = field(default_factory=Receiver)
    deleted: set[str] = field(default_factory=set)
    on_point: OnPoint = lambda _: None
    width: int = 4
    most: int = 1  # files that are decoded together
    seed: int = 0
    interval: float = 20.0
    keeps_state: bool = True
    keep_files: bool = False
    window_seconds: int = 7200
    lookback_hours: float = 2
    stream_pattern: str = DEFAULT_STREAM_PATTERN
    lateness_seconds: float = 0
    doubts: bool = False  # whether the clock believes only what witnesses agree on
    clock_source: ClockSource = ClockSource.AUTO
    measures: Measures = MEASURES
    histograms_from_ms: int = 0  # until then the receiver takes no native histograms

    def __post_init__(self) -> None:
        self.clock = VirtualClock(self.began_ms, doubts=self.doubts, source=self.clock_source)
        self.said = Said()
        self.trouble = Trouble()
        self.bucket = BucketPort(self)
        self.write = ReceiverPort(self)
        self._draw = random.Random(self.seed)
        self.receiver_answers = asyncio.Event()
        self.receiver_answers.set()
        self.pipeline: Pipeline | None = None
        self.left: Moment | None = None  # what there was when `run` ended, well or by an error

    @classmethod
    def after(cls, moment: Moment, folder: Path, uploads: list[Upload], later_ms: int = 1000, **options: Any) -> World:
        """The world as it was left, found again a little later."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in zip(("state.db", "state.db-journal"), moment.state, strict=True):
            if content is not None:
                (folder / name).write_bytes(content)
        return cls(folder, uploads, moment.now_ms + later_ms, moment.receiver.copy(), set(moment.deleted), **options)

    @property
    def path(self) -> Path:
        """The state file."""
        return self.folder / "state.db"

    @property
    def truth(self) -> Truth:
        """What is true of everything that was ever uploaded."""
        return Truth((event for one in self.uploads for event in one.events), window_seconds=self.window_seconds)

    def moment(self, name: str) -> Moment:
        """What a kill at this instant would leave."""
        state = tuple(
            path.read_bytes() if path.exists() else None
            for path in (self.path, self.path.with_name(self.path.name + "-journal"))
        )
        return Moment(name, self.clock.true_ms(), (state[0], state[1]), frozenset(self.deleted), self.receiver.copy())

    def catch(self, point: int) -> list[Moment]:
        """Have the moment of this point of the process, counted from 1, put into the list; of no point for 0."""
        caught: list[Moment] = []
        left = point

        def count_down(name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                caught.append(self.moment(name))

        self.on_point = count_down
        return caught

    def latency(self) -> float:
        """How long a download takes."""
        return self._draw.choice((0.0, 0.05, 0.5, 3.0))

    async def point(self, name: str) -> None:
        """An await of a port, at which the process may be killed."""
        self.on_point(name)
        await asyncio.sleep(0.001)

    def gone(self, file: LogFile) -> None:
        """A file is deleted: everything in it must be in an accepted request by now."""
        (found,) = [one for one in self.uploads if one.file.identity == file.identity]
        own = sum(event["locationID"] == found.own_pop for event in found.events)
        held = self.receiver.requests_by_pop()
        assert held.get(found.own_pop, 0) == own, f"{file.key} was deleted, but {held} was delivered"
        self.deleted.add(file.key)
        for pop in ("londonGB", "parisFR"):
            least = sum(
                event["locationID"] == pop
                for one in self.uploads
                if one.file.key in self.deleted
                for event in one.events
            )
            assert held.get(pop, 0) >= least, f"{file.key} was deleted before all of {pop} was delivered"

    def build(self, stop: asyncio.Event) -> tuple[Pipeline, State]:
        """A new process."""
        path = str(self.path) if self.keeps_state else ":memory:"
        database = Database(path, on_statement=lambda statement: self.on_point(f"statement: {statement[:40]}"))
        state = InlineState(database)
        watermark = Watermark(idle_seconds=60, lag_seconds=60, lateness_seconds=self.lateness_seconds)
        rules = Rules(session_window_seconds=self.window_seconds)
        key = database.secret_key()
        timeline = Timeline(rules, start_ms=self.clock.began_ms(), key=key, measures=self.measures)
        snapshot = database.load()
        if snapshot is not None:
            timeline.restore(snapshot)
            watermark.restore(snapshot.shards, snapshot.meta["watermark_ms"], self.clock.monotonic())
        common = Common(self.clock, self.said, self.trouble, stop)
        in_flight = InFlight(self.width, self.said, steady=self.clock.monotonic, patience=60)
        arrivals, shards = Arrivals(), ShardReports(common, in_flight, watermark, wait_seconds=300)
        names = LogNames(PREFIX)
        since_ms = timeline.floor * 1000 - round(self.lookback_hours * 3_600_000)
        events_seen = database.events_seen(crc32(self.stream_pattern.encode()))
        aggregator = Aggregator(
            common,
            in_flight,
            timeline,
            state,
            watermark,
            arrivals,
            Inline(),
            keeps_state=self.keeps_state,
            shards=shards,
        )
        self.pipeline = Pipeline(
            common=common,
            in_flight=in_flight,
            watermark=watermark,
            lister=Lister(
                common,
                in_flight,
                self.bucket,
                state,
                watermark,
                arrivals,
                names=names,
                interval=self.interval,
                lookback_hours=self.lookback_hours,
                sweeper=Sweeper(common, in_flight, self.bucket, state, names, since_ms, keep_files=self.keep_files),
                keep_files=self.keep_files,
            ),
            fetcher=Fetcher(common, in_flight, self.bucket, state, watermark),
            decoder=FileDecoder(
                common,
                in_flight,
                InlineDecoder(self.most, stream_pattern=self.stream_pattern, measures=self.measures),
                state,
                events_seen,
            ),
            aggregator=aggregator,
            pusher=Pusher(
                common,
                self.write,
                state,
                ToldUntilAccepted(aggregator, state),
                give_up_seconds=3600,
                limit=timeline.request_limit,
            ),
            deleter=Deleter(common, self.bucket, state, keep_files=self.keep_files),
        )
        return self.pipeline, state

    @property
    def end_ms(self) -> int:
        """When everything has long been counted: idle shards no longer hold the watermark, which is past all events."""
        return max(self.began_ms, *(one.file.modified_ms for one in self.uploads)) + 230_000

    async def run(self, until_ms: int | None = None) -> None:
        """One process, until it is told to stop and has drained, or fails."""
        stop = asyncio.Event()
        seconds = ((until_ms or self.end_ms) - self.began_ms) / 1000
        asyncio.get_running_loop().call_later(seconds, stop.set)
        state: State | None = None
        try:
            pipeline, state = self.build(stop)
            await pipeline.run()
        finally:
            if state is not None:
                state.close()
            self.left = self.moment("end")

    def check(self) -> None:
        """At the end: every counter has grown by the truth, every gauge is right, and the bucket is empty."""
        assert self.receiver.grown(COUNTERS) == self.truth.counters()
        newest = max(max(samples) for samples in self.receiver.series.values())
        active = {name: {k: v for k, v in values.items() if v} for name, values in self.truth.active(newest).items()}
        assert self.receiver.values(WINDOW_GAUGES) == active
        assert self.deleted == {one.file.key for one in self.uploads}
        self.check_every_sample()

    def check_every_sample(self) -> None:
        """No counter falls but to zero, none is written off a tick, and none says more than had happened before it."""
        truth = self.truth
        stamps = sorted({at for samples in self.receiver.series.values() for at in samples})
        assert all(at % (TICK_SECONDS * 1000) == 0 for at in stamps)
        last_ms = truth.last_ms + 1  # from then on nothing changes any more
        known = {at: truth.counters(before_ms=at) for at in {min(at, last_ms) for at in stamps}}
        for labels, samples in self.receiver.series.items():
            pairs = dict(labels)
            name = pairs.pop("__name__")
            if name not in COUNTERS:
                continue
            key = tuple(sorted(pairs.items()))
            last = 0.0
            for at, value in samples.items():
                if math.isnan(value):
                    continue
                assert (last <= value or value == 0) and value <= known[min(at, last_ms)][name].get(key, 0), (
                    f"{labels} is {value} at {at}, was {last}"
                )
                last = value
