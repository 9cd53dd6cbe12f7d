"""Everything the service can say: the closed list of events, their fields, and the self-metrics that each moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Level(StrEnum):
    """How much an event wants attention."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """Higher is graver."""
        return list(Level).index(self)


class Holds(StrEnum):
    """What a field holds, which decides how it is masked."""

    NUMBER = "number"
    FLAG = "true or false"
    NAME = "name"  # an identifier such as a file's key: secrets are masked, a dotted number is not an address
    TEXT = "text"  # free text: secrets and IP addresses are masked
    TABLE = "object"  # names with numbers or texts, masked like text


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event."""

    name: str
    holds: Holds
    help: str


@dataclass(frozen=True, slots=True)
class Move:
    """How an event moves a self-metric.

    `by`: the field that says by how much (or what to set or observe); without one a counter moves by one, and a
    timestamp is set to now. A table moves the metric once for each of its names. `only_if`: the field that must be
    true, or with a `!` false. Label values are constants, or with a `$` the value of a field (`$*`: a table's name).
    """

    metric: str
    by: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    only_if: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that can happen; past tense."""

    name: str
    level: Level
    fields: tuple[Field, ...]
    meaning: str
    action: str
    moves: tuple[Move, ...] = ()


_NONE = "None."
_N, _F, _K, _T, _O = Holds.NUMBER, Holds.FLAG, Holds.NAME, Holds.TEXT, Holds.TABLE

_KEY = Field("key", _K, "the object's key in the bucket")
_ERROR = Field("error", _T, "what went wrong, in a sentence")
_REMEDY = Field("remedy", _T, "what to do about it")
_SECONDS = Field("seconds", _N, "how long it took")
_COUNT = Field("count", _N, "how many files")
_REASON = Field("reason", _K, "why, from the closed list of reasons")


def _one(metric: str, only_if: str = "", **labels: str) -> Move:
    return Move(metric, labels=tuple(labels.items()), only_if=only_if)


_SERVICE = (
    Message(
        "service_started",
        Level.INFO,
        (
            Field("version", _K, "the exporter's version"),
            Field("python", _K, "the interpreter's version"),
            Field("timestamp_offset_ms", _N, "milliseconds that every sample is shifted by"),
            Field(
                "first_tick", _N, "the floor: the first tick that this state may hold, Unix seconds; a restart keeps it"
            ),
            Field("settings", _O, "the configuration in force; secrets are masked"),
        ),
        "The service is set up and begins to poll.",
        _NONE,
    ),
    Message(
        "service_stopping",
        Level.INFO,
        (
            Field("signal", _K, "the signal that asked for it"),
            Field("drain_seconds", _N, "how long what is under way may take"),
        ),
        "A signal asked the service to stop. It lists no more and finishes what is under way.",
        _NONE,
    ),
    Message(
        "service_stopped",
        Level.INFO,
        (
            Field("drained", _F, "whether everything under way was finished within `DRAIN_SECONDS`"),
            Field("seconds", _N, "how long the service ran"),
        ),
        "The service has ended after a signal.",
        "None. What was not finished is still in the bucket and is counted after the next start; if `drained` is often "
        "false, set `DRAIN_SECONDS` higher.",
    ),
    Message(
        "service_crashed",
        Level.ERROR,
        (
            Field("stage", _K, "where it happened"),
            _ERROR,
            Field("traceback", _T, "the calls that led there, without the values of variables"),
        ),
        "Something happened that the program does not know how to survive. It ends with exit code 1; nothing is lost.",
        "Let the supervisor start it again. If it happens again at once, read `error`; a bug report needs the line.",
    ),
    Message(
        "setting_doubtful",
        Level.WARNING,
        (Field("setting", _K, "the environment variable"), Field("doubt", _T, "what looks wrong")),
        "The configuration is usable, but something in it looks like a mistake.",
        "Correct the variable, or leave it when it is meant so.",
    ),
    Message(
        "secret_reloaded",
        Level.INFO,
        (Field("setting", _K, "the variable that names the secret"),),
        "The file of a secret has changed; the new value is used from now on.",
        _NONE,
        (_one("secret_reloads_total"),),
    ),
    Message(
        "library_warned",
        Level.WARNING,
        (Field("library", _K, "who said it"), Field("text", _T, "what was said")),
        "A library that the service uses wrote a warning.",
        "Usually none; it helps to understand other events near it.",
        (_one("library_warnings_total"),),
    ),
    Message(
        "limit_reached",
        Level.WARNING,
        (
            Field("limit", _K, "the setting that is the bound"),
            Field("value", _N, "the bound"),
            Field("refused", _N, "requests counted under `other` so far"),
        ),
        "There are so many streams or series that new ones no longer count on their own: they are counted under "
        '`stream_name="other"`, so that totals stay true.',
        "Find out who requests so many streams. If they are real, set the limit higher; if not, name yours in "
        "`STREAM_ALLOWLIST`.",
        (Move("limits_reached_total", labels=(("limit", "$limit"),)),),
    ),
    Message(
        "clock_skewed",
        Level.WARNING,
        (Field("skew_seconds", _N, "this machine's clock less the bucket's"),),
        "This machine's clock differs from the bucket's by more than a minute. The bucket's is used.",
        "Set the clock (NTP).",
    ),
    Message(
        "worker_replaced",
        Level.WARNING,
        (Field("worker", _K, "which one"), _ERROR, Field("files", _N, "files that are decoded again")),
        "A decoding worker has died. A new one decodes its files again; nothing is lost or counted twice.",
        "If it repeats, look for the kernel's out-of-memory killer.",
        (_one("workers_replaced_total"),),
    ),
    Message(
        "decoders_unavailable",
        Level.WARNING,
        (_ERROR, Field("files", _N, "files that wait for it")),
        "The cluster that decodes cannot be reached, or none of its workers answers. The files wait; nothing is lost.",
        "Look at the scheduler that `DASK_SCHEDULER` names, and whether it has workers.",
        (_one("decoders_unavailable_total"),),
    ),
)

_STATE = (
    Message(
        "state_opened",
        Level.INFO,
        (
            Field("path", _K, "where the state is"),
            Field("fresh", _F, "whether it was made just now"),
            Field("last_tick", _N, "the last tick that an earlier process wrote, Unix seconds"),
            Field("series", _N, "series restored"),
            Field("viewers", _N, "viewers restored"),
            Field("files", _N, "files in the ledger"),
            Field("outbox", _N, "requests that are still to be sent"),
            _SECONDS,
        ),
        "The state is open and this process holds its lock.",
        "None; but `fresh` on a start that is not the first means that the state was not kept: look at the volume.",
    ),
    Message(
        "state_commit_failed",
        Level.ERROR,
        (_ERROR, _REMEDY),
        "The state could not be written. It is tried again; nothing is pushed, deleted or lost meanwhile.",
        "Do what `remedy` says: usually the disk is full or read-only.",
        (_one("commit_failures_total"),),
    ),
    Message(
        "standby_waiting",
        Level.INFO,
        (
            _ERROR,
            Field("holder", _K, "who holds it"),
            Field("expires_seconds", _N, "when its lease ends, unless renewed"),
        ),
        "Another process works on this state or bucket. This one waits and takes over when the other is gone.",
        "None if that is intended; otherwise stop one of the two.",
    ),
    Message(
        "lease_taken",
        Level.INFO,
        (Field("holder", _K, "this process"), Field("previous", _K, "who held it before")),
        "This process has the lease of the bucket and works.",
        _NONE,
    ),
    Message(
        "lease_lost",
        Level.ERROR,
        (_ERROR, Field("holder", _K, "who holds it now")),
        "This process no longer has the lease of the bucket. It stops at once, so that nothing is counted twice.",
        "None: the other process goes on. If it repeats, two exporters have different state but the same bucket.",
    ),
)

_FILES = (
    Message(
        "poll_finished",
        Level.INFO,
        (
            Field("listed", _N, "objects listed"),
            Field("new", _N, "those not claimed before"),
            _SECONDS,
        ),
        "The hour folders were listed.",
        _NONE,
        (
            _one("polls_total", outcome="finished"),
            Move("listed_files", by="listed"),
            Move("new_files", by="new"),
            Move("poll_seconds", by="seconds"),
            _one("last_poll_success_timestamp_seconds"),
        ),
    ),
    Message(
        "poll_brought_forward",
        Level.INFO,
        (
            Field("seconds", _N, "how much sooner than `POLL_INTERVAL` after the last one the next poll comes"),
            Field("gain_seconds", _N, "how much more recent samples are from then on, on average"),
        ),
        "The next poll comes early, so that it and those after it find files soon after they appeared.",
        _NONE,
    ),
    Message(
        "poll_failed",
        Level.ERROR,
        (_ERROR, _REMEDY),
        "The bucket could not be listed. The next poll tries again; files wait in the bucket.",
        "Do what `remedy` says, if it repeats.",
        (_one("polls_total", outcome="failed"),),
    ),
    Message(
        "file_counted",
        Level.INFO,
        (
            _KEY,
            Field("shard", _K, "the shard that wrote it"),
            Field("size", _N, "compressed bytes"),
            Field("lines", _N, "lines in it"),
            Field("events", _N, "lines that count"),
            Field("rejects", _O, "lines that do not, by reason"),
            Field("late", _N, "events whose tick was already written; they count in the next one"),
            Field("late_seconds", _N, "how late the latest of them was"),
            Field("skipped", _N, "sequence numbers missing before this file"),
            Field("fetch_seconds", _N, "download"),
            Field("decode_seconds", _N, "inflating, decoding and adding up"),
        ),
        "A file was fetched, decoded and added to the counters; the one line that each file gets.",
        "None. Many `rejects` of one reason: compare the log format at the CDN with what the exporter expects "
        "(`inspect` shows examples).",
        (
            _one("files_total", outcome="counted"),
            Move("file_bytes_total", by="size"),
            Move("lines_total", by="lines"),
            Move("events_total", by="events"),
            Move("rejects_total", by="rejects", labels=(("reason", "$*"),)),
            Move("late_events_total", by="late"),
            Move("late_seconds", by="late_seconds", only_if="late"),
            Move("skipped_files_total", by="skipped"),
            Move("fetch_seconds", by="fetch_seconds"),
            Move("decode_seconds", by="decode_seconds"),
        ),
    ),
    Message(
        "file_fetch_failed",
        Level.WARNING,
        (_KEY, _ERROR),
        "A file could not be downloaded. A later poll takes it again.",
        "None unless it repeats; then the error says whether it is the network or the key's rights.",
        (_one("files_total", outcome="fetch_failed"),),
    ),
    Message(
        "file_unreadable",
        Level.WARNING,
        (_KEY, _REASON, Field("attempt", _N, "how often it has been tried")),
        "A file cannot be read whole. Nothing of it is counted, it is not deleted, and later polls try it again.",
        "None yet: it may have been listed while it was written.",
        (
            _one("files_total", outcome="unreadable"),
            Move("unreadable_files_total", labels=(("reason", "$reason"),)),
        ),
    ),
    Message(
        "file_set_aside",
        Level.ERROR,
        (_KEY, _REASON),
        "A file could not be read at several polls and is not tried again. It stays in the bucket, or is moved to "
        "`QUARANTINE_PREFIX`.",
        "Download it and run `inspect` on it; tell the CDN if it is broken there.",
        (_one("files_total", outcome="set_aside"),),
    ),
    Message(
        "file_gone",
        Level.WARNING,
        (_KEY,),
        "A file was listed but was no longer there to be downloaded; its requests are not counted by this process.",
        "Look for somebody else who deletes in this bucket: a second exporter, or a lifecycle rule.",
        (_one("files_total", outcome="gone"),),
    ),
    Message(
        "file_changed",
        Level.WARNING,
        (_KEY,),
        "A file that was counted has been overwritten. It is not deleted; the new content is a file of its own.",
        "Find out who writes into the bucket beside the CDN.",
        (_one("files_total", outcome="changed"),),
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
        (_COUNT,),
        "Files were deleted after everything in them had been acknowledged.",
        _NONE,
        (Move("deleted_files_total", by="count"),),
    ),
    Message(
        "delete_failed",
        Level.WARNING,
        (_COUNT, _ERROR),
        "Counted files could not be deleted. They are not counted again; the deletion is tried again.",
        "Give the key the right to delete, or set `KEEP_FILES=true`.",
        (Move("delete_failures_total", by="count"),),
    ),
    Message(
        "file_quarantined",
        Level.WARNING,
        (_KEY, Field("target", _K, "where it is now"), _REASON),
        "A file that was set aside was moved to `QUARANTINE_PREFIX`, with its reason beside it.",
        "See `file_set_aside`.",
        (_one("quarantined_files_total"),),
    ),
    Message(
        "quarantine_failed",
        Level.WARNING,
        (_KEY, _ERROR),
        "A file that was set aside could not be moved to `QUARANTINE_PREFIX`. It stays where it is and is tried again.",
        "Give the key the right to write under `QUARANTINE_PREFIX` and to delete under `S3_PREFIX`; `error` says which "
        "it lacks.",
    ),
    Message(
        "file_released",
        Level.INFO,
        (_KEY,),
        "A file that was set aside has been written again since (`quarantine release` does that); it is tried again.",
        _NONE,
    ),
)

_PUSH = (
    Message(
        "batch_pushed",
        Level.INFO,
        (
            Field("batch", _N, "its number"),
            Field("first_tick", _N, "Unix seconds"),
            Field("last_tick", _N, "Unix seconds"),
            Field("requests", _N, "write requests"),
            Field("samples", _N, "samples in them"),
            Field("size", _N, "bytes sent"),
            Field("seconds", _N, "from the first attempt to the last answer"),
            Field("lag_seconds", _N, "the clock less the last tick"),
            Field("accepted", _F, "whether the receiver took all of it"),
        ),
        "The requests of one or more ticks are done; the one line that each batch gets.",
        "None if `accepted`; otherwise see `request_refused` or `request_set_aside` before it.",
        (
            _one("pushes_total", only_if="accepted", outcome="accepted"),
            _one("pushes_total", only_if="!accepted", outcome="incomplete"),
            Move("samples_pushed_total", by="samples"),
            Move("pushed_bytes_total", by="size"),
            Move("push_seconds", by="seconds"),
            Move("push_lag_seconds", by="lag_seconds"),
            _one("last_push_success_timestamp_seconds", only_if="accepted"),
        ),
    ),
    Message(
        "push_retried",
        Level.WARNING,
        (
            Field("attempt", _N, "which attempt failed"),
            _ERROR,
            Field("wait_seconds", _N, "until the next"),
        ),
        "The receiver did not take a request. The same bytes are sent again; files wait in the bucket meanwhile.",
        "Look at the receiver, if it repeats.",
        (_one("push_retries_total"),),
    ),
    Message(
        "request_refused",
        Level.ERROR,
        (Field("status", _N, "the HTTP status"), Field("words", _T, "what the receiver said")),
        "The receiver refused a request for good. It is not sent again; counters are right again at the next tick.",
        "Read `words`: out of order means that two exporters write the same series, or that events are older than the "
        "receiver takes.",
        (_one("requests_refused_total"),),
    ),
    Message(
        "request_set_aside",
        Level.ERROR,
        (
            Field("attempts", _N, "how often it was sent"),
            Field("seconds", _N, "for how long"),
            _ERROR,
        ),
        "The receiver failed on one request for longer than `PUSH_RETRY_SECONDS`. It is given up, so that those behind "
        "it can go out; counters are right again at the next tick.",
        "Look at the receiver's own log; some refuse single requests with a server error.",
        (_one("requests_set_aside_total"),),
    ),
    Message(
        "outbox_left",
        Level.WARNING,
        (Field("requests", _N, "committed requests that the receiver does not have yet"),),
        "The stop came while the receiver did not answer. The state keeps the requests, and the next "
        "start sends them first.",
        "Start the service again on the same state, and see that the receiver is up.",
    ),
    Message(
        "receiver_misconfigured",
        Level.ERROR,
        (_ERROR, _REMEDY),
        "The receiver cannot take anything as it is set up (credentials, address, switched off, certificate). The "
        "request is kept and tried again slowly; nothing is deleted from the bucket.",
        "Do what `remedy` says.",
        (_one("receiver_misconfigured_total"),),
    ),
)

_OTHER = (
    Message(
        "geoip_loaded",
        Level.INFO,
        (
            Field("path", _K, "the database file"),
            Field("build_epoch", _N, "when it was built, Unix seconds"),
            Field("kind", _K, "its type"),
        ),
        "A GeoIP database was opened, at the start or because the file was replaced.",
        "None; one older than a month is worth renewing.",
        (Move("geoip_database_build_timestamp_seconds", by="build_epoch"),),
    ),
    Message(
        "geoip_failed",
        Level.WARNING,
        (Field("path", _K, "the database file"), _ERROR),
        "The GeoIP database cannot be read. The one read before stays in use; without one regions are unknown.",
        "Put a MaxMind City database (`.mmdb`) there; it is opened without a restart.",
        (_one("geoip_failures_total"),),
    ),
    Message(
        "status_server_started",
        Level.INFO,
        (Field("address", _K, "where it listens"),),
        "The status server answers `/metrics`, `/healthz` and `/readyz`.",
        _NONE,
    ),
    Message(
        "status_answer_failed",
        Level.ERROR,
        (Field("path", _T, "what was asked for"), _ERROR),
        "The status server could not answer a request because of an error of its own. Counting is not affected.",
        "Report it as a bug.",
        (_one("status_failures_total"),),
    ),
)

#: Every event, by name, in the order in which the documentation tells them.
MESSAGES: Mapping[str, Message] = MappingProxyType(
    {event.name: event for event in (*_SERVICE, *_STATE, *_FILES, *_PUSH, *_OTHER)}
)

#: The same with headings, for the documentation.
SECTIONS: tuple[tuple[str, tuple[Message, ...]], ...] = (
    ("The service", _SERVICE),
    ("State", _STATE),
    ("Files", _FILES),
    ("Pushing", _PUSH),
    ("Other", _OTHER),
)
