"""After how long viewers return: the histogram, and the number of distinct viewers that it encloses."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest

from cdn77_exporter.core.catalogue import split_key
from cdn77_exporter.core.measures import Histograms, Measures, built_in
from cdn77_exporter.core.returns import NAME, bounds_ms, return_rows, text_of
from cdn77_exporter.core.timeline import Rules
from cdn77_exporter.edge.state import Database
from cdn77_exporter.settings import load
from tests.support.files import event, stream_name
from tests.support.samples import Received
from tests.support.settings import LEAST
from tests.unit.test_measures_file import START, Process

HORIZON, TICK = 3600, 15
#: The key of a part, as a series has it: the metric's name, and the values of its labels.
Parts = dict[tuple[str, ...], float]


def traffic(seconds: int, seed: int = 1) -> list[dict[str, Any]]:
    """Requests in the order of their times: of viewers who stay, who come back after a while, and of no viewer."""
    draw, found = random.Random(seed), []
    for viewer in range(40):
        at, ip = START * 1000 + draw.randrange(seconds * 1000), f"192.0.2.{viewer}"
        ip = f"2001:db8::{viewer}" if viewer % 5 == 0 else f"::ffff:{ip}" if viewer % 5 == 1 else ip
        while at < (START + seconds) * 1000:
            agent = draw.choice(("Roku/DVP-9.10", "Mozilla/5.0 Chrome/99")) if viewer % 7 == 0 else "Roku/DVP-9.10"
            path = f"/{stream_name(viewer % 2)}/tracks-v1/x.ts"
            found.append(event(at, clientIP=ip, clientRequestPath=path, clientRequestUserAgent=agent))
            at += int(draw.choice((2_000, 6_000, 15_000, 40_000, 700_000, 4_000_000)) * draw.uniform(0.5, 1.5))
    found += [event(START * 1000 + at * 1000, clientIP=ip) for at, ip in enumerate(("", "-", "198.51.100.x", None))]
    return sorted(found, key=lambda one: one["timestamp"])


def gaps_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """For each request of a viewer the milliseconds since its last one, endless for the first, by stream."""
    last: dict[tuple[str, str], int] = {}
    found: dict[str, list[float]] = {}
    for line in lines:
        ip = viewer_of(line)
        if not ip:
            continue
        stream, at = str(line["clientRequestPath"]).split("/")[1], ms_of(line)
        gap = at - last.get((stream, ip), -math.inf)
        found.setdefault(stream, []).append(gap if gap <= HORIZON * 1000 else math.inf)
        last[stream, ip] = at
    return found


def viewer_of(line: Mapping[str, Any]) -> str:
    """Whose request it was; no text for nobody's."""
    ip = str(line["clientIP"] or "").removeprefix("::ffff:")
    return "" if ip == "-" or "x" in ip else ip


def ms_of(line: Mapping[str, Any]) -> int:
    """When a request was (Unix ms)."""
    return int(line["startTimeMs"])


def begun(
    how: Histograms = Histograms.OFF,
    *,
    horizon: int = HORIZON,
    tick: int | None = None,
    now: int | None = None,
    receiver: Received | None = None,
    database: Database | None = None,
    accelerate: bool = True,
    **rules: Any,
) -> Process:
    """A process that counts returns, unless the horizon is 0."""
    tick, now = tick or TICK, now or START
    table = Measures((*built_in(how).rows, *return_rows(horizon, tick, how)))
    own = Rules(return_horizon=horizon, tick_seconds=tick, presence_seconds=max(30, tick), **rules)
    process = Process(table, rules=own, database=database, accelerate=accelerate, now=now)
    process.received = receiver or Anything()
    return process


def counted(
    lines: Sequence[Mapping[str, Any]],
    how: Histograms,
    seconds: int,
    *,
    accelerate: bool,
    receiver: Received | None = None,
) -> Process:
    """A process that has counted lines, as they come in two shards, and has written all ticks."""
    process = begun(how, accelerate=accelerate, receiver=receiver)
    draw = random.Random(3)
    for begin in range(0, seconds, 60):
        part = [line for line in lines if begin <= ms_of(line) / 1000 - START < begin + 60]
        shards: tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]] = ([], [])
        for line in part:
            shards[draw.randrange(2)].append(line)
        for shard in filter(None, shards):
            process.count(shard)
        process.advance(60)
    process.advance(300)
    return process


class Anything(Received):
    """A receiver that does not look at what it gets: of native histograms, which have no samples."""

    def take(self, bodies: Iterable[tuple[bytes, int]]) -> None:
        assert all(body for body, _ in bodies)


def parts(process: Process) -> Parts:
    """The values of all of the metric's series."""
    table, found = process.timeline.series, {}
    for slot in range(table.end):
        code, values = split_key(table.key(slot)) if table.there[slot] else (0, [])
        metric = table.catalogue.metric(code)
        if metric and metric.name.startswith(NAME):
            found[metric.name, *values] = table.value[slot] / table.per[slot]
    return found


@pytest.mark.parametrize("accelerate", [True, False], ids=["compiled", "pure"])
def test_each_request_of_a_viewer_is_counted_by_the_time_since_its_last_one(accelerate: bool) -> None:
    """Buckets, sum and count are those of the lines, whichever file brought them, whatever the viewer's device."""
    lines = traffic(9000)
    found = parts(counted(lines, Histograms.OFF, 9000, accelerate=accelerate))
    expected: Parts = {}
    for stream, gaps in gaps_of(lines).items():
        for most in bounds_ms(HORIZON, TICK):
            expected[f"{NAME}_bucket", stream, text_of(most)] = sum(gap <= most for gap in gaps)
        expected[f"{NAME}_bucket", stream, "+Inf"] = expected[f"{NAME}_count", stream] = len(gaps)
        expected[f"{NAME}_sum", stream] = sum(gap for gap in gaps if gap < math.inf) / 1000
    assert found == pytest.approx(expected)
    assert len(expected) > 30


def test_a_native_histogram_has_the_same_in_its_buckets() -> None:
    """What is less than a tick ago is in the tick's bucket, and what is endless beyond every bound."""
    lines = traffic(9000)
    found = parts(counted(lines, Histograms.NATIVE, 9000, accelerate=True))
    lowest = math.ceil(8 * math.log2(TICK))
    expected: Counter[tuple[str, ...]] = Counter()
    endless = 0
    for stream, gaps in gaps_of(lines).items():
        for gap in gaps:
            if gap == math.inf:
                endless += 1
                continue
            bucket = max(lowest, math.ceil(8 * math.log2(gap / 1000))) if gap else lowest
            expected[NAME, stream, str(bucket)] += 1
            expected[NAME, stream, "sum"] += gap / 1000  # type: ignore[assignment]
    assert {key: value for key, value in found.items() if key in expected} == pytest.approx(dict(expected))
    others = {key: value for key, value in found.items() if key not in expected and value}
    assert sum(others.values()) == endless
    assert all(2 ** (int(part) / 8) > 2 * HORIZON for _, _, part in others)


@pytest.mark.parametrize("seed", range(3))
def test_the_distinct_viewers_of_any_span_are_enclosed(seed: int) -> None:
    """A hundred spans: at each instant those whose last request was before the span count, and maybe some more."""
    lines = traffic(9000, seed)
    every = {stream: list(gaps) for stream, gaps in gaps_of(lines).items()}
    draw = random.Random(seed)
    edges = [0, *bounds_ms(HORIZON, TICK), math.inf]
    for _ in range(100):
        begin = (START + draw.randrange(0, 8000)) * 1000
        end = begin + draw.randrange(15, HORIZON) * 1000
        gaps = {stream: iter(found) for stream, found in every.items()}
        low = high = 0
        viewers = set()
        for line in lines:
            ip = viewer_of(line)
            if not ip:
                continue
            stream = str(line["clientRequestPath"]).split("/")[1]
            gap, at = next(gaps[stream]), ms_of(line)
            if begin <= at < end:
                viewers.add((stream, ip))
                below, above = next((one, other) for one, other in pairwise(edges) if one <= at - begin < other)
                low += gap > above
                high += gap > below or below == 0
        assert low <= len(viewers) <= high


def test_a_late_request_moves_nobody() -> None:
    """It is less than a tick after a later one of its viewer, and what comes then is measured from the later one."""
    path = f"/{stream_name(1)}/x.ts"

    def at(seconds: int) -> dict[str, Any]:
        return event((START + seconds) * 1000, clientRequestPath=path)

    process = counted([at(1), at(2000)], Histograms.OFF, 3000, accelerate=True)
    process.count([at(500)])
    process.count([at(3300)])
    process.advance(300)
    found = parts(process)
    le = {key[-1]: value for key, value in found.items() if key[0] == f"{NAME}_bucket"}
    lowest = text_of(bounds_ms(HORIZON, TICK)[0])
    assert (le[lowest], le["3600"], le["+Inf"]) == (1, 3, 4)  # the late one; 1999 and 1300 seconds; and the first
    assert found[f"{NAME}_sum", stream_name(1)] == pytest.approx(1999 + 1300)


def test_nothing_of_it_is_there_without_a_horizon() -> None:
    """By default the metric does not exist; with RETURN_HORIZON viewers are kept for as long."""
    assert not [row for row in load(LEAST).measures.rows if row.name.startswith(NAME)]
    found = load(LEAST | {"RETURN_HORIZON": "24h"})
    assert found.timeline_rules.lengths.kept == 86_400
    bounds = [float(dict(row.constants)["le"]) for row in found.measures.rows if row.name == f"{NAME}_bucket"]
    assert bounds[-2:] == [86_400, math.inf]
    assert all(later / earlier == pytest.approx(math.sqrt(2), rel=1e-4) for earlier, later in pairwise(bounds[:-1]))
    assert TICK <= bounds[0] < TICK * math.sqrt(2)


@pytest.mark.parametrize("restarts", [1, 2])
def test_what_was_counted_before_it_was_turned_on_is_left_out(restarts: int) -> None:
    """Requests that an older state holds for ticks to come do not return: no counter is below zero, then or later."""
    path = f"/{stream_name(1)}/x.ts"

    def at(seconds: int) -> dict[str, Any]:
        return event((START + seconds) * 1000, clientRequestPath=path)

    database = Database(":memory:")
    old = Process(Measures(built_in().rows), database=database)
    old.count([at(1)])
    old.advance(60)
    old.count([at(100), at(130)])
    database.commit(old.timeline.take_changes([], 0, []))
    table, rules = (
        Measures((*built_in().rows, *return_rows(HORIZON, TICK, Histograms.OFF))),
        Rules(return_horizon=HORIZON),
    )
    for _ in range(restarts):
        new = Process(table, database=database, rules=rules, now=START + 60)
        database.commit(new.timeline.take_changes([], 0, []))
    new.count([at(500)])
    new.advance(300)
    new.advance(300)
    found = parts(new)
    assert found[f"{NAME}_count", stream_name(1)] == 1
    assert found[f"{NAME}_sum", stream_name(1)] == pytest.approx(370)
    assert min(found.values()) >= 0


def returned(found: Parts, stream: int) -> dict[str, float]:
    """What a stream's parts are, by the last of their labels; those that are 0 left out."""
    return {key[-1]: value for key, value in found.items() if key[1] == stream_name(stream) and value}


@pytest.mark.parametrize("how", [Histograms.OFF, Histograms.NATIVE])
def test_what_was_held_while_it_was_turned_off_does_not_return(how: Histograms) -> None:
    """Turned on again, it takes up neither the requests nor the viewers that a process without it has held."""
    path = f"/{stream_name(1)}/x.ts"
    database = Database(":memory:")
    on = begun(how, database=database)
    on.count([event((START + 1) * 1000, clientRequestPath=path)])
    on.advance(60)
    off = begun(how, horizon=0, now=on.now, database=database)
    off.count([event((START + 300) * 1000, clientRequestPath=path)])
    database.commit(off.timeline.take_changes([], 0, []))
    again = begun(how, now=off.now, database=database)
    again.advance(600)
    again.count([event((START + 700) * 1000, clientRequestPath=path)])
    again.advance(300)
    found = parts(again)
    assert min(found.values()) >= 0
    assert returned(found, 1)["sum" if how is Histograms.NATIVE else stream_name(1)] > 0


@pytest.mark.parametrize("ticks", [(15, 30), (30, 15)])
def test_the_buckets_of_a_native_histogram_stay_when_ticks_change(ticks: tuple[int, int]) -> None:
    """Which bucket is the lowest follows from the ticks; what was counted stays, and no bucket is there twice."""
    path = f"/{stream_name(1)}/x.ts"

    def at(seconds: int) -> dict[str, Any]:
        return event((START + seconds) * 1000, clientRequestPath=path)

    database = Database(":memory:")
    before = begun(Histograms.NATIVE, tick=ticks[0], database=database)
    before.count([at(1), at(2), at(31), at(200)])
    before.advance(600)
    had = returned(parts(before), 1)
    after = begun(Histograms.NATIVE, tick=ticks[1], now=before.now, database=database)
    after.advance(60)
    assert returned(parts(after), 1) == had
    after.count([at(700), at(701), at(730)])
    after.advance(300)
    found = returned(parts(after), 1)
    assert all(found[part] >= number for part, number in had.items())
    assert sum(number for part, number in found.items() if part != "sum") == 7
    table = after.timeline.series
    keys = [split_key(table.key(slot)) for slot in range(table.end) if table.there[slot]]
    metrics = [(table.catalogue.metric(code), values) for code, values in keys]
    own = [tuple(values) for metric, values in metrics if metric and metric.name == NAME]
    assert len(own) == len(set(own))


@pytest.mark.parametrize(("how", "seed"), [(Histograms.OFF, 0), (Histograms.OFF, 4), (Histograms.NATIVE, 0)])
def test_nothing_falls_below_zero_where_series_are_at_their_bound(how: Histograms, seed: int) -> None:
    """The requests of a viewer and their gaps are of one stream, or both of the one for what is too much."""
    draw, at = random.Random(seed), 0
    process = begun(how, max_series=60 if how is Histograms.NATIVE else 120, series_idle_seconds=300, max_streams=6)
    for _ in range(40):
        lines = [
            event(
                (START + at + draw.randrange(60)) * 1000,
                clientIP=f"192.0.2.{draw.randrange(9)}",
                clientRequestPath=f"/{stream_name(draw.randrange(8))}/x.ts",
                locationID=f"p{draw.randrange(6)}",
            )
            for _ in range(draw.randrange(1, 12))
        ]
        process.count(lines)
        seconds = draw.choice((60, 60, 60, 300, 900))
        process.advance(seconds)
        at += seconds
        found = parts(process)
        assert min(found.values(), default=0) >= 0
        buckets: dict[str, list[tuple[float, float]]] = {}
        for key, value in found.items():
            if key[0].endswith("_bucket"):
                buckets.setdefault(key[1], []).append((float(key[2]), value))
        for own in buckets.values():
            values = [value for _, value in sorted(own)]
            assert values == sorted(values)
