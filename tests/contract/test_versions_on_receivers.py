"""Both versions of remote write on real receivers: which is found, what is stored, and what is said of that."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdn77_exporter.core.changes import Request, Unsent
from cdn77_exporter.core.encode.parts import in_version
from cdn77_exporter.core.encode.version import RemoteWriteVersion, Spoken
from cdn77_exporter.core.errors import Refused
from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.edge.receiver.query import Memory
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.delivery import Delivery
from cdn77_exporter.flow.stages.aggregate import Batch
from cdn77_exporter.flow.stages.push import Pusher
from tests.flow.test_sending import _content, _Memory, _Noting
from tests.flow.test_versions import body_of
from tests.support.prometheus import Prometheus
from tests.support.stage_bench import StageBench
from tests.support.victoria_metrics import VictoriaMetrics

pytestmark = [pytest.mark.prometheus]

SECOND = int(time.time()) // 15 * 15 - 300


@pytest.fixture(params=[Prometheus, VictoriaMetrics])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Prometheus]:
    """Each of the receivers."""
    with request.param(tmp_path / "server") as running:
        yield running


def speaks_2(server: Prometheus) -> bool:
    """Whether the server is a Prometheus 3."""
    return not isinstance(server, VictoriaMetrics) and server.is_left_open


async def push(
    server: Prometheus,
    *bodies: bytes,
    url: str = "",
    wanted: RemoteWriteVersion = RemoteWriteVersion.AUTO,
    asks: bool = True,
) -> tuple[_Noting, Spoken]:
    """Push requests, one a tick, over HTTP."""
    bench, accounts, spoken = StageBench(), _Noting(), Spoken()
    spoken.want(wanted)
    inbox: Channel[Batch] = Channel(len(bodies))
    async with RemoteWriter(url or server.write_url) as writer:
        recalls = Memory(writer, server.write_url) if asks else _Memory(None)
        pusher = Pusher(bench.common, writer, bench.state, accounts, 60, recalls=recalls, spoken=spoken)
        async with inbox:
            for number, body in enumerate(bodies, 1):
                one = Request(number, SECOND + number, len(_content(body)), body)
                bench.counted(requests=[one])
                await inbox.put(Batch(one.tick, (Unsent(number, one.tick, one.samples),)))
        await pusher.run(inbox, Channel(100))
    return accounts, spoken


def stored(server: Prometheus, *names: str) -> dict[str, list[tuple[int, float]]]:
    """The samples of some series, oldest first."""
    return {name: next(iter(server.samples(name).values()), []) for name in names}


async def test_auto_finds_the_version_that_is_spoken(server: Prometheus) -> None:
    """2.0 on Prometheus 3, 1.0 on those that answer 204 to a request of 2.0 and keep nothing of it."""
    times = tuple(SECOND + 15 * number for number in range(4))
    accounts, spoken = await push(server, body_of("a", "b", ticks=times[:2]), body_of("a", "b", ticks=times[2:]))
    assert spoken.version == (2 if speaks_2(server) else 1)
    assert stored(server, "a", "b") == {name: [(at * 1000, 7.0) for at in times] for name in "ab"}
    assert accounts.of(Delivery.STORED) == Counter(a=4, b=4)
    assert not server.refused()


async def test_the_same_in_both_versions_is_harmless(server: Prometheus) -> None:
    """A request that was stored by 2.0 may come by 1.0 once more: each sample is there once, and counted so."""
    bodies = [body_of("a", ticks=(SECOND - 15,), value=0.0), body_of("a", ticks=(SECOND,), value=7.0)]
    async with RemoteWriter(server.write_url) as writer:
        for body in bodies:
            for version in (2, 1, 2, 1):
                await writer.write(in_version(body, version))
    # VictoriaMetrics keeps samples of one time and value twice; nobody counts anything of them twice.
    assert set(stored(server, "a")["a"]) == {((SECOND - 15) * 1000, 0.0), (SECOND * 1000, 7.0)}
    assert list(server.query("sum(delta(a[15001ms]))", SECOND).values()) == [pytest.approx(7.0, rel=0.01)]
    assert list(server.query("sum(resets(a[5m]))", SECOND).values()) == [0.0]


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("wanted", [RemoteWriteVersion.AUTO, RemoteWriteVersion.ONE])
async def test_of_100_series_one_of_which_is_refused_99_are_stored(
    server: Prometheus, wanted: RemoteWriteVersion, asks: bool
) -> None:
    """What is told of each series is what the receiver holds of it, in both versions."""
    names = [f"s{number}" for number in range(100)]
    newer = body_of("s42", ticks=(SECOND + 15,), value=1.0)
    accounts, _ = await push(
        server, body_of("first", ticks=(SECOND,)), newer, body_of(*names, ticks=(SECOND,)), wanted=wanted, asks=asks
    )
    if isinstance(server, VictoriaMetrics):  # which takes samples in any order
        assert not accounts.of(Delivery.NOT_STORED)
        return
    assert accounts.of(Delivery.NOT_STORED) == Counter(s42=1)
    sevens = server.query('count({__name__=~"s.+"} == 7)', SECOND)
    assert list(sevens.values()) == [99]
    assert stored(server, "s41", "s42", "s43") == {
        "s41": [(SECOND * 1000, 7.0)],
        "s42": [((SECOND + 15) * 1000, 1.0)],
        "s43": [(SECOND * 1000, 7.0)],
    }


async def test_of_a_series_only_the_later_samples_of_which_pass_each_is_told_rightly(server: Prometheus) -> None:
    """Zeros that are older than what is there are not stored and told so; what comes behind them is."""
    newer = body_of("s1", ticks=(SECOND + 20,), value=1.0)
    body = body_of("s0", "s1", ticks=tuple(SECOND + 15 * number for number in range(4)))
    accounts, _ = await push(server, body_of("first", ticks=(SECOND,)), newer, body)
    told = accounts.of(Delivery.STORED)
    held = {name: sum(value == 7.0 for _, value in samples) for name, samples in stored(server, "s0", "s1").items()}
    assert held["s0"] == 4 == told["s0"]
    if speaks_2(server) or isinstance(server, VictoriaMetrics):
        assert told["s1"] - 1 == held["s1"] == (4 if isinstance(server, VictoriaMetrics) else 2)


async def test_what_a_receiver_of_2_has_written_is_in_its_answer(server: Prometheus) -> None:
    """99 of 100, with 400, as it says itself; and nothing of numbers where only 1.0 is spoken."""
    names = [f"s{number}" for number in range(100)]
    async with RemoteWriter(server.write_url) as writer:
        await writer.write(body_of("s42", ticks=(SECOND + 15,), version=1))
        if not speaks_2(server):
            assert await writer.write(body_of(*names, ticks=(SECOND,))) is None
            assert not server.samples("s41")
            return
        with pytest.raises(Refused) as refused:
            await writer.write(body_of(*names, ticks=(SECOND,)))
        assert (refused.value.status, refused.value.written) == (400, 99)
        assert await writer.write(body_of(*names, ticks=(SECOND + 30,))) == 100
