"""A whole run of the service in virtual time, over a bucket in memory, a receiver that only keeps, and a real state."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cdn77_exporter import settings
from cdn77_exporter.core.encode.parts import NOTHING_2, series_in
from cdn77_exporter.core.errors import Refused
from cdn77_exporter.edge.decoding import ExecutorDecoder, fetched
from cdn77_exporter.edge.geoip import GeoIp
from cdn77_exporter.flow.lease import Lease, lease_prefix
from cdn77_exporter.service import app, wiring
from cdn77_exporter.service.app import Service
from cdn77_exporter.service.ownership import open_state
from cdn77_exporter.service.upkeep import Upkeep
from cdn77_exporter.telemetry.logger import Telemetry
from cdn77_exporter.telemetry.metrics import PREFIX
from tests.support.fake_bucket import FakeBucket
from tests.support.files import EXAMPLE_MS, event, log_file, stream_name
from tests.support.virtual_time import Inline, VirtualClock, VirtualTimeLoop

T = TypeVar("T")
#: After this a file that was there at the start is counted, pushed and deleted.
THROUGH_SECONDS = 45
FOLDER = "logs/20260110/14/"
BEGAN_MS = EXAMPLE_MS + 60_000
ENVIRON = {
    "S3_ENDPOINT": "http://127.0.0.1:9",
    "S3_BUCKET": "the-bucket",
    "S3_PREFIX": "logs",
    "S3_ACCESS_KEY": "the-access-key",
    "S3_SECRET_KEY": "the-secret-key",
    "PROMETHEUS_URL": "http://127.0.0.1:9/api/v1/write",
    "HTTP_ADDR": "off",
    "STATE_PATH": "off",
    # So that a file is through within a minute: virtual time is cheap, but not free.
    "POLL_INTERVAL": "5",
    "SHARD_IDLE_SECONDS": "5",
    "IDLE_LAG_SECONDS": "5",
}


class InlineLoop(VirtualTimeLoop):
    """Virtual time in which every executor does its work at once, on the loop's own thread."""

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, call: Callable[..., T], *values: Any
    ) -> asyncio.Future[T]:
        """Return what `call(*values)` has given."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(call(*values))
        except Exception as error:
            done.set_exception(error)
        return done


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time, its threads included."""
    with asyncio.Runner(loop_factory=InlineLoop) as runner:
        return runner.run(main)


class Clock(VirtualClock):
    """A clock that notes what the bucket tells it."""

    def __init__(self, began_ms: int = BEGAN_MS) -> None:
        super().__init__(began_ms, doubts=True)
        self.heard: list[int] = []

    def hear_bucket(self, now_ms: int) -> None:
        """See `edge.clock.Clock.hear_bucket`."""
        self.heard.append(now_ms)
        super().hear_bucket(now_ms)


class Receiver:
    """Takes every request; `gate` holds them.

    It refuses those with a text of `refuses` in them, and those that are longer than `most_bytes`.
    """

    def __init__(self) -> None:
        self.refuses: set[str] = set()
        self.most_bytes = 1 << 62
        self.bodies: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True

    async def write(self, body: bytes) -> int | None:
        """Keep a request; it says nothing of what it has written, and so gets requests of 1.0."""
        await self.gate.wait()
        if body == NOTHING_2:
            return None
        if len(body) > self.most_bytes:
            raise Refused(413, "too large")
        if any(text in str(one) for text in self.refuses for one in series_in(body)):
            raise Refused(400, "no such stream")
        self.bodies.append(body)
        return None


class Run:
    """One run of the service; `said` are its messages, `ended` the codes with which it would have ended the process."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        bucket: FakeBucket | None = None,
        *,
        began_ms: int = BEGAN_MS,
        **environ: str,
    ) -> None:
        self.clock = Clock(began_ms)
        self.bucket = bucket or FakeBucket(now_ms=self.clock.true_ms)
        self.receiver = Receiver()
        self.settings = settings.load(ENVIRON | environ)
        self._lines = io.BytesIO()
        self.telemetry = Telemetry(self.settings.masker(), stream=self._lines, now=lambda: self.clock.true_ms() / 1000)
        self.service = Service(self.settings, self.telemetry, self.clock)
        self.ended: list[int] = []
        self.service.shutdown.end = self.ended.append
        monkeypatch.setattr(app, "open_bucket", lambda settings, name=None: self.bucket)
        monkeypatch.setattr(wiring, "open_receiver", lambda settings: self.receiver)
        monkeypatch.setattr(
            wiring,
            "make_decoder",
            lambda settings, report: ExecutorDecoder(fetched(settings.decoder_rules), Inline(), report=report),
        )

    async def put(self, number: int = 1, events: int = 3, streams: int = 1, **fields: object) -> str:
        """Upload a log file with events of some streams, in turn, which have these fields; its key."""
        key = f"{FOLDER}rtl.w+0+{number}.ndjson.gz"
        paths = [f"/{stream_name(index % streams)}/x.ts" for index in range(events)]
        ms = self.clock.true_ms() - 30_000
        await self.bucket.put(key, log_file([event(ms, clientRequestPath=path, **fields) for path in paths]))
        return key

    def at(self, seconds: float, call: Callable[..., object], *values: object) -> None:
        """Do something so much later."""
        asyncio.get_running_loop().call_later(seconds, call, *values)

    def stop(self, after: float = 0.0) -> None:
        """Send the signal."""
        self.at(after, self.service.shutdown.ask, "SIGTERM")

    def said(self, message: str) -> list[dict[str, Any]]:
        """The messages of a name, in their order."""
        lines = [json.loads(line) for line in self._lines.getvalue().splitlines()]
        return [line for line in lines if line["message"] == message]

    def problems(self) -> set[str]:
        """What is wrong at the moment."""
        return {problem.what for problem in self.telemetry.problems.current()}

    def gauge(self, name: str, **labels: str) -> float | None:
        """What a self-metric says now."""
        families = text_string_to_metric_families(self.telemetry.exposition().decode())
        samples = (sample for family in families for sample in family.samples)
        return next((one.value for one in samples if (one.name, one.labels) == (PREFIX + name, labels)), None)

    @asynccontextmanager
    async def upkeep(self) -> AsyncIterator[Upkeep]:
        """Upkeep at work beside a pipeline that does nothing."""
        async with AsyncExitStack() as stack:
            state = await open_state(self.settings.state_path, self.bucket)  # type: ignore[arg-type]
            stack.callback(state.close)
            self.clock.answer()
            geoip = GeoIp(self.settings.geoip_db_path)
            shared: dict[str, Any] = {"bucket": self.bucket, "state": state, "geoip": geoip, "clock": self.clock}
            stop = self.service.shutdown.stop
            lease = Lease(self.bucket, lease_prefix("logs"), self.clock, self.telemetry, self.telemetry.problems)
            pipeline = await wiring.build_pipeline(
                stack, self.settings, lease=lease, telemetry=self.telemetry, stop=stop, **shared
            )
            overview = self.service.overview
            kept = Upkeep(self.settings, self.telemetry, pipeline, overview=overview, **shared)
            kept.watch()
            task = asyncio.ensure_future(kept.run())
            await asyncio.sleep(1)
            yield kept
            stop.set()
            await task

    @asynccontextmanager
    async def running(self, seconds: float) -> AsyncIterator[None]:
        """Let the service run for some time, then look at it, then stop it and wait for its end."""
        task = asyncio.ensure_future(self.service.run())
        await asyncio.sleep(seconds)
        yield
        self.service.shutdown.ask("SIGTERM")
        assert await task == 0


def state_file(folder: Path) -> dict[str, str]:
    """The setting of a state in a file."""
    return {"STATE_PATH": str(folder / "state.db")}
