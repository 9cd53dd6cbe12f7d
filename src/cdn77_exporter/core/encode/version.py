"""The version of remote write: the one in force, and the one that a request has, which its own bytes tell.

None of the fields of a request of 2.0 has a number of one of 1.0, and symbols come first, so one byte is enough. A
request that an earlier process has left needs nothing beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_TAGS_OF_2 = (0x22, 0x2A)  # symbols and series


class RemoteWriteVersion(StrEnum):
    """The version that is wanted; `auto`: 2.0 as soon and as long as the receiver understands it."""

    AUTO = "auto"
    ONE = "1"
    TWO = "2"


@dataclass(slots=True)
class Spoken:
    """The version in which ticks are written now, 1 or 2. It is set by one thread and read by others."""

    wanted: RemoteWriteVersion = RemoteWriteVersion.ONE
    version: int = 1

    def want(self, wanted: RemoteWriteVersion) -> None:
        """Set the version that is wanted; ticks are written in the best one until the receiver is known."""
        self.wanted = wanted
        self.version = 1 if wanted is RemoteWriteVersion.ONE else 2


def version_of(body: bytes) -> int:
    """Return the version of a request, 1 or 2; its first bytes are looked at, and nothing is inflated."""
    place = 0
    try:
        while body[place] & 0x80:  # the length
            place += 1
        literal = body[place + 1] >> 2  # what comes first is a literal, as there is nothing to copy yet
        return 2 if body[place + 2 + max(0, literal - 59)] in _TAGS_OF_2 else 1
    except IndexError:
        return 1
