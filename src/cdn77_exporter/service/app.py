"""The composition root: settings become clients, clients become stages, and signals end them."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sys
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from hashlib import blake2b

import uvloop

from cdn77_exporter import __version__
from cdn77_exporter.clients import open_bucket, open_receiver
from cdn77_exporter.core.arrivals import Arrivals
from cdn77_exporter.core.errors import ConfigError, Misconfigured, StateError, StateLocked, Transient
from cdn77_exporter.core.timeline import Timeline
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.edge.clock import Clock
from cdn77_exporter.edge.decoding import ExecutorDecoder, fetched
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.edge.state import BucketState, Database, State
from cdn77_exporter.edge.workers import Workers
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.claims import Claims
from cdn77_exporter.flow.lease import Lease, lease_prefix
from cdn77_exporter.flow.ordering import Places
from cdn77_exporter.flow.pipeline import Pipeline
from cdn77_exporter.flow.quarantine import Quarantine
from cdn77_exporter.flow.sizes import decoding_sizes
from cdn77_exporter.flow.stages import Aggregator, Context, Deleter, Fetcher, FileDecoder, Lister, NotHere, Pusher
from cdn77_exporter.service.runtime import give_memory_back, no_search_for_cycles
from cdn77_exporter.service.upkeep import Upkeep
from cdn77_exporter.settings import File, InBucket, Off, Settings
from cdn77_exporter.status.gather import Overview
from cdn77_exporter.status.page import Page
from cdn77_exporter.status.server import StatusServer
from cdn77_exporter.telemetry.libraries import adopt_logging
from cdn77_exporter.telemetry.logger import Telemetry

_STANDBY_SECONDS = 2.0
# How long a thread that decodes or counts may go on while the event loop waits for its turn. The default of 5 ms, with
# several turns for one answer, makes the loop late by ten times as much.
_SWITCH_SECONDS = 0.0003


def run(settings: Settings) -> int:
    """Run the service until a signal; the exit code: 0 after a stop, 1 after a crash."""
    give_memory_back()
    sys.setswitchinterval(_SWITCH_SECONDS)
    telemetry = Telemetry(settings.masker(), settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Service(settings, telemetry).run())
    except ConfigError:
        raise  # the command line says what is wrong
    except StateError as error:
        telemetry("service_crashed", stage="state", error=f"{error}; {error.remedy}", traceback="")
    except Exception as error:  # whatever it was is said before the process ends
        telemetry.crashed(error)
    return 1


@dataclass(slots=True)
class _Service:
    """One run of the service."""

    settings: Settings
    telemetry: Telemetry
    overview: Overview = field(init=False)

    def __post_init__(self) -> None:
        self.overview = Overview(self.settings, self.telemetry, time.time)

    async def run(self) -> int:
        """Set up, work until a signal, and end; the exit code."""
        settings, telemetry = self.settings, self.telemetry
        adopt_logging(telemetry)
        for variable, doubt in settings.doubts:
            telemetry("setting_doubtful", setting=variable, doubt=doubt)
        stop = asyncio.Event()
        deadline = asyncio.timeout(None)
        self._listen_to_signals(stop, deadline)
        clock = Clock()
        began = clock.monotonic()
        drained = True
        async with AsyncExitStack() as stack:
            if settings.http_addr:
                page = Page(self.overview.status, __version__)
                await stack.enter_async_context(StatusServer(settings.http_addr, telemetry, page.routes()))
            bucket = await stack.enter_async_context(open_bucket(settings))
            home = await self._home(stack, bucket)
            state = await self._open_state(stack, home, stop)
            if state is not None:
                lease = self._lease(bucket, state, clock)
                if await lease.take(stop):
                    # While this process stood by, another may have written a state that has no lock of its own.
                    free = isinstance(state, BucketState)
                    current = await self._open_state(stack, home, stop, take=True) if free else state
                    if current is None:
                        await lease.release()
                    else:
                        drained = await self._work(stack, deadline, bucket, current, lease, clock, stop)
        telemetry("service_stopped", drained=drained, seconds=round(clock.monotonic() - began, 3))
        return 0

    async def _work(
        self,
        stack: AsyncExitStack,
        deadline: asyncio.Timeout,
        bucket: S3Bucket,
        state: State,
        lease: Lease,
        clock: Clock,
        stop: asyncio.Event,
    ) -> bool:
        """Run the pipeline to its end; False when it was cut short."""
        server_ms = bucket.take_server_ms()
        if server_ms is not None:
            clock.compare(server_ms)  # before the floor is set, which a wrong clock would misplace
        upkeep = await self._build(stack, bucket, state, clock, stop)
        upkeep.watch()
        try:
            async with deadline, asyncio.TaskGroup() as tasks:
                if stop.is_set():  # since the lease was taken
                    deadline.reschedule(asyncio.get_running_loop().time() + self.settings.drain_seconds)
                tasks.create_task(upkeep.run(), name="upkeep")
                tasks.create_task(upkeep.measure_lag(), name="lag")
                tasks.create_task(self.overview.run(stop), name="overview")
                tasks.create_task(lease.keep(stop), name="lease")
                tasks.create_task(upkeep.pipeline.run(), name="pipeline")
        except TimeoutError:
            return False  # what is not committed stays in the bucket
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await lease.release()
        return True

    def _listen_to_signals(self, stop: asyncio.Event, deadline: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()

        def ask_to_stop(name: str) -> None:
            if stop.is_set():
                os._exit(1)  # the second signal: at once; what is committed is safe
            self.telemetry("service_stopping", signal=name, drain_seconds=self.settings.drain_seconds)
            stop.set()
            with suppress(RuntimeError):  # the deadline is not entered yet
                deadline.reschedule(loop.time() + self.settings.drain_seconds)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ask_to_stop, number.name)

    def _lease(self, bucket: S3Bucket, state: State, clock: Clock) -> Lease:
        """A state file is locked, so a lease that carries its name is one of a process that is gone."""
        lease = Lease(bucket, lease_prefix(self.settings.s3_prefix), clock, self.telemetry, self.telemetry.problems)
        if state.database.path != ":memory:":
            lease.own("state-" + blake2b(b"lease", key=state.database.secret_key(), digest_size=8).hexdigest())
        return lease

    # State

    async def _home(self, stack: AsyncExitStack, bucket: S3Bucket) -> S3Bucket:
        """The bucket that STATE_PATH names, which may be another than that of the logs."""
        place = self.settings.state_path
        if not isinstance(place, InBucket) or place.bucket == self.settings.s3_bucket:
            return bucket
        return await stack.enter_async_context(open_bucket(self.settings, place.bucket))

    async def _open_state(
        self, stack: AsyncExitStack, bucket: S3Bucket, stop: asyncio.Event, *, take: bool = False
    ) -> State | None:
        """The state, as soon as no other process holds it; None when told to stop before."""
        said = False
        while not stop.is_set():
            try:
                state = await self._state(bucket)
                stack.callback(state.close)
                if take and isinstance(state, BucketState):
                    await state.take()
                return state
            except StateLocked as error:
                if not said:
                    said = True
                    self.telemetry("standby_waiting", error=str(error))
                    self.telemetry.problems.found("standby", f"{error}; this one takes over when the other ends")
            except (Transient, Misconfigured) as error:
                remedy = error.remedy
                self.telemetry("poll_failed", error=str(error), remedy=remedy)
                self.telemetry.problems.found("bucket", f"{error}; {remedy}")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _STANDBY_SECONDS)
        return None

    async def _state(self, bucket: S3Bucket) -> State:
        match self.settings.state_path:
            case InBucket(prefix=prefix):
                return await BucketState.open(bucket, prefix)
            case File(path=path):
                return State(await asyncio.to_thread(Database, str(path)))
            case Off():
                return State(await asyncio.to_thread(Database, ":memory:"))

    async def _restore(self, state: State, watermark: Watermark, geoip: GeoIp, clock: Clock) -> Timeline:
        settings = self.settings
        rules = settings.timeline_rules

        def restore() -> tuple[Timeline, bool]:
            locate = geoip.locate if settings.geoip_db_path else None
            timeline = Timeline(rules, start_ms=clock.now_ms(), key=state.database.secret_key(), locate=locate)
            snapshot = state.database.load()
            if snapshot is not None:
                with no_search_for_cycles():
                    timeline.restore(snapshot)
                watermark.restore(snapshot.shards, snapshot.meta["watermark_ms"])
            return timeline, snapshot is None

        began = clock.monotonic()
        timeline, fresh = await state.run(restore)
        counts = await state.counts()
        self.telemetry(
            "state_opened",
            path=str(settings.state_path),
            fresh=fresh,
            last_tick=timeline.emitted,
            series=len(timeline.series),
            viewers=len(timeline.viewers),
            files=counts["counted"],
            outbox=counts["requests"],
            seconds=round(clock.monotonic() - began, 3),
        )
        self.telemetry(
            "service_started",
            version=__version__,
            python=platform.python_version(),
            timestamp_offset_ms=rules.timestamp_offset_ms,
            first_tick=timeline.floor,
            settings=settings.public(),
        )
        return timeline

    # The pipeline

    def _decoder(self) -> ExecutorDecoder:
        """One thread, worker processes, or a cluster; with their share of the places for files."""
        settings, report = self.settings, self.telemetry
        cluster = settings.dask_scheduler
        most, width = decoding_sizes(
            settings.download_concurrency, settings.decode_workers, cluster=cluster is not None
        )
        job = fetched(settings.decoder_rules)
        executor: Executor | None = None
        if cluster:
            from cdn77_exporter.edge.cluster import Cluster  # noqa: PLC0415 - its library is an extra
            from cdn77_exporter.service.cluster_job import on_cluster  # noqa: PLC0415

            job = on_cluster(settings.s3_bucket, settings.decoder_rules)
            executor = Cluster(cluster, width=width)
        elif settings.decode_workers:
            executor = Workers(settings.decode_workers)
        return ExecutorDecoder(job, executor, most=most, width=width, report=report)

    async def _build(
        self, stack: AsyncExitStack, bucket: S3Bucket, state: State, clock: Clock, stop: asyncio.Event
    ) -> Upkeep:
        settings, telemetry = self.settings, self.telemetry
        telemetry.problems.solved("standby")
        writer = await stack.enter_async_context(open_receiver(settings))
        geoip = GeoIp(settings.geoip_db_path)
        watermark = Watermark(idle_seconds=settings.shard_idle_seconds, lag_seconds=settings.idle_lag_seconds)
        timeline = await self._restore(state, watermark, geoip, clock)
        decoder = self._decoder()
        thread = ThreadPoolExecutor(1, "aggregate")
        stack.callback(decoder.close)
        stack.callback(thread.shutdown, wait=False, cancel_futures=True)
        context = Context(
            clock=clock,
            report=telemetry,
            problems=telemetry.problems,
            stop=stop,
            claims=Claims(),
            watermark=watermark,
            places=Places(settings.download_concurrency),
            arrivals=Arrivals(settings.tick_seconds, settings.shard_idle_seconds),
        )
        keep, keeps_state = settings.keep_files, not isinstance(settings.state_path, Off)
        quarantine = None
        if settings.quarantine_prefix and not keep:
            prefix = settings.quarantine_prefix
            quarantine = Quarantine(bucket, state, clock, telemetry, telemetry.problems, prefix)
        pipeline = Pipeline(
            context=context,
            lister=Lister(
                bucket,
                state,
                context,
                settings.s3_prefix,
                settings.poll_interval,
                settings.lookback_hours,
                keep,
                quarantine,
            ),
            fetcher=NotHere() if settings.dask_scheduler else Fetcher(bucket, state, context),
            decoder=FileDecoder(decoder, state, context),
            aggregator=Aggregator(timeline, state, context, thread, keeps_state=keeps_state),
            pusher=Pusher(writer, state, context, settings.push_retry_seconds, leaves=keeps_state),
            deleter=Deleter(bucket, state, context, keep),
            fetched=Channel(max(2, 2 * decoder.most), "fetched"),
        )
        self.overview.attach(pipeline, timeline)
        return Upkeep(settings, telemetry, pipeline, timeline, state, bucket, clock, geoip, self.overview)
