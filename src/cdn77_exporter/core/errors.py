"""The errors that cross a border between layers, each classified once, where it arises."""

from __future__ import annotations

import re

#: How receivers say that they take no native histograms at all; one that is out of order is another matter.
NO_HISTOGRAMS = re.compile(
    r"(?<!order )native histograms?( ingestion)? (is|are) (disabled|not (enabled|supported))", re.IGNORECASE
)
#: How receivers say that samples are older than they take.
TOO_OLD = re.compile(r"too old|out of bounds|too far in (the )?past|outside (of )?(the )?retention", re.IGNORECASE)

#: How they say that a request is larger than they take: of Mimir, Thanos, VictoriaMetrics, proxies.
TOO_LARGE = re.compile(
    r"(request|body|payload|entity|message|content)\b.{0,40}\btoo (large|big)"
    r"|too (large|big)\b.{0,40}\b(request|body|payload|entity|message)"
    r"|(request|body|payload|entity|message) size\b.{0,60}\b(exceed|larger|limit|max)"
    r"|(request|body|payload|entity|message) larger than\b"
    r"|too many (samples|series|time ?series)\b.{0,20}\brequest",
    re.IGNORECASE,
)
_TOO_LARGE_STATUS = 413


class ConfigError(Exception):
    """The configuration cannot be used; `faults` names every fault, one sentence each. Exit code 2."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Transient(Exception):
    """The same call may work later; `retry_after` is the wait in seconds that the server asked for.

    `answered`: the server itself said so, and has not done what it was asked. `lost`: it may have done it, since the
    connection broke or the time ran out before its answer arrived; or it has done a part of it, as `written` says, the
    number of samples. `remedy` says in a sentence what to do.
    """

    def __init__(
        self,
        reason: str,
        retry_after: float | None = None,
        *,
        answered: bool = False,
        lost: bool = False,
        written: int | None = None,
        remedy: str = "it is tried again",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.answered = answered
        self.lost = lost
        self.written = written
        self.remedy = remedy

    def within(self, seconds: float) -> Transient:
        """Return the same with a wait of at most so many seconds, if the server asked for one."""
        wait = None if self.retry_after is None else min(self.retry_after, seconds)
        return Transient(
            self.reason, wait, answered=self.answered, lost=self.lost, written=self.written, remedy=self.remedy
        )


class Misconfigured(Exception):
    """The server refuses until an operator acts; `remedy` says in a sentence what to do.

    `of_object`: it refuses one object, and may give out others.
    """

    def __init__(self, reason: str, remedy: str, *, of_object: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.of_object = of_object


class UnsupportedVersion(Misconfigured):
    """The receiver does not take this version of remote write."""


class NotUnderstood(Transient):
    """The receiver has not understood a request of remote write 2.0: it may take the same as one of 1.0."""


class Refused(Exception):
    """The receiver refused this request permanently. `status`, `words`: its answer, cut to 500 characters.

    `written`: how many of its samples were stored all the same, as the receiver says; None when it does not.
    """

    def __init__(self, status: int, words: str, written: int | None = None) -> None:
        super().__init__(f"{status}: {words}")
        self.status = status
        self.words = words
        self.written = written

    @property
    def too_old(self) -> bool:
        """True if the samples are older than the receiver takes, so that none of them can be stored."""
        return TOO_OLD.search(self.words) is not None

    @property
    def too_large(self) -> bool:
        """True if the request is larger than the receiver takes, so that smaller ones may pass."""
        return self.status == _TOO_LARGE_STATUS or TOO_LARGE.search(self.words) is not None


class HistogramsRefused(Refused):
    """The receiver takes no native histograms, and refuses a request that has some as a whole."""


class FileGone(Exception):
    """The object is no longer in the bucket, or has been replaced since it was listed."""


class Unreadable(Exception):
    """A file that cannot be counted, whole or in part; `reason` is one of `reasons.UNREADABLE_REASONS`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Conflict(Exception):
    """A conditional write failed: the object is not in the state that the condition named."""


class StateError(Exception):
    """The state cannot be opened or written; `remedy` says in a sentence what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class StateLocked(Exception):
    """Another process holds the state; waiting for it may help."""


class LeaseLost(Exception):
    """Another process has taken the lease; this one must end."""
