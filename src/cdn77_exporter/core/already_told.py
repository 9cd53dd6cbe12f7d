"""The part of files that was told already, when a process goes on from a copy or a backup of a state."""

from __future__ import annotations

from dataclasses import dataclass

from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.files import LogFile

_NO_LATER = 2**62


@dataclass(frozen=True, slots=True)
class AlreadyTold:
    """All up to `tick` (Unix seconds) of the files that were uploaded until `uploaded_ms` (Unix ms); 0, 0 for nothing.

    Those that are still in the bucket are not in the ledger, and what that process told of them must not count again.
    """

    tick: int = 0
    uploaded_ms: int = 0

    def covers(self, file: LogFile) -> bool:
        """Return whether some of a file may have been told."""
        return file.modified_ms <= self.uploaded_ms

    def rest_of(self, stats: FileStats, counts: Counts) -> Counts:
        """Return what of a file was not told, and leave the rest out of the requests by tick."""
        stats.requests = {tick: count for tick, count in stats.requests.items() if tick > self.tick}
        return counts.of_ticks(self.tick + 1, _NO_LATER)


NOTHING_TOLD = AlreadyTold()
