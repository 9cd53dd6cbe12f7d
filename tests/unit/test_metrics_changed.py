"""Other labels or metrics than those of the state: nothing is lost, nothing counts twice, and the old series end."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import example, given
from hypothesis import strategies as st

from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.layout import Layout
from cdn77_exporter.core.measures import CACHE, CDN, MEASURES, POP, Measures, OfViewers
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.edge.state import Database
from tests.support.examples import examples
from tests.support.files import event, log_file, stream_name
from tests.support.samples import increase, is_stale, parsed

START = 1_700_000_100
NO_LABELS = MEASURES.without((), (CDN, CACHE, POP))
SETUPS = {
    "plain": (MEASURES, ()),
    "prod": (MEASURES, (("account", "x"), ("env", "prod"))),
    "test": (MEASURES, (("env", "test"),)),
    "few": (NO_LABELS, ()),
    "no responses": (MEASURES.without(["cdn77_responses_total"], [POP]), (("env", "prod"),)),
}
ALL = [row.name for row in MEASURES.rows]
TIMES = ("cdn77_time_to_first_byte_ms", "cdn77_time_to_first_byte_seconds")
#: Metrics that every setup has.
COUNTED = ("cdn77_requests_total", "cdn77_transfer_bytes_total", "cdn77_viewers_total", "cdn77_viewers_by_device_total")


@dataclass
class Receiver:
    """Keeps what it stores, in order."""

    samples: dict[tuple[tuple[str, str], ...], list[tuple[int, float]]] = field(default_factory=dict)

    def take(self, body: bytes) -> None:
        """Store a request."""
        for series in parsed(body).timeseries:
            name = tuple((label.name, label.value) for label in series.labels)
            own = self.samples.setdefault(name, [])
            for sample in series.samples:
                assert not own or own[-1][0] < sample.timestamp
                own.append((sample.timestamp, sample.value))

    def grown(self) -> dict[tuple[str, str], float]:
        """How much each metric grew, by metric and stream, over all other labels."""
        found: dict[tuple[str, str], float] = defaultdict(float)
        for name, samples in self.samples.items():
            labels = dict(name)
            if labels["__name__"] in COUNTED:
                found[labels["__name__"], labels["stream_name"]] += increase(samples, 0, 2**60)
        return {key: value for key, value in found.items() if value}

    def ended(self) -> dict[str, bool]:
        """Whether the last sample of every series of a setup is a stale marker, by its label `env`."""
        found: dict[str, bool] = {}
        for name, samples in self.samples.items():
            env = dict(name).get("env", "")
            found[env] = found.get(env, True) and is_stale(samples[-1][1])
        return found


class World:
    """One state, and processes with one setup after the other."""

    def __init__(self) -> None:
        self.database = Database(":memory:")
        self.receiver = Receiver()
        self.truth: dict[tuple[str, str], float] = defaultdict(float)
        self.now = START
        self.files = 0
        self.seen: set[tuple[str, str]] = set()
        self.start("plain")

    def start(self, setup: str) -> None:
        """Start a process on the state as it was committed."""
        measures, external = SETUPS[setup]
        self.decoder = Decoder(measures)
        self.timeline = Timeline(
            Rules(external=external), start_ms=START * 1000 - 60_000, key=self.database.secret_key(), measures=measures
        )
        snapshot = self.database.load()
        if snapshot is not None:
            self.timeline.restore(snapshot)

    def count(self, streams: list[int], ahead: int = 5) -> None:
        """Count a file with an event for each stream, some of which are of ticks that are not complete yet."""
        lines = []
        for number, stream in enumerate(streams):
            self.files += 1
            address = f"198.51.100.{self.files % 250}"
            name = stream_name(stream)
            lines.append(
                event(
                    (self.now + number % ahead * 7) * 1000,
                    clientRequestPath=f"/{name}/a.ts",
                    clientIP=address,
                    responseBytes=100 + self.files,
                    locationID=("pragueCZ", "londonGB")[number % 2],
                    timeToFirstByteMs=20,
                )
            )
            self.truth["cdn77_requests_total", name] += 1
            self.truth["cdn77_transfer_bytes_total", name] += 100 + self.files
            if (name, address) not in self.seen:
                self.seen.add((name, address))
                self.truth["cdn77_viewers_total", name] += 1
                self.truth["cdn77_viewers_by_device_total", name] += 1
        stats, counts = self.decoder.decode(log_file(lines), latest_ms=(START + 10**6) * 1000, oldest_ms=0)
        self.timeline.absorb([(LogFile(f"logs/{self.files}", "e", 1, 1), stats)], counts)
        self.database.commit(self.timeline.take_changes([], 0, []))

    def advance(self, ticks: int) -> None:
        """Write the next ticks; nothing is sent."""
        self.now += ticks * 15
        requests, _ = self.timeline.advance(self.now * 1000, self.now * 1000 + 1000)
        self.database.commit(self.timeline.take_changes(requests, 0, []))

    def send(self, most: int, *, stored: bool) -> None:
        """Let the receiver store or refuse the oldest requests."""
        for request in self.database.outbox()[:most]:
            number, tick = request[0], request[1]
            if request[2]:
                body = self.database.body(number)
                if len(self.timeline.owed):
                    body = self.timeline.seen_of(body)
                if body and stored:
                    self.receiver.take(body)
                    self.timeline.settle(body, stored=True)
                elif body:
                    self.timeline.settle(body, stored=False, told=self.database.told(tick))
            self.database.mark_done([number], None, 0, self.timeline.owed.take_changes())
            self.timeline.done([number])

    def finish(self) -> None:
        """Send everything, and go on until nothing is owed."""
        for _ in range(6):
            self.advance(2)
            self.send(10_000, stored=True)
        assert not len(self.timeline.owed)


STEPS = st.one_of(
    st.tuples(st.just("start"), st.sampled_from(sorted(SETUPS))),
    st.tuples(st.just("count"), st.lists(st.integers(0, 2), min_size=1, max_size=6)),
    st.tuples(st.just("advance"), st.integers(1, 4)),
    st.tuples(st.just("store"), st.integers(1, 6)),
    st.tuples(st.just("refuse"), st.integers(1, 6)),
)


#: Refused only when the labels are others; the same when the new series have been written already; when they are new.
REFUSED_LATE = [("count", [0, 1, 2]), ("advance", 3), ("store", 9), ("count", [0, 1, 2]), ("advance", 3)]


@examples(60)
@example([*REFUSED_LATE, ("start", "few"), ("refuse", 9)])
@example([*REFUSED_LATE, ("start", "prod"), ("advance", 2), ("count", [0]), ("advance", 1), ("refuse", 3)])
@example([*REFUSED_LATE, ("refuse", 9), ("start", "test"), ("count", [1]), ("advance", 1), ("start", "plain")])
@given(st.lists(STEPS, max_size=30))
def test_every_count_is_told_once_whatever_changes_and_is_refused(steps: list[tuple[str, object]]) -> None:
    """Metrics grow at the receiver by exactly what was counted, over all labels that they had in the meantime."""
    world = World()
    for step, value in steps:
        if step == "start":
            world.start(str(value))
        elif step == "count":
            world.count([int(str(one)) for one in value])  # type: ignore[attr-defined]
        elif step == "advance":
            world.advance(int(str(value)))
        else:
            world.send(int(str(value)), stored=step == "store")
    world.finish()
    assert world.receiver.grown() == {key: value for key, value in world.truth.items() if value}


def test_the_series_under_the_old_labels_end_and_the_new_ones_begin_at_zero() -> None:
    """On the first tick after a change every old series has a stale marker, and every new counter a zero before."""
    world = World()
    world.count([0, 1, 2])
    world.advance(3)
    world.send(100, stored=True)
    world.start("prod")
    changed = world.timeline.changed
    assert (changed.begun, changed.ended) == ((), ())
    assert set(COUNTED) < set(changed.relabelled)
    world.advance(1)
    world.send(100, stored=True)
    assert world.receiver.ended() == {"": True, "prod": False}
    for name, samples in world.receiver.samples.items():
        labels = dict(name)
        assert list(name) == sorted(name)
        if labels.get("env") == "prod":
            assert labels["account"] == "x"
            assert samples[0][1] == 0 or "viewers" in labels["__name__"]
    world.start("prod")
    assert not world.timeline.changed
    world.finish()
    world.advance(40)  # five minutes later nothing is left of them
    assert len(list(world.timeline.series.keys())) == len(world.timeline.series)


def test_all_else_goes_on_when_metrics_are_switched_off() -> None:
    """Metrics that are off end with stale markers, the change names them, and all others are the series of before."""
    world = World()
    world.count([0, 1, 2])
    world.advance(3)
    off = MEASURES.without(["cdn77_requests_total", "cdn77_time_to_first_byte_seconds"], ())
    SETUPS["off"] = (off, ())
    world.start("off")
    ended = ("cdn77_requests_total", "cdn77_time_to_first_byte_seconds_count", "cdn77_time_to_first_byte_seconds_sum")
    assert world.timeline.changed.ended == ended
    assert not world.timeline.changed.relabelled
    world.count([0, 1, 2])
    world.advance(3)
    world.send(100, stored=True)
    for name, samples in world.receiver.samples.items():
        is_off = dict(name)["__name__"] in ended
        assert is_stale(samples[-1][1]) == is_off
        falls = [now < before for (_, before), (_, now) in itertools.pairwise(samples)]
        is_gauge = not dict(name)["__name__"].endswith(("_total", "_sum", "_count", "_bucket"))
        assert is_off or is_gauge or not any(falls)


def test_what_is_owed_of_a_metric_that_is_off_holds_no_file() -> None:
    """A metric that was not stored and is off by now is owed no longer, so that files can be deleted."""
    world = World()
    world.count([0])
    world.advance(2)
    world.send(100, stored=False)
    assert len(world.timeline.owed)
    SETUPS["none"] = (MEASURES.without([name for name in ALL if name != "cdn77_active_viewers"], ()), ())
    world.start("none")
    world.finish()


def test_metadata_is_the_same_with_external_labels() -> None:
    """What describes the metrics has no labels."""
    world = World()
    world.start("prod")
    world.count([0])
    world.advance(2)
    (body,) = [world.database.body(one.number) for one in world.database.outbox() if not one.samples]
    described = [entry.metric_family_name for entry in parsed(body).metadata]
    assert described == list(dict.fromkeys(row.family.name for row in MEASURES.rows))


def test_fields_that_nothing_needs_are_not_read() -> None:
    """Without the metrics and labels that are made of them, fields are skipped."""
    names = {field.name for field in Layout(MEASURES).fields}
    off = MEASURES.without(["cdn77_responses_total", *TIMES], (CDN, CACHE, POP))
    gone = {"responseStatus", "timeToFirstByteMs", "resourceID", "cacheStatus", "locationID"}
    assert names - {field.name for field in Layout(off).fields} == gone


def test_events_are_counted_when_no_metric_counts_them() -> None:
    """With metrics of viewers alone a file still has as many events as lines."""
    viewers = Measures(row for row in MEASURES.rows if isinstance(row.value, OfViewers))
    body = log_file([event(START * 1000), event(START * 1000)])
    stats, counts = Decoder(viewers).decode(body, latest_ms=(START + 10**6) * 1000, oldest_ms=0)
    assert (stats.events, len(counts.viewers)) == (2, 1)
