"""The metrics that are written to the receiver: name, kind, labels and meaning; the only place that knows them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a metric's value behaves; the words are those of the Prometheus exposition format."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: `labels` in the order in which a series key holds their values."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    queries: tuple[tuple[str, str], ...] = ()  # what it answers, PromQL


_WHERE = ("stream_name", "cdn_id", "cache_status", "pop")

TRANSFER_BYTES = Metric(
    "cdn77_transfer_bytes_total",
    Kind.COUNTER,
    _WHERE,
    "Bytes sent to clients.",
    (
        ("bandwidth in bits per second", "sum by (stream_name) (rate(cdn77_transfer_bytes_total[5m] offset 90s)) * 8"),
        ("bytes in five minutes", "sum(increase(cdn77_transfer_bytes_total[5m] offset 90s))"),
        ("bandwidth by POP", "sum by (pop) (rate(cdn77_transfer_bytes_total[5m] offset 90s)) * 8"),
    ),
)
REQUESTS = Metric(
    "cdn77_requests_total",
    Kind.COUNTER,
    _WHERE,
    "Requests answered.",
    (
        ("requests per second", "sum by (stream_name) (rate(cdn77_requests_total[5m] offset 90s))"),
        ("requests in an hour", "sum by (stream_name) (increase(cdn77_requests_total[1h] offset 90s))"),
        ("requests by cache status", "sum by (cache_status) (rate(cdn77_requests_total[5m] offset 90s))"),
        (
            "cache hit ratio",
            'sum(rate(cdn77_requests_total{cache_status="HIT"}[5m] offset 90s))'
            " / sum(rate(cdn77_requests_total[5m] offset 90s))",
        ),
    ),
)
RESPONSES = Metric(
    "cdn77_responses_total",
    Kind.COUNTER,
    (*_WHERE, "response_status"),
    "Requests answered, by HTTP status.",
    (
        ("4xx per second", 'sum(rate(cdn77_responses_total{response_status=~"4.."}[5m] offset 90s))'),
        (
            "success ratio",
            'sum(rate(cdn77_responses_total{response_status=~"2..|3.."}[5m] offset 90s))'
            " / sum(rate(cdn77_responses_total[5m] offset 90s))",
        ),
    ),
)
VIEWERS = Metric(
    "cdn77_viewers_total",
    Kind.COUNTER,
    ("stream_name",),
    "Viewers (client IPs) that appeared on the stream and were not in its session window.",
    (("new viewers per hour", "sum by (stream_name) (increase(cdn77_viewers_total[1h] offset 90s))"),),
)
VIEWERS_BY_DEVICE = Metric(
    "cdn77_viewers_by_device_total",
    Kind.COUNTER,
    ("stream_name", "device_type"),
    "Viewers that appeared, by device type.",
    (("viewers by device", "sum by (device_type) (increase(cdn77_viewers_by_device_total[1h] offset 90s))"),),
)
VIEWERS_BY_COUNTRY = Metric(
    "cdn77_viewers_by_country_total",
    Kind.COUNTER,
    ("stream_name", "country"),
    "Viewers that appeared, by the country that the log names.",
    (("top countries", "topk(10, sum by (country) (increase(cdn77_viewers_by_country_total[1h] offset 90s)))"),),
)
VIEWERS_BY_REGION = Metric(
    "cdn77_viewers_by_region_total",
    Kind.COUNTER,
    ("stream_name", "country", "region"),
    "Viewers that appeared, by country and region of the GeoIP database; absent without one.",
    (
        (
            "viewers by state",
            'sum by (region) (increase(cdn77_viewers_by_region_total{country="US"}[1h] offset 90s))',
        ),
    ),
)
ACTIVE_VIEWERS = Metric(
    "cdn77_active_viewers",
    Kind.GAUGE,
    ("stream_name", "window"),
    "Distinct viewers with a request in the session window.",
    (
        ("viewers now", "sum by (stream_name) (cdn77_active_viewers offset 90s)"),
        ("peak viewers in three hours", "max_over_time(cdn77_active_viewers[3h] offset 90s)"),
        ("average viewers in an hour", "avg_over_time(cdn77_active_viewers[1h] offset 90s)"),
    ),
)
ACTIVE_BY_DEVICE = Metric(
    "cdn77_active_viewers_by_device",
    Kind.GAUGE,
    ("stream_name", "device_type", "window"),
    "Distinct viewers in the session window, by device type.",
    (("viewers now by device", "sum by (device_type) (cdn77_active_viewers_by_device offset 90s)"),),
)
ACTIVE_BY_COUNTRY = Metric(
    "cdn77_active_viewers_by_country",
    Kind.GAUGE,
    ("stream_name", "country", "window"),
    "Distinct viewers in the session window, by country of the GeoIP database (XX without one).",
    (("viewers now by country", "topk(10, sum by (country) (cdn77_active_viewers_by_country offset 90s))"),),
)
ACTIVE_BY_REGION = Metric(
    "cdn77_active_viewers_by_region",
    Kind.GAUGE,
    ("stream_name", "country", "region", "window"),
    "Distinct viewers in the session window, by country and region of the GeoIP database (XX, Unknown without one).",
    (
        (
            "viewers now by state",
            'sum by (region) (cdn77_active_viewers_by_region{country="US"} offset 90s)',
        ),
    ),
)
TIME_TO_FIRST_BYTE = Metric(
    "cdn77_time_to_first_byte_ms",
    Kind.GAUGE,
    _WHERE,
    "Mean time to first byte of the tick's requests, in milliseconds; no sample for a tick without any.",
    (("time to first byte by POP", "avg by (pop) (avg_over_time(cdn77_time_to_first_byte_ms[5m] offset 90s))"),),
)

#: Every metric; a series key holds a metric's place in this tuple, so new ones go to the end.
CATALOGUE: tuple[Metric, ...] = (
    TRANSFER_BYTES,
    REQUESTS,
    RESPONSES,
    VIEWERS,
    VIEWERS_BY_DEVICE,
    VIEWERS_BY_COUNTRY,
    VIEWERS_BY_REGION,
    ACTIVE_VIEWERS,
    ACTIVE_BY_DEVICE,
    ACTIVE_BY_COUNTRY,
    ACTIVE_BY_REGION,
    TIME_TO_FIRST_BYTE,
)
CODE: dict[Metric, int] = {metric: code for code, metric in enumerate(CATALOGUE)}


def window_label(seconds: int) -> str:
    """The session window as a label value, in the largest unit that divides it: `2h`, `90m`, `45s`."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
