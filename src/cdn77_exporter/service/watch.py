"""Watches for what is missing although nothing fails: files that never come, gaps, rejected lines, a growing delay."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from cdn77_exporter.core.numbering import Numbers
from cdn77_exporter.core.phrases import moment, named, number, span
from cdn77_exporter.core.reasons import LEFT_OUT_REASONS, REJECT_REASONS
from cdn77_exporter.edge.clock import Clock
from cdn77_exporter.flow.pipeline import Pipeline
from cdn77_exporter.telemetry.conditions import REJECTED_SHARE, ConditionName
from cdn77_exporter.telemetry.logger import Telemetry

#: A delay above this is told.
BEHIND_SECONDS = 300.0
_MISSING_SECONDS = 86_400.0  # a gap of a shard is told for so long after its last one
_REJECTED_SECONDS = 1800.0  # of the lines whose share is told
_STEP_SECONDS = 15.0  # between two entries of that
_LEDGER = ("counted", "done", "aside")


@dataclass(slots=True)
class MissingFiles:
    """The files that are missing within the last day, by shard.

    A shard's missing files are forgotten a day after it skipped the last of them.
    """

    _known: dict[str, tuple[int, int, float]] = field(default_factory=dict)  # missing, forgotten of them, last skip

    def look(self, shards: Mapping[str, Numbers], steady: float) -> dict[str, int]:
        """Return how many files each shard misses; `steady`: the seconds of a clock that never jumps."""
        found = {}
        for name, numbers in shards.items():
            if not numbers.missing:
                self._known.pop(name, None)
                continue
            missing, forgotten, since = self._known.get(name, (0, 0, steady))
            if numbers.missing > missing:
                since = steady
            elif steady - since >= _MISSING_SECONDS:
                forgotten = numbers.missing
            forgotten = min(forgotten, numbers.missing)
            self._known[name] = numbers.missing, forgotten, since
            if numbers.missing > forgotten:
                found[name] = numbers.missing - forgotten
        for name in self._known.keys() - shards.keys():
            del self._known[name]
        return found


@dataclass(slots=True)
class RejectedLines:
    """The share of rejected lines among those of the last half hour."""

    _seen: deque[tuple[float, float, float]] = field(default_factory=deque)  # time, lines and rejected lines so far

    def look(self, lines: float, rejected: float, steady: float) -> tuple[float, float]:
        """Return the rejected lines and all lines of the last half hour; given are those since the start."""
        if not self._seen:
            self._seen.append((steady, 0.0, 0.0))
        if steady - self._seen[-1][0] >= _STEP_SECONDS:
            self._seen.append((steady, lines, rejected))
        while len(self._seen) > 1 and steady - self._seen[1][0] >= _REJECTED_SECONDS:
            self._seen.popleft()
        _, lines_before, rejected_before = self._seen[0]
        return rejected - rejected_before, lines - lines_before


@dataclass(slots=True)
class Watch:
    """Compares what comes with what should come; `wait_seconds`: how long without a file is told."""

    telemetry: Telemetry
    pipeline: Pipeline
    clock: Clock
    wait_seconds: float
    _missing: MissingFiles = field(default_factory=MissingFiles, init=False)
    _rejected: RejectedLines = field(default_factory=RejectedLines, init=False)
    _finished: float = field(default=0.0, init=False)  # files of which something became, at the last look
    _came: float | None = field(default=None, init=False)  # when that grew last

    def look(self, counts: Mapping[str, int]) -> None:
        """Renew the problems; `counts`: files in the ledger, as `Database.counts` gives them."""
        steady = self.clock.monotonic()
        self._look_for_files(counts, steady)
        self._look_at_gaps(steady)
        self._look_at_lines(steady)
        self._look_at_delay()
        aside = counts["aside"]
        self._tell(aside, "files_set_aside", f"{number(aside, 'file')} set aside")

    def _look_for_files(self, counts: Mapping[str, int], steady: float) -> None:
        finished = self.telemetry.total("files_total")
        if self._came is None or finished != self._finished or len(self.pipeline.in_flight):
            self._finished, self._came = finished, steady
        polls, problems = self.pipeline.lister.stats, self.telemetry.problems
        is_listed = polls.last_poll_ms > 0 and not problems.has("bucket") and not problems.has("files_elsewhere")
        known = polls.listed or finished or self.pipeline.watermark.shards or any(counts[name] for name in _LEDGER)
        prefix = self.pipeline.lister.names.prefix
        where = f"under {prefix}/" if prefix else "in the bucket"
        self._tell(is_listed and not known, "no_files", f"no log file has ever been seen {where}")
        waited = steady - self._came
        newest = max((shard.newest_ms for shard in self.pipeline.watermark.shards.values()), default=0)
        words = f"no new log file for {span(waited)}"
        words += f"; the newest event is of {moment(newest / 1000)}" if newest else ""
        self._tell(is_listed and known and waited >= self.wait_seconds, "no_file_lately", words)

    def _look_at_gaps(self, steady: float) -> None:
        missing = self._missing.look(self.pipeline.aggregator.numbering.shards, steady)
        names = sorted(missing, key=lambda name: (-missing[name], name))
        shards = f"shard {named(names)}" if len(names) == 1 else f"{number(len(names), 'shard')}: {named(names)}"
        self._tell(names, "files_missing", f"{number(sum(missing.values()), 'file')} missing in {shards}")

    def _look_at_lines(self, steady: float) -> None:
        total = self.telemetry.total
        reasons = REJECT_REASONS.keys() - LEFT_OUT_REASONS
        rejects = sum(total("rejects_total", reason=reason) for reason in reasons)
        rejected, lines = self._rejected.look(total("lines_total"), rejects, steady)
        share = rejected / lines if lines else 0.0
        self._tell(share > REJECTED_SHARE, "lines_rejected", f"{100 * share:.1f} % of the lines rejected")

    def _look_at_delay(self) -> None:
        value_ms = self.pipeline.watermark.value_ms
        behind = (self.clock.now_ms() - value_ms) / 1000 if value_ms else 0.0
        self._tell(behind > BEHIND_SECONDS, "behind", f"{span(behind)} behind")

    def _tell(self, holds: object, what: ConditionName, words: str) -> None:
        if holds:
            self.telemetry.problems.found(what, words)
        else:
            self.telemetry.problems.solved(what)
