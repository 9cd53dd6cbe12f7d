"""Watch time, concurrent viewers and sessions on real receivers: what each is of the others."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdn77_exporter.core.timeline import Rules
from tests.support.plain_timeline import Happened
from tests.support.players import Players
from tests.support.prometheus import Prometheus
from tests.support.victoria_metrics import VictoriaMetrics
from tests.unit.test_timeline import World

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

_SECONDS = 2400
_STREAMS = ("a" * 32, "b" * 32)
_DEVICES = ("web", "roku", "apple_tv")


def traffic(first_ms: int) -> list[Happened]:
    """Players of two streams: they ask every 6 seconds, stop for up to five minutes now and then, and leave."""
    draw = random.Random(15)
    found = []
    for player in range(60):
        at, end = draw.randrange(0, 1200_000), draw.randrange(60_000, 900_000)
        ip = f"2001:db8::{player:x}" if player % 4 == 0 else f"192.0.2.{player // 2}"
        stream, device = _STREAMS[player % 2], draw.choice(_DEVICES)
        end = min(at + end, _SECONDS * 1000)
        while at < end:
            found.append(Happened(first_ms + at, stream, ip, device))
            at += draw.choice([5990, 6000, 6010, 6000, 6000, 30_000, 30_001, 120_000, 120_001, draw.randrange(300_000)])
    return sorted(found, key=lambda one: one.ms)


@pytest.fixture(params=[Prometheus, VictoriaMetrics])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Prometheus]:
    """Each of the receivers."""
    with request.param(tmp_path / "server") as running:
        yield running


class Run:
    """Files that arrive every half minute, some of them late, restarts, and what the server holds at the end."""

    def __init__(self, server: Prometheus) -> None:
        self.server = server
        self.begin = int(time.time()) // 60 * 60 - _SECONDS - 900
        self.end = self.begin + _SECONDS + 600
        self.world = World(Rules(), start_ms=(self.begin - 300) * 1000)
        self.truth = {(stream, device): Players[str](30, 120, 7200) for stream in _STREAMS for device in _DEVICES}
        draw = random.Random(7)
        waiting: dict[int, list[Happened]] = {}
        for one in traffic(self.begin * 1000):
            late = 90 if one.device == "roku" and draw.random() < 0.1 else 0
            waiting.setdefault((one.ms // 1000 // 15 + 1) * 15 + late, []).append(one)
        for tick in range(self.begin, self.end + 1, 15):
            happened = waiting.get(tick, [])
            self.world.absorb(happened)
            if draw.random() < 0.1:
                self.world.restart()
            for request in self.world.advance(tick * 1000, tick * 1000):
                self.server.store(request.body)
            for (stream, device), players in self.truth.items():
                own = [(one.ip, one.ms) for one in happened if (one.stream, one.device) == (stream, device)]
                players.settle(tick, own)

    def at_end(self, expression: str) -> float:
        """The value of an instant query at the last tick."""
        return sum(self.server.query(expression, at=self.end).values())


def test_what_players_do_adds_up(server: Prometheus) -> None:
    """The rate of watch time is the mean of concurrent viewers, the integral of presence is the sum over sessions, and
    when all sessions are over the histogram holds exactly what the counters hold; each as brute force says."""
    run = Run(server)
    watched = sum(players.watched_ms() for players in run.truth.values()) / 1000
    begun = sum(players.begun() for players in run.truth.values())
    over = [one for players in run.truth.values() for one in players.over()]
    assert begun == len(over) > 100
    assert watched == pytest.approx(sum(over) / 1000)

    assert run.at_end("sum(cdn77_watch_seconds_total)") == pytest.approx(watched, rel=1e-12)
    assert run.at_end("sum(cdn77_session_watch_seconds_sum)") == pytest.approx(watched, rel=1e-12)
    assert run.at_end("sum(cdn77_sessions_total)") == begun
    assert run.at_end("sum(cdn77_session_watch_seconds_count)") == begun
    assert run.at_end('sum(cdn77_session_watch_seconds_bucket{le="+Inf"})') == begun
    for most in (60, 180, 300, 600):
        found = run.at_end(f'sum(cdn77_session_watch_seconds_bucket{{le="{most}"}})')
        assert found == sum(one <= most * 1000 for one in over)
    assert run.at_end("sum(cdn77_concurrent_viewers) or vector(0)") == 0

    for stream in _STREAMS:  # the sum over devices is the stream's
        of_stream = f'{{stream_name="{stream}"}}'
        own = [players for (name, _), players in run.truth.items() if name == stream]
        whole = sum(players.watched_ms() for players in own) / 1000
        assert run.at_end(f"sum(cdn77_watch_seconds_total{of_stream})") == pytest.approx(whole, rel=1e-12)
        by_device = server.query(f"sum by (device_type) (cdn77_watch_seconds_total{of_stream})", at=run.end)
        assert sum(by_device.values()) == pytest.approx(whole, rel=1e-12)

    # The mean of the gauge over its ticks is the rate of the counter.
    span = run.end - run.begin
    mean = run.at_end(f"sum(sum_over_time(cdn77_concurrent_viewers[{span}s]))") * 15 / span
    assert mean == pytest.approx(watched / span, rel=0.03)
    increase = run.at_end(f"sum(increase(cdn77_watch_seconds_total[{span + 600}s]))")
    assert increase == pytest.approx(watched, rel=0.02)
    minutes = server.query_range("sum(rate(cdn77_watch_seconds_total[1m]))", run.begin + 300, run.end - 900, 60)
    gauges = server.query_range("sum(avg_over_time(cdn77_concurrent_viewers[1m]))", run.begin + 300, run.end - 900, 60)
    (rates,), (means,) = minutes.values(), gauges.values()
    difference = [abs(rate - dict(means)[at]) for at, rate in rates if at in dict(means)]
    assert len(difference) > 15
    assert sum(difference) / len(difference) < 0.1 * mean + 0.5
    assert not server.refused()
