"""Invented CDN traffic: log files as the CDN writes them, and the totals that a correct answer must show.

The same plan and start give the same events. Generating is separate from writing: `Traffic` makes the files that are
due at a time that it is told, and `write` puts them into a bucket as real time passes.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from isal import igzip

from cdn77_exporter.demo.watching import File, InTime, Watching

Locate = Callable[[str], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Place:
    """A location of viewers: country and region, the POP that serves them, and the networks of their addresses."""

    country: str
    region: str
    pop: str
    number: int  # the second byte of the addresses, so that an address tells its place

    @property
    def networks(self) -> tuple[str, str]:
        """The IPv4 and the IPv6 network of the location."""
        return (f"10.{self.number}.0.0/16", f"2001:db8:{self.number:x}::/48")


PLACES: tuple[Place, ...] = tuple(
    Place(country, region, pop, number)
    for number, (country, region, pop) in enumerate(
        (
            ("US", "California", "losangelesUSCA"),
            ("US", "California", "losangelesUSCA"),
            ("US", "New York", "newyorkUSNY"),
            ("US", "Texas", "dallasUSTX"),
            ("US", "Illinois", "chicagoUSIL"),
            ("US", "Florida", "miamiUSFL"),
            ("CA", "Ontario", "torontoCAON"),
            ("GB", "England", "londonGBEN"),
            ("DE", "Hesse", "frankfurtDEHE"),
            ("FR", "Ile-de-France", "parisFRIF"),
            ("PL", "Mazovia", "warsawPLMZ"),
            ("SG", "Unknown", "singaporeSGSG"),
        ),
        start=1,
    )
)

#: User-Agents as they occur, each with its device type by definition.
AGENTS: tuple[tuple[str, str], ...] = (
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/131.0.0.0 Safari/537.36",
        "web",
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.1 Safari/605.1.15",
        "web",
    ),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", "web"),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 "
        "Safari/537.36 Edg/131.0.0.0",
        "web",
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.1 Mobile/15E148 Safari/604.1",
        "web",
    ),
    ("VirtualRailfan/5.1 (com.virtualrailfan.app; build:412; iOS 18.1.0) Alamofire/5.9.1", "baron_mobile"),
    ("Baron/3.2.0 (Linux; Android 14; Pixel 8 Build/UQ1A.240205.004) Mobile", "baron_mobile"),
    ("AppleCoreMedia/1.0.0.22J357 (Apple TV; U; CPU OS 18_0 like Mac OS X; en_us)", "apple_tv"),
    ("AppleTV11,1/18.1", "apple_tv"),
    ("Roku/DVP-14.0 (14.0.0.4193-46)", "roku"),
    (
        "Mozilla/5.0 (Linux; Android 9; AFTMM Build/PS7633.3445N) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Silk/126.4.1 like Chrome/126.0.6478.182 Safari/537.36",
        "firestick",
    ),
    ("Dalvik/2.1.0 (Linux; U; Android 7.1.2; AFTT Build/NS6301)", "firestick"),
    (
        "Mozilla/5.0 (Linux; Android 12; BRAVIA 4K VH2 TV) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/124.0.0.0 Safari/537.36",
        "android_tv",
    ),
    ("ExoPlayerLib/2.19.1 (Linux; Android 11; Chromecast) GoogleTV", "android_tv"),
    ("Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/108.0.5359.211", "smart_tv"),
    ("Mozilla/5.0 (PlayStation; PlayStation 5/2.26) AppleWebKit/605.1.15 (KHTML, like Gecko)", "console"),
    ("VirtualRailfan/5.1 (Linux;Android 14) ExoPlayerLib/2.19.1", "baron_mobile"),
    ("AppleCoreMedia%2F1.0.0.22B83%20(iPhone%3B%20U%3B%20CPU%20OS%2018_1%20like%20Mac%20OS%20X%3B%20en_us)", "mobile"),
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot"),
    ("VLC/3.0.21 LibVLC/3.0.21", "other"),
    ("curl/8.5.0", "other"),
    ("", "other"),
)

_CDN_IDS = (1693215245, 1281764910)
_CACHE = ("HIT",) * 82 + ("MISS",) * 10 + ("EXPIRED",) * 4 + ("REVALIDATED",) * 2 + ("", None)
_STATUS = (200,) * 86 + (206,) * 7 + (304,) * 3 + (404,) * 3 + (503,)
_PLAYLISTS = ("tracks-v3/rewind-3600.fmp4.m3u8", "tracks-v1a1/mono.fmp4.m3u8", "index.fmp4.m3u8", "embed.html")
_SESSION_GAP_SECONDS = 120  # SESSION_GAP_SECONDS, where it is not set
_ABORTED, _TIMED_OUT = 0.02, 0.004  # shares of the requests

_COMMON: dict[str, Any] = {
    "timestamp": "",
    "startTimeMs": 0,
    "tcpRTTus": 0,
    "requestTimeMs": 0,
    "timeToFirstByteMs": 0,
    "resourceID": 0,
    "cacheAge": 0,
    "cacheStatus": "HIT",
    "clientCountry": "US",
    "clientIP": "",
    "clientPort": 0,
    "clientASN": 606,
    "clientRequestAccept": "*/*",
    "clientRequestBytes": 65,
    "clientRequestCompleted": True,
    "clientRequestConnTimeout": False,
    "clientRequestContentType": "",
    "clientRequestHost": "",
    "clientRequestMethod": "GET",
    "clientRequestPath": "",
    "clientRequestProtocol": "HTTP20",
    "clientRequestRange": "",
    "clientRequestReferer": "https://example.com/live/",
    "clientRequestScheme": "HTTPS",
    "clientRequestServerPush": False,
    "clientRequestUserAgent": "",
    "clientRequestVia": "",
    "clientRequestXForwardedFor": "",
    "clientSSLCipher": "TLS_AES_256_GCM_SHA384",
    "clientSSLFlags": 1,
    "clientSSLProtocol": "TLS13",
    "locationID": "",
    "serverIP": "143.244.51.39",
    "serverPort": 443,
    "responseStatus": 200,
    "responseBytes": 0,
    "responseContentType": "application/vnd.apple.mpegurl",
    "responseContentRange": "",
    "responseContentEncoding": "GZIP",
}


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a plan: its share of the viewers, and when it is on the air (seconds since the start)."""

    name: str
    weight: float = 1.0
    begins: float = 0.0
    ends: float = float("inf")


@dataclass(frozen=True, slots=True)
class Plan:
    """The shape of the traffic. Times are in seconds."""

    seed: int = 1
    streams: tuple[Stream, ...] = ()
    lines_per_second: float = 200.0
    viewers: int = 300  # watching at a time
    stay_seconds: float = 120.0  # how long a viewer watches, on average
    shards: int = 3
    file_seconds: float = 30.0
    overlap_seconds: float = 3.0  # how much later than its time an event may be written
    upload_seconds: float = 2.0  # from the end of a file to its appearance
    bad_share: float = 0.002  # of the lines
    #: Shard, which of its spans of `file_seconds` (from 0), and by how many seconds the file of it comes later.
    late: tuple[tuple[int, int, float], ...] = ()
    session_window_seconds: float = 7200.0


def stream_name(seed: int, number: int) -> str:
    """Return a stream's name: 32 hex digits."""
    return f"{random.Random(f'{seed}/{number}').getrandbits(128):032x}"  # noqa: S311


def usual_streams(seconds: float, *, steady: int = 4, seed: int = 1) -> tuple[Stream, ...]:
    """Return steady streams of uneven popularity, a short one, and one that begins late, for a run of `seconds`."""
    names = [stream_name(seed, number) for number in range(steady + 2)]
    always = [Stream(name, weight=1 / (rank + 1)) for rank, name in enumerate(names[:steady])]
    short = Stream(names[steady], 0.3, begins=seconds * 0.2, ends=seconds * 0.35)
    new = Stream(names[steady + 1], 0.3, begins=seconds * 0.55)
    return (*always, short, new)


@dataclass(slots=True)
class Totals:
    """The truth: the final values of the counters, by metric and label values in the catalogue's order.

    Events are counted in the order of their times. `locate` is the GeoIP lookup; without it no regions are counted.
    """

    session_window_seconds: float = 7200.0
    locate: Locate | None = None
    lines: int = 0
    events: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    counters: dict[str, Counter[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(Counter))
    watching: Watching = field(default_factory=Watching)
    _seen: dict[tuple[str, ...], int] = field(default_factory=dict)

    def count(
        self,
        ms: int,
        where: tuple[str, str, str, str],
        status: str,
        size: int,
        wait_ms: int,
        viewer: tuple[str, str, str],
        track: str = "",
        incomplete: Iterable[str] = (),
    ) -> None:
        """Count an event; `where`: stream, CDN id, cache status and POP; `viewer`: IP, device type and country.

        Counts are whole; times are in milliseconds. `track`: none without one; `incomplete`: why the request is.
        """
        self.lines += 1
        self.events += 1
        counters, stream = self.counters, where[0]
        ip, device, country = viewer
        counters["cdn77_transfer_bytes_total"][where] += size
        counters["cdn77_requests_total"][where] += 1
        counters["cdn77_responses_total"][(*where, status)] += 1
        counters["cdn77_time_to_first_byte_seconds_sum"][where] += wait_ms
        counters["cdn77_time_to_first_byte_seconds_count"][where] += wait_ms > 0
        if track:
            counters["cdn77_requests_by_track_total"][stream, track] += 1
            counters["cdn77_transfer_bytes_by_track_total"][stream, track] += size
        for reason in incomplete:
            counters["cdn77_incomplete_requests_total"][stream, where[1], where[3], reason] += 1
        if self._appears(ms, stream, ip):
            counters["cdn77_viewers_total"][stream,] += 1
            if self.locate is not None:
                counters["cdn77_viewers_by_region_total"][(stream, *self.locate(ip))] += 1
        if self._appears(ms, stream, ip, "device", device):
            counters["cdn77_viewers_by_device_total"][stream, device] += 1
        if self._appears(ms, stream, ip, "session", device, seconds=_SESSION_GAP_SECONDS):
            counters["cdn77_sessions_total"][stream, device] += 1
        if self._appears(ms, stream, ip, "country", country):
            counters["cdn77_viewers_by_country_total"][stream, country] += 1

    def _appears(self, ms: int, *viewer: str, seconds: float = 0) -> bool:
        """Return whether a viewer seen at `ms` was not seen for so long before, by default the session window."""
        before = self._seen.get(viewer)
        self._seen[viewer] = ms
        return before is None or ms - before > (seconds or self.session_window_seconds) * 1000

    def reject(self, reason: str) -> None:
        """Count a rejected line."""
        self.lines += 1
        self.rejects[reason] += 1


@dataclass(frozen=True, slots=True)
class Upload:
    """A log file and when it appears in the bucket (Unix ms)."""

    due_ms: int
    key: str
    body: bytes
    shard: int
    lines: int


@dataclass(slots=True)
class _Viewer:
    ip: str
    device: str
    country: str
    leaves: float  # seconds since the start
    stream: str
    pop: str
    fields: dict[str, Any]


class Traffic:
    """Endless traffic after a plan, beginning at `start_ms` (Unix ms); `until` says which files are due.

    With `keep_events` the events are kept as dicts, in the order of their times, for a closer look than `totals`.
    """

    def __init__(
        self, plan: Plan, *, start_ms: int, prefix: str, locate: Locate | None = None, keep_events: bool = False
    ) -> None:
        self._plan = plan
        self._streams = plan.streams or usual_streams(60, seed=plan.seed)
        self.begin_ms = start_ms // 1000 * 1000
        self._prefix = prefix.strip("/")
        self._draw = random.Random(plan.seed)  # noqa: S311
        self.totals = Totals(plan.session_window_seconds, locate)
        self.events: list[dict[str, Any]] | None = [] if keep_events else None
        self.in_time: InTime | None = None  # to be told of requests, for who can say which files were late
        self._writers = [str(uuid.UUID(int=self._draw.getrandbits(128), version=4)) for _ in range(plan.shards)]
        self._sequences = [0] * plan.shards
        self._late = {(shard, number): seconds for shard, number, seconds in plan.late}
        self._open: dict[tuple[int, int], list[tuple[bytes, str]]] = {}  # shard and file number -> lines, reasons
        self._waiting: list[Upload] = []
        self._crowds: dict[str, list[_Viewer]] = {stream.name: [] for stream in self._streams}
        self._addresses = [0] * len(PLACES)
        self._owed = 0.0  # the part of a line that the rate left over
        self._second = 0

    @property
    def generated_ms(self) -> int:
        """The time up to which events are generated (Unix ms)."""
        return self.begin_ms + self._second * 1000

    def until(self, now_ms: int) -> Iterator[Upload]:
        """Return the files that have become due by `now_ms`, in the order in which they appear."""
        while self.generated_ms + 1000 <= now_ms:
            self._generate_second()
            self._close_files(self.generated_ms)
            yield from self._due(self.generated_ms)
        yield from self._due(now_ms)

    def finish(self) -> Iterator[Upload]:
        """Return everything that is still open or waiting, at once; the traffic ends with it."""
        self._close_files(None)
        yield from self._due(None)

    # Events

    def _generate_second(self) -> None:
        now = self._second
        self._come_and_go(now)
        crowd = list(itertools.chain.from_iterable(self._crowds.values()))
        self._owed += self._plan.lines_per_second * (0.8 + 0.4 * self._draw.random())
        lines, self._owed = int(self._owed), self._owed % 1
        base_ms = self.begin_ms + now * 1000
        stem = datetime.fromtimestamp(base_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        draw = self._draw.random
        people = len(crowd)
        for ms in sorted(int(draw() * 1000) for _ in range(lines if people else 0)):
            viewer = crowd[int(draw() * people)]
            if draw() < self._plan.bad_share:
                line, reason = self._bad_line(viewer, f"{stem}{ms:03d}Z")
            else:
                line, reason = self._event(viewer, base_ms + ms, f"{stem}{ms:03d}Z"), ""
            file = self._file_line(base_ms + ms, line, reason)
            if not reason:
                player = (viewer.stream, viewer.device, viewer.ip)
                self.totals.watching.see(base_ms + ms, player)
                if self.in_time is not None:
                    self.in_time.see(base_ms + ms, player, file)
        self._second += 1

    def _event(self, viewer: _Viewer, ms: int, timestamp: str) -> bytes:
        draw = self._draw.random
        fields = viewer.fields.copy()
        segment = draw() < 0.6
        leaf = f"tracks-v1/2026/seg-{int(draw() * 100_000)}-6000.ts" if segment else _PLAYLISTS[int(draw() * 4)]
        size = int(200_000 + draw() * 2_800_000) if segment else int(300 + draw() * 9_000)
        cache = _CACHE[int(draw() * len(_CACHE))]
        status = _STATUS[int(draw() * 100)]
        wait = int(draw() * draw() * 700)  # some are 0: the log's way to say that there was none
        fields["timestamp"] = timestamp
        fields["startTimeMs"] = ms
        fields["requestTimeMs"] = wait + int(draw() * 50)
        fields["cacheStatus"] = cache
        fields["clientRequestPath"] = f"/{viewer.stream}/{leaf}"
        fields["responseStatus"] = status
        fields["responseBytes"] = size
        pop: str = viewer.pop
        oddity = draw()
        told = wait if oddity >= 0.02 else 0
        if oddity < 0.01:
            fields["timeToFirstByteMs"] = None
        elif oddity < 0.02:
            del fields["timeToFirstByteMs"]
        else:
            fields["timeToFirstByteMs"] = wait
        if oddity > 0.995:
            del fields["locationID"]
            pop = "unknown"
        where = (viewer.stream, str(fields["resourceID"]), cache or "UNKNOWN", pop)
        incomplete = self._break_off(fields)
        track = leaf.removeprefix("tracks-").partition("/")[0] if leaf.startswith("tracks-") else ""
        of_viewer = (viewer.ip, viewer.device, viewer.country)
        self.totals.count(ms, where, str(status), size, told, of_viewer, track, incomplete)
        if self.events is not None:
            self.events.append(fields)
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)

    def _break_off(self, fields: dict[str, Any]) -> list[str]:
        """Let some requests remain incomplete, and return why this one is."""
        fields["clientRequestCompleted"] = self._draw.random() >= _ABORTED
        fields["clientRequestConnTimeout"] = self._draw.random() < _TIMED_OUT
        reasons = {"aborted": not fields["clientRequestCompleted"], "timeout": fields["clientRequestConnTimeout"]}
        return [reason for reason, is_true in reasons.items() if is_true]

    def _bad_line(self, viewer: _Viewer, timestamp: str) -> tuple[bytes, str]:
        """Return a line that is rejected, and the reason."""
        fields = {**viewer.fields, "timestamp": timestamp, "clientRequestPath": f"/{viewer.stream}/index.fmp4.m3u8"}
        reason, changed = self._draw.choice(
            (
                ("bad_timestamp", {"timestamp": "2026-13-01T00:00:00.000Z"}),
                ("bad_path", {"clientRequestPath": None}),
                ("no_stream", {"clientRequestPath": "/favicon.ico"}),
                ("bad_timestamp", {"timestamp": "2026-01-10T14:49:28"}),
                ("not_json", {}),
                ("not_an_object", {}),
            )
        )
        line = orjson.dumps(fields | changed)
        if reason == "not_json":
            line = line[: len(line) // 2]
        elif reason == "not_an_object":
            line = b"[" + line + b"]"
        return line + b"\n", reason

    # Viewers

    def _come_and_go(self, now: int) -> None:
        on_air = [stream for stream in self._streams if stream.begins <= now < stream.ends]
        weights = sum(stream.weight for stream in on_air)
        for stream in self._streams:
            crowd = self._crowds[stream.name]
            if stream not in on_air:
                crowd.clear()
                continue
            crowd[:] = [viewer for viewer in crowd if viewer.leaves > now]
            missing = int(self._plan.viewers * stream.weight / weights) - len(crowd)
            # At the beginning everyone is there at once; later they come a few at a time.
            coming = missing if now == 0 else min(missing, 1 + self._plan.viewers // 20)
            crowd.extend(self._newcomer(stream.name, now) for _ in range(max(0, coming)))

    def _newcomer(self, stream: str, now: int) -> _Viewer:
        draw = self._draw
        leaves = now + draw.expovariate(1 / self._plan.stay_seconds) + 1
        place = PLACES[int(draw.random() ** 2 * len(PLACES))]
        agent, device = AGENTS[int(draw.random() ** 1.5 * len(AGENTS))]
        known = int(draw.random() * len(self._addresses) * 8)
        if known < len(self._addresses) and self._addresses[place.number - 1]:
            # Someone who was here before, or another device in the same household.
            number = draw.randrange(self._addresses[place.number - 1])
        else:
            number = self._addresses[place.number - 1]
            self._addresses[place.number - 1] += 1
        if number % 5:
            ip = f"10.{place.number}.{number // 250 % 256}.{number % 250 + 1}"
        else:
            ip = f"2001:db8:{place.number:x}::{number + 1:x}"
        country = "" if number % 97 == 0 else place.country
        cdn = draw.choice(_CDN_IDS)
        fields = _COMMON | {
            "tcpRTTus": draw.randrange(2_000, 180_000),
            "resourceID": cdn,
            "clientCountry": country,
            "clientIP": ip,
            "clientPort": draw.randrange(1024, 65_536),
            "clientASN": draw.randrange(100, 60_000),
            "clientRequestHost": f"{cdn}.rsc.cdn77.org",
            "clientRequestUserAgent": agent,
            "clientRequestXForwardedFor": ip,
            "locationID": place.pop,
        }
        return _Viewer(ip, device, country or "XX", leaves, stream, place.pop, fields)

    # Files

    def _file_line(self, ms: int, line: bytes, reason: str) -> File:
        """Put a line, which is rejected for a reason or is an event, into the file that is open when it is written."""
        draw, plan = self._draw.random, self._plan
        shard = int(draw() * plan.shards)
        delay = draw() * plan.overlap_seconds if plan.overlap_seconds and draw() < 0.3 else 0.0
        written = (ms - self.begin_ms) / 1000 + delay + self._shift(shard)
        file = (shard, int(written / plan.file_seconds))
        self._open.setdefault(file, []).append((line, reason))
        return file

    def _shift(self, shard: int) -> float:
        """Return by how many seconds a shard ends its files later than the first: they do not all end at once."""
        return shard * self._plan.file_seconds / self._plan.shards

    def _close_files(self, now_ms: int | None) -> None:
        """Finish the files whose time is over (all of them when `now_ms` is None)."""
        plan = self._plan
        ends: dict[tuple[int, int], int] = {}
        for shard, number in self._open:
            seconds = (number + 1) * plan.file_seconds - self._shift(shard)
            ends[shard, number] = self.begin_ms + int(seconds * 1000)
        for (shard, number), end_ms in sorted(ends.items(), key=lambda item: (item[1], item[0])):
            if now_ms is not None and end_ms > now_ms:
                continue
            lines = self._lines_of(self._open.pop((shard, number)))
            if not lines:
                continue
            sequence = self._sequences[shard]
            self._sequences[shard] += 1
            late = self._late.get((shard, number), 0.0)
            # A file that is cut short by the end of the traffic must not be named after an hour to come.
            moment = datetime.fromtimestamp(min(end_ms, now_ms or self.generated_ms) / 1000, UTC)
            name = f"rtl.{self._writers[shard]}+{shard}+{sequence}.ndjson.gz"
            key = "/".join(filter(None, (self._prefix, moment.strftime("%Y%m%d/%H"), name)))
            due_ms = end_ms + int((plan.upload_seconds + late) * 1000)
            if self.in_time is not None:
                self.in_time.named((shard, number), key)
            self._waiting.append(Upload(due_ms, key, _gzip(lines), shard, len(lines)))

    def _lines_of(self, found: list[tuple[bytes, str]]) -> list[bytes]:
        """Return the lines of a file, with no more bad ones than events: it would be taken for no log, as it should."""
        left = sum(not reason for _, reason in found)
        lines = []
        for line, reason in found:
            if reason:
                if left <= 0:
                    continue
                left -= 1
                self.totals.reject(reason)
            lines.append(line)
        return lines

    def _due(self, now_ms: int | None) -> Iterator[Upload]:
        due = [upload for upload in self._waiting if now_ms is None or upload.due_ms <= now_ms]
        if due:
            self._waiting = [upload for upload in self._waiting if upload not in due]
            yield from sorted(due, key=lambda upload: (upload.due_ms, upload.key))


def _gzip(lines: list[bytes]) -> bytes:
    body: bytes = igzip.compress(b"".join(lines), compresslevel=1, mtime=0)  # no clock: equal content, equal bytes
    return body


async def write(
    traffic: Traffic,
    put: Callable[[str, bytes], Awaitable[object]],
    stop: asyncio.Event,
    *,
    wrote: Callable[[Upload], None] = lambda _: None,
    now: Callable[[], float] = time.time,
    pause_seconds: float = 0.25,
) -> None:
    """Put files as they become due until `stop` is set, then the rest; `wrote` is called with each."""
    while not stop.is_set():
        for upload in traffic.until(int(now() * 1000)):
            await put(upload.key, upload.body)
            wrote(upload)
        try:
            async with asyncio.timeout(pause_seconds):
                await stop.wait()
        except TimeoutError:
            continue
    for upload in traffic.finish():
        await put(upload.key, upload.body)
        wrote(upload)
