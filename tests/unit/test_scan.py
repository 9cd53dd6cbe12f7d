"""The compiled scan: which lines it takes, that it is as Python says, and what it does when it is used wrongly."""

from __future__ import annotations

import copy
import ipaddress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.decode import Decoder, Limits
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.lines import is_address, second_ms
from cdn77_exporter.core.scan import VIEWER
from cdn77_exporter.core.tally import Tally
from tests.support import hostile
from tests.support import lines as log
from tests.support.cases import Cases
from tests.support.examples import fuzz_examples
from tests.support.files import EXAMPLE_MS, event, gzip_bytes, json_line, ndjson, stream_name, traffic
from tests.support.mutations import mutated_lines
from tests.support.ways import need_compiled_scan

if TYPE_CHECKING:
    from cdn77_exporter.core import _scan

LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - log.WEEK_MS
FUZZ = fuzz_examples(150)


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """Nothing here can be tested without it."""
    need_compiled_scan()


def scanner(**changed: Any) -> _scan.Scanner:
    """A scan that takes whatever is plain."""
    from cdn77_exporter.core import _scan

    limits = {
        "tick_seconds": 15,
        "line_bytes": 2**20,
        "oldest_ms": 0,
        "latest_ms": 2**60,
        "admitted_only": False,
        "secrets": (1, 2),
    }
    return _scan.Scanner(**{**limits, **changed})


def left(content: bytes, **changed: Any) -> bytes:
    """The lines that the scan does not take."""
    return b"".join(content[begin:end] for _, begin, end in scanner(**changed).take(content, 0))


def takes(**fields: Any) -> bool:
    """Whether a line with these fields is taken."""
    return not left(json_line(event(EXAMPLE_MS, **fields)))


def both(content: bytes, **options: Any) -> tuple[Tally | str, Tally | str]:
    """What the decoder says with the scan and without, or why the file is unreadable."""
    found: list[Tally | str] = []
    for accelerate in (True, False):
        try:
            tally = Decoder(accelerate=accelerate, **options).decode(
                gzip_bytes(content, 1), latest_ms=LATEST_MS, oldest_ms=OLDEST_MS
            )
        except Unreadable as error:
            found.append(error.reason)
        else:
            tally.seconds = 0
            found.append(tally)
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
    assert isinstance(with_scan, Tally)
    assert with_scan.events == 5000


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
        assert decoder.decode(body, latest_ms=latest, oldest_ms=oldest).events == events


# What is plain


def test_no_bad_line_is_taken() -> None:
    """Whatever is a reject is left to Python, which knows the reason."""
    with Cases() as cases:
        for name, line, _ in hostile.bad_lines():
            with cases.case(name):
                assert left(line, oldest_ms=OLDEST_MS) == line


@FUZZ
@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.lists(
            st.sampled_from(
                (":", "::", ".", "0", "1", "00", "fe80", "FFFF", "12345", "255", "256", "1.2.3.4", "%1", "g")
            ),
            max_size=18,
        ).map("".join),
    )
)
def test_an_address_is_what_python_takes_for_one(text: str) -> None:
    """No text is taken for an address that is none; of those that are, the usual forms are taken."""
    if takes(clientIP=text):
        assert is_address(text)
    else:
        assert not is_address(text) or "%" in text or ("." in text and ":" in text)


@pytest.mark.parametrize("version", [ipaddress.IPv4Address, ipaddress.IPv6Address])
def test_all_forms_of_addresses_that_python_writes_are_taken(version: Any) -> None:
    """Those without IPv4 at their end are not left to the slow path."""
    bits = version("::").max_prefixlen if version is ipaddress.IPv6Address else 32
    for shift in range(bits):
        for value in (1 << shift, (1 << bits) - (1 << shift)):
            text = str(version(value))
            assert takes(clientIP=text) or "." in text, text


@FUZZ
@given(
    st.tuples(*(st.integers(0, most) for most in (10_000, 13, 32, 24, 60, 60))),
    st.sampled_from(
        ("Z", ".1Z", ".12Z", ".299Z", ".299999Z", ".1234567891Z", ".Z", "+00:00", ".5+00:00", "+01:00", "")
    ),
)
def test_a_time_is_what_python_takes_for_one(parts: tuple[int, ...], end: str) -> None:
    """From 1970 on, every instant of the calendar and no other; before, none."""
    text = "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}".format(*parts)
    begin = second_ms(text)
    good = begin is not None and begin > 0 and end not in (".1234567891Z", ".Z", "+01:00", "")
    one = scanner()
    taken = not b"".join(
        json_line(event(timestamp=text + end))[b:e] for _, b, e in one.take(json_line(event(timestamp=text + end)), 0)
    )
    assert taken == good
    if good:
        assert begin is not None
        ((*_, first, last),) = VIEWER.iter_unpack(one.close()[2])
        digits = end.strip("Z").split("+")[0].strip(".")
        assert first == last == begin + int(digits.ljust(3, "0")[:3])


def test_every_day_is_the_calendar_s() -> None:
    """Each day of four centuries is counted at the instant that Python gives it."""
    for ordinal in range(datetime(1970, 1, 2).toordinal(), datetime(2401, 1, 1).toordinal(), 7):  # noqa: DTZ001
        moment = datetime.fromordinal(ordinal).replace(tzinfo=UTC)
        one = scanner()
        one.take(json_line(event(timestamp=f"{moment:%Y-%m-%dT%H:%M:%S}Z")), 0)
        ((*_, first, _),) = VIEWER.iter_unpack(one.close()[2])
        assert first == int(moment.timestamp()) * 1000


def test_only_times_within_the_limits_are_taken() -> None:
    """The limits themselves are within."""
    line = json_line(event(EXAMPLE_MS))
    assert left(line, oldest_ms=EXAMPLE_MS, latest_ms=EXAMPLE_MS) == b""
    assert left(line, oldest_ms=EXAMPLE_MS + 1) == line
    assert left(line, latest_ms=EXAMPLE_MS - 1) == line


def test_what_is_not_plain_is_left() -> None:
    """Blanks, escapes in what counts, other than ASCII, and lines without a stream at the path's begin."""
    assert takes(clientRequestReferer='a"b\\c\n/')
    assert takes(clientRequestReferer=None, cacheAge=-1.5, unknown=True)
    assert not takes(clientRequestUserAgent='a"b')
    assert not takes(clientRequestReferer="é")
    assert not takes(clientRequestReferer=[])
    assert not takes(clientRequestPath=f"/x/{stream_name(1)}/y")
    assert not takes(locationID="x" * 513)
    assert not takes(responseBytes=2**53 + 1)
    assert takes(responseBytes=2**53)


# Its bounds


def test_streams_that_are_not_admitted_are_left() -> None:
    """When only admitted streams are taken, each is left until it has been admitted, and is not remembered."""
    one = scanner(admitted_only=True)
    line = json_line(event(clientRequestPath=f"/{stream_name(1)}/x"))
    assert one.take(line, 0) == [(0, 0, len(line))]
    one.admit(stream_name(2))
    one.admit("something else")
    assert one.take(line, 0) == [(0, 0, len(line))]
    one.admit(stream_name(1))
    assert one.take(line, 0) == [(1, len(line), len(line))]


def test_sums_do_not_overflow() -> None:
    """Sums beyond what the scan adds up are added up in Python."""
    content = json_line(event(responseBytes=2**53, timeToFirstByteMs=2**53)) * 3000
    with_scan, without = both(content)
    assert with_scan == without
    assert isinstance(with_scan, Tally)
    assert with_scan.bytes == 3000 * 2**53
    assert left(content) != b""


@pytest.mark.slow
def test_full_tables_leave_the_rest_to_python() -> None:
    """With more viewers than the scan remembers, the rest is counted all the same."""
    line = json_line(event(clientIP="@")).replace(b'"@"', b'"10.%d.%d.%d"')
    content = b"".join(line % (number >> 16, number >> 8 & 255, number & 255) for number in range(150_000))
    rest = left(content).count(b"\n")
    assert 0 < rest < 100_000
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
    assert one.close() == ((), b"", b"")
    for call in (lambda: one.take(b"x\n", 0), one.close, lambda: one.admit("x")):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    with pytest.raises(ValueError, match="length"):
        scanner(tick_seconds=0)
