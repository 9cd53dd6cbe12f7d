"""Frames to OpenMetrics text: nothing is lost, each series together, times ascending, whatever the buffer."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cdn77_exporter.commands.backfill.openmetrics import Spool
from cdn77_exporter.core.catalogue import Catalogue, series_key
from cdn77_exporter.core.measures import ACTIVE_VIEWERS, MEASURES, REQUESTS, TIMES_TO_FIRST_BYTE, VIEWERS
from cdn77_exporter.core.series import Frame, SeriesTable

ODD = 'a"b\\c\nd é'


CATALOGUE = Catalogue(MEASURES)


def frames() -> tuple[SeriesTable, list[list[Frame]], dict[tuple[str, str, int], float]]:
    """Ticks of some hundred series with padding, a stale one and odd labels; and what they hold."""
    table = SeriesTable(CATALOGUE, 15, 600)
    found: list[list[Frame]] = []
    expected: dict[tuple[str, str, int], float] = {}
    slots = [table.slot(series_key(CATALOGUE.code(VIEWERS), (f"stream-{number}",))) for number in range(150)]
    slots.append(table.slot(series_key(CATALOGUE.code(ACTIVE_VIEWERS), (ODD, "2h"))))
    names = [("cdn77_viewers_total", f"stream-{number}") for number in range(150)] + [("cdn77_active_viewers", ODD)]
    for number in range(60):
        tick = 1_700_000_100 + number * 15
        for place, slot in enumerate(slots):
            if number < 15 or place % 2:
                table.add(slot, place + 0.5 if place == 3 else place)
        live = [place for place in range(len(slots)) if number < 14 + 40 or place % 2 or place == 150]
        found.append(table.emit(tick, pad_from=tick - 60))
        for place in live:
            expected[*names[place], tick] = float(table.value[slots[place]])
        if number == 0:
            for place in range(150):
                expected |= {(*names[place], tick - back): 0.0 for back in (15, 30, 45, 60)}
    return table, found, expected


@pytest.mark.parametrize("buffer_bytes", [0, 1_000_000_000], ids=["files", "memory"])
def test_text_holds_what_the_frames_held(tmp_path: Path, buffer_bytes: int) -> None:
    """Another parser, which insists on the order, finds every sample; stale markers are left out."""
    table, ticks, expected = frames()
    spool = Spool(tmp_path, buffer_bytes)
    for some in ticks:
        spool.encode(table, some)
    out = io.BytesIO()
    spool.write(out)
    found = {}
    for family in text_string_to_metric_families(out.getvalue().decode()):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            found[sample.name, sample.labels["stream_name"], int(float(sample.timestamp))] = sample.value
    assert found == expected
    assert spool.samples == len(expected)
    assert spool.series == 151
    assert list(tmp_path.iterdir()) == []


def test_times_with_milliseconds_are_kept(tmp_path: Path) -> None:
    """A shifted sample has its milliseconds, a whole number is written as one."""
    table = SeriesTable(CATALOGUE, 15, 600)
    table.add(table.slot(series_key(CATALOGUE.code(REQUESTS), ("s", "1", "HIT", "p"))), 7)
    spool = Spool(tmp_path)
    spool.encode(table, table.emit(1_700_000_100, offset_ms=250, pad_from=1_700_000_100))
    out = io.BytesIO()
    spool.write(out)
    line = out.getvalue().decode().splitlines()[2]
    assert line.endswith("} 7 1700000100.250")
    assert (spool.oldest_ms, spool.newest_ms) == (1_700_000_100_250, 1_700_000_100_250)


def test_the_parts_of_a_summary_are_there(tmp_path: Path) -> None:
    """Sum, in seconds, and count of the same labels are found by another parser, at each time."""
    table = SeriesTable(CATALOGUE, 15, 600)
    spool = Spool(tmp_path)
    for tick in (1_700_000_100, 1_700_000_115):
        for pop in ("p", "q"):
            for measure, amount in zip(TIMES_TO_FIRST_BYTE, (1234, 5), strict=True):
                table.add(table.slot(series_key(CATALOGUE.code(measure), ("s", "1", "HIT", pop))), amount)
        spool.encode(table, table.emit(tick, pad_from=tick))
    out = io.BytesIO()
    spool.write(out)
    families = text_string_to_metric_families(out.getvalue().decode())  # type: ignore[no-untyped-call]
    found = [(one.name[-6:], one.labels["pop"], one.value) for family in families for one in family.samples]
    assert found == [
        (name, pop, value)
        for name, values in (("ds_sum", (1.234, 2.468)), ("_count", (5, 10)))
        for pop in "pq"
        for value in values
    ]
