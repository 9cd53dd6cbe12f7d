"""A bounded queue between two stages, which its producer owns and closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The channel has ended: nothing more will come."""


class _End:
    """The mark behind the last item."""


_END: Final = _End()


class Channel(Generic[T]):
    """Hold at most `capacity` items; `put` waits for room, `get` for an item.

    `async with channel:` closes it when its producer ends well. When the producer fails the channel stays open: a
    consumer must not take a crash for the end of the input.
    """

    def __init__(self, capacity: int, name: str = "") -> None:
        self.name = name
        self.capacity = capacity
        self._queue: asyncio.Queue[T | _End] = asyncio.Queue(capacity)
        self._closing = False  # the producer has ended, and the mark is not in the queue yet
        self._marked = False

    def __len__(self) -> int:
        return self._queue.qsize() - self._marked

    async def put(self, item: T) -> None:
        """Add an item; waits while the channel is full."""
        await self._queue.put(item)

    async def get(self) -> T:
        """Take the oldest item; raises Closed at the end."""
        return self._opened(await self._queue.get())

    async def take(self, most: int, seconds: float | None = None) -> list[T]:
        """Take what is there, up to `most`; wait `seconds` at most for the first. Raises Closed at the end."""
        try:
            async with asyncio.timeout(seconds):
                items = [await self.get()]
        except TimeoutError:
            return []
        while len(self) and len(items) < most:
            items.append(self._opened(self._queue.get_nowait()))
        return items

    def _opened(self, found: T | _End) -> T:
        if isinstance(found, _End):
            self._queue.put_nowait(_END)  # for whoever asks next
            raise Closed
        self._mark()
        return found

    def _mark(self) -> None:
        """Put the mark behind the last item, as soon as there is room for it: closing never waits."""
        if self._closing and not self._queue.full():
            self._closing, self._marked = False, True
            self._queue.put_nowait(_END)

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
            self._closing = True
            self._mark()
