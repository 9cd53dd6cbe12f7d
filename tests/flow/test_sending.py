"""How a request ends: series that fail for good, outages, answers that were lost, and what a receiver remembers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from cdn77_exporter.core.changes import Request, Unsent
from cdn77_exporter.core.encode.parts import last_sample, mentions, request_of, series_in
from cdn77_exporter.core.encode.request_limit import RequestLimit
from cdn77_exporter.core.errors import Refused, Transient
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.delivery import Delivery
from cdn77_exporter.flow.ports import Recalls
from cdn77_exporter.flow.stages.aggregate import Batch
from cdn77_exporter.flow.stages.push import Pusher, Receipt
from tests.support.accounts import Cumulative
from tests.support.requests import STALE, request_body
from tests.support.stage_bench import TICK, StageBench
from tests.support.virtual_time import simulate

Refusal = Callable[[set[str], int], Exception | None]  # by the series of a request and the number of the attempt


class _Judging:
    """A receiver that refuses by what is in a request; keeps what it took: for each series, when."""

    def __init__(self, refusal: Refusal, seconds: float = 0.0) -> None:
        self._refusal = refusal
        self._seconds = seconds
        self.attempts = 0
        self.taken: dict[str, list[tuple[int, float]]] = {}  # series -> tick and the time at which it came

    async def write(self, body: bytes) -> None:
        self.attempts += 1
        names = {name for name, _ in _content(body)}
        await asyncio.sleep(0.01)
        error = self._refusal(names, self.attempts)
        if error is not None:
            await asyncio.sleep(self._seconds)
            raise error
        for name, at_ms in _content(body):
            self.taken.setdefault(name, []).append((at_ms // 1000, asyncio.get_running_loop().time()))


def _content(body: bytes) -> list[tuple[str, int]]:
    return [
        (entry.labels[0].value, sample.timestamp)
        for one in series_in(body)
        for entry in one.entries
        for sample in entry.samples
    ]


def _body(names: Iterable[str], *ticks: int) -> bytes:
    return request_body(*(([("__name__", name)], [(tick * 1000, 7.0) for tick in ticks]) for name in names))


class _Noting(Cumulative):
    """Accounts that remember what they were told."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[int, Delivery, list[str]]] = []

    async def settled(self, number: int, tick: int, body: bytes, delivery: Delivery) -> None:
        self.ends.append((number, delivery, [name for name, _ in _content(body)]))
        await super().settled(number, tick, body, delivery)

    def of(self, delivery: Delivery) -> Counter[str]:
        return Counter(name for _, end, names in self.ends if end is delivery for name in names)


class _Memory:
    """A receiver's memory, with one answer to everything."""

    def __init__(self, there: bool | None) -> None:
        self.there = there

    async def holds(self, body: bytes) -> bool | None:
        return self.there


async def _send(
    bench: StageBench,
    receiver: _Judging,
    bodies: Callable[[int], list[bytes]],
    ticks: int,
    *,
    seconds: float = 3600,
    recalls: Recalls | None = None,
    limit: RequestLimit | None = None,
) -> _Noting:
    """Commit some requests at each of so many ticks, one every 15 s, and push them."""
    inbox: Channel[Batch] = Channel(1)
    outlet: Channel[Receipt] = Channel(10 * ticks)
    accounts = _Noting()
    pusher = Pusher(
        bench.common,
        receiver,
        bench.state,
        accounts,
        seconds,
        recalls=recalls or _Memory(None),
        limit=limit or RequestLimit(),
    )

    async def feed() -> None:
        number = 0
        async with inbox:
            for tick in range(TICK, TICK + 15 * ticks, 15):
                due = tick - TICK + 15
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                requests = []
                for body in bodies(tick):
                    number += 1
                    requests.append(Request(number, tick, len(_content(body)), body))
                bench.counted(requests=requests)
                await inbox.put(Batch(tick, tuple(Unsent(*_fields(one)) for one in requests)))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        tasks.create_task(pusher.run(inbox, outlet))
    return accounts


def _lateness(receiver: _Judging) -> float:
    """The longest time from a tick's commit to its arrival; the first is committed after 15 s."""
    return max(at - (tick - TICK + 15) for taken in receiver.taken.values() for tick, at in taken)


FAILURES = {
    "500": Transient("500 it fails", answered=True),
    "429": Transient("429 slow down", 30.0, answered=True),
    "429 for long": Transient("429 slow down", 300.0, answered=True),
    "502": Transient("502 bad gateway", lost=True),
    "400": Refused(400, "label value too long"),
}


@pytest.mark.guarantee("receiver.some_series")
@pytest.mark.parametrize("poisoned", [1, 3])
@pytest.mark.parametrize("kind", FAILURES)
def test_series_that_fail_for_good_hold_up_no_other(kind: str, poisoned: int) -> None:
    """Of 1,600 series the others come at each of 12 ticks, before the next one; those that fail are told."""
    names = [f"s{number}" for number in range(1600)]
    bad = set(names[732 : 732 + 40 * poisoned : 40])

    async def main() -> None:
        bench = StageBench()
        receiver = _Judging(lambda seen, _: FAILURES[kind] if seen & bad else None)
        accounts = await _send(
            bench,
            receiver,
            lambda tick: [_body(names[begin : begin + 200], tick) for begin in range(0, 1600, 200)],
            12,
            recalls=_Memory(False),
        )
        assert set(receiver.taken) == set(names) - bad
        assert {len(taken) for taken in receiver.taken.values()} == {12}
        # The first request that is split waits as long as it is told to, but for half a minute at most.
        assert _lateness(receiver) < (75 if kind.startswith("429") else 15)
        assert accounts.of(Delivery.NOT_STORED) == dict.fromkeys(bad, 12)
        told = bench.said.of("request_refused" if kind == "400" else "request_dropped")
        assert sum(one["series"] for one in told if isinstance(one["series"], int)) == 12 * poisoned
        assert "series of a request were" in bench.trouble.now["delivery"]
        assert receiver.attempts < 12 * 8 + poisoned * 40
        assert bench.database.outbox() == []

    simulate(main())


@pytest.mark.guarantee("receiver.some_series")
@pytest.mark.parametrize("bad", [{"s9"}, {"s8", "s9"}])
@pytest.mark.parametrize("kind", ["500", "429 for long"])
def test_a_request_all_of_whose_series_fail_holds_up_no_other_for_long(kind: str, bad: set[str]) -> None:
    """A last request of one or two series that fail for good is dropped after a minute, and set apart from then on."""

    async def main() -> None:
        bench = StageBench()
        receiver = _Judging(lambda seen, _: FAILURES[kind] if seen & bad else None)
        names = [f"s{number}" for number in range(10)]
        good = [name for name in names if name not in bad]
        accounts = await _send(bench, receiver, lambda tick: [_body(good, tick), _body(sorted(bad), tick)], 40)
        assert {len(taken) for taken in receiver.taken.values()} == {40}
        assert set(receiver.taken) == set(good)
        assert _lateness(receiver) < 100
        late = [at - (tick - TICK + 15) for tick, at in receiver.taken["s0"]]
        assert sum(seconds > 15 for seconds in late) < 8
        assert accounts.of(Delivery.NOT_STORED) == dict.fromkeys(bad, 40)

    simulate(main())


def test_a_receiver_that_asks_for_time_is_given_it() -> None:
    """One that fails with everything and asks for minutes is asked again after these, and not more in between."""

    async def main() -> None:
        bench = StageBench()
        loop = asyncio.get_running_loop()
        times: list[float] = []

        def busy(_: set[str], __: int) -> Exception | None:
            times.append(loop.time())
            return Transient("429", 200.0, answered=True) if loop.time() < 1800 else None

        names = [f"s{number}" for number in range(50)]
        accounts = await _send(bench, _Judging(busy), lambda tick: [_body(names, tick)], 2)
        assert accounts.of(Delivery.NOT_STORED) == {}
        rounds = [round(at) for at in times if 100 < at < 1800]
        assert len(set(rounds)) <= 9
        assert len(rounds) <= 2 * 9

    simulate(main())


class _Narrow(_Judging):
    """A receiver that refuses requests of more than so many samples, by when they come."""

    def __init__(self, most: Callable[[float], int], refusal: Refused) -> None:
        super().__init__(lambda *_: None)
        self._most = most
        self._too_large = refusal
        self.refused: list[tuple[float, int]] = []

    async def write(self, body: bytes) -> None:
        now = asyncio.get_running_loop().time()
        samples = len(_content(body))
        if samples > self._most(now):
            self.refused.append((now, samples))
            raise self._too_large
        await super().write(body)


_TOO_LARGE = {
    "413": Refused(413, ""),
    "Mimir": Refused(
        400,
        "the incoming push request has been rejected because its message size of 130000 bytes is larger than the "
        "allowed limit of 100000 bytes (err-mimir-distributor-max-write-message-size)",
    ),
    "VictoriaMetrics": Refused(
        400, "too big unpacked request; mustn't exceed `-maxInsertRequestSize=1000` bytes; got 3000 bytes"
    ),
}


@pytest.mark.guarantee("receiver.too_large")
@pytest.mark.parametrize("most", [999, 130, 7, 1])
@pytest.mark.parametrize("kind", _TOO_LARGE)
def test_requests_are_made_smaller_for_a_receiver_that_takes_no_large_ones(kind: str, most: int) -> None:
    """It is found out once, by few refusals, and told once; every sample comes on time, and none counts as refused."""

    async def main() -> None:
        bench = StageBench()
        receiver = _Narrow(lambda _: most, _TOO_LARGE[kind])
        names = [f"s{number}" for number in range(1600)]
        limit = RequestLimit()
        accounts = await _send(
            bench, receiver, lambda tick: [_body(names[:800], tick), _body(names[800:], tick)], 12, limit=limit
        )
        assert {len(taken) for taken in receiver.taken.values()} == {12}
        assert set(receiver.taken) == set(names)
        assert accounts.of(Delivery.NOT_STORED) == {}
        assert max(most // 2, 1) <= limit.samples <= max(most, 1) or most == 999
        assert len(receiver.refused) <= (2 * 800 // most + 2 if most < 999 else 0)
        assert all(at < 30 for at, _ in receiver.refused)
        told = bench.said.of("request_limit_learned")
        assert told == ([{"samples": limit.samples, "size": limit.size}] if most < 999 else [])
        assert not bench.said.of("request_refused")
        assert not bench.trouble.now

    simulate(main())


@pytest.mark.guarantee("receiver.too_large")
def test_larger_requests_are_tried_again_and_seldom_when_they_fail() -> None:
    """A limit that stays costs a few refusals a day; one that is lifted is, hours later, and that is told."""

    async def main() -> None:
        bench = StageBench()
        day = 86_400
        receiver = _Narrow(lambda now: 20 if now < 2 * day else 2000, Refused(413, ""))
        limit = RequestLimit()
        names = [f"s{number}" for number in range(1200)]
        few = names[:60]

        def bodies(tick: int) -> list[bytes]:
            return [_body(names if tick - TICK > 2 * day else few, tick)] if (tick - TICK) % 900 == 0 else []

        await _send(bench, receiver, bodies, 4 * day // 15, limit=limit)
        hours = [at // 3600 for at, _ in receiver.refused if at > 3600]
        assert len(hours) < 20
        assert [len(bench.said.of("request_limit_learned")), len(bench.said.of("request_limit_lifted"))] == [1, 1]
        assert not limit.in_force

    simulate(main())


@pytest.mark.guarantee("receiver.too_large")
@pytest.mark.parametrize("bad", [{"s0"}, {"s0", "s1"}, {"s311"}])
def test_a_series_that_is_always_too_large_makes_no_other_request_tiny(bad: set[str]) -> None:
    """When halves of one size pass and fail, the size is not the reason: what fails is split, and the rest goes on."""

    async def main() -> None:
        bench = StageBench()
        receiver = _Judging(lambda seen, _: Refused(413, "") if seen & bad else None)
        names = [f"s{number}" for number in range(1600)]
        limit = RequestLimit()
        accounts = await _send(bench, receiver, lambda tick: [_body(names, tick)], 12, limit=limit)
        assert set(receiver.taken) == set(names) - bad
        assert {len(taken) for taken in receiver.taken.values()} == {12}
        assert accounts.of(Delivery.NOT_STORED) == dict.fromkeys(bad, 12)
        assert limit.samples > 200

    simulate(main())


@pytest.mark.guarantee("receiver.too_large")
def test_a_kill_while_a_large_request_is_sent_in_smaller_ones_leaves_nothing_out() -> None:
    """The next process finds the limit out anew, and takes apart what it finds to be stored in part."""

    async def main() -> None:
        bench = StageBench()
        names = [f"s{number}" for number in range(200)]
        body = _body(names, TICK - 30, TICK - 15, TICK)
        bench.counted(requests=[Request(1, TICK, 600, body)])
        receiver = _InOrder(lose=0)
        take = receiver.write
        for one in series_in(body)[:70]:
            await receiver.write(request_of([one]))

        async def narrow(body: bytes) -> None:
            if len(_content(body)) > 100:
                raise Refused(413, "")
            await take(body)

        receiver.write = narrow  # type: ignore[method-assign]
        bench.database.mark_sending(-1)
        inbox: Channel[Batch] = Channel(1)
        accounts = _Noting()
        async with inbox:
            pass
        await Pusher(bench.common, receiver, bench.state, accounts, 3600).run(inbox, Channel(300))
        assert set(receiver.taken) == set(names)
        assert accounts.of(Delivery.NOT_STORED) == {}

    simulate(main())


@pytest.mark.guarantee("receiver.some_series")
@pytest.mark.parametrize("first", ["s7", "s8"])
def test_a_series_that_fails_slowly_takes_a_small_part_of_the_time(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that runs into the time-out because of one series does so when it is found out, and seldom later.

    `first`: the series that is tried alone first.
    """
    names = [f"s{number}" for number in range(40)]
    usual, chosen = random.sample, [[names.index(first)]]
    monkeypatch.setattr(random, "sample", lambda *given: chosen.pop() if chosen else usual(*given))

    async def main() -> None:
        bench = StageBench()
        late = Transient("no answer within 30 seconds", lost=True)
        receiver = _Judging(lambda seen, _: late if "s7" in seen else None, seconds=30)
        accounts = await _send(bench, receiver, lambda tick: [_body(names, tick)], 240, recalls=_Memory(False))
        assert {len(taken) for name, taken in receiver.taken.items()} == {240}
        last = max(at for tick, at in receiver.taken["s8"] if tick == TICK + 15 * 239)
        assert last - 15 * 240 < 90
        assert accounts.of(Delivery.NOT_STORED) == {"s7": 240}

    simulate(main())


def test_a_series_that_is_taken_again_is_no_longer_set_apart() -> None:
    """Once a series that failed is stored, it goes with the others, and nothing is wrong any more."""

    async def main() -> None:
        bench = StageBench()
        names = [f"s{number}" for number in range(50)]
        receiver = _Judging(lambda seen, n: Transient("500", answered=True) if "s7" in seen and n < 20 else None)
        await _send(bench, receiver, lambda tick: [_body(names, tick)], 12)
        assert len(receiver.taken["s7"]) > 3
        assert len(receiver.taken["s8"]) == 12
        attempts = receiver.attempts
        assert attempts < 60
        assert not bench.trouble.now

    simulate(main())


@pytest.mark.guarantee("receiver.series_limit")
def test_a_receiver_that_refuses_everything_is_not_asked_for_each_series() -> None:
    """After a 503 each request is refused for good: each is told as not stored, at the cost of a few attempts."""

    async def main() -> None:
        bench = StageBench()
        limit = Refused(400, "per-user series limit reached")
        receiver = _Judging(lambda _, n: Transient("503", answered=True) if n == 1 else limit)
        names = [f"s{number}" for number in range(200)]
        accounts = await _send(bench, receiver, lambda tick: [_body(names, tick)] * 3, 4)
        assert accounts.of(Delivery.NOT_STORED) == dict.fromkeys(names, 12)
        assert receiver.attempts < 12 * 2 + 5
        assert bench.database.acknowledged() == 0
        assert bench.said.of("request_refused")[0]["words"] == limit.words
        assert not bench.said.of("request_outcome_unknown")

    simulate(main())


@pytest.mark.guarantee("receiver.too_old")
def test_an_outbox_that_has_become_too_old_is_refused_in_seconds() -> None:
    """An hour of requests that the receiver calls too old ends at once, one attempt or two each, as not stored."""

    async def main() -> None:
        bench = StageBench()
        names = [f"s{number}" for number in range(20)]
        ticks = range(TICK, TICK + 3600, 15)
        bench.counted(requests=[Request(at, at, 20, _body(names, at)) for at in ticks])
        bench.database.mark_sending(TICK)
        old = Refused(500, "too old sample")
        receiver = _Judging(lambda *_: old)
        inbox: Channel[Batch] = Channel(1)
        accounts = _Noting()
        async with inbox:
            pass
        await Pusher(bench.common, receiver, bench.state, accounts, 3600).run(inbox, Channel(300))
        assert accounts.of(Delivery.NOT_STORED) == dict.fromkeys(names, 240)
        assert bench.database.acknowledged() == 0
        assert asyncio.get_running_loop().time() < 30
        assert receiver.attempts < 2.1 * 240
        assert "nothing is lost" not in str(bench.said.events) + str(bench.trouble.ever)

    simulate(main())


@pytest.mark.guarantee("receiver.fails")
def test_giving_up_is_bounded_by_outage() -> None:
    """A receiver that answers with failures only delays the first request for so long, and those after it hardly."""

    async def main() -> None:
        bench = StageBench()
        receiver = _Judging(lambda *_: Transient("500 broken", answered=True))
        accounts = await _send(bench, receiver, lambda tick: [_body(["a", "b"], tick)], 240, seconds=600)
        assert asyncio.get_running_loop().time() < 600 + 15 * 240 + 60
        assert accounts.of(Delivery.NOT_STORED) == {"a": 240, "b": 240}
        assert len(bench.said.of("request_dropped")) == 240
        assert bench.database.acknowledged() == 0
        assert "nothing is lost" not in str(bench.said.events) + str(bench.trouble.ever)

    simulate(main())


@pytest.mark.guarantee("receiver.away")
@pytest.mark.parametrize(
    "away",
    [Transient("no connection"), Transient("no answer", lost=True), Transient("502", lost=True)],
    ids=["refused", "timed out", "gateway"],
)
def test_nothing_is_given_up_while_the_receiver_does_not_answer(away: Transient) -> None:
    """However long it is away, the request waits, and is stored when it is there again."""

    async def main() -> None:
        bench = StageBench()
        loop = asyncio.get_running_loop()
        receiver = _Judging(lambda *_: away if loop.time() < 86_400 else None)
        accounts = await _send(bench, receiver, lambda tick: [_body(["a", "b", "c"], tick)], 4, seconds=600)
        assert accounts.of(Delivery.NOT_STORED) == {}
        ticks = [[tick for tick, _ in taken] for taken in receiver.taken.values()]
        assert ticks == [[TICK, TICK + 15, TICK + 30, TICK + 45]] * 3
        assert bench.database.acknowledged() == TICK + 45

    simulate(main())


@pytest.mark.parametrize("there", [True, False, None])
@pytest.mark.parametrize("words", ["series limit reached", "sample timestamp too old"])
def test_a_receiver_is_asked_what_it_holds_when_an_answer_was_lost(words: str, there: bool | None) -> None:
    """With a lost answer and words that do not tell, what the receiver holds decides; without it, the words do."""

    async def main() -> None:
        bench = StageBench()
        lost = Transient("cut", lost=True)
        receiver = _Judging(lambda _, n: lost if n == 1 else Refused(400, words))
        accounts = await _send(bench, receiver, lambda tick: [_body(["a"], tick)], 1, recalls=_Memory(there))
        stored = there or (there is None and words == "series limit reached")
        assert accounts.ends == [(1, Delivery.STORED if stored else Delivery.NOT_STORED, ["a"])]
        assert len(bench.said.of("request_outcome_unknown")) == (stored and there is None)
        assert len(bench.said.of("request_refused")) == (not stored)

    simulate(main())


@pytest.mark.parametrize("there", [True, False, None])
def test_a_failure_may_have_been_stored(there: bool | None) -> None:
    """After a failure, words such as "out of order" count for what the receiver holds; without that, for a refusal."""

    async def main() -> None:
        bench = StageBench()
        failed = Transient("500 no quorum", answered=True)
        receiver = _Judging(lambda _, n: failed if n == 1 else Refused(400, "out of order sample"))
        accounts = await _send(bench, receiver, lambda tick: [_body(["a"], tick)], 1, recalls=_Memory(there))
        assert accounts.ends == [(1, Delivery.STORED if there else Delivery.NOT_STORED, ["a"])]
        assert len(bench.said.of("request_refused")) == (not there)

    simulate(main())


class _InOrder(_Judging):
    """A receiver that stores nothing of a request of which a sample is not newer than what it has; loses one answer."""

    def __init__(self, lose: int) -> None:
        super().__init__(lambda *_: None)
        self._lose = lose

    async def write(self, body: bytes) -> None:
        newest = {name: taken[-1][0] for name, taken in self.taken.items()}
        if any(at_ms // 1000 < newest.get(name, 0) for name, at_ms in _content(body)):
            self.attempts += 1
            raise Refused(400, "out of order sample")
        await super().write(body)
        if self.attempts == self._lose:
            raise Transient("cut", lost=True)


@pytest.mark.parametrize("count", [5, 48, 200])
def test_series_that_were_stored_all_along_are_not_known_to_fail(count: int) -> None:
    """Zeros whose answer was lost are refused as out of order when sent again; the next request is sent whole."""

    async def main() -> None:
        bench = StageBench()
        receiver = _InOrder(lose=1)
        new, old = [f"n{number}" for number in range(count)], [f"o{number}" for number in range(50)]
        zeros = request_of([*series_in(_body(new, TICK - 30, TICK - 15)), *series_in(_body(old, TICK))])
        accounts = await _send(bench, receiver, lambda tick: [zeros, _body(new, TICK)] if tick == TICK else [], 1)
        assert accounts.of(Delivery.NOT_STORED) == {}
        assert {name: taken[-1][0] for name, taken in receiver.taken.items()} == dict.fromkeys([*new, *old], TICK)
        assert not bench.said.of("request_refused")

    simulate(main())


def test_a_series_that_may_be_stored_is_not_known_to_fail_any_more() -> None:
    """One that failed, and whose answer is lost the next time, goes with the others at the tick after."""

    def refusal(names: set[str], _: int) -> Exception | None:
        now = asyncio.get_running_loop().time()
        if "x" not in names or now >= 45:
            return None
        return Refused(400, "series limit reached") if now < 30 else Transient("cut", lost=True)

    async def main() -> None:
        bench = StageBench()
        receiver = _Judging(refusal, seconds=2.0)
        names = [f"o{number}" for number in range(20)]
        accounts = await _send(bench, receiver, lambda tick: [_body([*names, "x"], tick)], 3)
        assert accounts.of(Delivery.NOT_STORED) == {"x": 1}
        assert [tick for tick, _ in receiver.taken["x"]] == [TICK + 30]

    simulate(main())


def test_the_order_of_a_series_survives_its_request_being_taken_apart() -> None:
    """Zeros of a new series and its value, which are two entries, stay in one part and in their order."""
    entries = [
        ([("__name__", name)], [(at, value)])
        for at, value in ((1000, 0.0), (16_000, 0.0), (31_000, STALE))
        for name in ("a", "b", "c")
    ]
    body = request_body(*entries)
    series = series_in(body)
    assert [str(one) for one in series] == ["a{}", "b{}", "c{}"]
    part = request_of(series[1:])
    assert _content(part) == [(name, at) for name in ("b", "c") for at in (1000, 16_000, 31_000)]
    assert mentions(body, [series[0].labels])
    assert not mentions(part, [series[0].labels])
    found = last_sample(part)
    assert found is not None
    assert (found.labels, found.at_ms, found.value) == ({"__name__": "c"}, 16_000, 0.0)


@pytest.mark.parametrize("body", [b"", b"no request", b"\x05\x10hello"])
def test_what_is_no_request_has_no_parts(body: bytes) -> None:
    """A body that cannot be read is one part."""
    assert series_in(body) == []
    assert last_sample(body) is None


@pytest.mark.guarantee("receiver.metadata")
@pytest.mark.parametrize("error", [Refused(400, "no"), Transient("500", answered=True), Transient("cut", lost=True)])
def test_metadata_holds_up_no_sample(error: Exception) -> None:
    """A refused description is noted once, raises no alarm, and is not sent again for hours."""

    async def main() -> None:
        bench = StageBench()
        receiver = _Judging(lambda seen, _: None if seen else error)
        inbox: Channel[Batch] = Channel(10)
        outlet: Channel[Receipt] = Channel(20)
        async with inbox:
            for number in range(1, 9, 2):
                tick = TICK + 15 * number
                requests = [Request(number, tick, 10, _body(["a"], tick)), Request(number + 1, tick, 0, _body([]))]
                bench.counted(requests=requests)
                await inbox.put(Batch(tick, tuple(Unsent(*one[:3]) for one in map(_fields, requests))))
        await Pusher(bench.common, receiver, bench.state, Cumulative(), 600).run(inbox, outlet)
        assert len(receiver.taken["a"]) == 4
        assert receiver.attempts == 5
        assert bench.said.of("metadata_refused") == [{"error": str(error)}]
        assert bench.database.acknowledged() == TICK + 105
        assert not bench.trouble.ever
        assert asyncio.get_running_loop().time() < 1

    simulate(main())


def _fields(request: Request) -> tuple[int, int, int]:
    return request.number, request.tick, request.samples


class _Scripted(_InOrder):
    """The same receiver, whose first answers are given: an error, and whether the request is stored all the same."""

    def __init__(self, *answers: tuple[Exception | None, bool]) -> None:
        super().__init__(lose=0)
        self._answers = list(answers)

    async def write(self, body: bytes) -> None:
        error, stored = self._answers.pop(0) if self._answers else (None, True)
        if stored:
            await super().write(body)
        if error is not None:
            raise error


_LOST, _DUPLICATE = Transient("cut", lost=True), Refused(409, "duplicate sample")


@pytest.mark.parametrize(
    "answers",
    [
        [(_DUPLICATE, False), (_LOST, False)],
        [(_DUPLICATE, False), (_LOST, True)],
        [(_LOST, False), (Refused(400, "no"), False), (_LOST, True)],
        [(_LOST, False), (_LOST, False), (_LOST, False), (_LOST, True), (_LOST, False)],
    ],
    ids=["refused, one lost", "refused, one stored", "lost, refused, one stored", "lost, one stored"],
)
def test_what_was_stored_of_one_series_says_nothing_about_the_others(
    answers: list[tuple[Exception | None, bool]],
) -> None:
    """That a part is a duplicate, or was lost later, does not make the rest of its request stored: the rest is sent."""

    async def main() -> None:
        bench = StageBench()
        receiver = _Scripted(*answers)
        names = [f"s{number}" for number in range(20)]
        body = _body(names, TICK - 30, TICK - 15, TICK)
        accounts = await _send(bench, receiver, lambda _: [body], 1, recalls=_Memory(None))
        assert set(receiver.taken) == set(names)
        assert accounts.of(Delivery.NOT_STORED) == {}

    simulate(main())


def test_a_kill_while_a_request_is_sent_in_parts_leaves_none_of_them_out() -> None:
    """The next process takes apart what it finds to be stored in part, though words say that all of it is there."""

    async def main() -> None:
        bench = StageBench()
        names = [f"s{number}" for number in range(20)]
        body = _body(names, TICK - 30, TICK - 15, TICK)
        bench.counted(requests=[Request(1, TICK, 60, body)])
        receiver = _InOrder(lose=0)
        for one in series_in(body)[:19]:
            await receiver.write(request_of([one]))
        bench.database.mark_sending(-1)
        inbox: Channel[Batch] = Channel(1)
        accounts = _Noting()
        async with inbox:
            pass
        await Pusher(bench.common, receiver, bench.state, accounts, 3600).run(inbox, Channel(300))
        assert set(receiver.taken) == set(names)
        assert accounts.of(Delivery.NOT_STORED) == {}

    simulate(main())


@pytest.mark.parametrize("answers", [True, False])
def test_what_was_stored_in_parts_before_a_stop_is_asked_for_series_by_series(answers: bool) -> None:
    """When the next process gives the rest up, the receiver has some of it, whatever it says of the last sample.

    One that does not say what it holds is asked once: then all of it counts as stored.
    """

    async def main() -> None:
        bench = StageBench()
        names = [f"s{number}" for number in range(20)]
        body = _body(names, TICK)
        bench.counted(requests=[Request(1, TICK, 20, body)])
        bench.database.mark_sending(-1)
        stored, asked = set(names[::3]), 0

        class Knowing:
            async def holds(self, body: bytes) -> bool | None:
                nonlocal asked
                asked += 1
                sent = last_sample(body)
                assert sent is not None
                return sent.labels["__name__"] in stored if answers else None

        inbox: Channel[Batch] = Channel(1)
        accounts = _Noting()
        async with inbox:
            pass
        receiver = _Judging(lambda names, attempt: Transient("503", answered=True))
        await Pusher(bench.common, receiver, bench.state, accounts, 60, recalls=Knowing()).run(inbox, Channel(300))
        assert set(accounts.of(Delivery.STORED)) == (stored if answers else set(names))
        assert set(accounts.of(Delivery.NOT_STORED)) == (set(names) - stored if answers else set())
        assert asked == (20 if answers else 1)

    simulate(main())
