"""Channels: bounded to the exact number, in order, and closed by success only."""

from __future__ import annotations

import asyncio

import pytest

from cdn77_exporter.flow.channel import Channel, Closed
from tests.support.virtual_time import simulate


async def _settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_a_producer_waits_at_exactly_the_capacity(capacity: int) -> None:
    """A channel that nobody reads holds exactly its capacity, and each item taken lets in exactly one more."""

    async def main() -> None:
        channel: Channel[int] = Channel(capacity)
        put: list[int] = []

        async def produce() -> None:
            async with channel:
                for number in range(20):
                    await channel.put(number)
                    put.append(number)

        producer = asyncio.create_task(produce())
        await _settle()
        assert (len(channel), len(put)) == (capacity, capacity)
        for taken in range(5):
            assert await channel.get() == taken
            await _settle()
            assert (len(channel), len(put)) == (capacity, capacity + taken + 1)
        producer.cancel()

    simulate(main())


def test_items_come_in_the_order_in_which_they_were_put() -> None:
    """What comes out is what went in, in order, and then the end."""

    async def main() -> None:
        channel: Channel[int] = Channel(3)

        async def produce() -> None:
            async with channel:
                for number in range(50):
                    await channel.put(number)
                    await asyncio.sleep(number % 3)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(produce())
            assert [item async for item in channel] == list(range(50))
        with pytest.raises(Closed):
            await channel.get()

    simulate(main())


def test_what_was_put_before_the_end_is_still_there_after_it() -> None:
    """Closing a channel loses none of the items in it."""

    async def main() -> None:
        channel: Channel[str] = Channel(4)
        async with channel:
            await channel.put("a")
            await channel.put("b")
        assert [item async for item in channel] == ["a", "b"]

    simulate(main())


def test_a_waiting_consumer_learns_of_the_end() -> None:
    """A consumer that waits at an empty channel is told when the producer ends."""

    async def main() -> None:
        channel: Channel[int] = Channel(1)
        consumer = asyncio.create_task(channel.get())
        await _settle()
        assert not consumer.done()
        async with channel:
            pass
        with pytest.raises(Closed):
            await consumer

    simulate(main())


@pytest.mark.parametrize("failure", [ValueError("a fault"), asyncio.CancelledError()])
def test_a_producer_that_fails_does_not_end_its_channel(failure: BaseException) -> None:
    """When the producer leaves by an error or a cancellation the channel stays open, so a crash is no end of input."""

    async def main() -> None:
        channel: Channel[int] = Channel(2)
        with pytest.raises(type(failure)):
            async with channel:
                await channel.put(1)
                raise failure
        assert await channel.get() == 1
        consumer = asyncio.create_task(channel.get())
        await _settle()
        assert not consumer.done()
        consumer.cancel()

    simulate(main())


def test_take_gives_what_is_there_up_to_its_most() -> None:
    """A take is at most as many as asked for, oldest first, and does not wait for more than the first."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        channel: Channel[int] = Channel(10)
        for number in range(5):
            await channel.put(number)
        assert await channel.take(3, seconds=1.0) == [0, 1, 2]
        assert await channel.take(3, seconds=1.0) == [3, 4]
        assert loop.time() == 0

    simulate(main())


def test_take_comes_back_empty_when_nothing_comes_in_time() -> None:
    """A take of an empty channel ends after its seconds with nothing, and before them with the first item."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        channel: Channel[int] = Channel(1)
        assert await channel.take(3, seconds=2.5) == []
        assert loop.time() == pytest.approx(2.5)
        loop.call_later(1.0, lambda: asyncio.ensure_future(channel.put(7)))
        assert await channel.take(3, seconds=2.5) == [7]
        assert loop.time() == pytest.approx(3.5)

    simulate(main())


def test_take_loses_nothing_when_an_item_comes_as_its_time_ends() -> None:
    """Items that come at the very instant of the timeout are in this take or in the next, each once."""

    async def main() -> None:
        channel: Channel[int] = Channel(4)

        async def produce() -> None:
            async with channel:
                for number in range(40):
                    await asyncio.sleep(1.0)
                    await channel.put(number)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(produce())
            taken: list[int] = []
            with pytest.raises(Closed):
                while True:
                    taken += await channel.take(2, seconds=1.0)
        assert taken == list(range(40))

    simulate(main())


def test_take_tells_the_end() -> None:
    """A take raises Closed once the channel has ended and is empty, not while something is left."""

    async def main() -> None:
        channel: Channel[int] = Channel(4)
        async with channel:
            await channel.put(1)
        assert await channel.take(8, seconds=1.0) == [1]
        with pytest.raises(Closed):
            await channel.take(8, seconds=1.0)

    simulate(main())


@pytest.mark.parametrize("capacity", [1, 3])
def test_closing_never_waits_and_takes_no_room(capacity: int) -> None:
    """A full channel is closed at once; its length is the number of items, and every consumer learns of the end."""

    async def main() -> None:
        channel: Channel[int] = Channel(capacity)
        async with channel:
            for number in range(capacity):
                await channel.put(number)
        assert len(channel) == capacity
        assert await channel.take(9) == list(range(capacity))
        assert len(channel) == 0
        consumers = [asyncio.create_task(channel.get()) for _ in range(3)]
        for consumer in consumers:
            with pytest.raises(Closed):
                await consumer

    simulate(main())
