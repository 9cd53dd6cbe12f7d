"""A small remote-write receiver that accepts nothing amiss: it checks every request strictly and keeps the samples.

It stands in for Prometheus where there is none. What a real one refuses it refuses too, in similar words; and it also
refuses what the specification forbids although real receivers let it pass.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import re
import signal
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeVar

import cramjam
import orjson
from aiohttp import web
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from cdn77_exporter.core.encode import remote_write_2_pb2 as pb2
from cdn77_exporter.core.encode.parts import series_in
from cdn77_exporter.core.encode.remote_write_pb2 import MetricMetadata, TimeSeries, WriteRequest
from cdn77_exporter.core.encode.version import version_of
from cdn77_exporter.core.errors import Refused
from cdn77_exporter.demo.serving import Served

MAX_SAMPLES = 2000
MAX_BYTES = 32 << 20
#: How far behind the newest sample of all a sample may be, and how far ahead of the clock.
BEHIND_MS = 3600 * 1000
AHEAD_MS = 600 * 1000

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
#: What a request of each version has to have.
_HEADERS = {
    version: {
        "Content-Encoding": re.compile(r"snappy"),
        "Content-Type": re.compile(rf"application/x-protobuf{content}"),
        "X-Prometheus-Remote-Write-Version": re.compile(number),
        "User-Agent": re.compile(r"\S.*"),
    }
    for version, content, number in (
        (1, r"(;\s*proto=prometheus\.WriteRequest)?", r"0\.1\.\d+"),
        (2, r";\s*proto=io\.prometheus\.write\.v2\.Request", r"2\.0\.\d+"),
    )
}
_KINDS = {number: name.lower() for name, number in MetricMetadata.MetricType.items()}

Labels = tuple[tuple[str, str], ...]  # with __name__, sorted
Sample = tuple[int, float]  # Unix milliseconds, value


class Written(NamedTuple):
    """The numbers of samples of a request that were stored, or were there already."""

    samples: int = 0
    histograms: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """The headers in which an answer to a request of 2.0 tells them."""
        numbers = {"Samples": self.samples, "Histograms": self.histograms, "Exemplars": 0}
        return {f"X-Prometheus-Remote-Write-{name}-Written": str(number) for name, number in numbers.items()}


def wall_ms() -> int:
    """Return Unix time in milliseconds."""
    return int(time.time() * 1000)


class Store:
    """The series received, each with its newest `samples_each` samples; a request is taken whole or not at all."""

    def __init__(
        self, now_ms: Callable[[], int] = wall_ms, *, most_series: int = 200_000, samples_each: int = 5760
    ) -> None:
        self._now_ms = now_ms
        self._most_series = most_series
        self._samples_each = samples_each
        self._series: dict[Labels, deque[Sample]] = {}
        self._newest_ms = 0
        self.metadata: dict[str, tuple[str, str]] = {}  # metric: kind, help
        self.requests = 0
        self.samples = 0

    def series(self) -> dict[Labels, list[Sample]]:
        """Return all samples, the oldest first; stale markers are among them as NaN."""
        return {labels: list(samples) for labels, samples in self._series.items()}

    def take(self, body: bytes) -> Written:
        """Check a request of either version and keep its samples; return how many.

        Raises Refused and keeps nothing when any part of it is wrong.
        """
        request = parse(body)
        count = sum(len(series.samples) + len(series.histograms) for series in request.timeseries)
        if count > MAX_SAMPLES:
            raise Refused(400, f"{count} samples in one request; at most {MAX_SAMPLES} are allowed")
        metadata = [_checked_metadata(entry) for entry in request.metadata]
        fresh: dict[Labels, list[Sample]] = {}
        latest_ms = self._now_ms() + AHEAD_MS
        for series in request.timeseries:
            labels = _checked_labels(series)
            self._add(labels, series, fresh.setdefault(labels, []), latest_ms)
        if len(self._series) + sum(labels not in self._series for labels in fresh) > self._most_series:
            raise Refused(429, f"more than {self._most_series} series")
        for labels, samples in fresh.items():
            self._series.setdefault(labels, deque(maxlen=self._samples_each)).extend(samples)
            self._newest_ms = max([self._newest_ms, *(timestamp for timestamp, _ in samples)])
        self.metadata.update(metadata)
        self.requests += 1
        self.samples += sum(map(len, fresh.values()))
        histograms = sum(len(series.histograms) for series in request.timeseries)
        return Written(count - histograms, histograms)

    def _add(self, labels: Labels, series: TimeSeries, fresh: list[Sample], latest_ms: int) -> None:
        """Check a series' samples against what came before, and add the new ones to `fresh`."""
        kept = self._series.get(labels)
        last = fresh[-1] if fresh else kept[-1] if kept else None
        for timestamp, value in _samples_of(series):
            said = f"timestamp={timestamp} series={_text(labels)}"
            if timestamp > latest_ms:
                raise Refused(400, f"out of bounds: too far in the future: {said}")
            if last is not None and timestamp == last[0]:
                if _bits(value) == _bits(last[1]):
                    continue
                raise Refused(400, f"duplicate sample for timestamp: {said}")
            if last is not None and timestamp < last[0]:
                raise Refused(400, f"out of order sample: {said}")
            if timestamp < self._newest_ms - BEHIND_MS:
                raise Refused(400, f"out of bounds: too far behind the newest sample: {said}")
            last = (timestamp, value)
            fresh.append(last)

    def dump(self) -> dict[str, object]:
        """Return everything as JSON can hold it: a NaN's value is null."""
        return {
            "series": [
                {"labels": dict(labels), "samples": [[at, value if value == value else None] for at, value in samples]}  # noqa: PLR0124
                for labels, samples in self._series.items()
            ],
            "metadata": {name: {"type": kind, "help": words} for name, (kind, words) in self.metadata.items()},
            "requests": self.requests,
            "samples": self.samples,
        }


def _samples_of(series: TimeSeries) -> list[Sample]:
    """Return times and values; of a native histogram the number of its observations stands for it."""
    found = [(sample.timestamp, sample.value) for sample in series.samples]
    for one in series.histograms:
        observed = sum(itertools.accumulate(one.positive_deltas)) + one.zero_count_int
        if observed != one.count_int or sum(span.length for span in one.positive_spans) != len(one.positive_deltas):
            raise Refused(400, f"the buckets of a native histogram do not fit its count: timestamp={one.timestamp}")
        found.append((one.timestamp, one.sum if one.sum != one.sum else float(one.count_int)))
    return found


def parse(body: bytes) -> WriteRequest:
    """Inflate and parse a request's body, one of 2.0 as the same of 1.0; raises Refused when it is neither."""
    try:
        size = cramjam.snappy.decompress_raw_len(body)
        if size > MAX_BYTES:
            raise Refused(413, f"{size} bytes in one request; at most {MAX_BYTES} are allowed")
        plain = bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise Refused(400, f"snappy: {error}") from error
    try:
        if version_of(body) == 2:
            return _as_1(_strict(pb2.Request.FromString(plain)), body)
        return _strict(WriteRequest.FromString(plain))
    except DecodeError as error:
        raise Refused(400, f"protobuf: {error}") from error


_Request = TypeVar("_Request", WriteRequest, pb2.Request)


def _strict(request: _Request) -> _Request:
    """Return a request that has no field that is not known."""
    parts: Iterable[Message] = (request, *request.timeseries)
    if isinstance(request, WriteRequest):
        parts = (*parts, *request.metadata)
    if any(len(UnknownFieldSet(part)) for part in parts):
        raise Refused(400, "protobuf: a field that remote write does not have, or that is not taken here")
    return request


def _as_1(request: pb2.Request, body: bytes) -> WriteRequest:
    """Check what only 2.0 has, and return the same as a request of 1.0."""
    symbols = list(request.symbols)
    if symbols[:1] != [""]:
        raise Refused(400, "the first symbol is not empty")
    if len(set(symbols)) != len(symbols):
        raise Refused(400, "a symbol occurs twice")
    for entry in request.timeseries:
        refs = [*entry.labels_refs, entry.metadata.help_ref, entry.metadata.unit_ref]
        if len(entry.labels_refs) % 2 or max(refs) >= len(symbols):
            raise Refused(400, "a label that is no pair of symbols")
        if not entry.samples and not entry.histograms:
            raise Refused(400, "a series without samples")
        if entry.samples and entry.histograms:
            raise Refused(400, "a series with samples and native histograms")
        stamps = [one.timestamp for one in entry.samples] + [one.timestamp for one in entry.histograms]
        if entry.created_timestamp > min(stamps):
            raise Refused(400, "a series that was created after its first sample")
    found = WriteRequest()
    for series in series_in(body):
        found.timeseries.extend(series.entries)
        if series.about is not None and series.about.help:
            name = dict(_checked_labels(series.entries[0]))["__name__"]
            found.metadata.add(type=series.about.kind, metric_family_name=name, help=series.about.help)
    return found


def _checked_labels(series: TimeSeries) -> Labels:
    labels = tuple((label.name, label.value) for label in series.labels)
    names = [name for name, _ in labels]
    if names != sorted(names):
        raise Refused(400, f"labels are not sorted: {_text(labels)}")
    if len(set(names)) != len(names):
        raise Refused(400, f"a label name occurs twice: {_text(labels)}")
    for name, value in labels:
        if not _LABEL_NAME.fullmatch(name):
            raise Refused(400, f"invalid label name {name!r}: {_text(labels)}")
        if not value:
            raise Refused(400, f"the label {name!r} is empty: {_text(labels)}")
    if not _METRIC_NAME.fullmatch(dict(labels).get("__name__", "")):
        raise Refused(400, f"no valid metric name: {_text(labels)}")
    return labels


def _checked_metadata(entry: MetricMetadata) -> tuple[str, tuple[str, str]]:
    if not _METRIC_NAME.fullmatch(entry.metric_family_name):
        raise Refused(400, f"metadata without a valid metric name: {entry.metric_family_name!r}")
    if entry.type not in _KINDS:
        raise Refused(400, f"metadata of {entry.metric_family_name} with an unknown type {entry.type}")
    return entry.metric_family_name, (_KINDS[entry.type], entry.help)


def _text(labels: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{name}={value!r}" for name, value in labels) + "}"


def _bits(value: float) -> bytes:
    """Return what makes two values equal: a stale marker is a NaN, and no NaN equals itself."""
    return struct.pack("<d", value)


Before = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Receiver(Served):
    """The store behind HTTP on loopback.

    `port` 0 takes a free one. `credentials` (user, password) are asked for by basic authentication. `before` sees each
    write first, and what it returns is the answer.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        port: int = 0,
        credentials: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        before: Before | None = None,
    ) -> None:
        super().__init__("127.0.0.1", port, tls)
        self.store = store or Store()
        self._credentials = credentials
        self._before = before

    @property
    def write_url(self) -> str:
        """The URL that accepts requests."""
        return f"{self.address}/api/v1/write"

    def application(self) -> web.Application:
        """Return what takes requests."""
        app = web.Application(client_max_size=MAX_BYTES)
        app.router.add_post("/api/v1/write", self._write)
        app.router.add_get("/-/ready", self._ready)
        app.router.add_get("/api/v1/series_dump", self._dump)
        return app

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(text="ready\n")

    async def _dump(self, _: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self.store.dump()), content_type="application/json")

    async def _write(self, request: web.Request) -> web.StreamResponse:
        if self._before is not None and (answer := await self._before(request)) is not None:
            return answer
        body = await request.read()
        version = version_of(body)
        written = Written()
        try:
            self._check(request, version)
            written = self.store.take(body)
        except Refused as refusal:
            headers = written.headers if version == 2 else None
            return web.Response(status=refusal.status, text=refusal.words + "\n", headers=headers)
        return web.Response(status=204, headers=written.headers if version == 2 else None)

    def _check(self, request: web.Request, version: int) -> None:
        if self._credentials is not None:
            expected = "Basic " + base64.b64encode(":".join(self._credentials).encode()).decode()
            if request.headers.get("Authorization") != expected:
                raise Refused(401, "Unauthorized")
        for name, form in _HEADERS[version].items():
            found = request.headers.get(name, "")
            if not form.fullmatch(found):
                raise Refused(415 if name.startswith("Content-") else 400, f"the header {name} is {found!r}")


async def serve(port: int) -> None:
    """Serve until SIGTERM or SIGINT; prints the address when it is ready."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Receiver(port=port) as receiver:
        print(receiver.address, flush=True)
        await stop.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m cdn77_exporter.demo.receiver", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on loopback; 0 takes a free one (default)")
    asyncio.run(serve(parser.parse_args(arguments).port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
