"""The rules: what is recorded, and what is an alert. Settings stand in them as `%(name)s`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from textwrap import dedent

from cdn77_exporter.core.measures import FROM_CACHE

#: Requests whose answer came from the CDN's cache.
HITS = f'cache_status=~"{"|".join(FROM_CACHE)}"'
#: Windows of the burn rates: the long one, the short one that ends the alert soon, and how fast the budget of 30 days
#: is used up. They are those of the Site Reliability Workbook (Google, 2018), chapter 5, "Alerting on SLOs".
FAST_BURN = (("1h", "5m", 14.4), ("6h", "30m", 6.0))
SLOW_BURN = (("1d", "2h", 3.0), ("3d", "6h", 1.0))
_SECONDS = {"5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "2h": 7200, "6h": 21_600, "1d": 86_400, "3d": 259_200}
_GROUP_SECONDS = 30


class Severity(StrEnum):
    """How urgent an alert is: wake somebody, or look today."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Record:
    """A recorded series. `why`: the comment above it."""

    name: str
    expr: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert. `summary` is the same for every firing; `description` says which, how much, and what follows."""

    name: str
    severity: Severity
    expr: str
    lasts: str
    summary: str
    description: str

    @property
    def anchor(self) -> str:
        """Where the runbook's page has its entry."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, one after the other; `interval` in seconds, the server's own when 0."""

    name: str
    rules: tuple[Record, ...] | tuple[Alert, ...]
    interval: int = 0


def _alert(name: str, severity: Severity, expr: str, lasts: str, summary: str, description: str) -> Alert:
    return Alert(name, severity, dedent(expr).strip(), lasts, summary, description)


def _record(name: str, expr: str, why: str = "") -> Record:
    return Record(name, dedent(expr).strip(), why)


# What is recorded


def _of_stream(rate: str) -> str:
    """Sum a rate by stream, and by whatever labels the receiver or EXTERNAL_LABELS add: two accounts stay two."""
    return f"sum without (cdn_id, cache_status, pop) ({rate})"


_CDN = "sum without (stream_name, cache_status, pop)"
_POP = "sum without (stream_name, cdn_id, cache_status)"

TRAFFIC = Group(
    "cdn77-traffic",
    (
        _record(
            "stream:cdn77_transfer_bits:rate5m", _of_stream("rate(cdn77_transfer_bytes_total[5m] offset 90s)") + " * 8"
        ),
        _record(
            "stream_cdn_pop:cdn77_transfer_bits:rate5m",
            "sum without (cache_status) (rate(cdn77_transfer_bytes_total[5m] offset 90s)) * 8",
        ),
        _record("stream:cdn77_requests:rate5m", _of_stream("rate(cdn77_requests_total[5m] offset 90s)")),
        _record(
            "cdn_cache_status:cdn77_requests:rate5m",
            "sum without (stream_name, pop) (rate(cdn77_requests_total[5m] offset 90s))",
        ),
        _record("stream_status:cdn77_responses:rate5m", _of_stream("rate(cdn77_responses_total[5m] offset 90s)")),
        _record(
            "stream:cdn77_responses:rate5m", "sum without (response_status) (stream_status:cdn77_responses:rate5m)"
        ),
        _record(
            "stream:cdn77_server_errors:rate5m",
            """
            sum without (response_status) (stream_status:cdn77_responses:rate5m{response_status=~"5.."})
            or stream:cdn77_responses:rate5m * 0
            """,
            "0 and not nothing when there are requests and no error among them, so that an alert on it can resolve.",
        ),
        _record(
            "stream:cdn77_server_errors:ratio_rate5m",
            "stream:cdn77_server_errors:rate5m / (stream:cdn77_responses:rate5m > 0)",
        ),
        _record(
            "cdn:cdn77_hits:ratio_rate5m",
            f"""
            (
              {_CDN} (rate(cdn77_requests_total{{{HITS}}}[5m] offset 90s))
              or {_CDN} (rate(cdn77_requests_total[5m] offset 90s)) * 0
            )
            / ({_CDN} (rate(cdn77_requests_total[5m] offset 90s)) > 0)
            """,
            "Hits are what came from the cache: REVALIDATED, UPDATING and STALE, too. EXPIRED was fetched from the "
            "origin.",
        ),
        _record("stream:cdn77_active_viewers:sum", "max without (window) (cdn77_active_viewers offset 90s)"),
        _record(
            "pop:cdn77_time_to_first_byte_seconds:mean5m",
            f"""
            {_POP} (rate(cdn77_time_to_first_byte_seconds_sum[5m] offset 90s))
            / ({_POP} (rate(cdn77_time_to_first_byte_seconds_count[5m] offset 90s)) > 0)
            """,
        ),
    ),
    _GROUP_SECONDS,
)

_SELECTED = "{%(exporterSelector)s}"
#: Instances that stand by: they list, count and push nothing. Of one that is away: that stood by when last scraped.
_STANDBY = 'cdn77_exporter_problems{%(exporterSelector)s, what="standby"} > 0'
_STOOD_BY = 'last_over_time(cdn77_exporter_problems{%(exporterSelector)s, what="standby"}[1d]) > 0'


def _grew(counter: str, window: str) -> str:
    """Return that a counter has grown within a window.

    Of a process that is younger than that, all it counted: its instance may be new, with a first sample above zero.
    """
    started = f"process_start_time_seconds{_SELECTED}"
    return f"""
        increase({counter}{_SELECTED}[{window}]) > 0
        or {counter}{_SELECTED} > 0
        and on (job, instance) (time() - {started} < {_SECONDS[window]})
    """


_UNDELIVERED = f"""
(
  (up{_SELECTED} == 0 unless ignoring (what) ({_STOOD_BY}))
  or (cdn77_exporter_watermark_lag_seconds{_SELECTED} > %(behindSeconds)s)
  or (
    cdn77_exporter_outbox_requests{_SELECTED} > 0
    and time() - cdn77_exporter_last_push_success_timestamp_seconds{_SELECTED} > %(pushSeconds)s
  )
  or (increase(cdn77_exporter_requests_refused_total{_SELECTED}[5m]) > 0)
  or (increase(cdn77_exporter_requests_dropped_total{_SELECTED}[5m]) > 0)
) * 0 + 1
or up{_SELECTED} * 0
"""


def _undelivered(window: str) -> Record:
    return Record(
        f"instance:cdn77_exporter_undelivered:ratio{window}",
        f"sum_over_time(instance:cdn77_exporter_undelivered:bool[{window}]) * {_GROUP_SECONDS} / {_SECONDS[window]}",
    )


def _stream_errors(window: str) -> Record:
    return Record(
        f"stream:cdn77_server_errors:ratio_rate{window}",
        f"sum_over_time(stream:cdn77_server_errors:rate5m[{window}])"
        f" / (sum_over_time(stream:cdn77_responses:rate5m[{window}]) > 0)",
    )


#: In groups after the one that they are made from, and the longer the window the more seldom.
BURN = (
    Group(
        "cdn77-delivery",
        (
            _record(
                "instance:cdn77_exporter_undelivered:bool",
                _UNDELIVERED,
                "1 while an exporter is away, behind, or its receiver accepts nothing or not everything; else 0.",
            ),
            _undelivered("5m"),
            _undelivered("30m"),
            _undelivered("1h"),
        ),
        _GROUP_SECONDS,
    ),
    Group("cdn77-burn", tuple(map(_stream_errors, ("30m", "1h", "2h", "6h"))), 60),
    Group(
        "cdn77-burn-days",
        (*map(_undelivered, ("2h", "6h", "1d", "3d")), *map(_stream_errors, ("1d", "3d"))),
        120,
    ),
)
RECORDS = (TRAFFIC, *BURN)


def _burns(series: str, budget: str, pairs: tuple[tuple[str, str, float], ...]) -> str:
    """Return what is true while a budget is used up too fast, in the long and in the short window of any pair."""

    def too_fast(long: str, short: str, factor: float) -> Iterator[str]:
        yield f"  {series}{long} > {factor:g} * %({budget})s"
        yield f"  and {series}{short} > {factor:g} * %({budget})s"

    return "\nor\n".join("(\n" + "\n".join(too_fast(*pair)) + "\n)" for pair in pairs)


# What is an alert

_C, _W = Severity.CRITICAL, Severity.WARNING

EXPORTER = Group(
    "cdn77-exporter",
    (
        _alert(
            "Cdn77ExporterDown",
            _C,
            f"""
            up{_SELECTED} == 0
            or absent(up{_SELECTED})
            """,
            "%(downFor)s",
            "An exporter cannot be scraped.",
            "{{ if $labels.instance }}{{ $labels.instance }} does not answer{{ else }}Prometheus has no exporter to "
            "scrape{{ end }}. Log files wait in the bucket; of two that share a state the other one works.",
        ),
        _alert(
            "Cdn77FewerExporters",
            _W,
            f"""
            count by (job) (up{_SELECTED} == 1)
            < quantile_over_time(0.5, count by (job) (up{_SELECTED} == 1)[1d:5m])
            """,
            "15m",
            "Fewer exporters run than usual.",
            "{{ $value }} exporters of the job {{ $labels.job }} run, fewer than on most of the day before. One that "
            "stood by may be gone, so that nobody takes over.",
        ),
        _alert(
            "Cdn77Problem",
            _C,
            'cdn77_exporter_problems{%(exporterSelector)s, what=~"%(criticalProblems)s"} > 0',
            "%(problemFor)s",
            "An exporter says that numbers are missing.",
            "{{ $labels.instance }} has a problem with {{ $labels.what }}. Its /readyz and its status page say since "
            "when, and what to do.",
        ),
        _alert(
            "Cdn77MinorProblem",
            _W,
            'cdn77_exporter_problems{%(exporterSelector)s, what!~"%(criticalProblems)s|%(waitingProblems)s"} > 0',
            "%(problemFor)s",
            "An exporter says that something is wrong.",
            "{{ $labels.instance }} has a problem with {{ $labels.what }}. Its /readyz and its status page say since "
            "when, and what to do.",
        ),
        _alert(
            "Cdn77ExporterRestarts",
            _W,
            f"changes(process_start_time_seconds{_SELECTED}[30m]) > %(restarts)s",
            "",
            "An exporter is restarted again and again.",
            "{{ $labels.instance }} was restarted {{ $value }} times in half an hour: it crashes and is started again. "
            "Nothing is lost by it, but something is wrong.",
        ),
        _alert(
            "Cdn77NoData",
            _C,
            f"""
            (sum(rate(cdn77_requests_total[30m] offset 90s)) or vector(0))
            < %(deliveredRatio)s * sum(
              rate(cdn77_exporter_events_total{_SELECTED}[30m] offset 90s)
              unless max_over_time(cdn77_exporter_watermark_lag_seconds{_SELECTED}[1h]) > %(behindSeconds)s
            )
            """,
            "5m",
            "Requests are counted but do not arrive in Prometheus.",
            "The exporters count more requests than this Prometheus has: {{ $value | humanize }} a second arrive. "
            "One of them may push elsewhere.",
        ),
        _alert(
            "Cdn77NoLogFiles",
            _W,
            f"""
            increase(cdn77_exporter_files_total{{%(exporterSelector)s, outcome="counted"}}[20m]) == 0
            unless on (job, instance) ({_STANDBY})
            """,
            "10m",
            "No log file has been counted for half an hour.",
            "{{ $labels.instance }} finds nothing new in its bucket. Either nobody watches, or the CDN does not "
            "deliver.",
        ),
        _alert(
            "Cdn77Behind",
            _W,
            f"cdn77_exporter_watermark_lag_seconds{_SELECTED} > %(behindSeconds)s",
            "5m",
            "The numbers are behind.",
            "Those of {{ $labels.instance }} are {{ $value | humanizeDuration }} behind. Usual are one to two "
            "minutes, and three when nothing arrives.",
        ),
        _alert(
            "Cdn77FarBehind",
            _C,
            f"cdn77_exporter_watermark_lag_seconds{_SELECTED} > %(farBehindSeconds)s",
            "2m",
            "The numbers are far behind.",
            "Those of {{ $labels.instance }} are {{ $value | humanizeDuration }} behind. Past 55 minutes events "
            "count at a later tick than their own, since the receiver would refuse theirs.",
        ),
        _alert(
            "Cdn77PollFailing",
            _C,
            f"""
            time() - cdn77_exporter_last_poll_success_timestamp_seconds{_SELECTED} > %(pollSeconds)s
            unless ignoring (what) ({_STANDBY})
            """,
            "2m",
            "The bucket cannot be listed.",
            "{{ $labels.instance }} has not listed its bucket for {{ $value | humanizeDuration }}. Log files wait "
            "there, and count as long as they are not older than seven days.",
        ),
        _alert(
            "Cdn77PushFailing",
            _C,
            f"""
            time() - cdn77_exporter_last_push_success_timestamp_seconds{_SELECTED} > %(pushSeconds)s
            and cdn77_exporter_outbox_requests{_SELECTED} > 0
            """,
            "2m",
            "The receiver accepts nothing.",
            "It has accepted nothing from {{ $labels.instance }} for {{ $value | humanizeDuration }}. Requests wait "
            "in the outbox and are sent again; log files stay in the bucket.",
        ),
        _alert(
            "Cdn77ReceiverMisconfigured",
            _C,
            _grew("cdn77_exporter_receiver_misconfigured_total", "5m"),
            "1m",
            "The receiver rejects everything because of a wrong setting.",
            "It rejects what {{ $labels.instance }} sends: credentials, address, certificate, or its remote-write "
            "receiver is switched off.",
        ),
        _alert(
            "Cdn77RequestsRefused",
            _C,
            _grew("cdn77_exporter_requests_refused_total", "15m"),
            "",
            "The receiver refuses write requests.",
            "It refused some of {{ $labels.instance }}. Those ticks stay empty; files are kept until later ticks "
            "have told their counts.",
        ),
        _alert(
            "Cdn77RequestsDropped",
            _C,
            _grew("cdn77_exporter_requests_dropped_total", "1h"),
            "",
            "Write requests, or some of their series, were dropped.",
            "The receiver of {{ $labels.instance }} fails on them while it takes others, or has failed on everything "
            "for PUSH_RETRY_SECONDS.",
        ),
        _alert(
            "Cdn77StateNotWritten",
            _C,
            _grew("cdn77_exporter_commit_failures_total", "5m"),
            "1m",
            "The state cannot be written.",
            "{{ $labels.instance }} pushes and deletes nothing until it can. Usually the disk is full or read-only.",
        ),
        _alert(
            "Cdn77FilesSetAside",
            _W,
            f"cdn77_exporter_files_set_aside{_SELECTED} > 0",
            "5m",
            "Log files cannot be read.",
            "{{ $value }} log files cannot be read by {{ $labels.instance }}. They are not counted and not deleted.",
        ),
        _alert(
            "Cdn77FilesQuarantined",
            _W,
            _grew("cdn77_exporter_quarantined_files_total", "6h"),
            "",
            "Log files that cannot be read were moved to QUARANTINE_PREFIX.",
            "{{ $labels.instance }} moved {{ $value | humanize }} of them in six hours. They are not counted, and "
            "stay there until somebody releases or removes them.",
        ),
        _alert(
            "Cdn77Gaps",
            _W,
            _grew("cdn77_exporter_skipped_files_total", "1h"),
            "",
            "Log files are missing.",
            "The sequence numbers that {{ $labels.instance }} finds{{ with $labels.shard }} in shard {{ . }}{{ end "
            "}} skip about {{ $value | humanize }} files in the last hour. What they held is not counted.",
        ),
        _alert(
            "Cdn77ShardLagging",
            _W,
            'cdn77_exporter_shard_state{%(exporterSelector)s, state="lagging"} == 1',
            "5m",
            "A shard is far behind the others.",
            "Requests of shard {{ $labels.shard }}, which {{ $labels.instance }} reads, count late, in whatever "
            "minute they arrive. The other shards do not wait for it.",
        ),
        _alert(
            "Cdn77ShardSilent",
            _W,
            f"""
            cdn77_exporter_shard_state{{%(exporterSelector)s, state="silent"}} == 1
            and ignoring (state) (time() - cdn77_exporter_shard_newest_event_timestamp_seconds{_SELECTED} < 3600)
            and ignoring (state, shard) (cdn77_exporter_shards{{%(exporterSelector)s, state="current"}} > 0)
            """,
            "10m",
            "A shard delivers nothing while others do.",
            "Shard {{ $labels.shard }}, which {{ $labels.instance }} reads, has nothing new. If it still writes log "
            "files, their requests are missing. After an hour it is taken for one that has ended.",
        ),
        _alert(
            "Cdn77LateEvents",
            _W,
            f"""
            rate(cdn77_exporter_late_events_total{_SELECTED}[30m])
            / (rate(cdn77_exporter_events_total{_SELECTED}[30m]) > 0) > %(lateRatio)s
            """,
            "15m",
            "Events come late.",
            "{{ $value | humanizePercentage }} of the events of {{ $labels.instance }} come late. They count, but at "
            "a later tick than their own, so that short spans are not exact.",
        ),
        _alert(
            "Cdn77Rejects",
            _W,
            f"""
            sum without (reason) (
              rate(cdn77_exporter_rejects_total{{%(exporterSelector)s, reason!~"no_stream|stream_not_allowed"}}[30m])
            )
            / (rate(cdn77_exporter_lines_total{_SELECTED}[30m]) > 0) > %(rejectsRatio)s
            """,
            "15m",
            "Log lines are rejected.",
            "{{ $labels.instance }} rejects {{ $value | humanizePercentage }} of the log lines. The log format may "
            "have changed. Lines without a stream, which are usual, are left out.",
        ),
        _alert(
            "Cdn77IgnoredFields",
            _W,
            f"""
            rate(cdn77_exporter_ignored_fields_total{_SELECTED}[30m])
            / ignoring (field) group_left () (rate(cdn77_exporter_events_total{_SELECTED}[30m]) > 0)
            > %(ignoredFieldsRatio)s
            """,
            "15m",
            "A field of the log lines is malformed.",
            "{{ $labels.field }} is malformed in {{ $value | humanizePercentage }} of the requests that {{ "
            "$labels.instance }} counts. They count without it. The log format may have changed.",
        ),
        _alert(
            "Cdn77DeleteFailing",
            _W,
            _grew("cdn77_exporter_delete_failures_total", "30m"),
            "30m",
            "Counted files cannot be deleted.",
            "{{ $labels.instance }} does not count them again, but the bucket grows and listing it takes longer.",
        ),
        _alert(
            "Cdn77LimitReached",
            _W,
            _grew("cdn77_exporter_limits_reached_total", "1h"),
            "",
            "A limit is reached.",
            "{{ $labels.instance }} has reached {{ $labels.limit }}. New streams count together as "
            'stream_name="other".',
        ),
        _alert(
            "Cdn77ClockSkew",
            _W,
            f"abs(cdn77_exporter_clock_skew_seconds{_SELECTED}) > %(clockSkewSeconds)s",
            "5m",
            "The exporter's clock and the bucket's differ.",
            "That of {{ $labels.instance }} is {{ $value | humanizeDuration }} off the bucket's. The one that the "
            "newest events agree with is believed, so that numbers stay right. If nothing decides, no sample is "
            "written.",
        ),
        _alert(
            "Cdn77GeoIpOld",
            _W,
            f"""
            time() - (cdn77_exporter_geoip_database_build_timestamp_seconds{_SELECTED} > 0)
            > %(geoipDays)s * 86400
            """,
            "1h",
            "The GeoIP database is old.",
            "That of {{ $labels.instance }} is {{ $value | humanizeDuration }} old. Countries and regions of viewers "
            "become wrong with time. A new file is opened without a restart.",
        ),
    ),
)

STREAMS = Group(
    "cdn77-traffic-alerts",
    (
        _alert(
            "Cdn77ServerErrors",
            _C,
            """
            stream:cdn77_server_errors:ratio_rate5m > %(serverErrorRatio)s
            and stream:cdn77_requests:rate5m > %(minRequests)s
            """,
            "5m",
            "Viewers of a stream get errors.",
            "{{ $value | humanizePercentage }} of the answers of stream {{ $labels.stream_name }} are 5xx.",
        ),
        _alert(
            "Cdn77HitRatioDrop",
            _W,
            """
            cdn:cdn77_hits:ratio_rate5m < %(hitRatioDrop)s * avg_over_time(cdn:cdn77_hits:ratio_rate5m[1h] offset 30m)
            and sum without (cache_status) (cdn_cache_status:cdn77_requests:rate5m) > %(minRequests)s
            """,
            "10m",
            "The cache of a CDN answers less than it did.",
            "The hit ratio of CDN {{ $labels.cdn_id }} fell to {{ $value | humanizePercentage }}. The hour before it "
            "was higher; now the origin gets more requests.",
        ),
        _alert(
            "Cdn77ViewersDrop",
            _W,
            """
            stream:cdn77_active_viewers:sum < %(viewersDrop)s * max_over_time(stream:cdn77_active_viewers:sum[3h])
            and max_over_time(stream:cdn77_active_viewers:sum[3h]) > %(minViewers)s
            """,
            "10m",
            "A stream has lost viewers.",
            "Stream {{ $labels.stream_name }} has {{ $value }} viewers, far fewer than the most within three hours.",
        ),
        _alert(
            "Cdn77TrafficDrop",
            _W,
            """
            stream:cdn77_requests:rate5m < %(trafficDrop)s * avg_over_time(stream:cdn77_requests:rate5m[1h] offset 10m)
            and avg_over_time(stream:cdn77_requests:rate5m[1h] offset 10m) > %(minRequests)s
            """,
            "5m",
            "A stream has lost requests.",
            "Requests of stream {{ $labels.stream_name }} fell to {{ $value | humanize }} a second, far fewer than "
            "in the hour before. Viewers stay in their window for long; requests tell at once.",
        ),
    ),
)

BURNING = Group(
    "cdn77-burn-alerts",
    (
        Alert(
            "Cdn77StreamErrorsBurnFast",
            _C,
            "(\n"
            + _burns("stream:cdn77_server_errors:ratio_rate", "errorBudget", FAST_BURN)
            + "\n)\nand stream:cdn77_requests:rate5m > %(minRequests)s",
            "2m",
            "A stream uses up its budget of errors within days.",
            "{{ $value | humanizePercentage }} of the answers of stream {{ $labels.stream_name }} were 5xx in the last "
            "hours. At this rate the errors that 30 days may have are reached in five days or sooner.",
        ),
        Alert(
            "Cdn77StreamErrorsBurnSlow",
            _W,
            "(\n"
            + _burns("stream:cdn77_server_errors:ratio_rate", "errorBudget", SLOW_BURN)
            + "\n)\nand stream:cdn77_requests:rate5m > %(minRequests)s",
            "15m",
            "A stream uses up its budget of errors within the month.",
            "{{ $value | humanizePercentage }} of the answers of stream {{ $labels.stream_name }} were 5xx in the last "
            "days. At this rate the errors that 30 days may have are reached within the month.",
        ),
        Alert(
            "Cdn77DeliveryBurnFast",
            _C,
            _burns("instance:cdn77_exporter_undelivered:ratio", "deliveryBudget", FAST_BURN),
            "2m",
            "An exporter has delivered late or nothing for much of the last hours.",
            "{{ $labels.instance }} was away, behind, or not accepted for {{ $value | humanizePercentage }} of the "
            "last hours. At this rate the budget of 30 days is used up in five days or sooner.",
        ),
        Alert(
            "Cdn77DeliveryBurnSlow",
            _W,
            _burns("instance:cdn77_exporter_undelivered:ratio", "deliveryBudget", SLOW_BURN),
            "15m",
            "An exporter has delivered late or nothing for some of the last days.",
            "{{ $labels.instance }} was away, behind, or not accepted for {{ $value | humanizePercentage }} of the "
            "last days. At this rate the budget of 30 days is used up within the month.",
        ),
    ),
)
ALERTS = (EXPORTER, STREAMS, BURNING)
