"""External labels on real receivers: exporters side by side, and one whose labels change."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from cdn77_exporter.commands.reconcile.comparison import Increments
from cdn77_exporter.commands.reconcile.recount import comparable, read_counters
from cdn77_exporter.core.measures import MEASURES, REQUESTS
from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.edge.receiver.query import QueryApi
from tests.support.prometheus import Prometheus
from tests.support.samples import increase
from tests.support.victoria_metrics import VictoriaMetrics
from tests.unit import test_metrics_changed
from tests.unit.test_metrics_changed import SETUPS, Receiver, World

pytestmark = pytest.mark.prometheus

ACCOUNTS = ("live", "vod", "news", "test")


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


@pytest.fixture(autouse=True)
def lately() -> Iterator[int]:
    """Time begins half an hour ago, and each account is a setup."""
    begin = int(time.time()) // 60 * 60 - 1800
    setups = {account: (MEASURES, (("account", account),)) for account in ACCOUNTS}
    with patch.object(test_metrics_changed, "START", begin), patch.dict(SETUPS, setups):
        yield begin


def started(server: Prometheus, account: str) -> World:
    """An exporter of an account."""
    world = World()
    world.receiver = _Stored(server)
    world.start(account)
    return world


def requests(server: Prometheus, world: World, by: str = "") -> dict[str, float]:
    """How much all requests grew, by a label."""
    found: dict[str, float] = defaultdict(float)
    for labels, samples in server.samples("cdn77_requests_total", world.now + 60).items():
        real = [sample for sample in samples if not math.isnan(sample[1])]  # VictoriaMetrics gives out stale markers
        found[dict(labels).get(by, "")] += increase(real, 0, 2**60)
    return dict(found)


async def test_four_exporters_of_one_stream_are_told_apart(server: Prometheus, lately: int) -> None:
    """Their sums add up, each is found by its label, and `reconcile` sees only the series that are its own."""
    for number, account in enumerate(ACCOUNTS, 1):
        world = started(server, account)
        for _ in range(number):
            world.count([0, 0, 1])
            world.advance(4)
            world.send(1000, stored=True)
        world.finish()
    assert requests(server, world, "account") == {account: 3.0 * number for number, account in enumerate(ACCOUNTS, 1)}
    stored = Increments(lately - 300, lately + 1500)
    async with RemoteWriter(server.write_url) as writer:
        api, own = QueryApi(writer, server.address), comparable(MEASURES, [REQUESTS.name])
        await read_counters(api, stored, own, {"account": "news"}, 15, lambda: None)
    assert sum(sum(grown.values()) for grown in stored.ticks.values()) == 9


def test_new_labels_count_on_and_the_old_series_end(server: Prometheus) -> None:
    """Over a change of labels `increase()` tells the truth, and afterwards only the new series are there."""
    world = started(server, "live")
    world.count([0, 1, 2])
    world.advance(4)
    world.send(1000, stored=True)
    world.count([0, 1, 2])
    world.advance(2)
    world.start("vod")
    world.count([0])
    world.advance(2)
    world.send(2, stored=False)
    world.finish()
    assert sum(requests(server, world).values()) == 7
    now = server.query("sum by (account) (cdn77_active_viewers)", at=world.now)
    assert [dict(labels)["account"] for labels in now] == ["vod"]
