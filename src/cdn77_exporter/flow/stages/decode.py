"""Decode: turn the bytes of files into what they count, beside the event loop, those together that are ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cdn77_exporter.core.already_told import NOTHING_TOLD, AlreadyTold
from cdn77_exporter.core.columns import Counts, join
from cdn77_exporter.core.decoded import Decoded, Example, Failure, FileStats
from cdn77_exporter.core.errors import Transient, Unreadable
from cdn77_exporter.core.files import LogFile, RawLog
from cdn77_exporter.core.judging import refuse, without_event
from cdn77_exporter.core.reasons import FORMAT_REASONS, NO_STREAM_YET
from cdn77_exporter.core.unknown_agents import UnknownAgents
from cdn77_exporter.flow.batched import BatchedMap
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import At, InFlight
from cdn77_exporter.flow.ports import Common, Decodes, SetsAside
from cdn77_exporter.flow.retry import Backoff, Failed, retry
from cdn77_exporter.flow.stages.unfinished import Unfinished

_UNBOUND_MS = 2000  # an event so far before the latest time that one may have had that time was read as it is


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """One of the files decoded together: what it has by itself, and the seconds that it took to fetch."""

    file: LogFile
    stats: FileStats
    fetch_seconds: float


@dataclass(frozen=True, slots=True)
class DecodedFiles:
    """Files that were decoded together: what each has by itself, and what all of them count."""

    files: list[DecodedFile]
    counts: Counts


@dataclass(slots=True)
class DecodeStats:
    """The last line that was not an event, and its file's key, by the reason; how well files fit; unknown devices.

    `ignored`: malformed values of events since the start, and the key of the last file with one, by field.
    """

    examples: dict[str, tuple[str, Example]] = field(default_factory=dict)
    ignored: dict[str, tuple[int, str]] = field(default_factory=dict)
    unfit: int = 0  # files of another format since the last with an event
    unknown_agents: UnknownAgents = field(default_factory=UnknownAgents)  # since the start


@dataclass(slots=True)
class FileDecoder:
    """Has files decoded, and leaves those that cannot be read to a later poll."""

    common: Common
    in_flight: InFlight
    decoder: Decodes
    ledger: SetsAside
    events_seen: bool = True  # in any file that the state knows; until then a file without one is set aside
    already_told: AlreadyTold = NOTHING_TOLD
    stats: DecodeStats = field(default_factory=DecodeStats, init=False)
    _unfinished: Unfinished = field(init=False)

    def __post_init__(self) -> None:
        self._unfinished = Unfinished(self.common, self.in_flight, self.ledger)

    async def run(self, inbox: Channel[RawLog], outlet: Channel[DecodedFiles]) -> None:
        """Decode until the inbox has ended."""
        batched = BatchedMap(self._decode, batch_size=self.decoder.most, concurrency=self.decoder.width)
        await batched.run(inbox, outlet)

    async def _decode(self, logs: Sequence[RawLog]) -> DecodedFiles | None:
        """Return what the files count, or None when none of them can be read."""
        for log in logs:
            self.in_flight.move(log.file, At.DECODING)
        logs, decoded = await self._without_told(logs)
        files = []
        self.events_seen |= any(stats.events for stats in decoded.files if isinstance(stats, FileStats))
        for log, stats in zip(logs, decoded.files, strict=True):
            if isinstance(stats, Failure):
                error = stats.error()
                self.stats.unfit += isinstance(error, Unreadable) and error.reason in FORMAT_REASONS
                await self._unfinished.end(log.file, error)
            elif without_event(stats) and not self.events_seen:
                self.stats.unfit += 1
                await self._unfinished.end(log.file, refuse(NO_STREAM_YET, stats))
            else:
                self.stats.unfit = 0 if stats.events else self.stats.unfit
                self.stats.unknown_agents.add(stats.unknown_agents)
                for name, values in stats.ignored.items():
                    before, _ = self.stats.ignored.get(name, (0, ""))
                    self.stats.ignored[name] = (before + values, log.file.key)
                self._hear(log.file, stats)
                self.common.problems.solved("reading")
                self.in_flight.move(log.file, At.DECODED)
                files.append(DecodedFile(log.file, stats, log.fetch_seconds))
                self.stats.examples.update({example.reason: (log.file.key, example) for example in stats.examples})
        return DecodedFiles(files, decoded.counts) if files else None

    async def _without_told(self, logs: Sequence[RawLog]) -> tuple[Sequence[RawLog], Decoded]:
        """Return the files in the order in which they were decoded, and what of them was not told before."""
        told = [log for log in logs if self.already_told.covers(log.file)]
        if not told:
            return logs, await self._decoded(logs)
        logs = [log for log in logs if log not in told]
        found = [await self._decoded(logs)] if logs else []
        for log in told:  # each by itself, since what is left out of it is its own
            decoded = await self._decoded([log])
            (stats,) = decoded.files
            if isinstance(stats, FileStats):
                decoded = Decoded([stats], self.already_told.rest_of(stats, decoded.counts))
            found.append(decoded)
        files = [stats for one in found for stats in one.files]
        return [*logs, *told], Decoded(files, join([one.counts for one in found]))

    def _hear(self, file: LogFile, stats: FileStats) -> None:
        """Let the newest event of a file that has just come tell the time; one at the bound may have been later."""
        arrived = self.in_flight.arrived(file)
        if arrived is not None and 0 < stats.newest_ms < self.common.clock.latest_ms(file.modified_ms) - _UNBOUND_MS:
            self.common.clock.hear_events(stats.newest_ms, arrived)

    async def _decoded(self, logs: Sequence[RawLog]) -> Decoded:
        """Decode however long it takes; when a stop comes while nothing decodes, the files are left to a later process.

        No event is later than the upload of its file, or than now when a clock is ahead.
        """
        clock, problems, stop = self.common.clock, self.common.problems, self.common.stop
        latest_ms = [clock.latest_ms(log.file.modified_ms) for log in logs]
        oldest_ms = clock.oldest_ms()

        def failed(failure: Failed) -> None:
            self.common.report("decoders_unavailable", error=str(failure.error), files=len(logs))
            problems.found("decoders", str(failure.error))
            if stop.is_set():
                raise failure.error

        async def decode() -> Decoded:
            return await self.decoder.decode(logs, latest_ms, oldest_ms)

        try:
            decoded = await retry(decode, clock, Backoff(most=15.0), failed, stop)
        except Transient as error:
            return Decoded([Failure.of(error) for _ in logs])
        problems.solved("decoders")
        return decoded
