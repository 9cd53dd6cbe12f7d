"""One row adds a measure: decoding, series, state and documentation follow from the table."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable

import pytest

from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.measures import CDN, MEASURES, POP, STREAM, Label, Measure, Measures, Source, Sum
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.edge.state import Database
from tests.support.files import event, stream_name
from tests.support.samples import Received, increase

START = 1_700_000_100
#: What a contributor would add to the table: one row, of a field that no other measure reads, by a label that none has.
NEW = Measure(
    "cdn77_client_request_bytes_total",
    Sum("clientRequestBytes"),
    (STREAM, CDN, POP, Label("protocol", Source.FIELD, "clientRequestProtocol", "unknown")),
    "Bytes that clients sent with their requests.",
)
WITH = Measures((*MEASURES.rows, NEW))
PROTOCOLS = ("HTTP20", "HTTP11", "", None)


def events(first: int, count: int) -> list[dict[str, object]]:
    """Requests of which each sent another number of bytes."""
    return [
        dict(
            event(
                (START + first + number) * 1000, clientRequestBytes=number, clientRequestProtocol=PROTOCOLS[number % 4]
            )
        )
        for number in range(count)
    ]


def body_of(lines: Iterable[dict[str, object]]) -> bytes:
    """A log file."""
    return gzip.compress(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines))


class Process:
    """A timeline with a state, which takes log files as they are."""

    def __init__(self, database: Database, measures: Measures, received: Received, *, accelerate: bool) -> None:
        self.database, self.received = database, received
        self.decoder = Decoder(measures=measures, accelerate=accelerate)
        self.timeline = Timeline(Rules(), start_ms=START * 1000 - 60_000, key=database.secret_key(), measures=measures)
        snapshot = database.load()
        if snapshot is not None:
            self.timeline.restore(snapshot)

    def count(self, lines: list[dict[str, object]], until: int) -> None:
        """Count a file, and write the ticks up to then."""
        stats, counts = self.decoder.decode(body_of(lines), latest_ms=(START + 10_000) * 1000, oldest_ms=0)
        self.timeline.absorb([(LogFile(f"logs/{until}", "e", 1, 1), stats)], counts)
        self.database.commit(self.timeline.take_changes([], 0, []))
        self.advance(until)

    def advance(self, until: int) -> None:
        """Write the ticks up to then."""
        at_ms = (START + until) * 1000
        requests, _ = self.timeline.advance(at_ms, at_ms + 1000)
        self.received.take((request.body, request.samples) for request in requests)
        self.database.commit(self.timeline.take_changes(requests, 0, []))
        numbers = [request.number for request in requests]
        self.timeline.done(numbers)
        self.database.mark_done(numbers, None)


def grown(received: Received, metric: str) -> dict[str, float]:
    """How much a metric grew, by protocol; under the empty text where it has no such label."""
    found: dict[str, float] = {}
    for name, samples in received.samples.items():
        labels = dict(name)
        if labels["__name__"] == metric:
            protocol = labels.get("protocol", "")
            found[protocol] = found.get(protocol, 0) + increase(samples, 0, 2**60)
    return found


@pytest.mark.parametrize("accelerate", [True, False], ids=["compiled", "pure"])
def test_a_row_is_all_that_a_measure_needs(accelerate: bool) -> None:
    """A measure that is only a row is decoded, counted, written, committed and taken up again, beside all others."""
    database, received = Database(":memory:"), Received()
    lines = events(0, 40) + events(40, 40)
    Process(database, WITH, received, accelerate=accelerate).count(lines[:40], 30)  # ten of them wait in an open tick
    Process(database, WITH, received, accelerate=accelerate).count(lines[40:], 120)
    truth: dict[str, float] = {}
    for line in lines:
        protocol = str(line["clientRequestProtocol"] or "unknown")
        truth[protocol] = truth.get(protocol, 0) + int(str(line["clientRequestBytes"]))
    assert grown(received, NEW.name) == truth
    assert grown(received, "cdn77_requests_total") == {"": 80}
    assert received.metadata[NEW.name] == ("counter", NEW.help)


def test_a_measure_may_come_and_go_between_processes() -> None:
    """A state without the measure is taken up, and one with it by a program without: all others go on."""
    database, received = Database(":memory:"), Received()
    for number, measures in enumerate((MEASURES, WITH, MEASURES, WITH)):
        process = Process(database, measures, received, accelerate=True)
        process.count(events(number * 60, 40), number * 60 + 30)
    process.advance(400)
    assert grown(received, "cdn77_requests_total") == {"": 160}
    assert sum(grown(received, NEW.name).values()) > sum(range(40))


def test_two_measures_of_one_name_are_refused() -> None:
    """A table says it when two rows would be written under one name, or when no line has a field."""
    with pytest.raises(ValueError, match="one name"):
        Measures((*MEASURES.rows, MEASURES.rows[0]))
    with pytest.raises(ValueError, match="no line has"):
        Measures((*MEASURES.rows, Measure("cdn77_x_total", Sum("noSuchField"), (STREAM,), "Nothing.")))


def test_what_a_state_holds_of_other_groups_is_not_counted_by_a_label_that_is_required() -> None:
    """An open tick whose events have no track is taken up by the next process, and no track has them."""
    database, received = Database(":memory:"), Received()
    path = f"/{stream_name(1)}/index.m3u8"
    lines = [{**line, "clientRequestPath": path} for line in events(0, 40)]
    Process(database, MEASURES, received, accelerate=True).count(lines, 30)  # ten of them wait in an open tick
    Process(database, MEASURES, received, accelerate=True).advance(120)
    assert sum(grown(received, "cdn77_requests_total").values()) == 40
    assert not grown(received, "cdn77_requests_by_track_total")
