"""The work beside the pipeline: its gauges, and periodic checks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from cdn77_exporter.core.clocks import NEAR_MS, Clocks
from cdn77_exporter.core.encode.request_limit import MAX_SAMPLES
from cdn77_exporter.core.errors import StateError
from cdn77_exporter.core.phrases import moment
from cdn77_exporter.core.reasons import FORMAT_REASONS
from cdn77_exporter.core.timeline import Timeline
from cdn77_exporter.core.watermark import ShardState
from cdn77_exporter.edge.clock import Clock
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.edge.state import State
from cdn77_exporter.flow.in_flight import At
from cdn77_exporter.flow.pipeline import Pipeline
from cdn77_exporter.flow.shard_reports import shard_states
from cdn77_exporter.flow.stages.unfinished import format_words
from cdn77_exporter.runtime import collect_rarely
from cdn77_exporter.service.watch import Watch
from cdn77_exporter.settings import Settings
from cdn77_exporter.status.gather import ASIDE_SHOWN, Overview
from cdn77_exporter.telemetry.conditions import ConditionName
from cdn77_exporter.telemetry.logger import Telemetry

UPKEEP_SECONDS = 5.0
_LAG_SAMPLE_SECONDS = 0.05
_MOST_SHARDS = 1000  # with series of their own


@dataclass(slots=True)
class Upkeep:
    """Looks after one run of the pipeline until its stop."""

    settings: Settings
    telemetry: Telemetry
    pipeline: Pipeline
    state: State
    bucket: S3Bucket
    clock: Clock
    geoip: GeoIp
    overview: Overview
    _said: dict[int, int] = field(default_factory=dict)
    _saturated: int = 0
    _fault: str = ""
    _watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self._watch = Watch(self.telemetry, self.pipeline, self.clock, self.settings.shard_wait_seconds)

    @property
    def timeline(self) -> Timeline:
        """The series that the pipeline counts."""
        return self.pipeline.aggregator.timeline

    async def run(self) -> None:
        """Check the clock, the GeoIP file, the secrets, the ledger and the limits, every few seconds."""
        stop = self.pipeline.common.stop
        self._say_geoip(new=self.geoip.available)
        collect_rarely()
        while not stop.is_set():
            await self._keep_file()
            self._compare_clock()
            self._tell_ignored()
            await self._refresh_geoip()
            for variable in await asyncio.to_thread(self.settings.changed_secrets):
                self.telemetry("secret_reloaded", setting=variable)
            await self._count_ledger()
            await self._look_at_owed()
            self._look_at_limits()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), UPKEEP_SECONDS)

    async def measure_lag(self) -> None:
        """Measure the delay of the event loop: how much longer than asked a short sleep takes."""
        loop = asyncio.get_running_loop()
        while not self.pipeline.common.stop.is_set():
            due = loop.time() + _LAG_SAMPLE_SECONDS
            await asyncio.sleep(_LAG_SAMPLE_SECONDS)
            self.telemetry.loop_lag.observe(loop.time() - due)

    async def _refresh_geoip(self) -> None:
        new = await asyncio.to_thread(self.geoip.refresh)
        if new:
            await self.pipeline.aggregator.between_steps(lambda: self.timeline.use_places(self.geoip.locate))
        self._say_geoip(new=new)

    def _say_geoip(self, *, new: bool) -> None:
        path = str(self.settings.geoip_db_path)
        if new:
            self.telemetry("geoip_loaded", path=path, build_epoch=self.geoip.build_epoch, kind=self.geoip.kind)
            self.telemetry.problems.solved("geoip")
        elif self.geoip.fault and self.geoip.fault != self._fault:
            self.telemetry("geoip_failed", path=path, error=self.geoip.fault)
            if not self.geoip.available:
                why = f"the GeoIP database {path} cannot be read ({self.geoip.fault})"
                self.telemetry.problems.found("geoip", why)
        self._fault = self.geoip.fault

    def _compare_clock(self) -> None:
        """Compare the clocks, and say which one is wrong."""
        server_ms = self.bucket.take_server_ms()
        if server_ms is not None:
            self.clock.hear_bucket(server_ms)
        believed, clocks = self.clock.believed_ms() is not None, self.clock.clocks
        words, remedy = wrong_clocks(clocks, believed=believed)
        found: ConditionName = "clock" if believed else "clock_doubtful"
        for what in ("clock", "clock_doubtful"):
            if words and what == found:
                self.telemetry.problems.found(what, words, remedy)
            else:
                self.telemetry.problems.solved(what)
        if words and server_ms is not None:
            skew = round(clocks.skew_ms / 1000, 1)
            self.telemetry("clock_skewed", skew_seconds=skew, believed=believed, error=f"{words}; {remedy}")

    def _tell_ignored(self) -> None:
        for reason, (entries, key) in self.bucket.take_ignored().items():
            self.telemetry("listing_entries_ignored", reason=reason, entries=entries, key=key)

    async def _keep_file(self) -> None:
        """Make the state file again when somebody has removed or replaced it: the next start would not find it."""
        how = await self.state.lost()
        if not how:
            return
        path = str(self.settings.state_path)
        self.telemetry("state_file_lost", path=path, how=how)
        try:
            await self.state.make_file_again()
        except StateError as error:
            words = f"the state file {path} was {how} while the service runs, and cannot be made again: {error}"
            self.telemetry.problems.found("state_file", words, error.remedy)
            return
        self.telemetry("state_file_remade", path=path)
        self.telemetry.problems.solved("state_file")

    async def _count_ledger(self) -> None:
        counts = self.overview.counts = await self.state.counts()
        if counts["aside"] or self.overview.aside:
            self.overview.aside = await self.state.run(self.state.database.aside, ASIDE_SHOWN)
        await self._look_at_formats(set_aside=counts["aside"] > 0)
        self._watch.look(counts)

    async def _look_at_formats(self, *, set_aside: bool) -> None:
        """Say that files are no logs as long as one of them is set aside, or the last file was one."""
        reasons = await self.state.aside_reasons() if set_aside else {}
        found = next((reason for reason in sorted(FORMAT_REASONS) if reasons.get(reason)), None)
        if found is not None:
            detail = next((file.detail for file in self.overview.aside if file.reason == found), "")
            self.telemetry.problems.found("format", format_words(found, detail))
        elif not self.pipeline.decoder.stats.unfit:
            self.telemetry.problems.solved("format")

    async def _look_at_owed(self) -> None:
        """Say that the receiver has not stored everything: it may be an earlier process that was told so."""
        problems = self.telemetry.problems
        first: list[tuple[str, int]] = []
        if len(self.timeline.owed) and not problems.has("delivery"):
            count, first = await self.pipeline.aggregator.between_steps(lambda: self.timeline.owed_for_long(1))
        for name, tick in first:
            when = f"since {moment(tick)}" if tick else "at all"
            what = f"{count:,} series, such as {name}, not accepted {when}"
            problems.found("owed", f"the receiver lacks samples of {what}")
        if not first:
            problems.solved("owed")

    def _look_at_limits(self) -> None:
        """Say it when a bound makes new requests count under another name than their own."""
        labelling = self.timeline.labelling
        rows = (
            ("MAX_STREAMS", self.settings.max_streams, self.timeline.streams.refused),
            ("MAX_SERIES", self.settings.max_series, self.timeline.overflowed),
            ("MAX_SERIES", labelling.most_new, labelling.new_refused),
            ("MAX_LABEL_VALUES", self.settings.max_label_values, labelling.values_refused),
        )
        for number, (limit, value, count) in enumerate(rows):
            if count and not self._said.get(number):
                self.telemetry("limit_reached", limit=limit, value=value, refused=count)
            self._said[number] = count
        saturated = self.timeline.saturated - self._saturated
        if saturated:
            self._saturated += saturated
            self.telemetry("sums_saturated", count=saturated)

    def watch(self) -> None:
        """Connect the gauges with their values."""
        pipeline, timeline, clock = self.pipeline, self.timeline, self.clock
        watch = self.telemetry.watch
        for channel in self.pipeline.channels:
            watch("queue_depth", channel.__len__, stage=channel.name)
        watch("files_in_memory", lambda: pipeline.in_flight.permits.taken)
        watch("pending_files", lambda: sum(map(pipeline.in_flight.count, (At.LISTED, At.FETCHING))))
        watch("watermark_timestamp_seconds", lambda: pipeline.watermark.value_ms / 1000)
        watch("watermark_lag_seconds", lambda: _lag(pipeline.watermark.value_ms, clock.now_ms()))
        watch("series", lambda: len(timeline.series))
        watch("owed_series", lambda: len(timeline.owed))
        watch("request_limit_samples", lambda: min(MAX_SAMPLES, timeline.request_limit.samples))
        watch("remote_write_version", lambda: timeline.spoken.version)
        watch("streams", lambda: len(timeline.streams))
        watch("viewers", lambda: len(timeline.viewers))
        watch("limited_requests", lambda: timeline.streams.refused)
        watch("clock_skew_seconds", lambda: clock.clocks.skew_ms / 1000)
        watch("clock_believed", lambda: float(clock.believed_ms() is not None))
        for state in ShardState:
            watch("shards", lambda state=state: self._shards_in(state), state=state)  # type: ignore[misc]
        self.telemetry.watch_each("shard_state", self._each_state)
        self.telemetry.watch_each("shard_newest_event_timestamp_seconds", self._each_newest)
        loop = asyncio.get_running_loop()
        watch("event_loop_tasks", lambda: len(asyncio.all_tasks(loop)))
        watch("commit_seconds", lambda: pipeline.aggregator.stats.commit_seconds)
        counts = self._ledger_count
        watch("outbox_requests", lambda: counts("requests"))
        watch("outbox_bytes", lambda: counts("bytes"))
        watch("ledger_files", lambda: counts("counted", "done", "aside"))
        watch("files_set_aside", lambda: counts("aside"))

    def _states(self) -> dict[str, ShardState]:
        return shard_states(self.pipeline.watermark, self.pipeline.in_flight)

    def _shards_in(self, state: ShardState) -> int:
        return sum(found is state for found in self._states().values())

    def _each_state(self) -> dict[tuple[str, ...], float]:
        """Return 1 for each shard and its state; of many shards those that are not current come first."""
        states = sorted(self._states().items(), key=lambda one: (one[1] is ShardState.CURRENT, one[0]))
        return {(name, state.value): 1.0 for name, state in states[:_MOST_SHARDS]}

    def _each_newest(self) -> dict[tuple[str, ...], float]:
        newest_ms = self.pipeline.watermark.newest_ms
        return {(name,): newest_ms(name) / 1000 for name, _ in self._each_state() if newest_ms(name)}

    def _ledger_count(self, *names: str) -> float | None:
        """Return a sum of the ledger's last counts, None before the first."""
        counts = self.overview.counts
        return sum(counts[name] for name in names) if counts else None


def wrong_clocks(clocks: Clocks, *, believed: bool) -> tuple[str, str]:
    """Return what is wrong with the clocks, or nothing, and what to do."""
    skew = clocks.skew_ms / 1000
    apart = f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the bucket's"
    remedy = "synchronise this machine's clock (NTP)"
    if not believed:
        if not clocks.skew_ms:
            return "", ""  # the bucket has not answered yet
        return (
            f"{apart}, and nothing has told yet which is right: files are counted, but no sample is written until two "
            "of the clocks and the newest events agree",
            f"{remedy}, or say CLOCK_SOURCE=machine or CLOCK_SOURCE=bucket",
        )
    if abs(clocks.machine_off_ms) > NEAR_MS:
        return f"{apart}, which is right", remedy
    if abs(clocks.skew_ms) > NEAR_MS:
        return f"{apart}, which is wrong", "tell those who run the bucket"
    return "", ""


def _lag(value_ms: int, now_ms: int) -> float | None:
    return (now_ms - value_ms) / 1000 if value_ms > 0 else None
