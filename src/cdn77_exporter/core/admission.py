"""Which streams count on their own: the bound on what invented stream names can make the program keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest

#: The stream name under which everything is counted that is over a bound.
OTHER = "other"


class Admission:
    """Streams that count under their own name.

    Up to half of a bound every stream does. From there on a new one does so from its first successful response (2xx or
    3xx); at the bound no new one does. `series`: how many series there are now.
    """

    def __init__(self, *, max_streams: int, max_series: int, series: Callable[[], int]) -> None:
        self._max_streams = max_streams
        self._max_series = max_series
        self._series = series
        self._admitted: dict[str, str] = {OTHER: OTHER}
        self.refused = 0  # requests counted under OTHER because of a bound

    def __len__(self) -> int:
        return len(self._admitted) - 1

    def admit(self, seen: Iterable[tuple[str, str]]) -> None:
        """Admit what may be admitted of streams seen with a response status; the order does not matter."""
        succeeded: set[str] = set()
        others: set[str] = set()
        for stream, status in seen:
            if stream not in self._admitted:
                good = status[:1] in "23" and len(status) == 3
                (succeeded if good else others).add(stream)
        # The successful ones first, so that a flood of invented names in the same file cannot take their place.
        self._admit(succeeded, 1.0)
        self._admit(others - succeeded, 0.5)

    def _admit(self, streams: set[str], share: float) -> None:
        """Admit in the order of names, up to this share of the bounds."""
        room = int(self._max_streams * share + 0.5) - len(self)
        if room > 0 and self._series() < self._max_series * share:
            for stream in nsmallest(room, streams):
                self._admitted[stream] = stream

    def name(self, stream: str) -> str:
        """The name under which the stream counts; always the same object for the same name."""
        return self._admitted.get(stream, OTHER)

    @property
    def limited(self) -> bool:
        """Whether new streams are no longer admitted as they come."""
        return len(self) >= self._max_streams * 0.5 or self._series() >= self._max_series * 0.5

    def restore(self, streams: Iterable[str]) -> None:
        """Take up streams that an earlier process had admitted."""
        for stream in streams:
            self._admitted.setdefault(stream, stream)
