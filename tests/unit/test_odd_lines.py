"""One odd field never costs the request: what lines with something odd in them count, field by field."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.catalogue import split_key
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.judging import unfit
from cdn77_exporter.core.timeline import Rules, Timeline
from tests.support.counts import plain_groups, plain_viewers
from tests.support.files import EXAMPLE_MS, event, gzip_bytes, json_line
from tests.support.oracle import Oracle
from tests.support.ways import way

__all__ = ["way"]  # every test here is run with the compiled scan and without

LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - 7 * 24 * 3600 * 1000
GOOD = event()
OPTIONAL = sorted(GOOD.keys() - {"timestamp", "clientRequestPath"})
#: A line between others, that all of them count.
WITNESS = json_line(event(clientIP="192.0.2.1"))


class Counted(NamedTuple):
    """What one line counts: its labels, bytes, wait and viewer; None for what it has not."""

    cdn: str = "1693215245"
    cache: str = "HIT"
    pop: str = "losangelesUSCA"
    status: str = "200"
    size: int = 4143
    wait: int = 132
    viewer: str | None = "104.192.89.228"
    device: str = "web"
    country: str = "US"


def decode(content: bytes, **options: Any) -> tuple[FileStats, Any]:
    return Decoder(**options).decode(gzip_bytes(content, 1), latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)


def line_with(name: str, value: bytes) -> bytes:
    """The example line in which a field's value is these bytes."""
    return json_line(event(**{name: "@@"})).replace(b'"@@"', value)


def counted(line: bytes, **options: Any) -> tuple[Counted | None, dict[str, int], dict[str, int]]:
    """What a line counts, its rejects and its ignored fields."""
    stats, counts = decode(line, **options)
    if not stats.events:
        return None, stats.rejects, stats.ignored
    ((labels, sums),) = next(iter(plain_groups(counts).values())).items()
    assert sums[0] == stats.events == 1
    viewer = next(iter(next(iter(plain_viewers(counts).values()), {})), (None, None, None, None))
    _, cdn, cache, pop, status = labels
    one = Counted(cdn, cache, pop, status, sums[1], sums[2])
    if viewer[1] is None:
        return one._replace(viewer=None), stats.rejects, stats.ignored
    return one._replace(viewer=viewer[1], device=viewer[2], country=viewer[3]), stats.rejects, stats.ignored


# name, its value's bytes, what is other than in the example line, and whether it is ignored
FIELDS: list[tuple[str, bytes, dict[str, Any], bool]] = [
    ("timeToFirstByteMs", b"-1", {"wait": 0}, True),
    ("timeToFirstByteMs", b"12.5", {"wait": 0}, True),
    ("timeToFirstByteMs", b"18446744073709551616", {"wait": 0}, True),
    ("timeToFirstByteMs", b'"-"', {"wait": 0}, False),
    ("timeToFirstByteMs", b'""', {"wait": 0}, False),
    ("timeToFirstByteMs", b"null", {"wait": 0}, False),
    ("timeToFirstByteMs", b'"40"', {"wait": 40}, False),
    ("timeToFirstByteMs", b"40.0", {"wait": 40}, False),
    ("timeToFirstByteMs", b"4e1", {"wait": 40}, False),
    ("responseBytes", b'"5000"', {"size": 5000}, False),
    ("responseBytes", b"5e3", {"size": 5000}, False),
    ("responseBytes", b"9007199254740992", {"size": 2**53}, False),
    ("responseBytes", b"9007199254740993", {"size": 0}, True),
    ("responseBytes", b"1e400", {"size": 0}, True),
    ("responseBytes", b"9" * 5000, {"size": 0}, True),
    ("responseBytes", b'"many"', {"size": 0}, True),
    ("responseBytes", b"true", {"size": 0}, True),
    ("responseBytes", b"[5000]", {"size": 0}, True),
    ("responseBytes", b'{"sum":5000}', {"size": 0}, True),
    ("resourceID", b'"77"', {"cdn": "77"}, False),
    ("resourceID", b'"site-77"', {"cdn": "0"}, True),
    ("resourceID", b"-77", {"cdn": "0"}, True),
    ("responseStatus", b'"404"', {"status": "404"}, False),
    ("responseStatus", b"404.0", {"status": "404"}, False),
    ("responseStatus", b'"4xx"', {"status": "0"}, True),
    ("locationID", b"12", {"pop": "12"}, False),
    ("locationID", b"true", {"pop": "unknown"}, True),
    ("clientCountry", b"49", {"country": "49"}, False),
    ("clientCountry", b"false", {"country": "XX"}, True),
    ("cacheStatus", b"{}", {"cache": "UNKNOWN"}, True),
    ("clientRequestUserAgent", b'["Roku","b"]', {"device": "other"}, True),
    ("clientRequestUserAgent", b'"caf\xe9"', {"device": "other"}, True),
    ("clientRequestUserAgent", b'"\xff Roku"', {"device": "roku"}, True),
    ("clientRequestUserAgent", b'"\\ud800 Roku"', {"device": "roku"}, True),
    ("locationID", b'"a\xffb"', {"pop": "a\ufffdb"}, True),
    ("locationID", b'"a\xe2\x82b"', {"pop": "a\ufffdb"}, True),
    ("locationID", b'"a\\udc00b"', {"pop": "a\ufffdb"}, True),
    ("locationID", b'"a\xef\xbf\xbdb"', {"pop": "a\ufffdb"}, False),
    ("locationID", b'"\\ud83d\\ude00"', {"pop": "\U0001f600"}, False),
    ("clientIP", b'"198.51.100.7:51234"', {"viewer": "198.51.100.7"}, False),
    ("clientIP", b'"[2001:db8::7]:443"', {"viewer": "2001:db8::7"}, False),
    ("clientIP", b'"[2001:db8::7]"', {"viewer": "2001:db8::7"}, False),
    ("clientIP", b'"198.51.100.7, 203.0.113.9"', {"viewer": "198.51.100.7"}, False),
    ("clientIP", b'"unknown, 203.0.113.9"', {"viewer": "203.0.113.9"}, False),
    ("clientIP", b'"::ffff:198.51.100.7"', {"viewer": "198.51.100.7"}, False),
    ("clientIP", b'"fe80::7%eth0"', {"viewer": "fe80::7"}, False),
    ("clientIP", b'"198.51.100.xxx"', {"viewer": None}, True),
    ("clientIP", b'"2001:db8::g"', {"viewer": None}, True),
    ("clientIP", b"3325256711", {"viewer": None}, True),
    ("clientIP", b'["198.51.100.7"]', {"viewer": None}, True),
    ("clientIP", b'"-"', {"viewer": None}, False),
    ("clientIP", b'""', {"viewer": None}, False),
    ("clientIP", b"null", {"viewer": None}, False),
    ("clientRequestReferer", b'"x\xff"', {}, False),  # it is not read
    ("clientRequestReferer", b'"x\\ud83d y"', {}, False),
    ("clientRequestXForwardedFor", b'["a",["b"]]', {}, False),
]  # fmt: skip


@pytest.mark.guarantee("files.odd_field", "files.no_address", "files.no_utf8")
@pytest.mark.parametrize(("name", "value", "changed", "is_ignored"), FIELDS)
def test_an_odd_field_counts_as_it_should(name: str, value: bytes, changed: dict[str, Any], is_ignored: bool) -> None:
    """The request counts in all that is known of it, and a value that is ignored is told by its field."""
    expected = Counted(**changed)
    if expected.viewer is None:  # nothing else tells a profile
        expected = expected._replace(device="web", country="US")
    assert counted(line_with(name, value)) == (expected, {}, {name: 1} if is_ignored else {})


@pytest.mark.parametrize("name", OPTIONAL)
def test_any_optional_field_may_be_missing(name: str) -> None:
    """Or null, which is the same, and neither is told as malformed."""
    missing = counted(json_line({key: value for key, value in GOOD.items() if key != name}))
    assert missing == counted(json_line(event(**{name: None})))
    assert missing[0] is not None
    assert missing[1:] == ({}, {})


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


@pytest.mark.guarantee("files.odd_field")
@given(st.dictionaries(st.sampled_from(OPTIONAL), _JSON, max_size=5), st.booleans())
def test_no_value_of_an_optional_field_rejects_the_line(fields: dict[str, Any], is_ascii: bool) -> None:
    """Whatever JSON it is, however it is written; the neighbours count, and the oracle finds the same."""
    line = json.dumps(event(**fields), ensure_ascii=is_ascii).encode("utf-8", "surrogatepass") + b"\n"
    stats, counts = decode(WITNESS + line + WITNESS)
    assert (stats.events, stats.rejects) == (3, {})
    answer = Oracle(LATEST_MS, OLDEST_MS).read_lines(WITNESS + line + WITNESS)
    assert stats.ignored == dict(answer.ignored)
    assert plain_groups(counts) == {tick: part.groups for tick, part in answer.ticks.items()}
    assert plain_groups(counts, 1) == {tick: part.tracks for tick, part in answer.ticks.items() if part.tracks}


@pytest.mark.guarantee("files.no_utf8")
@given(st.sampled_from(OPTIONAL), st.binary(max_size=30))
def test_no_bytes_in_an_optional_text_reject_the_line(name: str, content: bytes) -> None:
    """But for those that JSON does not let stand in a text: a quote, a backslash, a control character."""
    kept = bytes(byte for byte in content if byte >= 0x20 and byte not in b'"\\')
    stats, _ = decode(WITNESS + line_with(name, b'"' + kept + b'"') + WITNESS)
    assert (stats.events, stats.rejects) == (3, {})


# Times


@pytest.mark.guarantee("files.offset")
@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-10T15:49:28.299+01:00", "2026-01-10T14:49:28.299Z"),
        ("2026-01-10T14:49:28.299+0000", "2026-01-10T14:49:28.299Z"),
        ("2026-01-10T09:19:28.299-0530", "2026-01-10T14:49:28.299Z"),
        ("2026-01-10T15:49:28.299+01", "2026-01-10T14:49:28.299Z"),
        ("2026-01-10 14:49:28.299Z", "2026-01-10T14:49:28.299Z"),
        ("2026-01-10t14:49:28,299z", "2026-01-10T14:49:28.299Z"),
        ("20260110T144928.299Z", "2026-01-10T14:49:28.299Z"),
        ("2026-01-10T14:49Z", "2026-01-10T14:49:00.000Z"),
        ("2026-01-09T23:59:60.5Z", "2026-01-10T00:00:00.500Z"),
        ("2026-01-10T00:59:60+01:00", "2026-01-10T00:00:00.000Z"),
    ],
)
def test_any_offset_is_the_instant(text: str, instant: str) -> None:
    """A timestamp counts exactly as the same instant in UTC does."""
    (stats, counts), (same, as_well) = (decode(json_line(event(timestamp=one))) for one in (text, instant))
    assert (stats.events, stats.oldest_ms, stats.newest_ms) == (1, same.oldest_ms, same.newest_ms)
    assert stats.requests == same.requests
    assert plain_viewers(counts) == plain_viewers(as_well)


@pytest.mark.parametrize(
    "text", ["2026-01-10T14:49:28", "2026-01-10T14:48:60Z", "2026-01-10", "1768056568", "2026-01-10T14:49:28+25:00", ""]
)
def test_what_is_no_instant_is_rejected(text: str) -> None:
    """A time without an offset is none: it could be any of 26 hours."""
    assert counted(json_line(event(timestamp=text))) == (None, {"bad_timestamp": 1}, {})


# Lines


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"0x10", b"'1'", b"01", b"1."])
def test_what_is_no_json_is_rejected_and_its_neighbours_count(value: bytes) -> None:
    """A writer that puts such words into a line loses that line alone."""
    stats, _ = decode(WITNESS + line_with("responseBytes", value) + WITNESS)
    assert (stats.lines, stats.events, stats.rejects) == (3, 2, {"not_json": 1})


@pytest.mark.guarantee("files.byte_order_mark")
def test_a_byte_order_mark_is_skipped() -> None:
    """At the file's begin, and before any other line; alone it is a blank line."""
    mark = b"\xef\xbb\xbf"
    stats, _ = decode(mark + WITNESS + WITNESS + mark + WITNESS + mark + b"\n")
    assert (stats.lines, stats.events, stats.rejects) == (3, 3, {})


def test_the_last_of_several_values_counts() -> None:
    """Even where another one is malformed."""
    for twice in (b'"responseBytes":"?","responseBytes":7', b'"responseBytes":1,"responseBytes":7'):
        line = json_line(GOOD).replace(b'"responseBytes":4143', twice)
        assert counted(line) == (Counted(size=7), {}, {})
    line = json_line(GOOD).replace(b'"responseBytes":4143', b'"responseBytes":7,"responseBytes":-7')
    assert counted(line) == (Counted(size=0), {}, {"responseBytes": 1})


@pytest.mark.guarantee("files.no_utf8")
def test_the_path_may_hold_any_bytes() -> None:
    """The stream is found among them, and the field is told."""
    line = line_with("clientRequestPath", b'"' + GOOD["clientRequestPath"].encode() + b'\xff\\ud800"')
    assert counted(line) == (Counted(), {}, {"clientRequestPath": 1})


def test_a_file_of_requests_without_an_address_has_its_times() -> None:
    """What a shard has delivered does not depend on whether viewers are known."""
    lines = [json_line(event(EXAMPLE_MS + step, clientIP="-")) for step in (500, 0, 9000)]
    stats, counts = decode(b"".join(lines))
    assert (stats.events, stats.oldest_ms, stats.newest_ms) == (3, EXAMPLE_MS, EXAMPLE_MS + 9000)
    assert not len(counts.viewers)
    stats, _ = decode(lines[0] + json_line(event(EXAMPLE_MS + 700)) + lines[2])
    assert (stats.oldest_ms, stats.newest_ms) == (EXAMPLE_MS + 500, EXAMPLE_MS + 9000)


def _renamed(name: str, other: str) -> bytes:
    return json_line({(other if key == name else key): value for key, value in GOOD.items()})


@pytest.mark.parametrize(
    "content",
    [
        json_line(GOOD).decode().encode("utf-16") * 3,
        json_line(GOOD).decode().encode("utf-16-be") * 3,
        b'{"Records":[' + json_line(GOOD)[:-1] + b"]}\n",
        _renamed("timestamp", "time"),
        _renamed("clientRequestPath", "uri"),
        b"2026-01-10T14:49:28Z,/x,104.192.89.228\n" * 3,
    ],
    ids=["UTF-16", "UTF-16 without a mark", "records", "another timestamp", "another path", "CSV"],
)
def test_what_is_no_log_is_still_none(content: bytes) -> None:
    """Leniency is for fields: a file of another form has no events, and is not counted."""
    stats, _ = decode(content)
    assert stats.events == 0
    assert unfit(stats) == "not_a_log"


# IPv6 networks


@pytest.mark.parametrize(("prefix", "viewers"), [(128, 5), (64, 4), (48, 4), (16, 3), (1, 3)])
def test_addresses_of_one_ipv6_network_are_one_viewer(prefix: int, viewers: int) -> None:
    """As many first bits count; an IPv4 address, also a mapped one, is not touched."""
    addresses = (
        "2001:db8:0:1::1", "2001:db8:0:1:ffff::9", "2001:db9::1", "198.51.100.7", "::ffff:198.51.100.7", "198.51.100.8",
    )  # fmt: skip
    _, counts = decode(b"".join(json_line(event(clientIP=address)) for address in addresses), ipv6_prefix=prefix)
    (seen,) = plain_viewers(counts).values()
    of_ipv6 = {viewer[1] for viewer in seen if ":" in viewer[1]}
    assert {viewer[1] for viewer in seen} - of_ipv6 == {"198.51.100.7", "198.51.100.8"}
    assert len(seen) == viewers


@pytest.mark.guarantee("files.no_address")
def test_requests_without_an_address_have_no_place(way: str) -> None:
    """With a GeoIP database, too: they count as requests, and nobody is looked up or counted as a viewer."""
    asked: list[str] = []

    def locate(address: str) -> tuple[str, str]:
        asked.append(address)
        return "CZ", "Prague"

    timeline = Timeline(Rules(), start_ms=EXAMPLE_MS - 60_000, key=b"k" * 32, locate=locate)
    content = json_line(event(clientIP="198.51.100.xxx")) * 2 + json_line(event(clientIP="198.51.100.7:80, 10.0.0.1"))
    stats, counts = decode(content)
    timeline.absorb([(LogFile("k", "e", 1, EXAMPLE_MS), stats)], counts)
    timeline.advance(EXAMPLE_MS + 60_000, EXAMPLE_MS + 60_000)
    values: dict[str, float] = {}
    for key in timeline.series.keys():  # noqa: SIM118 - it is no dict
        slot = timeline.series.find(key)
        assert slot is not None
        measure = timeline.series.catalogue.measure(split_key(key)[0])
        assert measure is not None
        name = measure.name
        values[name] = values.get(name, 0) + timeline.series.value[slot]
    assert asked == ["198.51.100.7"]
    assert values["cdn77_requests_total"] == 3
    for name in ("cdn77_viewers_total", "cdn77_viewers_by_region_total", "cdn77_active_viewers_by_country"):
        assert values[name] == 1
