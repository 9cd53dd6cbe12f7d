"""Both versions of remote write: in which one a receiver is written, and what becomes of what it does not take."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.changes import Request, Unsent
from cdn77_exporter.core.encode.parts import NOTHING_2, About, in_version, request_of, series_in, size_of
from cdn77_exporter.core.encode.version import RemoteWriteVersion, Spoken, version_of
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient, UnsupportedVersion
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.delivery import Delivery
from cdn77_exporter.flow.ports import Recalls
from cdn77_exporter.flow.stages.aggregate import Batch
from cdn77_exporter.flow.stages.push import Pusher
from tests.flow.test_sending import _content, _Memory, _Noting
from tests.support.examples import examples
from tests.support.requests import request_body
from tests.support.stage_bench import TICK, StageBench
from tests.support.virtual_time import simulate

AUTO, ONE, TWO = RemoteWriteVersion
DAY = 86_400


def body_of(*names: str, version: int = 2, ticks: tuple[int, ...] = (TICK,), value: float = 7.0) -> bytes:
    """A request of a version with a sample of each series at each tick."""
    one = request_body(*(([("__name__", name)], [(tick * 1000, value) for tick in ticks]) for name in names))
    return request_of([series._replace(about=About(1, "Help.")) for series in series_in(one)]) if version == 2 else one


class Server:
    """A receiver that keeps, for each series, its samples in their order, and takes the same ones once more.

    `speaks`: the versions that it understands. `deaf`: it answers 204 to what it does not understand, and stores
    nothing. `silent`: nobody hears what it says to have written. `bad`: series that it refuses, and `atomic` if all of
    their request with them. `lies`: what it says to have written, by what it has.
    """

    def __init__(self, *speaks: int, deaf: bool = False, silent: bool = False, bad: tuple[str, ...] = ()) -> None:
        self.speaks, self.deaf, self.silent, self.bad = speaks, deaf, silent, bad
        self.atomic = False
        self.status = 400  # of an answer to a request with bad series
        self.lies: Callable[[int], int] = int
        self.away = False
        self.writes: list[bytes] = []
        self.samples: dict[str, list[tuple[int, float]]] = {}

    @property
    def versions(self) -> list[int]:
        """The versions of the requests that came, without those that have nothing in them."""
        return [version_of(body) for body in self.writes if body != NOTHING_2]

    async def write(self, body: bytes) -> int | None:
        await asyncio.sleep(0.01)
        if self.away:
            raise Transient("no connection")
        self.writes.append(body)
        version = version_of(body)
        if version not in self.speaks:
            if self.deaf:
                return None
            raise UnsupportedVersion("415", "write in another version")
        series = series_in(body)
        refused = [one for one in series if one.entries[0].labels[0].value in self.bad]
        if refused and (self.atomic or version == 1):
            raise Refused(400, "out of order sample", None if version == 1 or self.silent else 0)
        written = sum(self._store(one) for one in series if one not in refused)
        told = None if version == 1 or self.silent else self.lies(written)
        if refused or written < sum(one.samples for one in series):
            if self.status >= 500:
                raise Transient("500", answered=True, lost=bool(told), written=told)
            if self.status >= 400:
                raise Refused(self.status, "out of order sample", told)
        return told

    def _store(self, one: object) -> int:
        written = 0
        for entry in one.entries:  # type: ignore[attr-defined]
            own = self.samples.setdefault(entry.labels[0].value, [])
            for sample in entry.samples:
                new = (sample.timestamp, sample.value)
                if own and (new == own[-1] or new[0] < own[-1][0]):
                    written += new == own[-1]
                    continue
                own.append(new)
                written += 1
        return written

    async def holds(self, body: bytes) -> bool:
        """Whether the last sample of a request is there."""
        name, at_ms = _content(body)[-1]
        return any(at == at_ms for at, _ in self.samples.get(name, ()))


async def push(
    bench: StageBench,
    server: Server,
    *bodies: bytes,
    wanted: RemoteWriteVersion = AUTO,
    recalls: Recalls | None = None,
    spoken: Spoken | None = None,
    between: Callable[[int], float] | None = None,
) -> _Noting:
    """Push requests, one a tick; `between`: seconds to wait after each."""
    spoken = spoken or Spoken()
    spoken.want(wanted)
    accounts = _Noting()
    pusher = Pusher(bench.common, server, bench.state, accounts, 3600, recalls=recalls or _Memory(None), spoken=spoken)
    inbox: Channel[Batch] = Channel(1)
    requests = [Request(n, TICK + 15 * n, len(_content(body)), body) for n, body in enumerate(bodies, 1)]

    async def feed() -> None:
        async with inbox:
            for one in requests:
                bench.counted(requests=[one])
                await inbox.put(Batch(one.tick, (Unsent(one.number, one.tick, one.samples),)))
                if between is not None:
                    await asyncio.sleep(5)
                    await asyncio.sleep(between(one.number))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        tasks.create_task(pusher.run(inbox, Channel(100)))
    return accounts


def test_a_receiver_of_2_is_written_by_2() -> None:
    """It is asked once, with a request that has nothing in it; then every request is sent as it was committed."""
    server, bench, spoken = Server(1, 2), StageBench(), Spoken()
    accounts = simulate(push(bench, server, *(body_of("a", ticks=(TICK + n,)) for n in range(3)), spoken=spoken))
    assert server.writes[0] == NOTHING_2
    assert server.versions == [2, 2, 2]
    assert server.samples == {"a": [((TICK + n) * 1000, 7.0) for n in range(3)]}
    assert accounts.of(Delivery.STORED) == Counter(a=3)
    assert spoken.version == 2
    assert [event["version"] for event in bench.said.of("remote_write_version")] == [2]


@pytest.mark.parametrize("deaf", [True, False])
def test_a_receiver_of_1_gets_the_same_by_1(deaf: bool) -> None:
    """Whether it answers 204 and stores nothing, or 415: all is stored once, and no sample went to it by 2.0."""
    server, bench, spoken = Server(1, deaf=deaf), StageBench(), Spoken()
    simulate(push(bench, server, *(body_of("a", "b", ticks=(TICK + n,)) for n in range(3)), spoken=spoken))
    assert server.versions == [1, 1, 1]
    assert server.samples == {name: [((TICK + n) * 1000, 7.0) for n in range(3)] for name in "ab"}
    assert spoken.version == 1
    assert server.writes.count(NOTHING_2) == 1


def test_what_nobody_hears_does_not_count() -> None:
    """Behind a proxy that drops the headers it is 1.0, and nothing is stored twice."""
    server, bench = Server(1, 2, silent=True), StageBench()
    simulate(push(bench, server, body_of("a", ticks=(TICK, TICK + 15)), body_of("a", ticks=(TICK + 30,))))
    assert server.versions == [1, 1]
    assert server.samples == {"a": [((TICK + n) * 1000, 7.0) for n in (0, 15, 30)]}


@pytest.mark.parametrize("recalled", [True, False])
def test_a_proof_that_stops_to_come_ends_in_1(recalled: bool) -> None:
    """A proxy that begins to drop the headers costs nothing, and doubles nothing."""
    server, bench = Server(1, 2), StageBench()

    def change(number: int) -> float:
        server.silent = number == 1
        return 15

    bodies = [body_of("a", ticks=(TICK + 60 * n, TICK + 60 * n + 15)) for n in range(3)]
    accounts = simulate(push(bench, server, *bodies, between=change, recalls=server if recalled else None))
    assert server.versions[:3] == [2, 2, 1]
    assert set(server.versions[3:]) == {1}
    assert server.samples == {"a": [((TICK + 60 * n + more) * 1000, 7.0) for n in range(3) for more in (0, 15)]}
    assert not accounts.of(Delivery.NOT_STORED)


@pytest.mark.parametrize("lie", [lambda written: 0, lambda written: written + 1, lambda written: 2 * written])
def test_a_wrong_number_is_no_proof(lie: Callable[[int], int]) -> None:
    """Who was never right about what it has written does not understand 2.0; the same again is harmless."""
    server, bench = Server(1, 2), StageBench()
    server.lies = lambda written: lie(written) if written else 0
    simulate(push(bench, server, body_of("a", "b"), body_of("a", "b", ticks=(TICK + 15,))))
    assert server.versions == [2, 1, 1]
    assert server.samples == {name: [(TICK * 1000, 7.0), ((TICK + 15) * 1000, 7.0)] for name in "ab"}


@pytest.mark.parametrize(("seconds", "asked"), [(DAY - 60, 1), (DAY, 2)])
def test_1_is_kept_for_a_day(seconds: float, asked: int) -> None:
    """A receiver of 1.0 is asked again after a day; if it understands 2.0 by then, that is in force."""
    server, bench, spoken = Server(1, deaf=True), StageBench(), Spoken()

    def learn(number: int) -> float:
        server.speaks = (1, 2)
        return seconds

    simulate(push(bench, server, body_of("a"), body_of("b"), between=learn, spoken=spoken))
    assert server.writes.count(NOTHING_2) == asked
    assert spoken.version == asked


def test_1_is_kept_until_the_receiver_was_away() -> None:
    """After an outage it may be another one: it is asked again, and written by 2.0 from then on."""
    server, bench, spoken = Server(1, deaf=True), StageBench(), Spoken()

    async def scene() -> None:
        async def restart() -> None:
            await asyncio.sleep(30)
            server.away = True
            await asyncio.sleep(60)
            server.away, server.speaks = False, (1, 2)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(restart())
            bodies = [body_of("a", ticks=(TICK + 15 * n,)) for n in range(4)]
            tasks.create_task(push(bench, server, *bodies, spoken=spoken, between=lambda _: 15))

    simulate(scene())
    assert server.versions == [1, 1, 2, 2]
    assert spoken.version == 2
    assert [at for at, _ in server.samples["a"]] == [(TICK + 15 * n) * 1000 for n in range(4)]


def test_a_failing_question_holds_up_nothing() -> None:
    """Who answers 500 to the empty request is written by 1.0 meanwhile, and asked again a minute later."""
    server, bench = Server(1, 2), StageBench()

    class Failing(Server):
        async def write(self, body: bytes) -> int | None:
            if body == NOTHING_2 and len(self.writes) < 3:
                self.writes.append(body)
                raise Transient("500 what is this", answered=True)
            return await super().write(body)

    server = Failing(1, 2)
    simulate(push(bench, server, *(body_of("a", ticks=(TICK + n,)) for n in range(4)), between=lambda _: 40))
    assert server.versions == [1, 1, 2, 2]


def test_what_was_committed_in_1_is_sent_by_1() -> None:
    """A request that an earlier process has left keeps its version, whatever is in force."""
    server, bench = Server(1, 2), StageBench()
    simulate(push(bench, server, body_of("a", version=1), body_of("a", ticks=(TICK + 15,))))
    assert server.versions == [1, 2]


def test_a_receiver_of_2_alone_gets_the_same_by_2() -> None:
    """Requests of 1.0 that it answers with 415 are sent by 2.0."""
    server, bench = Server(2), StageBench()
    simulate(push(bench, server, body_of("a", version=1), body_of("a", version=1, ticks=(TICK + 15,))))
    assert server.versions == [1, 2, 2]
    assert len(server.samples["a"]) == 2


@pytest.mark.parametrize(
    ("wanted", "speaks", "words", "remedy"),
    [
        (TWO, (1,), "the receiver does not understand remote write 2.0", "set REMOTE_WRITE_VERSION to auto or 1"),
        (AUTO, (), "it speaks neither version of remote write", "a receiver of remote write 1.0 or 2.0"),
        (ONE, (2,), "415", "write in another version"),
    ],
)
def test_a_version_that_is_not_there_is_told(
    wanted: RemoteWriteVersion, speaks: tuple[int, ...], words: str, remedy: str
) -> None:
    """One sentence says what is wrong and what to do; the requests wait until the receiver is another."""
    server, bench = Server(*speaks, deaf=wanted is TWO), StageBench()

    async def scene() -> None:
        async def replace() -> None:
            await asyncio.sleep(100)
            (told, *_) = bench.said.of("receiver_misconfigured")
            assert words in str(told["error"])
            assert remedy in str(told["remedy"])
            server.speaks = (1, 2)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(replace())
            tasks.create_task(push(bench, server, body_of("a", version=1 if wanted is ONE else 2), wanted=wanted))

    simulate(scene())
    assert server.samples == {"a": [(TICK * 1000, 7.0)]}


@pytest.mark.parametrize("wanted", [AUTO, TWO])
@pytest.mark.parametrize("status", [400, 204])
def test_of_a_partial_write_only_what_is_missing_is_owed(wanted: RemoteWriteVersion, status: int) -> None:
    """99 of 100 series are stored, whichever status says so, and one is not; the next request is not held up."""
    names = [f"s{number}" for number in range(100)]
    server, bench = Server(1, 2, bad=("s42",)), StageBench()
    server.status = status
    bodies = [body_of("first"), body_of(*names), body_of("last", ticks=(TICK + 15,))]
    accounts = simulate(push(bench, server, *bodies, wanted=wanted))
    assert set(server.versions) == {2}
    assert accounts.of(Delivery.NOT_STORED) == Counter(s42=1)
    assert set(accounts.of(Delivery.STORED)) == {"first", "last", *names} - {"s42"}
    assert set(server.samples) == {"first", "last", *names} - {"s42"}
    assert len(server.writes) < 40


CASES = st.fixed_dictionaries(
    {
        "bad": st.sets(st.integers(0, 11), max_size=4),
        "old": st.dictionaries(st.integers(0, 11), st.integers(1, 3), max_size=3),
        "status": st.sampled_from([400, 204]),
        "atomic": st.booleans(),
        "recalls": st.booleans(),
        "wanted": st.sampled_from([AUTO, TWO]),
    }
)


@given(CASES)
@examples(150)
def test_what_is_told_of_each_sample_is_true(case: dict[str, object]) -> None:
    """Whichever series are refused, and of which series only the later samples pass: no sample is told wrongly."""
    bad, old = case["bad"], case["old"]
    assert isinstance(bad, set)
    assert isinstance(old, dict)
    server, bench = Server(1, 2, bad=tuple(f"s{number}" for number in bad)), StageBench()
    server.status = case["status"]  # type: ignore[assignment]
    server.atomic = bool(case["atomic"])
    times = (TICK, TICK + 15, TICK + 30)
    for number, count in old.items():  # these have samples that are as new already, of another writer
        server.samples[f"s{number}"] = [((TICK + 15 * count - 1) * 1000, 1.0)]
    body = body_of(*(f"s{number}" for number in range(12)), ticks=times)
    recalls = server if case["recalls"] else None
    accounts = simulate(push(bench, server, body_of("first"), body, wanted=case["wanted"], recalls=recalls))  # type: ignore[arg-type]
    for number in range(12):
        name = f"s{number}"
        stored = sum(value == 7.0 for _, value in server.samples.get(name, ()))
        told = accounts.of(Delivery.STORED)[name]
        if not server.atomic and (recalls or name in server.bad or name not in {f"s{one}" for one in old}):
            assert told == stored
        assert told >= stored


def test_a_partial_failure_is_sent_again_as_a_whole() -> None:
    """With 5xx and a number a receiver asks for all of it again, which it stores once."""
    server, bench = Server(1, 2, bad=("b",)), StageBench()
    server.status = 500

    async def scene() -> _Noting:
        async def mend() -> None:
            await asyncio.sleep(0.5)
            server.bad = ()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(mend())
            pushing = tasks.create_task(push(bench, server, body_of("first"), body_of("a", "b", "c")))
        return pushing.result()

    accounts = simulate(scene())
    assert server.samples == {name: [(TICK * 1000, 7.0)] for name in ("first", "a", "b", "c")}
    assert not accounts.of(Delivery.NOT_STORED)


def test_a_repeat_in_the_other_version_has_the_same_content() -> None:
    """What is sent by 1.0 after 2.0 was not understood has the same series and samples, bit for bit."""
    server, bench = Server(1, 2), StageBench()
    server.lies = lambda written: 0
    body = body_of("a", "b")
    simulate(push(bench, server, body))
    assert server.writes[1:] == [body, in_version(body, 1)]
    assert [one._replace(about=None) for one in series_in(body)] == series_in(server.writes[2])


def test_a_wrong_login_is_told_as_such() -> None:
    """A question that is refused for its credentials says nothing of versions."""
    bench = StageBench()

    class Closed(Server):
        async def write(self, body: bytes) -> int | None:
            if len(self.writes) < 2:
                self.writes.append(body)
                raise Misconfigured("401", "check the login")
            return await super().write(body)

    server = Closed(1, 2)
    simulate(push(bench, server, body_of("a")))
    assert server.writes[-1] == body_of("a")
    assert {event["remedy"] for event in bench.said.of("receiver_misconfigured")} == {"check the login"}


def test_a_partly_stored_series_does_not_mean_that_all_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Series of which some samples are stored are not reported as refused, whichever are tried first."""
    monkeypatch.setattr("random.sample", lambda places, most: [0, 1, 2][:most])
    server, bench = Server(1, 2, bad=("s0", "s1")), StageBench()
    server.atomic = True
    server.samples["s2"] = [((TICK + 14) * 1000, 1.0)]
    body = body_of(*(f"s{number}" for number in range(6)), ticks=(TICK, TICK + 15, TICK + 30))
    accounts = simulate(push(bench, server, body_of("first"), body))
    assert accounts.of(Delivery.STORED)["s2"] >= 2
    assert accounts.of(Delivery.NOT_STORED)["s0"] == 3


@pytest.mark.guarantee("receiver.too_large")
@pytest.mark.parametrize("share", [0.24, 0.245, 0.3, 0.49, 0.495, 0.9])
def test_a_request_of_2_is_made_as_small_as_the_receiver_wants_it(share: float) -> None:
    """However many bytes a receiver takes, few attempts find it out: no part is larger than it was meant to be."""
    names = [f"label_{number}" for number in range(12)]
    labels = [[*((name, str(number % place)) for place, name in enumerate(names, 100))] for number in range(1500)]
    one = request_body(
        *(([("__name__", f"s{number}"), *more], [(TICK * 1000, 7.0)]) for number, more in enumerate(labels))
    )
    body = in_version(one, 2)
    most = int(size_of(body) * share)

    class Narrow(Server):
        async def write(self, body: bytes) -> int | None:
            assert len(self.writes) < 50
            if size_of(body) > most:
                self.writes.append(body)
                raise Refused(413, "", 0)
            return await super().write(body)

    server, bench = Narrow(1, 2), StageBench()
    accounts = simulate(push(bench, server, body))
    assert len(server.samples) == 1500
    assert not accounts.of(Delivery.NOT_STORED)


def test_a_receiver_of_2_alone_is_written_by_2_again_at_once() -> None:
    """One answer whose proof is missing does not end in 1.0 for a day when the receiver takes no 1.0."""
    bench = StageBench()

    class Forgetting(Server):
        async def write(self, body: bytes) -> int | None:
            written = await super().write(body)
            return None if len(self.versions) == 2 else written

    server = Forgetting(2)
    simulate(push(bench, server, *(body_of("a", ticks=(TICK + 15 * n,)) for n in range(4)), between=lambda _: 15))
    assert [at for at, _ in server.samples["a"]] == [(TICK + 15 * n) * 1000 for n in range(4)]
    assert not bench.said.of("receiver_misconfigured")


def test_a_receiver_that_has_become_one_of_2_alone_is_asked_at_once() -> None:
    """It was one of 1.0 and was never seen to be away: its 415 says that it is another one."""
    server, bench, spoken = Server(1, deaf=True), StageBench(), Spoken()

    def change(number: int) -> float:
        if number == 2:
            server.speaks, server.deaf = (2,), False
        return 15

    bodies = [body_of("a", ticks=(TICK + 15 * n,)) for n in range(4)]
    simulate(push(bench, server, *bodies, between=change, spoken=spoken))
    assert [at for at, _ in server.samples["a"]] == [(TICK + 15 * n) * 1000 for n in range(4)]
    assert spoken.version == 2
    assert not bench.said.of("receiver_misconfigured")


def test_a_question_whose_answer_is_lost_leaves_nothing_in_doubt() -> None:
    """It had no samples: what is refused afterwards is not stored, and is owed."""
    bench = StageBench()

    class Slow(Server):
        async def write(self, body: bytes) -> int | None:
            self.writes.append(body)
            if len(self.writes) == 1:
                raise Transient("no answer", lost=True)
            return await super().write(body)

    server = Slow(2, bad=("b",))
    accounts = simulate(push(bench, server, body_of("b"), wanted=TWO))
    assert accounts.of(Delivery.NOT_STORED) == Counter(b=1)
    assert not bench.said.of("request_outcome_unknown")


@pytest.mark.parametrize("status", [204, 400])
@pytest.mark.parametrize("lost", [True, False])
def test_words_of_1_say_nothing_of_what_was_stored_in_part_by_2(status: int, lost: bool) -> None:
    """A part of a request is stored by 2.0 and nobody heard it; 1.0 refuses the whole: each series is asked for."""
    bench = StageBench()

    class Losing(Server):
        async def write(self, body: bytes) -> int | None:
            first = not self.versions
            try:
                written = await super().write(body)
            except Refused:
                if lost and first:
                    self.speaks, self.deaf = (1,), True
                    raise Transient("no answer", lost=True) from None
                raise
            if first and body != NOTHING_2:
                self.speaks, self.deaf = (1,), True
                if lost:
                    raise Transient("no answer", lost=True)
            return written

    server = Losing(1, 2, bad=("b",))
    server.status = status
    accounts = simulate(push(bench, server, body_of("a", "b", "c"), recalls=server))
    assert accounts.of(Delivery.NOT_STORED) == Counter(b=1)
    assert set(server.samples) == {"a", "c"}


def test_a_success_that_counts_nothing_is_asked_for() -> None:
    """Whether the status or the number is right, the receiver's memory tells."""
    server, bench = Server(1, 2), StageBench()

    def change(number: int) -> float:
        server.lies = lambda written: 0
        return 15

    bodies = [body_of("a", "b", ticks=(TICK + 15 * n,)) for n in range(2)]
    accounts = simulate(push(bench, server, *bodies, between=change, recalls=server))
    assert accounts.of(Delivery.STORED) == Counter(a=2, b=2)
