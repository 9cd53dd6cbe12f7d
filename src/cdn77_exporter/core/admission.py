"""Admits streams and values of labels to be counted under their own names: invented ones take no more memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.keys import Codes

#: The stream name under which everything beyond a limit is counted.
OTHER = "other"


class Admission:
    """The streams that are counted under their own names.

    Up to half of a limit every stream is. From there on a new one is admitted with its first successful response (2xx
    or 3xx); at the limit no new one is. `series`: returns the number of series now.
    """

    def __init__(self, *, max_streams: int, max_series: int, series: Callable[[], int]) -> None:
        self._max_streams = max_streams
        self._max_series = max_series
        self._series = series
        self._admitted: dict[str, str] = {OTHER: OTHER}
        self.refused = 0  # requests counted under OTHER because of a limit

    def __len__(self) -> int:
        return len(self._admitted) - 1

    def admit(self, seen: Iterable[tuple[str, str]]) -> None:
        """Admit streams seen with a response status, as far as the limits allow; their order does not matter."""
        succeeded: set[str] = set()
        others: set[str] = set()
        for stream, status in seen:
            if stream not in self._admitted:
                good = status[:1] in "23" and len(status) == 3
                (succeeded if good else others).add(stream)
        # The successful ones first, so that a flood of invented names in the same file cannot displace them.
        self._admit(succeeded, 1.0)
        self._admit(others - succeeded, 0.5)

    def _admit(self, streams: set[str], share: float) -> None:
        """Admit streams in the order of their names, up to this share of the limits."""
        room = int(self._max_streams * share + 0.5) - len(self)
        if room > 0 and self._series() < self._max_series * share:
            for stream in nsmallest(room, streams):
                self._admitted[stream] = stream

    def name(self, stream: str) -> str:
        """Return the name under which the stream is counted; always the same object for the same name."""
        return self._admitted.get(stream, OTHER)

    def forget(self, streams: Iterable[str]) -> None:
        """Free the admission of streams that no longer have a series."""
        for stream in streams:
            if stream != OTHER:
                self._admitted.pop(stream, None)

    def restore(self, streams: Iterable[str]) -> None:
        """Admit the streams that an earlier process had admitted."""
        for stream in streams:
            self._admitted.setdefault(stream, stream)


class AdmittedValues:
    """The values of one label that count under their own names, `most` at a time.

    Of more at once those with most requests do, so that a flood of invented ones does not displace the others.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.known: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)  # by text

    def refuse(self, codes: Codes, requests: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Admit texts [rows] as far as there is room; return which rows have one that is not admitted."""
        refused = ~self.known[codes]
        if refused.any():
            new, rows = np.unique(codes[refused], return_inverse=True)
            room = max(0, self._most - int(np.count_nonzero(self.known)))
            if len(new) > room:
                order = np.argsort(-np.bincount(rows.ravel(), requests[refused]), kind="stable")
                new = new[order[:room]]
            self.known[new] = True
            refused = ~self.known[codes]
        return refused

    def reach(self, end: int) -> None:
        """Make room for the texts below `end`."""
        self.known = np.append(self.known, np.zeros(max(0, end - len(self.known)), np.bool_))
