"""The per-key barrier: work in parallel, results in order within each key, and no key held up by another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from cdn77_exporter.flow.channel import Channel, Closed

In = TypeVar("In")
Out = TypeVar("Out")


class Places:
    """A number of places; whoever holds one keeps something in memory. Taken by one stage, freed by a later one."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self.highest = 0
        self._freed = asyncio.Event()

    def take(self) -> bool:
        """Take a place; False when there is none."""
        if self.taken >= self.most:
            self._freed.clear()
            return False
        self.taken += 1
        self.highest = max(self.highest, self.taken)
        return True

    def free(self, count: int = 1) -> None:
        """Give places back."""
        self.taken -= count
        self._freed.set()

    async def wait(self) -> None:
        """Until a place was given back since the last failed `take`."""
        await self._freed.wait()


class InOrder(Generic[In, Out]):
    """`work` on up to `places.most` items at once; each key's results leave in the order in which its items came.

    A result of None leaves nothing and frees its place at once; the place of any other is freed by whoever consumes
    it, or with `frees` when it has gone into the outbox. One key never takes the last place, so that a slow item holds
    up nothing but its own key. Keys that have less than their share of the places go first, of those the ones with the
    lowest `rank`, then what came first; and of results that are ready the one whose item came first leaves first. At
    most `lookahead` items wait. Once `stopped` says so, `drop` is called for what waits instead.
    """

    def __init__(
        self,
        work: Callable[[In], Awaitable[Out | None]],
        *,
        key: Callable[[In], Hashable],
        places: Places,
        lookahead: int,
        rank: Callable[[Hashable], float] = lambda _: 0.0,
        stopped: Callable[[], bool] = lambda: False,
        drop: Callable[[In], None] = lambda _: None,
        frees: bool = False,
    ) -> None:
        self._work = work
        self._key = key
        self._places = places
        self._lookahead = lookahead
        self._rank = rank
        self._stopped = stopped
        self._drop = drop
        self._frees = frees
        self._waiting: dict[Hashable, deque[tuple[int, In]]] = {}  # each with its number: how many came before it
        self._active: dict[Hashable, deque[tuple[int, asyncio.Task[Out | None]]]] = {}
        self._came = 0
        self._next: asyncio.Task[tuple[In] | None] | None = None
        self._ended = False
        self._lacks_place = False  # an item could begin, were there a place for it

    @property
    def waiting(self) -> int:
        """Items that are not begun."""
        return sum(map(len, self._waiting.values()))

    async def run(self, inbox: Channel[In], outbox: Channel[Out]) -> None:
        """Until the inbox has ended and all is done."""
        async with outbox, asyncio.TaskGroup() as tasks:
            while True:
                if self._stopped():
                    self._drop_waiting()
                self._begin(tasks)
                if self._ended and not self._waiting and not self._active:
                    return
                await self._something(inbox, tasks)
                await self._release(outbox)

    def _drop_waiting(self) -> None:
        for queue in self._waiting.values():
            for _, item in queue:
                self._drop(item)
        self._waiting.clear()

    def _begin(self, tasks: asyncio.TaskGroup) -> None:
        most = max(1, self._places.most - 1)
        while True:
            ready = [key for key in self._waiting if len(self._active.get(key, ())) < most]
            self._lacks_place = bool(ready) and not self._places.take()
            if not ready or self._lacks_place:
                return
            key = min(ready, key=self._turn)
            number, item = self._waiting[key].popleft()
            if not self._waiting[key]:
                del self._waiting[key]
            self._active.setdefault(key, deque()).append((number, tasks.create_task(self._call(item))))

    def _turn(self, key: Hashable) -> tuple[int, float, int]:
        """The smaller, the sooner the key's next item begins."""
        share = -(-self._places.most // len(self._active.keys() | self._waiting.keys()))
        return len(self._active.get(key, ())) // share, self._rank(key), self._waiting[key][0][0]

    async def _call(self, item: In) -> Out | None:
        return await self._work(item)

    async def _something(self, inbox: Channel[In], tasks: asyncio.TaskGroup) -> None:
        """Wait until an item comes, the first item of a key is done, or a place is free."""
        if self._next is None and not self._ended and self.waiting < self._lookahead:
            self._next = tasks.create_task(_next_of(inbox))
        waits: set[asyncio.Task[object]] = {queue[0][1] for queue in self._active.values()}
        if self._next is not None:
            waits.add(self._next)
        freed = tasks.create_task(self._places.wait()) if self._lacks_place else None
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

    async def _release(self, outbox: Channel[Out]) -> None:
        while ready := [(queue[0][0], key) for key, queue in self._active.items() if queue[0][1].done()]:
            _, key = min(ready, key=lambda one: one[0])  # what came first, so that no key runs ahead of the others
            _, task = self._active[key].popleft()
            if not self._active[key]:
                del self._active[key]
            result = task.result()
            if result is not None:
                await outbox.put(result)
            if result is None or self._frees:
                self._places.free()


async def _next_of(inbox: Channel[In]) -> tuple[In] | None:
    """The next item in a tuple, or None at the end: the end is no failure of the task group."""
    try:
        return (await inbox.get(),)
    except Closed:
        return None
