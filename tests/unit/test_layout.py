"""Another table of measures: the decoder reads what its rows name, and both of its ways add up the same."""

from __future__ import annotations

from typing import Any

import pytest

from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.layout import ADDRESS, NEEDED, Layout
from cdn77_exporter.core.measures import MEASURES, PLACE_COUNTRY, STREAM, VIEWERS, Events, Measure, Measures, Sum
from tests.support.counts import plain_audience, plain_groups, plain_viewers
from tests.support.files import EXAMPLE_MS, USER_AGENTS, event, log_file, stream_name
from tests.support.other_measures import DERIVED_MEASURES, OTHER_MEASURES
from tests.support.ways import way

__all__ = ["way"]  # every test here is run with the compiled scan and without


def decoded(*events: dict[str, Any]) -> Any:
    """What the other measures count."""
    return Decoder(OTHER_MEASURES).decode(log_file(events), latest_ms=EXAMPLE_MS + 1000, oldest_ms=0)


def test_every_kind_of_field_is_a_label_and_a_sum() -> None:
    """Texts, numbers and flags; what is missing, null or empty is what the label says of a missing one."""
    stats, counts = decoded(
        event(serverIP="a", serverPort=443, clientRequestCompleted=True, clientRequestConnTimeout=True),
        event(serverIP="a", serverPort=443, clientRequestCompleted=True, clientRequestConnTimeout=True),
        event(serverIP="", serverPort=0, clientRequestCompleted=False, requestTimeMs=0, cacheStatus="x"),
        event(serverIP=None, serverPort=None, clientRequestCompleted=None, clientRequestConnTimeout=None),
        event(serverIP="none", serverPort="", clientRequestCompleted=None, clientPort=None),
    )
    (by_server,) = plain_groups(counts, 0).values()
    stream = "78001c7e2b3ff8ca21b504883b47c44c"
    assert by_server == {
        (stream, "a", "443", "true"): [2, 2],
        (stream, "none", "0", "false"): [1, 0],
        (stream, "none", "missing", "missing"): [2, 0],
    }
    (by_device,) = plain_groups(counts, 1).values()
    assert by_device == {("web", "HIT"): [4, 528, 4, 185_475], ("web", "x"): [1, 0, 0, 61_825]}
    assert (stats.events, stats.bytes, stats.rejects) == (5, 0, {})


def test_a_field_that_is_read_and_malformed_is_ignored() -> None:
    """What is no number, no flag or no text is missing, and told; a field that is not read may hold anything."""
    stats, counts = decoded(
        event(requestTimeMs=-1), event(clientRequestCompleted="yes"), event(serverIP=[]), event(serverPort="443"),
        event(responseBytes="many", responseStatus=[]),
    )  # fmt: skip
    assert (stats.events, stats.rejects) == (5, {})
    assert stats.ignored == {"requestTimeMs": 1, "clientRequestCompleted": 1, "serverIP": 1}
    (by_server,) = plain_groups(counts, 0).values()
    assert sorted(labels[1:] for labels in by_server) == [
        ("143.244.51.39", "443", "missing"), ("143.244.51.39", "443", "true"), ("none", "443", "true"),
    ]  # fmt: skip


def test_viewers_of_any_measures_are_those_of_the_built_in_ones() -> None:
    """They are kept by address and profile, whatever is summed."""
    events = [
        event(clientIP=f"10.0.0.{number % 3}", clientRequestUserAgent=USER_AGENTS[number % 4], clientCountry="")
        for number in range(10)
    ]
    _, other = decoded(*events)
    _, built_in = Decoder().decode(log_file(events), latest_ms=EXAMPLE_MS + 1000, oldest_ms=0)
    assert plain_viewers(other) == plain_viewers(built_in)


def test_the_fields_are_those_of_the_rows() -> None:
    """Needed ones first, each once."""
    layout = Layout(MEASURES)
    names = [field.name for field in layout.fields]
    assert names[: len(NEEDED)] == list(NEEDED)
    assert names[len(NEEDED)] == ADDRESS
    assert sorted(names[len(NEEDED) + 1 :]) == [
        "cacheStatus", "clientCountry", "clientRequestCompleted", "clientRequestConnTimeout", "clientRequestUserAgent",
        "locationID", "resourceID", "responseBytes", "responseStatus", "timeToFirstByteMs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((Measure("a", Events(), (STREAM, PLACE_COUNTRY), ""),), "country of the place"),
        ((Measure("a", Sum("cacheStatus"), (STREAM,), ""),), "cacheStatus is text"),
    ],
)
def test_what_no_line_tells_is_refused(rows: tuple[Measure, ...], words: str) -> None:
    """At the start, with words that say which row is wrong."""
    with pytest.raises(ValueError, match=words):
        Decoder(Measures(rows))


def test_events_are_counted_without_a_measure_of_events() -> None:
    """A file tells how many it has, and the viewers' ticks, when only viewers are measured."""
    stats, counts = Decoder(Measures((VIEWERS,))).decode(log_file([event()]), latest_ms=EXAMPLE_MS, oldest_ms=0)
    assert (stats.events, len(counts.viewers)) == (1, 1)


def test_a_cube_without_labels_is_one_group() -> None:
    """Of everything, however finely it is kept."""
    measures = Measures((Measure("all_total", Sum("responseBytes"), (), "All bytes."),))
    body = log_file(event(clientRequestPath=f"/{stream_name(number)}/x", responseBytes=5) for number in range(4))
    _, counts = Decoder(measures).decode(body, latest_ms=EXAMPLE_MS, oldest_ms=0)
    (groups,) = plain_groups(counts).values()
    assert [sum(column) for column in zip(*groups.values(), strict=True)] == [4, 20]


def test_what_follows_from_a_field_is_counted() -> None:
    """Conditions hold all together, a bound is included, and events without a track are told apart by an empty one."""
    path = f"/{stream_name(1)}/tracks-v1a1/x.ts"
    events = [
        event(clientRequestMethod="POST", serverPort=443, serverIP="a", requestTimeMs=100, clientRequestPath=path),
        event(clientRequestMethod="POST", serverPort="443", serverIP="a", requestTimeMs=101, clientIP="2001:db8::1"),
        event(
            clientRequestMethod="POST",
            serverPort=80,
            serverIP="a",
            requestTimeMs=1,
            clientIP="-",
            clientRequestPath=path[:34],
        ),
        event(clientRequestMethod="GET", serverPort=443, serverIP="a", requestTimeMs=0, clientRequestCompleted=False),
        event(clientRequestCompleted=None, serverIP="a", requestTimeMs=None, clientIP="::ffff:10.0.0.1"),
    ]
    _, counts = Decoder(DERIVED_MEASURES).decode(log_file(events), latest_ms=EXAMPLE_MS + 1000, oldest_ms=0)
    found: dict[tuple[str, ...], int] = {}
    for number, cube in enumerate(DERIVED_MEASURES.cubes):
        (groups,) = plain_groups(counts, number).values()
        for measure in cube.measures:
            for labels, sums in groups.items():
                texts = [text for label, text in zip(cube.labels, labels, strict=True) if label in measure.told]
                key = (measure.name, *texts[1:])
                found[key] = found.get(key, 0) + sums[cube.places(measure)[0]]
    assert {key: value for key, value in found.items() if value} == {
        ("post_total", "a"): 2,
        ("bytes_total",): 4143,
        ("quick_total", "HIT"): 2,
        ("track_total", "v1a1", "4"): 1,
        ("track_total", "v3", "6"): 1,
        ("track_total", "v3", "4"): 2,
        ("rtt_total", "-36"): 5,
    }
    by_track = plain_audience(counts, counts.audiences[1])
    (viewers,) = by_track.values()
    assert sorted(labels[2] for labels in viewers) == ["v1a1", "v3", "v3", "v3"]
