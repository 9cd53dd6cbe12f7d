"""The measuring instruments measure: what the end-to-end tests rely on notices what it should."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path

import cramjam
import pytest

from cdn77_exporter.core.encode.remote_write_pb2 import WriteRequest
from tests.e2e.scene import differences
from tests.support.prometheus import Prometheus
from tests.support.truth import labels

pytestmark = pytest.mark.prometheus


def write(prometheus: Prometheus, *samples: tuple[int, float]) -> int:
    """Write samples of one series; the status."""
    request = WriteRequest()
    series = request.timeseries.add()
    for name, value in (("__name__", "probe_total"), ("where", "here")):
        series.labels.add(name=name, value=value)
    for stamp, number in samples:
        series.samples.add(timestamp=stamp, value=number)
    body = bytes(cramjam.snappy.compress_raw(request.SerializeToString()))
    question = urllib.request.Request(prometheus.write_url, data=body, method="POST")  # noqa: S310
    question.add_header("Content-Encoding", "snappy")
    question.add_header("Content-Type", "application/x-protobuf")
    question.add_header("X-Prometheus-Remote-Write-Version", "0.1.0")
    try:
        with urllib.request.urlopen(question, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_samples_come_back_and_survive_a_restart_of_the_server(prometheus: Prometheus) -> None:
    """What was written is given out to the millisecond, also after a stop and a start."""
    now = int(time.time() * 1000)
    assert write(prometheus, (now - 2000, 1.0), (now - 1000, 5.0)) == 204
    prometheus.stop()
    prometheus.start()
    expected = {labels(where="here"): [(now - 2000, 1.0), (now - 1000, 5.0)]}
    assert prometheus.samples("probe_total") == expected
    assert prometheus.last("probe_total") == {labels(where="here"): 5.0}
    assert prometheus.refused() == {}


def test_a_refused_request_is_noticed(prometheus: Prometheus) -> None:
    """An out-of-order sample shows as refused, as a sample and as a request."""
    now = int(time.time() * 1000)
    assert write(prometheus, (now, 1.0)) == 204
    assert write(prometheus, (now - 5000, 1.0)) == 400
    names = {name.partition("{")[0] for name in prometheus.refused()}
    assert names == {"prometheus_tsdb_out_of_order_samples_total", "prometheus_http_requests_total"}


def test_an_out_of_order_window_is_in_force(tmp_path: Path) -> None:
    """With the window the same samples are taken."""
    with Prometheus(tmp_path / "own", out_of_order="2h") as prometheus:
        now = int(time.time() * 1000)
        assert write(prometheus, (now, 1.0)) == 204
        assert write(prometheus, (now - 5000, 1.0)) == 204
        assert prometheus.refused() == {}


def test_differences_are_told() -> None:
    """A wrong, a missing and a strange series fail, equal ones do not."""
    one, two = labels(a="1"), labels(a="2")
    differences("m", {one: 1.0}, {one: 1.0})
    for found in ({one: 2.0}, {}, {one: 1.0, two: 0.0}):
        with pytest.raises(AssertionError, match="1 of 1 series differ"):
            differences("m", found, {one: 1.0})
