"""A platform whose every broadcast has a stream of its own, for months: nothing grows, nothing counts as other."""

from __future__ import annotations

import pytest

from cdn77_exporter.core.admission import OTHER
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.edge.state import Database
from tests.support.plain_timeline import Happened, decoded_of
from tests.support.samples import is_stale, parsed

START = 1_700_000_100
TICK = 60
HOUR = 3600
EVERY_MINUTES = 430  # a broadcast begins: some 5 are remembered at a time
BROADCASTS = 90 * 1440 // EVERY_MINUTES  # in three months


class Growth:
    """What a receiver saw each metric grow by, without keeping its samples."""

    def __init__(self) -> None:
        self.last: dict[tuple[tuple[str, str], ...], float] = {}
        self.grown: dict[str, float] = {}
        self.streams: set[str] = set()

    def take(self, body: bytes) -> None:
        for series in parsed(body).timeseries:
            name = tuple((label.name, label.value) for label in series.labels)
            labels = dict(name)
            self.streams.add(labels["stream_name"])
            for sample in series.samples:
                if is_stale(sample.value):
                    del self.last[name]
                    continue
                before = self.last.get(name, sample.value)
                step = sample.value - before if sample.value >= before else sample.value
                self.grown[labels["__name__"]] = self.grown.get(labels["__name__"], 0) + step
                self.last[name] = sample.value


@pytest.mark.guarantee("viewers.broadcasts")
@pytest.mark.slow
@pytest.mark.timeout(900)  # three minutes of CPU
def test_months_of_broadcasts_leave_nothing_behind() -> None:
    """With room for 10 streams at a time, 301 broadcasts all count under their names; sizes are flat; totals true."""
    rules = Rules(tick_seconds=TICK, session_window_seconds=HOUR, series_idle_seconds=86_400, max_streams=10)
    database = Database(":memory:")
    timeline = Timeline(rules, start_ms=START * 1000 - 1, key=database.secret_key())
    seen, requests, sizes, files = Growth(), 0, [], []
    for number in range(BROADCASTS):
        begins = START + number * EVERY_MINUTES * 60
        stream = f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}"
        for minute in (*range(0, 20, 2), *range(20, EVERY_MINUTES, 10)):
            at = begins + minute * 60
            if minute < 20:
                events = [
                    Happened(at * 1000, stream=stream, ip=f"192.0.{number % 250}.{viewer}", pop=f"pop-{number}")
                    for viewer in range(5)
                ]
                requests += len(events)
                stats, counts = decoded_of(events, TICK)
                timeline.absorb([(LogFile(f"logs/{at}", "e", 1, 1), stats)], counts)
            now_ms = (at + 2 * TICK) * 1000
            sent, _ = timeline.advance(now_ms, now_ms)
            for request in sent:
                seen.take(request.body)
            database.commit(timeline.take_changes(sent, now_ms, []))
            numbers = [request.number for request in sent]
            timeline.done(numbers)
            database.mark_done(numbers, None)
        if number % 30 == 29:
            sizes.append((len(timeline.series), len(timeline.streams), timeline.series.end))
            files.append(len(database.serialize()))
    assert OTHER not in seen.streams
    assert len(seen.streams) == BROADCASTS
    assert seen.grown["cdn77_requests_total"] == requests
    assert seen.grown["cdn77_viewers_total"] == BROADCASTS * 5
    settled = sizes[1:]
    assert all(max(column) <= 1.2 * min(column) for column in zip(*settled, strict=True)), sizes
    assert max(files[2:]) < 2 * files[1]
    assert len(timeline.labelling.vocabulary) < 20_000 + 100
    database.close()
