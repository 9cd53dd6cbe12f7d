"""The pusher by itself: what the answers of a receiver mean, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from cdn77_exporter.core.changes import Request, Unsent
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.stages.aggregate import Batch
from cdn77_exporter.flow.stages.push import Pusher, Receipt
from tests.support.accounts import Cumulative
from tests.support.stage_bench import TICK, StageBench, has_ended, log_file
from tests.support.virtual_time import simulate
from tests.support.world import InlineState

_Outcome = Exception | None


class _Scripted:
    """A receiver with these answers, None for "taken"; afterwards it takes everything."""

    def __init__(self, *answers: _Outcome) -> None:
        self._answers = list(answers)
        self.bodies: list[bytes] = []
        self.times: list[float] = []

    async def write(self, body: bytes) -> None:
        self.bodies.append(body)
        self.times.append(asyncio.get_running_loop().time())
        answer = self._answers.pop(0) if self._answers else None
        if answer is not None:
            raise answer


def _request(number: int, tick: int) -> Request:
    return Request(number, tick, 10, b"body-%d" % number)


def _batch(through_tick: int, *requests: Request) -> Batch:
    """Requests as the aggregator passes them on once they are committed."""
    return Batch(through_tick, tuple(Unsent(request.number, request.tick, 10) for request in requests))


async def _pushed(bench: StageBench, receiver: _Scripted, *batches: Batch, seconds: float = 3600) -> list[int]:
    """The ticks of the receipts for some batches that are committed once the pusher has begun."""
    inbox: Channel[Batch] = Channel(10)
    outlet: Channel[Receipt] = Channel(20)

    async def feed() -> None:
        await asyncio.sleep(1)
        async with inbox:
            for batch in batches:
                bench.counted(requests=[_request(one.number, one.tick) for one in batch.requests])
                await inbox.put(batch)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        tasks.create_task(Pusher(bench.common, receiver, bench.state, Cumulative(), seconds).run(inbox, outlet))
    return [receipt.through_tick async for receipt in outlet]


def test_an_accepted_batch_is_acknowledged_and_leaves_the_outbox() -> None:
    """Requests go out in order; when all of a batch are accepted its tick is acknowledged and a receipt goes on."""

    async def main() -> None:
        bench = StageBench()
        receiver = _Scripted()
        batches = [
            _batch(TICK + 15, _request(1, TICK), _request(2, TICK + 15)),
            _batch(TICK + 30, _request(3, TICK + 30)),
        ]
        assert await _pushed(bench, receiver, *batches) == [0, TICK + 15, TICK + 30]
        assert receiver.bodies == [b"body-1", b"body-2", b"body-3"]
        assert bench.database.outbox() == []
        assert bench.database.acknowledged() == TICK + 30
        pushed = bench.said.of("batch_pushed")
        assert [(one["first_tick"], one["last_tick"], one["requests"], one["samples"]) for one in pushed] == [
            (TICK, TICK + 15, 2, 20),
            (TICK + 30, TICK + 30, 1, 10),
        ]

    simulate(main())


def test_a_batch_without_requests_is_acknowledged() -> None:
    """A tick on which there is nothing to write is complete all the same."""

    async def main() -> None:
        bench = StageBench()
        assert await _pushed(bench, _Scripted(), Batch(TICK)) == [0, TICK]
        assert bench.database.acknowledged() == TICK
        assert not bench.said.of("batch_pushed")

    simulate(main())


@pytest.mark.guarantee("crash.before_push", "crash.stop_while_away")
def test_what_an_earlier_process_left_goes_first_byte_for_byte() -> None:
    """Requests left in the outlet are sent before all others, and acknowledge their own ticks."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(requests=[_request(1, TICK), _request(2, TICK + 15)])
        receiver = _Scripted()
        ticks = await _pushed(bench, receiver, _batch(TICK + 30, _request(3, TICK + 30)))
        assert ticks == [0, TICK, TICK + 15, TICK + 30]
        assert receiver.bodies == [b"body-1", b"body-2", b"body-3"]
        assert bench.database.outbox() == []

    simulate(main())


@pytest.mark.guarantee("crash.during_push")
def test_only_the_request_that_was_being_sent_may_be_stored_after_a_crash() -> None:
    """Of what an earlier process left, "duplicate" means stored for the one request that it was sending."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(requests=[_request(1, TICK), _request(2, TICK + 15), _request(3, TICK + 30)])
        bench.database.mark_sending(1)
        assert await _pushed(bench, _Scripted(DUPLICATE, DUPLICATE)) == [0, TICK, TICK + 30]
        assert [(one["status"], one["words"]) for one in bench.said.of("request_refused")] == [(400, DUPLICATE.words)]

    simulate(main())


def test_the_state_knows_which_answer_may_be_lost() -> None:
    """A request is noted as being sent before each attempt, and no longer once an answer says that it is not stored."""

    async def main() -> None:
        bench = StageBench()
        noted: list[int] = []

        class Noting(_Scripted):
            async def write(self, body: bytes) -> None:
                noted.append(bench.database.sending())
                await super().write(body)

        async def look() -> None:
            for _ in range(3):
                await asyncio.sleep(5)
                noted.append(-bench.database.sending())

        receiver = Noting(Transient("503", 10.0), Transient("cut", 10.0, lost=True), None, Transient("503", 10.0))
        looking = asyncio.create_task(look())
        await _pushed(bench, receiver, _batch(TICK, _request(1, TICK), _request(2, TICK)))
        await looking
        assert noted == [1, 0, 0, 1, -1, 1, 2, 2]
        assert bench.database.sending() == 0

    simulate(main())


LOST = Transient("no answer within 30 seconds", lost=True)
AWAY = Transient("503 later", answered=True)
DUPLICATE = Refused(400, "duplicate sample for timestamp")
TOO_LONG = Refused(400, "label too long")


@pytest.mark.guarantee("receiver.duplicate")
@pytest.mark.parametrize("words", ["out of order sample", "err-mimir-sample-duplicate-timestamp", "out-of-order"])
@pytest.mark.parametrize("status", [400, 409])
def test_a_refusal_of_what_is_known_means_stored_when_an_answer_was_lost(status: int, words: str) -> None:
    """A request of an earlier process, or one whose answer was lost, is stored when the receiver says it knows it."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(requests=[_request(1, TICK)])
        bench.database.mark_sending(1)
        known = Refused(status, words)
        receiver = _Scripted(known, LOST, AWAY, known)
        second = _batch(TICK + 15, _request(2, TICK + 15))
        assert await _pushed(bench, receiver, second) == [0, TICK, TICK + 15]
        assert receiver.bodies == [b"body-1", b"body-2", b"body-2", b"body-2"]
        assert not bench.said.of("request_refused")
        assert not bench.said.of("request_outcome_unknown")
        assert not bench.trouble.now

    simulate(main())


@pytest.mark.guarantee("receiver.series_limit")
def test_a_refusal_after_answered_attempts_is_a_refusal() -> None:
    """Answers such as 503 tell that nothing was stored: a 400 after them acknowledges nothing, whatever its words."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0), due=TICK)
        assert await _pushed(bench, _Scripted(AWAY, AWAY, DUPLICATE), _batch(TICK, _request(1, TICK))) == [0]
        assert [(one["status"], one["words"]) for one in bench.said.of("request_refused")] == [(400, DUPLICATE.words)]
        assert "refused" in bench.trouble.now["delivery"]
        assert "receiver" not in bench.trouble.now
        assert bench.database.acknowledged() == 0
        assert bench.database.outbox() == []

    simulate(main())


def test_what_became_of_a_request_may_stay_unknown_which_is_told() -> None:
    """With an answer lost, and words that say neither, a request counts as stored: its counts may not be sent twice."""

    async def main() -> None:
        bench = StageBench()
        receiver = _Scripted(LOST, TOO_LONG)
        assert await _pushed(bench, receiver, _batch(TICK, _request(1, TICK))) == [0, TICK]
        assert bench.said.of("request_outcome_unknown") == [{"error": str(TOO_LONG)}]
        assert not bench.said.of("request_refused")
        assert not bench.trouble.now

    simulate(main())


@pytest.mark.parametrize("lost", [False, True])
def test_a_request_given_up_is_not_stored_unless_an_answer_was_lost(lost: bool) -> None:
    """Each attempt was answered or never arrived: the request is dropped. One answer lost: nobody knows."""

    async def main() -> None:
        bench = StageBench()
        receiver = _Scripted(AWAY, LOST if lost else AWAY, *[AWAY] * 500)
        ticks = await _pushed(bench, receiver, _batch(TICK, _request(1, TICK)), seconds=600)
        assert ticks == ([0, TICK] if lost else [0])
        assert len(bench.said.of("request_outcome_unknown")) == lost
        assert len(bench.said.of("request_dropped")) == (not lost)
        assert ("delivery" in bench.trouble.now) == (not lost)

    simulate(main())


def test_a_receipt_comes_first_from_what_the_state_has() -> None:
    """Before anything is sent the deleter learns what had been acknowledged: a crash may have kept its files."""

    async def main() -> None:
        bench = StageBench()
        bench.database.mark_done([], TICK - 30)
        assert await _pushed(bench, _Scripted()) == [TICK - 30]

    simulate(main())


@pytest.mark.guarantee("receiver.first_refused")
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_told_not_resent_and_not_acknowledged(status: int) -> None:
    """A first refusal is said with the receiver's words; no receipt goes on until a later batch has made it good."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0), due=TICK)
        receiver = _Scripted(Refused(status, "too many labels"))
        first = _batch(TICK, _request(1, TICK), _request(2, TICK))
        assert await _pushed(bench, receiver, first, Batch(TICK + 15)) == [0]
        assert receiver.bodies == [b"body-1", b"body-2"]
        assert [(one["status"], one["words"]) for one in bench.said.of("request_refused")] == [
            (status, "too many labels")
        ]
        assert bench.database.outbox() == []
        assert bench.database.acknowledged() == 0
        assert bench.database.deletable(bench.database.acknowledged(), 9) == []

    simulate(main())


def test_the_next_accepted_tick_heals_a_refused_one() -> None:
    """Counters are cumulative: once a later batch is accepted whole, the refused tick's files may go."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(log_file(0), due=TICK)
        receiver = _Scripted(Refused(400, "x"), None, Refused(400, "y"))
        batches = [
            _batch(TICK, _request(1, TICK), _request(2, TICK)),
            _batch(TICK + 15, _request(3, TICK + 15)),
            Batch(TICK + 30),
            _batch(TICK + 45, _request(4, TICK + 45)),
        ]
        assert await _pushed(bench, receiver, *batches) == [0, TICK + 45]
        assert [what for what, _ in bench.trouble.ever] == ["delivery", "delivery"]
        assert [file.key for file in bench.database.deletable(bench.database.acknowledged(), 9)] == [log_file(0).key]
        assert not bench.trouble.now

    simulate(main())


@pytest.mark.guarantee("receiver.web_page")
def test_a_misconfigured_receiver_keeps_the_request() -> None:
    """401 and the like are said with a remedy and tried slowly for ever; nothing is lost or acknowledged meanwhile."""

    async def main() -> None:
        bench = StageBench()
        wrong = Misconfigured("401 unauthorized", "set PROMETHEUS_USER")
        receiver = _Scripted(*[wrong] * 500)
        loop = asyncio.get_running_loop()
        held: list[tuple[int, int, bool]] = []
        loop.call_later(
            14_000,
            lambda: held.append(
                (len(bench.database.outbox()), bench.database.acknowledged(), "receiver" in bench.trouble.now)
            ),
        )
        assert await _pushed(bench, receiver, _batch(TICK, _request(1, TICK))) == [0, TICK]
        assert held == [(1, 0, True)]
        assert receiver.bodies == [b"body-1"] * 501
        assert loop.time() > 4 * 3600
        assert bench.said.of("receiver_misconfigured")[0] == {"error": str(wrong), "remedy": "set PROMETHEUS_USER"}
        assert not bench.trouble.now

    simulate(main())


def test_a_passing_failure_is_retried_with_growing_waits() -> None:
    """Transient failures are retried in order, not before what Retry-After asks for, then acknowledged."""

    async def main() -> None:
        bench = StageBench()
        receiver = _Scripted(Transient("503", 11.0), Transient("reset"), Transient("429", 3.0))
        assert await _pushed(bench, receiver, _batch(TICK, _request(1, TICK), _request(2, TICK))) == [0, TICK]
        assert receiver.bodies == [b"body-1"] * 4 + [b"body-2"]
        assert receiver.times[1] >= 11
        assert receiver.times[3] - receiver.times[2] >= 3
        retries = bench.said.of("push_retried")
        assert [(one["attempt"], one["error"]) for one in retries] == [(1, "503"), (2, "reset"), (3, "429")]
        assert "receiver" in dict(bench.trouble.ever)
        assert not bench.trouble.now

    simulate(main())


@pytest.mark.guarantee("crash.stop_while_away")
def test_a_stop_leaves_what_the_receiver_does_not_take() -> None:
    """After the stop one failed attempt is enough: nothing is receipted, and the state still has every request."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(requests=[_request(1, TICK), _request(2, TICK)])
        receiver = _Scripted(Transient("503"), Transient("503"), Transient("503"))
        inbox, outlet = Channel[Batch](4, "in"), Channel[Receipt](4, "out")
        pusher = Pusher(bench.common, receiver, bench.state, Cumulative(), 3600, leaves=True)
        running = asyncio.create_task(pusher.run(inbox, outlet))
        await asyncio.sleep(0)
        bench.stop.set()
        async with inbox:
            await inbox.put(_batch(TICK, _request(3, TICK)))
        await running
        assert len(receiver.bodies) <= 2
        assert [one.number for one in bench.database.outbox()] == [1, 2]
        assert bench.said.of("outbox_left") == [{"requests": 2}]
        assert [receipt async for receipt in outlet] == [Receipt(0)]

    simulate(main())


def test_a_request_that_never_passes_is_given_up_after_its_time() -> None:
    """After the time for giving up one request is dropped, without a receipt, and the next goes out."""

    async def main() -> None:
        bench = StageBench()
        loop = asyncio.get_running_loop()

        class Poisoned(_Scripted):
            async def write(self, body: bytes) -> None:
                await super().write(body)
                if body == b"body-1":
                    raise Transient("500 it fails", answered=True)

        receiver = Poisoned()
        batches = [_batch(TICK, _request(1, TICK)), _batch(TICK + 15, _request(2, TICK + 15))]
        assert await _pushed(bench, receiver, *batches, seconds=600) == [0, TICK + 15]
        assert 600 <= loop.time() < 700
        (aside,) = bench.said.of("request_dropped")
        assert aside["error"] == "500 it fails"
        assert aside["attempts"] == receiver.bodies.count(b"body-1")
        assert receiver.bodies[-1] == b"body-2"
        assert bench.database.outbox() == []

    simulate(main())


def test_marking_as_done_is_tried_until_the_state_can_be_written() -> None:
    """No receipt goes on before the state has it; a full disk delays it."""

    async def main() -> None:
        bench = StageBench()
        refusals = 3

        class Refusing(InlineState):
            async def mark_done(self, numbers: Sequence[int], acknowledged: int | None, *more: Any) -> None:
                nonlocal refusals
                if refusals:
                    refusals -= 1
                    raise Transient("disk full")
                await super().mark_done(numbers, acknowledged, *more)

        bench.state = Refusing(bench.database)
        assert await _pushed(bench, _Scripted(), _batch(TICK, _request(1, TICK))) == [0, TICK]
        assert len(bench.said.of("state_commit_failed")) == 3
        assert bench.database.acknowledged() == TICK
        assert "state" not in bench.trouble.now

    simulate(main())


def test_an_error_that_is_no_answer_ends_the_stage_without_a_receipt() -> None:
    """A fault in the program is no refusal: it ends the stage, and the request stays."""

    async def main() -> None:
        bench = StageBench()
        bench.counted(requests=[_request(1, TICK)])
        inbox: Channel[Batch] = Channel(1)
        outlet: Channel[Receipt] = Channel(2)
        with pytest.raises(ValueError, match="a fault"):
            await Pusher(bench.common, _Scripted(ValueError("a fault")), bench.state, Cumulative(), 60).run(
                inbox, outlet
            )
        assert await outlet.get() == Receipt(0)
        assert len(outlet) == 0
        assert not await has_ended(outlet)
        assert len(bench.database.outbox()) == 1

    simulate(main())
