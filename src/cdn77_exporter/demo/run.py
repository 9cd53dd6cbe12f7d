"""The demo: real S3 server, real receiver, real daemon and invented traffic; at the end their numbers must agree."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from rich.console import Console

from cdn77_exporter.core.measures import (
    MEASURES,
    VIEWERS_BY_REGION,
    Kind,
    SessionsOver,
    SessionsOverWatched,
    Watched,
)
from cdn77_exporter.demo.alerts import Alert, AlertReceiver
from cdn77_exporter.demo.children import Child, ChildError, free_port
from cdn77_exporter.demo.live import Comparison, LiveView, PlainView, Progress, View, compare, show_comparison
from cdn77_exporter.demo.traffic import Plan, Traffic, Upload, usual_streams, write
from cdn77_exporter.demo.watching import InTime, Watching
from cdn77_exporter.edge.s3 import S3Bucket

_BUCKET, _PREFIX = "demo-logs", "real-time-logs/all-logs"
_DRAIN_SECONDS = 90.0
#: What is counted two minutes after the last request of a player, which the demo does not wait for.
_LATER = SessionsOver | SessionsOverWatched
#: Settings that differ from production, so that a minute is enough to see a file from its writing to its deletion.
_QUICK = {"POLL_INTERVAL": "2", "TICK_SECONDS": "5", "SHARD_IDLE_SECONDS": "8", "IDLE_LAG_SECONDS": "8"}
#: Alertmanager, as Debian names it and as others do; and the rules, which are beside the sources.
_ALERTMANAGERS = ("prometheus-alertmanager", "alertmanager")
_RULES = Path(__file__).resolve().parents[3] / "deploy" / "prometheus"
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
_MOTO_REMEDY = (
    "The demo needs an S3 server to talk to: run `make demo` in the sources, or install what `locks/demo.txt` names."
)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line. `seconds`: how long traffic is written; 0 for as long as it is not stopped."""

    seconds: float = 60.0
    keep: bool = False
    lines_per_second: float = 150.0


@dataclass(frozen=True, slots=True)
class Target:
    """A bucket to write traffic into."""

    endpoint: str
    bucket: str
    prefix: str
    access_key: str
    secret_key: str
    region: str | None = None

    def open(self) -> S3Bucket:
        """Return the bucket, to be entered."""
        return S3Bucket(
            endpoint=self.endpoint,
            bucket=self.bucket,
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
        )

    async def create(self) -> None:
        """Create the bucket where the server lets anyone do so (a test server); otherwise it must exist."""
        url = f"{self.endpoint.rstrip('/')}/{self.bucket}"
        timeout = aiohttp.ClientTimeout(total=10)
        with suppress(aiohttp.ClientError, TimeoutError):
            async with aiohttp.ClientSession(timeout=timeout) as session, session.put(url) as answer:
                await answer.read()


def run_demo(options: Options) -> int:
    """Run the whole demo; return exit code 0 when every counter is what was written."""
    console = Console()
    if not console.is_terminal:
        console.width = 120
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        console.print(_MOTO_REMEDY, highlight=False, markup=False, soft_wrap=True)
        return 1
    with tempfile.TemporaryDirectory(prefix="cdn77-exporter-demo-", ignore_cleanup_errors=True) as folder:
        try:
            return asyncio.run(_Demo(options, console, Path(folder)).run())
        except ChildError as error:
            console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        except (KeyboardInterrupt, asyncio.CancelledError):
            console.print("Stopped before the comparison.")
    return 1


def run_traffic(options: Options, target: Target) -> int:
    """Write traffic into a bucket, and do nothing else."""
    return asyncio.run(_write_traffic(options, target, Console()))


async def _write_traffic(options: Options, target: Target, console: Console) -> int:
    with _signals() as stop:
        await target.create()
        progress = Progress(options.seconds, phase="writing traffic")
        async with target.open() as bucket:
            traffic = Traffic(_plan(options), start_ms=int(time.time() * 1000), prefix=target.prefix)

            def wrote(upload: Upload) -> None:
                progress.files_written += 1
                progress.lines_written += upload.lines
                console.print(f"{upload.key}  {upload.lines} lines", highlight=False, soft_wrap=True)

            async with _stopping_after(options.seconds, stop):
                await write(traffic, bucket.put, stop, wrote=wrote)
    console.print(f"{progress.files_written} files with {progress.lines_written} lines were written.")
    return 0


def _plan(options: Options) -> Plan:
    length = options.seconds or 3600.0
    return Plan(
        seed=time.time_ns() & 0xFFFFFFFF,
        lines_per_second=options.lines_per_second,
        viewers=200,
        stay_seconds=min(120.0, length / 3),
        file_seconds=5.0 if options.seconds else 30.0,
        overlap_seconds=1.0 if options.seconds else 3.0,
        upload_seconds=1.0,
        bad_share=0.003,
        streams=usual_streams(length),
        late=((1, 2, 8.0),),
    )


@contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Return an event that the first SIGINT or SIGTERM sets; the second cancels the current task."""
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def asked() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _stopping_after(seconds: float, stop: asyncio.Event) -> AsyncIterator[None]:
    """Set `stop` after some seconds of the context; 0 for never."""
    timer = asyncio.get_running_loop().call_later(seconds, stop.set) if seconds else None
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


@dataclass(frozen=True, slots=True)
class _Receiver:
    """The receiver of the daemon: Prometheus, or the small receiver of the demo (`embedded`)."""

    name: str
    address: str
    embedded: bool

    async def newest(self, metric: str, labels: tuple[str, ...]) -> dict[tuple[str, ...], tuple[int, float]]:
        """Return the newest sample (Unix ms, value) of each series of a metric, of ended ones too, by label values."""
        found = await (self._kept(metric) if self.embedded else self._stored(metric))
        return {tuple(series.get(label, "") for label in labels): sample for series, sample in found}

    async def _stored(self, metric: str) -> list[tuple[dict[str, str], tuple[int, float]]]:
        question = {"query": f"{metric}[2h]", "time": str(time.time() + 60)}
        answer = await self._get("/api/v1/query", question)
        newest = ((series["metric"], *series["values"][-1]) for series in answer["data"]["result"])
        return [(labels, (round(at * 1000), float(value))) for labels, at, value in newest]

    async def _kept(self, metric: str) -> list[tuple[dict[str, str], tuple[int, float]]]:
        answer = await self._get("/api/v1/series_dump", {})
        found = []
        for series in answer["series"]:
            samples = [(at, value) for at, value in series["samples"] if value is not None]  # None: a stale marker
            if samples and series["labels"]["__name__"] == metric:
                found.append((series["labels"], samples[-1]))
        return found

    async def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
            session.get(self.address + path, params=parameters) as answer,
        ):
            answer.raise_for_status()
            return orjson.loads(await answer.read())


def _watched(watching: Watching | InTime, instants: Mapping[tuple[str, ...], int]) -> dict[tuple[str, ...], float]:
    """Return the seconds watched, by stream and device type, each before its own instant (Unix ms)."""
    last_ms = max(instants.values(), default=0)
    at = {at_ms: watching.before(at_ms) for at_ms in {last_ms, *instants.values()}}
    return {key: at[instants.get(key, last_ms)][key] / 1000 for key in at[last_ms]}


class _Demo:
    """One run of the demo."""

    def __init__(self, options: Options, console: Console, folder: Path) -> None:
        self._options = options
        self._console = console
        self._folder = folder
        self._progress = Progress(options.seconds)
        self._in_time = InTime()
        self._status = f"127.0.0.1:{free_port()}"
        self._alerts: list[Alert] = []
        self._manager: str | None = None
        self._view: View = LiveView(console) if console.is_terminal else PlainView(console)

    async def run(self) -> int:
        """Start everything, write, drain and compare; end all programs in any case."""
        with _signals() as stop:
            async with AsyncExitStack() as stack:
                target = await self._start_s3(stack)
                receiver = await self._start_receiver(stack)
                daemon, status = await self._start_daemon(stack, target, receiver)
                self._introduce(receiver, status)
                bucket = await stack.enter_async_context(target.open())
                with self._view:
                    traffic = await self._write(bucket, daemon, stop)
                    drained = await self._drain(bucket, daemon)
                found = await self._compare(traffic, receiver)
                self._conclude(found, receiver, traffic, drained)
                if self._options.keep:
                    await self._keep(stop, target, receiver, status)
        return 0 if drained and all(one.equal for one in found) else 1

    # Beginning

    async def _start_s3(self, stack: AsyncExitStack) -> Target:
        address, port = "127.0.0.1", free_port()
        command = [sys.executable, "-m", "moto.server", "-H", address, "-p", str(port)]
        server = await stack.enter_async_context(Child("the S3 server (moto)", command, self._folder / "s3.log"))
        endpoint = f"http://{address}:{port}"
        await server.ready(f"{endpoint}/moto-api/")
        target = Target(endpoint, _BUCKET, _PREFIX, "demo", "demo-secret")
        await target.create()
        return target

    async def _start_receiver(self, stack: AsyncExitStack) -> _Receiver:
        port, log = free_port(), self._folder / "receiver.log"
        address = f"http://127.0.0.1:{port}"
        binary = shutil.which("prometheus")
        if binary is None:
            command = [sys.executable, "-m", "cdn77_exporter.demo.receiver", "--port", str(port)]
            receiver = _Receiver("the embedded receiver", address, embedded=True)
        else:
            config = self._folder / "prometheus.yml"
            config.write_text(self._config(await self._start_alertmanager(stack)))
            command = [
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--web.enable-remote-write-receiver",
                "--log.level=warn",
            ]
            receiver = _Receiver("Prometheus", address, embedded=False)
        server = await stack.enter_async_context(Child(receiver.name, command, log))
        await server.ready(f"{address}/-/ready")
        return receiver

    def _config(self, manager: str | None) -> str:
        """Return Prometheus's configuration: it scrapes the daemon, and tells an Alertmanager if there is one."""
        lines = [
            "global: {scrape_interval: 5s, evaluation_interval: 5s}",
            f"scrape_configs: [{{job_name: cdn77-exporter, static_configs: [{{targets: ['{self._status}']}}]}}]",
        ]
        if manager is not None:
            lines += [
                f"rule_files: ['{_RULES}/recording.rules.yml', '{_RULES}/alerts.rules.yml']",
                f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{manager}']}}]}}]}}",
            ]
        return "\n".join(lines) + "\n"

    async def _start_alertmanager(self, stack: AsyncExitStack) -> str | None:
        """Start an Alertmanager that tells the demo, and return its address; None when there is none, or no rules."""
        binary = next(filter(None, map(shutil.which, _ALERTMANAGERS)), None)
        if binary is None or not _RULES.is_dir():
            return None
        webhook = await stack.enter_async_context(AlertReceiver(self._alerts.append))
        config = self._folder / "alertmanager.yml"
        config.write_text(
            "route: {receiver: demo, group_by: [alertname, instance], group_wait: 1s, group_interval: 5s}\n"
            f"receivers: [{{name: demo, webhook_configs: [{{url: '{webhook.url}'}}]}}]\n"
        )
        address = f"127.0.0.1:{free_port()}"
        command = [
            binary,
            f"--config.file={config}",
            f"--storage.path={self._folder / 'alertmanager'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        log = self._folder / "alertmanager.log"
        server = await stack.enter_async_context(Child("Alertmanager", command, log))
        await server.ready(f"http://{address}/-/ready")
        self._manager = f"http://{address}/"
        return address

    async def _start_daemon(self, stack: AsyncExitStack, target: Target, receiver: _Receiver) -> tuple[Child, str]:
        status = self._status
        environ = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
            "S3_ENDPOINT": target.endpoint,
            "S3_BUCKET": target.bucket,
            "S3_PREFIX": target.prefix,
            "S3_ACCESS_KEY": target.access_key,
            "S3_SECRET_KEY": target.secret_key,
            "PROMETHEUS_URL": f"{receiver.address}/api/v1/write",
            "STATE_PATH": str(self._folder / "state.db"),
            "HTTP_ADDR": status,
            "PYTHONUNBUFFERED": "1",
            **_QUICK,
        }
        polled = asyncio.Event()

        def listen(line: dict[str, object]) -> None:
            self._progress.listen(line)
            if line.get("message") == "poll_finished":
                polled.set()

        command = [sys.executable, "-m", "cdn77_exporter"]
        daemon = Child("the daemon", command, self._folder / "daemon.log", environ=environ, listen=listen)
        await stack.enter_async_context(daemon)
        await self._until(polled.is_set, daemon, 30, "the daemon's first poll")
        return daemon, status

    def _introduce(self, receiver: _Receiver, status: str) -> None:
        quick = ", ".join(f"{name}={value}" for name, value in _QUICK.items())
        say: Callable[[str], None] = lambda words: self._console.print(words, highlight=False, soft_wrap=True)  # noqa: E731
        say(f"S3 server: moto. Receiver: {receiver.name}. Daemon: as in production, but quicker: {quick}.")
        if receiver.embedded:
            say("There is no prometheus on this machine; with one (apt-get install prometheus) the demo uses it.")
        say(f"Status page: http://{status}/  {receiver.name}: {receiver.address}/")
        if self._manager:
            say(f"Alertmanager: {self._manager}, which tells this demo what fires.")
        say(f"Traffic for {self._options.seconds:g} s; Ctrl-C ends it sooner.")

    async def _until(self, condition: Callable[[], bool], daemon: Child, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            daemon.require()
            if time.monotonic() > deadline:
                raise ChildError(f"Not within {seconds:g} s: {what}. The daemon's last lines:\n{daemon.last_words()}")
            await asyncio.sleep(0.1)

    # Middle

    async def _write(self, bucket: S3Bucket, daemon: Child, stop: asyncio.Event) -> Traffic:
        progress = self._progress
        progress.phase, progress.began = "writing traffic", time.monotonic()
        traffic = Traffic(_plan(self._options), start_ms=int(time.time() * 1000), prefix=_PREFIX)
        progress.in_time = traffic.in_time = self._in_time

        def wrote(upload: Upload) -> None:
            progress.files_written += 1
            progress.lines_written += upload.lines

        async with _stopping_after(self._options.seconds, stop):
            writing = asyncio.create_task(write(traffic, bucket.put, stop, wrote=wrote))
            try:
                while not writing.done():
                    daemon.require()
                    self._show(traffic)
                    await asyncio.wait([writing], timeout=0.25)
                await writing
            finally:
                writing.cancel()
        return traffic

    def _show(self, traffic: Traffic) -> None:
        streams = self._progress.streams
        streams.clear()
        for key, requests in traffic.totals.counters["cdn77_requests_total"].items():
            streams[key[0]] += requests
        self._view.show(self._progress)

    async def _drain(self, bucket: S3Bucket, daemon: Child) -> bool:
        """Wait until the daemon has deleted every file: then everything was acknowledged."""
        progress = self._progress
        progress.phase = "working off what is left"
        deadline = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < deadline:
            daemon.require()
            self._view.show(progress)
            left = [key async for page in bucket.list_keys(_PREFIX + "/") for key in page]
            if not left:
                return True
            await asyncio.sleep(0.5)
        return False

    # End

    async def _compare(self, traffic: Traffic, receiver: _Receiver) -> list[Comparison]:
        found = []
        of_name = {metric.name: metric for metric in MEASURES.rows}  # rows of one name differ in constant labels alone
        for metric in of_name.values():
            if metric.kind is Kind.COUNTER and metric is not VIEWERS_BY_REGION and not isinstance(metric.value, _LATER):
                newest = await receiver.newest(metric.name, metric.labels)
                held = {key: value for key, (_, value) in newest.items()}
                if isinstance(metric.value, Watched):
                    instants = {key: at_ms for key, (at_ms, _) in newest.items()}
                    written, least = (_watched(one, instants) for one in (traffic.totals.watching, self._in_time))
                    found.append(compare(metric.name, written, held, least))
                    continue
                totals = traffic.totals.counters[metric.name]
                written = {key: count / metric.per for key, count in totals.items()}
                found.append(compare(metric.name, written, held))
        return found

    def _conclude(self, found: list[Comparison], receiver: _Receiver, traffic: Traffic, drained: bool) -> None:
        progress, totals, console = self._progress, traffic.totals, self._console
        show_comparison(console, found, receiver.name)
        console.print(
            f"{progress.files_written} files, {totals.lines:,} lines: {totals.events:,} events and "
            f"{sum(totals.rejects.values())} bad lines, which were skipped. "
            f"Batches pushed: {progress.pushes}, samples: {progress.samples:,}, requests refused: {progress.refused}. "
            "Watch time, which goes on for a while, is that of the last tick: of events that came late only what goes "
            "beyond what was known counts. Viewers by region, which need a GeoIP database, and sessions that are "
            "over, as they are two minutes later, are left out.",
            highlight=False,
            soft_wrap=True,
        )
        if self._manager:
            told = [f"  {alert.line}" for alert in self._alerts]
            heading = "Alerts that came by Alertmanager:" if told else "No alert came by Alertmanager."
            console.print("\n".join([heading, *told]), highlight=False, markup=False, soft_wrap=True)
        if not drained:
            console.print(f"The bucket was not empty after {_DRAIN_SECONDS:g} s.", style="red")
        if drained and all(one.equal for one in found):
            console.print("Everything that was written is in the receiver, exactly.", style="bold green")
        else:
            console.print("The numbers are NOT equal.", style="bold red")

    async def _keep(self, stop: asyncio.Event, target: Target, receiver: _Receiver, status: str) -> None:
        """Keep everything running until a signal."""
        stop.clear()
        for name, address in (
            (receiver.name, receiver.address),
            ("daemon", f"http://{status}/metrics"),
            ("S3 server", f"{target.endpoint}/{target.bucket}"),
        ):
            self._console.print(f"{name}: {address}", highlight=False, soft_wrap=True)
        self._console.print("Ctrl-C ends them.")
        await stop.wait()
