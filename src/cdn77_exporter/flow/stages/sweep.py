"""Sweep: list the whole prefix now and then, to find what polls do not see, and to forget what is gone."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdn77_exporter.core.errors import Misconfigured, Transient
from cdn77_exporter.core.files import MAX_AGE_MS, LogFile, LogNames, hour_of
from cdn77_exporter.core.phrases import number, span
from cdn77_exporter.flow.in_flight import InFlight
from cdn77_exporter.flow.ports import Common, KnowsFiles, Lists
from cdn77_exporter.flow.retry import pause

_FIRST_SECONDS = 45.0  # after the start, so that the first polls are not held up
_EVERY_SECONDS = 3600.0
_MOST_FAILURES = 1  # in a row that are only in the log
_MOST_FOUND = 20_000  # of one sweep; the next one finds the others
#: Deleted files are remembered for so long after their upload: of later copies every event would be too old.
_REMEMBERED_MS = MAX_AGE_MS + 24 * 3_600_000
_BEHIND_ALL = "\U0010ffff"


@dataclass(slots=True)
class Left:
    """Files that lie in the bucket and are not counted: how many, the age of the oldest (seconds), and its key."""

    files: int = 0
    oldest_seconds: float = 0.0
    key: str = ""
    overlooked: int = 0  # of these, how many came while this state could have counted them
    elsewhere: int = 0  # of these, how many lie in no hour folder

    def add(self, file: LogFile, age_ms: int, *, overlooked: bool) -> None:
        """Add a file."""
        self.files += 1
        self.overlooked += overlooked
        if age_ms / 1000 >= self.oldest_seconds:
            self.oldest_seconds, self.key = age_ms / 1000, file.key


@dataclass(slots=True)
class Sweeper:
    """Lists all log files once an hour, beside the polls.

    What is neither in the ledger nor in flight is left to the next poll, however old its folder, unless it is older
    than seven days or was uploaded before `since_ms` (Unix ms), from when on the ledger knows every file: what was
    there before may have been counted by somebody else.
    """

    common: Common
    in_flight: InFlight
    bucket: Lists
    ledger: KnowsFiles
    names: LogNames
    since_ms: int
    keep_files: bool = False
    left: Left = field(default_factory=Left, init=False)
    _found: dict[str, LogFile] = field(default_factory=dict, init=False)
    _failures: int = field(default=0, init=False)  # in a row

    def take(self) -> list[LogFile]:
        """Return what was found since the last call."""
        found, self._found = self._found, {}
        return list(found.values())

    async def run(self) -> None:
        """Run a sweep until the stop."""
        clock, stop = self.common.clock, self.common.stop
        await pause(clock, stop, _FIRST_SECONDS)
        while not stop.is_set():
            try:
                await self.sweep()
            except (Transient, Misconfigured) as error:
                self._failed(error)
            await pause(clock, stop, _EVERY_SECONDS)

    def _failed(self, error: Transient | Misconfigured) -> None:
        self._failures += 1
        self.common.report("sweep_failed", error=str(error), remedy=error.remedy)
        if self._failures > _MOST_FAILURES:
            words = f"the whole prefix could not be listed {self._failures} times in a row ({error})"
            self.common.problems.found("sweep", f"{words}, so that files in old folders are not found", error.remedy)

    async def sweep(self) -> None:
        """List everything once, and tell of what cannot be counted."""
        clock = self.common.clock
        began, now_ms = clock.monotonic(), min(clock.possible_ms()[0], clock.bucket_ms())  # uploads are by its clock
        left, listed, last = Left(), 0, ""
        prefix = f"{self.names.prefix}/" if self.names.prefix else ""
        async for page in self.bucket.list_files(prefix):
            if self.common.stop.is_set():
                return
            logs, _, _ = self.names.take(page)
            in_hours = [file for file in logs if hour_of(self.names.prefix, file.key) is not None]
            listed += len(in_hours)
            if prefix:  # without one everything is listed, also what was set aside
                self._look_elsewhere(logs, now_ms, left)
            await self._sort_out(in_hours, now_ms, left)
            last = await self._forget(last, max(file.key for file in page), logs, now_ms)
        await self._forget(last, _BEHIND_ALL, [], now_ms)
        self.left = left
        self._failures = 0
        self.common.problems.solved("sweep")
        self._tell(listed, self.common.clock.monotonic() - began)

    def _look_elsewhere(self, logs: list[LogFile], now_ms: int, left: Left) -> None:
        """Add what no poll ever lists; it may be copies that somebody keeps, so it is told and no problem."""
        for file in logs:
            if hour_of(self.names.prefix, file.key) is None:
                left.elsewhere += 1
                left.add(file, max(0, now_ms - file.modified_ms), overlooked=False)

    async def _sort_out(self, logs: list[LogFile], now_ms: int, left: Left) -> None:
        sorted_out = await self.ledger.sort_out(self.in_flight.unknown(logs), again=not self.keep_files)
        for key in sorted_out.released:
            self.common.report("file_released", key=key)
        for file in sorted_out.new:
            age_ms = now_ms - min(file.modified_ms, hour_of(self.names.prefix, file.key) or file.modified_ms)
            ours = file.modified_ms >= self.since_ms
            if age_ms > MAX_AGE_MS or not ours:
                left.add(file, age_ms, overlooked=ours)
            elif len(self._found) < _MOST_FOUND:
                self._found[file.key] = file

    async def _forget(self, after: str, upto: str, logs: list[LogFile], now_ms: int) -> str:
        """Forget what lies between two keys in the ledger and not in the bucket; return the later key."""
        keys = {file.key for file in logs}
        while after < upto:
            after = await self.ledger.forget_absent(after, upto, keys, now_ms, now_ms - _REMEMBERED_MS)
        return after

    def _tell(self, listed: int, seconds: float) -> None:
        left, report, problems = self.left, self.common.report, self.common.problems
        report(
            "sweep_finished",
            listed=listed,
            found=len(self._found),
            left=left.files,
            oldest_seconds=round(left.oldest_seconds),
            seconds=seconds,
        )
        if left.files:
            report("files_left_out", count=left.files, oldest_seconds=round(left.oldest_seconds), key=left.key)
        if left.overlooked:
            words = f"{number(left.overlooked, 'log file')} older than 7 days came too late to be counted"
            problems.found("files_left_out", f"{words}; the oldest is {span(left.oldest_seconds)} old: {left.key}")
        else:
            problems.solved("files_left_out")
        if left.elsewhere and not listed:
            words = f"{number(left.elsewhere, 'log file')}, such as {left.key}, under S3_PREFIX"
            problems.found("files_elsewhere", f"{words} in no hour folder (YYYYMMDD/HH), and none in one")
        else:
            problems.solved("files_elsewhere")
