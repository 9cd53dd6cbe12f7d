"""The results of decoding files: the facts about each, and the counts of all of them together.

Counts of files that are counted in one step may be joined before: the step adds up the same numbers. What is about a
single file, such as its lines, how far it has brought its shard, or why it cannot be read, stays apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cdn77_exporter.core.columns import Counts, join
from cdn77_exporter.core.content import NOTHING, Content
from cdn77_exporter.core.errors import FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.unknown_agents import UnknownAgents


@dataclass(slots=True)
class Example:
    """One rejected line, with nothing personal in it."""

    line: int
    reason: str
    excerpt: str


@dataclass(slots=True)
class FileStats:
    """The facts about one file. `requests`: its events by their tick (Unix seconds); times in Unix milliseconds."""

    lines: int = 0
    events: int = 0
    bytes: int = 0  # that were sent to clients
    rejects: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)  # malformed values of events, by field
    oldest_ms: int = 0  # 0 without an event, as the next
    newest_ms: int = 0
    seconds: float = 0.0  # what decoding took
    requests: dict[int, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    content: Content = NOTHING
    unknown_agents: UnknownAgents = field(default_factory=UnknownAgents)


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a file counts nothing: an error of `core.errors` as plain values, which survive a journey."""

    kind: str
    reason: str = ""
    more: str = ""  # an unreadable file's detail, or the remedy

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return what an error says; other errors than those of `error` are raised again."""
        if isinstance(error, Unreadable):
            return cls("unreadable", error.reason, error.detail)
        if isinstance(error, Misconfigured):
            return cls("refused" if error.of_object else "misconfigured", error.reason, error.remedy)
        if isinstance(error, Transient):
            return cls("transient", error.reason)
        if isinstance(error, FileGone):
            return cls("gone", str(error))
        raise error

    def error(self) -> Unreadable | Misconfigured | Transient | FileGone:
        """Return the error again."""
        if self.kind == "unreadable":
            return Unreadable(self.reason, self.more)
        if self.kind in ("misconfigured", "refused"):
            return Misconfigured(self.reason, self.more, of_object=self.kind == "refused")
        return Transient(self.reason) if self.kind == "transient" else FileGone(self.reason)


@dataclass(slots=True)
class Decoded:
    """Each file's stats or failure, in the order of the files, and what those with stats count together."""

    files: list[FileStats | Failure] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)

    @classmethod
    def joined(cls, parts: Iterable[Decoded]) -> Decoded:
        """Return the files of all parts, one part after the other."""
        parts = list(parts)
        return cls([file for part in parts for file in part.files], join([part.counts for part in parts]))
