"""The per-key barrier: order within a key, independence between keys, and permits to the exact number."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.ordered import OrderedMap, Permits
from tests.support.examples import examples
from tests.support.stage_bench import has_ended
from tests.support.virtual_time import VirtualTimeLoop, simulate

Item = tuple[str, int]  # key, number


async def _settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def _feed(inbox: Channel[Item], items: list[Item]) -> None:
    async with inbox:
        for item in items:
            await inbox.put(item)


@dataclass
class _Bench:
    """Work that ends when it is told to, and what is under way."""

    permits: Permits
    gates: dict[Item, asyncio.Event] = field(default_factory=dict)
    begun: list[Item] = field(default_factory=list)
    dropped: list[Item] = field(default_factory=list)
    inbox: Channel[Item] = field(default_factory=lambda: Channel(4))
    outbox: Channel[Item] = field(default_factory=lambda: Channel(100))

    async def work(self, item: Item) -> Item | None:
        self.begun.append(item)
        await self.gates.setdefault(item, asyncio.Event()).wait()
        return item

    def finish(self, *items: Item) -> None:
        for item in items:
            self.gates.setdefault(item, asyncio.Event()).set()

    def barrier(
        self,
        lookahead: int = 100,
        stop: asyncio.Event | None = None,
        rank: Callable[[Hashable], float] = lambda _: 0.0,
    ) -> OrderedMap[Item, Item]:
        return OrderedMap(
            self.work,
            key=lambda item: item[0],
            permits=self.permits,
            begin=lambda _: self.permits.take(),
            drop=self.dropped.append,
            stop=stop or asyncio.Event(),
            lookahead=lookahead,
            rank=rank,
        )

    def free(self, count: int = 1) -> None:
        for _ in range(count):
            self.permits.free()

    async def out(self) -> list[Item]:
        """What has come out by now."""
        await _settle()
        return [await self.outbox.get() for _ in range(len(self.outbox))]


@examples(60)
@given(
    items=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.booleans()), max_size=40),
    most=st.integers(1, 6),
    lookahead=st.integers(1, 8),
)
def test_every_key_keeps_its_order_under_jitter(items: list[tuple[str, int, bool]], most: int, lookahead: int) -> None:
    """However long each item takes, a key's results come in its order, those of None left out, within the permits."""

    async def main() -> None:
        permits = Permits(most)
        inbox: Channel[tuple[int, str, int, bool]] = Channel(2)
        outbox: Channel[tuple[int, str]] = Channel(2)
        active = 0

        async def work(item: tuple[int, str, int, bool]) -> tuple[int, str] | None:
            nonlocal active
            active += 1
            assert active <= most
            number, key, seconds, counts = item
            await asyncio.sleep(seconds)
            active -= 1
            if not counts:
                permits.free()
            return (number, key) if counts else None

        async def feed() -> None:
            async with inbox:
                for number, item in enumerate(items):
                    await inbox.put((number, *item))

        barrier = OrderedMap(
            work,
            key=lambda item: item[1],
            permits=permits,
            begin=lambda _: permits.take(),
            drop=lambda _: None,
            stop=asyncio.Event(),
            lookahead=lookahead,
        )
        came: list[tuple[int, str]] = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed())
            tasks.create_task(barrier.run(inbox, outbox))
            async for number, key in outbox:
                came.append((number, key))
                await asyncio.sleep(1)
                permits.free()
        for wanted in "abc":
            expected = [number for number, (key, _, counts) in enumerate(items) if counts and key == wanted]
            assert [number for number, key in came if key == wanted] == expected
        assert permits.taken == 0

    simulate(main())


def test_at_most_the_permits_are_begun_and_each_freed_one_begins_one_more() -> None:
    """With nobody consuming, exactly as many items are in memory as there are permits, whatever waits."""

    async def main() -> None:
        bench = _Bench(Permits(4))
        items = [(key, number) for number in range(10) for key in "abc"]
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(bench.barrier().run(bench.inbox, bench.outbox))
            tasks.create_task(_feed(bench.inbox, items))
            bench.finish(*items)
            assert len(await bench.out()) == 4
            assert len(bench.begun) == bench.permits.taken == 4
            for freed in range(1, 27):
                bench.free()
                assert len(await bench.out()) == 1
                assert len(bench.begun) == 4 + freed
            bench.free(4)
            await run

    simulate(main())


def test_a_slow_key_holds_no_other_key() -> None:
    """While one key's first item never ends, and more of that key wait than there are permits, all others pass."""

    async def main() -> None:
        bench = _Bench(Permits(3))
        slow = [("slow", number) for number in range(20)]
        quick = [("quick", number) for number in range(20)]
        bench.finish(*quick)
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(bench.barrier().run(bench.inbox, bench.outbox))
            tasks.create_task(_feed(bench.inbox, [*slow, *quick]))
            came: list[Item] = []
            for _ in range(25):  # one place is left to the quick ones
                new = await bench.out()
                came += new
                bench.free(len(new))
            assert came == quick
            assert {item for item in bench.begun if item[0] == "slow"} == set(slow[:2])
            bench.finish(*slow)
            came = []
            while len(came) < 20:
                new = await bench.out()
                came += new
                bench.free(len(new))
            assert came == slow
            await run

    simulate(main())


def test_results_wait_for_the_one_before_them() -> None:
    """A key's later results are held until its first is done, while it keeps their permits."""

    async def main() -> None:
        bench = _Bench(Permits(8))
        items = [("a", number) for number in range(5)]
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(bench.barrier().run(bench.inbox, bench.outbox))
            tasks.create_task(_feed(bench.inbox, items))
            await _settle()
            bench.finish(*items[1:])
            assert await bench.out() == []
            assert bench.permits.taken == 5
            bench.finish(items[0])
            assert await bench.out() == items
            await run

    simulate(main())


def test_one_key_never_takes_the_last_permit() -> None:
    """Of n permits one key gets n - 1, so that another always finds one; a single permit is enough."""

    async def main(most: int, expected: int) -> None:
        bench = _Bench(Permits(most))
        run = asyncio.create_task(bench.barrier().run(bench.inbox, bench.outbox))
        feed = asyncio.create_task(_feed(bench.inbox, [("a", number) for number in range(20)]))
        await _settle()
        assert len(bench.begun) == expected
        run.cancel()
        feed.cancel()

    simulate(main(8, 7))
    simulate(main(2, 1))
    simulate(main(1, 1))


def test_keys_below_their_share_go_first_then_the_lowest_rank_then_what_came_first() -> None:
    """Of four permits and three keys a share is two: who has them waits for the others, whatever its rank."""

    async def main() -> None:
        bench = _Bench(Permits(4))
        ranks: dict[Hashable, float] = {"a": 3.0, "b": 1.0, "c": 1.0}
        first = [("a", 0), ("a", 1), ("a", 2)]
        rest = [("a", 3), ("b", 0), ("b", 1), ("c", 0), ("c", 1), ("b", 2)]
        run = asyncio.create_task(bench.barrier(rank=ranks.__getitem__).run(bench.inbox, bench.outbox))
        feed = asyncio.create_task(_feed(bench.inbox, first))
        await _settle()
        assert bench.begun == first  # alone it may have all permits but one
        await feed
        run.cancel()

        bench = _Bench(Permits(4))
        for _ in range(4):
            bench.permits.take()  # until all wait
        run = asyncio.create_task(bench.barrier(rank=ranks.__getitem__).run(bench.inbox, bench.outbox))
        feed = asyncio.create_task(_feed(bench.inbox, first + rest))
        await _settle()
        assert bench.begun == []
        for _ in range(4):
            bench.free()
            await _settle()
        assert bench.begun == [("b", 0), ("b", 1), ("c", 0), ("c", 1)]
        bench.finish(*first, *rest)
        for _ in range(9):
            bench.free(len(await bench.out()))
        assert bench.begun[4:6] == [("b", 2), ("a", 0)]
        assert Counter(bench.begun) == Counter(first + rest)
        await run
        await feed

    simulate(main())


def test_keys_stay_level() -> None:
    """Results that are ready at once leave in the order in which their items came, key by turns with key."""

    async def main() -> None:
        bench = _Bench(Permits(8))
        items = [(key, number) for number in range(20) for key in "abc"]
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(bench.barrier().run(bench.inbox, bench.outbox))
            tasks.create_task(_feed(bench.inbox, items))
            await _settle()
            assert bench.begun == items[:8]
            bench.finish(*items)
            came: list[Item] = []
            while len(came) < len(items):
                new = await bench.out()
                came += new
                bench.free(len(new))
            assert came == items
            await run

    simulate(main())


def test_at_most_the_lookahead_waits() -> None:
    """Items beyond the lookahead stay in the inbox, so that backpressure reaches whoever fills it."""

    async def main() -> None:
        bench = _Bench(Permits(1))
        barrier = bench.barrier(lookahead=3)
        run = asyncio.create_task(barrier.run(bench.inbox, bench.outbox))
        put: list[Item] = []

        async def feed() -> None:
            for number in range(50):
                await bench.inbox.put(("a", number))
                put.append(("a", number))

        feeding = asyncio.create_task(feed())
        await _settle()
        assert (len(bench.begun), len(bench.inbox), len(put)) == (1, 4, 1 + 3 + 4)
        run.cancel()
        feeding.cancel()

    simulate(main())


def test_a_stop_drops_what_waits_and_finishes_what_is_begun() -> None:
    """After a stop nothing new is begun: what waits or still comes is dropped, what is under way comes out in order."""

    async def main() -> None:
        bench = _Bench(Permits(2))
        stop = asyncio.Event()
        items = [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]
        async with asyncio.TaskGroup() as tasks:
            barrier = bench.barrier(stop=stop)
            tasks.create_task(barrier.run(bench.inbox, bench.outbox))
            for item in items:
                await bench.inbox.put(item)
            await _settle()
            assert bench.begun == [("a", 0), ("b", 0)]
            stop.set()
            async with bench.inbox:
                await bench.inbox.put(("c", 0))
            bench.finish(*items)
            assert sorted(await bench.out()) == [("a", 0), ("b", 0)]
        assert sorted(bench.dropped) == [("a", 1), ("a", 2), ("b", 1), ("c", 0)]
        assert bench.begun == [("a", 0), ("b", 0)]
        assert await has_ended(bench.outbox)

    simulate(main())


def test_a_result_of_none_leaves_nothing_and_holds_nothing() -> None:
    """Items that come to nothing leave no trace: their work frees their permits and the next ones come out."""

    async def main() -> None:
        permits = Permits(2)
        inbox: Channel[Item] = Channel(4)
        outbox: Channel[Item] = Channel(4)

        async def work(item: Item) -> Item | None:
            if item[1] % 5 == 0:
                return item
            permits.free()
            return None

        async with asyncio.TaskGroup() as tasks:
            barrier = OrderedMap(
                work,
                key=lambda item: item[0],
                permits=permits,
                begin=lambda _: permits.take(),
                drop=lambda _: None,
                stop=asyncio.Event(),
                lookahead=10,
            )
            tasks.create_task(barrier.run(inbox, outbox))
            tasks.create_task(_feed(inbox, [("a", number) for number in range(12)]))
            came = []
            async for item in outbox:
                came.append(item[1])
                permits.free()
        assert came == [0, 5, 10]
        assert permits.taken == 0

    simulate(main())


def test_work_that_fails_ends_the_run_with_its_error_and_leaves_the_outbox_open() -> None:
    """An error of the work travels up, what is under way is cancelled, and the consumer sees no end."""

    async def main() -> None:
        bench = _Bench(Permits(3))
        cancelled: list[Item] = []

        async def work(item: Item) -> Item | None:
            if item[0] == "bad":
                raise ValueError("a fault")
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(item)
                raise
            return item

        bench.work = work  # type: ignore[method-assign]
        barrier = bench.barrier()
        await bench.inbox.put(("good", 0))
        await bench.inbox.put(("bad", 0))
        with pytest.raises(ExceptionGroup) as caught:
            await barrier.run(bench.inbox, bench.outbox)
        assert caught.group_contains(ValueError, match="a fault")
        assert cancelled == [("good", 0)]
        assert not await has_ended(bench.outbox)

    simulate(main())


def test_a_full_house_waits_without_turning() -> None:
    """When all permits are taken and every waiting key has its share, the barrier sleeps until something happens."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        bench = _Bench(Permits(3))
        run = asyncio.create_task(bench.barrier().run(bench.inbox, bench.outbox))
        # One of b goes out and is held downstream; its permit was taken after another had been freed.
        bench.finish(("b", 0), ("b", 1))
        for item in [("b", 0), ("b", 1)]:
            await bench.inbox.put(item)
        assert await bench.out() == [("b", 0), ("b", 1)]
        bench.free()
        for number in range(4):
            await bench.inbox.put(("a", number))
        await _settle()
        assert (bench.permits.taken, len(bench.begun)) == (3, 4)
        await asyncio.sleep(1)
        before = loop.turns
        await asyncio.sleep(1)
        assert before < 10
        assert loop.turns < 10
        run.cancel()

    simulate(main())


def test_permits_are_bounded_and_wake_whoever_waits_for_one() -> None:
    """Waiting for a permit ends as soon as one is free; taking one that is not there is a fault, as is giving back."""

    async def main() -> None:
        permits = Permits(1)
        await permits.wait()
        permits.take()
        with pytest.raises(RuntimeError, match="all 1 permits"):
            permits.take()
        waiting = asyncio.create_task(permits.wait())
        await _settle()
        assert not waiting.done()
        permits.free()
        await waiting
        with pytest.raises(RuntimeError, match="no permit"):
            permits.free()

    simulate(main())
