"""Declares every environment variable once: its field, its type, its parser, its default and its help.

The sections are those of the documentation; `Settings` (values.py) consists of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, overload

from cdn77_exporter.core.clocks import ClockSource
from cdn77_exporter.core.encode.version import RemoteWriteVersion
from cdn77_exporter.core.measures import Histograms
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN, DEFAULT_TRACK_PATTERN
from cdn77_exporter.settings import measures_file, metrics, parse
from cdn77_exporter.settings.device_rules import DeviceRulesFile, device_rules_file
from cdn77_exporter.settings.measures_file import MeasuresFile
from cdn77_exporter.settings.metrics import ExternalLabels
from cdn77_exporter.settings.parse import Allowlist, StatePlace
from cdn77_exporter.settings.secret import Headers, Secret, as_headers, as_secret, secret_text
from cdn77_exporter.telemetry.messages import Level

T = TypeVar("T")


class _Required(Enum):
    REQUIRED = "required"


#: Instead of a default: the variable must be set.
REQUIRED: Final = _Required.REQUIRED
_VARIABLE = "variable"


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable. The field of `Settings` has its name in lower case.

    `parse`: text to value, or ValueError. `default`: text as an operator would write it, or None for unset. `secret`:
    no output may show it, and `parse` also takes the path of the file that the text was read from. `from_file`: the
    variable with `_FILE` behind its name may name a file instead.
    """

    name: str
    parse: Callable[..., Any]
    default: str | None
    help: str
    example: str
    required: bool
    secret: bool
    from_file: bool

    @property
    def field(self) -> str:
        """The name in `Settings`."""
        return self.name.lower()


@overload
def env(
    parser: Callable[[str], T],
    default: str | Literal[_Required.REQUIRED],
    help_: str,
    example: str = "",
    *,
    secret: bool = False,
    from_file: bool = False,
) -> T: ...
@overload
def env(
    parser: Callable[[str], T],
    default: None,
    help_: str,
    example: str = "",
    *,
    secret: bool = False,
    from_file: bool = False,
) -> T | None: ...
def env(
    parser: Callable[[str], Any],
    default: str | Literal[_Required.REQUIRED] | None,
    help_: str,
    example: str = "",
    *,
    secret: bool = False,
    from_file: bool = False,
) -> Any:
    """Declare the variable of a field; see `Variable`. A secret can always come from a file."""
    required = default is REQUIRED
    text = None if isinstance(default, _Required) else default
    declared = Variable("", parser, text, help_, example, required, secret, from_file or secret)
    return field(metadata={_VARIABLE: declared})


def variables(section: type) -> tuple[Variable, ...]:
    """Return what a section or the whole of `Settings` declares, in its order."""
    found = [(one.name, one.metadata.get(_VARIABLE)) for one in fields(section)]
    return tuple(replace(variable, name=name.upper()) for name, variable in found if variable)


@dataclass(frozen=True, repr=False)
class Bucket:
    """The source of log files."""

    s3_endpoint: str = env(parse.endpoint, REQUIRED, "The S3 server.", "https://eu-1.cdn77-storage.com")
    s3_bucket: str = env(parse.bucket_name, REQUIRED, "The bucket with the log files.", "my-logs")
    s3_prefix: str = env(
        parse.folder,
        REQUIRED,
        "The folder in which the hour folders `YYYYMMDD/HH/` lie; `/` when that is the bucket itself.",
        "real-time-logs/all-logs",
    )
    s3_suffix: str = env(
        parse.suffix,
        ".ndjson.gz",
        "How the name of a log file ends. Whatever else lies under `S3_PREFIX` is left alone, and only counted.",
    )
    s3_access_key: Secret = env(as_secret, REQUIRED, "The access key's id.", secret=True)
    s3_secret_key: Secret = env(as_secret, REQUIRED, "Its secret.", secret=True)
    s3_region: str = env(
        parse.plain_text, "us-east-1", "The region that requests are signed for; most servers take any."
    )
    s3_ca_bundle: Path | None = env(
        parse.readable_file, None, "A PEM file of authorities to trust for the S3 server.", "/etc/ssl/own.pem"
    )
    keep_files: bool = env(parse.flag, "false", "Count but do not delete; the ledger remembers what has been counted.")
    quarantine_prefix: str | None = env(
        parse.folder, None, "Where files that cannot be read are moved to.", "unreadable-logs"
    )


@dataclass(frozen=True, repr=False)
class Receiver:
    """The destination of samples."""

    prometheus_url: str = env(
        parse.web_address, REQUIRED, "The remote-write endpoint.", "https://prometheus.example.com/api/v1/write"
    )
    prometheus_user: str | None = env(secret_text, None, "User for basic authentication.", "exporter", from_file=True)
    prometheus_password: Secret | None = env(as_secret, None, "Its password.", secret=True)
    prometheus_bearer_token: Secret | None = env(as_secret, None, "Token, instead of user and password.", secret=True)
    prometheus_headers: Headers = env(
        as_headers,
        "",
        "More headers, such as a tenant's: `Name: value` pairs with semicolons or line breaks between them, or a JSON "
        "object (for values with a semicolon).",
        "X-Scope-OrgID: video",
        secret=True,
    )
    prometheus_ca_bundle: Path | None = env(
        parse.readable_file, None, "A PEM file of authorities to trust.", "/etc/ssl/own.pem"
    )
    prometheus_client_cert: Path | None = env(
        parse.readable_file, None, "A PEM file with a client certificate.", "/etc/ssl/client.pem"
    )
    prometheus_client_key: Path | None = env(
        parse.readable_file, None, "A PEM file with its private key.", "/etc/ssl/client.key"
    )
    remote_write_version: RemoteWriteVersion = env(
        parse.remote_write_version,
        "auto",
        "The version of remote write: `1`, `2`, or `auto` for 2.0 with a receiver that proves that it understands it, "
        "and 1.0 with any other.",
    )
    push_retry_seconds: float = env(
        parse.duration(1, 7 * parse.DAY),
        "3600",
        "How long the receiver may answer with failures before what it fails on is dropped, so that what is behind it "
        "can go out. While it does not answer at all everything waits.",
    )
    send_metadata: bool = env(
        parse.flag,
        "true",
        "Send type and help of the metrics too: by remote write 2.0 with every series, by 1.0 now and then in requests "
        "of their own.",
    )


@dataclass(frozen=True, repr=False)
class Time:
    """Times and intervals."""

    poll_interval: float = env(
        parse.duration(1, 3600),
        "60",
        "The longest time between two listings of the bucket; one poll in five may come early to find files fresh.",
    )
    lookback_hours: float = env(
        parse.hours,
        "2",
        "How many hours back each poll lists the folders. What lies further back is found once an hour.",
    )
    tick_seconds: int = env(parse.tick, "15", "The distance between two samples of a series; divides 60.")
    session_window_seconds: int = env(
        parse.whole_seconds(1, 7 * 86_400),
        "7200",
        "The rolling window of active viewers, and after how long without a request a viewer counts again.",
    )
    active_windows: tuple[int, ...] = env(
        parse.windows(8, 7 * 86_400),
        "",
        "More windows of active viewers beside `SESSION_WINDOW_SECONDS`, with commas between them; the label `window` "
        "tells them apart. Each is one more series for every series of the gauges of active viewers, and viewers are "
        "kept as long as the longest.",
        "5m,24h",
    )
    presence_seconds: int = env(
        parse.whole_seconds(1, 86_400),
        "30",
        "How long after a request a player is taken to be watching; `TICK_SECONDS` where that is longer.",
    )
    session_gap_seconds: int = env(
        parse.whole_seconds(1, 7 * 86_400),
        "120",
        "After how long without a request a player's session is over.",
    )
    return_horizon: int = env(
        parse.seconds_or_none(60, 7 * 86_400),
        "0",
        "Send `cdn77_viewer_return_seconds`, which tells between which numbers the distinct viewers of any span of "
        "time are, see [Distinct viewers](distinct-viewers.md): up to how long ago a viewer's last request is known, "
        "such as 86400. Viewers are kept for as long. 0 sends no such metric.",
        "86400",
    )
    timestamp_offset_ms: int = env(
        parse.whole(0, 999, {"random": parse.random_offset}),
        "0",
        "Milliseconds that every sample is shifted by, for two exporters that must never write the same instant; "
        "`random` draws it at the start.",
    )
    backfill_window: float = env(
        parse.duration(0, 7 * parse.DAY),
        "0",
        "On the very first start, when no exporter has pushed before: how far back events keep their own time.",
        "2h",
    )
    shard_idle_seconds: float = env(
        parse.duration(1, parse.DAY),
        "120",
        "How long a shard holds time back that has gone silent, or whose files cannot be fetched.",
    )
    shard_wait_seconds: float = env(
        parse.duration(1, parse.DAY),
        "300",
        "A shard that is further than this behind the most advanced one, with nothing left to count, is not waited "
        "for until it has caught up; its events count late.",
    )
    allowed_lateness_seconds: float = env(
        parse.duration(0, parse.DAY),
        "0",
        "How far the events of a shard's next file may reach back behind its newest event, for writers whose files "
        "overlap; everything comes so much later.",
    )
    idle_lag_seconds: float = env(
        parse.duration(1, parse.DAY), "180", "How far behind the clock time goes on when nothing arrives at all."
    )
    clock_source: ClockSource = env(
        parse.clock_source,
        "auto",
        "Whose time is believed: `auto` for what two of this machine's clock, the bucket's and the newest events agree "
        "on; `machine` or `bucket` when they never agree and you know which is right.",
    )
    drain_seconds: float = env(parse.duration(0, 3600), "25", "Grace period for in-flight work after SIGTERM.")


@dataclass(frozen=True, repr=False)
class Streams:
    """The rules for streams."""

    stream_pattern: str = env(
        parse.pattern,
        DEFAULT_STREAM_PATTERN,
        "Where the request path has the stream's name: a regular expression with one group.",
    )
    track_pattern: str = env(
        parse.track_pattern,
        DEFAULT_TRACK_PATTERN,
        "Where the request path has the name of the track (a rendition, an audio language): a regular expression with "
        "one group. Requests without one are left out of the metrics by track.",
    )
    stream_allowlist: Allowlist | None = env(
        parse.allowlist,
        None,
        "The streams that count, when you know them: a regular expression that fits a whole name, or the path "
        "(beginning with `/`, `./` or `../`) of a file with one name a line, read at the start. Lines of others are "
        "rejected.",
        "/etc/cdn77-exporter/streams.txt",
    )
    viewer_ipv6_prefix: int = env(
        parse.whole(1, 128),
        "128",
        "How many first bits of an IPv6 address tell viewers apart. A household has a network of 64 bits and changes "
        "its addresses in it: with `64` it is one viewer, as it is by IPv4.",
        "64",
    )
    device_rules_file: DeviceRulesFile | None = env(
        device_rules_file,
        None,
        "A TOML file of rules that tell device types from User-Agents, instead of the built-in ones; see "
        "[Device types](devices.md).",
        "/etc/cdn77-exporter/devices.toml",
    )
    geoip_db_path: Path | None = env(
        parse.file_path,
        None,
        "A MaxMind City database, for regions. It may come, or be replaced, while the service runs.",
        "/data/GeoLite2-City.mmdb",
    )


@dataclass(frozen=True, repr=False)
class Metrics:
    """The rules for metrics."""

    external_labels: ExternalLabels = env(
        metrics.external_labels,
        "",
        "Labels that every series has beside its own, to tell exporters of one receiver apart. With other ones than "
        "before all series begin anew.",
        "env=prod,account=x",
    )
    histograms: Histograms = env(
        metrics.histograms,
        "off",
        "How the distributions of times to first byte, durations and round trips are sent: not at all (`off`), as "
        "`classic` histograms, of 14 series for each stream, CDN resource, cache status and POP, or as `native` ones, "
        "of one series with finer buckets, for receivers that take them: `check` tells.",
        "native",
    )
    measures_file: MeasuresFile | None = env(
        measures_file.measures_file,
        None,
        "A TOML file of metrics of your own, beside the built-in ones, see [Metrics of your own](measures-file.md). "
        "`inspect --measures` tries it on log files.",
        "/etc/cdn77-exporter/measures.toml",
    )
    metrics_off: tuple[str, ...] = env(
        metrics.metric_names,
        "",
        "Built-in metrics that are not sent: names with commas between them; that of a summary or a histogram is "
        "that of all its parts. Fields that nothing else needs are not even read. The status page has no numbers of "
        "them either.",
        "cdn77_viewers_by_region_total,cdn77_time_to_first_byte_ms",
    )
    labels_off: tuple[str, ...] = env(
        metrics.labels_to_leave_out,
        "",
        "Labels that are left out of all built-in metrics, some of `cdn_id`, `cache_status` and `pop`: fewer "
        "series, with the same sums.",
        "pop",
    )


@dataclass(frozen=True, repr=False)
class Bounds:
    """The limits on files and their content."""

    max_streams: int = env(
        parse.whole(1, 10_000_000),
        "10000",
        'Streams that count on their own; above, new ones count as `stream_name="other"`.',
    )
    max_series: int = env(parse.whole(100, 100_000_000), "1000000", "The same bound for series.")
    max_label_values: int = env(
        parse.whole(10, 10_000_000),
        "10000",
        "The same bound for the values of every other label, such as `pop`: above, new ones count as `other`.",
    )
    series_idle_seconds: int = env(
        parse.whole(600, 30 * 86_400),
        "86400",
        "A counter without a change for so many seconds ends and is forgotten, and with its last series a stream. Its "
        "viewer counters stay while somebody is in the stream's session window.",
    )
    max_object_bytes: int = env(
        parse.size(1, 4 * parse.GIB), "64MiB", "The largest file that is downloaded; larger ones are set aside."
    )
    max_file_bytes: int = env(parse.size(1, 64 * parse.GIB), "256MiB", "The largest a file may be when it is inflated.")
    max_line_bytes: int = env(parse.size(256, 64 * parse.MIB), "1MiB", "The longest line.")
    max_bad_lines: int = env(parse.whole(0, 1_000_000_000), "100000", "Bad lines after which a file is abandoned.")
    max_file_entries: int = env(
        parse.whole(1, 1_000_000_000),
        "250000",
        "Different groups of labels, and different viewers, that one file may have of each kind, at some 100 bytes of "
        "memory each; some 500 without the compiled scan.",
    )


@dataclass(frozen=True, repr=False)
class Process:
    """The process itself."""

    state_path: StatePlace = env(
        parse.state_place,
        "state/state.db",
        "The file that makes crashes harmless; `s3://bucket/prefix` to keep it in a bucket (outside of `S3_PREFIX`); "
        "`off` for none.",
        "/var/lib/cdn77-exporter/state.db",
    )
    download_concurrency: int = env(
        parse.whole(1, 256, {"auto": lambda: 0}),
        "auto",
        "How many files are downloaded at once, and at most in memory. `auto` is 8; with `DECODE_WORKERS` 4 for each "
        "process and 4 that wait; with `DASK_SCHEDULER` 32.",
    )
    decode_workers: int = env(
        parse.whole(0, 256, {"auto": parse.spare_cores}),
        "0",
        "Processes that decode; `auto` for the cores less one; `0` for threads in this process, two with the compiled "
        "scan and a second core, else one.",
    )
    dask_scheduler: str | None = env(
        parse.scheduler, None, "A Dask scheduler whose workers decode.", "tcp://scheduler:8786"
    )
    http_addr: tuple[str, int] | None = env(
        parse.http_address,
        parse.DEFAULT_HTTP_ADDR,
        "Where the status server listens; `off` for none. It has no login: keep it to networks that you trust.",
        "0.0.0.0:9177",
    )
    http_hosts: tuple[str, ...] = env(
        parse.host_names,
        "",
        "Names by which the status server may be asked, with commas between them, beside `localhost`, its address, "
        "this machine's name and IP addresses; `*` for any. Others are refused, so that no web page can read it.",
        "exporter,status.example.com",
    )
    log_level: Level = env(parse.level, "info", "The least level of a log line: `debug`, `info`, `warning` or `error`.")


#: Heading of the documentation -> the variables below it.
SECTIONS: dict[str, tuple[Variable, ...]] = {
    "The bucket": variables(Bucket),
    "The receiver": variables(Receiver),
    "Time": variables(Time),
    "Streams and viewers": variables(Streams),
    "Metrics": variables(Metrics),
    "Limits": variables(Bounds),
    "The process": variables(Process),
}
VARIABLES: tuple[Variable, ...] = tuple(variable for section in SECTIONS.values() for variable in section)
