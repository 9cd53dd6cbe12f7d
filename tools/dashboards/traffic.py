"""The dashboard of the traffic: what viewers get from the CDN, what it costs, and how it was a week before."""

from __future__ import annotations

from tools.dashboards.model import Dashboard, Panel, Row, Variable
from tools.dashboards.queries import (
    BYTES,
    HIT,
    IS_4XX,
    IS_5XX,
    LATER,
    PLAYERS,
    REQUESTS,
    RESPONSES,
    STREAM,
    TRACK_BYTES,
    TRACK_REQUESTS,
    TTFB,
    VIEWERS,
    WATCHED,
    WHERE,
    against_last_week,
    grown,
    largest,
    largest_streams,
    mean_ttfb,
    part_of_span,
    percentile_95,
    rate,
    share,
    times,
    viewers_by,
    week,
)

_BANDWIDTH = f"{rate(BYTES)} * 8"
_BY_STREAM = f"sum by (stream_name) ({PLAYERS})"
_HIT_HELP = "From the cache: HIT, REVALIDATED, STALE and UPDATING. EXPIRED was fetched from the origin."
_ABOVE = "By which part it is above, or with a minus below, what it was at this time a week before."
STREAM_VIEW = (("stream_name", "cdn77-stream"),)
VARIABLES = (
    Variable("stream", "Stream", f"label_values({REQUESTS}, stream_name)"),
    Variable("cdn", "CDN", f'label_values({REQUESTS}{{stream_name=~"$stream"}}, cdn_id)'),
    Variable("pop", "POP", f'label_values({REQUESTS}{{stream_name=~"$stream", cdn_id=~"$cdn"}}, pop)'),
)


def _stat(
    title: str, unit: str, query: str, help: str, width: int = 4, steps: tuple[float, float] | None = None
) -> Panel:
    return Panel(title, "stat", unit, ((query, ""),), help, width, 4, steps)


def _hours_watched() -> str:
    return f"{grown(WATCHED, where=STREAM)} / 3600"


NOW = Row(
    "Now",
    (
        _stat("Viewers", "short", VIEWERS, "Players that are watching: an address and a device type.", 3),
        _stat("Bandwidth", "bps", _BANDWIDTH, "To clients.", 3),
        _stat("Requests", "reqps", rate(REQUESTS), "Per second.", 3),
        _stat("Cache hits", "percentunit", share(REQUESTS, HIT), f"Share of the requests. {_HIT_HELP}", 3),
        _stat("Cache hits by bytes", "percentunit", share(BYTES, HIT), f"Share of the bytes. {_HIT_HELP}", 3),
        _stat("4xx", "percentunit", share(RESPONSES, IS_4XX), "Share of the answers.", 3, (0.05, 0.2)),
        _stat("5xx", "percentunit", share(RESPONSES, IS_5XX), "Share of the answers.", 3, (0.005, 0.05)),
        Panel(
            "Age of the numbers",
            "stat",
            "s",
            ((f"time() - max(timestamp({REQUESTS}{{{WHERE}}}))", ""),),
            "How long ago the newest sample of what is chosen was: one to two minutes are usual. Each exporter's own "
            "delay is in the exporter's dashboard.",
            3,
            4,
            (240, 600),
            empty="> 5 min",
        ),
    ),
)
SPAN = Row(
    "This span",
    (
        _stat("Transferred", "decbytes", grown(BYTES), "To clients, in the span that is shown."),
        _stat(
            "95th percentile of bandwidth",
            "bps",
            percentile_95(),
            "Of the means of five minutes each: the highest 5 % of them are left out, as in many contracts.",
        ),
        _stat("Requests in this span", "short", grown(REQUESTS), "All of them."),
        _stat(
            "Cache hits by bytes in this span",
            "percentunit",
            part_of_span(BYTES, HIT),
            f"Share of the bytes. {_HIT_HELP}",
        ),
        _stat("Most viewers", "short", f"max_over_time(({VIEWERS})[$__range:1m])", "The most that watched at once."),
        _stat("Hours watched", "short", _hours_watched(), "How long players were watching, all together."),
    ),
)
MONTH = Row(
    "This month (opening it asks for a month of data)",
    tuple(
        Panel(panel[0], panel[1], panel[2], ((panel[3], panel[4]),), panel[5], panel[6], panel[7], since="now/M")
        for panel in (
            ("Transferred this month", "stat", "decbytes", grown(BYTES), "", "To clients, since the first.", 6, 4),
            (
                "95th percentile of bandwidth this month",
                "stat",
                "bps",
                percentile_95(),
                "",
                "Of the means of five minutes each, since the first.",
                6,
                4,
            ),
            ("Requests this month", "stat", "short", grown(REQUESTS), "", "Since the first.", 6, 4),
            ("Hours watched this month", "stat", "short", _hours_watched(), "", "Since the first.", 6, 4),
            (
                "Transferred by CDN this month",
                "bargauge",
                "decbytes",
                f"topk(20, {grown(BYTES, 'cdn_id')})",
                "{{cdn_id}}",
                "The twenty largest.",
                8,
                8,
            ),
            (
                "Transferred by stream this month",
                "bargauge",
                "decbytes",
                f"topk(20, {grown(BYTES, 'stream_name')})",
                "{{stream_name}}",
                "The twenty largest.",
                8,
                8,
            ),
            (
                "95th percentile by CDN this month",
                "bargauge",
                "bps",
                f"topk(20, {percentile_95('cdn_id')})",
                "{{cdn_id}}",
                "The twenty largest. They do not add up to that of all, since each has its peak at another time.",
                8,
                8,
            ),
        )
    ),
    collapsed=True,
)
ALERTS = Row(
    "Alerts",
    (
        Panel(
            "Alerts",
            "list",
            "short",
            (('ALERTS{alertname=~"Cdn77.+"}', ""),),
            "What fires or is about to, by the rules of this Prometheus.",
            24,
            6,
            empty="none",
        ),
    ),
)
LAST_WEEK = Row(
    "Against a week before",
    (
        _stat("Bandwidth against a week before", "percentunit", against_last_week(_BANDWIDTH), _ABOVE, 8),
        _stat("Viewers against a week before", "percentunit", against_last_week(VIEWERS), _ABOVE, 8),
        _stat("Requests against a week before", "percentunit", against_last_week(rate(REQUESTS)), _ABOVE, 8),
        Panel("Bandwidth now and a week before", "timeseries", "bps", week(_BANDWIDTH), "To clients."),
        Panel("Viewers now and a week before", "timeseries", "short", week(VIEWERS), "Players that are watching."),
        Panel("Requests now and a week before", "timeseries", "reqps", week(rate(REQUESTS)), "Per second."),
    ),
)
TRAFFIC_ROW = Row(
    "Traffic",
    (
        Panel(
            "Bandwidth by stream",
            "timeseries",
            "bps",
            ((largest(f"{rate(BYTES, 'stream_name')} * 8", "stream_name", BYTES), "{{stream_name}}"),),
            "The twenty streams with the most bytes in this span.",
            12,
            stacked=True,
        ),
        Panel(
            "Requests by stream",
            "timeseries",
            "reqps",
            ((largest(rate(REQUESTS, "stream_name"), "stream_name", REQUESTS), "{{stream_name}}"),),
            "The twenty streams with the most requests in this span.",
            12,
            stacked=True,
        ),
        Panel(
            "Bandwidth by POP",
            "timeseries",
            "bps",
            ((largest(f"{rate(BYTES, 'pop')} * 8", "pop", BYTES, 15), "{{pop}}"),),
            "The fifteen POPs with the most bytes in this span.",
        ),
        Panel(
            "Cache hit ratio by CDN",
            "timeseries",
            "percentunit",
            (
                (largest(share(REQUESTS, HIT, "cdn_id"), "cdn_id", REQUESTS, 10), "{{cdn_id}}, requests"),
                (largest(share(BYTES, HIT, "cdn_id"), "cdn_id", REQUESTS, 10), "{{cdn_id}}, bytes"),
            ),
            f"Share of the requests and of the bytes of the ten largest CDNs. {_HIT_HELP}",
            most=1,
        ),
        Panel(
            "Requests by cache status",
            "timeseries",
            "reqps",
            ((largest(rate(REQUESTS, "cache_status"), "cache_status", REQUESTS), "{{cache_status}}"),),
            "As the CDN names them; UNKNOWN when it names none.",
            stacked=True,
        ),
    ),
)


def _most_errors(status: str) -> str:
    """Return the share of a kind of errors of the streams that have the most of them in the span."""
    return largest(share(RESPONSES, status, "stream_name"), "stream_name", RESPONSES, where=f"{WHERE}, {status}")


ERRORS = Row(
    "Errors and speed",
    (
        Panel(
            "Answers by status",
            "timeseries",
            "reqps",
            ((largest(rate(RESPONSES, "response_status"), "response_status", RESPONSES), "{{response_status}}"),),
            "HTTP status; 0 when the log names none.",
            stacked=True,
        ),
        Panel(
            "4xx by stream",
            "timeseries",
            "percentunit",
            ((_most_errors(IS_4XX), "{{stream_name}}"),),
            "Share of a stream's answers, of the twenty streams with the most 4xx in this span.",
        ),
        Panel(
            "5xx by stream",
            "timeseries",
            "percentunit",
            ((_most_errors(IS_5XX), "{{stream_name}}"),),
            "Share of a stream's answers, of the twenty streams with the most 5xx in this span.",
        ),
        Panel(
            "Time to first byte by POP",
            "timeseries",
            "s",
            ((largest(mean_ttfb("pop"), "pop", f"{TTFB}_count", 15), "{{pop}}"),),
            "Mean over all requests, of the fifteen POPs with the most of them in this span.",
        ),
        Panel(
            "Time to first byte by cache status",
            "timeseries",
            "s",
            ((largest(mean_ttfb("cache_status"), "cache_status", f"{TTFB}_count"), "{{cache_status}}"),),
            "Mean over all requests. A miss waits for the origin.",
        ),
        Panel(
            "Incomplete requests",
            "timeseries",
            "reqps",
            ((rate("cdn77_incomplete_requests_total", "reason"), "{{reason}}"),),
            "Broken off by the client (aborted), or ended by a connection that timed out.",
        ),
    ),
)
SPEED = Row(
    "How fast it is (HISTOGRAMS)",
    (
        Panel("Time to first byte", "timeseries", "s", times(TTFB), "So long or less waits that share of them."),
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
)


def _in_an_hour(metric: str, by: str = "stream_name") -> str:
    return f"sum by ({by}) (increase({metric}{{{STREAM}}}[1h] {LATER}))"


_SESSIONS = "cdn77_session_watch_seconds"
VIEWERS_ROW = Row(
    "Viewers",
    (
        Panel(
            "Viewers by stream",
            "timeseries",
            "short",
            ((largest_streams(_BY_STREAM), "{{stream_name}}"),),
            "Players that are watching: an address and a device type with a request in the last 30 s. The twenty "
            "streams that were watched the longest in this span.",
            12,
            stacked=True,
        ),
        Panel(
            "Hours watched in an hour",
            "timeseries",
            "short",
            ((largest_streams(f"{_in_an_hour(WATCHED)} / 3600"), "{{stream_name}}"),),
            "How long players were watching, all together, of the same twenty streams.",
            12,
            stacked=True,
        ),
        Panel(
            "Viewers by device",
            "bargauge",
            "short",
            ((f"topk(12, sum by (device_type) ({PLAYERS}))", "{{device_type}}"),),
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
            "Addresses by IP version",
            "bargauge",
            "short",
            ((viewers_by("ip_version"), "IPv{{ip_version}}"),),
            "Distinct addresses in the session window.",
        ),
        Panel(
            "New viewers in an hour",
            "timeseries",
            "short",
            ((largest_streams(_in_an_hour("cdn77_viewers_total")), "{{stream_name}}"),),
            "Addresses that were not seen in the session window before.",
        ),
        Panel(
            "Sessions that began in an hour",
            "timeseries",
            "short",
            ((largest_streams(_in_an_hour("cdn77_sessions_total")), "{{stream_name}}"),),
            "Runs of requests of a player, no two further apart than 120 s.",
        ),
        Panel(
            "Watch time of sessions",
            "timeseries",
            "s",
            (
                (
                    largest_streams(f"{_in_an_hour(f'{_SESSIONS}_sum')} / ({_in_an_hour(f'{_SESSIONS}_count')} > 0)"),
                    "{{stream_name}}, mean",
                ),
                (
                    f"histogram_quantile(0.5, sum (increase({_SESSIONS}{{{STREAM}}}[1h] {LATER}))) "
                    f"or histogram_quantile(0.5, {_in_an_hour(f'{_SESSIONS}_bucket', 'le')})",
                    "half of all",
                ),
            ),
            "Of the sessions that ended within an hour.",
        ),
        Panel(
            "Active addresses by stream",
            "timeseries",
            "short",
            (
                (
                    largest_streams(
                        f"sum by (stream_name) (max without (window) (cdn77_active_viewers{{{STREAM}}} {LATER}))"
                    ),
                    "{{stream_name}}",
                ),
            ),
            "Distinct addresses in the session window (two hours unless it was changed): more than watch at once.",
        ),
        Panel(
            "Distinct viewers of a day",
            "timeseries",
            "short",
            (
                (f"sum(stream:cdn77_distinct_viewers:lower1d{{{STREAM}}})", "at least"),
                (f"sum(stream:cdn77_distinct_viewers:upper1d{{{STREAM}}})", "at most"),
            ),
            "Needs RETURN_HORIZON and distinct-viewers.rules.yml; a viewer of two streams is two.",
        ),
    ),
)
TRACKS = Row(
    "Tracks",
    (
        Panel(
            "Bandwidth by track",
            "timeseries",
            "bps",
            (
                (
                    largest(f"{rate(TRACK_BYTES, 'track', STREAM)} * 8", "track", TRACK_BYTES, where=STREAM),
                    "{{track}}",
                ),
            ),
            "Of the requests whose path has a track.",
            stacked=True,
        ),
        Panel(
            "Requests by track",
            "timeseries",
            "reqps",
            ((largest(rate(TRACK_REQUESTS, "track", STREAM), "track", TRACK_BYTES, where=STREAM), "{{track}}"),),
            "Of the requests whose path has a track.",
        ),
        Panel(
            "Addresses by track",
            "bargauge",
            "short",
            ((viewers_by("track"), "{{track}}"),),
            "Distinct addresses in the session window; one that has played two tracks is in both.",
        ),
    ),
)
PLACES = Row(
    "Where viewers are",
    (
        Panel(
            "New viewers by country",
            "bargauge",
            "short",
            (
                (
                    f"topk(12, {grown('cdn77_viewers_by_country_total', 'country', STREAM)})",
                    "{{country}}",
                ),
            ),
            "Addresses that appeared in this span, by the country that the log names.",
        ),
        Panel(
            "Addresses by country (GeoIP)",
            "bargauge",
            "short",
            ((viewers_by("country"), "{{country}}"),),
            "Distinct addresses in the session window. Needs a GeoIP database; without one they are XX.",
        ),
        Panel(
            "Addresses by region (GeoIP)",
            "bargauge",
            "short",
            ((viewers_by("region"), "{{country}} {{region}}"),),
            "Distinct addresses in the session window. Needs a GeoIP database.",
        ),
    ),
)
_POPS = (
    (f"{rate(BYTES, 'pop')} * 8", "bandwidth", "bps"),
    (rate(REQUESTS, "pop"), "requests", "reqps"),
    (share(REQUESTS, HIT, "pop"), "hits", "percentunit"),
    (share(RESPONSES, IS_4XX, "pop"), "4xx", "percentunit"),
    (share(RESPONSES, IS_5XX, "pop"), "5xx", "percentunit"),
    (mean_ttfb("pop"), "first byte", "s"),
)
_STREAMS = (
    (f"{rate(BYTES, 'stream_name')} * 8", "bandwidth", "bps"),
    (grown(BYTES, "stream_name"), "transferred", "decbytes"),
    (rate(REQUESTS, "stream_name"), "requests", "reqps"),
    (share(REQUESTS, HIT, "stream_name"), "hits", "percentunit"),
    (share(RESPONSES, IS_4XX, "stream_name"), "4xx", "percentunit"),
    (share(RESPONSES, IS_5XX, "stream_name"), "5xx", "percentunit"),
    (_BY_STREAM, "viewers", "short"),
    (f"max_over_time(({_BY_STREAM})[$__range:1m])", "most viewers", "short"),
)


def _table(
    title: str, columns: tuple[tuple[str, str, str], ...], help: str, links: tuple[tuple[str, str], ...] = ()
) -> Panel:
    queries = tuple((query, name) for query, name, _ in columns)
    return Panel(title, "table", "short", queries, help, 12, 12, units=tuple(unit for *_, unit in columns), links=links)


POPS_TABLE = _table("POPs", _POPS, "What each point of presence has now.")
TABLES = Row(
    "Tables",
    (
        _table(
            "Streams",
            _STREAMS,
            "What each stream has now, and its bytes and most viewers in this span. A stream's name leads to its own "
            "view.",
            STREAM_VIEW,
        ),
        POPS_TABLE,
    ),
)

TRAFFIC = Dashboard(
    "cdn77-traffic",
    "CDN77 traffic",
    "What viewers get from the CDN. Every graph lies 90 s behind, since the newest log files are still on their way.",
    VARIABLES,
    (NOW, SPAN, ALERTS, LAST_WEEK, TRAFFIC_ROW, ERRORS, SPEED, VIEWERS_ROW, TRACKS, PLACES, TABLES, MONTH),
)
