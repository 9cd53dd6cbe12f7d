"""The dashboard of the exporters: whether the numbers are complete and up to date, and what is wrong if not."""

from __future__ import annotations

from tools.dashboards.model import Dashboard, Panel, Row, Variable
from tools.dashboards.queries import OWN, by_instance, lately, now, own, quantiles, since, worst
from tools.dashboards.traffic import ALERTS

_DAY = "[1d]"


def _of_a_day(metric: str) -> str:
    """Return what a self-metric's counter has grown by in a day, by instance."""
    return by_instance(f"increase(cdn77_exporter_{metric}{{{OWN}}}{_DAY})")


def _stat(
    title: str, unit: str, query: str, help: str, steps: tuple[float, float] | None = None, width: int = 4
) -> Panel:
    return Panel(title, "stat", unit, ((query, ""),), help, width, 4, steps, empty="0" if "count" in query else "")


_COLUMNS = (
    (f"max by (instance) (up{{{OWN}}})", "answers", "short"),
    (by_instance(f'cdn77_exporter_problems{{{OWN}, what!="standby"}}'), "problems", "short"),
    (f"max by (instance) ({now('watermark_lag_seconds')})", "behind", "s"),
    (f"max by (instance) ({since('last_poll_success_timestamp_seconds')})", "since the last poll", "s"),
    (f"max by (instance) ({since('last_push_success_timestamp_seconds')})", "since the last push", "s"),
    (by_instance(now("outbox_requests")), "outbox", "short"),
    (by_instance(now("files_set_aside")), "set aside", "short"),
    (_of_a_day("skipped_files_total"), "missing in a day", "short"),
    (_of_a_day("requests_refused_total"), "refused in a day", "short"),
    (f"{_of_a_day('events_total')} / ({_of_a_day('lines_total')} > 0)", "lines that count", "percentunit"),
    (by_instance(f'(cdn77_exporter_problems{{{OWN}, what="standby"}})'), "stands by", "short"),
)

EXPORTER = Dashboard(
    "cdn77-exporter",
    "CDN77 exporter",
    "Whether the numbers are complete and up to date, and what is wrong if not. Of several exporters each is shown for "
    "itself, and where there is one number it is that of the worst.",
    (
        Variable("job", "Job", "label_values(cdn77_exporter_build_info, job)"),
        Variable("instance", "Instance", 'label_values(cdn77_exporter_build_info{job=~"$job"}, instance)'),
    ),
    (
        Row(
            "Now: the worst of all instances",
            (
                _stat(
                    "Behind",
                    "s",
                    worst(now("watermark_lag_seconds")),
                    "The clock less the time up to which the numbers are complete. One to two minutes are usual.",
                    (240, 600),
                ),
                _stat(
                    "Problems",
                    "short",
                    f'sum (cdn77_exporter_problems{{{OWN}, what!="standby"}})',
                    "Of all instances together; the table below says of which, and /readyz what to do.",
                    (1, 1),
                ),
                _stat(
                    "Do not answer",
                    "short",
                    f"count ((up{{{OWN}}} == 0) and on (job) last_over_time(cdn77_exporter_build_info[1d])) or "
                    f"vector(0)",
                    "Exporters that cannot be scraped.",
                    (1, 1),
                ),
                _stat(
                    "Since the last poll",
                    "s",
                    worst(since("last_poll_success_timestamp_seconds")),
                    "When the bucket was last listed. Those that stand by are left out.",
                    (180, 300),
                ),
                _stat(
                    "Since the last push",
                    "s",
                    worst(since("last_push_success_timestamp_seconds")),
                    "When the receiver last accepted something. Those that stand by are left out.",
                    (180, 300),
                ),
                _stat(
                    "Files set aside",
                    "short",
                    f"sum ({now('files_set_aside')})",
                    "They cannot be read, and are neither counted nor deleted.",
                    (1, 10),
                ),
            ),
        ),
        Row(
            "Each exporter",
            (
                Panel(
                    "Exporters",
                    "table",
                    "short",
                    tuple((query, name) for query, name, _ in _COLUMNS),
                    "Each for itself. `answers` is 1 while Prometheus can scrape it.",
                    24,
                    8,
                    units=tuple(unit for *_, unit in _COLUMNS),
                ),
                Panel(
                    "Problems of each",
                    "list",
                    "short",
                    ((f"{now('problems')} > 0", ""),),
                    "What each exporter says is wrong, by subject; its /readyz says what to do.",
                    12,
                    6,
                    empty="none",
                ),
                Panel(
                    "Versions",
                    "list",
                    "short",
                    ((f"cdn77_exporter_build_info{{{OWN}}}", ""),),
                    "What runs.",
                    12,
                    6,
                ),
            ),
        ),
        ALERTS,
        Row(
            "Time",
            (
                Panel(
                    "Behind, each exporter",
                    "timeseries",
                    "s",
                    ((now("watermark_lag_seconds"), "{{instance}}"),),
                    "The clock less the watermark.",
                ),
                Panel(
                    "Delivered late or not at all",
                    "timeseries",
                    "percentunit",
                    ((f"instance:cdn77_exporter_undelivered:ratio1h{{{OWN}}}", "{{instance}}"),),
                    "Share of the last hour in which an exporter was away, behind, or not accepted.",
                    most=1,
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
                    (
                        (
                            f"{own('late_events_total', 'instance')} / ({own('events_total', 'instance')} > 0)",
                            "{{instance}}",
                        ),
                    ),
                    "Share of the events whose own tick was already written; they count in the next one.",
                    12,
                ),
                Panel(
                    "Shards that lag or are silent",
                    "list",
                    "short",
                    ((f'cdn77_exporter_shard_state{{{OWN}, state!="current"}} == 1', ""),),
                    "The others do not wait for them.",
                    12,
                    empty="none",
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
                    ((lately("skipped_files_total", "instance"), "{{instance}}"),),
                    "Sequence numbers that a shard skips.",
                ),
                Panel(
                    "Waiting",
                    "timeseries",
                    "short",
                    (
                        (now("pending_files"), "{{instance}}, to be downloaded"),
                        (now("files_in_memory"), "{{instance}}, in memory"),
                        (now("queue_depth"), "{{instance}}, {{stage}}"),
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
                    ((now("outbox_requests"), "{{instance}}"),),
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
                    ((f"process_resident_memory_bytes{{{OWN}}}", "{{instance}}"),),
                    "Resident.",
                ),
                Panel(
                    "Processor",
                    "timeseries",
                    "percentunit",
                    ((f"rate(process_cpu_seconds_total{{{OWN}}}[$__rate_interval])", "{{instance}}"),),
                    "Of one core.",
                ),
                Panel(
                    "Event loop",
                    "timeseries",
                    "s",
                    (
                        (now("event_loop_lag_p99_seconds"), "{{instance}}, 99 %"),
                        (now("event_loop_lag_max_seconds"), "{{instance}}, most"),
                    ),
                    "How late it comes to what is due.",
                ),
                Panel(
                    "Kept",
                    "timeseries",
                    "short",
                    (
                        (now("series"), "{{instance}}, series"),
                        (now("streams"), "{{instance}}, streams"),
                        (now("viewers"), "{{instance}}, viewers"),
                        (now("ledger_files"), "{{instance}}, files in the ledger"),
                    ),
                    "What memory and state hold.",
                ),
                Panel(
                    "State",
                    "timeseries",
                    "s",
                    ((now("commit_seconds"), "{{instance}}"),),
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
