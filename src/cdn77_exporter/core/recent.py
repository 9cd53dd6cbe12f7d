"""Answers that were asked for lately, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Remembers what `ask` says for a key: at most `most` answers, and at least those of the last half as many keys.

    To empty the whole of a full memory would lose what is asked for all the time, and that all at once.
    """

    def __init__(self, ask: Callable[[K], V], most: int) -> None:
        self._ask = ask
        self._half = max(1, most // 2)
        self._newer: dict[K, V] = {}
        self._older: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def __call__(self, key: K) -> V:
        """The answer for a key; None is not remembered."""
        found = self._newer.get(key)
        if found is None:
            found = self._older.pop(key, None)
            if found is None:
                found = self._ask(key)
            if len(self._newer) >= self._half:
                self._older = self._newer
                self._newer = {}
            self._newer[key] = found
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._newer, self._older = {}, {}
