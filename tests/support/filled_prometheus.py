"""A real Prometheus with half an hour of every series that the code can write, by the code's own tables."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cramjam

from cdn77_exporter.core.encode.remote_write_pb2 import WriteRequest
from cdn77_exporter.core.measures import PART, Histograms, Kind, built_in
from cdn77_exporter.telemetry.metrics import PREFIX, SELF_METRICS
from tests.support.prometheus import Prometheus

_SPAN_SECONDS = 1800
_TICK_SECONDS = 15
#: Values of labels that queries select by; every other label has one value.
_VALUES = {
    "stream_name": ("a" * 32, "b" * 32),
    "cache_status": ("HIT", "MISS"),
    "response_status": ("200", "404", "503"),
    "country": ("US",),
    "window": ("2h",),
    "ip_version": ("4", "6"),
}
_TARGET = {"job": "cdn77-exporter", "instance": "a"}


def series() -> Iterator[tuple[dict[str, str], bool]]:
    """Labels of every series, and whether it is a counter."""
    for metric in dict.fromkeys(row for kind in Histograms for row in built_in(kind).rows if not row.native):
        constants = dict(metric.constants)
        for labels in _combinations(metric.labels):
            yield {"__name__": metric.name, **labels, **constants}, metric.kind is Kind.COUNTER
    for bound in ("lower", "upper"):  # recorded by rules
        for labels in _combinations(("stream_name",)):
            yield {"__name__": f"stream:cdn77_distinct_viewers:{bound}1d", **labels}, False
    for own in SELF_METRICS:
        for place in range(max([1, *(len(values) for _, values in own.labels)])):
            labels = {name: values[place] if values else "x" for name, values in own.labels}
            if own.kind == "histogram":
                for bound in (*(f"{bound:g}" for bound in own.buckets), "+Inf"):
                    yield {"__name__": f"{PREFIX}{own.name}_bucket", "le": bound, **_TARGET}, True
                for part in ("sum", "count"):
                    yield {"__name__": f"{PREFIX}{own.name}_{part}", **_TARGET}, True
            else:
                yield {"__name__": PREFIX + own.name, **labels, **_TARGET}, own.kind == "counter"
    yield {"__name__": f"{PREFIX}build_info", "version": "1", **_TARGET}, False
    yield {"__name__": "process_resident_memory_bytes", **_TARGET}, False
    yield {"__name__": "process_cpu_seconds_total", **_TARGET}, True


def _combinations(names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    if not names:
        yield {}
        return
    for value in _VALUES.get(names[0], ("x",)):
        for rest in _combinations(names[1:]):
            yield {names[0]: value, **rest}


@contextmanager
def filled_prometheus(folder: Path) -> Iterator[Prometheus]:
    """The server, its data in `folder`; counters grow by one a second, gauges are 7."""
    with Prometheus(folder, features="native-histograms") as server:
        end = int(time.time()) // _TICK_SECONDS * _TICK_SECONDS
        request = WriteRequest()
        for labels, counter in series():
            one = request.timeseries.add()
            for name in sorted(labels):
                one.labels.add(name=name, value=labels[name])
            for tick in range(end - _SPAN_SECONDS, end + 1, _TICK_SECONDS):
                one.samples.add(timestamp=tick * 1000, value=float(tick - end + _SPAN_SECONDS) if counter else 7.0)
        write(server, request)
        write(server, native_histograms(range(end - _SPAN_SECONDS, end + 1, _TICK_SECONDS)))
        yield server


def native_histograms(ticks: range) -> WriteRequest:
    """Every native histogram, with an observation of about 0.1 and one of about 0.2 each second."""
    request = WriteRequest()
    names = {metric.name: metric.labels for metric in built_in(Histograms.NATIVE).rows if metric.native}
    for name, labels in names.items():
        for values in _combinations(tuple(label for label in labels if label != PART)):
            one = request.timeseries.add()
            for label, value in sorted({"__name__": name, **values}.items()):
                one.labels.add(name=label, value=value)
            for tick in ticks:
                seconds = tick - ticks.start
                counts = {"positive_deltas": [seconds, 0]} if seconds else {}
                spans = [{"offset": -27, "length": 1}, {"offset": 7, "length": 1}] if seconds else []
                one.histograms.add(
                    count_int=2 * seconds,
                    sum=0.3 * seconds,
                    schema=3,
                    zero_threshold=1e-6,
                    zero_count_int=0,
                    positive_spans=spans,
                    timestamp=tick * 1000,
                    **counts,
                )
    return request


def write(server: Prometheus, request: WriteRequest) -> None:
    """Push a request, which the server must take."""
    server.store(bytes(cramjam.snappy.compress_raw(request.SerializeToString())))
