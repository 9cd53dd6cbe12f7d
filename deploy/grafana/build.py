"""Writes the Grafana dashboards from the tables below; `--check` reports whether the files are what the tables give.

A dashboard is rows of panels, and a panel is a title, a kind, a unit and its queries. Everything else is the same for
all and is written once. Traffic is queried with `offset 90s`: the newest minute and a half is still on its way from the
CDN and would look like a dip. The exporter's own metrics are scraped and need no offset.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "dashboards"
_COLUMNS = 24
_METRICS = {"type": "prometheus", "uid": "${datasource}"}
_LOGS = {"type": "loki", "uid": "${loki}"}

# What the variables at the top of a dashboard select.
_WHERE = 'stream_name=~"$stream", cdn_id=~"$cdn", pop=~"$pop"'
_STREAM = 'stream_name=~"$stream"'
_OWN = 'job=~"$job", instance=~"$instance"'
_LATER = "offset 90s"
_HIT = 'cache_status="HIT"'
_4XX, _5XX, _ERROR = 'response_status=~"4.."', 'response_status=~"5.."', 'response_status=~"[45].."'


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `queries`: what is asked, and how the answer is called (in a table: the column).

    `kind`: timeseries, stat, bargauge, table or logs. `steps`: from which value on it is shown yellow and red.
    """

    title: str
    kind: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    help: str
    width: int = 8
    height: int = 8
    steps: tuple[float, float] | None = None
    stacked: bool = False
    units: tuple[str, ...] = ()  # of a table's columns
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of the dashboard: the values of a label."""

    name: str
    title: str
    query: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One file."""

    uid: str
    title: str
    help: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    logs: bool = False
    since: str = "now-3h"


def rate(metric: str, by: str = "", where: str = _WHERE) -> str:
    """Return the query of a sum per second, over a span that fits the resolution of the panel."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}[$__rate_interval] {_LATER}))"


def share(metric: str, part: str, by: str = "") -> str:
    """Return the query of the share of requests with `part`: 0, not nothing, when none has it."""
    whole = rate(metric, by)
    return f"({rate(metric, by, f'{_WHERE}, {part}')} or {whole} * 0) / ({whole} > 0)"


def own(metric: str, by: str = "", where: str = "") -> str:
    """Return the query of a self-metric's counter per second."""
    matchers = f"{_OWN}, {where}" if where else _OWN
    return f"sum{f' by ({by})' if by else ''} (rate(cdn77_exporter_{metric}{{{matchers}}}[$__rate_interval]))"


def lately(metric: str, by: str = "", where: str = "") -> str:
    """Return the query of a self-metric's increase within the resolution of the panel."""
    return own(metric, by, where).replace("(rate(", "(increase(")


def now(metric: str, how: str = "max") -> str:
    """Return the query of a self-metric's gauge; of two processes one works, and only it has most of them."""
    return f"{how} (cdn77_exporter_{metric}{{{_OWN}}})"


def quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    """Return the queries of a self-metric's median and 95th percentile."""
    buckets = own(f"{metric}_bucket", "le")
    return tuple((f"histogram_quantile({q}, {buckets})", name) for q, name in ((0.5, "half"), (0.95, "95 %")))


_RESPONSES, _REQUESTS, _BYTES = "cdn77_responses_total", "cdn77_requests_total", "cdn77_transfer_bytes_total"
_TTFB = "cdn77_time_to_first_byte_seconds"
_NOW = f"cdn77_concurrent_viewers{{{_STREAM}}} {_LATER}"
_VIEWERS = f"sum ({_NOW})"


def viewers_by(label: str, most: int = 12) -> str:
    """Return the query of active viewers by one of their labels; of several windows the longest holds the most."""
    metric = f"cdn77_active_viewers_by_{label}{{{_STREAM}}} {_LATER}"
    labels = {"region": "country, region", "device": "device_type"}.get(label, label)
    return f"topk({most}, sum by ({labels}) (max without (window) ({metric})))"


def mean_ttfb(by: str = "") -> str:
    """Return the query of the mean time to first byte of all requests that tell one, in seconds."""
    times, requests = (
        f"sum{f' by ({by})' if by else ''} (rate({_TTFB}_{part}{{{_WHERE}}}[$__rate_interval] {_LATER}))"
        for part in ("sum", "count")
    )
    return f"{times} / {requests}"


def times(metric: str) -> tuple[tuple[str, str], ...]:
    """Return the queries of percentiles of a request's times, of native histograms or, where there are none, others."""
    native = f"sum (rate({metric}{{{_WHERE}}}[$__rate_interval] {_LATER}))"
    classic = rate(f"{metric}_bucket", "le")
    return tuple(
        (f"histogram_quantile({q}, {native}) or histogram_quantile({q}, {classic})", name)
        for q, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
    )


TRAFFIC = Dashboard(
    "cdn77-traffic",
    "CDN77 traffic",
    "What viewers get from the CDN. Every graph lies 90 s behind, since the newest log files are still on their way.",
    (
        Variable("stream", "Stream", f"label_values({_REQUESTS}, stream_name)"),
        Variable("cdn", "CDN", f'label_values({_REQUESTS}{{stream_name=~"$stream"}}, cdn_id)'),
        Variable("pop", "POP", f'label_values({_REQUESTS}{{stream_name=~"$stream", cdn_id=~"$cdn"}}, pop)'),
    ),
    (
        Row(
            "Now",
            (
                Panel(
                    "Viewers",
                    "stat",
                    "short",
                    ((_VIEWERS, ""),),
                    "Distinct client IPs within the session window.",
                    4,
                    4,
                ),
                Panel(
                    "Most viewers in this span",
                    "stat",
                    "short",
                    ((f"max_over_time(({_VIEWERS})[$__range:1m])", ""),),
                    "The peak of the graph below.",
                    4,
                    4,
                ),
                Panel("Bandwidth", "stat", "bps", ((f"{rate(_BYTES)} * 8", ""),), "To clients.", 4, 4),
                Panel("Requests", "stat", "reqps", ((rate(_REQUESTS), ""),), "Per second.", 4, 4),
                Panel(
                    "Cache hits",
                    "stat",
                    "percentunit",
                    ((share(_REQUESTS, _HIT), ""),),
                    "Share of the requests that the CDN answered without asking the origin.",
                    4,
                    4,
                ),
                Panel(
                    "Errors",
                    "stat",
                    "percentunit",
                    ((share(_RESPONSES, _ERROR), ""),),
                    "Share of the answers that are 4xx or 5xx.",
                    4,
                    4,
                    (0.02, 0.05),
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                Panel(
                    "Bandwidth by stream",
                    "timeseries",
                    "bps",
                    ((f"topk(20, {rate(_BYTES, 'stream_name')} * 8)", "{{stream_name}}"),),
                    "The twenty largest.",
                    12,
                    stacked=True,
                ),
                Panel(
                    "Requests by stream",
                    "timeseries",
                    "reqps",
                    ((f"topk(20, {rate(_REQUESTS, 'stream_name')})", "{{stream_name}}"),),
                    "The twenty largest.",
                    12,
                    stacked=True,
                ),
                Panel(
                    "Bandwidth by POP",
                    "timeseries",
                    "bps",
                    ((f"topk(15, {rate(_BYTES, 'pop')} * 8)", "{{pop}}"),),
                    "The fifteen largest.",
                ),
                Panel(
                    "Cache hit ratio by CDN",
                    "timeseries",
                    "percentunit",
                    ((share(_REQUESTS, _HIT, "cdn_id"), "{{cdn_id}}"),),
                    "Share of the requests with cache status HIT.",
                    most=1,
                ),
                Panel(
                    "Requests by cache status",
                    "timeseries",
                    "reqps",
                    ((rate(_REQUESTS, "cache_status"), "{{cache_status}}"),),
                    "As the CDN names them; UNKNOWN when it names none.",
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Errors and speed",
            (
                Panel(
                    "Answers by status",
                    "timeseries",
                    "reqps",
                    ((f"topk(15, {rate(_RESPONSES, 'response_status')})", "{{response_status}}"),),
                    "HTTP status; 0 when the log names none.",
                    stacked=True,
                ),
                Panel(
                    "Errors by stream",
                    "timeseries",
                    "percentunit",
                    (
                        (
                            f"topk(10, {share(_RESPONSES, _4XX, 'stream_name')})",
                            "4xx {{stream_name}}",
                        ),
                        (
                            f"topk(10, {share(_RESPONSES, _5XX, 'stream_name')})",
                            "5xx {{stream_name}}",
                        ),
                    ),
                    "Share of a stream's answers.",
                ),
                Panel(
                    "Time to first byte by POP",
                    "timeseries",
                    "s",
                    ((f"topk(15, {mean_ttfb('pop')})", "{{pop}}"),),
                    "Mean of the requests of the streams and cache states.",
                ),
                Panel(
                    "Time to first byte by cache status",
                    "timeseries",
                    "s",
                    ((mean_ttfb("cache_status"), "{{cache_status}}"),),
                    "A miss waits for the origin.",
                ),
            ),
        ),
        Row(
            "How fast it is (HISTOGRAMS)",
            (
                Panel(
                    "Time to first byte", "timeseries", "s", times(_TTFB), "So long or less waits that share of them."
                ),
                Panel(
                    "Duration of requests",
                    "timeseries",
                    "s",
                    times("cdn77_request_duration_seconds"),
                    "Until the last byte was sent, or the client left.",
                ),
                Panel(
                    "Round-trip time",
                    "timeseries",
                    "s",
                    times("cdn77_tcp_rtt_seconds"),
                    "Of the connections, as the CDN's servers measure it.",
                ),
            ),
        ),
        Row(
            "Viewers",
            (
                Panel(
                    "Viewers by stream",
                    "timeseries",
                    "short",
                    (
                        (
                            f"topk(20, sum by (stream_name) ({_NOW}))",
                            "{{stream_name}}",
                        ),
                    ),
                    "Players that are watching: an address and a device type with a request in the last 30 s.",
                    12,
                    stacked=True,
                ),
                Panel(
                    "New viewers in an hour",
                    "timeseries",
                    "short",
                    (
                        (
                            f"sum by (stream_name) (increase(cdn77_viewers_total{{{_STREAM}}}[1h] {_LATER}))",
                            "{{stream_name}}",
                        ),
                    ),
                    "Viewers that were not seen in the session window before.",
                    12,
                ),
                Panel(
                    "By device",
                    "bargauge",
                    "short",
                    ((f"topk(12, sum by (device_type) ({_NOW}))", "{{device_type}}"),),
                    "Players that are watching.",
                ),
                Panel(
                    "Addresses by device",
                    "bargauge",
                    "short",
                    ((viewers_by("device"), "{{device_type}}"),),
                    "Distinct addresses in the session window.",
                ),
                Panel(
                    "Hours watched in an hour",
                    "timeseries",
                    "short",
                    (
                        (
                            "sum by (stream_name) "
                            f"(increase(cdn77_watch_seconds_total{{{_STREAM}}}[1h] {_LATER})) / 3600",
                            "{{stream_name}}",
                        ),
                    ),
                    "How long players were watching, all together.",
                ),
                Panel(
                    "Sessions that began in an hour",
                    "timeseries",
                    "short",
                    (
                        (
                            f"sum by (stream_name) (increase(cdn77_sessions_total{{{_STREAM}}}[1h] {_LATER}))",
                            "{{stream_name}}",
                        ),
                    ),
                    "Runs of requests of a player, no two further apart than 120 s.",
                ),
                Panel(
                    "Watch time of sessions",
                    "timeseries",
                    "s",
                    (
                        (
                            "sum by (stream_name) "
                            f"(increase(cdn77_session_watch_seconds_sum{{{_STREAM}}}[1h] {_LATER})) / "
                            "sum by (stream_name) "
                            f"(increase(cdn77_session_watch_seconds_count{{{_STREAM}}}[1h] {_LATER}))",
                            "{{stream_name}}, mean",
                        ),
                        (
                            "histogram_quantile(0.5, sum "
                            f"(increase(cdn77_session_watch_seconds{{{_STREAM}}}[1h] {_LATER}))) "
                            "or histogram_quantile(0.5, sum by (le) "
                            f"(increase(cdn77_session_watch_seconds_bucket{{{_STREAM}}}[1h] {_LATER})))",
                            "half",
                        ),
                    ),
                    "Of the sessions that ended within an hour.",
                ),
                Panel(
                    "Bandwidth by track",
                    "timeseries",
                    "bps",
                    ((f"{rate('cdn77_transfer_bytes_by_track_total', 'track', _STREAM)} * 8", "{{track}}"),),
                    "Of the requests whose path has a track.",
                    stacked=True,
                ),
                Panel(
                    "Requests by track",
                    "timeseries",
                    "reqps",
                    ((rate("cdn77_requests_by_track_total", "track", _STREAM), "{{track}}"),),
                    "Of the requests whose path has a track.",
                ),
                Panel(
                    "Viewers by track",
                    "timeseries",
                    "short",
                    ((viewers_by("track"), "{{track}}"),),
                    "Distinct addresses in the session window; one that has played two tracks is in both.",
                ),
                Panel(
                    "Viewers by IP version",
                    "timeseries",
                    "short",
                    ((viewers_by("ip_version"), "IPv{{ip_version}}"),),
                    "Distinct addresses in the session window.",
                ),
                Panel(
                    "Distinct viewers of a day",
                    "timeseries",
                    "short",
                    (
                        ("sum(stream:cdn77_distinct_viewers:lower1d)", "at least"),
                        ("sum(stream:cdn77_distinct_viewers:upper1d)", "at most"),
                    ),
                    "Needs RETURN_HORIZON and distinct-viewers.rules.yml; a viewer of two streams is two.",
                ),
                Panel(
                    "Incomplete requests",
                    "timeseries",
                    "reqps",
                    ((rate("cdn77_incomplete_requests_total", "reason"), "{{reason}}"),),
                    "Broken off by the client (aborted), or ended by a connection that timed out.",
                ),
                Panel(
                    "By country",
                    "bargauge",
                    "short",
                    ((viewers_by("country"), "{{country}}"),),
                    "Distinct addresses in the session window; XX: not known.",
                ),
                Panel(
                    "By region",
                    "bargauge",
                    "short",
                    ((viewers_by("region"), "{{country}} {{region}}"),),
                    "Needs a GeoIP database.",
                ),
            ),
        ),
        Row(
            "Tables",
            (
                Panel(
                    "Streams",
                    "table",
                    "short",
                    (
                        (f"{rate(_BYTES, 'stream_name')} * 8", "bandwidth"),
                        (rate(_REQUESTS, "stream_name"), "requests"),
                        (share(_REQUESTS, _HIT, "stream_name"), "hits"),
                        (share(_RESPONSES, _ERROR, "stream_name"), "errors"),
                        (f"sum by (stream_name) ({_NOW})", "viewers"),
                        (f"max_over_time((sum by (stream_name) ({_NOW}))[$__range:1m])", "peak"),
                    ),
                    "What each stream has now, and its most viewers in this span.",
                    12,
                    12,
                    units=("bps", "reqps", "percentunit", "percentunit", "short", "short"),
                ),
                Panel(
                    "POPs",
                    "table",
                    "short",
                    (
                        (f"{rate(_BYTES, 'pop')} * 8", "bandwidth"),
                        (rate(_REQUESTS, "pop"), "requests"),
                        (share(_REQUESTS, _HIT, "pop"), "hits"),
                        (share(_RESPONSES, _ERROR, "pop"), "errors"),
                        (mean_ttfb("pop"), "first byte"),
                    ),
                    "What each point of presence has now.",
                    12,
                    12,
                    units=("bps", "reqps", "percentunit", "percentunit", "s"),
                ),
            ),
        ),
    ),
)

EXPORTER = Dashboard(
    "cdn77-exporter",
    "CDN77 exporter",
    "Whether the numbers are complete and up to date, and what is wrong if not.",
    (
        Variable("job", "Job", "label_values(cdn77_exporter_build_info, job)"),
        Variable("instance", "Instance", 'label_values(cdn77_exporter_build_info{job=~"$job"}, instance)'),
    ),
    (
        Row(
            "Now",
            (
                Panel(
                    "Behind",
                    "stat",
                    "s",
                    ((now("watermark_lag_seconds", "min"), ""),),
                    "The clock less the time up to which the numbers are complete. One to two minutes are usual.",
                    4,
                    4,
                    (240, 600),
                ),
                Panel(
                    "Problems",
                    "stat",
                    "short",
                    ((now("problems", "sum"), ""),),
                    "See /readyz.",
                    4,
                    4,
                    (1, 1),
                ),
                Panel(
                    "Since the last poll",
                    "stat",
                    "s",
                    ((f"time() - {now('last_poll_success_timestamp_seconds')}", ""),),
                    "When the bucket was last listed.",
                    4,
                    4,
                    (180, 300),
                ),
                Panel(
                    "Since the last push",
                    "stat",
                    "s",
                    ((f"time() - {now('last_push_success_timestamp_seconds')}", ""),),
                    "When the receiver last accepted something.",
                    4,
                    4,
                    (180, 300),
                ),
                Panel(
                    "Files set aside",
                    "stat",
                    "short",
                    ((now("files_set_aside"), ""),),
                    "They cannot be read, and are neither counted nor deleted.",
                    4,
                    4,
                    (1, 10),
                ),
                Panel(
                    "Processes",
                    "stat",
                    "short",
                    ((f"count (cdn77_exporter_build_info{{{_OWN}}}) by (version)", "{{version}}"),),
                    "By version. A second one stands by.",
                    4,
                    4,
                ),
            ),
        ),
        Row(
            "Time",
            (
                Panel(
                    "Behind",
                    "timeseries",
                    "s",
                    ((now("watermark_lag_seconds", "min"), "behind"),),
                    "The clock less the watermark.",
                ),
                Panel(
                    "Age of the newest tick when it was accepted",
                    "timeseries",
                    "s",
                    quantiles("push_lag_seconds"),
                    "From a tick to its acceptance by the receiver.",
                ),
                Panel(
                    "Late events",
                    "timeseries",
                    "percentunit",
                    ((f"{own('late_events_total')} / ({own('events_total')} > 0)", "late"),),
                    "Share of the events whose own tick was already written; they count in the next one.",
                ),
            ),
        ),
        Row(
            "Files",
            (
                Panel(
                    "Files",
                    "timeseries",
                    "short",
                    ((lately("files_total", "outcome"), "{{outcome}}"),),
                    "What became of them.",
                ),
                Panel("Events", "timeseries", "cps", ((own("events_total"), "events"),), "Lines that count, a second."),
                Panel(
                    "Rejects",
                    "timeseries",
                    "cps",
                    ((own("rejects_total", "reason"), "{{reason}}"),),
                    "Lines that do not, by reason. no_stream is usual.",
                ),
                Panel(
                    "Missing files",
                    "timeseries",
                    "short",
                    ((lately("skipped_files_total"), "missing"),),
                    "Sequence numbers that a shard skips.",
                ),
                Panel(
                    "Waiting",
                    "timeseries",
                    "short",
                    (
                        (now("pending_files"), "to be downloaded"),
                        (now("files_in_memory"), "in memory"),
                        (f"max by (stage) (cdn77_exporter_queue_depth{{{_OWN}}})", "{{stage}}"),
                    ),
                    "Files in each stage; those in memory are bounded by DOWNLOAD_CONCURRENCY.",
                ),
                Panel(
                    "Seconds for a file",
                    "timeseries",
                    "s",
                    tuple(
                        (query, f"{what} {name}")
                        for what in ("fetch", "decode", "poll")
                        for query, name in quantiles(f"{what}_seconds")
                    ),
                    "Download, decoding, and listing the bucket.",
                ),
                Panel(
                    "Deletions",
                    "timeseries",
                    "short",
                    (
                        (lately("deleted_files_total"), "deleted"),
                        (lately("delete_failures_total"), "failed"),
                        (lately("quarantined_files_total"), "quarantined"),
                    ),
                    "A file goes when everything in it was acknowledged.",
                ),
            ),
        ),
        Row(
            "Receiver",
            (
                Panel(
                    "Batches",
                    "timeseries",
                    "short",
                    ((lately("pushes_total", "outcome"), "{{outcome}}"),),
                    "incomplete: a request of the batch was refused or dropped.",
                ),
                Panel(
                    "What went wrong",
                    "timeseries",
                    "short",
                    (
                        (lately("push_retries_total"), "sent again"),
                        (lately("requests_refused_total"), "refused"),
                        (lately("requests_dropped_total"), "dropped"),
                        (lately("requests_unknown_total"), "unknown"),
                        (lately("receiver_misconfigured_total"), "misconfigured"),
                    ),
                    "Requests.",
                ),
                Panel("Seconds for a batch", "timeseries", "s", quantiles("push_seconds"), "Retries included."),
                Panel("Samples", "timeseries", "cps", ((own("samples_pushed_total"), "samples"),), "Pushed, a second."),
                Panel(
                    "Outbox",
                    "timeseries",
                    "short",
                    ((now("outbox_requests"), "requests"),),
                    "Committed and not yet acknowledged.",
                ),
                Panel(
                    "Bytes",
                    "timeseries",
                    "Bps",
                    ((own("pushed_bytes_total"), "pushed"), (own("file_bytes_total"), "fetched")),
                    "Requests to the receiver, and compressed log files.",
                ),
            ),
        ),
        Row(
            "Process",
            (
                Panel(
                    "Memory",
                    "timeseries",
                    "bytes",
                    ((f"process_resident_memory_bytes{{{_OWN}}}", "{{instance}}"),),
                    "Resident.",
                ),
                Panel(
                    "Processor",
                    "timeseries",
                    "percentunit",
                    ((f"rate(process_cpu_seconds_total{{{_OWN}}}[$__rate_interval])", "{{instance}}"),),
                    "Of one core.",
                ),
                Panel(
                    "Event loop",
                    "timeseries",
                    "s",
                    (
                        (now("event_loop_lag_p99_seconds"), "99 %"),
                        (now("event_loop_lag_max_seconds"), "most"),
                    ),
                    "How late it comes to what is due.",
                ),
                Panel(
                    "Kept",
                    "timeseries",
                    "short",
                    (
                        (now("series"), "series"),
                        (now("streams"), "streams"),
                        (now("viewers"), "viewers"),
                        (now("ledger_files"), "files in the ledger"),
                    ),
                    "What memory and state hold.",
                ),
                Panel(
                    "State",
                    "timeseries",
                    "s",
                    ((now("commit_seconds"), "last commit"),),
                    "How long a commit takes.",
                ),
                Panel(
                    "Log lines",
                    "timeseries",
                    "short",
                    ((lately("log_messages_total", "level"), "{{level}}"),),
                    "By level, written or not.",
                ),
            ),
        ),
    ),
)

_LINES = '{service="cdn77-exporter"}'
LOGS = Dashboard(
    "cdn77-exporter-logs",
    "CDN77 exporter: log lines",
    "The exporter's own log, by Loki.",
    (),
    (
        Row(
            "Log",
            (
                Panel(
                    "Warnings and errors",
                    "logs",
                    "short",
                    ((f'{_LINES} | level=~"warning|error"', ""),),
                    "What each means and what to do: docs/operations.md.",
                    24,
                    10,
                ),
                Panel(
                    "Lines by message",
                    "timeseries",
                    "short",
                    ((f"sum by (message) (count_over_time({_LINES} | json [$__auto]))", "{{message}}"),),
                    "From the closed list.",
                    12,
                ),
                Panel(
                    "Slowest files",
                    "logs",
                    "short",
                    ((f'{_LINES} | message="file_counted" | json | fetch_seconds > 2 or decode_seconds > 1', ""),),
                    "Files that took long to download or to decode.",
                    12,
                ),
                Panel("All", "logs", "short", ((_LINES, ""),), "The newest first.", 24, 12),
            ),
        ),
    ),
    logs=True,
)

DASHBOARDS = {"traffic.json": TRAFFIC, "exporter.json": EXPORTER, "logs.json": LOGS}


# Tables -> what Grafana reads


def made(dashboard: Dashboard) -> dict[str, Any]:
    """Return the dashboard as Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in dashboard.rows:
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        top += 1
        left = height = 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                top, left, height = top + height, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            panels.append(
                {"id": len(panels) + 1, "gridPos": place, **_panel(panel, _LOGS if dashboard.logs else _METRICS)}
            )
            left, height = left + panel.width, max(height, panel.height)
        top += height
    source = (
        Variable("loki", "Data source", "loki")
        if dashboard.logs
        else Variable("datasource", "Data source", "prometheus")
    )
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.help,
        "tags": ["cdn77"],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 41,
        "time": {"from": dashboard.since, "to": "now"},
        "timezone": "browser",
        "links": [_link()],
        "templating": {"list": [_source(source), *map(_variable, dashboard.variables)]},
        "annotations": {"list": []},
        "panels": panels,
    }


def _link() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "tags": ["cdn77"],
        "title": "CDN77",
        "asDropdown": False,
        "keepTime": True,
        "icon": "",
    }


def _source(variable: Variable) -> dict[str, Any]:
    return {"name": variable.name, "label": variable.title, "type": "datasource", "query": variable.query, "refresh": 1}


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.title,
        "type": "query",
        "datasource": _METRICS,
        "query": {"query": variable.query, "refId": "variable"},
        "definition": variable.query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panel(panel: Panel, source: dict[str, str]) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": source,
        "targets": [_target(panel, source, *query, place) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _columns(panel)},
        "options": _options(panel),
        "transformations": _transformations(panel),
    }


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _target(panel: Panel, source: dict[str, str], query: str, legend: str, place: int) -> dict[str, Any]:
    target: dict[str, Any] = {"refId": _letter(place), "datasource": source, "expr": query}
    if source is _LOGS:
        return target | {"queryType": "range", "legendFormat": legend}
    instant = panel.kind != "timeseries"
    return target | {
        "instant": instant,
        "range": not instant,
        "format": "table" if panel.kind == "table" else "time_series",
        "legendFormat": legend if panel.kind != "table" and legend else "__auto",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.steps:
        steps += [{"color": "yellow", "value": panel.steps[0]}, {"color": "red", "value": panel.steps[1]}]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 5,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": 60_000,
            "stacking": stacking,
        }
    if panel.kind == "stat" and not panel.steps:
        defaults["color"] = {"mode": "fixed", "fixedColor": "text"}
    return defaults | ({"max": panel.most} if panel.most is not None else {})


def _columns(panel: Panel) -> list[dict[str, Any]]:
    if panel.kind != "table":
        return []
    return [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for (_, name), unit in zip(panel.queries, panel.units, strict=True)
    ]


def _options(panel: Panel) -> dict[str, Any]:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "stat":
        return {"reduceOptions": last, "colorMode": "value", "graphMode": "none", "textMode": "auto"}
    if panel.kind == "bargauge":
        return {"reduceOptions": last, "displayMode": "basic", "orientation": "horizontal", "valueMode": "text"}
    if panel.kind == "table":
        return {"showHeader": True, "sortBy": [{"displayName": panel.queries[0][1], "desc": True}]}
    if panel.kind == "logs":
        return {"showTime": True, "wrapLogMessage": True, "sortOrder": "Descending", "enableLogDetails": True}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def _transformations(panel: Panel) -> list[dict[str, Any]]:
    if panel.kind != "table":
        return []
    names = {f"Value #{_letter(place)}": name for place, (_, name) in enumerate(panel.queries)}
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}},
    ]


def written(dashboard: Dashboard) -> str:
    """Return the text of the file."""
    return json.dumps(made(dashboard), indent=1, ensure_ascii=False) + "\n"


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the files that differ from what the tables give."""
    return [
        name
        for name, dashboard in DASHBOARDS.items()
        if not (folder / name).is_file() or (folder / name).read_text("utf-8") != written(dashboard)
    ]


def main(words: list[str] | None = None) -> int:
    """Write the files, or with `--check` name the stale ones; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is stale")
    if parser.parse_args(words).check:
        names = stale()
        for name in names:
            print(f"deploy/grafana/dashboards/{name} is stale; run deploy/grafana/build.py", file=sys.stderr)
        return 1 if names else 0
    FOLDER.mkdir(exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / name).write_text(written(dashboard), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
