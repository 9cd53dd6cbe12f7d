"""The published sender tests of the Prometheus project, written anew against what is sent over HTTP.

Two suites are meant, by the names that their cases have: `remotewrite/sender` of prometheus/compliance, for 2.0, and
the cases for 1.0 that it had before (`sender/cases`), here under `v1`. A test says by a mark which cases it is: those
that pass by `sender`, those that are done otherwise on purpose by `sender_deviates`, with the reason. `NOT_APPLICABLE`
has the rest. The table in docs/receivers.md is made from these, by `tools/generate_docs.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import cramjam
import pytest
from aiohttp import web

from cdn77_exporter.core.catalogue import Catalogue, series_key
from cdn77_exporter.core.changes import Request, Unsent
from cdn77_exporter.core.encode import remote_write_2_pb2 as pb2
from cdn77_exporter.core.encode import remote_write_pb2 as pb1
from cdn77_exporter.core.encode.parts import NOTHING_2
from cdn77_exporter.core.encode.remote_write import RemoteWrite
from cdn77_exporter.core.encode.request_limit import RequestLimit
from cdn77_exporter.core.encode.version import RemoteWriteVersion, Spoken
from cdn77_exporter.core.measures import MEASURES, PART, REQUESTS, STREAM, VIEWERS, Measure, Measures, native_histogram
from cdn77_exporter.core.series import STALE_BITS, Frame, SeriesTable
from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.flow.channel import Channel
from cdn77_exporter.flow.delivery import Delivery
from cdn77_exporter.flow.ports import Common
from cdn77_exporter.flow.stages.aggregate import Batch
from cdn77_exporter.flow.stages.push import Pusher
from tests.flow.test_sending import _Noting
from tests.support.prometheus import free_port
from tests.support.samples import bits
from tests.support.stage_bench import NOW_MS, TICK, StageBench
from tests.support.virtual_time import VirtualClock
from tests.unit.test_remote_write_1 import frame

#: Every published case, by the file that it is in.
PUBLISHED = {
    "protocol": "content_type_protobuf content_type_with_proto_param content_encoding_snappy version_header_present "
    "version_header_value user_agent_present snappy_block_format protobuf_parseable http_method",
    "symbols": "empty_string_at_index_zero string_deduplication labels_refs_valid_indices labels_refs_even_length "
    "symbol_table_efficiency",
    "labels": "label_lexicographic_ordering metric_name_label_present metric_name_format_valid label_name_format_valid "
    "no_duplicate_label_names label_names_not_empty label_values_may_be_empty reserved_label_prefix "
    "unicode_in_label_values special_chars_in_label_values very_long_label_names very_long_label_values "
    "many_labels_per_series",
    "samples": "float_value_encoding integer_value_encoding zero_value_encoding negative_value_encoding "
    "positive_infinity_encoding negative_infinity_encoding nan_encoding timestamp_milliseconds_format timestamp_recent "
    "multiple_samples_same_series large_float_values small_float_values scientific_notation precision_preservation "
    "job_instance_labels_present sample_ordering",
    "timestamps": "timestamp_int64_milliseconds timestamp_ordering_within_series start_timestamp_for_counters "
    "start_timestamp_for_histograms start_timestamp_zero_handling timestamp_precision timestamp_future_values "
    "start_timestamp_before_sample_timestamp",
    "metadata": "metadata_type_counter metadata_type_gauge metadata_type_histogram metadata_type_summary "
    "metadata_help_text metadata_unit metadata_help_with_newlines metadata_help_with_special_chars "
    "metadata_help_refs_valid metadata_consistent_across_series metadata_empty_help_allowed",
    "histograms": "native_histogram_structure histogram_count_present histogram_sum_present histogram_buckets_ordered "
    "histogram_positive_buckets histogram_negative_buckets histogram_zero_bucket histogram_schema histogram_timestamp "
    "histogram_no_mixed_with_samples histogram_empty_buckets histogram_large_counts",
    "exemplars": "exemplar_with_trace_id exemplar_with_span_id exemplar_value_valid exemplar_timestamp_valid "
    "exemplar_labels_valid_refs exemplar_custom_labels exemplar_on_histogram exemplar_labels_even_length "
    "multiple_exemplars_per_series",
    "combined": "samples_with_metadata samples_with_exemplars histogram_with_metadata_and_exemplars "
    "multiple_metric_types high_cardinality_labels complete_metric_family mixed_labels_and_metadata "
    "real_world_scenario",
    "edge_cases": "empty_scrape huge_label_values unicode_in_labels many_timeseries high_cardinality "
    "very_long_metric_name special_float_combinations zero_timestamp future_timestamp metric_name_with_colons "
    "stale_marker mixed_sample_and_histogram_families robustness_under_load",
    "batching": "multiple_series_per_request batch_size_reasonable handles_varying_cardinality efficient_symbol_reuse "
    "metadata_batching concurrent_requests",
    "retry": "no_retry_on_400 no_retry_on_401 no_retry_on_404 may_retry_on_429 retry_on_500 retry_on_503 retry_on_502 "
    "retry_on_504 no_retry_on_413",
    "backoff": "exponential_backoff_on_retries backoff_required backoff_max_delay backoff_with_jitter",
    "response": "ignore_response_body_on_success process_written_count_headers handle_partial_write_response "
    "handle_missing_written_headers log_error_messages_verbatim handle_large_error_body handle_204_no_content "
    "handle_200_ok content_type_negotiation",
    "fallback": "fallback_on_415_unsupported_media_type retry_with_different_version fallback_header_changes "
    "accept_success_after_fallback persistent_fallback_choice no_fallback_on_2xx",
    "error_handling": "handle_connection_refused handle_timeout handle_partial_write handle_malformed_response "
    "sender_continues_after_errors handle_invalid_status_code handle_empty_response handle_large_error_response "
    "dns_resolution_failure invalid_url_scheme",
    "rw1_compat": "rw1_version_header rw1_content_type rw1_samples_encoding rw1_labels_encoding "
    "rw1_no_native_histograms rw1_no_start_timestamp rw1_metadata_handling rw1_symbol_table_not_used "
    "rw1_configuration",
    "v1": "Counter Gauge Histogram Summary Up InstanceLabel JobLabel HonorLabels SortedLabels RepeatedLabels "
    "EmptyLabels NameLabel Headers Ordering Retries500 Retries400 Staleness Timestamp",
}

_NO_SCRAPE = "nothing is scraped, so there is no target to name"
_NO_EXEMPLARS = "no exemplars are sent: log lines have no trace"
#: Cases that ask for what this sender does not have, with the reason.
NOT_APPLICABLE = {
    "samples/job_instance_labels_present": _NO_SCRAPE,
    "v1/InstanceLabel": _NO_SCRAPE,
    "v1/JobLabel": _NO_SCRAPE,
    "v1/HonorLabels": _NO_SCRAPE,
    "v1/Up": _NO_SCRAPE,
    "metadata/metadata_unit": "the unit is in the metric's name, as its last word",
    "metadata/metadata_empty_help_allowed": "every metric has a help",
    "histograms/histogram_negative_buckets": "times are never negative",
    "histograms/histogram_zero_bucket": "only times above 0 are observed, so the zero bucket is empty",
    "exemplars/exemplar_with_trace_id": _NO_EXEMPLARS,
    "exemplars/exemplar_with_span_id": _NO_EXEMPLARS,
    "exemplars/exemplar_value_valid": _NO_EXEMPLARS,
    "exemplars/exemplar_timestamp_valid": _NO_EXEMPLARS,
    "exemplars/exemplar_labels_valid_refs": _NO_EXEMPLARS,
    "exemplars/exemplar_custom_labels": _NO_EXEMPLARS,
    "exemplars/exemplar_on_histogram": _NO_EXEMPLARS,
    "exemplars/exemplar_labels_even_length": _NO_EXEMPLARS,
    "exemplars/multiple_exemplars_per_series": _NO_EXEMPLARS,
    "combined/samples_with_exemplars": _NO_EXEMPLARS,
    "batching/concurrent_requests": "requests go one after the other: their order is what makes counters right",
}

NATIVE = native_histogram("cdn77_waits_seconds", "timeToFirstByteMs", 1000, (STREAM,), "Waits.")
TABLE = Measures((*MEASURES.rows, *NATIVE))
GAUGE = next(row for row in TABLE.rows if row.name == "cdn77_active_viewers")
TYPES = {"unspecified": 0, "counter": 1, "gauge": 2, "histogram": 3, "summary": 5}
AT = TICK * 1000

both = pytest.mark.parametrize("version", [1, 2])


# What was received


@dataclass(frozen=True)
class Series:
    """One series of a request, read by protobuf's own parser."""

    labels: list[tuple[str, str]]
    samples: list[tuple[int, float]]
    histograms: Sequence[pb1.Histogram | pb2.Histogram]
    kind: int = 0
    help: str = ""
    created_ms: int = 0

    @property
    def name(self) -> str:
        """The metric's."""
        return dict(self.labels)["__name__"]


@dataclass(frozen=True)
class Captured:
    """A request as it came."""

    method: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def version(self) -> int:
        """The version that the headers name."""
        return 2 if self.headers["X-Prometheus-Remote-Write-Version"].startswith("2.") else 1

    @property
    def plain(self) -> bytes:
        """The body, inflated as a block."""
        return bytes(cramjam.snappy.decompress_raw(self.body))

    @property
    def two(self) -> pb2.Request:
        """The request of 2.0."""
        return pb2.Request.FromString(self.plain)

    @property
    def series(self) -> list[Series]:
        """Its series, in their order."""
        if self.version == 1:
            return [
                Series(
                    [(label.name, label.value) for label in entry.labels],
                    [(sample.timestamp, sample.value) for sample in entry.samples],
                    entry.histograms,
                )
                for entry in pb1.WriteRequest.FromString(self.plain).timeseries
            ]
        symbols = self.two.symbols
        return [
            Series(
                [
                    (symbols[name], symbols[text])
                    for name, text in zip(entry.labels_refs[::2], entry.labels_refs[1::2], strict=True)
                ],
                [(sample.timestamp, sample.value) for sample in entry.samples],
                entry.histograms,
                entry.metadata.type,
                symbols[entry.metadata.help_ref],
                entry.created_timestamp,
            )
            for entry in self.two.timeseries
        ]

    @property
    def count(self) -> tuple[int, int]:
        """Its samples and its native histograms."""
        series = self.series
        return sum(len(one.samples) for one in series), sum(len(one.histograms) for one in series)


Answer = Callable[[Captured], web.Response | None]


def written(samples: int, histograms: int = 0) -> dict[str, str]:
    """The headers of an answer that say how much was stored."""
    numbers = (("Samples", samples), ("Histograms", histograms), ("Exemplars", 0))
    return {f"X-Prometheus-Remote-Write-{name}-Written": str(number) for name, number in numbers}


@dataclass
class Mock:
    """A receiver over HTTP that takes everything, but for the answers that it is given; an async context manager.

    `requests`: those with something in them. `speaks_2`: whether it understands 2.0.
    """

    speaks_2: bool = True
    requests: list[Captured] = field(default_factory=list)
    questions: list[Captured] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=32 << 20)
        app.router.add_route("*", "/api/v1/write", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/api/v1/write"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        captured = Captured(request.method, dict(request.headers), await request.read())
        if captured.version == 2 and not self.speaks_2:
            (self.questions if captured.body == NOTHING_2 else self.requests).append(captured)
            return web.Response(status=415, text="RW 2.0 not supported")
        if captured.body == NOTHING_2:
            self.questions.append(captured)
            return web.Response(status=204, headers=written(0))
        self.requests.append(captured)
        answer = self.answers.pop(0)(captured) if self.answers else None
        return answer or self.good(captured)

    def good(self, captured: Captured, status: int = 204, text: str | None = None) -> web.Response:
        """The answer to what is stored."""
        headers = written(*captured.count) if captured.version == 2 else None
        return web.Response(status=status, headers=headers, text=text)

    def answer(self, status: int, text: str = "", *, times: int = 1, headers: Mapping[str, str] | None = None) -> None:
        """Answer the next requests so."""
        self.answers += [lambda _: web.Response(status=status, text=text, headers=headers)] * times

    @property
    def series(self) -> list[Series]:
        """The series of all requests."""
        return [one for request in self.requests for one in request.series]


class Hurried(VirtualClock):
    """A clock that does not wait, and remembers for how long it was to."""

    def __init__(self) -> None:
        super().__init__(NOW_MS)
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return super().monotonic() + sum(self.waits)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


class Sender:
    """Series, and the whole way from their frames to HTTP: encoder, pusher, writer."""

    def __init__(self, version: int | None = None, *, url: str = "", labels: tuple[tuple[str, str], ...] = ()) -> None:
        self.wanted = RemoteWriteVersion.AUTO if version is None else RemoteWriteVersion(str(version))
        self.spoken = Spoken()
        self.spoken.want(self.wanted)
        self.catalogue = Catalogue(TABLE, labels)
        self.table = SeriesTable(self.catalogue, 15, 900)
        self.encoder = RemoteWrite(self.catalogue, self.spoken, RequestLimit(), describes=True)
        self.url = url
        self.writer: RemoteWriter | None = None
        self.pusher: Pusher | None = None
        self.clock, self.bench, self.accounts = Hurried(), StageBench(), _Noting()
        self.number = 0

    def add(self, measure: Measure, *values: str, amount: float = 1) -> int:
        """Count; return the slot."""
        slot = self.table.slot(series_key(self.catalogue.code(measure), values))
        self.table.add(slot, amount)
        return slot

    def observe(self, stream: str = "s") -> None:
        """Observe a second."""
        self.add(NATIVE[0], stream, "0")
        self.add(NATIVE[1], stream, "sum", amount=1000)

    async def tick(self, mock: Mock, tick: int = TICK, *, zeros: int = 0) -> None:
        """Send a tick, with so many zeros before series that begin."""
        await self.send(mock, *self.table.emit(tick, pad_from=tick - 15 * zeros))

    async def send(self, mock: Mock, *frames: Frame, metadata: bool = False) -> None:
        """Send frames."""
        bodies = self.encoder.encode(self.table, frames)
        if metadata and (description := self.encoder.describe(TABLE.rows)):
            bodies.append((description, 0))
        requests = []
        for body, samples in bodies:
            self.number += 1
            requests.append(Request(self.number, TICK, samples, body))
        if not requests:
            return
        self.bench.counted(requests=requests)
        inbox: Channel[Batch] = Channel(1)
        async with inbox:
            await inbox.put(Batch(TICK, tuple(Unsent(one.number, one.tick, one.samples) for one in requests)))
        await self._push(mock.url, inbox)

    async def _push(self, url: str, inbox: Channel[Batch]) -> None:
        """Push what is committed, with what is known of the receiver."""
        if self.writer is None or self.pusher is None:
            common = Common(self.clock, self.bench.said, self.bench.trouble, self.bench.stop)
            self.writer = RemoteWriter(self.url or url, timeout_seconds=2)
            self.pusher = Pusher(common, self.writer, self.bench.state, self.accounts, 600, spoken=self.spoken)
        async with self.writer:
            await self.pusher.run(inbox, Channel(10))


@pytest.fixture
async def mock() -> AsyncIterator[Mock]:
    """A receiver."""
    async with Mock() as running:
        yield running


# Protocol


@both
@pytest.mark.sender(
    "protocol/content_type_protobuf",
    "protocol/content_encoding_snappy",
    "protocol/version_header_present",
    "protocol/user_agent_present",
    "protocol/http_method",
    "v1/Headers",
)
async def test_headers(mock: Mock, version: int) -> None:
    """A request is a POST with the headers that the specification asks for, and the sender's name and version."""
    sender = Sender(version)
    sender.add(VIEWERS, "s")
    await sender.tick(mock)
    (request,) = mock.requests
    assert request.method == "POST"
    assert request.headers["Content-Type"].partition(";")[0] == "application/x-protobuf"
    assert request.headers["Content-Encoding"] == "snappy"
    assert re.fullmatch(r"cdn77-exporter/\d+\.\d+\.\d+\S*", request.headers["User-Agent"])
    assert request.headers["X-Prometheus-Remote-Write-Version"] in ("0.1.0", "2.0.0")


@pytest.mark.sender(
    "protocol/content_type_with_proto_param",
    "protocol/version_header_value",
    "response/content_type_negotiation",
    "rw1_compat/rw1_version_header",
    "rw1_compat/rw1_content_type",
    "rw1_compat/rw1_configuration",
)
async def test_headers_name_the_version(mock: Mock) -> None:
    """2.0 has its message in the content type, 1.0 the plain one; which is sent is a setting."""
    for version in (1, 2):
        sender = Sender(version)
        sender.add(VIEWERS, "s")
        await sender.tick(mock)
    found = [(one.headers["X-Prometheus-Remote-Write-Version"], one.headers["Content-Type"]) for one in mock.requests]
    assert found == [
        ("0.1.0", "application/x-protobuf"),
        ("2.0.0", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ]


@both
@pytest.mark.sender("protocol/snappy_block_format", "protocol/protobuf_parseable")
async def test_a_body_is_a_snappy_block_of_protobuf(mock: Mock, version: int) -> None:
    """It is no framed stream, and every byte of it is of the version's message."""
    sender = Sender(version)
    sender.add(VIEWERS, "s")
    sender.observe()
    await sender.tick(mock, zeros=3)
    for request in mock.requests:
        assert not request.body.startswith(b"\xff\x06\x00\x00sNaPpY")
        read = request.two if version == 2 else pb1.WriteRequest.FromString(request.plain)
        read.DiscardUnknownFields()
        assert read.ByteSize() == len(request.plain)
        assert read.timeseries


# Symbols


@pytest.mark.sender(
    "symbols/empty_string_at_index_zero",
    "symbols/string_deduplication",
    "symbols/labels_refs_valid_indices",
    "symbols/labels_refs_even_length",
    "symbols/symbol_table_efficiency",
    "metadata/metadata_help_refs_valid",
    "batching/efficient_symbol_reuse",
)
async def test_symbols(mock: Mock) -> None:
    """The first is empty, none is there twice, references are pairs of those there are, and all are referred to."""
    sender = Sender(2)
    for number in range(300):
        sender.add(REQUESTS, f"s{number % 10}", "1", "HIT", f"pop{number}")
    sender.observe()
    await sender.tick(mock, zeros=2)
    for request in mock.requests:
        symbols = list(request.two.symbols)
        assert symbols[0] == ""
        assert len(set(symbols)) == len(symbols)
        used = {0}
        for entry in request.two.timeseries:
            assert len(entry.labels_refs) % 2 == 0
            used |= {*entry.labels_refs, entry.metadata.help_ref, entry.metadata.unit_ref}
        assert max(used) < len(symbols)
    assert len(mock.requests[0].two.symbols) < 350 < 300 * 10


# Labels


@both
@pytest.mark.sender(
    "labels/label_lexicographic_ordering",
    "labels/metric_name_label_present",
    "labels/metric_name_format_valid",
    "labels/label_name_format_valid",
    "labels/no_duplicate_label_names",
    "labels/label_names_not_empty",
    "labels/reserved_label_prefix",
    "rw1_compat/rw1_labels_encoding",
    "v1/SortedLabels",
    "v1/RepeatedLabels",
    "v1/NameLabel",
)
async def test_labels(mock: Mock, version: int) -> None:
    """Every metric's labels are sorted, each once, with names that PromQL has; only the metric's own begins with __."""
    sender = Sender(version, labels=(("account", "x"), ("zone", "y")))
    for measure in TABLE.rows:
        sender.add(measure, *("3" if name == PART else "v" for name in measure.labels))
    await sender.tick(mock)
    names = set()
    for one in mock.series:
        labels = [name for name, _ in one.labels]
        assert labels == sorted(set(labels))
        assert [name for name in labels if name.startswith("__")] == ["__name__"]
        assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in labels)
        assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", one.name)
        names.add(one.name)
    assert names == {row.name for row in TABLE.rows}


@both
@pytest.mark.sender("labels/label_values_may_be_empty", "v1/EmptyLabels")
async def test_empty_labels(mock: Mock, version: int) -> None:
    """A label without a value is left out."""
    sender = Sender(version)
    sender.add(REQUESTS, "s", "", "HIT", "")
    await sender.tick(mock)
    assert [name for name, _ in mock.series[0].labels] == ["__name__", "cache_status", "stream_name"]


@both
@pytest.mark.sender(
    "labels/unicode_in_label_values",
    "labels/special_chars_in_label_values",
    "labels/very_long_label_values",
    "edge_cases/huge_label_values",
    "edge_cases/unicode_in_labels",
)
async def test_label_values(mock: Mock, version: int) -> None:
    """They arrive as they are: other scripts, quotes, line breaks, backslashes, and a hundred kilobytes."""
    values = ["Größe", "日本語", "🎬🎥", 'a"b\\c\nd\te', "x" * 100_000, " ", "é" * 20_000]
    sender = Sender(version)
    for value in values:
        sender.add(VIEWERS, value)
    await sender.tick(mock)
    assert [dict(one.labels)["stream_name"] for one in mock.series] == values


@both
@pytest.mark.sender(
    "labels/very_long_label_names",
    "labels/many_labels_per_series",
    "edge_cases/very_long_metric_name",
    "edge_cases/metric_name_with_colons",
    "combined/high_cardinality_labels",
    "combined/mixed_labels_and_metadata",
)
async def test_many_and_long_labels(mock: Mock, version: int) -> None:
    """Names of metrics and labels may be long, with colons, and of a series there may be fifty labels."""
    labels = tuple((f"label_{'x' * 500}_{number}", "v") for number in range(50))
    sender = Sender(version, labels=labels)
    sender.add(VIEWERS, "s")
    long = replace(VIEWERS, name=f"job:{'m' * 500}:sum", help="Help.")
    sender.catalogue = Catalogue(Measures((VIEWERS, long)), labels)
    sender.table = SeriesTable(sender.catalogue, 15, 900)
    sender.encoder = RemoteWrite(sender.catalogue, sender.spoken, RequestLimit(), describes=True)
    sender.add(long, "s")
    await sender.tick(mock)
    (one,) = mock.series
    assert dict(one.labels) == {**dict(labels), "__name__": long.name, "stream_name": "s"}
    assert one.help == ("Help." if version == 2 else "")


# Samples


VALUES = [0.0, -0.0, 1.0, 42.5, -17.0, 1e308, -1e308, 5e-324, 1.23456789012345678e10, 0.1 + 0.2, 2.0**53]
SPECIAL = [math.inf, -math.inf, math.nan]


@both
@pytest.mark.sender(
    "samples/float_value_encoding",
    "samples/integer_value_encoding",
    "samples/zero_value_encoding",
    "samples/negative_value_encoding",
    "samples/positive_infinity_encoding",
    "samples/negative_infinity_encoding",
    "samples/nan_encoding",
    "samples/large_float_values",
    "samples/small_float_values",
    "samples/scientific_notation",
    "samples/precision_preservation",
    "edge_cases/special_float_combinations",
    "rw1_compat/rw1_samples_encoding",
    "v1/Gauge",
    "v1/Counter",
)
async def test_values(mock: Mock, version: int) -> None:
    """Every value arrives with all of its bits."""
    sender = Sender(version)
    values = [*VALUES, *SPECIAL]
    slots = [sender.add(VIEWERS, f"s{number}") for number in range(len(values))]
    await sender.send(mock, frame((AT,), dict(zip(slots, values, strict=True))))
    assert [(at, bits(value)) for one in mock.series for at, value in one.samples] == [
        (AT, bits(value)) for value in values
    ]


@both
@pytest.mark.sender(
    "samples/timestamp_milliseconds_format",
    "samples/timestamp_recent",
    "samples/multiple_samples_same_series",
    "samples/sample_ordering",
    "timestamps/timestamp_int64_milliseconds",
    "timestamps/timestamp_ordering_within_series",
    "timestamps/timestamp_precision",
    "timestamps/timestamp_future_values",
    "edge_cases/future_timestamp",
    "v1/Ordering",
    "v1/Timestamp",
)
async def test_times(mock: Mock, version: int) -> None:
    """Times are Unix milliseconds and arrive exactly, of each series in ascending order, over all requests."""
    sender = Sender(version)
    slot = sender.add(VIEWERS, "s")
    sender.add(VIEWERS, "t")
    await sender.tick(mock, zeros=20)
    for tick in range(TICK + 15, TICK + 60, 15):
        await sender.tick(mock, tick)
    await sender.send(mock, frame((AT + 60_123,), {slot: 1.0}))
    times: dict[str, list[int]] = {}
    for one in mock.series:
        times.setdefault(str(one.labels), []).extend(at for at, _ in one.samples)
    ticks = [AT + 15_000 * number for number in range(-20, 4)]
    assert sorted(times.values()) == [ticks, [*ticks, AT + 60_123]]


@pytest.mark.sender_deviates(
    "edge_cases/zero_timestamp", why="a time before 1971 or after 2109 is a fault of this program, and is not sent"
)
async def test_a_time_of_zero_is_not_sent(mock: Mock) -> None:
    """It raises before a request is made."""
    sender = Sender(2)
    slot = sender.add(VIEWERS, "s")
    with pytest.raises(ValueError, match="outside the years"):
        await sender.send(mock, frame((0,), {slot: 1.0}))
    assert not mock.requests


@pytest.mark.sender("timestamps/start_timestamp_zero_handling", "timestamps/start_timestamp_before_sample_timestamp")
@pytest.mark.sender_deviates(
    "timestamps/start_timestamp_for_counters",
    "timestamps/start_timestamp_for_histograms",
    why="sent as `created_timestamp` of the series, where Prometheus 3.5 reads it; a later draft has a field in each "
    "sample",
)
async def test_start_times(mock: Mock) -> None:
    """Counters and histograms have the time of their first zero, no later than any sample; gauges have none."""
    sender = Sender(2)
    sender.add(VIEWERS, "s")
    sender.observe()
    sender.add(GAUGE, *("x" for _ in GAUGE.labels))
    await sender.tick(mock, zeros=3)
    created = {one.name: one.created_ms for one in mock.series}
    assert created == {VIEWERS.name: AT - 45_000, NATIVE[0].name: AT - 45_000, GAUGE.name: 0}
    for one in mock.series:
        assert one.created_ms <= min([at for at, _ in one.samples] + [whole.timestamp for whole in one.histograms])


@both
@pytest.mark.sender("edge_cases/stale_marker", "v1/Staleness")
async def test_a_series_that_ends_has_a_stale_marker(mock: Mock, version: int) -> None:
    """It is the NaN of the specification, bit for bit, once, and the last sample."""
    sender = Sender(version)
    sender.add(VIEWERS, "s")
    for number in range(70):
        await sender.tick(mock, TICK + 15 * number)
    values = [bits(value) for one in mock.series for _, value in one.samples]
    assert values[-1] == STALE_BITS == 0x7FF0000000000002
    assert values.count(STALE_BITS) == 1
    assert len(values) > 50


# Metadata


@pytest.mark.sender(
    "metadata/metadata_type_counter",
    "metadata/metadata_type_gauge",
    "metadata/metadata_type_histogram",
    "metadata/metadata_type_summary",
    "metadata/metadata_help_text",
    "metadata/metadata_consistent_across_series",
    "batching/metadata_batching",
    "combined/samples_with_metadata",
    "combined/multiple_metric_types",
    "combined/complete_metric_family",
    "v1/Histogram",
    "v1/Summary",
)
async def test_metadata_of_series(mock: Mock) -> None:
    """Each series of a family has the family's type and help; a family's parts are sent together."""
    sender = Sender(2)
    for measure in TABLE.rows:
        sender.add(measure, *("3" if name == PART else "v" for name in measure.labels))
    await sender.tick(mock)
    found = {(one.name, one.kind, one.help) for one in mock.series}
    assert found == {(row.name, TYPES[str(row.family.kind)], row.family.help) for row in TABLE.rows}
    assert {kind for _, kind, _ in found} == {1, 2, 3, 5}
    for family in {row.family.name for row in TABLE.rows if row.family.name != row.name}:
        parts = {row.name for row in TABLE.rows if row.family.name == family}
        assert parts <= {one.name for one in mock.requests[0].series} or parts <= {one.name for one in mock.series}


@pytest.mark.sender("rw1_compat/rw1_metadata_handling")
async def test_metadata_of_1(mock: Mock) -> None:
    """It goes in a request of its own, behind the samples."""
    sender = Sender(1)
    sender.add(VIEWERS, "s")
    await sender.send(mock, *sender.table.emit(TICK), metadata=True)
    samples, metadata = (pb1.WriteRequest.FromString(one.plain) for one in mock.requests)
    assert samples.timeseries
    assert not samples.metadata
    assert {one.metric_family_name for one in metadata.metadata} == {row.family.name for row in TABLE.rows}


@pytest.mark.sender("metadata/metadata_help_with_newlines", "metadata/metadata_help_with_special_chars")
async def test_help_is_kept_as_it_is(mock: Mock) -> None:
    """Line breaks, quotes, backslashes and other scripts arrive."""
    text = 'One\ntwo "three" \\four\\ Größe 日本'
    sender = Sender(2)
    told = replace(VIEWERS, name="told_total", help=text)
    sender.catalogue = Catalogue(Measures((told,)))
    sender.table = SeriesTable(sender.catalogue, 15, 900)
    sender.encoder = RemoteWrite(sender.catalogue, sender.spoken, RequestLimit(), describes=True)
    sender.add(told, "s")
    await sender.tick(mock)
    assert [one.help for one in mock.series] == [text]


# Native histograms


@both
@pytest.mark.sender(
    "histograms/native_histogram_structure",
    "histograms/histogram_count_present",
    "histograms/histogram_sum_present",
    "histograms/histogram_buckets_ordered",
    "histograms/histogram_positive_buckets",
    "histograms/histogram_schema",
    "histograms/histogram_timestamp",
    "histograms/histogram_no_mixed_with_samples",
    "histograms/histogram_empty_buckets",
    "histograms/histogram_large_counts",
    "combined/histogram_with_metadata_and_exemplars",
    "edge_cases/mixed_sample_and_histogram_families",
)
async def test_native_histograms(mock: Mock, version: int) -> None:
    """They have count, sum, schema, times and buckets in order, and no samples beside them; also of zero and 2^52."""
    sender = Sender(version)
    sender.add(VIEWERS, "s")
    for bucket, count in ((-3, 1), (0, 2), (1, 2**52)):
        sender.add(NATIVE[0], "s", str(bucket), amount=count)
    sender.add(NATIVE[1], "s", "sum", amount=5000)
    await sender.tick(mock, zeros=1)
    assert not any(one.samples and one.histograms for one in mock.series)
    zero, full = (whole for one in mock.series for whole in one.histograms)
    assert (zero.timestamp, zero.count_int, zero.sum, len(zero.positive_deltas)) == (AT - 15_000, 0, 0.0, 0)
    assert (full.timestamp, full.count_int, full.sum, full.schema) == (AT, 3 + 2**52, 5.0, 3)
    assert [(span.offset, span.length) for span in full.positive_spans] == [(-3, 1), (2, 2)]
    assert list(itertools.accumulate(full.positive_deltas)) == [1, 2, 2**52]
    if version == 2:
        assert {one.kind for one in mock.series if one.histograms} == {TYPES["histogram"]}


@pytest.mark.sender_deviates(
    "rw1_compat/rw1_no_native_histograms",
    why="with HISTOGRAMS=native they are sent by 1.0 too, in its field 4, which Prometheus reads",
)
async def test_native_histograms_of_1(mock: Mock) -> None:
    """Only those who set HISTOGRAMS=native have them, in requests of their own."""
    sender = Sender(1)
    sender.observe()
    await sender.tick(mock)
    assert [len(one.histograms) for one in mock.series] == [1]


@pytest.mark.sender("rw1_compat/rw1_no_start_timestamp", "rw1_compat/rw1_symbol_table_not_used")
async def test_1_has_nothing_of_2(mock: Mock) -> None:
    """A request of 1.0 has no field that only 2.0 has: read as 2.0 nothing is in it."""
    sender = Sender(1)
    sender.add(VIEWERS, "s")
    await sender.tick(mock)
    read = mock.requests[0].two
    assert not read.symbols
    assert not read.timeseries


# Many


@both
@pytest.mark.sender(
    "edge_cases/many_timeseries",
    "edge_cases/high_cardinality",
    "edge_cases/robustness_under_load",
    "batching/multiple_series_per_request",
    "batching/batch_size_reasonable",
    "batching/handles_varying_cardinality",
    "combined/real_world_scenario",
)
async def test_many_series(mock: Mock, version: int) -> None:
    """Ten thousand series go in a few requests of at most 2,000 samples, and all of them arrive once."""
    sender = Sender(version)
    for number in range(10_000):
        sender.add(REQUESTS, f"stream-{number % 50}", str(number % 7), "HIT", f"pop-{number}")
    sender.observe()
    await sender.tick(mock)
    assert all(sum(request.count) <= 2000 for request in mock.requests)
    assert len(mock.requests) <= 8
    counted = Counter(dict(one.labels)["pop"] for one in mock.series if one.samples)
    assert len(counted) == 10_000
    assert set(counted.values()) == {1}


@both
@pytest.mark.sender("edge_cases/empty_scrape")
async def test_nothing_is_not_sent(mock: Mock, version: int) -> None:
    """A tick without series is no request."""
    await Sender(version).tick(mock)
    assert not mock.requests


# Answers


async def one_series(mock: Mock, version: int | None, count: int = 1) -> Sender:
    """Send a tick of some series, after one that was taken."""
    sender = Sender(version)
    for number in range(count):
        sender.add(VIEWERS, f"s{number}")
    answers, mock.answers = mock.answers, []
    await sender.tick(mock)
    mock.requests.clear()
    mock.answers = answers
    for number in range(count):
        sender.add(VIEWERS, f"s{number}")
    await sender.tick(mock, TICK + 15)
    return sender


@both
@pytest.mark.sender("retry/no_retry_on_400", "v1/Retries400")
async def test_a_refused_request_is_not_sent_again(mock: Mock, version: int) -> None:
    """400 ends it: no other attempt has the same content."""
    mock.answer(400, "bad", times=20)
    await one_series(mock, version)
    assert len(mock.requests) == 1


@both
@pytest.mark.parametrize("status", [500, 503, 502, 504, 429])
@pytest.mark.sender(
    "retry/retry_on_500",
    "retry/retry_on_503",
    "retry/retry_on_502",
    "retry/retry_on_504",
    "retry/may_retry_on_429",
    "backoff/backoff_required",
    "v1/Retries500",
)
async def test_what_may_pass_is_sent_again(mock: Mock, version: int, status: int) -> None:
    """The same bytes come again, after a wait, until they are taken; 429 waits as long as it asks for."""
    mock.answer(status, "later", times=2, headers={"Retry-After": "3"} if status == 429 else None)
    sender = await one_series(mock, version)
    assert len({request.body for request in mock.requests}) == 1
    assert len(mock.requests) == 3
    waits = sender.clock.waits
    assert len(waits) == 2
    assert all(wait >= 3 for wait in waits) or status != 429


@both
@pytest.mark.sender(
    "backoff/exponential_backoff_on_retries", "backoff/backoff_max_delay", "backoff/backoff_with_jitter"
)
async def test_waits_grow_within_a_bound(mock: Mock, version: int) -> None:
    """Each is drawn from zero to a bound that doubles up to half a minute, so that no two are the same."""
    mock.answer(502, times=12)
    sender = await one_series(mock, version)
    waits = sender.clock.waits
    assert all(0 <= wait <= min(30, 0.5 * 2**number) for number, wait in enumerate(waits))
    assert len(set(waits)) == len(waits) == 12


@both
@pytest.mark.parametrize("status", [401, 404])
@pytest.mark.sender_deviates(
    "retry/no_retry_on_401",
    "retry/no_retry_on_404",
    why="taken for a wrong setting, not for wrong data: the request is kept, and tried every half minute until that is "
    "mended",
)
async def test_a_wrong_setting_is_waited_for(mock: Mock, version: int, status: int) -> None:
    """What is refused for its address or login is sent again, slowly, and told as a problem."""
    mock.answer(status, times=3)
    sender = await one_series(mock, version)
    assert len(mock.requests) == 4
    assert sender.clock.waits == [30, 30, 30]
    assert sender.bench.said.of("receiver_misconfigured")


@both
@pytest.mark.sender_deviates(
    "retry/no_retry_on_413", why="parts of the request are sent, half as large each time; the same once more at most"
)
async def test_what_is_too_large_is_sent_in_parts(mock: Mock, version: int) -> None:
    """A request that is refused for its size arrives in halves."""

    def size(captured: Captured) -> web.Response | None:
        return web.Response(status=413) if sum(captured.count) > 3 else None

    mock.answers = [size] * 100
    await one_series(mock, version, 8)
    taken = [request for request in mock.requests if sum(request.count) <= 3]
    assert sum(sum(request.count) for request in taken) == 8
    assert max(Counter(request.body for request in mock.requests).values()) <= 2


@both
@pytest.mark.parametrize(("status", "text"), [(204, None), (200, "OK"), (202, "")])
@pytest.mark.sender("response/handle_204_no_content", "response/handle_200_ok", "error_handling/handle_empty_response")
async def test_success(mock: Mock, version: int, status: int, text: str | None) -> None:
    """Any 2xx is one, with a body or without."""
    mock.answers = [lambda captured: mock.good(captured, status, text)]
    sender = await one_series(mock, version)
    assert len(mock.requests) == 1
    assert not sender.accounts.of(Delivery.NOT_STORED)


@both
@pytest.mark.sender_deviates(
    "response/ignore_response_body_on_success",
    why="a web page, or an error in JSON, shows that what answers is no receiver; any other body is ignored",
)
async def test_bodies_of_success(mock: Mock, version: int) -> None:
    """Text is ignored; a login form with 200 is no success."""
    mock.answers = [
        lambda captured: web.Response(
            status=200,
            text="<html>login</html>",
            content_type="text/html",
            headers=written(*captured.count) if version == 2 else None,
        ),
        lambda captured: mock.good(captured, 200, "whatever it says: 99 errors"),
    ]
    sender = await one_series(mock, version)
    assert len(mock.requests) == 2
    assert len(sender.bench.said.of("receiver_misconfigured")) == 1


@pytest.mark.sender("response/process_written_count_headers", "fallback/no_fallback_on_2xx")
async def test_right_numbers_are_the_proof(mock: Mock) -> None:
    """With them a request of 2.0 is done, and the next one is 2.0 again."""
    await one_series(mock, None, 3)
    assert [request.version for request in mock.requests] == [2]
    assert len(mock.questions) == 1


@pytest.mark.sender("response/handle_partial_write_response", "error_handling/handle_partial_write")
async def test_a_partial_write(mock: Mock) -> None:
    """Of three series two are stored: these are told to be, and the third one is not."""

    def refuse(captured: Captured) -> web.Response | None:
        bad = [one for one in captured.series if ("stream_name", "s1") in one.labels]
        count = len(captured.series) - len(bad)
        return web.Response(status=400, text="Rejected 1 sample", headers=written(count)) if bad else None

    mock.answers = [refuse] * 20
    sender = await one_series(mock, 2, 3)
    assert len(sender.accounts.of(Delivery.NOT_STORED)) == 1
    (told,) = sender.bench.said.of("request_refused")
    assert (told["series"], told["words"]) == (1, "Rejected 1 sample")


@both
@pytest.mark.sender("response/handle_missing_written_headers")
async def test_a_refusal_without_numbers(mock: Mock, version: int) -> None:
    """Nothing is taken as stored."""
    mock.answer(400, "Bad request", times=20)
    sender = await one_series(mock, version)
    assert sum(sender.accounts.of(Delivery.NOT_STORED).values()) == 1


@both
@pytest.mark.sender("response/handle_large_error_body", "error_handling/handle_large_error_response")
@pytest.mark.sender_deviates(
    "response/log_error_messages_verbatim",
    why="logged on one line, at most 500 characters of it and without control characters; some words, such as "
    "`too old`, are understood",
)
async def test_words_of_a_refusal(mock: Mock, version: int) -> None:
    """They are in the log, cut, and a body of megabytes is no trouble."""
    mock.answer(400, "Error: Invalid label name '__invalid__'\n" + "detailed " * 300_000)
    sender = await one_series(mock, version)
    (told,) = sender.bench.said.of("request_refused")
    words = str(told["words"])
    assert words.startswith("Error: Invalid label name '__invalid__' detailed")
    assert len(words) <= 500


@both
@pytest.mark.sender("error_handling/handle_invalid_status_code")
async def test_an_unusual_status(mock: Mock, version: int) -> None:
    """599 is a failure that may pass, 418 a refusal."""
    mock.answer(599, "?")
    mock.answer(418, "teapot", times=20)
    sender = await one_series(mock, version)
    assert len(mock.requests) == 2
    assert sender.bench.said.of("request_refused")


@both
@pytest.mark.sender("error_handling/sender_continues_after_errors")
async def test_the_next_request_goes_out(mock: Mock, version: int) -> None:
    """After failures and a refusal the next tick is sent and taken."""
    mock.answer(500)
    mock.answer(400, "no", times=3)
    sender = await one_series(mock, version)
    mock.answers.clear()
    mock.requests.clear()
    await sender.tick(mock, TICK + 30)
    assert len(mock.requests) == 1
    assert not math.isnan(mock.series[0].samples[0][1])


# Versions


@pytest.mark.sender(
    "fallback/fallback_on_415_unsupported_media_type",
    "fallback/retry_with_different_version",
    "fallback/fallback_header_changes",
    "fallback/accept_success_after_fallback",
    "fallback/persistent_fallback_choice",
)
async def test_after_415_it_is_1(mock: Mock) -> None:
    """A receiver that does not take 2.0 gets the same by 1.0 at once, with its headers, and from then on."""
    mock.speaks_2 = False
    sender = await one_series(mock, None)
    await sender.tick(mock, TICK + 30)
    assert {request.version for request in mock.questions} == {2}
    assert [request.version for request in mock.requests] == [1, 1]
    assert {request.headers["Content-Type"] for request in mock.requests} == {"application/x-protobuf"}
    assert not sender.accounts.of(Delivery.NOT_STORED)
    assert sender.spoken.version == 1
    assert sender.clock.waits == []


@pytest.mark.sender("fallback/fallback_on_415_unsupported_media_type")
async def test_after_415_to_content_it_is_1(mock: Mock) -> None:
    """Who takes the question and then not the request gets the same content by 1.0."""
    mock.answer(415, "RW 2.0 not supported, please use RW 1.0")
    await one_series(mock, None, 3)
    two, one = mock.requests
    assert (two.version, one.version) == (2, 1)
    assert [(series.labels, series.samples) for series in two.series] == [
        (series.labels, series.samples) for series in one.series
    ]


# Below HTTP


@both
@pytest.mark.sender("error_handling/handle_connection_refused")
async def test_a_connection_that_is_refused(version: int) -> None:
    """It is waited for, and written to when somebody listens."""
    port = free_port()

    async with Mock() as mock:
        sender = Sender(version, url=f"http://127.0.0.1:{port}/api/v1/write")
        sender.add(VIEWERS, "s")
        sleep = sender.clock.sleep

        async def listen(seconds: float) -> None:
            if len(sender.clock.waits) == 2:
                assert mock._runner is not None
                await web.TCPSite(mock._runner, "127.0.0.1", port).start()
            await sleep(seconds)

        sender.clock.sleep = listen  # type: ignore[method-assign]
        await sender.tick(mock)
        assert len(mock.requests) == 1
        assert len(sender.bench.said.of("push_retried")) == 3


@both
@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b""])
@pytest.mark.sender("error_handling/handle_malformed_response", "error_handling/handle_timeout")
async def test_an_answer_that_is_none(version: int, answer: bytes) -> None:
    """Neither bytes that are no HTTP nor no answer at all end the sender; what was sent is sent again."""
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1 << 20))
        if answer or len(seen) > 1:
            writer.write(answer)
            await writer.drain()
            writer.close()
        else:
            await reader.read()  # until it is given up
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Mock() as mock:
        sender = Sender(version, url=f"http://127.0.0.1:{port}/api/v1/write")
        sender.add(VIEWERS, "s")
        sleep = sender.clock.sleep

        async def stop(seconds: float) -> None:
            await sleep(seconds)
            if len(sender.clock.waits) > 1:
                raise asyncio.CancelledError

        sender.clock.sleep = stop  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await sender.tick(mock)
    server.close()
    assert len(seen) >= 2
    assert len(sender.bench.said.of("push_retried")) == 2


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/api/v1/write", "gopher://127.0.0.1/api/v1/write"])
@pytest.mark.sender("error_handling/dns_resolution_failure", "error_handling/invalid_url_scheme")
async def test_an_address_that_leads_nowhere(mock: Mock, url: str) -> None:
    """It is told in words, and nothing is lost."""
    sender = Sender(2, url=url)
    sender.add(VIEWERS, "s")

    async def stop(seconds: float) -> None:
        del seconds
        raise asyncio.CancelledError

    sender.clock.sleep = stop  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await sender.tick(mock)
    assert sender.bench.said.of("push_retried") or sender.bench.said.of("receiver_misconfigured")
    assert len(sender.bench.database.outbox()) == 1
