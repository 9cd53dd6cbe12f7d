"""One run of the service: own the state, wire the pipeline, work until a signal, and end in order."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import uvloop

from cdn77_exporter import __version__, runtime
from cdn77_exporter.clients import open_bucket
from cdn77_exporter.core.errors import ConfigError, StateError
from cdn77_exporter.edge.clock import Clock
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.edge.state import State
from cdn77_exporter.flow.lease import Lease, lease_prefix
from cdn77_exporter.service.ownership import Ownership, open_state
from cdn77_exporter.service.shutdown import Shutdown
from cdn77_exporter.service.upkeep import Upkeep
from cdn77_exporter.service.wiring import build_pipeline
from cdn77_exporter.settings import InBucket, Settings
from cdn77_exporter.status.gather import Overview
from cdn77_exporter.status.page import Page
from cdn77_exporter.status.server import StatusServer
from cdn77_exporter.telemetry.libraries import adopt_logging
from cdn77_exporter.telemetry.logger import Telemetry


def run(settings: Settings) -> int:
    """Run the service until a signal, and return the exit code: 0 after a stop, 1 after a crash."""
    runtime.give_memory_back()
    runtime.switch_often()
    telemetry = Telemetry(settings.masker(), settings.log_level)
    adopt_logging(telemetry)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(Service(settings, telemetry, Clock(settings.clock_source)).run())
    except ConfigError:
        raise  # the command line says what is wrong
    except StateError as error:
        telemetry("service_crashed", stage="state", error=f"{error}; {error.remedy}", traceback="")
    except Exception as error:  # whatever it was is said before the process ends
        telemetry.crashed(error)
    return 1


@dataclass(slots=True)
class Service:
    """One run of the service."""

    settings: Settings
    telemetry: Telemetry
    clock: Clock
    shutdown: Shutdown = field(init=False)
    overview: Overview = field(init=False)

    def __post_init__(self) -> None:
        self.shutdown = Shutdown(self.telemetry, self.settings.drain_seconds)
        self.overview = Overview(self.settings, self.telemetry, time.time)

    async def run(self) -> int:
        """Set up, work until a signal, and end; return the exit code."""
        settings, telemetry = self.settings, self.telemetry
        for variable, doubt in settings.doubts:
            telemetry("setting_doubtful", setting=variable, doubt=doubt)
        telemetry.problems.found("start", "waiting for the first successful listing of the bucket")
        self.shutdown.listen()
        began = self.clock.monotonic()
        drained = True
        async with AsyncExitStack() as stack:
            if settings.http_addr:
                page = Page(self.overview.status, __version__)
                server = StatusServer(settings.http_addr, telemetry, page.routes(), hosts=settings.http_hosts)
                await stack.enter_async_context(server)
            bucket = await stack.enter_async_context(open_bucket(settings))
            ownership = await stack.enter_async_context(await self._ownership(stack, bucket))
            state = await ownership.take()
            if state is not None:
                drained = await self._work(stack, bucket, state, ownership)
        telemetry("service_stopped", drained=drained, seconds=round(self.clock.monotonic() - began, 3))
        return 0

    async def _ownership(self, stack: AsyncExitStack, bucket: S3Bucket) -> Ownership:
        settings, telemetry, place = self.settings, self.telemetry, self.settings.state_path
        home = bucket
        if isinstance(place, InBucket) and place.bucket != settings.s3_bucket:
            home = await stack.enter_async_context(open_bucket(settings, place.bucket))
        return Ownership(
            open=lambda: open_state(place, home),
            lease=Lease(bucket, lease_prefix(settings.s3_prefix), self.clock, telemetry, telemetry.problems),
            clock=self.clock,
            report=telemetry,
            problems=telemetry.problems,
            stop=self.shutdown.stop,
        )

    async def _work(self, stack: AsyncExitStack, bucket: S3Bucket, state: State, ownership: Ownership) -> bool:
        """Run the pipeline to its end; return False when it was cut short."""
        server_ms = bucket.take_server_ms()
        if server_ms is not None:
            self.clock.hear_bucket(server_ms)  # before the floor is set, which a wrong clock would misplace
        geoip = GeoIp(self.settings.geoip_db_path)
        pipeline = await build_pipeline(
            stack,
            self.settings,
            bucket=bucket,
            state=state,
            lease=ownership.lease,
            geoip=geoip,
            clock=self.clock,
            telemetry=self.telemetry,
            stop=self.shutdown.stop,
        )
        self.overview.attach(pipeline, pipeline.aggregator.timeline)
        upkeep = Upkeep(
            settings=self.settings,
            telemetry=self.telemetry,
            pipeline=pipeline,
            state=state,
            bucket=bucket,
            clock=self.clock,
            geoip=geoip,
            overview=self.overview,
        )
        upkeep.watch()
        try:
            async with self.shutdown.deadline(), asyncio.TaskGroup() as tasks:
                tasks.create_task(upkeep.run(), name="upkeep")
                tasks.create_task(upkeep.measure_lag(), name="lag")
                tasks.create_task(self.overview.run(self.shutdown.stop), name="overview")
                tasks.create_task(ownership.keep(), name="lease")
                tasks.create_task(pipeline.run(), name="pipeline")
        except TimeoutError:
            return False  # what is not committed stays in the bucket
        return True
