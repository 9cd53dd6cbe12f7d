"""List: find new files in the bucket, poll after poll, and pass them on, oldest first."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdn77_exporter.core.arrivals import MOST_LEAD, NO_LEAD, Arrivals
from cdn77_exporter.core.errors import Misconfigured, Transient
from cdn77_exporter.core.files import MAX_AGE_MS, LogFile, LogNames, hour_prefixes, oldest_first
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import At, InFlight
from cdn77_exporter.flow.ports import Common, KnowsFiles, Lists
from cdn77_exporter.flow.quarantine import Quarantine
from cdn77_exporter.flow.retry import pause, until_written
from cdn77_exporter.flow.stages.sweep import Sweeper

# One poll in so many comes early at most; where it does so again and again, files have no steady pace.
_BETWEEN_LEADS, _BETWEEN_LEADS_MOST = 5, 40
#: The last minutes of an hour are listed again in the next one, however short the lookback.
_LEAST_LOOKBACK_MS = 15 * 60 * 1000
_HOUR_MS = 3_600_000
LAST = "\U0010ffff"  # behind every key of a folder
_JUST_SECONDS = 300.0  # what was not there at a poll so long ago has come since, with events that are minutes old


@dataclass(slots=True)
class ListStats:
    """The last poll that succeeded: when it was (Unix ms, 0 for never), and how many log files it found."""

    last_poll_ms: int = 0
    listed: int = 0


@dataclass(slots=True)
class _Found:
    """The result of a poll: new files by their keys, since one may be listed twice, and what was listed."""

    new: dict[str, LogFile] = field(default_factory=dict)
    listed: int = 0
    others: int = 0  # objects that are no log files
    empty: int = 0  # log files without a byte


@dataclass(slots=True)
class Lister:
    """Looks for new files every `interval` seconds until it is told to stop.

    Now and then a poll comes early, so that from then on polls find files soon after they appeared. A poll looks back
    from when all that was listed had last been passed on: what waited for that is not overlooked. `sweeper` finds what
    lies further back.
    """

    common: Common
    in_flight: InFlight
    bucket: Lists
    ledger: KnowsFiles
    watermark: Watermark
    arrivals: Arrivals
    names: LogNames
    interval: float
    lookback_hours: float
    sweeper: Sweeper
    keep_files: bool = False
    quarantine: Quarantine | None = None
    stats: ListStats = field(default_factory=ListStats, init=False)
    _complete_ms: int = field(default=0, init=False)  # all that came before was listed and passed on; 0 for unknown
    _on_time: int = field(default=_BETWEEN_LEADS, init=False)  # polls since the last that came early
    _listed: float = field(default=float("-inf"), init=False)  # when the last poll that succeeded ended
    _between: int = field(default=_BETWEEN_LEADS, init=False)  # polls before the next may

    async def run(self, outlet: Channel[LogFile]) -> None:
        """Poll, and put what is new into the outlet, oldest first."""
        clock, stop = self.common.clock, self.common.stop
        self._complete_ms = self.watermark.value_ms  # of an earlier process
        await until_written(self.common, self.ledger.release_waiting)
        async with outlet:
            while not stop.is_set():
                began, began_ms, poll_ms = clock.monotonic(), clock.now_ms(), clock.bucket_ms()
                files = await self.poll()
                for file in files or ():
                    if stop.is_set():
                        self.in_flight.move(file, At.LEFT)
                    else:
                        await outlet.put(file)
                if files is not None:
                    self._complete_ms = began_ms
                # By then the files that this poll found are counted, and tell when they came.
                await self._pause_until(began + self.interval * (1 - MOST_LEAD))
                if clock.monotonic() < began + self.interval:
                    await self._pause_until(began + self.interval - self._lead(poll_ms))

    async def _pause_until(self, moment: float) -> None:
        clock = self.common.clock
        await pause(clock, self.common.stop, max(0.0, moment - clock.monotonic()))

    def _lead(self, poll_ms: int) -> float:
        """Return by how many seconds the next poll is to come early."""
        self._on_time += 1
        if self._on_time < self._between or self.common.stop.is_set():
            return 0.0
        lead = self.arrivals.lead(poll_ms, self.interval)
        if lead is NO_LEAD:
            self._between = max(_BETWEEN_LEADS, self._between - 1)
        else:
            self._on_time, self._between = 0, min(2 * self._between, _BETWEEN_LEADS_MOST)
            self.common.report("poll_brought_forward", seconds=lead.seconds, gain_seconds=round(lead.gain, 3))
        return lead.seconds

    async def poll(self) -> list[LogFile] | None:
        """List the hour folders once; return what is new, oldest first, which is then in flight. None: it failed."""
        clock, report, problems = self.common.clock, self.common.report, self.common.problems
        began = clock.monotonic()
        try:
            found = await self._find_new()
        except (Transient, Misconfigured) as error:
            report("poll_failed", error=str(error), remedy=error.remedy)
            problems.found("bucket", str(error), error.remedy)
            return None
        problems.solved("bucket")
        problems.solved("start")
        self.stats.listed, self.stats.last_poll_ms = found.listed, clock.now_ms()
        new = oldest_first(list(found.new.values()))
        self.in_flight.list(new, just_came=began - self._listed <= _JUST_SECONDS)
        if not self.in_flight.has_failing:  # what failed is gone, or set aside
            problems.solved("reading")
        self._listed = clock.monotonic()
        self.watermark.listed(self._listed)
        report(
            "poll_finished",
            listed=found.listed,
            new=len(new),
            others=found.others,
            empty=found.empty,
            seconds=clock.monotonic() - began,
        )
        if self.quarantine is not None:
            await self.quarantine.sweep()
        return new

    def _prefixes(self) -> list[str]:
        """List the hour folders, in doubt those of all times that it may be."""
        found: dict[str, None] = {}
        lookback_ms = max(_LEAST_LOOKBACK_MS, int(self.lookback_hours * _HOUR_MS))
        for now_ms in self.common.clock.possible_ms():
            since_ms = max(min(now_ms, self._complete_ms or now_ms) - lookback_ms, now_ms - MAX_AGE_MS - lookback_ms)
            found.update(dict.fromkeys(hour_prefixes(self.names.prefix, now_ms, (now_ms - since_ms) / _HOUR_MS)))
        return list(found)

    async def _find_new(self) -> _Found:
        found = _Found()
        clock = self.common.clock
        now_ms = min(clock.possible_ms()[0], clock.bucket_ms())  # uploads are by its clock
        for prefix in self._prefixes():
            keys: set[str] = set()
            async for page in self.bucket.list_files(prefix):
                logs, others, empty = self.names.take(page)
                found.listed += len(logs)
                found.others += others
                found.empty += empty
                keys.update(file.key for file in logs)
                await self._sort_out(logs, found)
            await self.ledger.forget_absent(prefix, prefix + LAST, keys, now_ms, 0)
        await self._sort_out(self.sweeper.take(), found)
        return found

    async def _sort_out(self, files: list[LogFile], found: _Found) -> None:
        """Add those of some files that are to be counted."""
        sorted_out = await self.ledger.sort_out(self.in_flight.unknown(files), again=not self.keep_files)
        for key in sorted_out.released:
            self.common.report("file_released", key=key)
        found.new.update((file.key, file) for file in sorted_out.new)
