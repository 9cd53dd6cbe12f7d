"""Work on several items at a time, in the order in which they came: parallel groups, results first in, first out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from cdn77_exporter.flow.channel import Channel, Closed

In = TypeVar("In")
Out = TypeVar("Out")


class InGroups(Generic[In, Out]):
    """`work` on groups of up to `most` items, up to `width` groups at once; results leave in the order of the groups.

    A group is what is there when there is room for one; it never waits for more. While `width` groups are under way
    nothing is taken, so that what waits meanwhile becomes a larger group. A result of None leaves nothing.
    """

    def __init__(self, work: Callable[[Sequence[In]], Awaitable[Out | None]], *, most: int, width: int) -> None:
        self._work = work
        self._most = most
        self._room = asyncio.Semaphore(width)

    async def run(self, inbox: Channel[In], outbox: Channel[Out]) -> None:
        """Until the inbox has ended and all is done."""
        begun: asyncio.Queue[asyncio.Task[Out | None] | None] = asyncio.Queue()
        async with outbox, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._begin(inbox, begun, tasks))
            while (group := await begun.get()) is not None:
                result = await group
                if result is not None:
                    await outbox.put(result)

    async def _begin(
        self, inbox: Channel[In], begun: asyncio.Queue[asyncio.Task[Out | None] | None], tasks: asyncio.TaskGroup
    ) -> None:
        while True:
            await self._room.acquire()
            try:
                items = await inbox.take(self._most)
            except Closed:
                begun.put_nowait(None)
                return
            begun.put_nowait(tasks.create_task(self._call(items)))

    async def _call(self, items: Sequence[In]) -> Out | None:
        try:
            return await self._work(items)
        finally:
            self._room.release()
