"""The queries of the panels: how traffic is asked for, and how the exporter's own metrics are.

Traffic is queried with `offset 90s`: the newest minute and a half is still on its way from the CDN and would look like
a dip. The exporter's own metrics are scraped and need no offset. Lines of "the twenty largest" are chosen once, by the
whole span, so that there are never more than twenty.
"""

from __future__ import annotations

from cdn77_exporter.core.measures import FROM_CACHE

# What the variables at the top of a dashboard select.
WHERE = 'stream_name=~"$stream", cdn_id=~"$cdn", pop=~"$pop"'
STREAM = 'stream_name=~"$stream"'
OWN = 'job=~"$job", instance=~"$instance"'
LATER, WEEK_EARLIER = "offset 90s", "offset 1w1m30s"
HIT = f'cache_status=~"{"|".join(FROM_CACHE)}"'
IS_4XX, IS_5XX, IS_ERROR = 'response_status=~"4.."', 'response_status=~"5.."', 'response_status=~"[45].."'
RESPONSES, REQUESTS, BYTES = "cdn77_responses_total", "cdn77_requests_total", "cdn77_transfer_bytes_total"
TTFB = "cdn77_time_to_first_byte_seconds"
PLAYERS = f"cdn77_concurrent_viewers{{{STREAM}}} {LATER}"
VIEWERS = f"sum ({PLAYERS})"
WATCHED = "cdn77_watch_seconds_total"
TRACK_BYTES, TRACK_REQUESTS = "cdn77_transfer_bytes_by_track_total", "cdn77_requests_by_track_total"


def summed(by: str) -> str:
    """Return the operator that sums by labels, or over everything."""
    return f"sum by ({by})" if by else "sum"


def rate(metric: str, by: str = "", where: str = WHERE, later: str = LATER) -> str:
    """Return the query of a sum per second, over a span that fits the resolution of the panel."""
    return f"{summed(by)} (rate({metric}{{{where}}}[$__rate_interval] {later}))"


def share(metric: str, part: str, by: str = "") -> str:
    """Return the query of the share of requests with `part`: 0, not nothing, when none has it."""
    whole = rate(metric, by)
    return f"({rate(metric, by, f'{WHERE}, {part}')} or {whole} * 0) / ({whole} > 0)"


def grown(metric: str, by: str = "", where: str = WHERE) -> str:
    """Return the query of a sum over the whole span."""
    return f"{summed(by)} (increase({metric}{{{where}}}[$__range] {LATER}))"


def part_of_span(metric: str, part: str, by: str = "") -> str:
    """Return the query of the share of the span's requests or bytes with `part`."""
    whole = grown(metric, by)
    return f"({grown(metric, by, f'{WHERE}, {part}')} or {whole} * 0) / ({whole} > 0)"


def largest(query: str, by: str, metric: str, most: int = 20, where: str = WHERE) -> str:
    """Return a query's series, of those that have the most of a counter in the span; the same ones at every instant."""
    return f"{query} and on ({by}) topk({most}, {summed(by)} (increase({metric}{{{where}}}[$__range] @ end() {LATER})))"


def percentile_95(by: str = "") -> str:
    """Return the query of the bandwidth that is exceeded in 5 % of the span's five-minute means, as it is often billed.

    It asks the recorded series, which lie 90 s behind already.
    """
    return f"quantile_over_time(0.95, {summed(by)} (stream_cdn_pop:cdn77_transfer_bits:rate5m{{{WHERE}}})[$__range:5m])"


def week(query: str) -> tuple[tuple[str, str], ...]:
    """Return a query and the same of a week before."""
    return ((query, "now"), (query.replace(LATER, WEEK_EARLIER), "a week before"))


def against_last_week(query: str) -> str:
    """Return by which part a query's value is above that of a week before."""
    return f"({query}) / ({query.replace(LATER, WEEK_EARLIER)} > 0) - 1"


def own(metric: str, by: str = "", where: str = "") -> str:
    """Return the query of a self-metric's counter per second."""
    matchers = f"{OWN}, {where}" if where else OWN
    return f"{summed(by)} (rate(cdn77_exporter_{metric}{{{matchers}}}[$__rate_interval]))"


def lately(metric: str, by: str = "", where: str = "") -> str:
    """Return the query of a self-metric's increase within the resolution of the panel."""
    return own(metric, by, where).replace("(rate(", "(increase(")


def now(metric: str) -> str:
    """Return the query of a self-metric's gauge, by instance."""
    return f"cdn77_exporter_{metric}{{{OWN}}}"


def worst(query: str) -> str:
    """Return the largest value of all instances: one that is fine hides no other."""
    return f"max ({query})"


def unless_standby(query: str) -> str:
    """Return a query's instances without those that stand by, which list, count and push nothing."""
    return f'{query} unless on (job, instance) (cdn77_exporter_problems{{{OWN}, what="standby"}} > 0)'


def since(metric: str) -> str:
    """Return the seconds since something last succeeded, by instance."""
    return unless_standby(f"time() - {now(metric)}")


def by_instance(query: str) -> str:
    """Return the sum of a query by instance."""
    return f"sum by (instance) ({query})"


def quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    """Return the queries of a self-metric's median and 95th percentile."""
    buckets = own(f"{metric}_bucket", "le")
    return tuple((f"histogram_quantile({q}, {buckets})", name) for q, name in ((0.5, "half"), (0.95, "95 %")))


def viewers_by(label: str, most: int = 12) -> str:
    """Return the query of active viewers by one of their labels; of several windows the longest holds the most."""
    metric = f"cdn77_active_viewers_by_{label}{{{STREAM}}} {LATER}"
    labels = {"region": "country, region", "device": "device_type"}.get(label, label)
    return f"topk({most}, sum by ({labels}) (max without (window) ({metric})))"


def largest_streams(query: str, metric: str = WATCHED) -> str:
    """Return a query's series of the twenty streams that were watched the longest in the span."""
    return largest(query, "stream_name", metric, where=STREAM)


def mean_ttfb(by: str = "") -> str:
    """Return the query of the mean time to first byte of all requests that tell one, in seconds."""
    times, requests = (rate(f"{TTFB}_{part}", by) for part in ("sum", "count"))
    return f"{times} / ({requests} > 0)"


def times(metric: str) -> tuple[tuple[str, str], ...]:
    """Return the queries of percentiles of a request's times, of native histograms or, where there are none, others."""
    native = f"sum (rate({metric}{{{WHERE}}}[$__rate_interval] {LATER}))"
    classic = rate(f"{metric}_bucket", "le")
    return tuple(
        (f"histogram_quantile({q}, {native}) or histogram_quantile({q}, {classic})", name)
        for q, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
    )
