"""The documented query of a mean gives the requests' own mean, however they are spread over groups and ticks."""

from __future__ import annotations

import random
import time
import urllib.request
from pathlib import Path
from statistics import fmean

import pytest

from cdn77_exporter.core.measures import TIMES_TO_FIRST_BYTE
from tests.support.plain_timeline import Happened
from tests.support.prometheus import Prometheus
from tests.unit.test_timeline import World

pytestmark = pytest.mark.prometheus

_SECONDS = 1200
_POPS = {"prague": 0.05, "paris": 0.3, "tokyo": 0.15}  # shares of misses


def traffic(first_ms: int) -> list[Happened]:
    """Requests of three POPs: hits in 15 to 30 ms, misses in a second, some that tell no time, over two streams."""
    draw = random.Random(7)
    found = []
    for number in range(9000):
        pop = draw.choice(list(_POPS))
        miss = draw.random() < _POPS[pop]
        wait = 0 if draw.random() < 0.1 else draw.randrange(900, 1100) if miss else draw.randrange(15, 30)
        at = first_ms + int(number / 9000 * _SECONDS * 1000)
        stream = "ab"[number % 50 == 0] * 32
        found.append(Happened(at, stream, cache="MISS" if miss else "HIT", pop=pop, wait=wait))
    return found


@pytest.mark.guarantee("viewers.mean")
def test_the_mean_by_pop_is_that_of_the_requests(tmp_path: Path) -> None:
    """What the query answers is within 1 % of the truth, where a mean of the groups' means is far too high."""
    with Prometheus(tmp_path) as server:
        now_ms = int(time.time()) // 60 * 60_000
        world = World(start_ms=now_ms - 1800_000)
        events = traffic(now_ms - 1500_000)
        world.absorb(events)
        for request in world.advance(now_ms, now_ms):
            push = urllib.request.Request(server.write_url, data=request.body)  # noqa: S310 - on this machine
            push.add_header("Content-Encoding", "snappy")
            with urllib.request.urlopen(push, timeout=30) as answer:  # noqa: S310
                assert answer.status == 204
        ((_, query),) = TIMES_TO_FIRST_BYTE[0].queries
        found = server.query(query.replace("[5m] offset 90s", "[25m]"), at=now_ms / 1000)
        naive = server.query("avg by (pop) (avg_over_time(cdn77_time_to_first_byte_ms[25m]))", at=now_ms / 1000)
    for pop in _POPS:
        mean = fmean(one.wait for one in events if one.pop == pop and one.wait) / 1000
        assert found[("pop", pop),] == pytest.approx(mean, rel=0.01)
        assert naive[("pop", pop),] / 1000 > 1.5 * mean
