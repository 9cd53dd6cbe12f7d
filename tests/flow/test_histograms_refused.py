"""A receiver that takes no native histograms: it is told apart from one that is away, and nothing else waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cdn77_exporter.core.changes import Request, Unsent
from cdn77_exporter.core.encode.parts import has_histograms
from cdn77_exporter.core.errors import HistogramsRefused, Transient
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.delivery import Delivery
from cdn77_exporter.flow.stages.aggregate import Batch
from cdn77_exporter.flow.stages.push import Pusher, Receipt
from tests.support.accounts import Cumulative
from tests.support.requests import histogram_body, request_body
from tests.support.stage_bench import TICK, StageBench
from tests.support.virtual_time import simulate

TICKS = 40
REFUSED = HistogramsRefused(500, "native histograms are disabled")


class Picky:
    """A receiver that has an answer to histograms at each second, and takes everything else."""

    def __init__(self, answer: Callable[[float], Exception | None]) -> None:
        self._answer = answer
        self.tried: list[float] = []  # seconds at which histograms came
        self.stored: dict[bool, list[float]] = {False: [], True: []}

    async def write(self, body: bytes) -> None:
        """Take a request or raise."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(0.01)
        if has_histograms(body):
            self.tried.append(now)
            error = self._answer(now)
            if error is not None:
                raise error
        self.stored[has_histograms(body)].append(now)


class Waiting(Cumulative):
    """Accounts that remember what they were told."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = [True]
        self.ends: list[Delivery] = []

    def wait_for_histograms(self, wait: bool) -> None:
        self.waits.append(wait)

    async def settled(self, number: int, tick: int, body: bytes, delivery: Delivery) -> None:
        if has_histograms(body):
            self.ends.append(delivery)
        await super().settled(number, tick, body, delivery)


async def push(bench: StageBench, receiver: Picky, accounts: Waiting) -> None:
    """Push two requests each 15 s: one of a counter, and one of a histogram."""
    inbox: Channel[Batch] = Channel(1)
    outlet: Channel[Receipt] = Channel(10 * TICKS)
    pusher = Pusher(bench.common, receiver, bench.state, accounts, 3600)

    async def feed() -> None:
        async with inbox:
            for place in range(TICKS):
                await asyncio.sleep(15 * (place + 1) - asyncio.get_running_loop().time())
                tick = TICK + 15 * place
                bodies = (
                    request_body(({"__name__": "m"}, [(tick * 1000, 7.0)])),
                    histogram_body({"__name__": "h"}, tick * 1000, {3: place + 1}, 1.5),
                )
                requests = [Request(2 * place + 1 + one, tick, 1, body) for one, body in enumerate(bodies)]
                bench.counted(requests=requests)
                await inbox.put(Batch(tick, tuple(Unsent(one.number, one.tick, 1) for one in requests)))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        tasks.create_task(pusher.run(inbox, outlet))


def test_counters_do_not_wait_for_histograms_that_are_refused() -> None:
    """They come on their ticks; the refusal is said once with its remedy, and tried again once a minute."""
    bench, receiver, accounts = StageBench(), Picky(lambda _: REFUSED), Waiting()
    simulate(push(bench, receiver, accounts))
    assert [round(at) for at in receiver.stored[False]] == list(range(15, 15 * TICKS + 1, 15))
    assert receiver.stored[True] == []
    assert len(receiver.tried) == pytest.approx(15 * TICKS / 60, abs=2)
    said = [name for name, _ in bench.said.events]
    assert said.count("histograms_refused") == 1
    assert {"request_refused", "request_dropped", "push_retried", "batch_incomplete"}.isdisjoint(said)
    assert accounts.ends == [Delivery.NOT_STORED] * TICKS
    assert accounts.waits[-1] is False
    assert "HISTOGRAMS" in bench.trouble.now["histograms"]


def test_histograms_are_taken_up_again() -> None:
    """When the receiver takes them they go out on every tick again, and files wait for them again."""
    bench, accounts = StageBench(), Waiting()
    receiver = Picky(lambda now: REFUSED if 100 < now < 300 else None)
    simulate(push(bench, receiver, accounts))
    said = [name for name, _ in bench.said.events]
    assert (said.count("histograms_refused"), said.count("histograms_taken")) == (1, 1)
    assert [round(at) for at in receiver.stored[True] if at < 100 or at > 370] == [
        at for at in range(15, 15 * TICKS + 1, 15) if at < 100 or at > 360
    ]
    assert accounts.waits[-1] is True
    assert "histograms" not in bench.trouble.now


def test_a_receiver_that_fails_otherwise_is_away() -> None:
    """Other failures of a request of histograms are tried again, as those of counters are."""
    bench, accounts = StageBench(), Waiting()
    receiver = Picky(lambda now: Transient("503 busy", answered=True) if 100 < now < 130 else None)
    simulate(push(bench, receiver, accounts))
    said = [name for name, _ in bench.said.events]
    assert "push_retried" in said
    assert "histograms_refused" not in said
    assert len(receiver.stored[True]) == TICKS
