"""The query API beside a receiver: where it is, and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.edge.receiver.query import Memory, QueryApi, TooMuch, query_base, seconds_of
from tests.support.requests import histogram_body, request_body


class _Writer:
    """Answers as a test says, and remembers what was asked."""

    def __init__(self, status: int, body: Any) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.asked: list[tuple[str, Mapping[str, str]]] = []

    async def ask(self, url: str, form: Mapping[str, str], most_bytes: int) -> tuple[int, bytes]:
        self.asked.append((url, form))
        return self.status, self.body[:most_bytes]


def api(status: int, body: Any, **options: Any) -> tuple[QueryApi, _Writer]:
    """The API over such a writer."""
    writer = _Writer(status, body)
    return QueryApi(cast(RemoteWriter, writer), "http://p/", **options), writer


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://p:9090/api/v1/write", "http://p:9090"),
        ("https://p/prometheus/api/v1/write?x=1", "https://p/prometheus"),
        ("https://mimir/api/v1/push", "https://mimir/prometheus"),
        ("https://grafana.net/api/prom/push", "https://grafana.net/api/prom"),
        ("http://vm:8480/insert/0/prometheus/api/v1/write", "http://vm:8480/select/0/prometheus"),
        ("http://thanos:19291/api/v1/receive", None),
    ],
)
def test_the_base_is_told_from_the_write_endpoint(url: str, base: str | None) -> None:
    """The usual receivers have their query API at a known place; of others nothing is guessed."""
    assert query_base(url) == base


async def test_samples_come_with_their_labels() -> None:
    """A vector and a matrix are read alike: labels, milliseconds, values."""
    rows = [
        {"metric": {"a": "1"}, "value": [1.5, "7"]},
        {"metric": {}, "values": [[1, "1e3"], [2.001, "NaN"]]},
    ]
    found, writer = api(200, {"status": "success", "data": {"resultType": "x", "result": rows}})
    vector, matrix = await found.query("m", 12.5)
    assert (vector.labels, vector.samples) == ({"a": "1"}, [(1500, 7.0)])
    assert [at for at, _ in matrix.samples] == [1000, 2001]
    assert writer.asked == [("http://p/api/v1/query", {"query": "m", "time": "12.500"})]


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("storage:\n  tsdb:\n    out_of_order_time_window: 2h\n", "2h"),
        ("global: {}\nstorage:\n  tsdb:\n    out_of_order_time_window: 0s\n", ""),
        ("global: {}\n", ""),
    ],
)
async def test_the_out_of_order_window_is_found_in_the_configuration(text: str, window: str) -> None:
    """None and zero are no window."""
    found, _ = api(200, {"status": "success", "data": {"yaml": text}})
    assert await found.out_of_order_window() == window


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<html>", Refused),
        (200, {"status": "success", "data": []}, Refused),
        (200, b'{"data": ' + b"[" * 5000, Refused),
        (200, {"data": {"result": [{"metric": {}, "value": [1, "many"]}]}}, Refused),
        (200, {"data": {"result": [{"metric": {}, "value": [1e308, "1"]}]}}, Refused),
        (404, b"no such page", Refused),
        (401, b"", Misconfigured),
        (503, b"busy", Transient),
        (429, b"slowly", Transient),
        (422, b"query processing would load too many samples into memory", TooMuch),
    ],
)
async def test_an_answer_that_is_none_is_an_error(status: int, body: Any, error: type[Exception]) -> None:
    """What may pass is told apart from what will not, and from what only has to be asked for in parts."""
    found, _ = api(status, body)
    with pytest.raises(error):
        await found.query("m", 1)


async def test_an_answer_beyond_the_bound_is_too_much() -> None:
    """However large an answer is, no more than the bound is taken."""
    found, _ = api(200, b"x" * 1000, most_bytes=100)
    with pytest.raises(TooMuch):
        await found.query("m", 1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"data": {"result": [{"metric": {}, "values": [[12.345, "7"]]}]}}, True),
        ({"data": {"result": [{"metric": {}, "values": [[12.345, "8"]]}]}}, False),
        ({"data": {"result": [{"metric": {}, "values": [[12.0, "7"]]}]}}, False),
        ({"data": {"result": []}}, False),
        (b"<html>", None),
    ],
)
async def test_what_the_receiver_holds_is_asked_for_by_one_sample(answer: Any, expected: bool | None) -> None:
    """The last sample of the request that is a number, at its instant and with its value; no answer says nothing."""
    writer = _Writer(200, answer)
    memory = Memory(cast(RemoteWriter, writer), "http://p/api/v1/write")
    labels = {"__name__": "m", "path": 'a"\\'}
    assert await memory.holds(request_body((labels, [(12_000, 6.0), (12_345, 7.0)]))) is expected
    (asked,) = writer.asked
    assert asked == (
        "http://p/api/v1/query",
        {"query": '{__name__="m",path="a\\"\\\\"}[1s]', "time": "12.345"},
    )


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([[{"metric": {}, "histograms": [[12.345, {"count": "3", "sum": "0.25", "buckets": []}]]}]], True),
        ([[{"metric": {}, "histograms": [[12.345, {"count": "2", "sum": "0.25"}]]}], []], False),
        ([[{"metric": {}, "histograms": [[12.0, {"count": "3", "sum": "0.25"}]]}], []], False),
        ([[], [{"metric": {}, "values": [[12.345, "3"]]}]], True),
        ([[], []], False),
    ],
)
async def test_a_histogram_is_asked_for_and_then_its_count(answers: list[Any], expected: bool) -> None:
    """Its last sample with the same count and sum is it; VictoriaMetrics has a counter of its name and `_count`."""

    class Writer(_Writer):
        async def ask(self, url: str, form: Mapping[str, str], most_bytes: int) -> tuple[int, bytes]:
            self.body = json.dumps({"data": {"result": answers[len(self.asked)]}}).encode()
            return await super().ask(url, form, most_bytes)

    writer = Writer(200, "")
    memory = Memory(cast(RemoteWriter, writer), "http://p/api/v1/write")
    body = histogram_body({"__name__": "m", "pop": "a"}, 12_345, {5: 1, 7: 2}, 0.25)
    assert await memory.holds(body) is expected
    asked = [form["query"] for _, form in writer.asked]
    assert asked == ['{__name__="m",pop="a"}[1s]', '{__name__="m_count",pop="a"}[1s]'][: len(answers)]


async def test_a_receiver_without_a_query_api_says_nothing() -> None:
    """Where no query API is known, nobody is asked."""
    memory = Memory(cast(RemoteWriter, _Writer(200, {})), "http://thanos:19291/api/v1/receive")
    assert await memory.holds(request_body(({"__name__": "m"}, [(12_000, 6.0)]))) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("500ms", 0.5), ("0s", 0)]
)
def test_durations_are_read_as_prometheus_writes_them(text: str, seconds: float) -> None:
    """Units follow their numbers, the largest first."""
    assert seconds_of(text) == seconds
