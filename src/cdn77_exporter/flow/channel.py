"""A bounded queue between two stages, which its producer owns and closes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The channel has ended: nothing more will come."""


class Channel(Generic[T]):
    """At most `capacity` items; `put` waits for room, `get` for an item.

    `async with channel:` closes it when its producer ends well. When the producer fails the channel stays open: a
    consumer must not take a crash for the end of the input.
    """

    def __init__(self, capacity: int, name: str = "") -> None:
        self.name = name
        self.capacity = capacity
        self._items: deque[T] = deque()
        self._closed = False
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def closed(self) -> bool:
        """Whether the producer has ended; items may still be there."""
        return self._closed

    async def put(self, item: T) -> None:
        """Add an item; waits while the channel is full."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._items) < self.capacity)
            self._items.append(item)
            self._changed.notify_all()

    async def get(self) -> T:
        """Take the oldest item; raises Closed at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._items or self._closed)
            if not self._items:
                raise Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    async def take(self, most: int, seconds: float | None = None) -> list[T]:
        """What is there, up to `most`; waits for the first, at most `seconds` if given. Raises Closed at the end."""
        try:
            async with asyncio.timeout(seconds):
                items = [await self.get()]
        except TimeoutError:
            return []
        while self._items and len(items) < most:
            items.append(await self.get())
        return items

    async def __aiter__(self) -> AsyncIterator[T]:
        try:
            while True:
                yield await self.get()
        except Closed:
            return

    async def __aenter__(self) -> Channel[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            async with self._changed:
                self._closed = True
                self._changed.notify_all()
