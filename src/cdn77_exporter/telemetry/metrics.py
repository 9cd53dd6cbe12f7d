"""The table of self-metrics: those that messages update, in the order of the messages, and those read at the scrape."""

from __future__ import annotations

from cdn77_exporter.telemetry.kinds import SelfMetric, counter, probe
from cdn77_exporter.telemetry.messages import MESSAGES, Level, Message

PREFIX = "cdn77_exporter_"

LOG_MESSAGES = counter("log_messages_total", "Messages by level, written to the log or not.", level=Level)
LOG_LINES_LOST = counter("log_lines_lost_total", "Log lines that could not be written to stdout.")

_PROBES = (
    probe("queue_depth", "Items in the channel behind a stage.", "stage"),
    probe("files_in_memory", "Files whose content is in memory."),
    probe("pending_files", "Files that are listed and not yet downloaded."),
    probe("watermark_timestamp_seconds", "Time up to which counting is complete."),
    probe("watermark_lag_seconds", "The clock minus the watermark."),
    probe("shards", "Known shards, by state.", "state"),
    probe("shard_state", "1, with the state of each shard: current, lagging or silent.", "shard", "state"),
    probe("shard_newest_event_timestamp_seconds", "The newest event of a shard that is counted.", "shard"),
    probe("outbox_requests", "Encoded requests that are not yet acknowledged."),
    probe("outbox_bytes", "Size of the encoded requests that are not yet acknowledged."),
    probe("series", "Series in memory, idle ones included."),
    probe("owed_series", "Series of which the receiver has not seen all; no file is deleted while there are any."),
    probe("request_limit_samples", "Most samples of a request: 2,000, or fewer if the receiver refused larger ones."),
    probe("remote_write_version", "The version of remote write in which samples are sent, 1 or 2."),
    probe("streams", "Streams that are counted under their own names."),
    probe("viewers", "Viewers in the session windows."),
    probe("limited_requests", 'Requests counted under stream_name="other" since the start.'),
    probe("ledger_files", "Files in the ledger: counted and not yet forgotten."),
    probe("files_set_aside", "Files set aside because they cannot be read."),
    probe("commit_seconds", "Duration of the last commit of the state."),
    probe("clock_skew_seconds", "This machine's clock minus the bucket's."),
    probe("clock_believed", "1 when it is known what time it is; 0 in doubt, when no sample is written."),
    probe("event_loop_lag_p99_seconds", "Delay of the event loop: the 99th percentile of the last minute."),
    probe("event_loop_lag_max_seconds", "Delay of the event loop: the maximum of the last minute."),
    probe("event_loop_tasks", "Tasks of the event loop; a number that keeps growing is a bug."),
    probe("problems", "1 while a condition of the table holds, 0 otherwise; /readyz lists those that do.", "what"),
)


def updated_by(message: Message) -> tuple[SelfMetric, ...]:
    """Return the metrics that a message updates."""
    own = (message.counts, message.stamps, *(field.metric for field in message.fields))
    return tuple(metric for metric in own if metric is not None)


def _table() -> tuple[SelfMetric, ...]:
    """Collect the metrics of all rows, each once; one name with two meanings is an error at import."""
    found: dict[str, SelfMetric] = {}
    updated = (metric for message in MESSAGES.values() for metric in updated_by(message))
    for metric in (*updated, LOG_MESSAGES, LOG_LINES_LOST, *_PROBES):
        if found.setdefault(metric.name, metric) != metric:
            raise ValueError(f"two self-metrics are named {metric.name}")
    return tuple(found.values())


#: Every self-metric, in the order of the documentation.
SELF_METRICS = _table()
