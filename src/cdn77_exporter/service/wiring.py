"""Wires the pipeline: what each stage is made of, and what the stages share."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from cdn77_exporter.clients import open_receiver
from cdn77_exporter.core.already_told import AlreadyTold
from cdn77_exporter.core.arrivals import Arrivals
from cdn77_exporter.core.timeline import Timeline
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.edge.clock import Clock
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.edge.receiver.query import Memory
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.edge.state import State
from cdn77_exporter.flow.accounts import ToldUntilAccepted
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.in_flight import InFlight
from cdn77_exporter.flow.lease import Lease, OwnersCommits, OwnersReceiver
from cdn77_exporter.flow.pipeline import Pipeline
from cdn77_exporter.flow.ports import Common
from cdn77_exporter.flow.quarantine import Quarantine
from cdn77_exporter.flow.shard_reports import ShardReports
from cdn77_exporter.flow.stages.aggregate import Aggregator
from cdn77_exporter.flow.stages.decode import FileDecoder
from cdn77_exporter.flow.stages.delete import Deleter
from cdn77_exporter.flow.stages.fetch import FetchedByDecoder, Fetcher
from cdn77_exporter.flow.stages.list import Lister
from cdn77_exporter.flow.stages.push import Pusher
from cdn77_exporter.flow.stages.sweep import Sweeper
from cdn77_exporter.service.decoding import make_decoder
from cdn77_exporter.service.restoring import restore
from cdn77_exporter.settings import Off, Settings
from cdn77_exporter.telemetry.logger import Telemetry

_PUSH_SECONDS = 5.0  # of DRAIN_SECONDS that are left for pushing and deleting


async def build_pipeline(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    bucket: S3Bucket,
    state: State,
    lease: Lease,
    geoip: GeoIp,
    clock: Clock,
    telemetry: Telemetry,
    stop: asyncio.Event,
) -> Pipeline:
    """Restore the timeline and return the stages around it; `stack` closes what they use."""
    writer = await stack.enter_async_context(open_receiver(settings))
    watermark = _watermark(settings)
    timeline = await restore(
        settings,
        state,
        watermark=watermark,
        geoip=geoip,
        clock=clock,
        report=telemetry,
        pushed=AlreadyTold(lease.last_tick, lease.last_upload_ms),
    )
    timeline.spoken.want(settings.remote_write_version)
    lease.note(timeline.emitted)  # an earlier process may have left requests
    decoder = make_decoder(settings, telemetry)
    thread = ThreadPoolExecutor(1, "aggregate")
    stack.callback(decoder.close)
    stack.callback(thread.shutdown, wait=False, cancel_futures=True)
    common = Common(clock, telemetry, telemetry.problems, stop)
    in_flight = InFlight(
        settings.download_concurrency, telemetry, steady=clock.monotonic, patience=settings.shard_idle_seconds
    )
    shards = ShardReports(common, in_flight, watermark, settings.shard_wait_seconds)
    arrivals = Arrivals(settings.tick_seconds, settings.shard_idle_seconds)
    keep, keeps_state = settings.keep_files, not isinstance(settings.state_path, Off)
    aggregator = Aggregator(
        common,
        in_flight,
        timeline,
        OwnersCommits(state, lease),
        watermark,
        arrivals,
        thread,
        keeps_state=keeps_state,
        shards=shards,
        patience_seconds=max(0.0, settings.drain_seconds - _PUSH_SECONDS),
    )
    events_seen = await state.events_seen(settings.stream_rules)
    return Pipeline(
        common=common,
        in_flight=in_flight,
        watermark=watermark,
        lister=Lister(
            common,
            in_flight,
            bucket,
            state,
            watermark,
            arrivals,
            names=settings.log_names,
            interval=settings.poll_interval,
            lookback_hours=settings.lookback_hours,
            sweeper=await _sweeper(settings, common, in_flight, bucket, state, timeline),
            keep_files=keep,
            quarantine=_quarantine(settings, common, bucket, state),
        ),
        fetcher=Fetcher(common, in_flight, FetchedByDecoder() if settings.dask_scheduler else bucket, state, watermark),
        decoder=FileDecoder(
            common, in_flight, decoder, state, events_seen=events_seen, already_told=timeline.already_told
        ),
        aggregator=aggregator,
        pusher=Pusher(
            common,
            OwnersReceiver(writer, lease, stop),
            state,
            ToldUntilAccepted(aggregator, state),
            settings.push_retry_seconds,
            leaves=keeps_state,
            recalls=Memory(writer, settings.prometheus_url),
            limit=timeline.request_limit,
            spoken=timeline.spoken,
        ),
        deleter=Deleter(common, bucket, state, keep_files=keep),
        fetched=Channel(max(2, 2 * decoder.most), "fetched"),
    )


def _watermark(settings: Settings) -> Watermark:
    return Watermark(
        idle_seconds=settings.shard_idle_seconds,
        lag_seconds=settings.idle_lag_seconds,
        wait_seconds=settings.shard_wait_seconds,
        lateness_seconds=settings.allowed_lateness_seconds,
    )


async def _sweeper(
    settings: Settings, common: Common, in_flight: InFlight, bucket: S3Bucket, state: State, timeline: Timeline
) -> Sweeper:
    """Return what finds files that no poll sees; those from before the state's first lookback are not its own."""
    began_ms = timeline.floor * 1000 if timeline.begun else common.clock.possible_ms()[-1]
    meta = await state.meta()
    since_ms = meta.get("ledger_since_ms", began_ms - int(settings.lookback_hours * 3_600_000))
    keep = settings.keep_files
    return Sweeper(common, in_flight, bucket, state, settings.log_names, since_ms, keep_files=keep)


def _quarantine(settings: Settings, common: Common, bucket: S3Bucket, state: State) -> Quarantine | None:
    """Return what moves files that were set aside, if they are to be moved."""
    if not settings.quarantine_prefix or settings.keep_files:
        return None
    return Quarantine(bucket, state, common.clock, common.report, common.problems, settings.quarantine_prefix)
