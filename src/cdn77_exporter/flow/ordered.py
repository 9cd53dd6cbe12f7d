"""The per-key barrier: work in parallel, results in order within each key, and no key held up by another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from cdn77_exporter.flow.channel import Channel, Closed

In = TypeVar("In")
Out = TypeVar("Out")


class Permits:
    """A bounded number of permits; whoever has one keeps something in memory."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._available = asyncio.Event()
        self._available.set()

    @property
    def available(self) -> bool:
        """True while there is one to take."""
        return self._available.is_set()

    def take(self) -> None:
        """Take a permit; there must be one."""
        if not self.available:
            raise RuntimeError(f"all {self.most} permits are taken")
        self.taken += 1
        if self.taken == self.most:
            self._available.clear()

    def free(self) -> None:
        """Give a permit back."""
        if not self.taken:
            raise RuntimeError("no permit is taken")
        self.taken -= 1
        self._available.set()

    async def wait(self) -> None:
        """Wait until a permit is available."""
        await self._available.wait()


class OrderedMap(Generic[In, Out]):
    """Do `work` on several items at once; each key's results leave in the order in which its items came.

    An item begins when there is a permit for it: `begin` takes it, whoever is done with the item frees it. One key
    takes at most as many as `most` says: never the last one, so that a slow item holds up nothing but its own key. Keys
    that have less than their share of the permits go first, of those the ones with the lowest `rank`, then what came
    first; and of results that are ready the one whose item came first leaves first. A result of None leaves nothing. At
    most `lookahead` items wait. Once `stop` is set, `drop` is called for what waits instead.
    """

    def __init__(
        self,
        work: Callable[[In], Awaitable[Out | None]],
        *,
        key: Callable[[In], Hashable],
        permits: Permits,
        begin: Callable[[In], None],
        drop: Callable[[In], None],
        stop: asyncio.Event,
        lookahead: int,
        rank: Callable[[Hashable], float] = lambda _: 0.0,
        most: Callable[[Hashable], int] | None = None,
    ) -> None:
        self._work = work
        self._key = key
        self._permits = permits
        self._begin = begin
        self._drop = drop
        self._stop = stop
        self._lookahead = lookahead
        self._rank = rank
        self._most = most or (lambda _: max(1, permits.most - 1))
        self._waiting: dict[Hashable, deque[tuple[int, In]]] = {}  # each with its number: how many came before it
        self._active: dict[Hashable, deque[tuple[int, asyncio.Task[Out | None]]]] = {}
        self._came = 0
        self._next: asyncio.Task[tuple[In] | None] | None = None
        self._ended = False
        self._lacks_permit = False  # an item could begin, were there a permit for it

    async def run(self, inbox: Channel[In], outlet: Channel[Out]) -> None:
        """Work until the inbox has ended and all is done."""
        async with outlet, asyncio.TaskGroup() as tasks:
            while True:
                if self._stop.is_set():
                    self._drop_waiting()
                self._begin_some(tasks)
                if self._ended and not self._waiting and not self._active:
                    return
                await self._something(inbox, tasks)
                await self._release_one(outlet)

    def _drop_waiting(self) -> None:
        for queue in self._waiting.values():
            for _, item in queue:
                self._drop(item)
        self._waiting.clear()

    def _begin_some(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            ready = [key for key in self._waiting if len(self._active.get(key, ())) < self._most(key)]
            self._lacks_permit = bool(ready) and not self._permits.available
            if not ready or self._lacks_permit:
                return
            key = min(ready, key=self._turn)
            number, item = self._waiting[key].popleft()
            if not self._waiting[key]:
                del self._waiting[key]
            self._begin(item)
            self._active.setdefault(key, deque()).append((number, tasks.create_task(self._call(item))))

    def _turn(self, key: Hashable) -> tuple[int, float, int]:
        """Return what orders the keys: the smaller, the sooner the key's next item begins."""
        share = -(-self._permits.most // len(self._active.keys() | self._waiting.keys()))
        return len(self._active.get(key, ())) // share, self._rank(key), self._waiting[key][0][0]

    async def _call(self, item: In) -> Out | None:
        return await self._work(item)

    async def _something(self, inbox: Channel[In], tasks: asyncio.TaskGroup) -> None:
        """Wait until an item comes, the first item of a key is done, or a permit is available."""
        waiting = sum(map(len, self._waiting.values()))
        if self._next is None and not self._ended and waiting < self._lookahead:
            self._next = tasks.create_task(_next_of(inbox))
        waits: set[asyncio.Task[object]] = {queue[0][1] for queue in self._active.values()}
        if self._next is not None:
            waits.add(self._next)
        freed = tasks.create_task(self._permits.wait()) if self._lacks_permit else None
        if freed is not None:
            waits.add(freed)
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if freed is not None:
            freed.cancel()
        if self._next is not None and self._next.done():
            self._arrive(self._next)
            self._next = None

    def _arrive(self, came: asyncio.Task[tuple[In] | None]) -> None:
        result = came.result()
        if result is None:
            self._ended = True
            return
        (item,) = result
        self._waiting.setdefault(self._key(item), deque()).append((self._came, item))
        self._came += 1

    async def _release_one(self, outlet: Channel[Out]) -> None:
        ready = [(queue[0][0], key) for key, queue in self._active.items() if queue[0][1].done()]
        if not ready:
            return
        _, key = min(ready, key=lambda one: one[0])  # what came first, so that no key runs ahead of the others
        _, task = self._active[key].popleft()
        if not self._active[key]:
            del self._active[key]
        result = task.result()
        if result is not None:
            await outlet.put(result)


async def _next_of(inbox: Channel[In]) -> tuple[In] | None:
    """Return the next item in a tuple, or None at the end: the end is no failure of the task group."""
    try:
        return (await inbox.get(),)
    except Closed:
        return None
