"""Wires the pipeline: what each stage is made of, and what the stages share."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from cdn77_exporter.clients import open_receiver
from cdn77_exporter.core.arrivals import Arrivals
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.edge.clock import Clock
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.edge.state import State
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.claims import Claims
from cdn77_exporter.flow.ordering import Places
from cdn77_exporter.flow.pipeline import Pipeline
from cdn77_exporter.flow.quarantine import Quarantine
from cdn77_exporter.flow.stages import Aggregator, Context, Deleter, Fetcher, FileDecoder, Lister, NotHere, Pusher
from cdn77_exporter.service.decoding import make_decoder
from cdn77_exporter.service.restoring import restore
from cdn77_exporter.settings import Off, Settings
from cdn77_exporter.telemetry.logger import Telemetry


async def build_pipeline(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    bucket: S3Bucket,
    state: State,
    geoip: GeoIp,
    clock: Clock,
    telemetry: Telemetry,
    stop: asyncio.Event,
) -> Pipeline:
    """Restore the timeline and return the stages around it; `stack` closes what they use."""
    writer = await stack.enter_async_context(open_receiver(settings))
    watermark = Watermark(idle_seconds=settings.shard_idle_seconds, lag_seconds=settings.idle_lag_seconds)
    timeline = await restore(settings, state, watermark=watermark, geoip=geoip, clock=clock, report=telemetry)
    decoder = make_decoder(settings, telemetry)
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
    return Pipeline(
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
