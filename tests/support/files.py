"""Log files for tests and benchmarks: events with all 39 fields of the real format, and the gzip files made of them."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

#: 2026-01-10T14:49:28.299Z, the instant of the example line; every default event happens here.
EXAMPLE_MS = 1_768_056_568_299

# ruff: noqa: E501 - they are as long as they are
USER_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "VirtualRailfan/4.2.1 (iPhone; iOS 17.5; Scale/3.00)",
    "VirtualRailfan/4.2.1 (Linux; Android 14; Pixel 8) Mobile",
    "AppleCoreMedia/1.0.0.21L569 (Apple TV; U; CPU OS 17_5 like Mac OS X; en_us)",
    "Roku/DVP-13.0 (13.0.0.4140-46)",
    "Mozilla/5.0 (Linux; Android 9; AFTMM Build/PS7633) AppleWebKit/537.36 (KHTML, like Gecko) Silk/120 like Chrome/120",
    "Mozilla/5.0 (Linux; Android 12; BRAVIA 4K TV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0 Safari/537.36",
    "VLC/3.0.20 LibVLC/3.0.20",
    "curl/8.5.0",
)
POPS = (
    "losangelesUSCA", "newyorkUSNY", "dallasUSTX", "chicagoUSIL", "miamiUSFL", "seattleUSWA",
    "frankfurtDEHE", "londonGB", "parisFR", "amsterdamNL", "warsawPL", "singaporeSG",
)  # fmt: skip
COUNTRIES = ("US", "US", "US", "US", "CA", "GB", "DE", "FR", "NL", "PL", "AU", "JP")
_CACHE = ("HIT",) * 80 + ("MISS",) * 12 + ("EXPIRED",) * 5 + ("REVALIDATED",) * 2 + ("",)
_STATUS = (200,) * 88 + (206,) * 6 + (304,) * 2 + (404,) * 3 + (503,)
_LEAVES = ("tracks-v3/rewind-3600.fmp4.m3u8", "tracks-v1a1/mono.ts.m3u8", "index.m3u8", "preview.mp4")


def timestamp(ms: int) -> str:
    """The log's way to write an instant."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def event(ms: int = EXAMPLE_MS, /, **changed: Any) -> dict[str, Any]:
    """One event with all fields, as the service writes them; keywords replace fields."""
    fields: dict[str, Any] = {
        "timestamp": timestamp(ms),
        "startTimeMs": ms,
        "tcpRTTus": 42321,
        "requestTimeMs": 132,
        "timeToFirstByteMs": 132,
        "resourceID": 1693215245,
        "cacheAge": 2,
        "cacheStatus": "HIT",
        "clientCountry": "US",
        "clientIP": "104.192.89.228",
        "clientPort": 61825,
        "clientASN": 606,
        "clientRequestAccept": "*/*",
        "clientRequestBytes": 65,
        "clientRequestCompleted": True,
        "clientRequestConnTimeout": False,
        "clientRequestContentType": "",
        "clientRequestHost": "1693215245.rsc.cdn77.org",
        "clientRequestMethod": "GET",
        "clientRequestPath": "/78001c7e2b3ff8ca21b504883b47c44c/tracks-v3/rewind-3600.fmp4.m3u8",
        "clientRequestProtocol": "HTTP20",
        "clientRequestRange": "",
        "clientRequestReferer": "https://virtualrailfan.com/",
        "clientRequestScheme": "HTTPS",
        "clientRequestServerPush": False,
        "clientRequestUserAgent": USER_AGENTS[0],
        "clientRequestVia": "",
        "clientRequestXForwardedFor": "104.192.89.0",
        "clientSSLCipher": "TLS_AES_256_GCM_SHA384",
        "clientSSLFlags": 1,
        "clientSSLProtocol": "TLS13",
        "locationID": "losangelesUSCA",
        "serverIP": "143.244.51.39",
        "serverPort": 443,
        "responseStatus": 200,
        "responseBytes": 4143,
        "responseContentType": "application/vnd.apple.mpegurl",
        "responseContentRange": "",
        "responseContentEncoding": "GZIP",
    }
    fields.update(changed)
    return fields


def json_line(fields: Mapping[str, Any]) -> bytes:
    """One event as the service writes it: compact JSON and a newline."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def ndjson(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Events, one a line, not compressed."""
    return b"".join(map(json_line, events))


def gzip_bytes(content: bytes, level: int = 6) -> bytes:
    """One gzip member without a time in its header, so that the same content gives the same bytes."""
    return gzip.compress(content, compresslevel=level, mtime=0)


def log_file(events: Iterable[Mapping[str, Any]]) -> bytes:
    """A whole log file: events as gzip-compressed NDJSON."""
    return gzip_bytes(ndjson(events))


def stream_name(number: int) -> str:
    """A stream name of 32 hex digits; the same number gives the same name."""
    return f"{random.Random(number).getrandbits(128):032x}"


def traffic(
    lines: int,
    *,
    seed: int = 0,
    start_ms: int = EXAMPLE_MS,
    span_ms: int = 30_000,
    streams: int = 40,
    viewers: int = 1500,
) -> Iterable[dict[str, Any]]:
    """Events like those of a live service: viewers keep their stream, device and POP; times jitter around their order."""
    draw = random.Random(seed)
    names = [stream_name(number) for number in range(streams)]
    crowd = []
    for _ in range(viewers):
        # A cubed draw makes a few streams much more popular than the rest.
        place = draw.randrange(len(POPS))
        crowd.append((
            names[int(draw.random() ** 3 * streams)],
            f"{draw.randrange(1, 224)}.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(1, 255)}"
            if draw.random() < 0.8
            else f"2001:db8:{draw.randrange(1, 65536):x}:{draw.randrange(1, 65536):x}::{draw.randrange(1, 65536):x}",
            draw.choice(USER_AGENTS),
            COUNTRIES[place],
            POPS[place],
            draw.choice((1693215245, 1281764910)),
        ))  # fmt: skip
    for number in range(lines):
        stream, ip, agent, country, pop, cdn = draw.choice(crowd)
        ms = start_ms + number * span_ms // lines + draw.randrange(-1500, 1500)
        segment = draw.random() < 0.6
        leaf = f"tracks-v1/2026/01/10/14/{draw.randrange(60):02d}/{draw.randrange(60):02d}-06000.ts"
        yield event(
            ms,
            startTimeMs=ms,
            tcpRTTus=draw.randrange(2_000, 180_000),
            requestTimeMs=draw.randrange(1, 900),
            timeToFirstByteMs=0 if draw.random() < 0.1 else draw.randrange(1, 700),
            resourceID=cdn,
            cacheAge=draw.randrange(30),
            cacheStatus=draw.choice(_CACHE),
            clientCountry=country,
            clientIP=ip,
            clientPort=draw.randrange(1024, 65536),
            clientASN=draw.randrange(100, 60_000),
            clientRequestBytes=draw.randrange(40, 900),
            clientRequestHost=f"{cdn}.rsc.cdn77.org",
            clientRequestPath=f"/{stream}/{leaf if segment else draw.choice(_LEAVES)}",
            clientRequestUserAgent=agent,
            clientRequestXForwardedFor=ip,
            locationID=pop,
            serverIP=f"143.244.{draw.randrange(64)}.{draw.randrange(256)}",
            responseStatus=draw.choice(_STATUS),
            responseBytes=draw.randrange(200_000, 3_000_000) if segment else draw.randrange(300, 9_000),
            responseContentType="video/mp2t" if segment else "application/vnd.apple.mpegurl",
        )


def traffic_file(lines: int = 16_000, **options: Any) -> bytes:
    """A log file of `traffic`."""
    return log_file(traffic(lines, **options))
