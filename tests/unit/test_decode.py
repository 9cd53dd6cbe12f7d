"""The decoder against the plain oracle, and what it promises of any bytes."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core import decode as module
from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decode import Decoder, Limits
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.reasons import REJECT_REASONS, UNREADABLE_REASONS
from tests.support import lines as log
from tests.support.counts import plain_groups
from tests.support.files import EXAMPLE_MS, event, gzip_bytes, json_line, log_file, ndjson, stream_name, traffic
from tests.support.oracle import Oracle
from tests.support.ways import way

__all__ = ["way"]  # every test here is run with the compiled scan and without

#: A busy machine is no fault of the code.
LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - log.WEEK_MS
ORACLE = Oracle(LATEST_MS, OLDEST_MS)


def decode(content: bytes, decoder: Decoder | None = None) -> tuple[FileStats, Counts]:
    """Decode lines that nobody has compressed yet."""
    return (decoder or Decoder()).decode(gzip_bytes(content), latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)


def agree(decoded: tuple[FileStats, Counts], content: bytes, oracle: Oracle = ORACLE) -> None:
    """Assert that what was decoded of these lines is what the oracle says."""
    answer = oracle.read_lines(content)
    assert not answer.unreadable
    assert log.plain(*decoded) == log.plain_answer(answer)
    stats, _ = decoded
    assert answer.fits(stats.rejects), (stats.rejects, answer.faults)


# The oracle


@given(log.files)
def test_files_count_what_the_oracle_says(lines: list[bytes]) -> None:
    """Sums, viewers and their times, ticks and rejects of any mixture of good and wrong lines."""
    content = b"".join(lines)
    agree(decode(content), content)


@given(st.lists(log.files, min_size=2, max_size=4))
def test_a_decoder_that_has_met_other_files_counts_the_same(files: list[list[bytes]]) -> None:
    """What the decoder remembers of earlier files changes no answer."""
    decoder = Decoder()
    for lines in files:
        content = b"".join(lines)
        agree(decode(content, decoder), content)


@given(log.files, st.sampled_from((1, 5, 20, 60)), st.integers(-60_000, 60_000), st.integers(-60_000, 0))
def test_ticks_and_limits_of_time_are_the_oracle_s(lines: list[bytes], tick: int, ahead: int, behind: int) -> None:
    """Any length of a tick, and any instants before and after which events are not taken as they are."""
    latest, oldest = EXAMPLE_MS + ahead, EXAMPLE_MS + ahead + behind
    content = b"".join(lines)
    stats, counts = Decoder(tick_seconds=tick).decode(gzip_bytes(content), latest_ms=latest, oldest_ms=oldest)
    agree((stats, counts), content, Oracle(latest, oldest, tick))


@pytest.mark.parametrize("pattern", [r"/live/([a-z0-9]+)", r"(?:x|/)([a-f0-9]{32})/", r"/(a)?", "/([a-f0-9]{32})/x"])
def test_another_pattern_names_streams(pattern: str) -> None:
    """The pattern's group is the stream; a group that is empty or not there is none."""
    paths = ("/live/one/x.ts", f"/{stream_name(1)}/x.ts", f"/b/{stream_name(2)}/y.ts", "/", "/a", "")
    content = ndjson(event(clientRequestPath=path) for path in paths)
    stats, counts = decode(content, Decoder(stream_pattern=pattern))
    agree((stats, counts), content, Oracle(LATEST_MS, OLDEST_MS, stream_pattern=pattern))


def test_streams_that_are_not_allowed_are_rejects() -> None:
    """The function is asked for the stream's name, however often the stream has been met."""
    names = [stream_name(number) for number in (0, 1, 2, 0, 1, 2)]
    content = ndjson(event(clientRequestPath=f"/{name}/x") for name in names)
    stats, counts = decode(content, Decoder(allow=lambda stream: stream == names[1]))
    assert stats.rejects == {"stream_not_allowed": 4}
    agree((stats, counts), content, Oracle(LATEST_MS, OLDEST_MS, allow=lambda stream: stream == names[1]))


@pytest.mark.slow
def test_a_file_of_real_size_counts_what_the_oracle_says() -> None:
    """Many pieces, many viewers, and a wrong line in the midst of some of the pieces."""
    lines = [json_line(fields) for fields in traffic(4000, seed=7)]
    for place in (0, 1, 777, 1500, 3999):
        lines[place] = lines[place][:-2] + b"\n"
    content = b"".join(lines)
    stats, counts = decode(content)
    agree((stats, counts), content)
    assert stats.rejects == {"not_json": 5}


# gzip


@given(log.files, st.lists(st.integers(1, 4000), max_size=6), st.lists(st.integers(1, 500), max_size=20))
def test_members_and_parts_do_not_matter(lines: list[bytes], members: list[int], parts: list[int]) -> None:
    """The same content in any number of gzip members, cut anywhere, read in parts cut anywhere."""
    content = b"".join(lines)
    body, rest = b"", content
    for length in members:
        body, rest = body + gzip_bytes(rest[:length]), rest[length:]
    body += gzip_bytes(rest)

    def cut() -> Iterator[bytes]:
        begin = 0
        for length in parts:
            yield body[begin : begin + length]
            begin += length
        yield body[begin:]

    stats, counts = Decoder().decode(cut(), latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
    agree((stats, counts), content)


def test_byte_by_byte_equals_whole() -> None:
    """A body that comes one byte at a time, in two members with padding behind, counts as in one piece."""
    content = ndjson(traffic(200, seed=3))
    half = content.index(b"\n", len(content) // 2)
    body = gzip_bytes(content[:half]) + gzip_bytes(content[half:]) + bytes(40)
    decoder = Decoder()
    one = decoder.decode((body[at : at + 1] for at in range(len(body))), latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
    whole = decoder.decode(body, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
    assert log.plain(*one) == log.plain(*whole)
    agree(one, content)


@pytest.mark.parametrize("piece_bytes", [1, 7, 100, 4096])
def test_any_length_of_the_pieces_gives_the_same(piece_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the inflated bytes are cut changes nothing, be it within a line, a character or a wrong line."""
    lines = [json_line(fields) for fields in traffic(30, seed=1)]
    lines[3:3] = [b"nonsense\n", b"\n", json_line(event(clientRequestReferer="é\u2028")), b"x" * 5000 + b"\n"]
    content = b"".join(lines)
    monkeypatch.setattr("cdn77_exporter.core.inflate.PIECE_BYTES", piece_bytes)
    agree(decode(content), content)


def test_every_flipped_byte_is_noticed_or_harmless() -> None:
    """With any one byte changed a file is unreadable or, where only the header's time is, counts as before."""
    body = log_file(traffic(20, seed=5))
    decoder = Decoder()
    right = log.plain(*decoder.decode(body, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS))
    harmless = 0
    for place in range(len(body)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(body)
            changed[place] ^= flip
            try:
                stats, counts = decoder.decode(bytes(changed), latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
            except Unreadable as error:
                assert error.reason in UNREADABLE_REASONS
            else:
                assert log.plain(stats, counts) == right, place
                harmless += 1
    assert 0 < harmless < 3 * 10  # time, extra flags and system of the ten bytes of the header


def test_every_shorter_file_is_unreadable() -> None:
    """A file cut at any byte is never counted in part."""
    body = log_file(traffic(20, seed=6))
    decoder, reasons = Decoder(), set()
    for length in range(len(body)):
        with pytest.raises(Unreadable) as refused:
            decoder.decode(body[:length], latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
        reasons.add(refused.value.reason)
    assert reasons == {"empty", "not_gzip", "truncated"}


@given(
    st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda tail: b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + tail))
)
def test_arbitrary_bytes_raise_nothing_but_unreadable(body: bytes) -> None:
    """Whatever a file is, it is counted or unreadable for a reason of the closed list; and Python's gzip agrees."""
    try:
        stats, counts = Decoder().decode(body, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
    except Unreadable as error:
        assert error.reason in UNREADABLE_REASONS
        assert ORACLE.read(body).unreadable
    else:
        agree((stats, counts), gzip.decompress(body))


@given(st.binary(max_size=300))
def test_arbitrary_lines_are_rejects(content: bytes) -> None:
    """Bytes that are no lines are counted by a reason of the closed list."""
    stats, counts = decode(content)
    assert set(stats.rejects) <= set(REJECT_REASONS)
    agree((stats, counts), content)


# What is given back


def test_a_decoder_goes_on_after_an_unreadable_file() -> None:
    """Nothing of a file that was given up is found in the next one's stats."""
    decoder = Decoder()
    good = log_file([event()])
    with pytest.raises(Unreadable):
        decoder.decode(log_file(traffic(50))[:-4], latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
    stats, counts = decoder.decode(good, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
    agree((stats, counts), ndjson([event()]))


def test_a_body_that_breaks_off_with_an_error_is_passed_on() -> None:
    """An error of whoever gives the parts is not taken for a fault of the file."""

    def parts() -> Iterator[bytes]:
        yield log_file(traffic(50))[:200]
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        Decoder().decode(parts(), latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)


def test_examples_name_the_line_and_show_no_address() -> None:
    """Rejected lines are kept with their number in the file, blank lines included, and without client addresses."""
    lines = [json_line(fields) for fields in traffic(5, seed=2)]
    wrong = json_line(event(clientIP="104.192.89.228", timestamp="2026-01-10T14:49:28"))
    odd = json_line(event(clientIP="2001:db8::1234", clientRequestPath="/favicon.ico"))
    content = b"".join([lines[0], b"\n", wrong, *lines[1:3], odd, lines[3], b"10.1.2.3 is not json\n"])
    stats, _ = decode(content, Decoder(examples=True))
    assert [(example.line, example.reason) for example in stats.examples] == [
        (3, "bad_timestamp"), (6, "no_stream"), (8, "not_json"),
    ]  # fmt: skip
    shown = " ".join(example.excerpt for example in stats.examples)
    assert "2001:db8" not in shown
    assert "104.192" not in shown
    assert "10.1.2.3" not in shown
    assert stats.rejects == {"bad_timestamp": 1, "no_stream": 1, "not_json": 1}


@pytest.mark.parametrize(
    ("changed", "begin"),
    [
        ({"clientRequestPath": 7}, '… "clientRequestPath":7'),
        ({"clientRequestPath": "/x?token=tell-nobody"}, '… "clientRequestPath":"/x?***"'),
        ({"timestamp": "2026-13-01T00:00:00Z"}, '… "timestamp":"2026-13-01T00:00:00Z"'),
    ],
)
def test_an_example_begins_where_the_fault_is(changed: dict[str, Any], begin: str) -> None:
    """What a reader has to see is the field, not the line's begin; what is personal in it is masked."""
    (example,) = decode(ndjson([event(**changed)]), Decoder(examples=True))[0].examples
    assert example.excerpt.startswith(begin)
    assert "tell-nobody" not in example.excerpt


@pytest.mark.parametrize(
    "address",
    [
        '"198.51.100.7:51234"',
        '"[2001:db8::7]:443"',
        '"198.51.100.7, 203.0.113.9"',
        '["198.51.100.x","203.0.113.x"]',
        '"198.51.100.xxx"',
    ],
)
def test_no_form_of_a_client_s_address_is_shown(address: str) -> None:
    """Whatever the line is refused for, and however the address is written in it."""
    for line in (
        f'{{"clientIP": {address}, "clientRequestXForwardedFor":{address},"timestamp":1}}',
        f'{{"clientRequestXForwardedFor":{address},"clientIP":{address}',
    ):
        (example,) = decode(f"{line}\n".encode(), Decoder(examples=True))[0].examples
        for part in ("198.51", "203.0", "2001:db8", "51234"):
            assert part not in example.excerpt


def test_an_example_of_what_is_no_json_begins_where_the_line_does() -> None:
    """No field is at fault there, and an empty text in the line is not taken for one."""
    line = json_line(event(clientRequestContentType="")).replace(b",", b" and here,", 1)
    (example,) = decode(line, Decoder(examples=True))[0].examples
    assert example.reason == "not_json"
    assert example.excerpt.startswith('{"')


def test_an_empty_label_is_a_missing_one() -> None:
    """CDN id and status are 0 then, as they are for null and for no field at all."""
    lines = [event(resourceID=value, responseStatus=value) for value in ("", None, 0)]
    stats, counts = decode(ndjson(lines))
    assert stats.rejects == {}
    assert stats.events == 3
    (groups,) = plain_groups(counts).values()
    assert [(cdn, status) for _, cdn, _, _, status in groups] == [("0", "0")]


def test_without_asking_there_are_no_examples() -> None:
    """A decoder keeps none by itself."""
    stats, _ = decode(b"nonsense\n")
    assert stats.examples == []


def test_examples_are_bounded() -> None:
    """Of each reason a few are kept, however many there are."""
    stats, _ = decode(b"nonsense\n" * 5000 + b"[]\n" * 5000, Decoder(examples=True))
    assert stats.rejects == {"not_json": 5000, "not_an_object": 5000}
    assert 2 <= len(stats.examples) <= 20


# Memory of the decoder


def test_tables_that_are_full_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """More streams, agents, addresses and seconds than the decoder remembers are counted all the same."""
    monkeypatch.setattr(module, "_MEMO_ENTRIES", 3, raising=True)
    content = ndjson(
        event(
            EXAMPLE_MS - (number % 7) * 1000 - number,
            clientRequestPath=f"/{stream_name(number % 9)}/x",
            clientIP=f"10.0.0.{number % 11}",
            clientRequestUserAgent=f"Roku {number % 13}" if number % 3 else f"x {number}",
            clientCountry=f"C{number % 5}",
        )
        for number in range(200)
    )
    agree(decode(content), content)


def test_limits_have_generous_defaults() -> None:
    """A file of the usual size is far from each of them."""
    assert Limits() == Limits(file_bytes=256 * 1024**2, line_bytes=1024**2, bad_lines=100_000, entries=250_000)
