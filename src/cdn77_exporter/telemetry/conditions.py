"""The table of conditions: everything that keeps the service from being up to date, with what to do about each.

The status page, its title, `/readyz`, the log, the metric `problems`, the documentation and the tests follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from cdn77_exporter.telemetry.messages import MessageName

#: The closed list of names, for the type checker.
ConditionName = Literal[
    "start",
    "standby",
    "bucket",
    "no_files",
    "files_elsewhere",
    "reading",
    "format",
    "decoders",
    "receiver",
    "delivery",
    "lease",
    "state",
    "state_file",
    "clock_doubtful",
    "clock",
    "behind",
    "no_file_lately",
    "shard_silent",
    "shard_lagging",
    "files_missing",
    "files_set_aside",
    "files_left_out",
    "lines_rejected",
    "owed",
    "histograms",
    "deletion",
    "quarantine",
    "sweep",
    "geoip",
]

#: A share of rejected lines above this is told.
REJECTED_SHARE = 0.005


class Severity(StrEnum):
    """The colour of a condition. Only with `AMBER` is the service ready."""

    RED = "red"  # numbers are wrong or missing now, or soon will be permanently
    AMBER = "amber"  # numbers are told, but something is missing; somebody should look today
    WAITING = "waiting"  # nothing is wrong: this process does not count yet

    @property
    def rank(self) -> int:
        """Return a number that is lower for a more urgent severity."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Condition:
    """One row: `name` is the value of the label `what`, and `title` the headline when there is no shorter one.

    `meaning` says when it holds, `action` what to do; a problem that knows better has a remedy of its own. `messages`
    are those of the log that tell the details, `alerts` those of the rules for Prometheus that say the same.
    """

    name: ConditionName
    severity: Severity
    title: str
    meaning: str
    action: str
    messages: tuple[MessageName, ...] = ()
    alerts: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """True when `/readyz` says that the service is ready all the same."""
        return self.severity is Severity.AMBER


_WAITING = (
    Condition(
        "start",
        Severity.WAITING,
        "Starting",
        "no listing of the bucket has succeeded yet",
        "wait; if it lasts, the log says why",
        ("poll_failed",),
    ),
    Condition(
        "standby",
        Severity.WAITING,
        "Standing by",
        "another process works on this state or bucket; this one takes over when it ends",
        "nothing if that is intended; otherwise stop one of the two",
        ("standby_waiting",),
    ),
)

_RED = (
    Condition(
        "bucket",
        Severity.RED,
        "The bucket cannot be read",
        "the bucket cannot be listed",
        "do what the error says; files wait in the bucket",
        ("poll_failed",),
        ("Cdn77PollFailing",),
    ),
    Condition(
        "no_files",
        Severity.RED,
        "No log file has ever been seen",
        "the bucket is listed, and there has never been a log file under `S3_PREFIX`",
        "run `check`, which looks for the right prefix, and check in the CDN77 panel that logs go to this bucket",
        ("poll_finished",),
        ("Cdn77NoLogFiles",),
    ),
    Condition(
        "files_elsewhere",
        Severity.RED,
        "Log files lie in no hour folder",
        "all log files under `S3_PREFIX` lie in no hour folder (YYYYMMDD/HH), where none is looked for",
        "correct `S3_PREFIX`: it names the folder above those of the days",
        ("files_left_out",),
        ("Cdn77NoLogFiles",),
    ),
    Condition(
        "reading",
        Severity.RED,
        "No log file can be read",
        "of the listed log files none can be fetched, or none can be read",
        "look at the bucket and at the file that is named",
        ("file_fetch_failed", "file_unreadable"),
        ("Cdn77NoLogFiles",),
    ),
    Condition(
        "format",
        Severity.RED,
        "Files have another format",
        "files are no logs in the expected format, or have no stream that counts",
        "run `inspect` on one of them; set the format to NDJSON at the CDN, or correct `STREAM_PATTERN`",
        ("file_set_aside",),
        ("Cdn77FilesSetAside",),
    ),
    Condition(
        "decoders",
        Severity.RED,
        "The decoding cluster is away",
        "the cluster that decodes cannot be reached; files wait",
        "check the scheduler that `DASK_SCHEDULER` names, and that it has workers",
        ("decoders_unavailable",),
        ("Cdn77Behind",),
    ),
    Condition(
        "receiver",
        Severity.RED,
        "The receiver takes nothing",
        "the receiver does not answer, answers with failures, or is not set up for remote write",
        "check that the receiver is running and reachable from here",
        ("push_retried", "receiver_misconfigured"),
        ("Cdn77PushFailing", "Cdn77ReceiverMisconfigured"),
    ),
    Condition(
        "delivery",
        Severity.RED,
        "The receiver refuses samples",
        "a request was refused or dropped; its files stay until a later tick is accepted",
        "read the receiver's words and its log",
        ("request_refused", "request_dropped"),
        ("Cdn77RequestsRefused", "Cdn77RequestsDropped"),
    ),
    Condition(
        "lease",
        Severity.RED,
        "The lease is not confirmed",
        "the bucket does not confirm that the lease is this process's own; nothing is pushed until it does",
        "check that the bucket answers, and that no second exporter works on it",
        ("push_retried", "lease_lost"),
        ("Cdn77PushFailing",),
    ),
    Condition(
        "state",
        Severity.RED,
        "The state is not kept",
        "the state cannot be written; nothing is pushed or deleted until it can",
        "check the disk: usually it is full or read-only",
        ("state_commit_failed",),
        ("Cdn77StateNotWritten",),
    ),
    Condition(
        "state_file",
        Severity.RED,
        "The state file is lost",
        "the state file was removed or replaced while the service runs, and cannot be made again",
        "find out who removes it, and make its folder writable",
        ("state_file_lost",),
    ),
    Condition(
        "clock_doubtful",
        Severity.RED,
        "It is not known what time it is",
        "this machine's clock and the bucket's differ, and nothing tells which is right; no sample is written",
        "synchronise this machine's clock (NTP), or set `CLOCK_SOURCE`",
        ("clock_skewed",),
        ("Cdn77ClockSkew",),
    ),
)

_AMBER = (
    Condition(
        "clock",
        Severity.AMBER,
        "A clock is wrong",
        "this machine's clock and the bucket's differ; it is known which one is right, and numbers are",
        "synchronise the clock that is wrong (NTP)",
        ("clock_skewed",),
        ("Cdn77ClockSkew",),
    ),
    Condition(
        "behind",
        Severity.AMBER,
        "Catching up",
        "counting is more than five minutes behind",
        "wait while it shrinks; the pipeline on the page shows which stage is full",
        (),
        ("Cdn77Behind", "Cdn77FarBehind"),
    ),
    Condition(
        "no_file_lately",
        Severity.AMBER,
        "No new log file",
        "no new log file has come for `SHARD_WAIT_SECONDS`, although the bucket is listed",
        "if there is traffic, check in the CDN77 panel that logs are still delivered to this bucket",
        ("poll_finished",),
        ("Cdn77NoLogFiles",),
    ),
    Condition(
        "shard_silent",
        Severity.AMBER,
        "A shard is silent",
        "a shard has delivered nothing for `SHARD_WAIT_SECONDS` while others have",
        "ask the CDN whether it still writes; if it does, its requests are missing",
        ("shard_silent",),
        ("Cdn77ShardSilent",),
    ),
    Condition(
        "shard_lagging",
        Severity.AMBER,
        "A shard lags",
        "a shard is more than `SHARD_WAIT_SECONDS` behind, or its files cannot be fetched; its requests count late",
        "ask the CDN why its files come late; if they cannot be fetched, the log says why",
        ("shard_lagging",),
        ("Cdn77ShardLagging",),
    ),
    Condition(
        "files_missing",
        Severity.AMBER,
        "Log files are missing",
        "the numbers in the names of a shard's files skipped some within the last day, and they have not come since",
        "ask the CDN for the files; what they hold is not counted",
        ("file_counted",),
        ("Cdn77Gaps",),
    ),
    Condition(
        "files_set_aside",
        Severity.AMBER,
        "Files are set aside",
        "files cannot be read; they are not counted and not deleted",
        "run `quarantine list`, and `inspect` on one of them",
        ("file_set_aside",),
        ("Cdn77FilesSetAside",),
    ),
    Condition(
        "files_left_out",
        Severity.AMBER,
        "Old files are not counted",
        "log files came so late that they are older than seven days; they are outside of the lookback and not counted",
        "count them with `backfill` if they matter; move or delete them if not",
        ("files_left_out",),
    ),
    Condition(
        "lines_rejected",
        Severity.AMBER,
        "Lines are rejected",
        "more than 0.5 % of the lines of the last half hour are rejected, those without a stream left out",
        "the page shows an example of each reason; compare the log format at the CDN",
        ("file_counted",),
        ("Cdn77Rejects",),
    ),
    Condition(
        "owed",
        Severity.AMBER,
        "The receiver lacks samples",
        "the receiver has not accepted all of some series for over a minute; they are told again, and files are kept",
        "read the receiver's log; the page names the series",
        ("request_refused", "request_dropped"),
        ("Cdn77RequestsRefused", "Cdn77RequestsDropped"),
    ),
    Condition(
        "histograms",
        Severity.AMBER,
        "Histograms are refused",
        "the receiver refuses native histograms; nothing else waits for them",
        "enable them at the receiver, or choose other `HISTOGRAMS`",
        ("histograms_refused",),
    ),
    Condition(
        "deletion",
        Severity.AMBER,
        "Counted files cannot be deleted",
        "counted files cannot be deleted; they are not counted again",
        "give the key the right to delete, or set `KEEP_FILES=true`",
        ("delete_failed",),
        ("Cdn77DeleteFailing",),
    ),
    Condition(
        "quarantine",
        Severity.AMBER,
        "A file cannot be moved",
        "a file that was set aside cannot be moved to `QUARANTINE_PREFIX`",
        "give the key the right to write there and to delete under `S3_PREFIX`",
        ("quarantine_failed",),
        ("Cdn77FilesSetAside",),
    ),
    Condition(
        "sweep",
        Severity.AMBER,
        "Old folders are not listed",
        "the whole prefix could not be listed several hours in a row, so that files in old folders are not found",
        "do what the error says",
        ("sweep_failed",),
    ),
    Condition(
        "geoip",
        Severity.AMBER,
        "No GeoIP database",
        "the GeoIP database cannot be read; no viewers count by region until it can",
        "put a MaxMind City database there; it is opened without a restart",
        ("geoip_failed",),
    ),
)

#: The table by name, the most urgent first.
CONDITIONS: Mapping[ConditionName, Condition] = MappingProxyType({row.name: row for row in (*_RED, *_AMBER, *_WAITING)})
