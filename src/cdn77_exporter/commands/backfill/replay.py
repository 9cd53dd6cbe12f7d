"""Counts old log files as if an exporter had run at their time: the same ticks, zeros, windows and gaps."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdn77_exporter.commands.log_folder import decode_path
from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.measures import MEASURES, Measures
from cdn77_exporter.core.places import Locate
from cdn77_exporter.core.series import PADDING_SECONDS
from cdn77_exporter.core.timeline import Encoder, Rules, Timeline

#: Ticks between two looks at what the timeline has kept for a state that nobody writes.
_FORGET_TICKS = 240
_STEP_TICKS = 20

Advance = Callable[[], None]


@dataclass(slots=True)
class Replay:
    """A replay of files. Times are ticks in Unix seconds; only events between `begin` and `end` are counted."""

    rules: Rules
    decoder: Decoder
    now_ms: int
    locate: Locate | None = None
    begin: int | None = None
    end: int | None = None
    measures: Measures = MEASURES
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    events: int = 0
    saturated: int = 0  # sums of a tick that were too large

    def spans(self, paths: Sequence[Path], advance: Advance) -> list[tuple[int, int, Path]]:
        """List the files with events, with their first and last tick, in the order of the first.

        Every file is read twice: in this order no event is ever late, and only files that overlap are in memory.
        """
        found = []
        for path in paths:
            stats, _ = self._decode(path)
            advance()
            if stats.requests:
                found.append((min(stats.requests), max(stats.requests), path))
        return sorted(found)

    def _decode(self, path: Path) -> tuple[FileStats, Counts]:
        """Return what of a file is wanted; nothing of one that cannot be read."""
        try:
            stats, counts = decode_path(self.decoder, path, self.now_ms)
        except Unreadable as error:
            self._refuse(path, error.reason)
            return FileStats(), Counts()
        except OSError as error:
            self._refuse(path, error.strerror or type(error).__name__)
            return FileStats(), Counts()
        stats.requests = {tick: count for tick, count in stats.requests.items() if self._wanted(tick)}
        if not stats.requests:
            return stats, Counts()
        return stats, counts.of_ticks(min(stats.requests), max(stats.requests))

    def _refuse(self, path: Path, reason: str) -> None:
        if (path, reason) not in self.unreadable:
            self.unreadable.append((path, reason))

    def _wanted(self, tick: int) -> bool:
        return (self.begin is None or tick > self.begin) and (self.end is None or tick <= self.end)

    def run(self, spans: Sequence[tuple[int, int, Path]], encoder: Encoder, advance: Advance) -> None:
        """Give the encoder the frames of every tick from the first to the last."""
        tick = self.rules.tick_seconds
        first, last = spans[0][0], max(span[1] for span in spans)
        start = first - PADDING_SECONDS - 2 * tick  # the zeros before the first values have room
        timeline = Timeline(
            self.rules,
            start_ms=start * 1000,
            key=secrets.token_bytes(32),
            locate=self.locate,
            measures=self.measures,
            encoder=encoder,
        )
        at = start
        nexts = [span[0] for span in spans[1:]] + [last + tick]
        for (_, _, path), following in zip(spans, nexts, strict=True):
            stats, counts = self._decode(path)
            advance()
            self.events += sum(stats.requests.values())
            timeline.absorb([(LogFile(str(path), "", 0, 0), stats)], counts)
            # All that comes later is of the tick `following` or after it: what is before is complete.
            self._advance(timeline, at, following - tick)
            at = max(at, following - tick)
        self.saturated = timeline.saturated

    def _advance(self, timeline: Timeline, begin: int, end: int) -> None:
        """Advance in small steps, as time goes by: a tick is never too old to be written."""
        tick = self.rules.tick_seconds
        for number, at in enumerate(range(begin, end, _STEP_TICKS * tick)):
            now_ms = min(at + _STEP_TICKS * tick, end) * 1000
            more = True
            while more:
                _, more = timeline.advance(now_ms, now_ms)
            if number % (_FORGET_TICKS // _STEP_TICKS) == 0:
                timeline.take_changes([], now_ms, [])
