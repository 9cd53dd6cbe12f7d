"""The table of messages: everything the service logs, with the fields of each and the self-metrics they update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from cdn77_exporter.core.fields import FIELDS
from cdn77_exporter.core.reasons import REJECT_REASONS, UNREADABLE_REASONS
from cdn77_exporter.telemetry.kinds import LONG_SECONDS, SHORT_SECONDS, SelfMetric, counter, gauge, histogram

#: The closed list of names, for the type checker: a call with another name does not pass `make lint`.
MessageName = Literal[
    "service_started",
    "service_stopping",
    "service_stopped",
    "service_crashed",
    "setting_doubtful",
    "problem_found",
    "problem_solved",
    "secret_reloaded",
    "library_warned",
    "limit_reached",
    "sums_saturated",
    "clock_skewed",
    "listing_entries_ignored",
    "worker_replaced",
    "decoders_unavailable",
    "state_opened",
    "state_older",
    "metrics_changed",
    "windows_filling",
    "device_rules_changed",
    "state_file_lost",
    "state_file_remade",
    "state_commit_failed",
    "standby_waiting",
    "lease_taken",
    "lease_lost",
    "poll_finished",
    "poll_brought_forward",
    "poll_failed",
    "sweep_finished",
    "sweep_failed",
    "files_left_out",
    "file_counted",
    "file_fetch_failed",
    "file_unreadable",
    "file_set_aside",
    "file_gone",
    "file_changed",
    "file_deleted",
    "files_deleted",
    "delete_failed",
    "file_quarantined",
    "quarantine_failed",
    "file_released",
    "shard_lagging",
    "shard_silent",
    "shard_recovered",
    "batch_pushed",
    "batch_incomplete",
    "push_retried",
    "request_refused",
    "request_dropped",
    "request_outcome_unknown",
    "request_limit_learned",
    "request_limit_lifted",
    "remote_write_version",
    "histograms_refused",
    "histograms_taken",
    "metadata_refused",
    "outbox_left",
    "receiver_misconfigured",
    "geoip_loaded",
    "geoip_failed",
    "status_server_started",
    "status_answer_failed",
    "status_host_refused",
]


class Level(StrEnum):
    """The severity of a message."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """Return a number that is higher for a more severe level."""
        return list(Level).index(self)


class Holds(StrEnum):
    """The content of a field, which decides how it is masked and how it updates a metric."""

    NUMBER = "number"  # a counter grows by it, a gauge is set to it, a histogram observes it
    FLAG = "true or false"
    NAME = "name"  # an identifier such as a file's key: secrets are masked, a dotted number is not taken for an address
    TEXT = "text"  # free text: secrets and IP addresses are masked
    TABLE = "object"  # numbers or texts by name, masked like text; a counter grows by each number under its name


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message, and the metric that it updates.

    A `NAME` increments its counter under the label value that it holds.
    """

    name: str
    holds: Holds
    help: str
    metric: SelfMetric | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that can happen; its name is in the past tense.

    `counts`: a counter that grows by one, under `outcome` if it has that label. `stamps`: a gauge that is set to the
    current time. Further metrics stand beside the fields that update them.
    """

    name: MessageName
    level: Level
    fields: tuple[Field, ...]
    meaning: str
    action: str
    counts: SelfMetric | None = None
    outcome: str = ""
    stamps: SelfMetric | None = None


_NONE = "None."


def _number(name: str, help: str, metric: SelfMetric | None = None) -> Field:
    return Field(name, Holds.NUMBER, help, metric)


def _flag(name: str, help: str) -> Field:
    return Field(name, Holds.FLAG, help)


def _name(name: str, help: str, metric: SelfMetric | None = None) -> Field:
    return Field(name, Holds.NAME, help, metric)


def _text(name: str, help: str) -> Field:
    return Field(name, Holds.TEXT, help)


def _table(name: str, help: str, metric: SelfMetric | None = None) -> Field:
    return Field(name, Holds.TABLE, help, metric)


_KEY = _name("key", "the object's key in the bucket")
_ERROR = _text("error", "what went wrong, in a sentence")
_REMEDY = _text("remedy", "what to do about it")
_REASON = _name("reason", "why, from the closed list of reasons")

_POLLS = counter("polls_total", "Listings of the bucket, by outcome.", outcome=("finished", "failed"))
_FILES = counter(
    "files_total",
    "Files, by what became of them.",
    outcome=("counted", "fetch_failed", "unreadable", "set_aside", "gone", "changed"),
)
_PUSHES = counter("pushes_total", "Finished batches, by outcome.", outcome=("accepted", "incomplete"))

_SERVICE = (
    Message(
        "service_started",
        Level.INFO,
        (
            _name("version", "the exporter's version"),
            _name("python", "the interpreter's version"),
            _number("timestamp_offset_ms", "milliseconds added to the time of every sample"),
            _number(
                "first_tick", "the floor: the first tick that this state may hold, Unix seconds; a restart keeps it"
            ),
            _table("settings", "the settings; secrets are masked"),
        ),
        "The service is set up and starts to poll.",
        _NONE,
    ),
    Message(
        "service_stopping",
        Level.INFO,
        (
            _name("signal", "the signal that asked for it"),
            _number("drain_seconds", "the grace period for in-flight work"),
        ),
        "A signal asked the service to stop. It lists no more files and finishes the work in flight.",
        _NONE,
    ),
    Message(
        "service_stopped",
        Level.INFO,
        (
            _flag("drained", "whether all work in flight was finished within `DRAIN_SECONDS`"),
            _number("seconds", "how long the service ran"),
        ),
        "The service has ended after a signal.",
        "None. Unfinished files are still in the bucket and are counted after the next start; if `drained` is often "
        "false, raise `DRAIN_SECONDS`.",
    ),
    Message(
        "service_crashed",
        Level.ERROR,
        (
            _name("stage", "where it happened"),
            _ERROR,
            _text("traceback", "the calls that led there, without the values of variables"),
        ),
        "An unexpected error ended the service with exit code 1. Nothing is lost.",
        "Let the supervisor restart it. If it happens again at once, read `error`; a bug report needs the line.",
    ),
    Message(
        "setting_doubtful",
        Level.WARNING,
        (_name("setting", "the environment variable"), _text("doubt", "what looks wrong")),
        "The settings are usable, but one of them looks like a mistake.",
        "Correct the variable, or ignore this if the value is intended.",
    ),
    Message(
        "problem_found",
        Level.WARNING,
        (
            _name("what", "the condition's name"),
            _name("severity", "`red`, `amber` or `waiting`"),
            _text("words", "what is wrong, and how much"),
            _REMEDY,
        ),
        "A condition of the table begins to hold. The status page, `/readyz` and the metric "
        "`cdn77_exporter_problems` say the same as long as it does.",
        "Do what `remedy` says.",
    ),
    Message(
        "problem_solved",
        Level.INFO,
        (_name("what", "the condition's name"), _number("seconds", "how long it held")),
        "A condition of the table no longer holds.",
        _NONE,
    ),
    Message(
        "secret_reloaded",
        Level.INFO,
        (_name("setting", "the variable that names the secret"),),
        "The file of a secret has changed; the new value is used from now on.",
        _NONE,
        counts=counter("secret_reloads_total", "Secrets that were read again because their file changed."),
    ),
    Message(
        "library_warned",
        Level.WARNING,
        (_name("library", "the name of the library's logger"), _text("text", "the warning")),
        "A library that the service uses logged a warning.",
        "Usually none; it helps to understand other messages near it.",
        counts=counter("library_warnings_total", "Warnings of libraries."),
    ),
    Message(
        "limit_reached",
        Level.WARNING,
        (
            _name(
                "limit",
                "the setting that is the limit",
                counter(
                    "limits_reached_total",
                    "How often a limit on streams, series or values of a label was reached.",
                    limit=("MAX_STREAMS", "MAX_SERIES", "MAX_LABEL_VALUES"),
                ),
            ),
            _number("value", "the limit; a tenth of `MAX_SERIES` is how many series may begin in one tick"),
            _number("refused", "requests counted under `other` so far"),
        ),
        "There are so many streams, series or values of a label (such as `pop`) that new ones are no longer counted "
        "under their own names but as `other`, so that totals stay true.",
        "Find out who requests so many streams, or where such values come from. If they are real, raise the limit; if "
        "not, name your streams in `STREAM_ALLOWLIST`.",
    ),
    Message(
        "sums_saturated",
        Level.WARNING,
        (_number("count", "how many", counter("saturated_sums_total", "Sums of a tick that ended at 2^63 - 1.")),),
        "A sum of one tick, such as that of `responseBytes` for one stream, would not fit into 64 bits. It ends at "
        "2^63 - 1, so that those counters are too low.",
        "Run `inspect` on the newest files: no honest request has a value of that size. Tell the CDN.",
    ),
    Message(
        "clock_skewed",
        Level.WARNING,
        (
            _number("skew_seconds", "this machine's clock minus the bucket's"),
            _flag("believed", "whether it is known which is right; if not, no sample is written"),
            _ERROR,
        ),
        "This machine's clock and the bucket's are more than a minute apart. The one that the newest events agree with "
        "is believed, once they have for 30 seconds. While nothing decides, files are counted, but no sample is "
        "written.",
        "Synchronise this machine's clock (NTP). If the bucket's is wrong, tell those who run it; if nothing decides, "
        "say `CLOCK_SOURCE=machine` or `CLOCK_SOURCE=bucket`.",
    ),
    Message(
        "listing_entries_ignored",
        Level.WARNING,
        (
            _name("reason", "why they are no files"),
            _number("entries", "how many, since the last such message of that reason"),
            _text("key", "the key of one of them"),
        ),
        "The bucket's listings name objects that are left alone: without an ETag, with an impossible size or time, "
        "outside of the prefix that was asked for, or with a folder named by dots.",
        "Look at the object. If the server names all of them so, it cannot be used as a bucket of logs.",
    ),
    Message(
        "worker_replaced",
        Level.WARNING,
        (_name("worker", "which one"), _ERROR, _number("files", "files that are decoded again")),
        "A decoding worker has died. A new one decodes its files again; nothing is lost or counted twice.",
        "If it repeats, look for the kernel's out-of-memory killer.",
        counts=counter("workers_replaced_total", "Decoding workers that died and were replaced."),
    ),
    Message(
        "decoders_unavailable",
        Level.WARNING,
        (_ERROR, _number("files", "files that wait for the cluster")),
        "The cluster that decodes cannot be reached, or none of its workers answers. The files wait; nothing is lost.",
        "Check the scheduler that `DASK_SCHEDULER` names, and that it has workers.",
        counts=counter("decoders_unavailable_total", "How often the cluster that decodes could not be reached."),
    ),
)

_STATE = (
    Message(
        "state_opened",
        Level.INFO,
        (
            _name("path", "where the state is"),
            _flag("fresh", "whether it was created just now"),
            _number("last_tick", "the last tick that an earlier process wrote, Unix seconds"),
            _number("series", "series restored"),
            _number("viewers", "viewers restored"),
            _number("files", "files in the ledger"),
            _number("outbox", "requests that are still to be sent"),
            _number("seconds", "how long restoring took"),
        ),
        "The state is open and locked by this process.",
        "None; but `fresh` on any start after the first means that the state was not kept: check the volume.",
    ),
    Message(
        "state_older",
        Level.WARNING,
        (
            _name("path", "the file, `s3://...` for a bucket, or `off`"),
            _number("last_tick", "the last tick that the state knows, Unix seconds"),
            _number("pushed_tick", "the last tick that was pushed, as the bucket remembers it"),
        ),
        "The state is older than what was pushed: a backup was restored, or the service ran with another state in "
        "between. Every counter begins again at zero, so that `rate()` and `increase()` stay right; the ledger and the "
        "viewers are those of the state.",
        "None if you restored a backup. Files that were counted after the backup was made and are still in the bucket "
        "are counted again; with `KEEP_FILES` these are all that are listed.",
        counts=counter("states_older_total", "Starts with a state that was older than what was pushed."),
    ),
    Message(
        "metrics_changed",
        Level.INFO,
        (
            _text("new", "metrics that the state did not have; they begin at zero"),
            _text("relabelled", "metrics whose labels are others than before; their series begin anew, at zero"),
            _text("ended", "metrics that are no longer sent"),
        ),
        "The metrics are not those of the state: another version of the exporter was started, or `EXTERNAL_LABELS`, "
        "`METRICS_OFF`, `LABELS_OFF` or the file of measures was changed. All others go on. What relabelled counters "
        "had counted and not told is told under the new labels; the series under the old ones end with stale markers.",
        _NONE,
    ),
    Message(
        "windows_filling",
        Level.WARNING,
        (
            _name("windows", "the windows of `SESSION_WINDOW_SECONDS` and `ACTIVE_WINDOWS`, as their labels say"),
            _number("kept_seconds", "how far back the state knows viewers"),
        ),
        "These windows of active viewers are longer than those that the state was written with. Their gauges begin "
        "with the viewers that the state knows, and are right once a whole window has passed. All other numbers go "
        "on.",
        _NONE,
    ),
    Message(
        "device_rules_changed",
        Level.INFO,
        (
            _name("path", "the file of the rules, or `built-in`"),
            _number("types", "the device types that there can be now, with `other`"),
        ),
        "The rules that tell device types have changed since the state was written. Viewers in the session window get "
        "their new type with their next request; their old one counts them too until the window has passed.",
        _NONE,
    ),
    Message(
        "state_file_lost",
        Level.ERROR,
        (_name("path", "the file"), _name("how", "`removed`, or `replaced` by another file")),
        "The state file is no longer in its place, although the service has it open and goes on writing to it. It is "
        "made again, whole; a file that has taken its place is kept beside it, with `.replaced` behind its name.",
        "Find out who removes it. To start from a backup, stop the service first.",
        counts=counter("state_files_lost_total", "How often the state file was found removed or replaced."),
    ),
    Message(
        "state_file_remade",
        Level.WARNING,
        (_name("path", "the file"),),
        "The state file that was removed or replaced is there again, with everything in it.",
        _NONE,
    ),
    Message(
        "state_commit_failed",
        Level.ERROR,
        (_ERROR, _REMEDY),
        "The state could not be written. Writing is retried; nothing is pushed, deleted or lost meanwhile.",
        "Do what `remedy` says: usually the disk is full or read-only.",
        counts=counter("commit_failures_total", "Failed attempts to write the state."),
    ),
    Message(
        "standby_waiting",
        Level.INFO,
        (
            _ERROR,
            _name("holder", "the process that holds the lease, if there is one"),
            _number("expires_seconds", "when its lease ends unless renewed"),
        ),
        "Another process works on this state or bucket. This one waits and takes over when the other is gone.",
        "None if that is intended; otherwise stop one of the two.",
    ),
    Message(
        "lease_taken",
        Level.INFO,
        (_name("holder", "this process"), _name("previous", "the process that held it before")),
        "This process holds the lease of the bucket and works.",
        _NONE,
    ),
    Message(
        "lease_lost",
        Level.ERROR,
        (_ERROR, _name("holder", "the process that holds it now")),
        "This process no longer holds the lease of the bucket. It stops at once, so that nothing is counted twice.",
        "None: the other process goes on. If it repeats, two exporters have different state but the same bucket.",
    ),
)

_LISTING = (
    Message(
        "poll_finished",
        Level.INFO,
        (
            _number("listed", "objects listed", gauge("listed_files", "Objects in the hour folders at the last poll.")),
            _number("new", "files not seen before", gauge("new_files", "Files that the last poll found new.")),
            _number(
                "others",
                "objects in these folders that are no log files, by `S3_SUFFIX`",
                gauge("other_objects", "Objects in the hour folders that are no log files; they are left alone."),
            ),
            _number("empty", "log files without a single byte, which are skipped"),
            _number("seconds", "how long it took", histogram("poll_seconds", "Duration of a poll.", SHORT_SECONDS)),
        ),
        "The hour folders were listed.",
        _NONE,
        counts=_POLLS,
        outcome="finished",
        stamps=gauge("last_poll_success_timestamp_seconds", "When the bucket was last listed; 0 for never."),
    ),
    Message(
        "poll_brought_forward",
        Level.INFO,
        (
            _number("seconds", "how much sooner than `POLL_INTERVAL` after the last one the next poll starts"),
            _number("gain_seconds", "how much fresher samples are from then on, on average"),
        ),
        "The next poll comes early, so that it and those after it find files soon after they appear.",
        _NONE,
    ),
    Message(
        "poll_failed",
        Level.ERROR,
        (_ERROR, _REMEDY),
        "The bucket could not be listed. The next poll tries again; files wait in the bucket.",
        "Do what `remedy` says, if it repeats.",
        counts=_POLLS,
        outcome="failed",
    ),
)

_SWEEP = (
    Message(
        "sweep_finished",
        Level.INFO,
        (
            _number("listed", "log files listed"),
            _number("found", "files that no poll had seen, which the next one takes"),
            _number(
                "left",
                "files that are not counted, being too old, older than this state, or in no hour folder",
                gauge("left_files", "Log files under the prefix that are not counted, as the last sweep found."),
            ),
            _number(
                "oldest_seconds",
                "the age of the oldest of these",
                gauge("left_files_oldest_seconds", "The age of the oldest of the left files; 0 without any."),
            ),
            _number("seconds", "how long it took"),
        ),
        "The whole prefix was listed, which happens once an hour, to find files whose folders are no longer polled.",
        _NONE,
    ),
    Message(
        "sweep_failed",
        Level.WARNING,
        (_ERROR, _REMEDY),
        "The whole prefix could not be listed. Polls go on; the next hour tries again. What only sweeps find, such as "
        "files that were uploaded late into old folders, is not counted until one succeeds.",
        "Do what `remedy` says, if it repeats: from the second time in a row on it is a problem (`sweep`).",
    ),
    Message(
        "files_left_out",
        Level.WARNING,
        (
            _number("count", "how many"),
            _number("oldest_seconds", "the age of the oldest"),
            _name("key", "the key of that one"),
        ),
        "Log files lie in the bucket that are not counted: they are older than seven days, were uploaded before this "
        "state began to count, or lie in no hour folder under `S3_PREFIX`. They are not deleted.",
        "Count them with `backfill` if they matter; delete or move them if not.",
    ),
)

_FILE = (
    Message(
        "file_counted",
        Level.INFO,
        (
            _KEY,
            _name("shard", "the shard that wrote it"),
            _number("size", "compressed bytes", counter("file_bytes_total", "Compressed bytes of counted files.")),
            _number("lines", "lines in it", counter("lines_total", "Lines in counted files.")),
            _number("events", "lines that are counted", counter("events_total", "Lines that are counted.")),
            _table(
                "rejects",
                "rejected lines, by reason",
                counter("rejects_total", "Rejected lines, by reason.", reason=REJECT_REASONS),
            ),
            _table(
                "ignored",
                "malformed values of lines that count, by field",
                counter(
                    "ignored_fields_total",
                    "Malformed values of lines that count, by field: taken as missing, or characters replaced.",
                    field=FIELDS,
                ),
            ),
            _number(
                "late",
                "events whose tick was already written; they count in the next one",
                counter("late_events_total", "Events that came after their tick and count in the next one."),
            ),
            _number(
                "late_seconds",
                "how late the latest of them was; left out if there is none",
                histogram("late_seconds", "How late the latest event of a file with late events was.", LONG_SECONDS),
            ),
            _number(
                "skipped",
                "sequence numbers missing before this file",
                counter("skipped_files_total", "Sequence numbers that are missing between files of a shard."),
            ),
            _number("fetch_seconds", "download", histogram("fetch_seconds", "Duration of a download.", SHORT_SECONDS)),
            _number(
                "decode_seconds",
                "inflating, decoding and adding up",
                histogram("decode_seconds", "Time to decode a file.", SHORT_SECONDS),
            ),
        ),
        "A file was fetched, decoded and added to the counters; each file gets this one line.",
        "None. If many `rejects` have one reason, compare the log format at the CDN with what the exporter expects "
        "(`inspect` shows examples).",
        counts=_FILES,
        outcome="counted",
    ),
    Message(
        "file_fetch_failed",
        Level.WARNING,
        (_KEY, _ERROR),
        "A file could not be downloaded. A later poll tries it again.",
        "None unless it repeats; then the error says whether it is the network or the key's rights.",
        counts=_FILES,
        outcome="fetch_failed",
    ),
    Message(
        "file_unreadable",
        Level.WARNING,
        (
            _KEY,
            _name(
                "reason",
                "why, from the closed list of reasons",
                counter(
                    "unreadable_files_total",
                    "Failed attempts to read a file, by reason.",
                    reason=UNREADABLE_REASONS,
                ),
            ),
            _number("attempt", "how often it has been tried"),
            _text("detail", "what was found, such as the number of lines and one of them"),
        ),
        "A file cannot be read whole. None of it is counted, it is not deleted, and later polls try it again.",
        "None yet: it may have been listed while it was written.",
        counts=_FILES,
        outcome="unreadable",
    ),
    Message(
        "file_set_aside",
        Level.ERROR,
        (_KEY, _REASON, _text("detail", "what was found, such as the number of lines and one of them")),
        "A file cannot be counted and is not tried again: it could not be fetched or read at several polls, or is no "
        "log in the expected format. It stays in the bucket, or is moved to `QUARANTINE_PREFIX`.",
        "Download it and run `inspect` on it; tell the CDN if it is broken there. For `not_a_log`, set the format of "
        "the logs to NDJSON at the CDN; for `no_stream_yet`, correct `STREAM_PATTERN`, after which these files count.",
        counts=_FILES,
        outcome="set_aside",
    ),
    Message(
        "file_gone",
        Level.WARNING,
        (_KEY,),
        "A file was listed but no longer existed when it was downloaded; this process does not count its requests.",
        "Find out what else deletes files in this bucket: a second exporter, or a lifecycle rule.",
        counts=_FILES,
        outcome="gone",
    ),
    Message(
        "file_changed",
        Level.WARNING,
        (_KEY,),
        "A file that was counted has been overwritten. It is not deleted; the new content is a file of its own.",
        "Find out what else writes into the bucket besides the CDN.",
        counts=_FILES,
        outcome="changed",
    ),
    Message(
        "file_deleted",
        Level.DEBUG,
        (_KEY,),
        "A file was deleted after everything in it had been acknowledged.",
        _NONE,
    ),
    Message(
        "files_deleted",
        Level.INFO,
        (
            _number(
                "count",
                "how many files",
                counter("deleted_files_total", "Files deleted after everything in them was acknowledged."),
            ),
        ),
        "Files were deleted after everything in them had been acknowledged.",
        _NONE,
    ),
    Message(
        "delete_failed",
        Level.WARNING,
        (
            _number(
                "count",
                "how many files",
                counter("delete_failures_total", "Failed deletions of a file; each is retried."),
            ),
            _ERROR,
        ),
        "Counted files could not be deleted. They are not counted again; the deletion is retried.",
        "Give the key the right to delete, or set `KEEP_FILES=true`.",
    ),
    Message(
        "file_quarantined",
        Level.WARNING,
        (_KEY, _name("target", "where it is now"), _REASON),
        "A file that was set aside was moved to `QUARANTINE_PREFIX`, with its reason beside it.",
        "See `file_set_aside`.",
        counts=counter("quarantined_files_total", "Files moved to QUARANTINE_PREFIX."),
    ),
    Message(
        "quarantine_failed",
        Level.WARNING,
        (_KEY, _ERROR),
        "A file that was set aside could not be moved to `QUARANTINE_PREFIX`. It stays where it is; the move is "
        "retried.",
        "Give the key the right to write under `QUARANTINE_PREFIX` and to delete under `S3_PREFIX`; `error` says which "
        "is missing.",
    ),
    Message(
        "file_released",
        Level.INFO,
        (_KEY,),
        "A file that was set aside has been written again since (`quarantine release` does that); it is tried again.",
        _NONE,
    ),
)

_SHARD = _name("shard", "the shard: the number in the names of its files")
_NEWEST = _number("newest", "its newest event that is counted, Unix seconds; left out if there is none")

_SHARDS = (
    Message(
        "shard_lagging",
        Level.WARNING,
        (
            _SHARD,
            _NEWEST,
            _number("behind_seconds", "how far its newest event is behind the watermark"),
            _number("files", "its files that are listed and not counted yet"),
        ),
        "A shard is more than `SHARD_WAIT_SECONDS` behind the others (behind the time, when every shard is), or none "
        "of its files can be fetched. It is not waited for: what it delivers counts late, but counts.",
        "Ask the CDN why this shard's files come late; if files cannot be fetched, see `file_fetch_failed`.",
    ),
    Message(
        "shard_silent",
        Level.WARNING,
        (_SHARD, _NEWEST, _number("silent_seconds", "since when it has delivered nothing")),
        "A shard has delivered nothing for `SHARD_WAIT_SECONDS` while others have. After an hour it is taken for one "
        "that has ended.",
        "Ask the CDN whether this shard still writes; if it does, its requests are missing.",
    ),
    Message(
        "shard_recovered",
        Level.INFO,
        (_SHARD, _NEWEST),
        "A shard that lagged or was silent delivers again and is waited for.",
        _NONE,
    ),
)

_BATCH = (
    _number("first_tick", "Unix seconds"),
    _number("last_tick", "Unix seconds"),
    _number("requests", "write requests"),
    _number("samples", "samples in them", counter("samples_pushed_total", "Samples in finished batches.")),
    _number("size", "bytes sent", counter("pushed_bytes_total", "Bytes of the requests in finished batches.")),
    _number(
        "seconds",
        "from the first attempt to the last answer",
        histogram("push_seconds", "Duration of pushing a batch, retries included.", SHORT_SECONDS),
    ),
    _number(
        "lag_seconds",
        "the clock minus the last tick",
        histogram("push_lag_seconds", "Age of a batch's last tick when the batch was finished.", LONG_SECONDS),
    ),
)

_MISSING = (
    _number("series", "how many series of it"),
    _text("example", "the first of them"),
)

_PUSH = (
    Message(
        "batch_pushed",
        Level.INFO,
        _BATCH,
        "The receiver accepted all requests of one or more ticks; each accepted batch gets this one line.",
        _NONE,
        counts=_PUSHES,
        outcome="accepted",
        stamps=gauge("last_push_success_timestamp_seconds", "When a batch was last accepted; 0 for never."),
    ),
    Message(
        "batch_incomplete",
        Level.WARNING,
        _BATCH,
        "A batch is finished, but not all of its requests were accepted: at least one was refused or dropped.",
        "See `request_refused` or `request_dropped` before it.",
        counts=_PUSHES,
        outcome="incomplete",
    ),
    Message(
        "push_retried",
        Level.WARNING,
        (
            _number("attempt", "which attempt failed"),
            _ERROR,
            _number("wait_seconds", "until the next"),
        ),
        "The receiver did not take a request. The same bytes are sent again; files wait in the bucket meanwhile.",
        "Check the receiver, if it repeats.",
        counts=counter("push_retries_total", "Requests sent again after a transient failure."),
    ),
    Message(
        "request_refused",
        Level.ERROR,
        (_number("status", "the HTTP status"), _text("words", "the receiver's answer"), *_MISSING),
        "The receiver refused a request, or some series of one, permanently. They are not sent again; the files stay "
        "until later ticks have told their counts.",
        "Read `words`: out of order means that two exporters write the same series, or that events are older than the "
        "receiver accepts.",
        counts=counter("requests_refused_total", "Requests of which the receiver refused something permanently."),
    ),
    Message(
        "request_dropped",
        Level.ERROR,
        (
            _number("attempts", "how often it was sent"),
            _number("seconds", "for how long"),
            _ERROR,
            *_MISSING,
        ),
        "The receiver has answered with failures for longer than `PUSH_RETRY_SECONDS`, or fails on some series while "
        "it takes others. What fails is dropped, so that what is behind it can be sent; the files stay until later "
        "ticks have told its counts.",
        "Check the receiver's own log; some refuse single requests with a server error.",
        counts=counter("requests_dropped_total", "Requests of which something was dropped after failures."),
    ),
    Message(
        "request_outcome_unknown",
        Level.WARNING,
        (_ERROR,),
        "The answer to a request was lost, and what the receiver says now does not tell whether it has the request. It "
        "is taken as stored, since its counts could be counted twice otherwise.",
        "If it repeats, look at the network between the exporter and the receiver, and compare with `reconcile`.",
        counts=counter("requests_unknown_total", "Requests whose answer was lost, so that they may be stored or not."),
    ),
    Message(
        "request_limit_learned",
        Level.WARNING,
        (
            _number("samples", "the most samples of a request from now on"),
            _number("size", "the most bytes of a request before compression"),
        ),
        "The receiver refuses larger requests (413, or words to that effect). Requests are made smaller from now on; "
        "larger ones are tried again after an hour, and less often when they fail.",
        "None is needed. Fewer requests do if the receiver's limit, or that of a proxy before it, is raised.",
    ),
    Message(
        "request_limit_lifted",
        Level.INFO,
        (),
        "The receiver takes large requests again.",
        _NONE,
    ),
    Message(
        "remote_write_version",
        Level.INFO,
        (_number("version", "1 or 2"),),
        "The version of remote write in which samples are sent from now on, by what the receiver understands.",
        "None. `REMOTE_WRITE_VERSION` says which versions are tried.",
    ),
    Message(
        "histograms_refused",
        Level.ERROR,
        (_number("status", "the HTTP status"), _text("words", "the receiver's answer"), _REMEDY),
        "The receiver takes no native histograms. They are tried again every minute; counters are not affected, files "
        "are deleted as usual, and what the histograms miss is told once they are taken. Said once, until then.",
        "Do what `remedy` says.",
        counts=counter("histograms_refused_total", "Times at which the receiver began to refuse native histograms."),
    ),
    Message(
        "histograms_taken",
        Level.INFO,
        (),
        "The receiver takes native histograms again.",
        _NONE,
    ),
    Message(
        "metadata_refused",
        Level.INFO,
        (_ERROR,),
        "The receiver does not take the descriptions of the metrics. They are not sent for some hours; samples are not "
        "affected.",
        "None; `SEND_METADATA=false` sends none.",
    ),
    Message(
        "outbox_left",
        Level.WARNING,
        (_number("requests", "committed requests that the receiver does not have yet"),),
        "The service stopped while the receiver did not answer. The state keeps the requests, and the next start sends "
        "them first.",
        "Start the service again with the same state, and make sure that the receiver is up.",
    ),
    Message(
        "receiver_misconfigured",
        Level.ERROR,
        (_ERROR, _REMEDY),
        "The receiver rejects everything because of a wrong setting, here or there (credentials, address, certificate, "
        "remote write switched off). The request is kept and retried slowly; nothing is deleted from the bucket.",
        "Do what `remedy` says.",
        counts=counter("receiver_misconfigured_total", "Attempts that failed because of a wrong setting."),
    ),
)

_OTHER = (
    Message(
        "geoip_loaded",
        Level.INFO,
        (
            _name("path", "the database file"),
            _number(
                "build_epoch",
                "when it was built, Unix seconds",
                gauge("geoip_database_build_timestamp_seconds", "When the GeoIP database was built; 0 for none."),
            ),
            _name("kind", "its type"),
        ),
        "A GeoIP database was opened, at the start or because the file was replaced.",
        "None; replace a database that is older than a month.",
    ),
    Message(
        "geoip_failed",
        Level.WARNING,
        (_name("path", "the database file"), _ERROR),
        "The GeoIP database cannot be read. The previous one stays in use; without one, no viewers count by region.",
        "Put a MaxMind City database (`.mmdb`) there; it is opened without a restart.",
        counts=counter("geoip_failures_total", "Failed attempts to open the GeoIP database."),
    ),
    Message(
        "status_server_started",
        Level.INFO,
        (_name("address", "where it listens"),),
        "The status server answers `/metrics`, `/healthz` and `/readyz`.",
        _NONE,
    ),
    Message(
        "status_answer_failed",
        Level.ERROR,
        (_text("path", "the path of the request"), _ERROR),
        "The status server could not answer a request because of an error of its own. Counting is not affected.",
        "Report it as a bug.",
        counts=counter("status_failures_total", "Requests that the status server failed to answer."),
    ),
    Message(
        "status_host_refused",
        Level.WARNING,
        (_text("host", "the name in the request's `Host` header"),),
        "The status server was asked by a name that is not its own, and refused. A web page whose name was made to "
        "lead here (DNS rebinding) could read it otherwise. Each name is told once, ten at most.",
        "If it is a name under which you reach the server, add it to `HTTP_HOSTS`.",
    ),
)

#: The table with headings, in the order of the documentation.
SECTIONS: tuple[tuple[str, tuple[Message, ...]], ...] = (
    ("The service", _SERVICE),
    ("State", _STATE),
    ("Files", (*_LISTING, *_SWEEP, *_FILE, *_SHARDS)),
    ("Pushing", _PUSH),
    ("Other", _OTHER),
)

#: The table by name.
MESSAGES: Mapping[str, Message] = MappingProxyType({row.name: row for _, section in SECTIONS for row in section})
