"""The size of requests: at most as many samples as receivers take well, and less where one refuses requests as large.

What a receiver takes is not known before it refuses a request; its words hardly ever name a number. So the limit is
halved until requests pass, and after a while it is tried whether larger ones pass again.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The most samples of a request; larger ones are slower on real receivers.
MAX_SAMPLES = 2000
_NONE = 1 << 62
_TRY_LARGER_SECONDS = 3600.0  # until it is tried whether larger requests pass; twice as long after each that does not
_MOST_TRY_LARGER_SECONDS = 86_400.0


@dataclass(slots=True)
class RequestLimit:
    """The limit in force, in samples and in bytes before compression. It is set by one thread and read by others."""

    samples: int = _NONE
    size: int = _NONE

    @property
    def in_force(self) -> bool:
        """True if the receiver has refused a request for its size."""
        return self.samples < _NONE

    def allows(self, samples: int, size: int) -> bool:
        """Return whether a request may have so many samples and bytes."""
        return samples <= self.samples and size <= self.size


class LearnedLimit:
    """Sets a limit by what a receiver refuses and takes. Times are seconds of one clock."""

    def __init__(self, limit: RequestLimit) -> None:
        self.limit = limit
        self._before: tuple[int, int] | None = None  # the limit that held, while a larger one is tried
        self._told = False
        self._wait = _TRY_LARGER_SECONDS
        self._again = 0.0

    def refused(self, samples: int, size: int, now: float) -> None:
        """Lower the limit below a request that was refused for its size, if it is not below already."""
        if not self.limit.allows(samples, size):
            return
        if self._before is not None:
            lower, self._before = self._before, None
            self._wait = min(2 * self._wait, _MOST_TRY_LARGER_SECONDS)
            if samples <= lower[0] and size <= lower[1]:
                lower = (samples // 2, size // 2)
                self._told = False
        else:
            lower = (samples // 2, size // 2)
            self._told = False
        self.limit.samples, self.limit.size = max(1, lower[0]), max(1, lower[1])
        self._again = now + self._wait

    def taken(self, samples: int, size: int, now: float) -> bool:
        """Note a request that was stored; return whether that proves a limit of which nobody was told."""
        if self._before is not None and (samples > self._before[0] or size > self._before[1]):
            self._before, self._wait = None, _TRY_LARGER_SECONDS
            self._again = now + self._wait
        small = 2 * samples < self.limit.samples and 2 * size < self.limit.size
        if not self.limit.in_force or self._told or small:
            return False
        self._told = True
        return True

    def try_larger(self, now: float) -> bool:
        """Raise the limit twofold when it has held for long enough; return whether there is none any more."""
        if not self.limit.in_force or now < self._again:
            return False
        self._again = now + self._wait
        if self.limit.samples >= MAX_SAMPLES:
            self.limit.samples = self.limit.size = _NONE
            self._before, self._told, self._wait = None, False, _TRY_LARGER_SECONDS
            return True
        if self._before is None:
            self._before = (self.limit.samples, self.limit.size)
        self.limit.samples *= 2
        self.limit.size *= 2
        return False
