"""Sums of the series by one label, and how fast they grow."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from cdn77_exporter.core import measures
from cdn77_exporter.core.catalogue import Catalogue, series_key
from cdn77_exporter.core.series import SeriesTable
from cdn77_exporter.status import audience as audience_module
from cdn77_exporter.status.audience import RATE_SECONDS, AudienceReader, Breakdown

TICK = 1_768_056_570
CATALOGUE = Catalogue(measures.MEASURES)


def count(series: SeriesTable, stream: str, pop: str, size: int) -> None:
    key = series_key(CATALOGUE.code(measures.TRANSFER_BYTES), (stream, "1", "HIT", pop))
    series.add(series.slot(key), size)


def watch(series: SeriesTable, stream: str, viewers: int) -> None:
    series.put(series.slot(series_key(CATALOGUE.code(measures.ACTIVE_VIEWERS), (stream, "2h"))), viewers)


def test_sums_are_those_of_a_plain_count() -> None:
    """Over any series, each name has the sum of its series."""
    draw = random.Random(5)
    series = SeriesTable(CATALOGUE, 15)
    by_pop: Counter[str] = Counter()
    found = Breakdown(measures.TRANSFER_BYTES, "pop")
    for _ in range(500):
        stream, pop, size = f"s{draw.randrange(30)}", f"p{draw.randrange(9)}", draw.randrange(1000)
        count(series, stream, pop, size)
        by_pop[pop] += size
    for slot, key in enumerate(series.keys()):
        found.add(slot, key.split("\x1f")[1:])
    sums = dict(zip(found.names, found.sums(series.value).tolist(), strict=True))
    assert sums == by_pop
    assert found.ranked(found.sums(series.value), 3) == [
        (name, float(size)) for name, size in sorted(by_pop.items(), key=lambda entry: -entry[1])[:3]
    ]


def test_the_audience_is_that_of_the_last_tick() -> None:
    """Viewers are the gauges' values; nothing is read twice for one tick, and names without an amount are left out."""
    series, spectator = SeriesTable(CATALOGUE, 15), AudienceReader()
    watch(series, "a", 3)
    watch(series, "b", 5)
    watch(series, "c", 0)
    spectator.read(series, TICK)
    assert spectator.audience.streams_by_viewers == [("b", 5.0), ("a", 3.0)]
    assert (spectator.audience.viewers, spectator.audience.tick) == (8.0, TICK)
    watch(series, "a", 9)
    spectator.read(series, TICK)
    assert spectator.audience.viewers == 8.0
    spectator.read(series, TICK + 15)
    assert spectator.audience.streams_by_viewers[0] == ("a", 9.0)


def test_only_the_session_window_is_shown() -> None:
    """Of the gauges of several windows those of the one that is asked for are added up."""
    series = SeriesTable(CATALOGUE, 15)
    for window, viewers in (("2h", 3), ("5m", 2), ("24h", 9)):
        code = CATALOGUE.code(measures.ACTIVE_VIEWERS)
        series.put(series.slot(series_key(code, ("a", window))), viewers)
    spectator = AudienceReader(window="2h")
    spectator.read(series, TICK)
    assert spectator.audience.viewers == 3.0
    assert spectator.audience.streams_by_viewers == [("a", 3.0)]


def test_players_are_added_up_by_stream() -> None:
    """Who is watching, for how long, and in how many sessions, over all devices."""
    series, spectator = SeriesTable(CATALOGUE, 15), AudienceReader()
    for measure, amounts in (
        (measures.CONCURRENT_VIEWERS, (3, 4, 1)),
        (measures.WATCH_SECONDS, (60_000, 1500, 7_200_000)),
        (measures.SESSIONS, (2, 2, 1)),
    ):
        for (stream, device), amount in zip((("a", "web"), ("a", "roku"), ("b", "web")), amounts, strict=True):
            series.put(series.slot(series_key(CATALOGUE.code(measure), (stream, device))), amount)
    spectator.read(series, TICK)
    found = spectator.audience
    assert (found.watching, found.watch_seconds, found.sessions) == (8.0, 7261.5, 5.0)
    assert found.streams_by_watching == [("a", 7.0), ("b", 1.0)]
    assert found.streams_by_watch_time == [("b", 7200.0), ("a", 61.5)]
    assert found.streams_by_sessions == [("a", 4.0), ("b", 1.0)]


def test_bandwidth_is_the_growth_over_a_minute() -> None:
    """Bits per second over the last RATE_SECONDS of ticks, also of a stream that is new, by stream and by POP."""
    series, spectator = SeriesTable(CATALOGUE, 15), AudienceReader()
    for step in range(12):
        tick = TICK + 15 * step
        count(series, "a", "x", 1_500)
        if step >= 10:
            count(series, "b", "y", 3_000)
        spectator.read(series, tick)
    rates = dict(spectator.audience.streams_by_bandwidth)
    assert rates == {"a": pytest.approx(8 * 1_500 / 15), "b": pytest.approx(8 * 2 * 3_000 / RATE_SECONDS)}
    assert dict(spectator.audience.pops) == {"x": rates["a"], "y": rates["b"]}
    assert spectator.audience.bits_per_second == pytest.approx(sum(rates.values()))


def test_many_series_are_taken_in_by_and_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restored table is looked at in parts; until all of it was, nothing wrong is shown."""
    monkeypatch.setattr(audience_module, "_NEW_AT_ONCE", 10)
    series, spectator = SeriesTable(CATALOGUE, 15), AudienceReader()
    for number in range(25):
        watch(series, f"s{number}", 1)
    for _ in range(2):
        spectator.read(series, TICK)
        assert spectator.audience.tick == 0
    spectator.read(series, TICK)
    assert spectator.audience.viewers == 25
