"""The strict receiver: what it takes, what it refuses, and that a refused request leaves nothing behind."""

from __future__ import annotations

import asyncio
import math
import signal
import sys

import aiohttp
import pytest

from cdn77_exporter.core.errors import Refused
from cdn77_exporter.demo.receiver import AHEAD_MS, BEHIND_MS, MAX_BYTES, Receiver, Store
from tests.support import plain_proto
from tests.support.requests import STALE, compressed, histogram_body, request_body

NOW = 1_768_056_570_000
A = (("__name__", "m_total"), ("a", "1"))
B = (("__name__", "m_total"), ("a", "2"))


@pytest.fixture
def store() -> Store:
    """An empty store at a fixed time."""
    return Store(lambda: NOW)


def test_samples_are_kept_by_series(store: Store) -> None:
    """What is accepted can be read again, also when a series comes in several parts."""
    store.take(request_body((A, [(NOW, 1.0)]), (B, [(NOW, 5.0)]), (A, [(NOW + 1, 2.0)])))
    store.take(request_body((A, [(NOW + 2, 3.0)])))
    assert store.series() == {A: [(NOW, 1.0), (NOW + 1, 2.0), (NOW + 2, 3.0)], B: [(NOW, 5.0)]}
    assert (store.requests, store.samples) == (2, 4)


def test_the_same_sample_again_is_fine(store: Store) -> None:
    """A request that is sent a second time changes nothing, stale markers included."""
    body = request_body((A, [(NOW, 1.0)]), (B, [(NOW, STALE)]))
    store.take(body)
    store.take(body)
    assert store.samples == 2
    assert math.isnan(store.series()[B][0][1])


def test_native_histograms_are_kept_by_their_counts(store: Store) -> None:
    """The number of observations stands for one; buckets that do not add up to it are refused."""
    store.take(histogram_body(dict(A), NOW, {3: 1, 5: 6}, 2.5))
    assert store.series() == {A: [(NOW, 7.0)]}
    wrong = plain_proto.histogram({3: 1, 5: 6}, 2.5, NOW + 1).replace(b"\x08\x07", b"\x08\x08", 1)
    with pytest.raises(Refused, match="do not fit its count"):
        store.take(compressed(plain_proto.series(A, [wrong])))


def test_metadata_alone_is_fine(store: Store) -> None:
    """A request may carry nothing but descriptions."""
    store.take(request_body(metadata=[("m_total", "counter", "Things.")]))
    assert store.metadata == {"m_total": ("counter", "Things.")}


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([(NOW - 1, 1.0)], "out of order sample"),
        ([(NOW, 2.0)], "duplicate sample for timestamp"),
        ([(NOW, STALE)], "duplicate sample for timestamp"),
        ([(NOW + 2, 2.0), (NOW + 1, 2.0)], "out of order sample"),
        ([(NOW + 1, 2.0), (NOW + 1, 3.0)], "duplicate sample for timestamp"),
        ([(NOW + AHEAD_MS + 1, 2.0)], "too far in the future"),
    ],
)
def test_wrong_samples_are_refused_with_their_whole_request(
    store: Store, samples: list[tuple[int, float]], words: str
) -> None:
    """The good series beside the bad one is not kept either."""
    store.take(request_body((A, [(NOW, 1.0)])))
    with pytest.raises(Refused) as raised:
        store.take(request_body((B, [(NOW, 1.0)]), (A, samples)))
    assert raised.value.status == 400
    assert words in raised.value.words
    assert store.series() == {A: [(NOW, 1.0)]}


def test_a_new_series_may_be_an_hour_behind_and_no_more(store: Store) -> None:
    """The newest sample of all series is the measure, as in Prometheus."""
    store.take(request_body((A, [(NOW, 1.0)])))
    store.take(request_body((B, [(NOW - BEHIND_MS, 1.0)])))
    with pytest.raises(Refused, match="too far behind"):
        store.take(request_body(((("__name__", "other"),), [(NOW - BEHIND_MS - 1, 1.0)])))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ((("a", "1"), ("__name__", "m")), "not sorted"),
        ((("__name__", "m"), ("a", "1"), ("a", "2")), "twice"),
        ((("__name__", "m"), ("a", "")), "empty"),
        ((("__name__", "m"), ("a-b", "1")), "invalid label name"),
        ((("__name__", "m"), ("", "1")), "not sorted"),
        ((("", "1"), ("__name__", "m")), "invalid label name"),
        ((("a", "1"),), "no valid metric name"),
        ((("__name__", "m m"),), "no valid metric name"),
        ((), "no valid metric name"),
    ],
)
def test_wrong_labels_are_refused(store: Store, labels: tuple[tuple[str, str], ...], words: str) -> None:
    """Labels must be sorted, unique, named well and filled, and a metric name must be among them."""
    with pytest.raises(Refused, match=words):
        store.take(request_body((labels, [(NOW, 1.0)])))
    assert store.series() == {}


def test_a_request_has_at_most_two_thousand_samples(store: Store) -> None:
    """The limit counts over all series of a request."""
    store.take(request_body((A, [(NOW + at, 1.0) for at in range(2000)])))
    with pytest.raises(Refused, match="2001 samples"):
        store.take(request_body((A, [(NOW + 2000 + at, 1.0) for at in range(2000)]), (B, [(NOW, 1.0)])))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff" * 20, 400),
        (b"plain text", 400),
        (compressed(b"\xff\xff"), 400),
        (compressed(b"\x0a\x04ab"), 400),
        (compressed(b"\x22\x01a"), 400),  # a field of remote write 2.0
        (compressed(b"\x0a\x02\x2a\x00"), 400),  # a native histogram
        (compressed(bytes(MAX_BYTES + 1)), 413),
        (request_body(metadata=[("no name", "counter", "")]), 400),
        (compressed(b"\x1a\x05\x08\x63\x12\x01m"), 400),  # a metric type that does not exist
    ],
)
def test_what_is_no_request_is_refused(store: Store, body: bytes, status: int) -> None:
    """Snappy, protobuf and the schema are checked before anything else."""
    with pytest.raises(Refused) as raised:
        store.take(body)
    assert raised.value.status == status
    assert store.requests == 0


def test_what_is_kept_is_bounded() -> None:
    """Old samples make room, and one series too many is refused."""
    store = Store(lambda: NOW, most_series=1, samples_each=3)
    store.take(request_body((A, [(NOW + at, float(at)) for at in range(10)])))
    assert store.series()[A] == [(NOW + 7, 7.0), (NOW + 8, 8.0), (NOW + 9, 9.0)]
    with pytest.raises(Refused) as raised:
        store.take(request_body((B, [(NOW, 1.0)])))
    assert raised.value.status == 429


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Content-Encoding", "identity", 415),
        ("Content-Type", "application/json", 415),
        ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request", 415),
        ("X-Prometheus-Remote-Write-Version", "2.0.0", 400),
        ("User-Agent", "", 400),
    ],
)
async def test_wrong_headers_are_refused(header: str, value: str, status: int) -> None:
    """Every header of the specification must be there and right."""
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
        "User-Agent": "test",
    }
    body = request_body((A, [(NOW, 1.0)]))
    async with Receiver(Store(lambda: NOW)) as receiver, aiohttp.ClientSession() as session:
        async with session.post(receiver.write_url, data=body, headers=headers) as answer:
            assert answer.status == 204
        async with session.post(receiver.write_url, data=body, headers=headers | {header: value}) as answer:
            assert (answer.status, header in await answer.text()) == (status, True)
        assert receiver.store.requests == 1


async def test_the_dump_is_json() -> None:
    """What was received can be asked for; a NaN is null there."""
    store = Store(lambda: NOW)
    store.take(request_body((A, [(NOW, 1.5), (NOW + 1, STALE)]), metadata=[("m_total", "counter", "Things.")]))
    async with (
        Receiver(store) as receiver,
        aiohttp.ClientSession() as session,
        session.get(f"{receiver.address}/api/v1/series_dump") as answer,
    ):
        assert await answer.json() == {
            "series": [{"labels": {"__name__": "m_total", "a": "1"}, "samples": [[NOW, 1.5], [NOW + 1, None]]}],
            "metadata": {"m_total": {"type": "counter", "help": "Things."}},
            "requests": 1,
            "samples": 2,
        }


async def test_it_runs_as_a_process_of_its_own() -> None:
    """It prints its address when it is ready, and SIGTERM ends it with exit code 0."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cdn77_exporter.demo.receiver", stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    address = (await server.stdout.readline()).decode().strip()
    async with aiohttp.ClientSession() as session, session.get(f"{address}/-/ready") as answer:
        assert answer.status == 200
    server.send_signal(signal.SIGTERM)
    assert await server.wait() == 0
