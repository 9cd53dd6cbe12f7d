"""A real Prometheus on loopback for tests: started, asked, and stopped."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from cdn77_exporter.core.encode.version import version_of
from tests.support.truth import Labels

BINARY = shutil.which("prometheus")
_START_SECONDS = 30.0
#: Prometheus's own counters of samples that it would not take.
REFUSALS = (
    "prometheus_tsdb_out_of_order_samples_total",
    "prometheus_tsdb_out_of_bound_samples_total",
    "prometheus_tsdb_too_old_samples_total",
    "prometheus_target_scrapes_sample_duplicate_timestamp_total",
)


def require_prometheus() -> None:
    """Skip the test without the binary; in CI it must be there."""
    require("prometheus")


def require(program: str) -> str:
    """Return where a program is, which is in the Debian package of its name; without it skip, or fail in CI."""
    found = shutil.which(program)
    if found is None:
        said = f"needs the {program} binary: apt-get install {program}"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(said)
        pytest.skip(said)
    return found


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Prometheus:
    """A Prometheus with the remote-write receiver on and nothing to scrape; its data live in `folder`.

    `out_of_order`: the out-of-order window, such as `2h`; none when empty. `features`: those that have to be switched
    on, such as `native-histograms`. It can be stopped and started again on the same port with the same data.
    """

    READY = "/-/ready"

    def __init__(self, folder: Path, *, out_of_order: str = "", features: str = "") -> None:
        self._folder = folder
        self.features = features
        self._out_of_order = out_of_order
        self._port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self.address = f"http://127.0.0.1:{self._port}"
        self.write_url = f"{self.address}/api/v1/write"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "server.log").open("ab") as log:
            self._server = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self._folder)
        self._wait_until_ready()

    def command(self) -> list[str]:
        """Return what starts it."""
        config = self._folder / "prometheus.yml"
        config.write_text("global: {scrape_interval: 1h}\n")
        if self._out_of_order:
            with config.open("a") as lines:
                lines.write(f"storage: {{tsdb: {{out_of_order_time_window: {self._out_of_order}}}}}\n")
        return [
            require("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--web.enable-remote-write-receiver",
            "--storage.tsdb.retention.time=30d",
            "--query.max-samples=200000000",
            "--log.level=warn",
            *([f"--enable-feature={self.features}"] if self.features else []),
        ]

    def _wait_until_ready(self) -> None:
        assert self._server is not None
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.address}{self.READY}", timeout=2) as answer:  # noqa: S310
                    if answer.status == 200:
                        return
            except OSError:
                pass
            if self._server.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{type(self).__name__} did not start:\n{self.log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server; its data stay."""
        server, self._server = self._server, None
        if server is None:
            return
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def log(self) -> str:
        """What the server wrote."""
        return (self._folder / "server.log").read_text(errors="replace")

    # Questions

    def _get(self, path: str, **parameters: str) -> Any:
        body = urllib.parse.urlencode(parameters).encode()
        request = urllib.request.Request(f"{self.address}{path}", data=body or None)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{parameters}: {error.read().decode(errors='replace')}") from error

    def query(self, expression: str, at: float | None = None) -> dict[Labels, float]:
        """An instant query's vector: labels (without the name) to value."""
        found = self._get("/api/v1/query", query=expression, time=str(time.time() if at is None else at))
        return {_labels(row["metric"]): float(row["value"][1]) for row in found["result"]}

    def query_range(
        self, expression: str, start: float, end: float, step: float
    ) -> dict[Labels, list[tuple[float, float]]]:
        """A range query's matrix: labels to (time, value)."""
        found = self._get("/api/v1/query_range", query=expression, start=str(start), end=str(end), step=str(step))
        return {_labels(row["metric"]): [(at, float(value)) for at, value in row["values"]] for row in found["result"]}

    def histograms(self, metric: str, at: float, span: str = "3h") -> dict[Labels, list[tuple[int, float, float]]]:
        """All stored native histograms of a metric: labels to (Unix ms, count, sum), oldest first."""
        found = self._get("/api/v1/query", query=f"{metric}[{span}]", time=str(at))
        return {
            _labels(row["metric"]): [
                (round(stamp * 1000), float(one["count"]), float(one["sum"])) for stamp, one in row["histograms"]
            ]
            for row in found["result"]
            if "histograms" in row
        }

    def samples(self, metric: str, at: float | None = None, span: str = "3h") -> dict[Labels, list[tuple[int, float]]]:
        """All stored samples of a metric in the span before an instant: labels to (Unix ms, value), oldest first.

        Stale markers are not among them; Prometheus does not give them out.
        """
        end = time.time() + 60 if at is None else at
        found = self._get("/api/v1/query", query=f"{metric}[{span}]", time=str(end))
        return {
            _labels(row["metric"]): [(round(stamp * 1000), float(value)) for stamp, value in row["values"]]
            for row in found["result"]
        }

    def last(self, metric: str, at: float | None = None, span: str = "3h") -> dict[Labels, float]:
        """The newest value of each series of a metric, of ended series too."""
        return {key: values[-1][1] for key, values in self.samples(metric, at, span).items()}

    def counted(self, metric: str) -> dict[Labels, float]:
        """What each series of a counter has counted, with its first value: a fall is a beginning at zero."""
        return {
            key: round(
                values[0][1]
                + sum(now - before if now >= before else now for (_, before), (_, now) in itertools.pairwise(values)),
                3,  # times are counted to the millisecond
            )
            for key, values in self.samples(metric).items()
        }

    # Its own metrics

    def own_metrics(self) -> dict[str, float]:
        """The server's own metrics: `name{labels}` as in the text format to value."""
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=10) as answer:  # noqa: S310
            text = answer.read().decode()
        rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def store(self, body: bytes) -> None:
        """Write a request of either version, as the exporter does; the server must take it."""
        proto = ";proto=io.prometheus.write.v2.Request" if version_of(body) == 2 else ""
        headers = {"Content-Encoding": "snappy", "Content-Type": f"application/x-protobuf{proto}"}
        request = urllib.request.Request(self.write_url, data=body, headers=headers)  # noqa: S310 - on this machine
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            assert answer.status == 204

    @cached_property
    def is_left_open(self) -> bool:
        """True if a window has no sample at its beginning, as from Prometheus 3 on."""
        built = [name for name in self.own_metrics() if name.startswith("prometheus_build_info{")]
        return bool(built) and 'version="2.' not in built[0]

    def spanning(self, query: str) -> str:
        """Return a query whose windows have the samples on both of their edges.

        A left-open window is made a millisecond longer. Else the growth to its first sample is missing, and the mean of
        the others stands in its place.
        """
        return re.sub(r"\[(\d+[smhd])(?=[\]:])", r"[\g<1>1ms", query) if self.is_left_open else query

    def refused(self) -> dict[str, float]:
        """What this run of the server refused: samples by kind, and write requests by answers other than 2xx."""
        found: dict[str, float] = {}
        for name, value in self.own_metrics().items():
            written = name.startswith("prometheus_http_requests_total{") and "/api/v1/write" in name
            if (written and 'code="2' not in name) or name.partition("{")[0] in REFUSALS:
                found[name] = value
        return {name: value for name, value in found.items() if value}


def _labels(metric: dict[str, str]) -> Labels:
    return tuple(sorted((name, value) for name, value in metric.items() if name != "__name__"))
