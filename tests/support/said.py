"""A known stretch of traffic: what its lines say, and receivers that hold all that the exporter makes of them."""

from __future__ import annotations

import bisect
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import pytest

from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.measures import BOUNDS, Histograms, built_in
from cdn77_exporter.core.timeline import Rules, Timeline
from tests.support.files import USER_AGENTS, event, log_file, stream_name
from tests.support.prometheus import Prometheus
from tests.support.truth import Labels, Truth, Values, device_type, labels

TICK, WINDOW, PRESENCE = 15, 1200, 30
SECONDS = 3900  # of traffic: more than an hour
MINUTES, HOUR = 300, 3600  # the spans of the queries
STREAMS = (stream_name(1), stream_name(2))
POPS = {"pragueCZ": 3.0, "londonGB": 4.0, "tokyoJP": 5.5}  # with the logarithm of the usual wait (ms)
OVER = "cdn77_session_watch_seconds"  # those of sessions that are over
SESSION_BOUNDS = ("60", "180", "300", "600", "1200", "1800", "3600", "7200")
#: Half the width of a native histogram's bucket.
WITHIN = 2 ** (1 / 16) - 1


def locate(ip: str) -> tuple[str, str]:
    """A GeoIP database of three regions."""
    return (("US", "Texas"), ("US", "Ohio"), ("DE", "Bavaria"))[int(ip[-1], 16) % 3]


def traffic(begin_ms: int) -> Iterator[dict[str, Any]]:
    """Viewers of two streams, of whom some share an address, who pause, leave and come back after the window."""
    draw = random.Random(23)
    for number in range(90):
        fixed: dict[str, Any] = {
            "clientIP": f"2001:db8::{number + 1:x}" if number % 4 == 0 else f"192.0.2.{number // 3}",
            "clientRequestUserAgent": draw.choice(USER_AGENTS),
            "clientCountry": draw.choice(("US", "CZ", "JP", "")),
            "locationID": draw.choice([*POPS]),
            "resourceID": draw.choice((1693215245, 1281764910)),
        }
        at = draw.randrange(600_000 if number % 3 else SECONDS * 1000)
        while at < SECONDS * 1000:
            yield event(begin_ms + at, **fixed, **_request(draw, fixed["locationID"], STREAMS[number % 2]))
            at += draw.choices(
                [
                    draw.randrange(2000, 6000),
                    draw.randrange(20_000, 90_000),
                    draw.randrange(100_000, 300_000),
                    1300_000,
                ],
                [0.985, 0.007, 0.006, 0.002],
            )[0]


def _request(draw: random.Random, pop: str, stream: str) -> dict[str, Any]:
    wait = 0 if draw.random() < 0.1 else math.ceil(draw.lognormvariate(POPS[pop], 0.8))
    leaf = draw.choice(("tracks-v1/06000.ts", "tracks-v3/mono.m3u8", "tracks-a1/06000.ts", "index.m3u8"))
    return {
        "clientRequestPath": f"/{stream}/{leaf}",
        "cacheStatus": draw.choice(("HIT", "HIT", "HIT", "REVALIDATED", "UPDATING", "STALE", "EXPIRED", "MISS")),
        "responseStatus": draw.choice((200, 200, 200, 206, 304, 404, 503)),
        "responseBytes": draw.randrange(300, 3_000_000),
        "timeToFirstByteMs": wait,
        "requestTimeMs": wait + draw.randrange(300),
        "tcpRTTus": math.ceil(draw.lognormvariate(10, 0.9)),
        "clientRequestCompleted": draw.random() >= 0.05,
        "clientRequestConnTimeout": draw.random() < 0.02,
    }


class Said:
    """What the log lines say up to the last tick, `end` (Unix seconds); a window is [end - seconds, end)."""

    def __init__(self, begin: int) -> None:
        self.begin, self.end = begin, begin + SECONDS
        self.events = sorted(traffic(begin * 1000), key=lambda one: one["startTimeMs"])
        self.truth = Truth(self.events, window_seconds=WINDOW, locate=locate)
        self._told = cache(lambda at: self.truth.counters(at * 1000) | self.truth.players(at * 1000))

    def grown(self, name: str, seconds: int, *by: str, where: Callable[[dict[str, str]], bool] = bool) -> Values:
        """By how much a counter has grown, summed by some labels, of the series that have others."""
        before, now = self._told(self.end - seconds)[name], self._told(self.end)[name]
        return summed({key: value - before.get(key, 0) for key, value in now.items() if where(dict(key))}, *by)

    def rate(self, name: str, *by: str, where: Callable[[dict[str, str]], bool] = bool) -> Values:
        """The same of five minutes, a second."""
        return times(self.grown(name, MINUTES, *by, where=where), 1 / MINUTES)

    def active(self, name: str, *by: str, where: Callable[[dict[str, str]], bool] = bool) -> Values:
        """A gauge of active viewers at the end, summed by some labels."""
        found = self.truth.active(self.end * 1000)[name]
        return summed({key: value for key, value in found.items() if where(dict(key))}, *by)

    @cached_property
    def files(self) -> list[tuple[int, bytes]]:
        """A log file of each minute, with the second at which it begins."""
        begins = range(self.begin, self.end, 60)
        places = [bisect.bisect_left(self.events, at * 1000, key=_ms) for at in (*begins, self.end)]
        return [(at, log_file(self.events[slice(*own)])) for at, own in zip(begins, pairwise(places), strict=True)]

    @cached_property
    def viewers(self) -> dict[str, list[int]]:
        """The distinct addresses of each stream in the window, at every tick."""
        return self._present(WINDOW, lambda one: (_stream(one), one["clientIP"]))

    @cached_property
    def players(self) -> dict[str, list[int]]:
        """The players of each stream that are watching, at every tick."""
        return self._present(
            PRESENCE, lambda one: (_stream(one), one["clientIP"], device_type(one["clientRequestUserAgent"]))
        )

    def _present(self, seconds: int, viewer: Callable[[dict[str, Any]], tuple[str, ...]]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {stream: [] for stream in STREAMS}
        last: dict[tuple[str, ...], int] = {}
        waiting = iter(self.events)
        one = next(waiting, None)
        for tick in range(self.begin + TICK, self.end + 1, TICK):
            while one is not None and one["startTimeMs"] < tick * 1000:
                last[viewer(one)] = one["startTimeMs"]
                one = next(waiting, None)
            now = Counter(key[0] for key, at in last.items() if at >= (tick - seconds) * 1000)
            for stream, counts in found.items():
                counts.append(now[stream])
        return found

    def seconds(self, field: str, per: int) -> dict[str, list[float]]:
        """The values of a field in the last five minutes, by POP, in order."""
        found: dict[str, list[float]] = {pop: [] for pop in POPS}
        for one in self.events[bisect.bisect_left(self.events, (self.end - MINUTES) * 1000, key=_ms) :]:
            if one[field]:
                found[one["locationID"]].append(one[field] / per)
        return {pop: sorted(values) for pop, values in found.items()}

    def newest_means(self) -> Values:
        """The mean time to first byte of each group in the newest tick that has one, of those that are looked at."""
        found: Values = {}
        for tick in range(self.end - MINUTES + TICK, self.end + 1, TICK):
            found |= self.truth.time_to_first_byte(tick * 1000, TICK)
        return found


def _ms(one: Mapping[str, Any]) -> int:
    return int(one["startTimeMs"])


def _stream(one: Mapping[str, Any]) -> str:
    return str(one["clientRequestPath"]).split("/")[1]


def summed(values: Values, *by: str) -> Values:
    """Values added up by labels."""
    found: Counter[Labels] = Counter()
    for key, value in values.items():
        found[tuple(pair for pair in key if pair[0] in by)] += value  # type: ignore[assignment]
    return dict(found)


def times(values: Values, factor: float) -> Values:
    """Values multiplied by a number."""
    return {key: value * factor for key, value in values.items()}


def over(values: Values, others: Values) -> Values:
    """Values divided by those of the same labels, or by the one of none."""
    return {key: value / (others.get(key) or others[()]) for key, value in values.items()}


def of_streams(values: Mapping[str, float]) -> Values:
    """Values by stream."""
    return {labels(stream_name=stream): value for stream, value in values.items()}


def in_window(values: Mapping[str, float]) -> Values:
    """Values by stream, of the one window."""
    return {labels(stream_name=stream, window="20m"): value for stream, value in values.items()}


def interpolated(q: float, bounds: Sequence[str], counts: Sequence[float]) -> float:
    """The quantile that classic buckets give: as if values were spread evenly; `counts` are not above each bound."""
    rank = q * counts[-1]
    place = next(place for place, count in enumerate(counts) if count >= rank)
    if place == len(bounds):
        return float(bounds[-1])
    below, low = (counts[place - 1], float(bounds[place - 1])) if place else (0.0, 0.0)
    return low + (float(bounds[place]) - low) * (rank - below) / (counts[place] - below)


def quantile_by_pop(said: Said, field: str, per: int, kind: Histograms) -> Values:
    """The 95th percentile: of the values themselves, or as classic buckets know it."""
    found = {}
    for pop, own in said.seconds(field, per).items():
        exact = own[math.ceil(0.95 * len(own)) - 1]
        counts = [bisect.bisect_right(own, float(bound)) for bound in BOUNDS]
        found[labels(pop=pop)] = (
            interpolated(0.95, BOUNDS, [*counts, len(own)]) if kind is Histograms.CLASSIC else exact
        )
    return found


def sessions_of(said: Said, seconds: int) -> list[float]:
    """The watch times of sessions that were over in the last so many seconds, in order."""
    now, before = (Counter(said.truth.watched(at * 1000)) for at in (said.end, said.end - seconds))
    return sorted(watched / 1000 for watched in (now - before).elements())


def median_session(said: Said, kind: Histograms) -> Values:
    """The median of the hour's sessions: of the sessions themselves, or as classic buckets know it."""
    if kind is Histograms.NATIVE:
        own = sessions_of(said, HOUR)
        return {(): own[math.ceil(0.5 * len(own)) - 1]}
    counts = summed(said.grown("cdn77_session_watch_seconds_bucket", HOUR, "le"), "le")
    in_order = [counts[labels(le=bound)] for bound in (*SESSION_BOUNDS, "+Inf")]
    return {(): interpolated(0.5, SESSION_BOUNDS, in_order)}


def short_sessions(said: Said, kind: Histograms) -> Values:
    """The share of those of at most a minute; within the native bucket of a minute as if they were spread evenly."""
    if kind is Histograms.CLASSIC:
        short = said.grown(f"{OVER}_bucket", HOUR, where=lambda one: one["le"] == "60")
        return over(short, said.grown(f"{OVER}_count", HOUR))
    own = sessions_of(said, HOUR)
    low, high = (2 ** (number / 8) for number in (math.floor(8 * math.log2(60)), math.ceil(8 * math.log2(60))))
    below, above = bisect.bisect_right(own, low), bisect.bisect_right(own, high)
    return {(): (below + (above - below) * (60 - low) / (high - low)) / len(own)}


@pytest.fixture(scope="module")
def said() -> Said:
    """What the lines say; the queries are asked 90 seconds after the last tick."""
    return Said(1_768_057_200)


@pytest.fixture(scope="module")
def servers(said: Said, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Histograms, Prometheus]]:
    """A Prometheus with all that the exporter makes of the lines, for each way to send distributions of times."""
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        Prometheus(folder / "classic") as classic,
        Prometheus(folder / "native", features="native-histograms") as native,
    ):
        found = {Histograms.CLASSIC: classic, Histograms.NATIVE: native}
        for kind, server in found.items():
            tell(server, said, kind)
        yield found


def tell(server: Prometheus, said: Said, kind: Histograms) -> None:
    """Have lines decoded and counted a minute at a time, and the ticks pushed."""
    measures = built_in(kind)
    decoder = Decoder(measures)
    timeline = Timeline(
        Rules(session_window_seconds=WINDOW),
        start_ms=(said.begin - 60) * 1000,
        key=bytes(32),
        locate=locate,
        measures=measures,
    )
    for minute, body in said.files:
        now_ms = (minute + 60) * 1000
        file = LogFile(f"logs/20260110/15/rtl.w+0+{minute}.ndjson.gz", str(minute), len(body), now_ms)
        stats, counts = decoder.decode(body, latest_ms=now_ms, oldest_ms=0)
        timeline.absorb([(file, stats)], counts)
        more = True
        while more:
            requests, more = timeline.advance(now_ms, now_ms, most_ticks=1)
            for request in requests:
                server.store(request.body)
            timeline.take_changes(requests, 0, [])
            for request in requests if len(timeline.owed) else ():
                timeline.settle(request.body, stored=True, told=None)
            timeline.done([request.number for request in requests])
