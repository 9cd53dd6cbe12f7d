"""Work on several items at a time, in the order in which they came: parallel batches, results first in, first out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from cdn77_exporter.flow.channel import Channel, Closed

In = TypeVar("In")
Out = TypeVar("Out")


class BatchedMap(Generic[In, Out]):
    """Do `work` on batches of up to `batch_size` items, `concurrency` batches at once; results leave in their order.

    A batch is what is there when there is room for one; it never waits for more. While `concurrency` batches are being
    worked on nothing is taken, so that what waits meanwhile becomes a larger batch. As many again may be done and wait
    for one before them, or for room in the outlet. A result of None leaves nothing.
    """

    def __init__(
        self, work: Callable[[Sequence[In]], Awaitable[Out | None]], *, batch_size: int, concurrency: int
    ) -> None:
        self._work = work
        self._batch_size = batch_size
        self._work_room = asyncio.Semaphore(concurrency)
        self._room = asyncio.Semaphore(2 * concurrency)

    async def run(self, inbox: Channel[In], outlet: Channel[Out]) -> None:
        """Work until the inbox has ended and all is done."""
        begun: asyncio.Queue[asyncio.Task[Out | None] | None] = asyncio.Queue()
        async with outlet, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._begin(inbox, begun, tasks))
            while (batch := await begun.get()) is not None:
                result = await batch
                if result is not None:
                    await outlet.put(result)
                self._room.release()

    async def _begin(
        self, inbox: Channel[In], begun: asyncio.Queue[asyncio.Task[Out | None] | None], tasks: asyncio.TaskGroup
    ) -> None:
        while True:
            await self._room.acquire()
            await self._work_room.acquire()
            try:
                items = await inbox.take(self._batch_size)
            except Closed:
                begun.put_nowait(None)
                return
            begun.put_nowait(tasks.create_task(self._call(items)))

    async def _call(self, items: Sequence[In]) -> Out | None:
        try:
            return await self._work(items)
        finally:
            self._work_room.release()
