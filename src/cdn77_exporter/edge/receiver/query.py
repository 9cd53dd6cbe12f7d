"""The query API beside a receiver: what it holds, asked with the same credentials as what is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from cdn77_exporter.core.encode.parts import Sent, last_sample
from cdn77_exporter.core.errors import Misconfigured, Refused, Transient
from cdn77_exporter.edge.receiver.remote_write import RemoteWriter

#: The path of a write endpoint -> that of the query API beside it; `\1` is what comes before.
_BASES = (
    (re.compile(r"(.*)/insert/([0-9:]+|multitenant)/prometheus/api/v1/write/?"), r"\1/select/\2/prometheus"),
    (re.compile(r"(.*)/api/v1/write/?"), r"\1"),
    (re.compile(r"(.*)/api/v1/push/?"), r"\1/prometheus"),
    (re.compile(r"(.*)/api/prom/push/?"), r"\1/api/prom"),
)
_MOST_BYTES = 256 * 1024 * 1024
_WINDOW = re.compile(r"^\s*out_of_order_time_window:\s*(\S+)", re.MULTILINE)

#: The metric in which a server tells its version -> what it is called.
_SERVERS = {
    "vm_app_version": "VictoriaMetrics",
    "thanos_build_info": "Thanos",
    "cortex_build_info": "Cortex or Mimir",
    "prometheus_build_info": "Prometheus",
}
_SERVER = re.compile(
    rf'^(?P<program>{"|".join(_SERVERS)})\{{(?:.*,)?\s*(?:short_)?version="(?P<version>[^"]{{0,40}})"', re.MULTILINE
)

_CREDENTIALS = "check PROMETHEUS_USER and PROMETHEUS_PASSWORD, or PROMETHEUS_BEARER_TOKEN: it asks for a login too"

_NO_ANSWER = "the answer is none of the Prometheus query API"
#: What the JSON library raises on a text that it cannot read; the second, when it is nested too deep.
_UNREADABLE = (msgspec.MsgspecError, RecursionError)

Labels = Mapping[str, str]


class TooMuch(Exception):
    """The answer is larger than the receiver gives out, or than is taken; ask for less."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series of an answer: its labels, and its samples as Unix milliseconds and value, oldest first.

    `histograms`: native ones, as Unix milliseconds, sum and count.
    """

    labels: Labels
    samples: Sequence[tuple[int, float]]
    histograms: Sequence[tuple[int, float, float]] = ()


class _Histogram(msgspec.Struct):
    sum: str
    count: str


class _Row(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []
    value: tuple[float, str] | None = None
    histograms: list[tuple[float, _Histogram]] = []
    histogram: tuple[float, _Histogram] | None = None


class _Data(msgspec.Struct):
    result: list[_Row] = []


class _Answer(msgspec.Struct):
    status: str = ""
    data: _Data = msgspec.field(default_factory=_Data)


def query_base(write_url: str) -> str | None:
    """Return where the query API of a write endpoint usually is; None when its path is of no known form."""
    parts = urlsplit(write_url)
    for pattern, base in _BASES:
        found = pattern.fullmatch(parts.path)
        if found:
            return urlunsplit((parts.scheme, parts.netloc, found.expand(base), "", ""))
    return None


_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


def seconds_of(duration: str) -> float:
    """Return the seconds of a duration as Prometheus writes it, such as `1h30m`."""
    return sum(float(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))


class Memory:
    """The receiver's samples, asked for after a lost answer; it knows none without a query API at its usual place."""

    def __init__(self, writer: RemoteWriter, write_url: str) -> None:
        base = query_base(write_url)
        self._api = None if base is None else QueryApi(writer, base, 1024 * 1024)

    async def holds(self, body: bytes) -> bool | None:
        """Return whether the last sample of a request is there, as it was sent; None when nobody says."""
        sent = last_sample(body)
        if self._api is None or sent is None:
            return None
        try:
            if sent.observations is None:
                return (sent.at_ms, sent.value) in await self._samples(self._api, sent.labels, sent.at_ms)
            return await self._holds_histogram(self._api, sent, sent.observations)
        except (Transient, Misconfigured, Refused, TooMuch):
            return None

    async def _samples(self, api: QueryApi, labels: Labels, at_ms: int) -> list[tuple[int, float]]:
        return [
            sample for series in await api.query(f"{selector(labels)}[1s]", at_ms / 1000) for sample in series.samples
        ]

    async def _holds_histogram(self, api: QueryApi, sent: Sent, count: float) -> bool:
        """Tell the same of a native histogram, which VictoriaMetrics keeps as a counter for each of its parts."""
        found = await api.query(f"{selector(sent.labels)}[1s]", sent.at_ms / 1000)
        if any((sent.at_ms, sent.value, count) in series.histograms for series in found):
            return True
        converted = {**sent.labels, "__name__": f"{sent.labels['__name__']}_count"}
        return (sent.at_ms, count) in await self._samples(api, converted, sent.at_ms)


def selector(labels: Labels) -> str:
    """Return what of PromQL selects the series that have these labels; nothing without any."""
    matchers = ",".join(f"{name}={_quoted(value)}" for name, value in labels.items())
    return f"{{{matchers}}}" if matchers else ""


def _quoted(text: str) -> str:
    """Return a text as PromQL has it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class QueryApi:
    """The query API at `base`. Every call raises Transient, Misconfigured or Refused when it cannot be answered."""

    def __init__(self, writer: RemoteWriter, base: str, most_bytes: int = _MOST_BYTES) -> None:
        self._writer = writer
        self._base = base.rstrip("/")
        self._most_bytes = most_bytes

    async def _ask(self, path: str, **form: str) -> bytes:
        status, body = await self._writer.ask(f"{self._base}{path}", form, self._most_bytes)
        if status == 200:
            if len(body) >= self._most_bytes:
                raise TooMuch
            return body
        words = " ".join(body[:500].decode("utf-8", "replace").split())
        if status == 422 and ("too many samples" in words or "too many" in words):
            raise TooMuch
        if status in {401, 403}:
            raise Misconfigured(f"the query API refuses with {status}", _CREDENTIALS)
        if status == 429 or status >= 500:
            raise Transient(f"the query API answers {status} {words}")
        raise Refused(status, words)

    async def server(self) -> str:
        """Return the server's name and version, such as `Prometheus 2.42.0`; empty when it does not tell.

        What imitates Prometheus also tells a version of Prometheus, so its own metrics are asked first.
        """
        try:
            found = _SERVER.search((await self._ask("/metrics")).decode("utf-8", "replace"))
        except (Misconfigured, Refused, TooMuch):
            found = None
        if found is not None:
            return f"{_SERVERS[found['program']]} {found['version'].lstrip('v')}".strip()
        told = self._data(await self._ask("/api/v1/status/buildinfo"))
        version = str(told.get("version", ""))
        return f"{told.get('application') or 'Prometheus'} {version}" if version else ""

    async def out_of_order_window(self) -> str:
        """Return the out-of-order window in force, such as `2h`; empty when there is none."""
        found = _WINDOW.search(str(self._data(await self._ask("/api/v1/status/config")).get("yaml", "")))
        return "" if found is None or re.fullmatch(r"0[a-z]*", found[1]) else found[1]

    def _data(self, body: bytes) -> dict[str, Any]:
        try:
            found = msgspec.json.decode(body)["data"]
        except (*_UNREADABLE, KeyError, TypeError):
            found = None
        if not isinstance(found, dict):
            raise Refused(200, _NO_ANSWER)
        return found

    async def query(self, expression: str, at_seconds: float) -> list[Series]:
        """Ask an instant query: a vector's series have one sample each, a range selector's all of theirs."""
        body = await self._ask("/api/v1/query", query=expression, time=f"{at_seconds:.3f}")
        try:
            answer = msgspec.json.decode(body, type=_Answer)
            return [
                Series(
                    row.metric,
                    [(round(at * 1000), float(text)) for at, text in ([row.value] if row.value else row.values)],
                    [
                        (round(at * 1000), float(one.sum), float(one.count))
                        for at, one in ([row.histogram] if row.histogram else row.histograms)
                    ],
                )
                for row in answer.data.result
            ]
        except (*_UNREADABLE, ValueError, OverflowError):
            raise Refused(200, _NO_ANSWER) from None
