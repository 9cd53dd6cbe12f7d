"""The compiled scan: which lines it takes, that it is as Python says, and what it does when it is used wrongly."""

from __future__ import annotations

import copy
import ipaddress
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.columns import MOST_SUM
from cdn77_exporter.core.decode import Decoder, Limits
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.layout import Layout
from cdn77_exporter.core.lines import NOTHING, instant_ms, packed_address
from cdn77_exporter.core.measures import MEASURES
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN, DEFAULT_TRACK_PATTERN, PathPattern
from tests.support import hostile
from tests.support import lines as log
from tests.support.cases import Cases
from tests.support.examples import fuzz_examples
from tests.support.files import EXAMPLE_MS, event, gzip_bytes, json_line, ndjson, stream_name, traffic
from tests.support.mutations import mutated_lines
from tests.support.ways import need_compiled_scan

if TYPE_CHECKING:
    from cdn77_exporter.core.scan import _scan

LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - log.WEEK_MS
FUZZ = fuzz_examples(150)


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """Nothing here can be tested without it."""
    need_compiled_scan()


def scanner(**changed: Any) -> _scan.Scanner:
    """A scan that takes whatever is plain."""
    from cdn77_exporter.core.scan import _scan

    stream, track = PathPattern.of(DEFAULT_STREAM_PATTERN), PathPattern.of(DEFAULT_TRACK_PATTERN)
    assert stream is not None
    assert track is not None
    limits = {
        **Layout(MEASURES).for_scan,
        "stream": stream.for_scan,
        "track": track.for_scan,
        "tick_seconds": 15,
        "line_bytes": 2**20,
        "oldest_ms": 0,
        "latest_ms": 2**60,
        "rows": 100_000,
        "admitted_only": False,
        "examples": 0,
        "secrets": (1, 2),
        "ipv6_prefix": 128,
    }
    return _scan.Scanner(**{**limits, **changed})


def left(content: bytes, **changed: Any) -> bytes:
    """The lines that the scan does not take."""
    return b"".join(content[begin:end] for _, begin, end in scanner(**changed).take(content, 0))


def spans(one: _scan.Scanner) -> list[tuple[int, int]]:
    """First and last time of each viewer."""
    _, viewers = one.close()[3][0]
    return list(zip(*(np.frombuffer(times, np.int64).tolist() for times in viewers[2:]), strict=True))


def takes(**fields: Any) -> bool:
    """Whether a line with these fields is taken."""
    return not left(json_line(event(EXAMPLE_MS, **fields)))


def both(content: bytes, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the decoder says with the scan and without, or why the file is unreadable."""
    found: list[dict[str, Any]] = []
    for accelerate in (True, False):
        try:
            stats, counts = Decoder(accelerate=accelerate, **options).decode(
                gzip_bytes(content, 1), latest_ms=LATEST_MS, oldest_ms=OLDEST_MS
            )
        except Unreadable as error:
            found.append({"unreadable": error.reason})
        else:
            found.append(log.plain(stats, counts) | {"rejects": stats.rejects, "examples": stats.examples})
    return found[0], found[1]


# Equality


@FUZZ
@given(st.lists(st.one_of(mutated_lines(), mutated_lines(), log.lines, log.events().map(json_line)), max_size=8))
def test_nothing_is_different_with_the_scan(lines: list[bytes]) -> None:
    """Tallies are equal in all that they hold, the rejected lines' numbers and examples too."""
    with_scan, without = both(b"".join(lines), examples=True)
    assert with_scan == without


@FUZZ
@given(
    st.lists(st.one_of(mutated_lines(), log.lines, log.events().map(json_line)), max_size=8),
    st.sampled_from(log.STREAMS),
    st.integers(0, 3),
)
def test_nothing_is_different_where_streams_are_refused(lines: list[bytes], refused: str, bad: int) -> None:
    """With an allow-list and tight limits, too."""
    options: dict[str, Any] = {"allow": lambda stream: stream != refused, "examples": True}
    with_scan, without = both(b"".join(lines), limits=Limits(line_bytes=1300, bad_lines=bad), **options)
    assert with_scan == without


def test_a_file_of_real_size_is_taken_whole() -> None:
    """Every line of usual traffic is taken, and the result is that of the decoder alone."""
    content = ndjson(traffic(5000, seed=11))
    assert left(content) == b""
    with_scan, without = both(content)
    assert with_scan == without
    assert with_scan["events"] == 5000


def test_a_line_left_is_found_where_it_stands() -> None:
    """What is left comes in order, neighbours together, each with the number of lines taken before it."""
    good, bad = json_line(event()), b"x\n"
    content = b"\n" + good * 2 + bad * 2 + good + bad + good * 3
    found = scanner().take(content, 1)
    begins = [1 + 2 * len(good), 1 + 3 * len(good) + 4]
    assert found == [
        (2, begins[0], begins[0] + 4), (1, begins[1], begins[1] + 2), (3, len(content), len(content)),
    ]  # fmt: skip


def test_limits_beyond_all_numbers_are_none() -> None:
    """Limits that no machine number holds are no error, and mean what they say."""
    body = gzip_bytes(json_line(event()))
    for latest, oldest, events in ((10**30, -(10**30), 1), (10**30, 10**30, 0)):
        decoder = Decoder(limits=Limits(line_bytes=10**30))
        assert decoder.decode(body, latest_ms=latest, oldest_ms=oldest)[0].events == events


# What is plain


def test_no_bad_line_is_taken() -> None:
    """Whatever is a reject is left to Python, which knows the reason."""
    with Cases() as cases:
        for name, line, _ in hostile.bad_lines():
            with cases.case(name):
                assert left(line, oldest_ms=OLDEST_MS, examples=1) == line


@FUZZ
@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.lists(
            st.sampled_from(
                (
                    *(":", "::", ".", "0", "1", "00", "fe80", "FFFF", "12345", "255", "256", "1.2.3.4", "%1", "g"),
                    *("[", "]", ",", " ", "\t", ":80", "1.2.3.4:80", "[::1]", "é"),
                )
            ),
            max_size=18,
        ).map("".join),
    ),
    st.sampled_from((128, 127, 64, 48, 1)),
)
def test_an_address_is_what_python_takes_for_one(text: str, prefix: int) -> None:
    """No text is taken for an address that is none, and those that are for no other; only zones are left."""
    line = json_line(event(clientIP=text))
    one = scanner(ipv6_prefix=prefix)
    taken = one.take(line, 0) == [(1, len(line), len(line))]
    assert taken or "%" in text
    _, _, addresses, _, _, ignored, _ = one.close()
    if taken:
        assert addresses == (packed_address(text, prefix) or b"")
        assert sum(ignored) == (not addresses and text not in NOTHING)


@pytest.mark.parametrize("version", [ipaddress.IPv4Address, ipaddress.IPv6Address])
def test_all_forms_of_addresses_that_python_writes_are_taken(version: Any) -> None:
    """Those without IPv4 at their end are not left to the slow path."""
    bits = version("::").max_prefixlen if version is ipaddress.IPv6Address else 32
    for shift in range(bits):
        for value in (1 << shift, (1 << bits) - (1 << shift)):
            text = str(version(value))
            assert takes(clientIP=text), text


@FUZZ
@given(
    st.tuples(*(st.integers(0, most) for most in (10_000, 13, 32, 24, 60, 60))),
    st.sampled_from(("T", "t", " ", "_")),
    st.sampled_from(("", ".", ".1", ",12", ".299", ".299999", ".1234567891")),
    st.sampled_from(
        ("Z", "z", "+00:00", "-0000", "+01:00", "-0530", "+14", "-23:59", "+24:00", "+01:60", "+1", "+00:0", "")
    ),
)
def test_a_time_is_what_python_takes_for_one(parts: tuple[int, ...], middle: str, fraction: str, zone: str) -> None:
    """After 1970's begin every instant of the calendar and no other, but for leap seconds; before, none."""
    year, month, day, hour, minute, second = parts
    text = f"{year:04d}-{month:02d}-{day:02d}{middle}{hour:02d}:{minute:02d}:{second:02d}{fraction}{zone}"
    at = instant_ms(text)
    line = json_line(event(timestamp=text))
    one = scanner()
    taken = one.take(line, 0) == [(1, len(line), len(line))]
    assert taken == (at is not None and at > 0 and second < 60 and len(fraction) <= 10)
    if taken:
        assert spans(one) == [(at, at)]


def test_every_day_is_the_calendar_s() -> None:
    """Each day of four centuries is counted at the instant that Python gives it."""
    before, _, behind = json_line(event(timestamp="@")).partition(b"@")
    for ordinal in range(datetime(1970, 1, 2).toordinal(), datetime(2401, 1, 1).toordinal(), 7):  # noqa: DTZ001
        moment = datetime.fromordinal(ordinal).replace(tzinfo=UTC)
        one = scanner()
        one.take(before + f"{moment:%Y-%m-%dT%H:%M:%S}Z".encode() + behind, 0)
        ((first, _),) = spans(one)
        assert first == int(moment.timestamp()) * 1000


def test_times_beyond_the_limits_are_taken_for_what_they_are() -> None:
    """The limits themselves are within; what is later counts at the latest time, what is earlier is too old."""
    line = json_line(event(EXAMPLE_MS))
    assert left(line, oldest_ms=EXAMPLE_MS, latest_ms=EXAMPLE_MS) == b""
    for limits, times, rejects in (
        ({"oldest_ms": EXAMPLE_MS + 1}, [], (0, 0, 1)),
        ({"latest_ms": EXAMPLE_MS - 1}, [(EXAMPLE_MS - 1, EXAMPLE_MS - 1)], (0, 0, 0)),
    ):
        one = scanner(**limits)
        assert one.take(line, 0) == [(1, len(line), len(line))]
        *_, ((_, viewers), _), found, _, _ = one.close()
        assert found == rejects
        assert list(zip(*(np.frombuffer(part, np.int64).tolist() for part in viewers[2:]), strict=True)) == times
    assert left(line, latest_ms=0) == line


def test_odd_forms_are_taken() -> None:
    """Blanks, escapes, other characters than ASCII, a stream anywhere in the path: nothing of it is left to Python."""
    assert takes(clientRequestReferer='a"b\\c\n/é\u2028😀')
    assert takes(clientRequestUserAgent='a"b\\c\u2028')
    assert takes(clientRequestReferer=None, cacheAge=-1.5, unknown=True)
    assert takes(clientRequestPath=f"/x/{stream_name(1)}/y")
    assert takes(resourceID="", responseStatus=None)
    for address in ("::ffff:1.2.3.4", "1.2.3.4:80", "[::1]:80", "unknown, 1.2.3.4", "198.51.100.xxx", "-", "", None, 5):
        assert takes(clientIP=address)
    for size in (2**53, 2**53 + 1, 10**30, -1, 12.5, 200.0, "12", "12.0", "-1", "-", "", None):
        assert takes(responseBytes=size), size
    assert takes(locationID=12, clientCountry=-1.5)
    fields = event(clientRequestUserAgent="Mozilla/5.0 <a> & b", clientCountry="é")
    for separators in ((", ", ": "), (",", ":")):
        text = json.dumps(fields, separators=separators)
        for line in (text, text.replace("/", "\\/"), f" {text} \r", text.replace("&", "\\u0026")):
            assert left(line.encode() + b"\n") == b"", line


BROKEN = (
    b"\xff",
    b"\xe9",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\\udc00\\ud800",
)


@pytest.mark.parametrize("name", ["clientRequestUserAgent", "clientRequestReferer", "locationID", "clientRequestPath"])
def test_what_clients_can_send_is_taken(name: str) -> None:
    """Bytes that are no UTF-8, and halves of pairs, in any text: nobody makes the exporter slow by them."""
    line = json_line(event(**{name: f"/{stream_name(1)}/@"}))
    for odd in BROKEN:
        assert left(line.replace(b"@", odd)) == b"", odd


def test_what_is_of_no_known_form_is_left() -> None:
    """Nested values, exponents, escapes that are none, names with escapes or with bytes that are no UTF-8."""
    assert not takes(clientRequestReferer=[])
    assert not takes(locationID="x" * 4097)
    assert not takes(locationID=True)
    assert not takes(responseBytes="many")
    assert not takes(clientIP="fe80::1%eth0")
    line = json_line(event(clientRequestReferer="@"))
    for odd in (b"\\x", b"\x01", b"\\u12"):
        assert left(line.replace(b"@", odd)) != b"", odd
    for name in (b"responseByte\\u0073", b"responseBytes\xff"):
        assert left(line.replace(b"responseBytes", name)) != b""
    assert left(line.replace(b"4143", b"4e3")) != b""


def test_rejects_without_a_fault_are_counted() -> None:
    """Lines without a stream, of a refused one, and too old ones are taken, but the first of each, for examples."""
    lines = [json_line(event(clientRequestPath=path)) for path in ("/favicon.ico", f"/{stream_name(1)}/x")]
    one = scanner(admitted_only=True, examples=2, oldest_ms=EXAMPLE_MS - 1)
    one.admit(stream_name(1), False)
    one.admit(stream_name(2), True)
    lines.append(json_line(event(EXAMPLE_MS - 10, clientRequestPath=f"/{stream_name(2)}/x")))
    content = b"".join(lines) * 5
    runs = one.take(content, 0)
    assert sum(content[begin:end].count(b"\n") for _, begin, end in runs) == 6
    assert one.close()[4] == (3, 3, 3)


PATTERNS = (
    "/([a-f0-9]{32})/", "/live/([a-z0-9]+)", "/([a-z]{2,4})/", "([a-z]+)/x", "/([^/]*)/y", r"/(\w+)\.m3u8", "^/(.+)/",
    "/([a-z-]{3,})", "a([ab]*)b", "/([a-c])", "/[a-z]+", "^/[^/]*/(x[ab]{1,2})/", "/([a-z]+)[a-b]x",
    ".([^/]+)", "/(live)", "^/[^/]+/live/([^/]+)/", "[ab]*(/.*)x", "/(a[^/]+)/",
)  # fmt: skip


@FUZZ
@given(
    st.sampled_from(PATTERNS),
    st.lists(
        st.sampled_from(("/", "a", "b", "ab", "c", "live/", "x", ".m3u8", "y", "é", "-", stream_name(1), "%", "\\")),
        max_size=12,
    ).map("".join),
)
def test_a_stream_is_what_a_search_finds(pattern: str, path: str) -> None:
    """Every pattern of the usual kind finds in every path what the regular expression finds."""
    usual = PathPattern.of(pattern)
    assert usual is not None
    line = json_line(event(clientRequestPath=path))
    one = scanner(stream=usual.for_scan)
    taken = one.take(line, 0) == [(1, len(line), len(line))]
    texts, *_, rejects, _, _ = one.close()
    found = re.search(pattern, path)
    if not taken:
        assert not path.isascii()
        assert not usual.ascii_only
    elif found is None or not found[min(1, found.re.groups)]:
        assert rejects == (1, 0, 0)
    else:
        assert rejects == (0, 0, 0)
        assert texts[0] == found[min(1, found.re.groups)]


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?:x|/)([a-f]{2})/",
        "/(a)?",
        "/([a-z]+?)/",
        "/([a-z]+)(/)",
        "/([a-z]{2)",
        "é([a])",
        "/(a)+",
        "(a|b)",
        "a$",
        "/(xa?)",
    ],
)
def test_other_patterns_are_left_to_the_regular_expression(pattern: str) -> None:
    """Whatever is not surely of the usual kind has no rules."""
    assert PathPattern.of(pattern) is None


# Its bounds


def test_streams_that_are_not_admitted_are_left() -> None:
    """When only admitted streams are taken, each is left until it has been admitted, and is not remembered."""
    one = scanner(admitted_only=True)
    line = json_line(event(clientRequestPath=f"/{stream_name(1)}/x"))
    assert one.take(line, 0) == [(0, 0, len(line))]
    one.admit(stream_name(2), True)
    one.admit("something else", True)
    assert one.take(line, 0) == [(0, 0, len(line))]
    one.admit(stream_name(1), True)
    assert one.take(line, 0) == [(1, len(line), len(line))]
    one.admit(stream_name(1), False)
    assert one.take(line, 0) == [(1, len(line), len(line))]
    assert one.close()[4] == (0, 1, 0)


def test_sums_do_not_overflow() -> None:
    """Sums beyond what the scan adds up are added up in Python."""
    content = json_line(event(responseBytes=2**53, timeToFirstByteMs=2**53)) * 3000
    with_scan, without = both(content)
    assert with_scan == without
    assert with_scan["bytes"] == MOST_SUM
    assert left(content) == b""


@pytest.mark.slow
def test_full_tables_leave_the_rest_to_python() -> None:
    """With more viewers than its tables hold, the rest is left, and counted all the same."""
    line = json_line(event(clientIP="@")).replace(b'"@"', b'"10.%d.%d.%d"')
    content = b"".join(line % (number >> 16, number >> 8 & 255, number & 255) for number in range(70_000))
    assert left(content, rows=65_536).count(b"\n") == 70_000 - 65_536
    limits = Limits(entries=10_000)
    with_scan, without = both(content, limits=limits)
    assert with_scan == without == {"unreadable": "too_many_distinct"}
    assert left(content) == b""
    with_scan, without = both(content)
    assert with_scan == without


def test_wrong_use_is_refused() -> None:
    """No lines, a piece without its last newline, and anything after the end."""
    one = scanner()
    for piece, begin in ((b"", 0), (b"x", 0), (b"x\n", 2), (b"x\n", -1)):
        with pytest.raises(ValueError, match="lines"):
            one.take(piece, begin)
    with pytest.raises(TypeError):
        one.take(bytearray(b"x\n"), 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        copy.copy(one)
    texts, ((ticks, labels, sums), _), addresses, ((profiles, viewers), _), rejects, ignored, span = one.close()
    assert (texts, ticks, labels, sums, profiles, addresses) == ((), b"", b"", b"", b"", b"")
    assert (viewers, rejects, sum(ignored), span) == ((b"",) * 4, (0, 0, 0), 0, (0, 0))
    for call in (lambda: one.take(b"x\n", 0), one.close, lambda: one.admit("x", True)):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    for name, value in (("tick_seconds", 0), ("ipv6_prefix", -1)):
        with pytest.raises(ValueError, match="length"):
            scanner(**{name: value})
