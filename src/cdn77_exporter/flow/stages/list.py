"""List: find new files in the bucket, poll after poll, and pass them on, oldest first."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdn77_exporter.core.arrivals import MOST_LEAD, NO_LEAD, Arrivals
from cdn77_exporter.core.errors import Misconfigured, Transient
from cdn77_exporter.core.files import LogFile, hour_prefixes, oldest_first
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import At, InFlight
from cdn77_exporter.flow.ports import Common, KnowsFiles, Lists
from cdn77_exporter.flow.quarantine import Quarantine
from cdn77_exporter.flow.retry import pause

# One poll in so many comes early at most; where it does so again and again, files have no steady pace.
_BETWEEN_LEADS, _BETWEEN_LEADS_MOST = 5, 40


@dataclass(slots=True)
class ListStats:
    """The last poll that succeeded: when it was (Unix ms, 0 for never), and how many objects it found."""

    last_poll_ms: int = 0
    listed: int = 0


@dataclass(slots=True)
class Lister:
    """Looks for new files every `interval` seconds until it is told to stop.

    Now and then a poll comes early, so that from then on polls find files soon after they appeared.
    """

    common: Common
    in_flight: InFlight
    bucket: Lists
    ledger: KnowsFiles
    watermark: Watermark
    arrivals: Arrivals
    prefix: str
    interval: float
    lookback_hours: float
    keep_files: bool = False
    quarantine: Quarantine | None = None
    stats: ListStats = field(default_factory=ListStats, init=False)
    _on_time: int = field(default=_BETWEEN_LEADS, init=False)  # polls since the last that came early
    _between: int = field(default=_BETWEEN_LEADS, init=False)  # polls before the next may

    async def run(self, outlet: Channel[LogFile]) -> None:
        """Poll, and put what is new into the outlet, oldest first."""
        clock, stop = self.common.clock, self.common.stop
        async with outlet:
            while not stop.is_set():
                began, poll_ms = clock.monotonic(), clock.bucket_ms()
                for file in await self.poll():
                    if stop.is_set():
                        self.in_flight.move(file, At.LEFT)
                    else:
                        await outlet.put(file)
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

    async def poll(self) -> list[LogFile]:
        """List the hour folders once; return what is new, oldest first, which is then in flight."""
        clock, report, problems = self.common.clock, self.common.report, self.common.problems
        began = clock.monotonic()
        try:
            files, listed = await self._find_new()
        except (Transient, Misconfigured) as error:
            report("poll_failed", error=str(error), remedy=error.remedy)
            problems.found("bucket", f"{error}; {error.remedy}")
            return []
        problems.solved("bucket")
        problems.solved("start")
        self.stats.listed, self.stats.last_poll_ms = listed, clock.now_ms()
        self.in_flight.list(files)
        self.watermark.listed(self.stats.last_poll_ms)
        report("poll_finished", listed=listed, new=len(files), seconds=clock.monotonic() - began)
        if self.quarantine is not None:
            await self.quarantine.sweep()
        return oldest_first(files)

    async def _find_new(self) -> tuple[list[LogFile], int]:
        new: dict[tuple[str, str], LogFile] = {}  # a listing that goes on while files come may name one twice
        listed = 0
        for prefix in hour_prefixes(self.prefix, self.common.clock.now_ms(), self.lookback_hours):
            async for page in self.bucket.list_files(prefix):
                listed += len(page)
                files = self.in_flight.unknown(page)
                for key in await self.ledger.uploaded_again(files):
                    await self.ledger.release(key)
                    self.common.report("file_released", key=key)
                known = await self.ledger.known(files, again=not self.keep_files)
                new.update((file.identity, file) for file in files if file.identity not in known)
        return list(new.values()), listed
