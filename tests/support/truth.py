"""The slow plain oracle: what every sample must be, straight from the contract, sharing no code with the program.

It takes parsed events (dicts, as in the log) and recomputes each answer from all of them, without any cleverness.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

Labels = tuple[tuple[str, str], ...]  # sorted by name
Values = dict[Labels, float]
Locate = Callable[[str], tuple[str, str]]

COUNTERS = (
    "cdn77_transfer_bytes_total",
    "cdn77_requests_total",
    "cdn77_responses_total",
    "cdn77_viewers_total",
    "cdn77_viewers_by_device_total",
    "cdn77_viewers_by_country_total",
    "cdn77_viewers_by_region_total",
    "cdn77_time_to_first_byte_seconds_sum",
    "cdn77_time_to_first_byte_seconds_count",
    "cdn77_requests_by_track_total",
    "cdn77_transfer_bytes_by_track_total",
    "cdn77_incomplete_requests_total",
)
#: In seconds; each is a field of a line, in units of which so many are one second.
HISTOGRAMS = {
    "cdn77_time_to_first_byte_seconds": ("timeToFirstByteMs", 1000),
    "cdn77_request_duration_seconds": ("requestTimeMs", 1000),
    "cdn77_tcp_rtt_seconds": ("tcpRTTus", 1_000_000),
}
BUCKETS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
WINDOW_GAUGES = (
    "cdn77_active_viewers",
    "cdn77_active_viewers_by_device",
    "cdn77_active_viewers_by_country",
    "cdn77_active_viewers_by_region",
    "cdn77_active_viewers_by_track",
    "cdn77_active_viewers_by_ip_version",
)
#: What players count, as of a tick; the last is a histogram of three parts.
PLAYERS = (
    "cdn77_concurrent_viewers",
    "cdn77_watch_seconds_total",
    "cdn77_sessions_total",
    "cdn77_session_watch_seconds_bucket",
    "cdn77_session_watch_seconds_sum",
    "cdn77_session_watch_seconds_count",
)
TTFB = "cdn77_time_to_first_byte_ms"
_SESSION_BOUNDS = (60, 180, 300, 600, 1200, 1800, 3600, 7200)


def labels(**pairs: str) -> Labels:
    """Label pairs in the form that this module and the Prometheus harness share."""
    return tuple(sorted(pairs.items()))


def device_type(agent: str | None) -> str:
    """The contract's table of device types, read literally; the first 512 characters of a User-Agent count."""
    whole = urllib.parse.unquote((agent or "")[:1536])[:512]
    text = whole.lower()

    def has(*words: str) -> bool:
        return any(word in text for word in words)

    def has_word(*words: str) -> bool:
        return any(word in re.split(r"\W+", text) for word in words)

    tv = has("bravia", "chromecast", "mibox", "mitv", "googletv", "androidtv") or has_word("tv", "onn")
    fits = {
        # Cubot makes telephones, and there are televisions whose HbbTV names a factory with `bot` in it.
        "bot": has("bot", "crawler", "spider", "headless", "preview") and not has("cubot", "hbbtv"),
        "apple_tv": has("appletv", "apple tv", "tvos"),
        "roku": has("roku"),
        "firestick": any(re.fullmatch("AFT[A-Z0-9]{1,7}", word) for word in re.split(r"\W+", whole)) or has("fire tv"),
        # The SHIELD Tablet is none.
        "android_tv": (has("android") and (tv or (has("shield") and not has("shield tablet")))) or has("crkey"),
        "smart_tv": has("tizen", "web0s", "webos", "smarttv", "smart-tv", "hbbtv", "netcast", "vizio"),
        "console": has("playstation", "xbox", "nintendo") and not has("nexbox"),  # a box with Android
        "baron_mobile": has("baron", "virtualrailfan"),
        "mobile": (has("applecoremedia", "cfnetwork") and has("iphone", "ipad", "darwin"))
        or has("exoplayer", "media3", "dalvik", "okhttp"),
        "web": has("chrome", "firefox", "safari", "edge", "edg/", "opera"),
        "other": True,
    }
    return next(device for device, does in fits.items() if does)


@dataclass(frozen=True, slots=True)
class _Seen:
    """An event, reduced to what counts."""

    ms: int
    where: Labels
    status: str
    size: int
    wait_ms: int | None
    stream: str
    ip: str
    device: str
    country: str
    track: str
    incomplete: tuple[str, ...]
    times: tuple[int, ...]  # of `HISTOGRAMS`, 0 where there is none


def _read(event: Mapping[str, Any]) -> _Seen | None:
    found = re.search(r"/([a-f0-9]{32})/", event["clientRequestPath"])
    if found is None:
        return None
    moment = datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00"))
    where = labels(
        stream_name=found[1],
        cdn_id=str(event.get("resourceID") or 0),
        cache_status=event.get("cacheStatus") or "UNKNOWN",
        pop=event.get("locationID") or "unknown",
    )
    return _Seen(
        ms=round(moment.timestamp() * 1000),
        where=where,
        status=str(event.get("responseStatus") or 0),
        size=event["responseBytes"],
        wait_ms=event.get("timeToFirstByteMs") or None,
        stream=found[1],
        ip=str(ipaddress.ip_address(event["clientIP"])),
        device=device_type(event.get("clientRequestUserAgent")),
        country=event.get("clientCountry") or "XX",
        track=track[1] if (track := re.match(r"/[^/]+/tracks-([^/]+)/", event["clientRequestPath"])) else "",
        incomplete=("aborted",) * (event.get("clientRequestCompleted") is False)
        + ("timeout",) * (event.get("clientRequestConnTimeout") is True),
        times=tuple(event.get(field) or 0 for field, _ in HISTOGRAMS.values()),
    )


def _united(times: list[int], presence: int, end: int) -> int:
    """The length of the union of [time, time + presence) before an end."""
    ends = [*times[1:], end]
    return sum(min(presence, after - at) for at, after in zip(times, ends, strict=True))


def _window_text(seconds: int) -> str:
    if seconds % 3600 == 0:
        return f"{seconds // 3600}h"
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


class Truth:
    """What is true of a set of events. Times in Unix milliseconds, the window in seconds."""

    def __init__(
        self, events: Iterable[Mapping[str, Any]], *, window_seconds: int = 7200, locate: Locate | None = None
    ) -> None:
        self._seen = sorted(filter(None, map(_read, events)), key=lambda seen: seen.ms)
        self._window_ms = window_seconds * 1000
        self._window = _window_text(window_seconds)
        self._locate = locate

    @property
    def first_ms(self) -> int:
        """Time of the oldest event."""
        return self._seen[0].ms

    @property
    def last_ms(self) -> int:
        """Time of the newest event."""
        return self._seen[-1].ms

    def _place(self, ip: str) -> tuple[str, str]:
        return self._locate(ip) if self._locate else ("XX", "Unknown")

    def counters(self, before_ms: int | None = None) -> dict[str, Values]:
        """Every counter's series with the number of things that happened before an instant (None: at all)."""
        seen = [one for one in self._seen if before_ms is None or one.ms < before_ms]
        size: Counter[Labels] = Counter()
        waited_ms: Counter[Labels] = Counter()
        waits: Counter[Labels] = Counter()
        for one in seen:
            size[one.where] += one.size
            waited_ms[one.where] += one.wait_ms or 0
            waits[one.where] += bool(one.wait_ms)
        found: dict[str, Counter[Labels]] = {
            "cdn77_transfer_bytes_total": size,
            "cdn77_requests_total": Counter(one.where for one in seen),
            "cdn77_responses_total": Counter(labels(**dict(one.where), response_status=one.status) for one in seen),
            "cdn77_viewers_total": self._new(seen, lambda one: labels(stream_name=one.stream)),
            "cdn77_viewers_by_device_total": self._new(
                seen, lambda one: labels(stream_name=one.stream, device_type=one.device)
            ),
            "cdn77_viewers_by_country_total": self._new(
                seen, lambda one: labels(stream_name=one.stream, country=one.country)
            ),
            "cdn77_viewers_by_region_total": Counter(),
            "cdn77_time_to_first_byte_seconds_count": waits,
            "cdn77_incomplete_requests_total": Counter(
                labels(**{name: text for name, text in one.where if name != "cache_status"}, reason=reason)
                for one in seen
                for reason in one.incomplete
            ),
            "cdn77_requests_by_track_total": Counter(),
            "cdn77_transfer_bytes_by_track_total": Counter(),
        }
        for one in seen:
            if one.track:
                key = labels(stream_name=one.stream, track=one.track)
                found["cdn77_requests_by_track_total"][key] += 1
                found["cdn77_transfer_bytes_by_track_total"][key] += one.size
        if self._locate is not None:
            found["cdn77_viewers_by_region_total"] = self._new(seen, self._region)
        counted = {name: {key: float(value) for key, value in values.items()} for name, values in found.items()}
        counted["cdn77_time_to_first_byte_seconds_sum"] = {key: value / 1000 for key, value in waited_ms.items()}
        return counted

    def histograms(self) -> dict[str, Values]:
        """Every series of the classic histograms of times."""
        found: dict[str, Counter[Labels]] = {}
        for one in self._seen:
            for (name, (_, per)), time in zip(HISTOGRAMS.items(), one.times, strict=True):
                buckets = found.setdefault(f"{name}_bucket", Counter())
                found.setdefault(f"{name}_count", Counter())[one.where] += time > 0
                found.setdefault(f"{name}_sum", Counter())[one.where] += Fraction(time, per)  # type: ignore[assignment]
                for bound in BUCKETS:
                    is_in = time > 0 and (bound == "+Inf" or Fraction(time, per) <= Fraction(bound))
                    buckets[labels(**dict(one.where), le=bound)] += is_in
        return {name: {key: float(value) for key, value in values.items()} for name, values in found.items()}

    def _region(self, one: _Seen) -> Labels:
        country, region = self._place(one.ip)
        return labels(stream_name=one.stream, country=country, region=region)

    def _new(self, seen: list[_Seen], group: Callable[[_Seen], Labels]) -> Counter[Labels]:
        """Viewers that appear in a group and were not seen there in [t - window, t)."""
        last: dict[tuple[Labels, str], int] = {}
        found: Counter[Labels] = Counter()
        for one in seen:
            viewer = (group(one), one.ip)
            if viewer not in last or last[viewer] < one.ms - self._window_ms:
                found[viewer[0]] += 1
            last[viewer] = one.ms
        return found

    def active(self, tick_ms: int) -> dict[str, Values]:
        """The window gauges at a tick: distinct viewers with an event in [tick - window, tick)."""
        seen = [one for one in self._seen if tick_ms - self._window_ms <= one.ms < tick_ms]
        found: dict[str, dict[Labels, set[str]]] = {name: {} for name in WINDOW_GAUGES}
        for one in seen:
            country, region = self._place(one.ip)
            kinds: tuple[dict[str, str], ...] = (
                {},
                {"device_type": one.device},
                {"country": country},
                {"country": country, "region": region},
                {"track": one.track},
                {"ip_version": "6" if ":" in one.ip else "4"},
            )
            for name, own in zip(WINDOW_GAUGES, kinds, strict=True):
                if own.get("track", "some"):
                    key = labels(stream_name=one.stream, window=self._window, **own)
                    found[name].setdefault(key, set()).add(one.ip)
        return {name: {key: float(len(ips)) for key, ips in values.items()} for name, values in found.items()}

    def players(self, tick_ms: int, presence_seconds: int = 30, gap_seconds: int = 120) -> dict[str, Values]:
        """What players have watched before a tick, and their sessions, when every request came in time."""
        presence, gap = presence_seconds * 1000, gap_seconds * 1000
        found: dict[str, Counter[Labels]] = {name: Counter() for name in PLAYERS}
        now, watch, sessions, bucket, total, count = (found[name] for name in PLAYERS)
        for where, runs in self._sessions(tick_ms, gap):
            now[where] += runs[-1][-1] >= tick_ms - presence
            sessions[where] += len(runs)
            for run in runs:
                watch[where] += _united(run, presence, tick_ms)
                if run[-1] < tick_ms - gap:
                    watched = _united(run, presence, tick_ms)
                    total[where] += watched
                    count[where] += 1
                    for bound in _SESSION_BOUNDS:
                        bucket[labels(**dict(where), le=str(bound))] += watched <= bound * 1000
                    bucket[labels(**dict(where), le="+Inf")] += 1
        for values in (watch, total):
            for where in values:
                values[where] = values[where] / 1000  # type: ignore[assignment]  # seconds
        return {name: {where: float(value) for where, value in values.items()} for name, values in found.items()}

    def watched(self, tick_ms: int, presence_seconds: int = 30, gap_seconds: int = 120) -> list[int]:
        """The watch time (ms) of each session that is over at a tick."""
        presence, gap = presence_seconds * 1000, gap_seconds * 1000
        every = (run for _, runs in self._sessions(tick_ms, gap) for run in runs)
        return [_united(run, presence, tick_ms) for run in every if run[-1] < tick_ms - gap]

    def _sessions(self, tick_ms: int, gap_ms: int) -> Iterator[tuple[Labels, list[list[int]]]]:
        """The requests (ms) of each player before a tick, by session."""
        times: dict[tuple[Labels, str], list[int]] = {}
        for one in self._seen:
            if one.ms < tick_ms:
                player = labels(stream_name=one.stream, device_type=one.device), one.ip
                times.setdefault(player, []).append(one.ms)
        for (where, _), own in times.items():
            runs: list[list[int]] = []
            for at in own:
                if not runs or at - runs[-1][-1] > gap_ms:
                    runs.append([])
                runs[-1].append(at)
            yield where, runs

    def time_to_first_byte(self, tick_ms: int, tick_seconds: int) -> Values:
        """The mean time to first byte of the events of one tick; a group without any is absent."""
        waits: dict[Labels, list[int]] = {}
        for one in self._seen:
            if tick_ms - tick_seconds * 1000 <= one.ms < tick_ms and one.wait_ms:
                waits.setdefault(one.where, []).append(one.wait_ms)
        return {where: float(Fraction(sum(times), len(times))) for where, times in waits.items()}
