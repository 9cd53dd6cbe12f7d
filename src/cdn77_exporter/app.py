"""The composition root: settings become clients, clients become stages, and signals end them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import uvloop

from cdn77_exporter import __version__
from cdn77_exporter.core.decode import Limits
from cdn77_exporter.core.errors import StateError, StateLocked
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.edge.clock import Clock
from cdn77_exporter.edge.decoding import DecoderRules, ExecutorDecoder
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.edge.remote_write import RemoteWriter
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.edge.state import Database, State
from cdn77_exporter.edge.status import StatusServer
from cdn77_exporter.flow.claims import Claims
from cdn77_exporter.flow.ordering import Places
from cdn77_exporter.flow.pipeline import Pipeline
from cdn77_exporter.flow.stages import Aggregator, Context, Deleter, Fetcher, FileDecoder, Lister, Pusher
from cdn77_exporter.settings import Settings
from cdn77_exporter.telemetry import Telemetry

_STANDBY_SECONDS = 2.0
_UPKEEP_SECONDS = 5.0
_PRUNE_EVERY = 120  # rounds of upkeep
_LAG_SAMPLE_SECONDS = 0.05


def run(settings: Settings) -> int:
    """Run the service until a signal; the exit code: 0 after a stop, 1 after a crash."""
    telemetry = Telemetry(settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Service(settings, telemetry).run())
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
    lag: LoopLag = field(default_factory=LoopLag)

    async def run(self) -> int:
        settings, telemetry = self.settings, self.telemetry
        stop = asyncio.Event()
        deadline = asyncio.timeout(None)
        self._listen_to_signals(stop, deadline)
        clock = Clock()
        began = clock.monotonic()
        async with AsyncExitStack() as stack:
            if settings.http_addr:
                await stack.enter_async_context(StatusServer(settings.http_addr, telemetry))
            state = await self._open_state(stop)
            if state is None:
                return 0
            stack.callback(state.close)
            pipeline = await self._build(stack, state, clock, stop)
            drained = True
            try:
                async with deadline, asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._upkeep(pipeline, state, stop), name="upkeep")
                    tasks.create_task(self._measure_lag(stop), name="lag")
                    tasks.create_task(pipeline.run(), name="pipeline")
            except TimeoutError:
                drained = False  # what is not committed stays in the bucket
            telemetry("service_stopped", drained=drained, seconds=round(clock.monotonic() - began, 3))
        return 0

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

    async def _open_state(self, stop: asyncio.Event) -> State | None:
        """The state, as soon as no other process holds it; None when told to stop before."""
        path = ":memory:" if self.settings.state_path == "off" else self.settings.state_path
        said = False
        while not stop.is_set():
            try:
                return State(await asyncio.to_thread(Database, path))
            except StateLocked as error:
                if not said:
                    said = True
                    self.telemetry("standby_waiting", error=str(error))
                    self.telemetry.problems.found("standby", f"{error}; this one takes over when the other ends")
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _STANDBY_SECONDS)
        return None

    async def _build(self, stack: AsyncExitStack, state: State, clock: Clock, stop: asyncio.Event) -> Pipeline:
        settings, telemetry = self.settings, self.telemetry
        telemetry.problems.solved("standby")
        bucket = await stack.enter_async_context(self._bucket())
        writer = await stack.enter_async_context(self._writer())
        decoder = ExecutorDecoder(
            DecoderRules(
                settings.tick_seconds,
                settings.stream_pattern,
                Limits(settings.max_file_bytes, settings.max_line_bytes, settings.max_bad_lines),
                settings.stream_allowlist,
            )
        )
        stack.callback(decoder.close)
        geoip = GeoIp(settings.geoip_db_path)
        watermark = Watermark(idle_seconds=settings.shard_idle_seconds, lag_seconds=settings.idle_lag_seconds)
        timeline = await self._timeline(state, watermark, geoip, clock)
        context = Context(
            clock=clock,
            report=telemetry,
            problems=telemetry.problems,
            stop=stop,
            claims=Claims(),
            watermark=watermark,
            places=Places(settings.download_concurrency),
        )
        thread = ThreadPoolExecutor(1, "aggregate")
        stack.callback(thread.shutdown, wait=False, cancel_futures=True)
        pipeline = Pipeline(
            context=context,
            lister=Lister(
                bucket,
                state,
                context,
                settings.s3_prefix,
                settings.poll_interval,
                settings.lookback_hours,
                settings.keep_files,
            ),
            fetcher=Fetcher(bucket, state, context),
            decoder=FileDecoder(decoder, state, context),
            aggregator=Aggregator(timeline, state, context, thread, keeps_state=settings.state_path != "off"),
            pusher=Pusher(writer, state, context, settings.push_retry_seconds),
            deleter=Deleter(bucket, state, context, settings.keep_files),
        )
        self._watch(pipeline, timeline)
        return pipeline

    def _bucket(self) -> S3Bucket:
        settings = self.settings
        return S3Bucket(
            endpoint=settings.s3_endpoint,
            bucket=settings.s3_bucket,
            access_key=settings.s3_access_key.reveal,
            secret_key=settings.s3_secret_key.reveal,
            region=settings.s3_region,
            ca_bundle=settings.s3_ca_bundle,
            concurrency=settings.download_concurrency,
        )

    def _writer(self) -> RemoteWriter:
        settings = self.settings
        return RemoteWriter(
            settings.prometheus_url,
            user=settings.prometheus_user and settings.prometheus_user.reveal,
            password=settings.prometheus_password and settings.prometheus_password.reveal,
            bearer_token=settings.prometheus_bearer_token and settings.prometheus_bearer_token.reveal,
            headers=settings.prometheus_headers,
            ca_bundle=settings.prometheus_ca_bundle,
            client_cert=settings.prometheus_client_cert,
            client_key=settings.prometheus_client_key,
        )

    async def _timeline(self, state: State, watermark: Watermark, geoip: GeoIp, clock: Clock) -> Timeline:
        settings = self.settings
        offset = settings.timestamp_offset_ms
        rules = Rules(
            tick_seconds=settings.tick_seconds,
            session_window_seconds=settings.session_window_seconds,
            timestamp_offset_ms=random.randrange(1000) if offset == "random" else int(offset),  # noqa: S311
            backfill_seconds=settings.backfill_window,
            max_streams=settings.max_streams,
            max_series=settings.max_series,
        )

        def restore() -> Timeline:
            timeline = Timeline(
                rules,
                start_ms=clock.now_ms(),
                key=state.database.secret_key(),
                locate=geoip.locate if geoip.available else None,
            )
            snapshot = state.database.load()
            if snapshot is not None:
                timeline.restore(snapshot)
                watermark.restore(snapshot.shards, snapshot.meta["watermark_ms"])
            return timeline

        timeline = await state.run(restore)
        counts = await state.counts()
        self.telemetry(
            "state_opened",
            path=settings.state_path,
            last_tick=timeline.emitted,
            series=len(timeline.series),
            viewers=len(timeline.viewers),
            files=counts["counted"],
            outbox=counts["requests"],
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

    async def _measure_lag(self, stop: asyncio.Event) -> None:
        """How late the event loop is: how much longer than asked a short sleep takes."""
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            due = loop.time() + _LAG_SAMPLE_SECONDS
            await asyncio.sleep(_LAG_SAMPLE_SECONDS)
            self.telemetry.loop_lag(max(0.0, loop.time() - due))
