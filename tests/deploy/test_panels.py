"""What each panel of the dashboards shows is true, number for number, on a real Prometheus.

Panels of the traffic are compared with the log lines, and those of a week and a month, and of the exporters, with
made-up series of which every sample is known.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cdn77_exporter.core.encode.remote_write_pb2 import WriteRequest
from cdn77_exporter.core.measures import BOUNDS, FROM_CACHE, Histograms
from cdn77_exporter.telemetry.metrics import PREFIX, SELF_METRICS
from tests.deploy.tools import DEPLOY
from tests.support.filled_prometheus import write
from tests.support.prometheus import Prometheus
from tests.support.said import (
    HOUR,
    MINUTES,
    STREAMS,
    WITHIN,
    Said,
    interpolated,
    median_session,
    of_streams,
    over,
    summed,
    times,
)
from tests.support.truth import COUNTERS, Labels, Values, labels

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(240)]

FOLDER = DEPLOY / "grafana" / "dashboards"
BYTES, REQUESTS, RESPONSES = COUNTERS[:3]
WATCHED, SESSION = "cdn77_watch_seconds_total", "cdn77_session_watch_seconds"
TTFB = "cdn77_time_to_first_byte_seconds"
Panel = tuple[str, str]  # file and title


@dataclass(frozen=True)
class Query:
    """A query of a panel, the `place`-th of it."""

    file: str
    title: str
    place: int
    text: str

    @property
    def name(self) -> str:
        """What a test of it is called."""
        return f"{self.file} {self.title} {self.place}"


def queries(*files: str) -> list[Query]:
    """The queries of all panels that ask Prometheus."""
    found = []
    for file in files:
        board = json.loads((FOLDER / file).read_text("utf-8"))
        for top in board["panels"]:
            for panel in (top, *top.get("panels", ())):
                for place, target in enumerate(panel.get("targets", ())):
                    found.append(Query(file, panel["title"], place, target["expr"]))
    return found


def asked(query: str, span: str, rate: str = "5m") -> str:
    """The query as Grafana sends it with everything selected."""
    query = query.replace("$__rate_interval", rate).replace("$__range", span)
    return re.sub(r"\$\w+", ".*", query)


def close(found: Values, expected: Values, server: Prometheus, within: float = 0.0) -> bool:
    """Whether an answer is the truth: exactly, but for a millisecond of a window, or for what `within` allows."""
    return found == pytest.approx(expected, rel=max(within, 1e-4 if server.is_left_open else 1e-9), abs=1e-9)


# The traffic: what the lines say


def _is(name: str, *texts: str) -> Callable[[dict[str, str]], bool]:
    return lambda series: series[name].startswith(texts)


HIT, IS_4XX, IS_5XX = _is("cache_status", *FROM_CACHE), _is("response_status", "4"), _is("response_status", "5")


def part(said: Said, name: str, where: Callable[[dict[str, str]], bool], *by: str) -> Values:
    """The share of what fits in a counter's growth of five minutes; 0 for whoever has none."""
    whole = said.rate(name, *by)
    fits = said.rate(name, *by, where=where)
    return {key: fits.get(key, 0.0) / value for key, value in whole.items() if value}


def players(said: Said, *by: str) -> Values:
    """Who is watching at the last tick."""
    return summed(said.truth.players(said.end * 1000)["cdn77_concurrent_viewers"], *by)


def at_minutes(values: Sequence[int], seconds: int) -> list[int]:
    """The values of a span at full minutes, as a subquery at the end plus 90 s sees them 90 s later: 30 s before."""
    ticks = range(len(values) * 15, len(values) * 15 - seconds, -15)  # seconds from the beginning, backwards
    return [values[at // 15 - 1] for at in ticks if at % 60 == 30]


def most(said: Said, *by: str) -> Values:
    """The most players at once, at full minutes of the last hour."""
    of = {stream: at_minutes(said.players[stream], HOUR) for stream in STREAMS}
    if by:
        return of_streams({stream: max(own) for stream, own in of.items()})
    return {(): max(map(sum, zip(*of.values(), strict=True)))}


def mean(said: Said, by: str) -> Values:
    """The mean time to first byte of five minutes."""
    counts = {key: value for key, value in said.rate(f"{TTFB}_count", by).items() if value}
    return {key: said.rate(f"{TTFB}_sum", by)[key] / value for key, value in counts.items()}


def quantile(q: float, field: str, per: int) -> Callable[[Said, Histograms], Values]:
    """A quantile of a field's values in five minutes: of themselves, or as classic buckets know it."""

    def true(said: Said, kind: Histograms) -> Values:
        own = sorted(value for values in said.seconds(field, per).values() for value in values)
        if kind is Histograms.NATIVE:
            return {(): own[math.ceil(q * len(own)) - 1]}
        return {(): interpolated(q, BOUNDS, [*(bisect_right(own, float(bound)) for bound in BOUNDS), len(own)])}

    return true


def hourly(name: str, per: float = 1.0) -> Callable[[Said, Histograms], Values]:
    """By how much a counter has grown in an hour, by stream."""
    return lambda said, _: times(said.grown(name, HOUR, "stream_name"), 1 / per)


def active(name: str, *by: str) -> Callable[[Said, Histograms], Values]:
    """Distinct addresses in the window."""
    return lambda said, _: said.active(name, *by)


def speed(name: str, *by: str, per: float = 1.0) -> Callable[[Said, Histograms], Values]:
    """A counter's growth a second."""
    return lambda said, _: times(said.rate(name, *by), per)


def ratio(name: str, where: Callable[[dict[str, str]], bool], *by: str) -> Callable[[Said, Histograms], Values]:
    """The share of what fits."""
    return lambda said, _: part(said, name, where, *by)


def mean_session(said: Said, _: Histograms) -> Values:
    """The mean watch time of an hour's sessions."""
    return over(said.grown(f"{SESSION}_sum", HOUR, "stream_name"), said.grown(f"{SESSION}_count", HOUR, "stream_name"))


def hits_of_span(said: Said, _: Histograms) -> Values:
    """The share of an hour's bytes that came from the cache."""
    return over(said.grown(BYTES, HOUR, where=HIT), said.grown(BYTES, HOUR))


Truth = Callable[[Said, Histograms], Values]
_QUANTILES = (0.5, 0.95, 0.99)
_BANDWIDTH = speed(BYTES, per=8)
#: Panel -> what its queries answer, in their order. Those of a stream's own view are the same panels.
TRAFFIC: dict[str, tuple[Truth, ...]] = {
    "Viewers": (lambda said, _: players(said),),
    "Bandwidth": (_BANDWIDTH,),
    "Requests": (speed(REQUESTS),),
    "Cache hits": (ratio(REQUESTS, HIT),),
    "Cache hits by bytes": (ratio(BYTES, HIT),),
    "4xx": (ratio(RESPONSES, IS_4XX),),
    "5xx": (ratio(RESPONSES, IS_5XX),),
    "Age of the numbers": (lambda said, _: {(): 90.0},),
    "Transferred": (lambda said, _: said.grown(BYTES, HOUR),),
    "Requests in this span": (lambda said, _: said.grown(REQUESTS, HOUR),),
    "Cache hits by bytes in this span": (hits_of_span,),
    "Most viewers": (lambda said, _: most(said),),
    "Hours watched": (lambda said, _: times(said.grown(WATCHED, HOUR), 1 / 3600),),
    "Bandwidth by stream": (speed(BYTES, "stream_name", per=8),),
    "Requests by stream": (speed(REQUESTS, "stream_name"),),
    "Bandwidth by POP": (speed(BYTES, "pop", per=8),),
    "Bandwidth by CDN": (speed(BYTES, "cdn_id", per=8),),
    "Cache hit ratio by CDN": (ratio(REQUESTS, HIT, "cdn_id"), ratio(BYTES, HIT, "cdn_id")),
    "Requests by cache status": (speed(REQUESTS, "cache_status"),),
    "Answers by status": (speed(RESPONSES, "response_status"),),
    "4xx by stream": (ratio(RESPONSES, IS_4XX, "stream_name"),),
    "5xx by stream": (ratio(RESPONSES, IS_5XX, "stream_name"),),
    "Time to first byte by POP": (lambda said, _: mean(said, "pop"),),
    "Time to first byte by cache status": (lambda said, _: mean(said, "cache_status"),),
    "Incomplete requests": (speed("cdn77_incomplete_requests_total", "reason"),),
    "Time to first byte": tuple(quantile(q, "timeToFirstByteMs", 1000) for q in _QUANTILES),
    "Duration of requests": tuple(quantile(q, "requestTimeMs", 1000) for q in _QUANTILES),
    "Round-trip time": tuple(quantile(q, "tcpRTTus", 1_000_000) for q in _QUANTILES),
    "Viewers by stream": (lambda said, _: players(said, "stream_name"),),
    "Hours watched in an hour": (hourly(WATCHED, 3600),),
    "Viewers by device": (lambda said, _: players(said, "device_type"),),
    "Viewers by device over time": (lambda said, _: players(said, "device_type"),),
    "Addresses by device": (active("cdn77_active_viewers_by_device", "device_type"),),
    "Addresses by IP version": (active("cdn77_active_viewers_by_ip_version", "ip_version"),),
    "New viewers in an hour": (hourly("cdn77_viewers_total"),),
    "Sessions that began in an hour": (hourly("cdn77_sessions_total"),),
    "Watch time of sessions": (mean_session, median_session),
    "Active addresses by stream": (active("cdn77_active_viewers", "stream_name"),),
    "Bandwidth by track": (speed("cdn77_transfer_bytes_by_track_total", "track", per=8),),
    "Requests by track": (speed("cdn77_requests_by_track_total", "track"),),
    "Addresses by track": (active("cdn77_active_viewers_by_track", "track"),),
    "New viewers by country": (lambda said, _: said.grown("cdn77_viewers_by_country_total", HOUR, "country"),),
    "Addresses by country (GeoIP)": (active("cdn77_active_viewers_by_country", "country"),),
    "Addresses by region (GeoIP)": (active("cdn77_active_viewers_by_region", "country", "region"),),
    "Streams": (
        speed(BYTES, "stream_name", per=8),
        lambda said, _: said.grown(BYTES, HOUR, "stream_name"),
        speed(REQUESTS, "stream_name"),
        ratio(REQUESTS, HIT, "stream_name"),
        ratio(RESPONSES, IS_4XX, "stream_name"),
        ratio(RESPONSES, IS_5XX, "stream_name"),
        lambda said, _: players(said, "stream_name"),
        lambda said, _: most(said, "stream_name"),
    ),
    "POPs": (
        speed(BYTES, "pop", per=8),
        speed(REQUESTS, "pop"),
        ratio(REQUESTS, HIT, "pop"),
        ratio(RESPONSES, IS_4XX, "pop"),
        ratio(RESPONSES, IS_5XX, "pop"),
        lambda said, _: mean(said, "pop"),
    ),
}


OF_LINES = [query for query in queries("traffic.json", "stream.json") if query.title in TRAFFIC]


@pytest.mark.parametrize("kind", [Histograms.CLASSIC, Histograms.NATIVE])
@pytest.mark.parametrize("query", OF_LINES, ids=lambda query: query.name)
def test_the_panel_shows_what_the_lines_say(
    servers: Mapping[Histograms, Prometheus], said: Said, query: Query, kind: Histograms
) -> None:
    """Exactly, but for quantiles of native histograms, which are within 4.4 %."""
    server = servers[kind]
    found = server.query(server.spanning(asked(query.text, "1h")), at=said.end + 90)
    expected = TRAFFIC[query.title][query.place](said, kind)
    expected = {key: value for key, value in expected.items() if value or key in found}
    is_native = kind is Histograms.NATIVE and "histogram_quantile" in query.text
    assert found
    assert close(found, expected, server, WITHIN if is_native else 0.0), (found, expected)


# A month, of which every five minutes are known


FIVE, DAY, WEEK = 300, 86_400, 7 * 86_400
DAYS = 31
END = 1_768_057_200
_KEYS = [
    {"stream_name": stream, "cdn_id": cdn, "pop": "pragueCZ", "cache_status": "HIT"}
    for stream, cdn in (("a" * 32, "1"), ("a" * 32, "2"), ("b" * 32, "1"))
]


def _level(place: int, at: int) -> int:
    """Units a second in the five minutes up to an instant: by the hour and the week, and a little unsteady."""
    hour, week = at // 3600 % 24, at // WEEK
    return (place + 1) * (100 + 7 * hour + 13 * (week % 5)) + at // FIVE * 7919 % 11


@cache
def _counted(place: int) -> list[int]:
    """What a counter has at each five minutes, from its beginning on."""
    values = [0]
    for at in range(END - DAYS * DAY + FIVE, END + 1, FIVE):
        values.append(values[-1] + _level(place, at) * FIVE)
    return values


def _at(place: int, instant: int) -> int:
    return _counted(place)[(instant - (END - DAYS * DAY)) // FIVE]


def _made(place: int, key: Mapping[str, str]) -> Iterator[tuple[dict[str, str], Callable[[int], float]]]:
    """The labels of the series of one place, and what each has at an instant."""
    plain = {name: key[name] for name in ("stream_name", "cdn_id", "pop")}
    players = {"stream_name": key["stream_name"], "device_type": f"d{place}"}
    yield {"__name__": BYTES, **key}, lambda at: _at(place, at)
    yield {"__name__": REQUESTS, **key}, lambda at: _at(place, at) // 50
    yield {"__name__": WATCHED, **players}, lambda at: _at(place, at) // 20
    yield {"__name__": "cdn77_concurrent_viewers", **players}, lambda at: _level(place, at)
    yield {"__name__": "stream_cdn_pop:cdn77_transfer_bits:rate5m", **plain}, lambda at: 8 * _level(place, at)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with a month of counters and of what the rules record of them."""
    with Prometheus(tmp_path_factory.mktemp("long"), features="native-histograms") as server:
        begin = END - DAYS * DAY
        for first in range(begin, END + 1, 10 * FIVE):  # in pieces of less than an hour: all series move on together
            request = WriteRequest()
            instants = range(first, min(first + 10 * FIVE, END + 1), FIVE)
            for place, key in enumerate(_KEYS):
                for pairs, value in _made(place, key):
                    one = request.timeseries.add()
                    for label in sorted(pairs):
                        one.labels.add(name=label, value=pairs[label])
                    for at in instants:
                        one.samples.add(timestamp=at * 1000, value=value(at))
            write(server, request)
        yield server


def _month(per: int = 1, by: str = "") -> Values:
    """By how much counters have grown in thirty days."""
    found: Counter[Labels] = Counter()
    for place, key in enumerate(_KEYS):
        grown = _at(place, END) // per - _at(place, END - 30 * DAY) // per
        found[labels(**({by: key[by]} if by else {}))] += grown
    return {key: float(value) for key, value in found.items()}


def _percentile(by: str = "") -> Values:
    """The 95th percentile of thirty days of five-minute means, between the two nearest ranks."""
    found = {}
    for group in sorted({key[by] for key in _KEYS}) if by else [""]:
        own = [place for place, key in enumerate(_KEYS) if not by or key[by] == group]
        instants = range(END - 30 * DAY, END + 1, FIVE)
        values = sorted(sum(8 * _level(place, at) for place in own) for at in instants)
        rank = 0.95 * (len(values) - 1)
        low = math.floor(rank)
        value = values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (rank - low)
        found[labels(**({by: group} if by else {}))] = value
    return found


def _rates(end: int, per: int = 1) -> float:
    """Units a second of all counters in the half hour up to an instant."""
    return sum(_at(place, end) // per - _at(place, end - 1800) // per for place in range(len(_KEYS))) / 1800


def _levels(at: int) -> float:
    return float(sum(_level(place, at) for place in range(len(_KEYS))))


_AGO = END - WEEK
MONTH: dict[str, tuple[Callable[[], Values], ...]] = {
    "Transferred this month": (_month,),
    "Requests this month": (lambda: _month(50),),
    "Hours watched this month": (lambda: times(_month(20), 1 / 3600),),
    "95th percentile of bandwidth this month": (_percentile,),
    "95th percentile of bandwidth": (_percentile,),
    "Transferred by CDN this month": (lambda: _month(by="cdn_id"),),
    "Transferred by stream this month": (lambda: _month(by="stream_name"),),
    "95th percentile by CDN this month": (lambda: _percentile("cdn_id"),),
    "Bandwidth against a week before": (lambda: {(): _rates(END) / _rates(_AGO) - 1},),
    "Viewers against a week before": (lambda: {(): _levels(END) / _levels(_AGO) - 1},),
    "Requests against a week before": (lambda: {(): _rates(END, 50) / _rates(_AGO, 50) - 1},),
    "Bandwidth now and a week before": (lambda: {(): 8 * _rates(END)}, lambda: {(): 8 * _rates(_AGO)}),
    "Viewers now and a week before": (lambda: {(): _levels(END)}, lambda: {(): _levels(_AGO)}),
    "Requests now and a week before": (lambda: {(): _rates(END, 50)}, lambda: {(): _rates(_AGO, 50)}),
}
OF_MONTH = [query for query in queries("traffic.json", "stream.json") if query.title in MONTH]


@pytest.mark.parametrize("query", OF_MONTH, ids=lambda query: query.name)
def test_the_panel_shows_what_a_month_had(long: Prometheus, query: Query) -> None:
    """Bytes, percentiles and comparisons over weeks are those of the samples. What is recorded has no offset."""
    recorded = "stream_cdn_pop:" in query.text
    text = asked(query.text, "30d", "30m")
    # A subquery steps over the left edge in any version, so that its window is as wide as it is.
    found = long.query(text if recorded else long.spanning(text), at=END if recorded else END + 90)
    expected = MONTH[query.title][query.place]()
    # A left-open window has one mean less of the 8,641.
    assert close(found, expected, long, 1e-3 if recorded and long.is_left_open else 0.0), (found, expected)


def test_twenty_lines_at_most_whatever_comes_and_goes(tmp_path: Path) -> None:
    """Of forty streams that are largest one after the other, the panel draws twenty, those with the most bytes."""
    end = END
    with Prometheus(tmp_path / "many") as server:
        request = WriteRequest()
        for number in range(40):
            one = request.timeseries.add()
            name = f"{number:02d}"
            pairs = {"__name__": BYTES, "cache_status": "HIT", "cdn_id": "1", "pop": "p", "stream_name": name}
            for label in sorted(pairs):
                one.labels.add(name=label, value=pairs[label])
            total = 0
            for step in range(180):
                total += 10_000 if step // 4 == number else number
                one.samples.add(timestamp=(end - 2700 + 15 * step) * 1000, value=total)
        write(server, request)
        (query,) = (query for query in queries("traffic.json") if query.title == "Bandwidth by stream")
        text = asked(query.text, "40m", "1m")
        found = server.query_range(text, end - 2400, end, 60)
    assert {dict(key)["stream_name"] for key in found} == {f"{number:02d}" for number in range(20, 40)}


# The exporters: each series has a value of its own


INSTANCES = ("a:9177", "b:9177")
_TICKS = range(END - 1800, END + 1, 15)


def _series() -> Iterator[tuple[dict[str, str], bool]]:
    """Labels of every series of the exporters, and whether it grows."""
    for own, instance in product(SELF_METRICS, INSTANCES):
        target = {"job": "cdn77-exporter", "instance": instance}
        if own.name in ("problems", "shard_state"):  # told below
            continue
        for place in range(max([1, *(len(values) for _, values in own.labels)])):
            given = {name: values[place] if values else "x" for name, values in own.labels}
            if own.kind == "histogram":
                for bound in (*(f"{bound:g}" for bound in own.buckets), "+Inf"):
                    yield {"__name__": f"{PREFIX}{own.name}_bucket", "le": bound, **target}, True
            else:
                yield {"__name__": PREFIX + own.name, **given, **target}, own.kind == "counter"
    for instance in INSTANCES:
        target = {"job": "cdn77-exporter", "instance": instance}
        for what in ("bucket", "receiver", "standby"):
            yield {"__name__": f"{PREFIX}problems", "what": what, **target}, False
        for state in ("current", "silent"):
            yield {"__name__": f"{PREFIX}shard_state", "shard": "1", "state": state, **target}, False
        yield {"__name__": f"{PREFIX}build_info", "version": "1", **target}, False
        yield {"__name__": "process_resident_memory_bytes", **target}, False
        yield {"__name__": "process_start_time_seconds", **target}, False
        yield {"__name__": "process_cpu_seconds_total", **target}, True
        yield {"__name__": "up", **target}, False
        yield {"__name__": "instance:cdn77_exporter_undelivered:ratio1h", **target}, False
    for pairs in (
        {"alertname": "Cdn77Gaps", "alertstate": "firing", "severity": "warning", "instance": INSTANCES[0]},
        {"alertname": "Elsewhere", "alertstate": "firing"},
    ):
        yield {"__name__": "ALERTS", **pairs}, False


def _value(place: int, series: Mapping[str, str]) -> float:
    """The slope of what grows, and the value of what does not."""
    name, second = series["__name__"], series.get("instance") == INSTANCES[1]
    if name == f"{PREFIX}problems":
        return float((series["what"], second) in (("bucket", False), ("standby", True)))
    if name == "up":
        return float(not second)
    if name == f"{PREFIX}shard_state":
        return float((series["state"] == "silent") is second)
    if name in ("ALERTS", f"{PREFIX}build_info"):
        return 1.0
    if name.endswith("_timestamp_seconds"):
        return float(END - 30 - place)
    return 3.0 * (place + 1)


VALUES: dict[Labels, float] = {}
for _place, (_one, _) in enumerate(_series()):
    VALUES.setdefault(labels(**_one), _value(_place, _one))


@pytest.fixture(scope="module")
def exporters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with half an hour of all self-metrics of two exporters; the second stood by and is away."""
    with Prometheus(tmp_path_factory.mktemp("exporters")) as server:
        request = WriteRequest()
        told = set()
        for series, grows in _series():
            key = labels(**series)
            if key in told:
                continue
            told.add(key)
            one = request.timeseries.add()
            for name in sorted(series):
                one.labels.add(name=name, value=series[name])
            for tick in _TICKS:
                value = VALUES[key]
                one.samples.add(timestamp=tick * 1000, value=value * (tick - _TICKS.start) if grows else value)
        write(server, request)
        yield server


def gauges(name: str, **where: str) -> Values:
    """The values of a metric's series, or their slopes, without its name."""
    wanted = {"__name__": name, **where}.items()
    return {
        tuple(pair for pair in key if pair[0] != "__name__"): value
        for key, value in VALUES.items()
        if wanted <= dict(key).items()
    }


def own(name: str, *by: str, per: float = 1.0, **where: str) -> Values:
    """The sum of a self-metric's values by labels."""
    return times(summed(gauges(PREFIX + name, **where), *by), per)


def increased(name: str, *by: str) -> Values:
    """By how much a counter has grown in five minutes."""
    return own(name, *by, per=MINUTES)


def buckets(name: str, q: float) -> Values:
    """A quantile of a histogram of both exporters."""
    of = {dict(key)["le"]: value for key, value in own(f"{name}_bucket", "le").items()}
    bounds = sorted((bound for bound in of if bound != "+Inf"), key=float)
    counts = [of[bound] for bound in (*bounds, "+Inf")]
    return {(): interpolated(q, bounds, counts)}


def two(name: str) -> tuple[Callable[[], Values], ...]:
    """The median and the 95th percentile."""
    return (lambda: buckets(name, 0.5), lambda: buckets(name, 0.95))


def since(name: str) -> Values:
    """Seconds since an instant, of those that do not stand by."""
    found = gauges(f"{PREFIX}last_{name}_success_timestamp_seconds", instance=INSTANCES[0])
    return {key: END - value for key, value in found.items()}


def _only(values: Values, *names: str) -> Values:
    return {tuple(pair for pair in key if pair[0] in names): value for key, value in values.items()}


def _largest(values: Values) -> Values:
    return {(): max(values.values())}


def _not(values: Values, name: str, text: str) -> Values:
    return {key: value for key, value in values.items() if dict(key)[name] != text}


def each(name: str) -> tuple[Callable[[], Values]]:
    """A gauge of each series."""
    return (lambda: gauges(PREFIX + name),)


def of_day(name: str) -> Callable[[], Values]:
    """What the half hour that there is has; a window of a day sees no more, and adds half a step at its edge."""
    return lambda: times(own(name, "instance"), _TICKS.stop - 1 - _TICKS.start)


EXPORTER: dict[str, tuple[Callable[[], Values], ...]] = {
    "Behind": (lambda: _largest(gauges(f"{PREFIX}watermark_lag_seconds")),),
    "Problems": (lambda: {(): 1.0},),
    "Do not answer": (lambda: {(): 1.0},),
    "Since the last poll": (lambda: _largest(since("poll")),),
    "Since the last push": (lambda: _largest(since("push")),),
    "Files set aside": (lambda: own("files_set_aside"),),
    "Exporters": (
        lambda: _only(gauges("up"), "instance"),
        lambda: summed(_not(gauges(f"{PREFIX}problems"), "what", "standby"), "instance"),
        lambda: _only(gauges(f"{PREFIX}watermark_lag_seconds"), "instance"),
        lambda: _only(since("poll"), "instance"),
        lambda: _only(since("push"), "instance"),
        lambda: own("outbox_requests", "instance"),
        lambda: own("files_set_aside", "instance"),
        of_day("skipped_files_total"),
        of_day("requests_refused_total"),
        lambda: over(own("events_total", "instance"), own("lines_total", "instance")),
        lambda: summed(gauges(f"{PREFIX}problems", what="standby"), "instance"),
    ),
    "Problems of each": (lambda: {key: value for key, value in gauges(f"{PREFIX}problems").items() if value},),
    "Versions": each("build_info"),
    "Alerts": (lambda: gauges("ALERTS", alertname="Cdn77Gaps"),),
    "Behind, each exporter": each("watermark_lag_seconds"),
    "Delivered late or not at all": (lambda: gauges("instance:cdn77_exporter_undelivered:ratio1h"),),
    "Age of the newest tick when it was accepted": two("push_lag_seconds"),
    "Late events": (lambda: over(own("late_events_total", "instance"), own("events_total", "instance")),),
    "Shards that lag or are silent": (
        lambda: {key: 1.0 for key, value in gauges(f"{PREFIX}shard_state", state="silent").items() if value == 1},
    ),
    "Files": (lambda: increased("files_total", "outcome"),),
    "Events": (lambda: own("events_total"),),
    "Rejects": (lambda: own("rejects_total", "reason"),),
    "Missing files": (lambda: increased("skipped_files_total", "instance"),),
    "Waiting": (*each("pending_files"), *each("files_in_memory"), *each("queue_depth")),
    "Seconds for a file": (*two("fetch_seconds"), *two("decode_seconds"), *two("poll_seconds")),
    "Deletions": tuple(
        partial(increased, name) for name in ("deleted_files_total", "delete_failures_total", "quarantined_files_total")
    ),
    "Batches": (lambda: increased("pushes_total", "outcome"),),
    "What went wrong": tuple(
        partial(increased, name)
        for name in (
            "push_retries_total",
            "requests_refused_total",
            "requests_dropped_total",
            "requests_unknown_total",
            "receiver_misconfigured_total",
        )
    ),
    "Seconds for a batch": two("push_seconds"),
    "Samples": (lambda: own("samples_pushed_total"),),
    "Outbox": each("outbox_requests"),
    "Bytes": (lambda: own("pushed_bytes_total"), lambda: own("file_bytes_total")),
    "Memory": (lambda: gauges("process_resident_memory_bytes"),),
    "Processor": (lambda: gauges("process_cpu_seconds_total"),),
    "Event loop": (*each("event_loop_lag_p99_seconds"), *each("event_loop_lag_max_seconds")),
    "Kept": (*each("series"), *each("streams"), *each("viewers"), *each("ledger_files")),
    "State": each("commit_seconds"),
    "Log lines": (lambda: increased("log_messages_total", "level"),),
}


@pytest.mark.parametrize("query", queries("exporter.json"), ids=lambda query: query.name)
def test_the_panel_shows_what_the_exporters_have(exporters: Prometheus, query: Query) -> None:
    """Each exporter's own values, and where there is one number that of the worst; one that stands by polls nothing."""
    found = exporters.query(exporters.spanning(asked(query.text, "30m")), at=END)
    expected = EXPORTER[query.title][query.place]()
    within = 0.01 if "[1d]" in query.text else 0.0  # the half of a step beyond the first sample
    assert close(found, expected, exporters, within), (found, expected)


def test_alerts_are_listed(exporters: Prometheus) -> None:
    """The list of alerts in the dashboards of the traffic has ours, and no other."""
    for query in queries("traffic.json"):
        if query.title == "Alerts":
            assert exporters.query(asked(query.text, "30m"), at=END) == EXPORTER["Alerts"][0]()


def test_starts_are_marked(exporters: Prometheus) -> None:
    """The mark of a start lies where the process began, with its instance and version."""
    for name in ("traffic.json", "stream.json", "exporter.json"):
        board = json.loads((FOLDER / name).read_text("utf-8"))
        (mark,) = board["annotations"]["list"]
        assert mark["useValueForTime"] is True
        assert exporters.query(mark["expr"], at=END) == {
            tuple(sorted((*key, ("version", "1")))): value * 1000
            for key, value in gauges("process_start_time_seconds").items()
        }


def test_choices_have_values(servers: Mapping[Histograms, Prometheus], exporters: Prometheus, said: Said) -> None:
    """The variables at the top find the labels that they are about."""
    for name, server, at in (
        ("traffic.json", servers[Histograms.NATIVE], said.end + 90),
        ("stream.json", servers[Histograms.NATIVE], said.end + 90),
        ("exporter.json", exporters, END),
    ):
        board: dict[str, Any] = json.loads((FOLDER / name).read_text("utf-8"))
        for variable in board["templating"]["list"]:
            if found := re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", "")):
                assert len(server.query(f"count by ({found[2]}) ({asked(found[1], '1h')})", at=at)) >= 1


def test_every_panel_has_its_truth() -> None:
    """No panel is left out; only what the exporter writes with other settings is compared elsewhere."""
    elsewhere = {"Distinct viewers of a day", "Alerts"}
    for query in queries("traffic.json", "stream.json"):
        assert (query.title in TRAFFIC) + (query.title in MONTH) == (query.title not in elsewhere), query.name
    assert {query.title for query in queries("exporter.json")} == set(EXPORTER)
