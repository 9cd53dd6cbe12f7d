"""Native histograms on a real Prometheus: what its queries answer after refusals, outages, restarts and idle ends."""

from __future__ import annotations

import itertools
import math
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.encode.parts import has_histograms
from cdn77_exporter.core.errors import NO_HISTOGRAMS
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.measures import POP, STREAM, Measures, native_histogram
from cdn77_exporter.core.timeline import Rules, Timeline
from tests.support.counts import counts_of
from tests.support.prometheus import Prometheus
from tests.support.victoria_metrics import VictoriaMetrics
from tests.unit import test_owed
from tests.unit.test_owed import STREAMS, World

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

NAME = "cdn77_waits_seconds"
TABLE = Measures(native_histogram(NAME, "timeToFirstByteMs", 1000, (STREAM, POP), "Waits."))
POPS = ("prague", "london")
#: Half the width of a bucket: bounds are a factor of 2^(1/8) apart.
WITHIN = 2 ** (1 / 16) - 1


class WaitsOnServer(World):
    """Waits of milliseconds that a real server is told of as a native histogram."""

    def __init__(self, server: Prometheus, rules: Rules | None = None) -> None:
        super().__init__(rules)
        self.server = server
        self.waits: dict[tuple[str, str], list[int]] = {}
        self.draw = random.Random(7)

    def _new(self) -> Timeline:
        start_ms = test_owed.START * 1000 + 500
        return Timeline(self.rules, start_ms=start_ms, key=self.database.secret_key(), measures=TABLE)

    def count(self, stream: str, requests: int) -> None:
        tick = ((test_owed.START + self.second) // 15 + 1) * 15
        groups: dict[tuple[str, ...], list[int]] = {}
        sums: dict[tuple[str, ...], list[int]] = {}
        for _ in range(requests):
            pop = self.draw.choice(POPS)
            wait = max(1, round(self.draw.lognormvariate(4 + POPS.index(pop), 1.2)))
            bucket = math.ceil(8 * math.log2(wait / 1000))
            for row, more in (
                (groups.setdefault((stream, pop, str(bucket)), [0, 0]), 1),
                (sums.setdefault((stream, pop), [0, 0]), wait),
            ):
                row[0] += 1
                row[1] += more
            self.waits.setdefault((stream, pop), []).append(wait)
        stats = FileStats(requests={tick: requests}, events=requests)
        self.number += 1
        counts = counts_of({tick: groups}, {}, TABLE, [{tick: sums}])
        self.timeline.absorb([(LogFile(f"logs/{self.number}", "e", 1, 1), stats)], counts)
        self.database.commit(self.timeline.take_changes([], 0, []))

    def take(self, body: bytes) -> None:
        self.server.store(body)

    def finish(self) -> None:
        """Let the receiver take all that is owed."""
        for _ in range(30):
            self.pass_time(15)
            self.push("stored")
        assert len(self.timeline.owed) == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that takes native histograms."""
    with Prometheus(tmp_path / "server", features="native-histograms") as running:
        yield running


@pytest.fixture
def start() -> Iterator[None]:
    """The life of the timeline began a day and a half ago."""
    with patch.object(test_owed, "START", int(time.time()) // 3600 * 3600 - 36 * 3600):
        yield


def end_of(world: WaitsOnServer) -> int:
    return test_owed.START + world.second


def value(world: WaitsOnServer, expression: str) -> float:
    """The one value of an expression at the end."""
    (found,) = world.server.query(expression, at=end_of(world)).values()
    return found


def windows(world: WaitsOnServer, of: str, minutes: int) -> float:
    """Add up `increase()` over windows that share their edges, over the whole life."""
    step = minutes * 60
    end = end_of(world) // step * step + 2 * step
    query = world.server.spanning(f"sum({of}(increase({NAME}[{minutes}m])))")
    found = world.server.query_range(query, test_owed.START - 600, end, step)
    return sum(value for values in found.values() for _, value in values)


def quantile(values: Sequence[int], q: float) -> float:
    """The values' own quantile, in seconds."""
    return sorted(values)[math.ceil(q * len(values)) - 1] / 1000


def grown(world: WaitsOnServer) -> float:
    """The observations that the stored samples tell of, growth over more than five minutes left out."""
    samples = world.server.histograms(NAME, end_of(world), f"{world.second + 660}s").values()
    pairs = [pair for own in samples for pair in itertools.pairwise(own) if pair[1][0] - pair[0][0] <= 300_000]
    return sum(now - before if now >= before else now for (_, before, _), (_, now, _) in pairs)


def check(world: WaitsOnServer, tolerance: float = 0.05) -> None:
    """Counts, sums and quantiles are those of the values, in short windows and over all.

    `tolerance`: of windows. Prometheus extends what it sees to the edges of a window, of histograms beyond the zero
    with which they begin: what is told at once after an outage can be half as much again in one window, though what
    is stored is exact.
    """
    world.finish()
    every = [wait for waits in world.waits.values() for wait in waits]
    assert grown(world) == len(every)
    for minutes in (5, 15):
        assert windows(world, "histogram_count", minutes) == pytest.approx(len(every), rel=tolerance)
        assert windows(world, "histogram_sum", minutes) == pytest.approx(sum(every) / 1000, rel=tolerance)
    span = f"{NAME}[{world.second + 660}s]"
    assert value(world, f"sum(histogram_count(increase({span})))") == pytest.approx(len(every), rel=0.02)
    assert value(world, f"sum(histogram_sum(increase({span})))") == pytest.approx(sum(every) / 1000, rel=0.02)
    for q in (0.5, 0.9, 0.99):
        assert value(world, f"histogram_quantile({q}, sum(rate({span})))") == pytest.approx(
            quantile(every, q), rel=WITHIN
        )
        found = world.server.query(f"histogram_quantile({q}, sum by (pop) (rate({span})))", at=end_of(world))
        for pop in POPS:
            own = [wait for (_, where), waits in world.waits.items() if where == pop for wait in waits]
            assert found[(("pop", pop),)] == pytest.approx(quantile(own, q), rel=WITHIN), (pop, q)
    assert not world.server.refused()


@pytest.mark.usefixtures("start")
def test_quantiles_of_an_undisturbed_life(server: Prometheus) -> None:
    """Thousands of waits in two places, for an hour, have the quantiles of the values themselves."""
    world = WaitsOnServer(server)
    for _ in range(240):
        world.count(STREAMS[0], 30)
        world.pass_time(15)
        world.push("stored")
    check(world)


@pytest.mark.usefixtures("start")
def test_an_outage_of_25_minutes_and_one_of_100(server: Prometheus) -> None:
    """What was observed while nothing was stored is told afterwards, whole and once."""
    world = WaitsOnServer(server)
    for number in range(700):
        world.count(STREAMS[number % 2], 12)
        world.pass_time(15)
        world.push("refused" if 50 <= number < 150 or 200 <= number < 600 else "stored")
    check(world, 0.25)


@pytest.mark.usefixtures("start")
def test_idle_ends_and_returns(server: Prometheus) -> None:
    """A histogram that ends and comes back, soon or late, is one to begin with each time."""
    world = WaitsOnServer(server, Rules(session_window_seconds=60, series_idle_seconds=600))
    for quiet in (41, 42, 60, 61, 62, 100):
        for _ in range(10):
            world.count(STREAMS[0], 60)
            world.pass_time(15)
            world.push("stored")
        for _ in range(quiet):
            world.pass_time(15)
            world.push("stored")
    check(world)


@pytest.mark.usefixtures("start")
@pytest.mark.parametrize("seed", range(3))
def test_hours_of_mishaps(server: Prometheus, seed: int) -> None:
    """Refusals, outages of minutes to hours, restarts and quiet times end with every increase() right."""
    world = WaitsOnServer(server)
    draw = random.Random(seed)
    outage = 0
    for _ in range(900):
        for stream in STREAMS:
            if draw.random() < 0.4:
                world.count(stream, draw.randrange(1, 30))
        world.pass_time(draw.choice([15, 15, 15, 30, 60]))
        if draw.random() < 0.02:
            outage = draw.choice([2, 10, 30, 200])
        if draw.random() < 0.02:
            world.restart()
        outage -= 1
        world.push("refused" if outage > 0 or draw.random() < 0.05 else "stored", draw.choice([1, 2, 10_000]))
    check(world, 0.25)


@pytest.mark.usefixtures("start")
def test_a_stale_marker_ends_a_histogram_at_once(server: Prometheus) -> None:
    """On the tick of its end an instant query finds it no longer."""
    world = WaitsOnServer(server, Rules(session_window_seconds=60, series_idle_seconds=600))
    world.count(STREAMS[0], 60)
    world.pass_time(300)
    world.push("stored")
    assert server.query(f"count({NAME})", at=end_of(world)) == {(): 2.0}
    world.pass_time(345)
    world.push("stored")
    assert not world.timeline.series.live.any()
    assert server.query(f"count({NAME})", at=end_of(world)) == {}


@pytest.mark.usefixtures("start")
def test_a_prometheus_without_the_feature_says_so(tmp_path: Path) -> None:
    """Its answer is known by its words, and has not stored a sample."""
    with Prometheus(tmp_path / "server") as server:
        world = WaitsOnServer(server)
        world.count(STREAMS[0], 5)
        with pytest.raises(urllib.error.HTTPError) as raised:
            for _ in range(2):
                world.pass_time(30)
                world.push("stored")
        assert raised.value.code == 500
        assert NO_HISTOGRAMS.search(raised.value.read().decode())


@pytest.mark.usefixtures("start")
def test_an_old_victoria_metrics_drops_histograms_and_says_nothing(tmp_path: Path) -> None:
    """Version 1.79 answers 204 and stores nothing, which only a question finds out."""
    with VictoriaMetrics(tmp_path / "server") as server:
        world = WaitsOnServer(server)
        world.count(STREAMS[0], 5)
        world.pass_time(30)
        bodies = [world.database.body(number) for number, _, _ in world.database.outbox()]
        assert any(map(has_histograms, bodies))
        world.push("stored")
        assert server.query(f'{{__name__=~"{NAME}.*"}}', at=end_of(world)) == {}
