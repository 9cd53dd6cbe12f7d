"""The table of self-metrics: what the exporter measures of itself."""

from __future__ import annotations

from dataclasses import dataclass

from cdn77_exporter.core.reasons import REJECT_REASONS, UNREADABLE_REASONS
from cdn77_exporter.telemetry.messages import Level

PREFIX = "cdn77_exporter_"
_SHORT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LONG_SECONDS = (1.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)


@dataclass(frozen=True, slots=True)
class SelfMetric:
    """One self-metric, named without the prefix.

    `kind`: counter, gauge, histogram, or probe (a gauge that is read from a callable at the scrape). `labels`: the
    values that each label starts with, so that every series is there from the beginning.
    """

    name: str
    kind: str
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    buckets: tuple[float, ...] = ()


_OUTCOMES = ("counted", "fetch_failed", "unreadable", "set_aside", "gone", "changed")

SELF_METRICS: tuple[SelfMetric, ...] = (
    SelfMetric("polls_total", "counter", "Looks into the bucket.", (("outcome", ("finished", "failed")),)),
    SelfMetric("poll_seconds", "histogram", "How long a poll took.", buckets=_SHORT_SECONDS),
    SelfMetric("last_poll_success_timestamp_seconds", "gauge", "When the bucket was last listed; 0 for never."),
    SelfMetric("listed_files", "gauge", "Objects in the hour folders at the last poll."),
    SelfMetric("new_files", "gauge", "Those of them that had not been claimed before."),
    SelfMetric("files_total", "counter", "Files, by what became of them.", (("outcome", _OUTCOMES),)),
    SelfMetric(
        "unreadable_files_total",
        "counter",
        "Attempts to read a file that could not be read, by reason.",
        (("reason", tuple(UNREADABLE_REASONS)),),
    ),
    SelfMetric("file_bytes_total", "counter", "Compressed bytes of counted files."),
    SelfMetric("lines_total", "counter", "Lines in counted files."),
    SelfMetric("events_total", "counter", "Lines that count."),
    SelfMetric("rejects_total", "counter", "Lines that do not count, by reason.", (("reason", tuple(REJECT_REASONS)),)),
    SelfMetric("late_events_total", "counter", "Events that came after their tick and count in the next one."),
    SelfMetric(
        "late_seconds", "histogram", "How late the latest event of a file with late events was.", buckets=_LONG_SECONDS
    ),
    SelfMetric("skipped_files_total", "counter", "Sequence numbers that are missing between files of a shard."),
    SelfMetric("fetch_seconds", "histogram", "How long a download took.", buckets=_SHORT_SECONDS),
    SelfMetric("decode_seconds", "histogram", "How long decoding a file took.", buckets=_SHORT_SECONDS),
    SelfMetric("deleted_files_total", "counter", "Files deleted after everything in them was acknowledged."),
    SelfMetric("delete_failures_total", "counter", "Files that could not be deleted at an attempt."),
    SelfMetric("quarantined_files_total", "counter", "Files moved to QUARANTINE_PREFIX."),
    SelfMetric("pushes_total", "counter", "Batches done, by outcome.", (("outcome", ("accepted", "incomplete")),)),
    SelfMetric("samples_pushed_total", "counter", "Samples in the batches that are done."),
    SelfMetric("pushed_bytes_total", "counter", "Bytes of the requests in the batches that are done."),
    SelfMetric("push_seconds", "histogram", "How long a batch took, retries included.", buckets=_SHORT_SECONDS),
    SelfMetric(
        "push_lag_seconds", "histogram", "How old a batch's last tick was when it was done.", buckets=_LONG_SECONDS
    ),
    SelfMetric("push_retries_total", "counter", "Requests sent again after a failure that may pass."),
    SelfMetric("requests_refused_total", "counter", "Requests that the receiver refused for good."),
    SelfMetric("requests_set_aside_total", "counter", "Requests given up after PUSH_RETRY_SECONDS."),
    SelfMetric("receiver_misconfigured_total", "counter", "Attempts that the receiver answered as misconfigured."),
    SelfMetric("last_push_success_timestamp_seconds", "gauge", "When a batch was last accepted; 0 for never."),
    SelfMetric("commit_failures_total", "counter", "Attempts to write the state that failed."),
    SelfMetric(
        "limits_reached_total",
        "counter",
        "How often a bound on streams or series was reached.",
        (("limit", ("MAX_STREAMS", "MAX_SERIES")),),
    ),
    SelfMetric("workers_replaced_total", "counter", "Decoding workers that died and were replaced."),
    SelfMetric("decoders_unavailable_total", "counter", "How often the cluster that decodes could not be reached."),
    SelfMetric("secret_reloads_total", "counter", "Secrets that were read anew because their file changed."),
    SelfMetric("geoip_failures_total", "counter", "Attempts to open the GeoIP database that failed."),
    SelfMetric("geoip_database_build_timestamp_seconds", "gauge", "When the GeoIP database was built; 0 for none."),
    SelfMetric("library_warnings_total", "counter", "Warnings of libraries."),
    SelfMetric("status_failures_total", "counter", "Requests that the status server failed to answer."),
    SelfMetric(
        "log_events_total", "counter", "Events said, by level, written or not.", (("level", tuple(map(str, Level))),)
    ),
    SelfMetric("log_lines_lost_total", "counter", "Log lines that could not be written to stdout."),
    # Read at the scrape; `stage` and `shard` come with the probe.
    SelfMetric("queue_depth", "probe", "Items in the channel behind a stage.", (("stage", ()),)),
    SelfMetric("files_in_memory", "probe", "Files of which the content is in memory."),
    SelfMetric("pending_files", "probe", "Files that are listed and wait to be downloaded."),
    SelfMetric("watermark_timestamp_seconds", "probe", "Up to when time is complete."),
    SelfMetric("watermark_lag_seconds", "probe", "The clock less the watermark."),
    SelfMetric("outbox_requests", "probe", "Encoded requests that are not yet acknowledged."),
    SelfMetric("outbox_bytes", "probe", "Their bytes."),
    SelfMetric("series", "probe", "Series in memory, idle ones included."),
    SelfMetric("streams", "probe", "Streams that count on their own."),
    SelfMetric("viewers", "probe", "Viewers in the session windows."),
    SelfMetric("limited_requests", "probe", 'Requests counted under stream_name="other" since the start.'),
    SelfMetric("ledger_files", "probe", "Files in the ledger: counted and not yet forgotten."),
    SelfMetric("files_set_aside", "probe", "Files set aside because they cannot be read."),
    SelfMetric("commit_seconds", "probe", "How long the last commit of the state took."),
    SelfMetric("clock_skew_seconds", "probe", "This machine's clock less the bucket's."),
    SelfMetric("event_loop_lag_p99_seconds", "probe", "How late the event loop is: the 99th percentile of a minute."),
    SelfMetric("event_loop_lag_max_seconds", "probe", "The maximum of the same minute."),
    SelfMetric("event_loop_tasks", "probe", "Tasks of the event loop; their number does not grow."),
    SelfMetric("problems", "probe", "What is wrong at the moment; see /readyz."),
)
