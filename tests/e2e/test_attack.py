"""A million invented streams from a million addresses: memory stays bounded, totals stay true, and it is said."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from isal import igzip

from tests.e2e.scene import PREFIX, Bucket, open_scene
from tests.support.files import stream_name
from tests.support.prometheus import Prometheus

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(280)]

_STREAMS = 1_000_000
_FILES = 40
_MAX_STREAMS = 10_000  # the default
#: Eight files in memory, each with 25,000 streams and addresses of its own, are most of it.
_BOUND_BYTES = 512 * 1024**2
_LINE = (
    '{"timestamp":"%s.000Z","resourceID":1693215245,"cacheStatus":"%s","clientCountry":"US","clientIP":"%s",'
    '"clientRequestPath":"/%s/x","clientRequestUserAgent":"curl/8.5.0","locationID":"londonGB","responseStatus":%d,'
    '"responseBytes":%d,"timeToFirstByteMs":1}\n'
)
_GOOD = [stream_name(number) for number in range(20)]
_LATE = "1a7e" * 8  # a real stream that begins when half of the bound is long taken


def _address(number: int) -> str:
    return f"{11 + (number >> 16) // 64}.{(number >> 16) % 64}.{(number >> 8) % 256}.{number % 256}"


def attack_lines(number: int, at: str) -> Iterator[str]:
    """The lines of one file: its share of the invented streams, and among them some requests that are real."""
    share = _STREAMS // _FILES
    for one in range(number * share, (number + 1) * share):
        yield _LINE % (at, "MISS", _address(one), f"{one * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}", 404, 10)
    for stream in _GOOD:
        yield _LINE % (at, "HIT", f"192.0.2.{number}", stream, 200, 1000)
    if number >= _FILES // 2:
        yield _LINE % (at, "HIT", f"192.0.2.{number}", _LATE, 200, 1000)


def test_an_attack_moves_neither_memory_nor_totals(tmp_path: Path, bucket: Bucket, prometheus: Prometheus) -> None:
    """Of a million invented names half of MAX_STREAMS get in, memory has a bound, and real streams count exactly."""
    scene = open_scene(tmp_path, bucket, prometheus, TICK_SECONDS="15")
    with scene.exporter as exporter:
        exporter.start()
        exporter.wait_for("poll_finished")
        process = psutil.Process(exporter.pid)
        before = process.memory_info().rss
        most = before
        for number in range(_FILES):
            now = time.gmtime()
            key = f"{PREFIX}/{time.strftime('%Y%m%d/%H', now)}/rtl.a+{number % 4}+{number}.ndjson.gz"
            lines = "".join(attack_lines(number, time.strftime("%Y-%m-%dT%H:%M:%S", now)))
            bucket.put(key, igzip.compress(lines.encode(), 0))
            most = max(most, process.memory_info().rss)
        while bucket.keys(PREFIX):
            exporter.require_alive()
            most = max(most, process.memory_info().rss)
            time.sleep(0.1)
        (said,) = [line for line in exporter.messages("limit_reached") if line["limit"] == "MAX_STREAMS"]
        assert said["value"] == _MAX_STREAMS
        own = exporter.own_metrics()
        assert own["cdn77_exporter_streams"] == _MAX_STREAMS / 2 + 1
        assert own["cdn77_exporter_limited_requests"] == _STREAMS - (_MAX_STREAMS / 2 - len(_GOOD))
        assert own['cdn77_exporter_limits_reached_total{limit="MAX_STREAMS"}'] == 1
        assert exporter.stop() == 0
    requests = prometheus.last("cdn77_requests_total")
    by_stream: dict[str, float] = {}
    for labels, value in requests.items():
        name = dict(labels)["stream_name"]
        by_stream[name] = by_stream.get(name, 0) + value
    assert sum(by_stream.values()) == _STREAMS + len(_GOOD) * _FILES + _FILES // 2
    assert [by_stream[name] for name in _GOOD] == [_FILES] * len(_GOOD)
    assert by_stream[_LATE] == _FILES // 2
    assert by_stream["other"] == own["cdn77_exporter_limited_requests"]
    viewers = {dict(labels)["stream_name"]: value for labels, value in prometheus.last("cdn77_viewers_total").items()}
    assert viewers["other"] == by_stream["other"]
    assert most - before < _BOUND_BYTES, f"{(most - before) >> 20} MiB more"
