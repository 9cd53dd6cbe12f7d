"""Turns the environment into one frozen `Settings`, reports all faults of it at once, and keeps secrets to itself."""

from __future__ import annotations

import difflib
import math
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.masking import MASK, Address, Masker, basic_credentials
from cdn77_exporter.settings.secret import Headers, Secret, parse_headers, read_secret, secret_text
from cdn77_exporter.telemetry.messages import Level

if TYPE_CHECKING:
    from cdn77_exporter.core.decode import Limits

DEFAULT_STREAM_PATTERN = "/([a-f0-9]{32})/"
DEFAULT_HTTP_ADDR = "127.0.0.1:9177"
_DAY = 86_400.0
_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3


@dataclass(frozen=True, slots=True)
class Allowlist:
    """Whether a stream may count: it is one of `names`, or `pattern` fits it whole. Comparable and picklable."""

    names: frozenset[str] = frozenset()
    pattern: str | None = None

    def __call__(self, stream: str) -> bool:
        return stream in self.names or (self.pattern is not None and re.fullmatch(self.pattern, stream) is not None)


#: Files that a worker process decodes and merges at a time: more make the answer smaller, and the memory larger.
FILES_A_CALL = 4
_PLACES, _PLACES_ON_CLUSTER = 8, 32  # for files under way

# Parsers: text -> value, or ValueError("what is wrong; what would be right"), without the text itself


def _text(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has control characters; plain text")
    return text


def _flag(text: str) -> bool:
    word = text.lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError("is neither true nor false; `true` or `false`")


def _whole(least: int, most: int, words: dict[str, Callable[[], int]] | None = None) -> Callable[[str], int]:
    said = f"a whole number from {least:,} to {most:,}" + "".join(f" or `{word}`" for word in words or ())

    def parse(text: str) -> int:
        if words and text.lower() in words:
            return words[text.lower()]()
        if not re.fullmatch(r"[+-]?[0-9_]{1,20}", text):
            raise ValueError(f"is not a whole number; {said}")
        number = int(text.strip("_").replace("_", ""))
        if not least <= number <= most:
            raise ValueError(f"is out of range; {said}")
        return number

    return parse


_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": _DAY}
_SIZES = {"": 1, "b": 1, "k": _KIB, "kib": _KIB, "m": _MIB, "mib": _MIB, "g": _GIB, "gib": _GIB}
_SIZES |= {"kb": 1000, "mb": 1000**2, "gb": 1000**3}
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")


def _duration(least: float, most: float) -> Callable[[str], float]:
    said = f"seconds from {least:g} to {most:g}, or with a unit such as `90s`, `15m`, `2h`"

    def parse(text: str) -> float:
        found = _AMOUNT.fullmatch(text)
        if not found or found[2].lower() not in _UNITS:
            raise ValueError(f"is not a duration; {said}")
        seconds = float(found[1]) * _UNITS[found[2].lower()]
        if not least <= seconds <= most:
            raise ValueError(f"is out of range; {said}")
        return seconds

    return parse


def _whole_seconds(least: int, most: int) -> Callable[[str], int]:
    duration = _duration(least, most)

    def parse(text: str) -> int:
        seconds = duration(text)
        if seconds != int(seconds):
            raise ValueError(f"is not a whole number of seconds; {least} to {most}")
        return int(seconds)

    return parse


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        raise ValueError("is not a number; hours from 0 to 720, such as `2`") from None
    if not (math.isfinite(hours) and 0 <= hours <= 720):
        raise ValueError("is out of range; hours from 0 to 720")
    return hours


def _size(least: int, most: int) -> Callable[[str], int]:
    said = f"bytes from {least:,} to {most:,}, or with a unit such as `64KiB`, `256MiB`"

    def parse(text: str) -> int:
        found = _AMOUNT.fullmatch(text)
        if not found or found[2].lower() not in _SIZES:
            raise ValueError(f"is not a size; {said}")
        size = int(float(found[1]) * _SIZES[found[2].lower()])
        if not least <= size <= most:
            raise ValueError(f"is out of range; {said}")
        return size

    return parse


def _tick(text: str) -> int:
    seconds = _whole_seconds(1, 60)(text)
    if 60 % seconds:
        raise ValueError("does not divide a minute; one of 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60")
    return seconds


def _web_address(text: str) -> str:
    said = "an address such as `https://host.example.com/path`"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"is not a URL; {said}") from None
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not text.isprintable()
        or " " in text
        or port == 0
    ):
        raise ValueError(f"is not an http or https URL with a host; {said}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a login in the URL; an address without one, and the login in its own variables")
    if parts.fragment:
        raise ValueError(f"has a fragment (`#`); {said}")
    return text


def _endpoint(text: str) -> str:
    parts = urlsplit(_web_address(text))
    if parts.query or parts.path not in {"", "/"}:
        raise ValueError(
            "has more than a host; the S3 server's address alone, such as `https://eu-1.cdn77-storage.com`"
        )
    return text.rstrip("/")


def _bucket(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", text):
        raise ValueError("is not a bucket's name; its name alone, without `s3://` and slashes")
    return text


def _prefix(text: str) -> str:
    folder = _text(text).strip("/")
    if "://" in folder or "//" in folder or any(part in {".", ".."} for part in folder.split("/")):
        raise ValueError(
            "is not a folder of the bucket; a path such as `real-time-logs/all-logs`, or `/` for the whole"
        )
    return folder


def _file(text: str) -> Path:
    path = Path(text)
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); a file that this user may read") from None
    except ValueError:
        raise ValueError("is not a path; a file that this user may read") from None
    return path


def _state_path(text: str) -> str:
    if text.lower() == "off":
        return "off"
    if text.startswith("s3://"):
        bucket, _, prefix = text[len("s3://") :].partition("/")
        try:
            return f"s3://{_bucket(bucket)}/{_prefix(prefix)}".rstrip("/")
        except ValueError:
            raise ValueError("is not a place in a bucket; `s3://bucket/prefix`") from None
    if "://" in text or not text.isprintable():
        raise ValueError("is neither a file nor a bucket; a path, `s3://bucket/prefix`, or `off`")
    if Path(text).is_dir():
        raise ValueError("is a folder; a file in it, such as `state.db`, that need not exist yet")
    return text


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is not a regular expression ({error}); one such as `{DEFAULT_STREAM_PATTERN}`") from None
    if groups != 1:
        raise ValueError(f"has {groups} groups; one group, which is the stream's name: `{DEFAULT_STREAM_PATTERN}`")
    return text


def _allowlist(text: str) -> Allowlist:
    if text.startswith(("/", "./", "../")):
        try:
            lines = _file(text).read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8 text; a file with one stream a line") from None
        names = frozenset(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
        if not names:
            raise ValueError("names no stream; a file with one stream a line")
        return Allowlist(names)
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(
            f"is not a regular expression ({error}); one that fits whole names, or a file's path"
        ) from None
    return Allowlist(pattern=text)


def parse_http_addr(text: str) -> tuple[str, int] | None:
    """Host and port to listen on, or None for `off`."""
    if text.lower() == "off":
        return None
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]*)):([0-9]{1,5})", text)
    if not found or int(found[3]) > 65535:
        raise ValueError(f"is not host and port; `{DEFAULT_HTTP_ADDR}`, `[::1]:9177` or `off`")
    # `:9177` asks for every interface, as it does elsewhere.
    host = found[1] or found[2] or "0.0.0.0"  # noqa: S104 # nosec B104
    if found[1]:
        try:
            ip_address(host)
        except ValueError:
            raise ValueError("has no IP address in its brackets; such as `[::1]:9177`") from None
    return host, int(found[3])


def host_to_ask(host: str) -> str:
    """Where this machine reaches a server that listens on `host`: on loopback, when it listens on every interface."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return {4: "127.0.0.1", 6: "::1"}[address.version] if address.is_unspecified else host


def _level(text: str) -> Level:
    try:
        return Level(text.lower())
    except ValueError:
        raise ValueError("is not a level; `debug`, `info`, `warning` or `error`") from None


def _scheduler(text: str) -> str:
    if not re.fullmatch(r"(?:tcp|tls|ws|wss)://[A-Za-z0-9.\[\]:-]+:[0-9]{1,5}/?", text):
        raise ValueError("is not a Dask scheduler's address; such as `tcp://scheduler:8786`")
    return text.rstrip("/")


def _headers(text: str) -> str:
    parse_headers(text)
    return text


# The table


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable; the field of `Settings` has its name in lower case.

    `default` is text as an operator would write it, or None for unset. `required`: there must be one. `secret`: the
    value becomes a `Secret`. `from_file`: the variable with `_FILE` behind its name may name a file instead.
    """

    name: str
    parse: Callable[[str], object]
    default: str | None
    help: str
    example: str = ""
    required: bool = False
    secret: bool = False
    from_file: bool = False

    @property
    def field(self) -> str:
        """The name in `Settings`."""
        return self.name.lower()


def _random_offset() -> int:
    return secrets.randbelow(1000)


def _spare_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def _room_for_files(values: Mapping[str, Any]) -> int:
    """Places for files under way: what is set, or as many as keep busy what decodes."""
    if values["download_concurrency"]:
        return int(values["download_concurrency"])
    if values["dask_scheduler"]:
        return _PLACES_ON_CLUSTER
    return min(256, FILES_A_CALL * (values["decode_workers"] + 1)) if values["decode_workers"] else _PLACES


_BUCKET = (
    Variable("S3_ENDPOINT", _endpoint, None, "The S3 server.", "https://eu-1.cdn77-storage.com", required=True),
    Variable("S3_BUCKET", _bucket, None, "The bucket with the log files.", "my-logs", required=True),
    Variable(
        "S3_PREFIX",
        _prefix,
        None,
        "The folder in which the hour folders `YYYYMMDD/HH/` lie; `/` when that is the bucket itself.",
        "real-time-logs/all-logs",
        required=True,
    ),
    Variable("S3_ACCESS_KEY", secret_text, None, "The access key's id.", required=True, secret=True, from_file=True),
    Variable("S3_SECRET_KEY", secret_text, None, "Its secret.", required=True, secret=True, from_file=True),
    Variable("S3_REGION", _text, "us-east-1", "The region that requests are signed for; most servers take any."),
    Variable("S3_CA_BUNDLE", _file, None, "A PEM file of authorities to trust for the S3 server.", "/etc/ssl/own.pem"),
    Variable("KEEP_FILES", _flag, "false", "Count but do not delete; the ledger remembers what has been counted."),
    Variable("QUARANTINE_PREFIX", _prefix, None, "Where files that cannot be read are moved to.", "unreadable-logs"),
)
_RECEIVER = (
    Variable(
        "PROMETHEUS_URL",
        _web_address,
        None,
        "The remote-write endpoint.",
        "https://prometheus.example.com/api/v1/write",
        required=True,
    ),
    Variable("PROMETHEUS_USER", secret_text, None, "User for basic authentication.", "exporter", from_file=True),
    Variable("PROMETHEUS_PASSWORD", secret_text, None, "Its password.", secret=True, from_file=True),
    Variable(
        "PROMETHEUS_BEARER_TOKEN",
        secret_text,
        None,
        "Token, instead of user and password.",
        secret=True,
        from_file=True,
    ),
    Variable(
        "PROMETHEUS_HEADERS",
        _headers,
        None,
        "More headers, such as a tenant's: `Name: value` pairs with semicolons or line breaks between them, or a JSON "
        "object (for values with a semicolon).",
        "X-Scope-OrgID: video",
        secret=True,
        from_file=True,
    ),
    Variable("PROMETHEUS_CA_BUNDLE", _file, None, "A PEM file of authorities to trust.", "/etc/ssl/own.pem"),
    Variable("PROMETHEUS_CLIENT_CERT", _file, None, "A PEM file with a client certificate.", "/etc/ssl/client.pem"),
    Variable("PROMETHEUS_CLIENT_KEY", _file, None, "A PEM file with its private key.", "/etc/ssl/client.key"),
    Variable(
        "PUSH_RETRY_SECONDS",
        _duration(1, 7 * _DAY),
        "3600",
        "How long one request is tried before it is set aside, so that those behind it can go out.",
    ),
)
_TIME = (
    Variable(
        "POLL_INTERVAL",
        _duration(1, 3600),
        "60",
        "How often the bucket is listed: so far apart at most; one poll in five may come early to find files fresh.",
    ),
    Variable("LOOKBACK_HOURS", _hours, "2", "How many hours back the folders are listed; also what a stop may last."),
    Variable("TICK_SECONDS", _tick, "15", "The distance between two samples of a series; divides 60."),
    Variable(
        "SESSION_WINDOW_SECONDS",
        _whole_seconds(1, 7 * 86_400),
        "7200",
        "The rolling window of active viewers, and after how long without a request a viewer counts again.",
    ),
    Variable(
        "TIMESTAMP_OFFSET_MS",
        _whole(0, 999, {"random": _random_offset}),
        "0",
        "Milliseconds that every sample is shifted by, for two exporters that must never write the same instant; "
        "`random` draws it at the start.",
    ),
    Variable(
        "BACKFILL_WINDOW",
        _duration(0, 7 * _DAY),
        "0",
        "On the very first start, when no exporter has pushed before: how far back events keep their own time.",
        "2h",
    ),
    Variable("SHARD_IDLE_SECONDS", _duration(1, _DAY), "120", "How long a shard that has gone silent holds time back."),
    Variable(
        "IDLE_LAG_SECONDS",
        _duration(1, _DAY),
        "180",
        "How far behind the clock time goes on when nothing arrives at all.",
    ),
    Variable("DRAIN_SECONDS", _duration(0, 3600), "25", "How long what is under way may take after SIGTERM."),
)
_STREAMS = (
    Variable(
        "STREAM_PATTERN",
        _pattern,
        DEFAULT_STREAM_PATTERN,
        "Where the request path has the stream's name: a regular expression with one group.",
    ),
    Variable(
        "STREAM_ALLOWLIST",
        _allowlist,
        None,
        "The streams that count, when you know them: a regular expression that fits a whole name, or the path "
        "(beginning with `/`, `./` or `../`) of a file with one name a line, read at the start. Lines of others are "
        "rejected.",
        "/etc/cdn77-exporter/streams.txt",
    ),
    Variable("GEOIP_DB_PATH", _file, None, "A MaxMind City database, for regions.", "/data/GeoLite2-City.mmdb"),
)
_LIMITS = (
    Variable(
        "MAX_STREAMS",
        _whole(1, 10_000_000),
        "10000",
        'Streams that count on their own; above, new ones count as `stream_name="other"`.',
    ),
    Variable("MAX_SERIES", _whole(100, 100_000_000), "1000000", "The same bound for series."),
    Variable(
        "MAX_OBJECT_BYTES",
        _size(1, 4 * _GIB),
        "64MiB",
        "The largest file that is downloaded; larger ones are set aside.",
    ),
    Variable("MAX_FILE_BYTES", _size(1, 64 * _GIB), "256MiB", "The largest a file may be when it is inflated."),
    Variable("MAX_LINE_BYTES", _size(256, 64 * _MIB), "1MiB", "The longest line."),
    Variable("MAX_BAD_LINES", _whole(0, 1_000_000_000), "100000", "Bad lines after which a file is given up."),
    Variable(
        "MAX_FILE_ENTRIES",
        _whole(1, 1_000_000_000),
        "250000",
        "Different groups of labels and viewers that one file may have, at some 500 bytes of memory each.",
    ),
)
_WORK = (
    Variable(
        "STATE_PATH",
        _state_path,
        "state/state.db",
        "The file that makes crashes harmless; `s3://bucket/prefix` to keep it in a bucket (outside of `S3_PREFIX`); "
        "`off` for none.",
        "/var/lib/cdn77-exporter/state.db",
    ),
    Variable(
        "DOWNLOAD_CONCURRENCY",
        _whole(1, 256, {"auto": lambda: 0}),
        "auto",
        "How many files are downloaded at once, and at most in memory. `auto` is 8; with `DECODE_WORKERS` 4 for each "
        "process and 4 that wait; with `DASK_SCHEDULER` 32.",
    ),
    Variable(
        "DECODE_WORKERS",
        _whole(0, 256, {"auto": _spare_cores}),
        "0",
        "Processes that decode; `0` for one thread in this process, `auto` for the cores less one.",
    ),
    Variable("DASK_SCHEDULER", _scheduler, None, "A Dask scheduler whose workers decode.", "tcp://scheduler:8786"),
    Variable(
        "HTTP_ADDR",
        parse_http_addr,
        DEFAULT_HTTP_ADDR,
        "Where the status server listens; `off` for none. It has no login: keep it to networks that you trust.",
        "0.0.0.0:9177",
    ),
    Variable(
        "LOG_LEVEL",
        _level,
        "info",
        "The least level of a log line: `debug`, `info`, `warning` or `error`.",
    ),
)

#: With headings, for the documentation.
SECTIONS: tuple[tuple[str, tuple[Variable, ...]], ...] = (
    ("The bucket", _BUCKET),
    ("The receiver", _RECEIVER),
    ("Time", _TIME),
    ("Streams and viewers", _STREAMS),
    ("Limits", _LIMITS),
    ("The process", _WORK),
)
VARIABLES: tuple[Variable, ...] = tuple(variable for _, section in SECTIONS for variable in section)


# The result


@dataclass(frozen=True, repr=False)
class Settings:
    """The configuration in force. Its texts show no secret."""

    s3_endpoint: str
    s3_bucket: str
    s3_prefix: str  # without slashes at its ends; "" for the whole bucket
    s3_access_key: Secret
    s3_secret_key: Secret
    s3_region: str
    s3_ca_bundle: Path | None
    keep_files: bool
    quarantine_prefix: str | None
    prometheus_url: str
    prometheus_user: str | None
    prometheus_password: Secret | None
    prometheus_bearer_token: Secret | None
    prometheus_headers: Headers
    prometheus_ca_bundle: Path | None
    prometheus_client_cert: Path | None
    prometheus_client_key: Path | None
    push_retry_seconds: float
    poll_interval: float
    lookback_hours: float
    tick_seconds: int
    session_window_seconds: int
    timestamp_offset_ms: int
    backfill_window: float
    shard_idle_seconds: float
    idle_lag_seconds: float
    drain_seconds: float
    stream_pattern: str
    stream_allowlist: Allowlist | None
    geoip_db_path: Path | None
    max_streams: int
    max_series: int
    max_object_bytes: int
    max_file_bytes: int
    max_line_bytes: int
    max_bad_lines: int
    max_file_entries: int
    state_path: str  # "off", "s3://bucket/prefix", or a file
    download_concurrency: int
    decode_workers: int
    dask_scheduler: str | None
    http_addr: tuple[str, int] | None
    log_level: Level
    doubts: tuple[tuple[str, str], ...] = ()  # variable, what looks wrong

    def public(self) -> dict[str, object]:
        """What may be shown to anybody who may see the logs: variable -> value, secrets masked."""
        return {variable.name: _shown(getattr(self, variable.field)) for variable in VARIABLES}

    @property
    def limits(self) -> Limits:
        """What one file may ask for."""
        from cdn77_exporter.core.decode import Limits  # noqa: PLC0415 - commands that decode nothing start without it

        return Limits(self.max_file_bytes, self.max_line_bytes, self.max_bad_lines, self.max_file_entries)

    def secrets(self) -> dict[str, Secret]:
        """The secrets that are set, by their variable."""
        found = {}
        for variable in VARIABLES:
            value = getattr(self, variable.field)
            secret = value.secret if isinstance(value, Headers) else value
            if isinstance(secret, Secret):
                found[variable.name] = secret
        return found

    def secret_texts(self) -> frozenset[str]:
        """Every text that no output may hold: secrets as they are and were, header values, encoded logins."""
        texts: set[str] = set()
        for name, secret in self.secrets().items():
            for value in secret.seen:
                texts.add(value)
                if name == "PROMETHEUS_HEADERS":
                    texts.update(parse_headers(value).values())
                if name == "PROMETHEUS_PASSWORD":
                    texts.add(basic_credentials(self.prometheus_user or "", value))
        query = urlsplit(self.prometheus_url).query
        if query:
            texts.add(query)  # some receivers take a token there
        return frozenset(texts)

    def addresses(self) -> frozenset[Address]:
        """IP addresses that the configuration itself names: an error may show them."""
        hosts = [urlsplit(url).hostname for url in (self.s3_endpoint, self.prometheus_url, self.dask_scheduler or "")]
        if self.http_addr:
            hosts.append(self.http_addr[0])
        found = set()
        for host in hosts:
            try:
                found.add(ip_address(host or ""))
            except ValueError:
                continue  # a name
        return frozenset(found)

    def masker(self) -> Masker:
        """Takes this configuration's secrets, and addresses that are not its own, out of a text."""
        return Masker(self.secret_texts, self.addresses())

    def changed_secrets(self) -> list[str]:
        """The variables whose secret has changed in its file since this was asked last."""
        return [name for name, secret in self.secrets().items() if secret.changed()]

    def __repr__(self) -> str:
        return f"Settings({self.public()})"


def _shown(value: object) -> object:
    if isinstance(value, Secret):
        return value.source
    if isinstance(value, Headers):
        return value.secret.source if value.secret else None
    if isinstance(value, Allowlist):
        return value.pattern if value.pattern is not None else f"{len(value.names)} names"
    if isinstance(value, tuple):
        host, port = value
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(value, str) and "?" in value and "://" in value:
        parts = urlsplit(value)
        return urlunsplit(SplitResult(parts.scheme, parts.netloc, parts.path, MASK, ""))
    return str(value) if isinstance(value, (Path, Level)) else value


# Loading


def load(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` describes; raises ConfigError with every fault. An empty variable is an unset one."""
    return _Loader({name: value for name, value in environ.items() if value.strip()}).load()


class _Loader:
    """Reads the table row by row and collects faults."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ
        self._faults: list[str] = []
        self._values: dict[str, Any] = {}
        self._guess = _misspelt(environ)
        self._known = _known_secrets(environ)
        self._masker = Masker(lambda: self._known)

    def load(self) -> Settings:
        for variable in VARIABLES:
            self._values[variable.field] = self._value(variable)
        self._values["prometheus_headers"] = Headers(self._values["prometheus_headers"])
        for fault in _combinations(self._values, self._environ):
            self._faults.append(fault)
        if self._faults:
            raise ConfigError(self._faults)
        self._values["download_concurrency"] = _room_for_files(self._values)
        return Settings(**self._values, doubts=tuple(self._doubts()))

    def _fault(self, name: str, text: str) -> None:
        self._faults.append(f"{name} {text.replace('; ', '; expected ', 1)}.")

    def _value(self, variable: Variable) -> object:
        name, from_file = variable.name, f"{variable.name}_FILE"
        given = self._environ.get(name)
        path = self._environ.get(from_file) if variable.from_file else None
        if given is not None and path is not None:
            self._fault(name, f"and {from_file} are both set; one of the two")
            return None
        if path is not None:
            return self._from_file(variable, Path(path))
        if given is None and variable.required:
            self._missing(variable)
            return None
        text = given if given is not None else variable.default
        if text is None:
            return None
        if not variable.secret:
            text = text.strip()
        try:
            value = variable.parse(text)
        except ValueError as error:
            self._fault(name, f"{self._excerpt(variable, text)}{error}")
            return None
        return Secret(text, check=variable.parse) if variable.secret else value

    def _excerpt(self, variable: Variable, text: str) -> str:
        """The value that is at fault, unless it is or may hold a secret: a wrong number says more when it is shown."""
        telling = text.isprintable() and len(text) <= 60 and "@" not in text and "?" not in text
        if variable.secret or not telling or self._masker.secrets(text) != text:
            return ""
        return f"(`{text}`) "

    def _missing(self, variable: Variable) -> None:
        names = [variable.name, f"{variable.name}_FILE"] if variable.from_file else [variable.name]
        words = "is not set; " + variable.help.rstrip(".").lower()[:1] + variable.help.rstrip(".")[1:]
        if variable.example:
            words += f", such as `{variable.example}`"
        if variable.from_file:
            words += f", or {names[1]} with a file that holds it"
        meant = [wrong for wrong, right in self._guess.items() if right in names]
        if meant:
            words += f" ({meant[0]} is set: was {names[0]} meant?)"
        self._fault(variable.name, words)

    def _from_file(self, variable: Variable, path: Path) -> object:
        name = f"{variable.name}_FILE"
        try:
            text = read_secret(path)
            value = variable.parse(text)
            return Secret(text, path, variable.parse) if variable.secret else value
        except OSError as error:
            self._fault(name, f"cannot be read ({error.strerror}); a file that this user may read")
        except ValueError as error:
            self._fault(name, str(error))
        return None

    def _doubts(self) -> Iterator[tuple[str, str]]:
        for wrong, right in self._guess.items():
            yield wrong, f"is not a setting; was {right} meant?"
        yield from _doubts(self._values)


def _known_secrets(environ: Mapping[str, str]) -> frozenset[str]:
    """Everything secret that can be read now, so that no fault of another variable quotes it."""
    found = set()
    for variable in VARIABLES:
        if variable.secret:
            found.add(environ.get(variable.name, ""))
            with suppress(OSError, ValueError):
                found.add(read_secret(Path(environ.get(f"{variable.name}_FILE", ""))))
    return frozenset(found - {""})


def _misspelt(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that are set, are not known, and look like one that is."""
    known = {variable.name for variable in VARIABLES}
    known |= {f"{variable.name}_FILE" for variable in VARIABLES if variable.from_file}
    found = {}
    for name in sorted(environ.keys() - known):
        if len(name) <= 40:
            close = difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.85)
            if close and _same_family(name.upper(), close[0]):
                found[name] = close[0]
    return found


def _same_family(name: str, known: str) -> bool:
    """Whether the first words look alike too: AWS_CA_BUNDLE is nobody's misspelling of S3_CA_BUNDLE."""
    first, other = name.partition("_")[0], known.partition("_")[0]
    return name.count("_") != known.count("_") or difflib.SequenceMatcher(None, first, other).ratio() >= 0.6


def _combinations(values: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Faults between variables, each of which is right by itself."""

    def given(name: str) -> bool:
        return name in environ or f"{name}_FILE" in environ

    user, password, token = (given(f"PROMETHEUS_{name}") for name in ("USER", "PASSWORD", "BEARER_TOKEN"))
    if user and not password:
        yield "PROMETHEUS_PASSWORD is not set but PROMETHEUS_USER is; set both or neither."
    if password and not user:
        yield "PROMETHEUS_USER is not set but PROMETHEUS_PASSWORD is; set both or neither."
    if token and (user or password):
        yield "PROMETHEUS_BEARER_TOKEN is set beside PROMETHEUS_USER or PROMETHEUS_PASSWORD; choose one way to log in."
    if (user or token) and "authorization" in {name.lower() for name in values["prometheus_headers"]}:
        yield "PROMETHEUS_HEADERS has an Authorization header beside another login; choose one way to log in."
    if values["prometheus_user"] and password and not token and ":" in values["prometheus_user"]:
        yield "PROMETHEUS_USER has a colon, which basic authentication cannot carry; use a name without one."
    if given("PROMETHEUS_CLIENT_CERT") != given("PROMETHEUS_CLIENT_KEY"):
        missing = "KEY" if given("PROMETHEUS_CLIENT_CERT") else "CERT"
        yield f"PROMETHEUS_CLIENT_{missing} is not set but its counterpart is; set certificate and key, or neither."
    window, tick = values["session_window_seconds"], values["tick_seconds"]
    if window is not None and tick is not None and window < tick:
        yield f"SESSION_WINDOW_SECONDS ({window}) is shorter than TICK_SECONDS ({tick}); set at least one tick."
    yield from _places(values)


def _places(values: Mapping[str, Any]) -> Iterator[str]:
    """Faults of folders in the bucket: what the exporter writes must not be where it looks for log files."""
    prefix, quarantine, state = values["s3_prefix"], values["quarantine_prefix"], values["state_path"]
    if prefix is None:
        return
    if quarantine == "":
        yield "QUARANTINE_PREFIX is the whole bucket; name a folder of its own, outside of S3_PREFIX."
    elif quarantine is not None and _lies_under(quarantine, prefix):
        yield f"QUARANTINE_PREFIX (`{quarantine}`) lies under S3_PREFIX; name a folder outside of it."
    if state and state.startswith("s3://"):
        bucket, _, folder = state[len("s3://") :].partition("/")
        if bucket == values["s3_bucket"] and _lies_under(folder, prefix):
            yield f"STATE_PATH (`{state}`) lies under S3_PREFIX; name another prefix or another bucket."


def _lies_under(folder: str, prefix: str) -> bool:
    if not prefix:  # the hour folders lie in the bucket itself; only a folder of that form is in the way
        return not folder or re.match(r"\d{8}(/|$)", folder) is not None
    return folder == prefix or folder.startswith(f"{prefix}/")


def _doubts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What can be meant so, but seldom is."""
    url = urlsplit(values["prometheus_url"])
    if url.path in {"", "/"}:
        yield "PROMETHEUS_URL", "has no path; remote-write endpoints usually have one, such as `/api/v1/write`"
    secret = values["prometheus_password"] or values["prometheus_bearer_token"]
    for name, parts, sends_secret in (
        ("PROMETHEUS_URL", url, bool(secret)),
        ("S3_ENDPOINT", urlsplit(values["s3_endpoint"]), False),
    ):
        if parts.scheme == "http" and sends_secret and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
            yield name, "is http, so that the login crosses the network in clear; use https"
    if values["lookback_hours"] * 3600 < values["backfill_window"]:
        yield "BACKFILL_WINDOW", "is longer than LOOKBACK_HOURS, so that older files are not even listed"
    if values["quarantine_prefix"] and values["keep_files"]:
        yield "QUARANTINE_PREFIX", "moves nothing while KEEP_FILES is on: files that cannot be read stay where they are"


def field_names() -> list[str]:
    """The fields of `Settings` that come from a variable, in their order."""
    return [field.name for field in fields(Settings) if field.name != "doubts"]
