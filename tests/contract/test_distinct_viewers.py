"""The number of distinct viewers of any span, as a real Prometheus encloses it with the rules that we write."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import patch

import pytest

from cdn77_exporter.core.measures import Histograms
from cdn77_exporter.edge.state import Database
from tests.support.files import event, stream_name
from tests.support.prometheus import Prometheus
from tests.support.samples import Received
from tests.unit import test_measures_file, test_returns
from tests.unit.test_returns import HORIZON, ms_of, traffic
from tools.distinct_viewers import Expressions

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

SECONDS = 5 * 3600
_LAG = 90


class Server(Received):
    """A real server in place of a receiver in memory."""

    def __init__(self, server: Prometheus) -> None:
        super().__init__()
        self._server = server

    def take(self, bodies: Iterable[tuple[bytes, int]]) -> None:
        for body, _ in bodies:
            self._server.store(body)


@pytest.mark.parametrize(
    ("how", "tick"),
    [(Histograms.CLASSIC, 15), (Histograms.NATIVE, 15), (Histograms.CLASSIC, 60), (Histograms.NATIVE, 30)],
)
def test_the_truth_is_between_the_bounds_in_a_hundred_spans(tmp_path: Path, how: Histograms, tick: int) -> None:
    """Of any stream, any time and any length; and the bounds are not far apart where viewers come and go."""
    start = int(time.time()) // 3600 * 3600 - SECONDS - 7200
    draw = random.Random(11)
    expressions = Expressions(HORIZON, tick=tick, presence=max(30, tick), lag=_LAG, native=how is Histograms.NATIVE)
    with (
        patch.object(test_returns, "START", start),
        patch.object(test_returns, "TICK", tick),
        patch.object(test_measures_file, "START", start),
        Prometheus(tmp_path / "server", features="native-histograms") as server,
    ):
        lines = traffic(SECONDS, seed=5)
        test_returns.counted(lines, how, SECONDS, accelerate=True, receiver=Server(server))
        spread = []
        for _ in range(100):
            span = draw.randrange(2, HORIZON // tick) * tick
            at = start + span + _LAG + draw.randrange(600, SECONDS - HORIZON)
            end = (at - _LAG) // tick * tick
            truth: dict[str, set[str]] = {}
            for line in lines:
                ip = test_returns.viewer_of(line)
                if ip and end - span <= ms_of(line) / 1000 < end:
                    truth.setdefault(line["clientRequestPath"].split("/")[1], set()).add(ip)
            low = {dict(key)["stream_name"]: value for key, value in server.query(expressions.lower(span), at).items()}
            high = {dict(key)["stream_name"]: value for key, value in server.query(expressions.upper(span), at).items()}
            for stream, viewers in truth.items():
                assert low.get(stream, 0) - 1e-6 <= len(viewers) <= high[stream] + 1e-6, (span, at, stream)
                spread.append((high[stream] - low.get(stream, 0)) / len(viewers))
        assert sorted(spread)[len(spread) // 2] < 1


def test_the_bounds_hold_after_a_change_of_the_horizon(tmp_path: Path) -> None:
    """One viewer who stays is no more than one, also when there were no such buckets before, or are none yet."""
    start = int(time.time()) // 3600 * 3600 - 7200
    database = Database(":memory:")
    with (
        patch.object(test_returns, "START", start),
        patch.object(test_measures_file, "START", start),
        Prometheus(tmp_path / "server", features="native-histograms") as server,
    ):
        now = start
        for horizon in (5000, HORIZON):
            process = test_returns.begun(horizon=horizon, now=now, receiver=Server(server), database=database)
            for _ in range(0, 1800, 60):
                times = range(process.now, process.now + 60, 10)
                process.count([event(at * 1000, clientRequestPath=f"/{stream_name(1)}/x.ts") for at in times])
                process.advance(60)
            now = process.now
        expressions = Expressions(HORIZON, lag=_LAG)
        for at in range(start + 1200, now, 60):
            low, high = (list(server.query(one(900), at).values()) for one in (expressions.lower, expressions.upper))
            assert max(low, default=0) <= 1 + 1e-6
            assert min(high) >= 1 - 1e-6
