"""The timeline from tallies to samples, read back by protobuf's parser, against brute force over all events."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core import labelling, open_ticks
from cdn77_exporter.core.already_told import AlreadyTold
from cdn77_exporter.core.changes import Request
from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.measures import MEASURES
from cdn77_exporter.core.timeline import Absorbed, Rules, Timeline
from cdn77_exporter.edge.state import Database
from tests.support.examples import examples, sample
from tests.support.plain_timeline import Happened, PlainTimeline, decoded_of
from tests.support.samples import Received, SeriesName, increase, is_stale, named

START = 1_700_000_100  # a multiple of 60
STREAMS = ("a" * 32, "b" * 32, "c" * 32)
WHERE = {"cdn_id": "1", "cache_status": "HIT", "pop": "prague"}


def locate(ip: str) -> tuple[str, str]:
    """A GeoIP database of two regions."""
    return ("US", "Texas") if int(ip.rpartition(".")[2]) % 2 else ("DE", "Bavaria")


def absorb(timeline: Timeline, file: LogFile, decoded: tuple[FileStats, Counts]) -> Absorbed:
    """Count a file."""
    stats, counts = decoded
    return timeline.absorb([(file, stats)], counts)[0]


class World:
    """A timeline with a state and a receiver. The process starts half a second after START."""

    def __init__(self, rules: Rules | None = None, *, start_ms: int = START * 1000 + 500, geo: bool = False) -> None:
        self.rules = rules or Rules(session_window_seconds=900)
        self._start_ms = start_ms
        self._locate = locate if geo else None
        self.database = Database(":memory:")
        self.received = Received()
        self.files: list[tuple[int, list[Happened]]] = []
        self.timeline = self._new()
        self._numbers = itertools.count()
        self._last_request = 0

    def _new(self) -> Timeline:
        key = self.database.secret_key()
        return Timeline(self.rules, start_ms=self._start_ms, key=key, locate=self._locate)

    def plain(self) -> PlainTimeline:
        """The oracle for the same rules and start."""
        rules = self.rules
        return PlainTimeline(
            step=rules.tick_seconds,
            window=rules.session_window_seconds,
            active=rules.active_windows,
            presence=rules.presence_seconds,
            gap=rules.session_gap_seconds,
            start_ms=self._start_ms,
            backfill=int(rules.backfill_seconds),
            idle=rules.series_idle_seconds,
            offset_ms=rules.timestamp_offset_ms,
            locate=self._locate,
        )

    def absorb(self, events: Sequence[Happened]) -> Absorbed:
        """Count a file."""
        number = next(self._numbers)
        file = LogFile(f"logs/20231114/22/rtl.u+1+{number}.ndjson.gz", f"etag{number}", 100, START * 1000)
        absorbed = absorb(self.timeline, file, decoded_of(events, self.rules.tick_seconds))
        self.files.append((absorbed.due, list(events)))
        return absorbed

    def advance(self, watermark_ms: int, now_ms: int) -> list[Request]:
        """Write what is complete."""
        found: list[Request] = []
        more = True
        while more:
            requests, more = self.timeline.advance(watermark_ms, now_ms, most_ticks=1)
            found += requests
            self._take(requests)
        return found

    def _take(self, requests: list[Request]) -> None:
        for request in requests:
            assert request.number == self._last_request + 1
            self._last_request = request.number
        self.received.take((request.body, request.samples) for request in requests)
        self.database.commit(self.timeline.take_changes(requests, 0, []))
        if len(self.timeline.owed):
            for request in requests:
                self.timeline.settle(request.body, stored=True, told=None)
        numbers = [request.number for request in requests]
        self.timeline.done(numbers)
        self.database.mark_done(numbers, None, owed=self.timeline.owed.take_changes())

    def flush(self, now_ms: int) -> int | None:
        """Stop without a state; the last tick that is made good."""
        flushed = self.timeline.flush(now_ms)
        if flushed is None:
            return None
        self._take(flushed[0])
        return flushed[1]

    def restart(self, rules: Rules | None = None, *, start_ms: int | None = None) -> None:
        """The next process takes up the state."""
        self.database.commit(self.timeline.take_changes([], 0, []))
        self.rules = rules or self.rules
        self.take_up(self.database, start_ms or self._start_ms)

    def take_up(self, database: Database, start_ms: int) -> None:
        """A process takes up a state."""
        self.database, self._start_ms = database, start_ms
        self.timeline = self._new()
        snapshot = self.database.load()
        assert snapshot is not None
        self._last_request = snapshot.meta["next_request"] - 1
        self.timeline.restore(snapshot)

    def last(self, metric: str, **labels: str) -> float | None:
        """The last values (not stale markers) of the metric's series with these labels among theirs, summed."""
        wanted = {("__name__", metric), *labels.items()}
        values = [
            [value for _, value in samples if not is_stale(value)][-1]
            for name, samples in self.received.samples.items()
            if wanted <= set(name)
        ]
        return sum(values) if values else None


def happened(second: float, **fields: object) -> Happened:
    """An event that many seconds after START."""
    return Happened(round((START + second) * 1000), **fields)  # type: ignore[arg-type]


EVENT = st.builds(
    lambda second, ms, stream, ip, device, country, status, size, wait: Happened(
        (START + second) * 1000 + ms, STREAMS[stream], f"192.0.2.{ip}", device, country, status, size, wait
    ),
    st.integers(-250, 60),
    st.sampled_from([0, 1, 500, 999]),
    st.integers(0, 1),
    st.integers(1, 3),
    st.sampled_from(["web", "roku"]),
    st.sampled_from(["CZ", "US"]),
    st.sampled_from(["200", "404"]),
    st.integers(0, 5),
    st.integers(0, 3),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("file"), st.lists(EVENT, max_size=6)),
        st.tuples(st.just("file"), st.lists(EVENT, max_size=6)),
        st.tuples(st.just("time"), st.integers(0, 100)),
        st.tuples(st.just("time"), st.sampled_from([15, 60, 700, 1000])),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=14,
)
RULES = st.sampled_from(
    [
        Rules(session_window_seconds=420),
        Rules(session_window_seconds=425, timestamp_offset_ms=123, presence_seconds=15, session_gap_seconds=15),
        Rules(tick_seconds=5, session_window_seconds=420, presence_seconds=7, session_gap_seconds=45),
        Rules(tick_seconds=60, session_window_seconds=600, presence_seconds=60, active_windows=(1200, 60)),
        Rules(session_window_seconds=420, backfill_seconds=300, active_windows=(30, 90)),
        Rules(session_window_seconds=420, series_idle_seconds=450),
        Rules(session_window_seconds=60, series_idle_seconds=90),
    ]
)


@given(RULES, STEPS, st.booleans())
@examples(120)
def test_every_sample_is_what_the_contract_asks_for(
    rules: Rules, steps: list[tuple[str, list[Happened] | int | None]], geo: bool
) -> None:
    """Events on time, late and from before the start, quiet times and restarts give exactly the oracle's samples."""
    world = World(rules, geo=geo)
    plain = world.plain()
    passed = 0  # seconds by which the watermark has moved on from START
    for verb, what in [*steps, ("time", 100), ("time", 1700)]:
        if verb == "restart":
            world.restart()
            plain.restart()
            continue
        if isinstance(what, list):
            events = [Happened(**{**vars(one), "ms": one.ms + passed * 1000}) for one in what]
            late = plain.absorb(events)
            assert world.absorb(events).late == late or not plain.emitted
        elif isinstance(what, int):
            passed += what
        watermark_ms = (START + passed) * 1000
        world.advance(watermark_ms, watermark_ms + 60_000)
        plain.advance(watermark_ms, watermark_ms + 60_000)
        assert world.received.by_key() == plain.samples()
        for due, events in world.files:
            if due <= world.timeline.emitted:
                assert all(one in plain.counted for one in events)


def traffic(seconds: int, seed: int, first: int = 60) -> list[Happened]:
    """Requests of some viewers on three streams, one of which lives for a short time only."""
    source = random.Random(seed)
    found = []
    for second in range(first, seconds):
        for _ in range(source.randrange(4)):
            stream = source.choice(STREAMS if seconds / 3 < second < seconds / 2 else STREAMS[:2])
            found.append(
                happened(
                    second + source.random() * 0.999,
                    stream=stream,
                    ip=source.choice(("192.0.2.", "2001:db8::")) + str(source.randrange(1, 15)),
                    device=source.choice(["web", "roku"]),
                    status=source.choice(["200", "200", "404"]),
                    size=source.randrange(5000),
                    wait=source.randrange(50),
                )
            )
    return sorted(found, key=lambda one: one.ms)


@given(st.integers(0, 1000), st.integers(1, 12), st.sampled_from([100_000, 7]))
@examples(20)
def test_files_may_be_cut_and_ordered_as_they_like(seed: int, count: int, room: int) -> None:
    """Whatever files the events are in, and in whatever order they come, the samples are the same if none is late.

    `room`: rows that are kept as they come; of more, those of one viewer are merged.
    """
    with mock.patch.object(open_ticks, "ROWS_AS_THEY_COME", room):
        check_files_cut_and_ordered(seed, count)


def check_files_cut_and_ordered(seed: int, count: int) -> None:
    events = traffic(600, 1)
    now_ms = (START + 1300) * 1000
    whole = World()
    whole.absorb(events)
    whole.advance((START + 1200) * 1000, now_ms)

    source = random.Random(seed)
    files: list[list[Happened]] = [[] for _ in range(count)]
    for one in events:
        source.choice(files).append(one)
    source.shuffle(files)
    pieces = World()
    while files:
        pieces.absorb(files.pop())
        pending = min((one.ms for file in files for one in file), default=(START + 1200) * 1000)
        pieces.advance(pending, now_ms)
        if source.random() < 0.3:
            pieces.restart()
    assert pieces.received.by_key() == whole.received.by_key()


def test_increase_over_everything_is_the_truth() -> None:
    """The sum of what Prometheus sees each counter grow by, from its zeros on, is what happened."""
    world = World()
    events = traffic(2400, 2)
    for minute in range(0, 2400, 60):
        world.absorb([one for one in events if minute <= one.ms / 1000 - START < minute + 60])
        world.advance((START + minute + 60) * 1000, (START + minute + 120) * 1000)
    world.advance((START + 2520) * 1000, (START + 2580) * 1000)

    def total(metric: str) -> float:
        return sum(
            increase(samples, 0, (START + 3600) * 1000)
            for name, samples in world.received.samples.items()
            if ("__name__", metric) in name
        )

    assert total("cdn77_requests_total") == total("cdn77_responses_total") == len(events)
    assert total("cdn77_transfer_bytes_total") == sum(one.size for one in events)
    assert total("cdn77_viewers_total") == world.last("cdn77_viewers_total")


def five_minute_windows(samples: Iterable[tuple[int, float]], end: int) -> float:
    """The sum of increases over windows that share the tick between them, so that nothing lies between two windows."""
    samples = list(samples)
    return sum(increase(samples, at * 1000 - 1, (at + 300) * 1000) for at in range(START - 600, end, 300))


def test_increase_over_five_minutes_adds_up() -> None:
    """Five minutes at a time add up to the truth too, for series that begin, rest and come back."""
    world = World(Rules(session_window_seconds=900, series_idle_seconds=600))
    busy = [*range(60, 200, 7), *range(900, 1000, 9), *range(2500, 2600, 11)]  # rests of 700 and 1,500 seconds
    world.absorb([happened(second) for second in busy])
    world.advance((START + 3000) * 1000, (START + 3060) * 1000)
    name = named("cdn77_requests_total", {"stream_name": STREAMS[0], **WHERE})
    samples = world.received.samples[name]
    assert sum(is_stale(value) for _, value in samples) == 2
    assert five_minute_windows(samples, START + 3000) == len(busy)


# The floor


def requests_of(world: World, stream: str = STREAMS[0]) -> dict[int, float | None]:
    """The samples of a stream's request counter by seconds after START."""
    name = named("cdn77_requests_total", {"stream_name": stream, **WHERE})
    return {at // 1000 - START: value for at, value in world.received.by_key().get(name, {}).items()}


def test_a_fresh_state_begins_with_zeros_on_the_first_tick_after_the_start() -> None:
    """Events from before the start are counted one tick after the floor, and nothing is written before the floor."""
    world = World()
    world.absorb([happened(-100), happened(-10), happened(10), happened(20), happened(31)])
    world.advance((START + 60) * 1000, (START + 120) * 1000)
    assert requests_of(world) == {15: 0, 30: 4, 45: 5, 60: 5}


def test_a_start_on_a_tick_leaves_that_tick_alone() -> None:
    """A process that starts exactly on a tick has its floor at the next one."""
    world = World(start_ms=START * 1000)
    world.absorb([happened(-100)])
    world.advance((START + 60) * 1000, (START + 120) * 1000)
    assert min(requests_of(world)) == 15


def test_backfill_keeps_the_events_own_time() -> None:
    """With BACKFILL_WINDOW events keep their time back to that age, and older ones are counted at its beginning."""
    world = World(Rules(backfill_seconds=7200))
    world.absorb([happened(-8000), happened(-7000), happened(-6500)])
    world.advance(START * 1000, START * 1000 + 600)
    found = requests_of(world)
    assert list(found) == [*range(-7185, 15, 15)]
    counted = [at for at, value in found.items() if value and value > (found.get(at - 15) or 0)]
    assert counted == [-7170, -6990, -6495]


def test_a_later_process_goes_on_after_the_last_tick() -> None:
    """With a state the counters go on, no series' tick is written again, and a new series has its zeros."""
    world = World()
    world.absorb([happened(40)])
    world.advance((START + 90) * 1000, (START + 120) * 1000)
    world.restart(start_ms=(START + 400) * 1000)
    world.absorb([happened(41), happened(50, stream=STREAMS[1]), happened(100), happened(110, stream=STREAMS[2])])
    world.advance((START + 150) * 1000, (START + 420) * 1000)
    assert requests_of(world) == {15: 0, 30: 0, 45: 1, 60: 1, 75: 1, 90: 1, 105: 3, 120: 3, 135: 3, 150: 3}
    zeros = dict.fromkeys(range(15, 105, 15), 0)  # from the first process's floor on: the state knows none was written
    assert requests_of(world, STREAMS[1]) == zeros | {105: 1, 120: 1, 135: 1, 150: 1}
    assert requests_of(world, STREAMS[2]) == zeros | {105: 0, 120: 1, 135: 1, 150: 1}


def test_a_process_that_wrote_nothing_leaves_its_floor() -> None:
    """A state without a single tick keeps its floor and what was counted."""
    world = World()
    world.absorb([happened(-100), happened(5)])
    world.restart(start_ms=(START + 300) * 1000)
    world.advance((START + 60) * 1000, (START + 320) * 1000)
    assert requests_of(world) == {15: 0, 30: 2, 45: 2, 60: 2}


def test_ticks_that_have_become_too_old_fold_forward() -> None:
    """After an outage nothing older than 55 minutes is written, and nothing of what happened then is missing."""
    world = World()
    world.absorb([happened(40)])
    world.advance((START + 90) * 1000, (START + 120) * 1000)
    world.restart(start_ms=(START + 7200) * 1000)
    world.absorb([happened(second, stream=stream) for second in range(100, 7000, 10) for stream in STREAMS[:2]])
    world.advance((START + 7200) * 1000, (START + 7201) * 1000)
    found = requests_of(world)
    after = [at for at in found if at > 90]
    first = 7200 - 3300 + 15
    assert {found[at] for at in after if at < first} == {0}  # it begins again
    assert min(after) == max(7200 - 3480 + 15, first - 300)
    assert found[first] == len(range(100, first, 10))
    assert found[7200] == len(range(100, 7000, 10))
    other = requests_of(world, STREAMS[1])
    assert min(other.values(), key=lambda value: value or 0) == 0
    assert other[7200] == len(range(100, 7000, 10))


def test_the_timestamp_offset_shifts_every_sample() -> None:
    """TIMESTAMP_OFFSET_MS is part of every timestamp, the padding's and the stale marker's included."""
    world = World(Rules(timestamp_offset_ms=250, series_idle_seconds=600))
    world.absorb([happened(100)])
    world.advance((START + 900) * 1000, (START + 1000) * 1000)
    stamps = {at for samples in world.received.samples.values() for at, _ in samples}
    assert {at % 15_000 for at in stamps} == {250}
    assert None in requests_of(world).values()


def test_metadata_is_sent_with_the_first_batch_and_again() -> None:
    """Names, types and helps go out with the first samples, then every ten minutes."""
    world = World()
    world.absorb([happened(second) for second in range(20, 2000, 10)])
    requests = world.advance((START + 2000) * 1000, (START + 2060) * 1000)
    assert len(world.received.metadata) == len({measure.family for measure in MEASURES.rows})
    described = [request.tick - START for request in requests if not request.samples]
    assert described == [30, 630, 1230, 1830]


# Stopping without a state


def test_a_stop_writes_everything_on_the_next_tick() -> None:
    """Without a state nothing that was counted is missing after the stop; the file is good from the covered tick on."""
    world = World()
    world.absorb([happened(40)])
    world.advance((START + 60) * 1000, (START + 80) * 1000)
    absorbed = world.absorb([happened(62), happened(78)])
    covered = world.flush((START + 80) * 1000)
    assert requests_of(world)[75] == 3
    assert covered is not None
    assert covered >= absorbed.due


def test_a_stop_knows_when_the_next_tick_comes() -> None:
    """What is held can be written then; nothing needs to be waited for when nothing is held."""
    world = World(Rules(timestamp_offset_ms=123))
    now_ms = (START + 61) * 1000
    assert world.timeline.flush_ms(now_ms) == 0
    world.absorb([happened(40)])
    world.advance((START + 60) * 1000, now_ms)
    assert world.timeline.flush_ms(now_ms) == 0
    world.absorb([happened(60.5)])
    assert world.timeline.flush_ms(now_ms) == (START + 75) * 1000 + 123
    assert world.flush((START + 75) * 1000 + 123) is not None
    samples = world.received.samples[named("cdn77_requests_total", {"stream_name": STREAMS[0], **WHERE})]
    assert samples[-1] == ((START + 75) * 1000 + 123, 2.0)


def test_a_stop_that_cannot_wait_writes_the_last_tick_again() -> None:
    """When the next tick is still to come the last one is written again, 100 ms later, then 200 ms."""
    world = World()
    world.absorb([happened(40)])
    world.advance((START + 60) * 1000, (START + 61) * 1000)
    world.absorb([happened(60.5)])
    assert world.flush((START + 61) * 1000) is not None
    world.absorb([happened(60.7)])
    assert world.flush((START + 61) * 1000) is not None
    name = named("cdn77_requests_total", {"stream_name": STREAMS[0], **WHERE})
    assert world.received.samples[name][-3:] == [
        ((START + 60) * 1000, 1.0),
        ((START + 60) * 1000 + 100, 2.0),
        ((START + 60) * 1000 + 200, 3.0),
    ]


def test_a_stop_before_the_first_tick_writes_nothing() -> None:
    """A process that has written nothing and whose first tick is still to come may not write at all."""
    world = World()
    world.absorb([happened(1)])
    assert world.flush(START * 1000 + 2000) is None
    assert not world.received.samples


# A state that is older than what was pushed


@pytest.mark.guarantee("copies.backup")
@pytest.mark.parametrize("again", [False, True], ids=["one start", "killed before its first tick"])
def test_a_restored_backup_begins_at_zero(again: bool) -> None:
    """No tick that the process after the backup wrote is written again, and what comes then has its whole increase."""
    world = World()
    world.absorb([happened(20), happened(50), happened(70)])
    world.advance((START + 60) * 1000, (START + 90) * 1000)
    backup = Database(":memory:")
    world.database.commit(world.timeline.take_changes([], 0, []))
    backup.replace(world.database.serialize())
    world.absorb([happened(100), happened(100, stream=STREAMS[1])])
    world.advance((START + 180) * 1000, (START + 200) * 1000)
    written = {name: dict(samples) for name, samples in world.received.samples.items()}
    world.take_up(backup, (START + 400) * 1000)
    assert world.timeline.begin_after(AlreadyTold(START + 180))
    world.absorb([happened(190), happened(410), happened(412, stream=STREAMS[1])])
    if again:
        world.restart(start_ms=(START + 405) * 1000)
        assert not world.timeline.begin_after(AlreadyTold(START + 180))
    world.advance((START + 450) * 1000, (START + 460) * 1000)
    for stream, counts in ((STREAMS[0], [0, 1, 2]), (STREAMS[1], [0, 1])):
        name = named("cdn77_requests_total", {"stream_name": stream, **WHERE})
        new = [(at, value) for at, value in world.received.samples[name] if at not in written[name]]
        assert min(at for at, _ in new) > (START + 180) * 1000
        assert list(dict.fromkeys(value for _, value in new)) == counts


def test_a_state_that_knows_all_that_was_pushed_goes_on() -> None:
    """The last tick of the bucket is the state's own, or older when its writing failed."""
    world = World()
    world.absorb([happened(20)])
    world.advance((START + 60) * 1000, (START + 90) * 1000)
    world.restart()
    assert not world.timeline.begin_after(AlreadyTold(START + 60))
    assert not world.timeline.begin_after(AlreadyTold(START + 45))
    world.absorb([happened(70)])
    world.advance((START + 120) * 1000, (START + 150) * 1000)
    assert world.last("cdn77_requests_total") == 2


def test_a_fresh_state_writes_nothing_that_was_pushed() -> None:
    """Its floor is behind the last tick that any process has pushed, whatever this machine's clock says."""
    world = World()
    assert not world.timeline.begin_after(AlreadyTold(START + 90))
    world.absorb([happened(20), happened(100)])
    world.advance((START + 180) * 1000, (START + 200) * 1000)
    samples = world.received.samples[named("cdn77_requests_total", {"stream_name": STREAMS[0], **WHERE})]
    assert samples[0] == ((START + 105) * 1000, 0.0)
    assert samples[1] == ((START + 120) * 1000, 2.0)


# Settings that change between processes


@pytest.mark.parametrize("tick", [5, 10, 15, 30, 60])
@pytest.mark.parametrize("window", sample([425, 7200, 60, 900], fast=2))
def test_settings_may_change_between_processes(tick: int, window: int) -> None:
    """With another tick or window the counters go on, timestamps only rise, and gauges tell of the new window."""
    world = World(Rules(session_window_seconds=900))
    events = traffic(1200, 3)
    first = [one for one in events if one.ms < (START + 600) * 1000]
    world.absorb(first)
    world.advance((START + 585) * 1000, (START + 620) * 1000)  # 15 seconds are held
    world.restart(Rules(tick_seconds=tick, session_window_seconds=window))
    world.absorb(events[len(first) :])
    world.advance((START + 1260) * 1000, (START + 1300) * 1000)
    assert world.last("cdn77_requests_total") == len(events)
    assert world.last("cdn77_transfer_bytes_total") == sum(one.size for one in events)
    plain = PlainTimeline(step=tick, window=window, start_ms=START * 1000)
    plain.counted = events
    gauges = {name: float(len(ips)) for name, ips in plain.present(START + 1260).items()}
    at = (START + 1260) * 1000
    found: dict[SeriesName, float] = {}
    for name, samples in world.received.by_key().items():
        value = samples.get(at)
        if dict(name)["__name__"].startswith("cdn77_active") and value:
            found[name] = value
    assert world.timeline.filling == ((7200,) if window == 7200 else ())
    assert world.timeline.kept_seconds == 900
    if window == 7200:  # who had left the shorter window is not known any more
        assert all(0 < value <= found_in(gauges, name) for name, value in found.items())
    else:
        length = f"{window // 60}m" if window % 60 == 0 else f"{window}s"
        assert {name for name in found if ("window", length) in name} == set(gauges)
        assert found == gauges


@pytest.mark.guarantee("copies.other_tick")
@pytest.mark.parametrize("new", [5, 10, 15, 20, 30, 60])
@pytest.mark.parametrize("old", [5, 15, 60])
@pytest.mark.parametrize("settled", [0, 45, 100, 120])
def test_another_tick_makes_nothing_late(old: int, new: int, settled: int) -> None:
    """What is held has the old ticks; every sample still tells of all that happened before it, and no more."""
    world = World(Rules(tick_seconds=old))
    events = [happened(second) for second in range(1, 300, 3)]
    held = [one for one in events if one.ms < (START + 150) * 1000]
    world.absorb(held)
    world.advance((START + settled) * 1000, (START + settled + 30) * 1000)
    world.restart(Rules(tick_seconds=new))
    world.absorb(events[len(held) :])
    world.advance((START + 290) * 1000, (START + 300) * 1000)
    samples = world.received.samples[named("cdn77_requests_total", {"stream_name": STREAMS[0], **WHERE})]
    assert samples[-1][0] == (START + 290) // new * new * 1000
    begun = [(at, value) for at, value in samples if value]
    assert begun == [(at, sum(one.ms < at for one in events)) for at, _ in begun]
    assert begun[0][0] <= (START + 180) * 1000


def found_in(gauges: dict[SeriesName, float], name: SeriesName) -> float:
    """The gauge of the same labels but the window."""
    bare = [pair for pair in name if pair[0] != "window"]
    return next(value for other, value in gauges.items() if [pair for pair in other if pair[0] != "window"] == bare)


# Bounds


@given(st.integers(1, 12), st.integers(10, 80), st.integers(0, 20))
@examples(25)
def test_totals_stay_true_at_the_bounds(max_streams: int, max_series: int, seed: int) -> None:
    """However small the bounds are, all requests and bytes are counted under some stream, and series are bounded."""
    source = random.Random(seed)
    names = [f"{number:032x}" for number in range(40)]
    events = [
        happened(
            second,
            stream=source.choice(names),
            ip=f"192.0.2.{source.randrange(100)}",
            status=source.choice(["200", "404"]),
            size=source.randrange(1000),
            pop=source.choice(["prague", "london"]),
        )
        for second in range(300)
    ]
    world = World(Rules(session_window_seconds=900, max_streams=max_streams, max_series=max_series))
    for minute in range(5):
        world.absorb(events[minute * 60 : minute * 60 + 60])
        world.advance((START + minute * 60 + 60) * 1000, (START + minute * 60 + 90) * 1000)
        if minute == 2:
            world.restart()
    world.advance((START + 330) * 1000, (START + 360) * 1000)
    assert world.last("cdn77_requests_total") == world.last("cdn77_responses_total") == 300
    assert world.last("cdn77_transfer_bytes_total") == sum(one.size for one in events)
    streams = {dict(name)["stream_name"] for name in world.received.samples}
    assert len(streams - {"other"}) <= max_streams
    assert len(world.timeline.series) <= max_series + 100
    assert (world.last("cdn77_requests_total", stream_name="other") or 0) > 0


def test_a_flood_of_streams_is_bounded() -> None:
    """Of 10,000 invented streams half of the bound count on their own, and a real one after them still does."""
    world = World(Rules(max_streams=100))
    invented = [happened(20, stream=f"{number:032x}", status="404", ip="192.0.2.9") for number in range(10_000)]
    world.absorb(invented)
    world.absorb([happened(25, stream=STREAMS[0])])
    world.advance((START + 60) * 1000, (START + 90) * 1000)
    streams = {dict(name)["stream_name"] for name in world.received.samples}
    assert len(streams) == 50 + 1 + 1
    assert STREAMS[0] in streams
    assert world.last("cdn77_requests_total") == 10_001
    assert world.last("cdn77_requests_total", stream_name="other") == 10_000 - 50


@pytest.mark.guarantee("copies.many_values")
def test_values_of_a_label_are_bounded() -> None:
    """Of 3,000 POPs, countries and statuses the bound counts on its own, those with most requests; sums stay true."""
    world = World(Rules(max_label_values=50))
    real = [happened(20, pop="prague", country="CZ") for _ in range(5)]
    invented = [
        happened(
            20,
            pop=f"pop{number}",
            country=f"C{number}",
            status=f"{number}",
            cache=f"K{number}",
            size=7,
            ip=f"192.0.2.{number % 256}",
        )
        for number in range(3000)
    ]
    for part in range(10):
        world.absorb([*real, *invented[part * 300 : part * 300 + 300]])
        world.advance((START + 60 + 15 * part) * 1000, (START + 90 + 15 * part) * 1000)
        if part == 4:
            world.restart()
    world.advance((START + 300) * 1000, (START + 330) * 1000)
    assert world.last("cdn77_requests_total") == world.last("cdn77_responses_total") == 3050
    assert world.last("cdn77_transfer_bytes_total") == 3000 * 7 + sum(one.size for one in real) * 10
    assert world.last("cdn77_requests_total", pop="prague") == 50
    for label in ("pop", "response_status", "cache_status", "country"):
        values = {dict(name).get(label) for name in world.received.samples} - {None, "other"}
        assert 0 < len(values) <= (50 if label != "country" else 51)  # XX is that of the places
    assert world.timeline.labelling.values_refused == 5 * 300  # of the second process
    assert len(world.timeline.series) < 1000


@pytest.mark.guarantee("copies.many_values")
@pytest.mark.parametrize("field", ["pop", "country", "status", "cache"])
def test_values_that_are_too_many_are_told_whichever_label_has_them(field: str) -> None:
    """How many requests count as other is known also when the label is not one of the bytes'."""
    world = World(Rules(max_label_values=50))
    world.absorb([happened(20, ip=f"192.0.2.{number}", **{field: f"{number + 300}"}) for number in range(200)])
    assert world.timeline.labelling.values_refused == 150


def test_a_bound_of_values_recovers() -> None:
    """When the series of the invented ones have ended and are forgotten, a new value counts on its own again."""
    world = World(Rules(max_label_values=50, series_idle_seconds=600))
    world.absorb([happened(20, pop=f"pop{number}") for number in range(300)])
    world.advance((START + 1200) * 1000, (START + 1230) * 1000)
    world.absorb([happened(1210, pop="prague")])
    world.advance((START + 1260) * 1000, (START + 1290) * 1000)
    assert world.last("cdn77_requests_total", pop="prague") == 1


def _combinations(second: float, count: int, stream: int = 0) -> list[Happened]:
    """Requests of one stream, each with another pair of POP and status."""
    return [
        happened(second, stream=STREAMS[stream], pop=f"pop{number % 50}", status=str(200 + number // 50), size=7)
        for number in range(count)
    ]


@pytest.mark.guarantee("copies.many_combinations")
def test_a_flood_of_combinations_begins_few_series_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much for a tick is OTHER in its stream; other streams keep their labels, and sums stay true."""
    monkeypatch.setattr(labelling, "_FEW_NEW", 600)
    monkeypatch.setattr(labelling, "_LEAST_NEW", 10)
    world = World(Rules(max_series=6000))
    before = 0
    for part in range(6):
        world.absorb(_combinations(20 + 15 * part, 3000))
        world.absorb(_combinations(20 + 15 * part, 1000, stream=1)[-3:])
        world.advance((START + 60 + 15 * part) * 1000, (START + 90 + 15 * part) * 1000)
        assert len(world.timeline.series) - before <= 600 + 60
        before = len(world.timeline.series)
        if part == 3:
            world.restart()
    assert world.last("cdn77_responses_total", stream_name=STREAMS[0]) == 6 * 3000
    assert world.last("cdn77_requests_total", stream_name=STREAMS[0]) == 6 * 3000
    assert world.last("cdn77_transfer_bytes_total") == 6 * 3003 * 7
    assert world.last("cdn77_responses_total", stream_name=STREAMS[1], response_status="219") == 6 * 3
    assert world.last("cdn77_responses_total", stream_name=STREAMS[1], response_status="other") is None
    assert (world.last("cdn77_responses_total", stream_name=STREAMS[0], response_status="other") or 0) > 1000
    assert world.last("cdn77_responses_total", stream_name="other") is None
    assert world.timeline.labelling.new_refused > 0


@pytest.mark.guarantee("copies.many_combinations")
def test_combinations_begin_again_on_the_next_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick after a flood counts new ones under their own labels; those with most requests come first."""
    monkeypatch.setattr(labelling, "_FEW_NEW", 100)
    monkeypatch.setattr(labelling, "_LEAST_NEW", 1)
    world = World(Rules(max_series=500))
    world.absorb([*_combinations(20, 2000), *[happened(20, pop="prague", status="200")] * 5])
    world.advance((START + 60) * 1000, (START + 90) * 1000)
    assert world.last("cdn77_responses_total", pop="prague") == 5
    world.absorb([happened(65, pop="brno")])
    world.advance((START + 90) * 1000, (START + 120) * 1000)
    assert world.last("cdn77_responses_total", pop="brno") == 1
    assert world.last("cdn77_responses_total") == 2006


def test_what_an_earlier_process_counted_begins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart all series of the state go on under their labels, however many a tick may begin."""
    world = World(Rules(max_series=5000))
    world.absorb(_combinations(20, 1000))
    world.advance((START + 60) * 1000, (START + 90) * 1000)
    monkeypatch.setattr(labelling, "_FEW_NEW", 100)
    world.rules = Rules(max_series=1000 - 1)
    world.restart()
    world.absorb(_combinations(65, 1000))
    world.advance((START + 90) * 1000, (START + 120) * 1000)
    assert world.last("cdn77_responses_total") == 2000
    assert world.last("cdn77_responses_total", response_status="other") is None
    assert world.timeline.labelling.new_refused == 0


def test_series_made_before_the_first_tick_are_made_once() -> None:
    """What a file makes ahead on a fresh state is there until its own tick is settled."""
    world = World(start_ms=START * 1000 - 600_000)
    world.absorb([happened(20)])
    made = len(world.timeline.series)
    world.advance((START - 300) * 1000, (START + 30) * 1000)
    assert world.timeline.emitted
    assert len(world.timeline.series) == made > 0


# Places


@pytest.mark.guarantee("viewers.place", "copies.no_places")
def test_regions_begin_when_a_database_comes() -> None:
    """Before, no viewer counts by region; then who appears does, from zero on, and who is there moves to its place."""
    world = World()
    world.absorb([happened(20), happened(21, ip="192.0.2.2")])
    world.advance((START + 60) * 1000, (START + 90) * 1000)
    assert world.last("cdn77_viewers_total") == 2
    assert world.last("cdn77_viewers_by_region_total") is None
    assert world.last("cdn77_active_viewers_by_region", region="Unknown") == 2
    world.timeline.use_places(lambda ip: ("CZ", "Prague"))
    world.absorb([happened(70), happened(71, ip="192.0.2.3")])
    world.advance((START + 105) * 1000, (START + 130) * 1000)
    assert world.last("cdn77_viewers_by_region_total") == 1
    name = named("cdn77_viewers_by_region_total", {"stream_name": STREAMS[0], "country": "CZ", "region": "Prague"})
    assert world.received.samples[name][0][1] == 0
    assert world.last("cdn77_viewers_total") == 3
    assert world.last("cdn77_active_viewers_by_region", region="Prague") == 2
    assert world.last("cdn77_active_viewers_by_region", region="Unknown") == 1
