"""Measures with a limit: the busiest label sets keep their names, the rest is `other`, and nothing is lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.measures import Measures, built_in
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.edge.state import Database
from cdn77_exporter.settings.measures_file import read_measures
from cdn77_exporter.settings.toml_file import parse_toml
from tests.support.examples import examples
from tests.support.files import event, stream_name
from tests.unit.test_measures_file import START, Process

LIMIT = 5
TEXT = """
[[counter]]
name = "cdn77_bytes_by_asn_total"
help = "Bytes."
value = "responseBytes"
labels = { stream_name = "stream", asn = "clientASN" }
limit = 5

[[counter]]
name = "cdn77_hits_by_asn_total"
help = "Hits."
labels = { stream_name = "stream", asn = "clientASN" }
where = { cacheStatus = "HIT" }
limit = 5

[[histogram]]
name = "cdn77_age_by_asn"
help = "Ages."
value = "cacheAge"
labels = { asn = "clientASN" }
limit = 5
"""
ROWS = read_measures(parse_toml(TEXT.encode()))
MEASURES = Measures((*built_in().rows, *ROWS))


def line(asn: int, at: int, stream: int = 0, **more: Any) -> Mapping[str, Any]:
    """A request from a network."""
    path = f"/{stream_name(stream)}/a.ts"
    return event((START + at) * 1000, clientASN=asn, clientRequestPath=path, responseBytes=100, **more)


def by_asn(process: Process, metric: str = "cdn77_bytes_by_asn_total") -> dict[str, float]:
    """How much a metric grew by network."""
    found: dict[str, float] = defaultdict(float)
    for labels, grown in process.grown(metric).items():
        found[dict(labels)["asn"]] += grown
    return dict(found)


def total(process: Process, metric: str) -> float:
    """How much a metric grew in all."""
    return sum(process.grown(metric).values())


def test_the_busiest_of_a_file_keep_their_names() -> None:
    """Of more networks than the limit those with most requests count on their own, and the rest together."""
    process = Process(MEASURES)
    process.count([line(asn, 0) for asn in range(1, 21) for _ in range(asn)])
    process.advance(60)
    assert by_asn(process) == {str(asn): 100.0 * asn for asn in range(16, 21)} | {"other": 100.0 * sum(range(1, 16))}
    assert total(process, "cdn77_bytes_by_asn_total") == total(process, "cdn77_transfer_bytes_total")
    assert total(process, "cdn77_hits_by_asn_total") == total(process, "cdn77_requests_total")
    assert process.timeline.labelling.limited == 3 * sum(range(1, 16)) - sum(range(1, 16))


def test_sums_over_a_limited_metric_are_right_for_each_stream() -> None:
    """What is `other` is so within its stream."""
    process = Process(MEASURES)
    process.count([line(asn, 0, stream=asn % 3) for asn in range(1, 31)])
    process.advance(60)
    streams: dict[str, float] = defaultdict(float)
    for labels, grown in process.grown("cdn77_bytes_by_asn_total").items():
        streams[dict(labels)["stream_name"]] += grown
    assert streams == {stream_name(stream): 1000.0 for stream in range(3)}
    assert len(process.grown("cdn77_bytes_by_asn_total")) <= LIMIT + 3


def test_a_busy_newcomer_takes_the_place_of_a_quiet_one() -> None:
    """Early and rare label sets do not keep the places for ever; every count is in exactly one series."""
    process = Process(MEASURES)
    process.count([line(asn, 0) for asn in range(1, 6)])
    process.advance(60)
    for minute in range(1, 6):
        process.count([line(99, 60 * minute)] * 50 + [line(1, 60 * minute)] * 20)
        process.advance(60)
    found = by_asn(process)
    assert found["99"] >= 100.0 * 50 * 3
    assert found["1"] == 100.0 * (1 + 5 * 20)
    assert sum(found.values()) == 100.0 * (5 + 5 * 70)
    assert total(process, "cdn77_hits_by_asn_total") == 5 + 5 * 70
    live = {dict(name)["asn"] for name in process.timeline_series("cdn77_bytes_by_asn_total")}
    assert len(live - {"other"}) <= LIMIT


def test_room_is_there_again_when_label_sets_have_ended() -> None:
    """A day after a flood of networks, others count under their own names."""
    process = Process(MEASURES)
    process.count([line(asn, 0) for asn in range(1, 6)])
    process.advance(86_400 + 1200)
    later = process.now - START
    process.count([line(asn, later + 5) for asn in range(101, 106)])
    process.advance(300)
    assert {str(asn) for asn in range(101, 106)} <= by_asn(process).keys()


@examples(20)
@given(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=30), min_size=1, max_size=8), st.integers(0, 7))
def test_nothing_is_lost_whatever_comes_and_when_it_is_taken_up(files: list[list[int]], restart: int) -> None:
    """Sums over limited metrics equal the totals after any files, with a new process somewhere in between."""
    database = Database(":memory:")
    process = Process(MEASURES)
    process.timeline = started(database)
    for number, networks in enumerate(files):
        at = process.now - START
        process.count([line(asn, at + place % 40) for place, asn in enumerate(networks)])
        database.commit(process.timeline.take_changes([], 0, []))
        if number == restart:
            process.timeline = started(database)
        process.now += 45
        requests, _ = process.timeline.advance(process.now * 1000, process.now * 1000 + 1000)
        process.received.take((request.body, request.samples) for request in requests)
        process.timeline.done([request.number for request in requests])
        database.commit(process.timeline.take_changes(requests, 0, []))
        database.mark_done([request.number for request in requests], None)
        named = {dict(name)["asn"] for name in process.timeline_series("cdn77_bytes_by_asn_total")} - {"other"}
        assert len(named) <= 2 * LIMIT  # those that end may still be there
    process.advance(120)
    assert total(process, "cdn77_bytes_by_asn_total") == total(process, "cdn77_transfer_bytes_total")
    assert total(process, "cdn77_hits_by_asn_total") == total(process, "cdn77_requests_total")
    assert total(process, "cdn77_age_by_asn_count") == total(process, "cdn77_requests_total")


def started(database: Database) -> Timeline:
    """A process on a state."""
    key = database.secret_key()
    timeline = Timeline(Rules(), start_ms=START * 1000 - 60_000, key=key, measures=MEASURES)
    snapshot = database.load()
    if snapshot is not None:
        timeline.restore(snapshot)
    return timeline
