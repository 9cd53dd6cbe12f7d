"""The number of distinct viewers of any span, as a real Prometheus encloses it with the rules that we write."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import patch

import pytest

from cdn77_exporter.core.measures import Histograms
from tests.contract.test_histograms_on_receivers import push
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
            push(self._server, body)


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
            end = at // tick * tick - _LAG
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
