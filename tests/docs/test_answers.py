"""What each documented query of a traffic metric answers is what the log lines say, number for number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest

from cdn77_exporter.core.measures import FROM_CACHE, Histograms, built_in
from tests.docs.pages import cells
from tests.support.prometheus import Prometheus
from tests.support.said import (
    HOUR,
    MINUTES,
    OVER,
    WITHIN,
    Said,
    in_window,
    median_session,
    of_streams,
    over,
    quantile_by_pop,
    short_sessions,
    summed,
    times,
)
from tests.support.truth import COUNTERS, Values

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(120)]

#: Every query of a traffic metric: with which histograms there is something to ask, and the question.
QUERIES = {
    query: (kind, question)
    for kind in (Histograms.NATIVE, Histograms.CLASSIC)
    for row in built_in(kind).rows
    for question, query in row.queries
}


def _is(name: str, *texts: str) -> Callable[[dict[str, str]], bool]:
    return lambda series: series[name].startswith(texts)


BYTES, REQUESTS, RESPONSES = COUNTERS[:3]
WATCHED, TRACKS = "cdn77_watch_seconds_total", "cdn77_transfer_bytes_by_track_total"
SUM, COUNT = "cdn77_time_to_first_byte_seconds_sum", "cdn77_time_to_first_byte_seconds_count"
Answer = Callable[[Said, Histograms], Values]

#: By question, what is true.
ANSWERS: dict[str, Answer] = {
    "bandwidth in bits per second": lambda said, _: times(said.rate(BYTES, "stream_name"), 8),
    "bytes in five minutes": lambda said, _: said.grown(BYTES, MINUTES),
    "bandwidth by POP": lambda said, _: times(said.rate(BYTES, "pop"), 8),
    "requests per second": lambda said, _: said.rate(REQUESTS, "stream_name"),
    "requests in an hour": lambda said, _: said.grown(REQUESTS, HOUR, "stream_name"),
    "requests by cache status": lambda said, _: said.rate(REQUESTS, "cache_status"),
    "cache hit ratio": lambda said, _: over(
        said.rate(REQUESTS, where=_is("cache_status", *FROM_CACHE)), said.rate(REQUESTS)
    ),
    "4xx per second": lambda said, _: said.rate(RESPONSES, where=_is("response_status", "4")),
    "success ratio": lambda said, _: over(
        said.rate(RESPONSES, where=_is("response_status", "2", "3")), said.rate(REQUESTS)
    ),
    "new viewers per hour": lambda said, _: said.grown("cdn77_viewers_total", HOUR, "stream_name"),
    "viewers by device": lambda said, _: said.grown("cdn77_viewers_by_device_total", HOUR, "device_type"),
    "top countries": lambda said, _: said.grown("cdn77_viewers_by_country_total", HOUR, "country"),
    "viewers by state": lambda said, _: said.grown(
        "cdn77_viewers_by_region_total", HOUR, "region", where=_is("country", "US")
    ),
    "viewers in the window": lambda said, _: said.active("cdn77_active_viewers", "stream_name", "window"),
    "their peak in three hours": lambda said, _: in_window({name: max(own) for name, own in said.viewers.items()}),
    "their average in an hour": lambda said, _: in_window(
        {name: math.fsum(own[-241:]) / 241 for name, own in said.viewers.items()}
    ),
    "by device": lambda said, _: said.active("cdn77_active_viewers_by_device", "device_type", "window"),
    "by country": lambda said, _: said.active("cdn77_active_viewers_by_country", "country", "window"),
    "by state": lambda said, _: said.active(
        "cdn77_active_viewers_by_region", "region", "window", where=_is("country", "US")
    ),
    "viewers of each track": lambda said, _: said.active("cdn77_active_viewers_by_track", "track", "window"),
    "share of viewers with IPv6": lambda said, _: over(
        said.active("cdn77_active_viewers_by_ip_version", "window", where=_is("ip_version", "6")),
        said.active("cdn77_active_viewers", "window"),
    ),
    "viewers now": lambda said, _: of_streams({name: own[-1] for name, own in said.players.items()}),
    "viewers now by device": lambda said, _: summed(
        said.truth.players(said.end * 1000)["cdn77_concurrent_viewers"], "device_type"
    ),
    "the most at once in three hours": lambda said, _: of_streams(
        {name: max(own) for name, own in said.players.items()}
    ),
    "viewers on average": lambda said, _: said.rate(WATCHED, "stream_name"),
    "hours watched in an hour": lambda said, _: times(said.grown(WATCHED, HOUR), 1 / 3600),
    "bits per second that a viewer gets": lambda said, _: over(
        times(said.rate(BYTES, "stream_name"), 8), said.rate(WATCHED, "stream_name")
    ),
    "sessions that began in an hour": lambda said, _: said.grown("cdn77_sessions_total", HOUR, "stream_name"),
    "mean watch time of a session": lambda said, _: over(
        said.grown(f"{OVER}_sum", HOUR, "stream_name"), said.grown(f"{OVER}_count", HOUR, "stream_name")
    ),
    "median watch time of a session": median_session,
    "share of sessions of at most a minute": short_sessions,
    "the slowest groups of a tick": lambda said, _: said.newest_means(),
    "mean time to first byte by POP": lambda said, _: over(said.rate(SUM, "pop"), said.rate(COUNT, "pop")),
    "requests per second by track": lambda said, _: said.rate("cdn77_requests_by_track_total", "track"),
    "share of each track in the bandwidth": lambda said, _: over(said.rate(TRACKS, "track"), said.rate(TRACKS)),
    "incomplete requests per second by POP": lambda said, _: said.rate(
        "cdn77_incomplete_requests_total", "pop", "reason"
    ),
    "95th percentile of the time to first byte by POP": lambda said, kind: quantile_by_pop(
        said, "timeToFirstByteMs", 1000, kind
    ),
    "95th percentile of the duration by POP": lambda said, kind: quantile_by_pop(said, "requestTimeMs", 1000, kind),
    "95th percentile of the round-trip time by POP": lambda said, kind: quantile_by_pop(
        said, "tcpRTTus", 1_000_000, kind
    ),
}


def test_every_listed_query_is_asked_here() -> None:
    """The page lists no query of a traffic metric that is not asked, and each has a true answer."""
    assert {block.text for block in cells("query") if block.page == "docs/metrics.md"} == QUERIES.keys()
    assert {question for _, question in QUERIES.values()} == ANSWERS.keys()
    assert {query for row in built_in().rows for _, query in row.queries} <= QUERIES.keys()


@pytest.mark.parametrize("query", QUERIES, ids=[f"{kind.value} {question}" for kind, question in QUERIES.values()])
def test_the_answer_is_what_the_lines_say(servers: Mapping[Histograms, Prometheus], said: Said, query: str) -> None:
    """Exactly, but for quantiles of native histograms, which are within 4.4 %."""
    kind, question = QUERIES[query]
    found = servers[kind].query(servers[kind].spanning(query), at=said.end + 90)
    expected = {key: value for key, value in ANSWERS[question](said, kind).items() if value or key in found}
    if query.startswith("topk"):
        assert len(found) == min(10, len(expected))
        least = sorted(expected.values())[-len(found)]
        expected = {key: value for key, value in expected.items() if key in found or value > least}
    exactly = 1e-5 if servers[kind].is_left_open else 1e-9  # a millisecond of a window
    is_native = kind is Histograms.NATIVE and "histogram_" in query
    assert found == pytest.approx(expected, rel=WITHIN if is_native else exactly)
