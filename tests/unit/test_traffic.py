"""The made-up traffic and the slow oracle agree, and the files are what the CDN would write."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from cdn77_exporter.core.files import LogFile
from cdn77_exporter.demo.traffic import AGENTS, Plan, Stream, Traffic, stream_name, usual_streams, write
from cdn77_exporter.demo.watching import InTime
from tests.support.examples import sample
from tests.support.geo_database import locate
from tests.support.truth import COUNTERS, Truth, device_type, labels

START_MS = 1_768_056_568_000
_NAMES: dict[str, tuple[str, ...]] = {
    "cdn77_transfer_bytes_total": ("stream_name", "cdn_id", "cache_status", "pop"),
    "cdn77_requests_total": ("stream_name", "cdn_id", "cache_status", "pop"),
    "cdn77_responses_total": ("stream_name", "cdn_id", "cache_status", "pop", "response_status"),
    "cdn77_viewers_total": ("stream_name",),
    "cdn77_viewers_by_device_total": ("stream_name", "device_type"),
    "cdn77_viewers_by_country_total": ("stream_name", "country"),
    "cdn77_viewers_by_region_total": ("stream_name", "country", "region"),
    "cdn77_time_to_first_byte_seconds_sum": ("stream_name", "cdn_id", "cache_status", "pop"),
    "cdn77_time_to_first_byte_seconds_count": ("stream_name", "cdn_id", "cache_status", "pop"),
}
_NAMES |= {
    "cdn77_sessions_total": ("stream_name", "device_type"),
    "cdn77_requests_by_track_total": ("stream_name", "track"),
    "cdn77_transfer_bytes_by_track_total": ("stream_name", "track"),
    "cdn77_incomplete_requests_total": ("stream_name", "cdn_id", "pop", "reason"),
}
_MILLISECONDS = "cdn77_time_to_first_byte_seconds_sum"


def run(plan: Plan, seconds: int, **options: Any) -> tuple[Traffic, list[dict[str, Any]], list[bytes]]:
    """Traffic over some seconds: itself, the lines of all files that are events, and the lines that are none."""
    traffic = Traffic(plan, start_ms=START_MS, prefix="logs", **options)
    uploads = [*traffic.until(START_MS + seconds * 1000), *traffic.finish()]
    good: list[dict[str, Any]] = []
    bad: list[bytes] = []
    for upload in uploads:
        lines = gzip.decompress(upload.body).splitlines()
        assert len(lines) == upload.lines
        for line in lines:
            try:
                fields = json.loads(line)
            except ValueError:
                fields = None
            (good.append(fields) if _is_event(fields) else bad.append(line))
    return traffic, good, bad


def _is_event(fields: Any) -> bool:
    if not isinstance(fields, dict) or not isinstance(fields["clientRequestPath"], str):
        return False
    return (
        "-13-" not in fields["timestamp"]
        and fields["timestamp"].endswith("Z")
        and re.match("/[a-f0-9]{32}/", fields["clientRequestPath"]) is not None
    )


@pytest.mark.parametrize("window", sample([20, 7200], fast=1))
def test_the_oracle_and_the_traffic_count_the_same(window: int) -> None:
    """What the writer says it wrote is what the oracle finds in the files, for every counter and every series."""
    plan = Plan(lines_per_second=60, viewers=60, stay_seconds=15, file_seconds=10, bad_share=0.05,
                streams=usual_streams(60), session_window_seconds=window)  # fmt: skip
    traffic, good, bad = run(plan, 60, locate=locate)
    truth = Truth(good, window_seconds=window, locate=locate).counters()
    for name in COUNTERS:
        per = 1000 if name == _MILLISECONDS else 1
        own = {
            labels(**dict(zip(_NAMES[name], key, strict=True))): count / per
            for key, count in traffic.totals.counters[name].items()
        }
        assert own == truth[name]
        assert own
    assert traffic.totals.events == len(good)
    assert sum(traffic.totals.rejects.values()) == len(bad) > 0
    assert len(traffic.totals.rejects) == 5


def test_watch_time_is_that_of_the_oracle() -> None:
    """At an instant after all requests it is what the oracle finds in the files, with late ones or without."""
    plan = Plan(lines_per_second=3, viewers=60, stay_seconds=60, file_seconds=10, late=((1, 2, 8.0), (0, 4, 8.0)),
                bad_share=0, streams=usual_streams(90))  # fmt: skip
    traffic = Traffic(plan, start_ms=START_MS, prefix="logs")
    traffic.in_time = in_time = InTime()
    uploads = [*traffic.until(START_MS + 90_000), *traffic.finish()]
    names = tuple(f"+{shard}+{number}." for shard, number, _ in plan.late)
    for one in random.Random(1).sample(uploads, len(uploads)):
        in_time.counted(one.key, 7 if any(name in one.key for name in names) else 0)
    at_ms = traffic.generated_ms + 4000
    for with_late in (True, False):
        some = [one for one in uploads if with_late or not any(name in one.key for name in names)]
        assert len(some) == len(uploads) - 2 * (not with_late)
        events = [json.loads(line) for one in some for line in gzip.decompress(one.body).splitlines()]
        truth = Truth(events).players(at_ms)["cdn77_watch_seconds_total"]
        own = {
            labels(stream_name=stream, device_type=device): watched / 1000
            for (stream, device), watched in (traffic.totals.watching if with_late else in_time).before(at_ms).items()
        }
        assert own == truth
    assert traffic.totals.watching.before(at_ms).total() > in_time.before(at_ms).total() > 0


def test_the_same_plan_gives_the_same_files() -> None:
    """Two runs of one plan are equal to the byte, and another seed differs."""
    first, second, other = (
        [
            (upload.key, upload.body)
            for upload in Traffic(Plan(seed=seed), start_ms=START_MS, prefix="p").until(START_MS + 65_000)
        ]
        for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_asking_often_changes_nothing() -> None:
    """Files asked for in small steps are those asked for at once."""
    plan = Plan(file_seconds=5)
    whole = list(Traffic(plan, start_ms=START_MS, prefix="p").until(START_MS + 30_000))
    stepwise = Traffic(plan, start_ms=START_MS, prefix="p")
    steps = [upload for ms in range(0, 30_001, 300) for upload in stepwise.until(START_MS + ms)]
    assert steps == whole


def test_files_are_named_and_cut_as_the_cdn_does_it() -> None:
    """Keys carry hour, shard and rising sequence numbers; files of a shard overlap; none holds the future."""
    traffic = Traffic(Plan(file_seconds=10, overlap_seconds=3), start_ms=START_MS, prefix="/logs/all/")
    uploads = list(traffic.until(START_MS + 65_000))
    spans: dict[int, list[tuple[str, str]]] = {}
    for upload in uploads:
        file = LogFile(upload.key, "etag", len(upload.body), upload.due_ms)
        moment = datetime.fromtimestamp(upload.due_ms / 1000, UTC)
        assert file.folder == moment.strftime("logs/all/%Y%m%d/%H")
        assert file.shard == str(upload.shard)
        assert file.sequence == len(spans.setdefault(upload.shard, []))
        times = re.findall(rb'"timestamp":"(2026-01-[^"]+)"', gzip.decompress(upload.body))
        assert max(times).decode() <= moment.strftime("%Y-%m-%dT%H:%M:%S")
        spans[upload.shard].append((min(times).decode(), max(times).decode()))
    assert len(spans) == 3
    assert any(later[0] < earlier[1] for files in spans.values() for earlier, later in pairwise(files))


def test_a_late_file_comes_later_than_its_successors() -> None:
    """The file that the plan holds back appears that much later, and its sequence number stays."""
    plan = Plan(file_seconds=5, late=((1, 2, 12.0),))
    sequences = [
        LogFile(upload.key, "", 1, 1).sequence
        for upload in Traffic(plan, start_ms=START_MS, prefix="p").until(START_MS + 60_000)
        if upload.shard == 1
    ]
    assert sequences.index(2) > sequences.index(4)
    assert sorted(sequences) == list(range(len(sequences)))


def test_streams_come_and_go_as_planned() -> None:
    """A stream has events from its beginning to its end only."""
    name = stream_name(9, 9)
    plan = Plan(streams=(Stream(stream_name(9, 1)), Stream(name, 1.0, begins=10, ends=20)))
    traffic, _, _ = run(plan, 30, keep_events=True)
    assert traffic.events is not None
    times = [one["startTimeMs"] - START_MS for one in traffic.events if name in one["clientRequestPath"]]
    assert 10_000 <= min(times) < 12_000
    assert 18_000 < max(times) < 20_000


@pytest.mark.parametrize(("agent", "device"), AGENTS)
def test_the_agents_are_what_the_plan_says(agent: str, device: str) -> None:
    """The device type that comes with a User-Agent is the one that the contract's table gives."""
    assert device_type(agent) == device


async def test_writing_puts_everything_once() -> None:
    """The writer puts every file that the plan makes, and after the stop what was still open."""
    clock = iter(START_MS / 1000 + second for second in range(100))
    stop = asyncio.Event()
    found: dict[str, bytes] = {}
    lines = 0

    async def put(key: str, body: bytes) -> None:
        assert key not in found
        found[key] = body
        if len(found) == 9:
            stop.set()

    def wrote(upload: Any) -> None:
        nonlocal lines
        lines += upload.lines

    traffic = Traffic(Plan(lines_per_second=20, file_seconds=2), start_ms=START_MS, prefix="p")
    await write(traffic, put, stop, wrote=wrote, now=lambda: next(clock), pause_seconds=0)
    assert len(found) > 9
    assert lines == traffic.totals.lines
    assert sum(gzip.decompress(body).count(b"\n") for body in found.values()) == lines
