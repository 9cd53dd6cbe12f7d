"""A campaign: hours of traffic in virtual time, with mishaps of every kind drawn at random, and the truth at the end.

Everything is drawn from one seed. The processes are whole services, from their settings to their stop; the bucket, the
receiver and both clocks are the campaign's, and do whatever such things have been seen to do.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Self
from unittest.mock import patch

from cdn77_exporter import settings
from cdn77_exporter.core.clocks import ClockSource
from cdn77_exporter.core.encode import blocks
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.decoding import ExecutorDecoder, fetched
from cdn77_exporter.edge.state import Database
from cdn77_exporter.service import app, ownership, wiring
from cdn77_exporter.service.app import Service
from cdn77_exporter.service.shutdown import Shutdown
from cdn77_exporter.service.upkeep import Upkeep
from cdn77_exporter.telemetry.logger import Telemetry
from tests.support import files as log_files
from tests.support.fake_bucket import FakeBucket
from tests.support.samples import SeriesName, parsed
from tests.support.service_run import ENVIRON, simulate
from tests.support.strict_prometheus import StrictPrometheus, in_windows, on_victoria_metrics, over_all
from tests.support.truth import COUNTERS, Labels, Truth
from tests.support.virtual_time import Inline, VirtualClock

BEGAN_MS = 1_768_056_004_321  # 2026-01-10T14:40:04.321Z, on no tick
HOUR = 3600.0
_DAY_MS = 86_400_000
_EXACT = ("cdn77_transfer_bytes_total", "cdn77_requests_total", "cdn77_responses_total")


class Killed(BaseException):
    """The process is killed here."""


# What happens


@dataclass(frozen=True)
class Spell:
    """Something that is wrong from one second to another."""

    kind: str
    begin: float
    end: float
    detail: str = ""


@dataclass(frozen=True)
class Deed:
    """What is done to the process at a second: `kill`, `stop`, `restore`, `copy`, `take_over` or `remove`.

    `points`: how many steps a kill waits for. `away`: seconds until the next process starts.
    """

    kind: str
    at: float
    points: int = 1
    away: float = 1.0


@dataclass(frozen=True)
class Plan:
    """All of a campaign; times are seconds since its beginning."""

    seed: int
    hours: float
    receiver: Sequence[Spell] = ()
    bucket: Sequence[Spell] = ()
    clocks: Sequence[Spell] = ()
    deeds: Sequence[Deed] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    state: str = "file"
    others: bool = False  # whether the receiver has other series, which go on while it takes none of ours
    most_samples: int = 2000  # of a request
    late: bool = False
    shards: int = 2
    every: float = 60.0  # seconds of each file
    again: float = 0.02  # share of files that are uploaded twice
    forgets: bool = False  # whether a backup is restored, which does not know who came meanwhile
    out_of_order: float = 0.0  # how many seconds behind its newest sample the receiver still takes one
    lag: Spell | None = None  # while the files of a shard, the `detail`, come much later than those of the others
    lasting: Spell | None = None  # a clock that is wrong to the end, and behind it


RECEIVER_SPELLS = (
    "away", "timing out", "unavailable", "throttling", "failing", "gateway", "flaky", "flaky", "limited", "duplicates",
    "poisoned 400", "poisoned 500", "poisoned time-out", "poisoned 429", "unauthorised", "some refused",
)  # fmt: skip
BUCKET_SPELLS = ("away", "listing fails", "skewed", "hanging", "fetching fails", "deleting fails", "writing fails")
CLOCK_SPELLS = ("bucket +day", "bucket -day", "machine +hour", "machine -hour", "both", "machine +90 s")


def drawn(seed: int, *, long: bool = False) -> Plan:
    """The plan of a seed; a `long` one may have outages of up to a day."""
    draw = random.Random(seed)
    hours = draw.choice((2.0, 3.0, 4.0, 6.0)) if not long else draw.choice((6.0, 12.0, 30.0))
    most = 600.0 if draw.random() < 0.5 else 0.4 * hours * HOUR

    def spells(kinds: Sequence[str], a_hour: float, most: float) -> list[Spell]:
        found, at = [], draw.uniform(60, 1.5 * HOUR / a_hour)
        while at < hours * HOUR:
            length = min(most, 5.0 * (most / 5.0) ** draw.random(), hours * HOUR - at)
            found.append(Spell(draw.choice(kinds), at, at + length, draw.choice(("a", "b", "c"))))
            at += length + draw.expovariate(a_hour / HOUR)
        return found

    def deeds() -> list[Deed]:
        found, at = [], draw.uniform(200, HOUR)
        kinds = ("kill",) * 6 + ("stop",) * 2 + ("remove", "copy")
        while at < hours * HOUR:
            away = draw.choice((0.5, 5.0, 20.0, 90.0, 400.0, 1500.0, 5000.0 if draw.random() < 0.3 else 5.0))
            found.append(Deed(draw.choice(kinds), at, draw.choice((1, 2, 5, 20, 100)), away))
            at += away + draw.expovariate(draw.choice((1.0, 4.0)) / HOUR)
        return found

    ticks = draw.choice(("15", "30", "60", "60"))
    environ = {
        "TICK_SECONDS": ticks,
        "POLL_INTERVAL": draw.choice(("20", "60")),
        "SESSION_WINDOW_SECONDS": "345600",  # nobody comes back after it: viewers are exact whatever is late
        "SERIES_IDLE_SECONDS": draw.choice(("900", "3600", "86400")),
        "PUSH_RETRY_SECONDS": draw.choice(("60", "600", "3600")),
        "SHARD_IDLE_SECONDS": "120",
        "IDLE_LAG_SECONDS": "180",
    }
    return Plan(
        seed,
        hours,
        receiver=spells(RECEIVER_SPELLS, draw.choice((0.5, 2.0, 6.0)), most),
        bucket=spells(BUCKET_SPELLS, draw.choice((0.2, 1.0)), min(most, 1200.0)),
        clocks=spells(CLOCK_SPELLS, 0.7, min(most, 1800.0)) if draw.random() < 0.4 else (),
        deeds=deeds() if draw.random() < 0.8 else (),
        environ=environ,
        state="bucket" if draw.random() < 0.25 else "file",
        others=draw.random() < 0.4,
        most_samples=draw.choice((7, 40, 2000)),
        late=draw.random() < 0.5,
        shards=draw.choice((1, 2, 3)),
        every=draw.choice((30.0, 60.0, 150.0)),
    )


def with_backups(seed: int) -> Plan:
    """The plan of a seed in which backups of the state are restored, some of them many ticks old.

    No file comes late or twice, as what a backup does not know of cannot be told apart.
    """
    draw = random.Random(seed * 101)
    at = [draw.uniform(600.0, 2400.0), draw.uniform(4500.0, 5400.0)]
    deeds = [Deed("restore", begin, draw.choice((1, 5, 20, 60)), draw.choice((1.0, 90.0, 900.0))) for begin in at]
    kills = [Deed("kill", begin, draw.choice((1, 5, 20)), 5.0) for begin in (at[0] + 1830.0, at[1] + 1830.0)]
    return replace(
        drawn(seed),
        hours=2.5,
        receiver=(),
        bucket=(),
        clocks=(),
        deeds=sorted((*deeds, *kills), key=lambda deed: deed.at),
        state="file",
        late=False,
        again=0.0,
        forgets=True,
    )


def with_take_over(seed: int) -> Plan:
    """The plan of a seed in which a copy of the state takes over while the first process is cut off from everything.

    What the first has not told by then the copy cannot know of, so the receiver takes everything.
    """
    draw = random.Random(seed * 103)
    at = draw.uniform(900.0, 3600.0)
    deeds = [Deed("take_over", at, draw.choice((1, 5, 20)), draw.choice((60.0, 300.0, 1200.0)))]
    deeds += [Deed(draw.choice(("kill", "stop")), at + 4000.0, draw.choice((1, 5, 20)), 5.0)]
    plan = with_backups(seed)
    return replace(plan, deeds=deeds, others=draw.random() < 0.5)


def with_lasting_trouble(seed: int) -> Plan:
    """The plan of a seed in which a shard lags for an hour or more, and a clock is wrong until the end."""
    draw = random.Random(seed * 107)
    plan = replace(drawn(seed), hours=draw.choice((3.0, 5.0)), clocks=(), late=True)
    begin, end = sorted(draw.uniform(0.1, 0.9) * plan.hours * HOUR for _ in range(2))
    lag = Spell("lag", begin, end, str(draw.choice((400, 1500, 5000))))
    kind = draw.choice([kind for kind in CLOCK_SPELLS if kind != "both"])
    lasting = Spell(kind, draw.uniform(0.1, 0.9) * plan.hours * HOUR, float("inf"))
    return replace(plan, shards=draw.choice((2, 3)), lag=lag, lasting=lasting if draw.random() < 0.7 else None)


def with_long_outage(seed: int) -> Plan:
    """The plan of a seed in which the receiver stores nothing for nearly a day."""
    draw = random.Random(seed * 109)
    plan = drawn(seed)
    begin = draw.uniform(600.0, 2 * HOUR)
    kind = draw.choice(("away", "away", "gateway", "unavailable", "limited", "unauthorised", "timing out"))
    spell = Spell(kind, begin, begin + draw.uniform(20.0, 23.8) * HOUR)
    deeds = [Deed("kill", at * HOUR, 5, 60.0) for at in sorted(draw.uniform(0.5, 25.0) for _ in range(3))]
    return replace(plan, hours=26.0, receiver=[spell], bucket=(), clocks=(), deeds=deeds, every=150.0, shards=2)


def with_out_of_order(seed: int) -> Plan:
    """The plan of a seed with a receiver that takes samples which are out of order, for minutes or hours."""
    return replace(drawn(seed), out_of_order=random.Random(seed * 113).choice((600.0, 1800.0, 7200.0)))


# Traffic


@dataclass(frozen=True)
class Upload:
    """A file that the CDN puts into the bucket at a second, with its events."""

    at: float
    key: str
    events: tuple[Mapping[str, Any], ...]
    level: int = 6


def traffic(plan: Plan) -> list[Upload]:
    """The uploads of a campaign. Some come late, into the folder of their own hour; some come twice."""
    draw = random.Random(plan.seed * 7919 + 1)
    found = []
    files = int(plan.hours * HOUR / plan.every)
    for shard in range(plan.shards):
        quiet = draw.random() < 0.3
        for number in range(files):
            if quiet and draw.random() < 0.6:
                continue
            begin = number * plan.every + shard * 7.0
            pop = f"pop-{shard}-{number}" if draw.random() < 0.1 else ""
            events = tuple(_events(draw, begin, begin + plan.every, pop, number))
            at = begin + plan.every + draw.uniform(2.0, 15.0)
            if plan.late and draw.random() < 0.05:
                at += draw.choice((100.0, 900.0, 4500.0))
            if plan.lag and not shard and plan.lag.begin <= begin < plan.lag.end:
                at += float(plan.lag.detail)
            hour = datetime.fromtimestamp(BEGAN_MS / 1000 + begin + plan.every, UTC)
            key = f"logs/{hour:%Y%m%d/%H}/rtl.0b5e+{shard}+{number}.ndjson.gz"
            found.append(Upload(at, key, events))
            if draw.random() < plan.again:
                found.append(Upload(at + draw.choice((5.0, 300.0)), key, events, level=1))
    return sorted(found, key=lambda one: one.at)


def _events(draw: random.Random, begin: float, end: float, pop: str, number: int) -> Iterator[Mapping[str, Any]]:
    for place, at in enumerate(sorted(draw.uniform(begin, end) for _ in range(draw.choice((1, 3, 6))))):
        stream = draw.choice((0, 0, 1, 100 + number // 40))  # of the last kind each lives for a while
        viewer = draw.randrange(40)
        yield log_files.event(
            BEGAN_MS + round(at * 1000),
            clientIP=f"198.51.100.{viewer}",
            clientRequestPath=f"/{log_files.stream_name(stream)}/index.m3u8",
            clientRequestUserAgent=log_files.USER_AGENTS[viewer % 3],
            clientCountry=("US", "DE", "")[viewer % 3],
            locationID=pop if pop and place % 2 == 0 else draw.choice(("londonGB", "parisFR")),
            responseStatus=draw.choice((200, 200, 200, 404)),
            responseBytes=draw.randrange(1, 100_000),
        )


# The world


class Campaign:
    """What is outside of the processes, and the processes."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.draw = random.Random(plan.seed * 31 + 7)
        self.uploads = traffic(plan)
        self.bucket = FakeBucket(now_ms=lambda: self.true_ms + self.bucket_ahead_ms, page_size=50)
        self.receiver = StrictPrometheus(
            lambda: self.true_ms // 15_000 * 15_000 if plan.others else 0, window_ms=round(plan.out_of_order * 1000)
        )
        self.calm = False
        self.killed_at = float("-inf")
        self.in_doubt: set[tuple[SeriesName, int]] = set()
        self.processes: dict[str, Process] = {}  # by the path of their states
        self.all: list[Process] = []
        self.deleted: Counter[Labels] = Counter()
        self.gone: set[str] = set()
        self.log: list[str] = []
        self.spare: list[Upload] = []
        self._hung: set[str] = set()
        self._name = "first"  # of the process that works

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time()

    @property
    def true_ms(self) -> int:
        """Unix time in milliseconds, whatever the clocks say."""
        return BEGAN_MS + round(self.seconds * 1000)

    def spell(self, spells: Sequence[Spell]) -> Spell | None:
        """What is wrong now."""
        if self.calm:
            return None
        return next((one for one in spells if one.begin <= self.seconds < one.end), None)

    def _wrong_clock(self) -> Spell | None:
        lasting = self.plan.lasting
        return lasting if lasting and lasting.begin <= self.seconds else self.spell(self.plan.clocks)

    @property
    def bucket_ahead_ms(self) -> int:
        """How far the bucket's clock is ahead."""
        found = self._wrong_clock()
        return {"bucket +day": _DAY_MS, "bucket -day": -_DAY_MS, "both": -1_200_000}.get(found.kind if found else "", 0)

    @property
    def machine_ahead_ms(self) -> int:
        """How far the machine's clock is ahead."""
        found = self._wrong_clock()
        kinds = {"machine +hour": 3_600_000, "machine -hour": -3_600_000, "both": 1_200_000, "machine +90 s": 90_000}
        return kinds.get(found.kind if found else "", 0)

    async def write_files(self) -> None:
        """Put the files into the bucket, each at its time."""
        for one in self.uploads:
            await asyncio.sleep(max(0.0, one.at - self.seconds))
            content = log_files.gzip_bytes(log_files.ndjson(one.events), one.level)
            await self.bucket.put(one.key, content)

    # Checks

    def check_deletion(self, key: str) -> None:
        """A file is deleted: everything in it, and in those before it, must be stored by now."""
        if key in self.gone:
            return
        self.gone.add(key)
        (first, *_) = [one for one in self.uploads if one.key == key]
        for where, count in Truth(first.events).counters()["cdn77_requests_total"].items():
            self.deleted[where] += int(count)
            grown = self.receiver.has_grown("cdn77_requests_total", where)
            assert grown >= self.deleted[where], (
                f"{key} was deleted at {self.seconds:.0f} s when {grown} of {self.deleted[where]} of {where} was stored"
            )

    def truth(self) -> Truth:
        """What is true of everything that was uploaded."""
        each = {one.key: one.events for one in self.uploads}
        return Truth((event for events in each.values() for event in events), window_seconds=345_600)

    def check(self) -> None:
        """Every counter has grown by the truth, however it is asked."""
        truth = self.truth().counters()
        for view in (over_all, in_windows, on_victoria_metrics):
            growth = self.receiver.growth(COUNTERS, view)
            for name in COUNTERS:
                if self.plan.forgets and name.startswith("cdn77_viewers"):
                    assert all(growth[name][where] >= count for where, count in truth[name].items())
                    continue
                wrong = {
                    where: (growth[name].get(where), truth[name].get(where))
                    for where in growth[name].keys() | truth[name].keys()
                    if round(growth[name].get(where, -1), 6) != round(truth[name].get(where, -1), 6)  # some are seconds
                }
                assert not wrong, f"{view.__name__} of {name}: {len(wrong)} differ, such as {next(iter(wrong.items()))}"
        step = int(self.plan.environ["TICK_SECONDS"]) * 1000
        assert all(at % step == 0 for _, samples in self.receiver.samples() for at, _ in samples)

    # Processes

    def path(self, name: str) -> str:
        """Where a process of that name has its state."""
        return "s3://the-bucket/state" if self.plan.state == "bucket" else str(self.folder / name / "state.db")

    def start(self, name: str = "") -> Process:
        """Start a process: one more of a name, or the next of those that work."""
        process = Process(self, self.path(name or self._name))
        self.processes[process.path] = process
        self.all.append(process)
        process.task = asyncio.ensure_future(process.run())
        return process

    def note(self, words: str) -> None:
        """Keep what was done, for whoever looks for the cause of a failure."""
        self.log.append(f"{self.seconds:9.1f} s  {words}")

    async def run(self) -> None:
        """All of it."""
        writing = asyncio.ensure_future(self.write_files())
        process = self.start()
        for deed in self.plan.deeds:
            await self._until(deed.at, process)
            if deed.at < self.seconds:
                self.note(f"{deed.kind} comes late")
            process = await getattr(self, f"_{deed.kind}")(process, deed)
        await self._until(self.plan.hours * HOUR, process)
        await writing
        self.calm = True
        self.note("calm")
        await process.stop()
        await asyncio.sleep(1.0)
        process = self.start()
        await self._settle(process)
        await process.stop()

    async def _until(self, second: float, process: Process) -> None:
        """Wait; a process that ends meanwhile has failed."""
        wait = max(0.0, second - self.seconds)
        done, _ = await asyncio.wait({process.task}, timeout=wait)
        if done:
            process.task.result()
            raise AssertionError(f"the process has ended by itself: {process.tail()}")

    async def _settle(self, process: Process) -> None:
        for _ in range(200):
            await self._until(self.seconds + 61.7, process)
            left = self.bucket.keys("logs/")
            pipeline = process.service.overview._pipeline
            owed = len(pipeline.aggregator.timeline.owed) if pipeline else -1
            unsent = len(await pipeline.pusher.ledger.outbox()) if pipeline else -1
            problems = {one.what: one.words for one in process.telemetry.problems.current()}
            problems.pop("no_file_lately", None)  # the traffic has ended
            if self.plan.lasting:
                problems.pop("clock", None)
            if not left and not owed and not problems and not unsent:
                break
        else:
            raise AssertionError(
                f"it does not settle: {left[:3]} ({len(left)}) left, {owed} owed, {problems}, {unsent}"
            )
        await self._until(self.seconds + 200.0, process)

    async def _kill(self, process: Process, deed: Deed) -> Process:
        await process.kill(deed.points)
        await asyncio.sleep(deed.away)
        return self.start()

    async def _stop(self, process: Process, deed: Deed) -> Process:
        self.note("stop")
        await process.stop()
        await asyncio.sleep(deed.away)
        return self.start()

    async def _remove(self, process: Process, deed: Deed) -> Process:
        if self.plan.state != "file":
            return process
        self.note("the state file is removed")
        _write(process.path, {})
        if deed.points > 5:
            await self._until(self.seconds + 30.0, process)
            await process.kill(1)
        else:
            await process.stop()
        await asyncio.sleep(deed.away)
        return self.start()

    async def _restore(self, process: Process, deed: Deed) -> Process:
        """A backup is taken, and restored a while later, when the receiver has all that there was meanwhile."""
        if self.plan.state != "file":
            return process
        backup = _files_of(process.path)
        await self._until(self.seconds + 30.0 * deed.points, process)
        pipeline = process.service.overview._pipeline
        if pipeline is None or len(pipeline.aggregator.timeline.owed) or await pipeline.pusher.ledger.outbox():
            return process
        await process.stop()
        if self.spell(self.plan.receiver):  # what is left unsent nobody knows of after the restore
            return self.start()
        self.note("a backup is restored")
        _write(process.path, backup)
        await asyncio.sleep(deed.away)
        return self.start()

    async def _copy(self, process: Process, deed: Deed) -> Process:
        """A copy of the state is started while the first lives, and killed before it could take over."""
        busy = any(one.begin < self.seconds + 600 and one.end > self.seconds for one in self.plan.bucket)
        if self.plan.state != "file" or busy:  # where the lease cannot be renewed another may take it
            return process
        self.note("a copy is started")
        name = f"copy-{len(self.all)}"
        _write(self.path(name), _files_of(process.path))
        second = self.start(name)
        await self._until(self.seconds + 200.0, process)
        if deed.points > 5:  # the first restarts meanwhile
            await process.kill(deed.points)
            await asyncio.sleep(min(deed.away, 10.0))
            process = self.start()
            await self._until(self.seconds + 100.0, process)
        assert not second.writes, "a copy writes beside the original"
        await second.kill(0)
        return process

    async def _take_over(self, process: Process, deed: Deed) -> Process:
        """A copy of the state stands by, and takes over while the first process reaches neither bucket nor receiver."""
        self.note("a copy is started")
        name = f"copy-{len(self.all)}"
        _write(self.path(name), _files_of(process.path))
        second = self.start(name)
        await self._until(self.seconds + 30.0 * deed.points, process)
        while (pipeline := process.service.overview._pipeline) is None or await pipeline.pusher.ledger.outbox():
            await self._until(self.seconds + 0.7, process)
        self.note("the first is cut off")
        process.cut_off()
        await self._until(self.seconds + deed.away, process)
        assert second.said("lease_taken"), "nobody has taken over"
        writes = process.writes
        process.reach_again()
        done, _ = await asyncio.wait({process.task}, timeout=60.0)
        assert done, "the first goes on beside its copy"
        with suppress(BaseException):
            process.task.result()
        assert process.writes == writes, "the first writes beside its copy"
        self.note(f"the first has ended: {process.tail()}")
        self._name = name
        return second


def _write(path: str, files: Mapping[str, bytes]) -> None:
    """Have these files and no others; one that is there stays the same file."""
    Path(path).parent.mkdir(exist_ok=True)
    for suffix in ("", "-journal"):
        if suffix in files:
            Path(path + suffix).write_bytes(files[suffix])
        else:
            Path(path + suffix).unlink(missing_ok=True)


def _files_of(path: str) -> dict[str, bytes]:
    """The state file and its journal, by what their names end in."""
    files = {suffix: Path(path + suffix) for suffix in ("", "-journal")}
    return {suffix: file.read_bytes() for suffix, file in files.items() if file.exists()}


class _Clock(VirtualClock):
    """A process's clock, which is as wrong as the campaign says."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        super().__init__(BEGAN_MS, doubts=True, source=ClockSource.AUTO)

    def _wall_seconds(self) -> float:
        return (self._campaign.true_ms + self._campaign.machine_ahead_ms) / 1000


class Process:
    """One process; `path` is that of its state."""

    task: asyncio.Future[int]

    def __init__(self, campaign: Campaign, path: str) -> None:
        self.campaign = campaign
        self.path = path
        self.dead = False
        self.left: dict[str, bytes] = {}
        self.writes = 0
        self._countdown = 0
        self._killed = asyncio.Event()
        self._reaches = asyncio.Event()
        self._reaches.set()
        self.lines = io.BytesIO()
        environ = ENVIRON | dict(campaign.plan.environ) | {"STATE_PATH": path}
        self.settings = settings.load(environ)
        self.telemetry = Telemetry(self.settings.masker(), stream=self.lines, now=lambda: campaign.true_ms / 1000)
        self.service = Service(self.settings, self.telemetry, _Clock(campaign))
        self.service.shutdown.end = lambda _: None
        self.bucket = _BucketPort(campaign, self)
        self.receiver = _ReceiverPort(campaign, self)
        self.state: Any = None

    async def run(self) -> int:
        """Work until the stop; a kill ends it with 137."""
        try:
            return await self.service.run()
        except BaseException as error:
            if self.dead:
                return 137
            self.telemetry.crashed(error) if isinstance(error, Exception) else None
            raise

    def tail(self) -> str:
        """The last lines that were logged."""
        return b"\n".join(self.lines.getvalue().splitlines()[-6:]).decode()

    def said(self, message: str) -> list[dict[str, Any]]:
        """The messages of a name."""
        lines = (json.loads(line) for line in self.lines.getvalue().splitlines())
        return [line for line in lines if line["message"] == message]

    def point(self, name: str) -> None:
        """A step at which the process may be killed."""
        if self.dead:
            raise Killed
        if self._countdown:
            self._countdown -= 1
            if not self._countdown:
                self._die(name)

    def _die(self, name: str) -> NoReturn:
        self.campaign.note(f"killed: {name}")
        self.campaign.killed_at = self.campaign.seconds
        if Path(self.path).exists():
            self.left = _files_of(self.path)
        self.dead = True
        self._killed.set()
        raise Killed

    async def kill(self, points: int) -> None:
        """Kill it at the step that comes after so many; with 0 at once."""
        self._countdown = points
        if points:
            with suppress(TimeoutError):
                async with asyncio.timeout(120):
                    await self._killed.wait()
        if not self.dead:
            with suppress(Killed):
                self._die("while it waits")
        self.task.cancel()
        await asyncio.wait({self.task})
        if self.state is not None:
            self.state.database._connection.close()  # the kernel would take the lock away
        if self.left:
            _write(self.path, self.left)

    def cut_off(self) -> None:
        """Let every call of the bucket and the receiver wait from now on."""
        self._reaches.clear()

    def reach_again(self) -> None:
        """Let the calls go on that wait."""
        self._reaches.set()

    async def reach(self) -> None:
        """Wait while it is cut off."""
        await self._reaches.wait()

    async def stop(self) -> None:
        """Send the signal, and wait for the end."""
        self.service.shutdown.ask("SIGTERM")
        assert await self.task == 0


class _BucketPort:
    """The campaign's bucket as one process sees it."""

    def __init__(self, campaign: Campaign, process: Process) -> None:
        self._campaign = campaign
        self._process = process
        self._server_ms: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def take_ignored(self) -> dict[str, tuple[int, str]]:
        return {}

    def take_server_ms(self) -> int | None:
        server_ms, self._server_ms = self._server_ms, None
        return server_ms

    @contextmanager
    def _asked(self, call: str, kinds: Sequence[str]) -> Iterator[None]:
        """One call of the bucket."""
        self._process.point(f"{call}, before")
        spell = self._campaign.spell(self._campaign.plan.bucket)
        if spell is not None:
            if spell.kind == "skewed":
                raise Misconfigured("403 RequestTimeTooSkewed", "set the clock right")
            if spell.kind == "away" or (spell.kind in kinds and self._campaign.draw.random() < 0.6):
                raise Transient(f"the bucket: {spell.kind}")
        yield
        self._server_ms = self._campaign.true_ms + self._campaign.bucket_ahead_ms
        self._process.point(f"{call}, after")

    async def _do(self, call: str, what: Coroutine[Any, Any, Any], *kinds: str) -> Any:
        try:
            await self._process.reach()
            with self._asked(call, kinds):
                await asyncio.sleep(self._campaign.draw.choice((0.001, 0.02, 0.4)))
                await self._process.reach()
                return await what
        finally:
            what.close()

    async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        await self._process.reach()
        with self._asked("list", ("listing fails",)):
            await asyncio.sleep(0.02)
            pages = [page async for page in self._campaign.bucket.list_files(prefix)]
        for page in pages:
            yield page
            with self._asked("list", ("listing fails",)):
                pass

    async def fetch(self, file: LogFile) -> bytes:
        campaign = self._campaign
        spell = campaign.spell(campaign.plan.bucket)
        if spell is not None and spell.kind == "hanging" and len(campaign._hung) < 3 and file.key not in campaign._hung:
            campaign._hung.add(file.key)
            await asyncio.sleep(spell.end - campaign.seconds)
        return await self._do("fetch", campaign.bucket.fetch(file), "fetching fails")  # type: ignore[no-any-return]

    async def delete(self, files: Sequence[LogFile]) -> dict[tuple[str, str], str]:
        failures: dict[tuple[str, str], str] = {}
        for file in files:
            found = await self._do("delete", self._campaign.bucket.delete([file]), "deleting fails")
            failures |= found
            if not found:
                self._campaign.check_deletion(file.key)
        return failures

    async def get(self, key: str) -> Any:
        return await self._do("get", self._campaign.bucket.get(key))

    async def put(self, key: str, body: bytes, **options: Any) -> Any:
        return await self._do("put", self._campaign.bucket.put(key, body, **options), "writing fails")

    async def remove(self, key: str) -> Any:
        return await self._do("remove", self._campaign.bucket.remove(key))

    async def list_keys(self, prefix: str) -> AsyncIterator[list[str]]:
        await self._process.reach()
        with self._asked("list_keys", ()):
            pages = [page async for page in self._campaign.bucket.list_keys(prefix)]
        for page in pages:
            yield page

    async def begin_upload(self, key: str) -> Any:
        return await self._do("begin_upload", self._campaign.bucket.begin_upload(key), "writing fails")

    async def abort_upload(self, key: str, upload: str) -> Any:
        return await self._do("abort_upload", self._campaign.bucket.abort_upload(key, upload))

    async def list_uploads(self, prefix: str) -> Any:
        return await self._do("list_uploads", self._campaign.bucket.list_uploads(prefix), "listing fails")


class _ReceiverPort:
    """The campaign's receiver as one process sees it: what becomes of a request, in the errors that the edge has."""

    def __init__(self, campaign: Campaign, process: Process) -> None:
        self._campaign = campaign
        self._process = process

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def holds(self, body: bytes) -> bool | None:
        """The query API."""
        await asyncio.sleep(0.01)
        return self._campaign.receiver.holds(body)

    async def write(self, body: bytes) -> None:
        campaign, process = self._campaign, self._process
        await process.reach()
        process.point("write, before")
        process.writes += 1
        await asyncio.sleep(0.01)
        stamps = _stamps(body)
        latest = max((at for _, at in stamps), default=0)
        assert latest <= campaign.true_ms + 60_000, f"a sample of {latest} at {campaign.true_ms}"
        spell = campaign.spell(campaign.plan.receiver)
        doubtful = not stamps.isdisjoint(campaign.in_doubt) or campaign.seconds - campaign.killed_at < 600
        answer = _ANSWERS[spell.kind](spell, body, campaign.draw, doubtful) if spell else None
        if isinstance(answer, Transient) and answer.lost:
            campaign.in_doubt |= stamps
            if answer.reason == "stored":
                with suppress(Refused):
                    campaign.receiver.take(body)
            if answer.reason == "timed out":
                await asyncio.sleep(30.0)
        if answer is not None:
            process.point("write, not stored")
            raise answer
        campaign.receiver.take(body)
        process.point("write, after it is stored")


def _stamps(body: bytes) -> set[tuple[SeriesName, int]]:
    return {
        (tuple((label.name, label.value) for label in series.labels), sample.timestamp)
        for series in parsed(body).timeseries
        for sample in series.samples
    }


Answer = Callable[[Spell, bytes, random.Random, bool], Exception | None]


def _flaky(spell: Spell, body: bytes, draw: random.Random, doubtful: bool) -> Exception | None:
    answers = (
        None, None, Transient("stored", lost=True), Transient("cut", lost=True), Transient("500", answered=True),
        Transient("no connection"), Refused(400, "bad request"), Transient("timed out", lost=True),
        Refused(409, "duplicate sample") if not doubtful else None,
    )  # fmt: skip
    return draw.choice(answers)


def _poisoned(error: Callable[[], Exception]) -> Answer:
    def answer(spell: Spell, body: bytes, draw: random.Random, doubtful: bool) -> Exception | None:
        return error() if _is_poisoned(spell, body) else None

    return answer


def _is_poisoned(spell: Spell, body: bytes) -> bool:
    """Whether a request has a series that is refused: those of some POPs, devices or countries."""
    words = {"a": {"parisFR", "web"}, "b": {"londonGB"}, "c": {"US"}}[spell.detail]
    return any(label.value in words for series in parsed(body).timeseries for label in series.labels)


def _always(error: Callable[[], Exception]) -> Answer:
    return lambda spell, body, draw, doubtful: error()


_ANSWERS: dict[str, Answer] = {
    "away": _always(lambda: Transient("no connection")),
    "timing out": _always(lambda: Transient("timed out", lost=True)),
    "unavailable": _always(lambda: Transient("503", 5.0, answered=True)),
    "throttling": _always(lambda: Transient("429", 20.0, answered=True)),
    "failing": _always(lambda: Transient("500", answered=True)),
    "gateway": _always(lambda: Transient("502", lost=True)),
    "limited": _always(lambda: Refused(400, "per-user series limit reached")),
    "duplicates": lambda spell, body, draw, doubtful: Refused(400, "limit" if doubtful else "duplicate sample"),
    "unauthorised": _always(lambda: Misconfigured("401", "check the password")),
    "flaky": _flaky,
    "poisoned 400": _poisoned(lambda: Refused(400, "label value too long")),
    "poisoned 500": _poisoned(lambda: Transient("500", answered=True)),
    "poisoned 429": _poisoned(lambda: Transient("429", 10.0, answered=True)),
    "poisoned time-out": _poisoned(lambda: Transient("timed out", lost=True)),
    "some refused": lambda spell, body, draw, doubtful: Refused(400, "no") if draw.random() < 0.4 else None,
}


def live_through(plan: Plan, folder: Path) -> Campaign:
    """Live through a campaign, and check everything at its end."""
    campaign = Campaign(plan, folder)

    def database(path: str) -> Database:
        process = campaign.processes[path]
        return Database(path, on_statement=lambda statement: process.point(f"statement: {statement[:40]}"))

    async def idle(upkeep: Upkeep) -> None:
        del upkeep

    async def open_state(place: Any, home: Any) -> Any:
        state = await opened(place, home)
        home._process.state = state
        return state

    def of(values: settings.Settings) -> Process:
        place = values.state_path
        path = f"s3://{place.bucket}/{place.prefix}" if isinstance(place, settings.InBucket) else str(place)
        return campaign.processes[path]

    opened = ownership.open_state
    random.seed(plan.seed)
    with (
        patch.object(app, "open_bucket", lambda values, name=None: of(values).bucket),
        patch.object(app, "open_state", open_state),
        patch.object(wiring, "open_receiver", lambda values: of(values).receiver),
        patch.object(wiring, "Memory", lambda writer, url: writer),
        patch.object(
            wiring,
            "make_decoder",
            lambda values, report: ExecutorDecoder(fetched(values.decoder_rules), Inline(), report=report),
        ),
        patch.object(ownership, "Database", database),
        patch.object(Upkeep, "measure_lag", idle),
        patch.object(Shutdown, "listen", lambda shutdown: None),  # a signal ends the campaign, not one of its processes
        patch.object(blocks, "MAX_SAMPLES", plan.most_samples),
    ):
        try:
            simulate(campaign.run())
            campaign.check()
        except BaseException as error:
            error.add_note(f"{plan}\n" + "\n".join(campaign.log))
            raise
    return campaign
