"""Parses the values of variables: text in, a value out, or ValueError("what is wrong; what would be right").

No error quotes the text itself: it may be a secret that was put into the wrong variable.
"""

from __future__ import annotations

import math
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cdn77_exporter.core.clocks import ClockSource
from cdn77_exporter.core.encode.version import RemoteWriteVersion
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN, DEFAULT_TRACK_PATTERN
from cdn77_exporter.edge.plain_file import NotAFile, open_plain, what_is
from cdn77_exporter.telemetry.messages import Level

DEFAULT_HTTP_ADDR = "127.0.0.1:9177"
DAY = 86_400.0
KIB, MIB, GIB = 1024, 1024**2, 1024**3


# Values


@dataclass(frozen=True, slots=True)
class Allowlist:
    """Decides whether a stream counts: it is one of `names`, or `pattern` fits it whole. Comparable and picklable."""

    names: frozenset[str] = frozenset()
    pattern: str | None = None

    def __call__(self, stream: str) -> bool:
        return stream in self.names or (self.pattern is not None and re.fullmatch(self.pattern, stream) is not None)

    def __str__(self) -> str:
        return self.pattern if self.pattern is not None else f"{len(self.names)} names"


@dataclass(frozen=True, slots=True)
class Off:
    """No durable state: it is in memory, and a crash may count the end of a file twice."""

    def __str__(self) -> str:
        return "off"


@dataclass(frozen=True, slots=True)
class File:
    """The state is a file of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class InBucket:
    """The state is kept in objects of a bucket; `prefix` has no slash at its ends, and is "" for the whole bucket."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


#: Where the state is kept.
StatePlace = Off | File | InBucket

# Parsers


def plain_text(text: str) -> str:
    """Return text without control characters."""
    if not text.isprintable():
        raise ValueError("has control characters; plain text")
    return text


def suffix(text: str) -> str:
    """Return the end of a name."""
    if not plain_text(text) or "/" in text:
        raise ValueError("is no end of a name; such as `.ndjson.gz`, without a slash")
    return text


def flag(text: str) -> bool:
    """Return a flag."""
    word = text.lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError("is neither true nor false; `true` or `false`")


def whole(least: int, most: int, words: dict[str, Callable[[], int]] | None = None) -> Callable[[str], int]:
    """Parse whole numbers in a range; `words` stand for numbers that are found when they are read."""
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


_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": DAY}
_SIZES = {"": 1, "b": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB}
_SIZES |= {"kb": 1000, "mb": 1000**2, "gb": 1000**3}
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")


def duration(least: float, most: float) -> Callable[[str], float]:
    """Parse lengths of time in a range of seconds; a bare number is seconds."""
    said = f"seconds from {least:g} to {most:g}, or with a unit such as `90s`, `15m`, `2h`"

    def parse(text: str) -> float:
        return _amount(text, _UNITS, "a duration", said, least, most)

    return parse


def whole_seconds(least: int, most: int) -> Callable[[str], int]:
    """Parse lengths of time that are whole seconds."""
    parse_duration = duration(least, most)

    def parse(text: str) -> int:
        seconds = parse_duration(text)
        if seconds != int(seconds):
            raise ValueError(f"is not a whole number of seconds; {least} to {most}")
        return int(seconds)

    return parse


def seconds_or_none(least: int, most: int) -> Callable[[str], int]:
    """Parse lengths of time that are whole seconds; 0 stands for none."""
    parse_seconds = whole_seconds(least, most)
    return lambda text: 0 if text.strip() == "0" else parse_seconds(text)


def windows(most: int, longest: int) -> Callable[[str], tuple[int, ...]]:
    """Parse lengths of time with commas between them, at most so many; each once, in their order."""
    parse_seconds = whole_seconds(1, longest)

    def parse(text: str) -> tuple[int, ...]:
        found = tuple(dict.fromkeys(parse_seconds(part.strip()) for part in text.split(",") if part.strip()))
        if len(found) > most:
            raise ValueError(f"has {len(found)} windows; at most {most}, such as `5m,24h`")
        return found

    return parse


def hours(text: str) -> float:
    """Return a number of hours up to a month."""
    try:
        count = float(text)
    except ValueError:
        raise ValueError("is not a number; hours from 0 to 720, such as `2`") from None
    if not (math.isfinite(count) and 0 <= count <= 720):
        raise ValueError("is out of range; hours from 0 to 720")
    return count


def size(least: int, most: int) -> Callable[[str], int]:
    """Parse numbers of bytes in a range; a bare number is bytes."""
    said = f"bytes from {least:,} to {most:,}, or with a unit such as `64KiB`, `256MiB`"

    def parse(text: str) -> int:
        return int(_amount(text, _SIZES, "a size", said, least, most))

    return parse


def _amount(text: str, units: Mapping[str, float], what: str, said: str, least: float, most: float) -> float:
    """Return a number with a unit, in the smallest one; `said`: what would be right."""
    found = _AMOUNT.fullmatch(text)
    if not found or found[2].lower() not in units:
        raise ValueError(f"is not {what}; {said}")
    amount = float(found[1]) * units[found[2].lower()]
    if not least <= amount <= most:
        raise ValueError(f"is out of range; {said}")
    return amount


def tick(text: str) -> int:
    """Return a number of seconds that divides a minute."""
    seconds = whole_seconds(1, 60)(text)
    if 60 % seconds:
        raise ValueError("does not divide a minute; one of 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60")
    return seconds


def web_address(text: str) -> str:
    """Return a URL with a host, and without a login."""
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


def endpoint(text: str) -> str:
    """Return the URL of a server, without a path."""
    parts = urlsplit(web_address(text))
    if parts.query or parts.path not in {"", "/"}:
        raise ValueError(
            "has more than a host; the S3 server's address alone, such as `https://eu-1.cdn77-storage.com`"
        )
    return text.rstrip("/")


def bucket_name(text: str) -> str:
    """Return a bucket's name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", text):
        raise ValueError("is not a bucket's name; its name alone, without `s3://` and slashes")
    return text


def folder(text: str) -> str:
    """Return a folder of a bucket without slashes at its ends; "" for the whole bucket."""
    path = plain_text(text).strip("/")
    if "://" in path or "//" in path or any(part in {".", ".."} for part in path.split("/")):
        raise ValueError(
            "is not a folder of the bucket; a path such as `real-time-logs/all-logs`, or `/` for the whole"
        )
    return path


def file_path(text: str) -> Path:
    """Return the path of a file that need not be there yet."""
    if not text.isprintable():
        raise ValueError("is not a path; a file")
    return Path(text)


def readable_file(text: str) -> Path:
    """Return the path of a file that can be read."""
    path = Path(text)
    try:
        with open_plain(path):
            pass
    except NotAFile as error:
        raise ValueError(f"cannot be used: {error.strerror}; a file that this user may read") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); a file that this user may read") from None
    except ValueError:
        raise ValueError("is not a path; a file that this user may read") from None
    return path


def state_place(text: str) -> StatePlace:
    """Return where the state is kept."""
    if text.lower() == "off":
        return Off()
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        try:
            return InBucket(bucket_name(bucket), folder(prefix))
        except ValueError:
            raise ValueError("is not a place in a bucket; `s3://bucket/prefix`") from None
    if "://" in text or not text.isprintable():
        raise ValueError("is neither a file nor a bucket; a path, `s3://bucket/prefix`, or `off`")
    kind = _kind(Path(text))
    if kind == "a folder":
        raise ValueError("is a folder; a file in it, such as `state.db`, that need not exist yet")
    if kind:
        raise ValueError(f"is {kind}; a file, such as `/var/lib/cdn77-exporter/state.db`, that need not exist yet")
    return File(Path(text))


def _kind(path: Path) -> str:
    """Return what a path leads to, if it is something else than a file; nothing, too, where nothing is known."""
    try:
        return what_is(path.stat().st_mode)
    except (OSError, ValueError):
        return ""


def pattern(text: str) -> str:
    """Return a regular expression with one group, which is the stream's name."""
    return _pattern(text, "stream", DEFAULT_STREAM_PATTERN)


def track_pattern(text: str) -> str:
    """Return a regular expression with one group, which is the track's name."""
    return _pattern(text, "track", DEFAULT_TRACK_PATTERN)


def _pattern(text: str, what: str, example: str) -> str:
    try:
        groups = re.compile(text).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is not a regular expression ({error}); one such as `{example}`") from None
    if groups != 1:
        raise ValueError(f"has {groups} groups; one group, which is the {what}'s name: `{example}`")
    return text


_ALLOWLIST_BYTES = 16 * 1024 * 1024


def allowlist(text: str) -> Allowlist:
    """Return a rule for streams, from a regular expression or from a file of names."""
    if text.startswith(("/", "./", "../")):
        with open_plain(readable_file(text)) as file:
            content = file.read(_ALLOWLIST_BYTES + 1)
        if len(content) > _ALLOWLIST_BYTES:
            raise ValueError("is larger than 16 MiB; a file with one stream a line")
        try:
            lines = content.decode("utf-8").splitlines()
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


def http_address(text: str) -> tuple[str, int] | None:
    """Return host and port to listen on, or None for `off`."""
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


def host_names(text: str) -> tuple[str, ...]:
    """Return names of hosts, in lower case; `*` is one that stands for all."""
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    if not all(name == "*" or re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", name) for name in names):
        raise ValueError("has something that is no host's name; names with commas between them, without ports, or `*`")
    return names


def host_to_ask(host: str) -> str:
    """Return where this machine reaches a server that listens on `host`: loopback, if it is every interface."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return {4: "127.0.0.1", 6: "::1"}[address.version] if address.is_unspecified else host


def level(text: str) -> Level:
    """Return the least level of log lines."""
    try:
        return Level(text.lower())
    except ValueError:
        raise ValueError("is not a level; `debug`, `info`, `warning` or `error`") from None


def remote_write_version(text: str) -> RemoteWriteVersion:
    """Return which version of remote write is wanted."""
    try:
        return RemoteWriteVersion(text.lower())
    except ValueError:
        raise ValueError("names no version of remote write; `auto`, `1` or `2`") from None


def clock_source(text: str) -> ClockSource:
    """Return whose time is believed."""
    try:
        return ClockSource(text.lower())
    except ValueError:
        raise ValueError("names no clock; `auto`, `machine` or `bucket`") from None


def scheduler(text: str) -> str:
    """Return a Dask scheduler's address."""
    if not re.fullmatch(r"(?:tcp|tls|ws|wss)://[A-Za-z0-9.\[\]:-]+:[0-9]{1,5}/?", text):
        raise ValueError("is not a Dask scheduler's address; such as `tcp://scheduler:8786`")
    return text.rstrip("/")


def random_offset() -> int:
    """Draw a number of milliseconds for `random`."""
    return secrets.randbelow(1000)


def spare_cores() -> int:
    """Return how many cores this process may use beside its own, at least one, for `auto`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)
