"""Told until accepted on real receivers: what their queries answer after refusals, outages and restarts."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support.prometheus import Prometheus
from tests.support.victoria_metrics import VictoriaMetrics
from tests.unit import test_owed
from tests.unit.test_owed import STREAMS, Receiver, World

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

_BYTES_OF_ONE = 1000


class _Stored(Receiver):
    """What is stored is stored by a real server, too."""

    def __init__(self, server: Prometheus) -> None:
        super().__init__()
        self._server = server

    def take(self, body: bytes) -> None:
        super().take(body)
        self._server.store(body)


@pytest.fixture(params=[Prometheus, VictoriaMetrics])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Prometheus]:
    """Each of the receivers."""
    with request.param(tmp_path / "server") as running:
        yield running


@pytest.fixture
def world(server: Prometheus) -> Iterator[World]:
    """A timeline that began a day and a half ago and pushes to the server, by 2.0 to a Prometheus 3."""
    speaks_2 = not isinstance(server, VictoriaMetrics) and server.is_left_open
    with patch.object(test_owed, "START", int(time.time()) // 3600 * 3600 - 36 * 3600):
        found = World(version=2 if speaks_2 else 1)
        found.receiver = _Stored(server)
        yield found


def finish(world: World) -> None:
    """Let the receiver take all that is owed."""
    for _ in range(30):
        world.pass_time(15)
        world.push("stored")
    assert len(world.timeline.owed) == 0


def sums(server: Prometheus, world: World, metric: str, minutes: int) -> float:
    """Add up `increase()` over windows that share their edges, from before the first sample to behind the last."""
    step = minutes * 60
    begin = test_owed.START - 600
    end = (test_owed.START + world.second) // step * step + 2 * step
    found = server.query_range(server.spanning(f"sum(increase({metric}[{minutes}m]))"), begin, end, step)
    return sum(value for values in found.values() for _, value in values)


def whole(server: Prometheus, world: World, metric: str) -> float:
    """Return `increase()` over the whole span, with a minute before the first sample."""
    span = world.second + 660
    found = server.query(f"sum(increase({metric}[{span}s]))", at=test_owed.START + world.second)
    return sum(found.values())


def check(server: Prometheus, world: World) -> None:
    """Windows of 5 and 15 minutes add up to what happened, and so does the whole span, as does what is stored."""
    finish(world)
    true = len(world.happened)
    # Prometheus extrapolates to the edges of a window, most where series begin; VictoriaMetrics does not.
    tolerance = 0.01 if isinstance(server, VictoriaMetrics) else 0.08
    for minutes in (5, 15):
        found = sums(server, world, "cdn77_requests_total", minutes)
        assert found == pytest.approx(true, rel=tolerance), minutes
    assert whole(server, world, "cdn77_requests_total") == pytest.approx(true, rel=0.02)
    assert whole(server, world, "cdn77_transfer_bytes_total") == pytest.approx(true * _BYTES_OF_ONE, rel=0.02)
    counted = server.query(
        f"sum(max_over_time(cdn77_viewers_total[{world.second + 660}s]))", at=test_owed.START + world.second
    )
    assert sum(counted.values()) > 0
    assert not server.refused()


def test_a_gap_of_25_minutes(server: Prometheus, world: World) -> None:
    """80 requests, 30 of them while nothing was stored for 25 minutes, are 80 in windows of any length."""
    for number in range(200):
        if number % 2 == 0 and 20 <= number < 180:
            world.count(STREAMS[0], 1)
        world.pass_time(15)
        world.push("refused" if 50 <= number < 150 else "stored")
    assert len(world.happened) == 80
    check(server, world)


@pytest.mark.guarantee("receiver.outlives")
def test_a_stream_that_lives_only_in_an_outage(server: Prometheus, world: World) -> None:
    """All of its 200 requests are told, though the outage lasts for 100 minutes."""
    for number in range(420):
        if 20 <= number < 40:
            world.count(STREAMS[1], 10)
        if number % 7 == 0:
            world.count(STREAMS[0], 1)
        world.pass_time(15)
        world.push("refused" if 10 <= number < 410 else "stored")
    check(server, world)
    found = server.query(
        f'sum(increase(cdn77_requests_total{{stream_name="{STREAMS[1]}"}}[{world.second}s]))',
        at=test_owed.START + world.second,
    )
    assert sum(found.values()) == pytest.approx(200, rel=0.02)


@pytest.mark.guarantee("receiver.first_refused")
def test_zeros_and_first_values_that_were_refused(server: Prometheus, world: World) -> None:
    """A series whose first requests were refused shows all of its 1001 requests."""
    world.count(STREAMS[0], 1001)
    world.pass_time(45)
    world.push("refused")
    for _ in range(4):
        world.pass_time(15)
        world.push("stored")
    check(server, world)


@pytest.mark.parametrize("seed", range(3))
def test_hours_of_mishaps(server: Prometheus, world: World, seed: int) -> None:
    """Refusals, outages of minutes to hours, restarts and quiet times end with every increase() right."""
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
        failing = outage > 0 or draw.random() < 0.05
        fate = draw.choice(["refused", "in part"]) if failing else "stored"
        world.push(fate, draw.choice([1, 2, 10_000]))
    check(server, world)
