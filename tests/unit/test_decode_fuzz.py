"""The decoder under mutated lines and files: whatever they become, it says what the plain oracle says.

`FUZZ_EXAMPLES=100000 pytest -n 0 tests/unit/test_decode_fuzz.py` looks longer.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decode import Decoder, Limits
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.errors import Unreadable
from tests.support import lines as log
from tests.support.examples import fuzz_examples
from tests.support.files import EXAMPLE_MS, gzip_bytes, json_line
from tests.support.mutations import mutated_lines
from tests.support.oracle import Oracle
from tests.support.ways import way

__all__ = ["way"]  # every test here is run with the compiled scan and without

LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - log.WEEK_MS
FUZZ = settings(fuzz_examples(250), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
#: One decoder for all, which has met everything before: what it remembers must not change an answer.
SEASONED = Decoder(examples=True)


def decode(decoder: Decoder, body: bytes) -> tuple[FileStats, Counts]:
    return decoder.decode(body, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)


def check(content: bytes, decoder: Decoder, oracle: Oracle) -> None:
    """Both say the same of these lines."""
    answer = oracle.read_lines(content)
    try:
        stats, counts = decode(decoder, gzip_bytes(content, 1))
    except Unreadable as error:
        assert error.reason in answer.unreadable
        return
    assert not answer.unreadable
    assert log.plain(stats, counts) == log.plain_answer(answer)
    assert answer.fits(stats.rejects), (stats.rejects, answer.faults)


@FUZZ
@given(st.lists(st.one_of(mutated_lines(), mutated_lines(), log.events().map(json_line)), min_size=1, max_size=5))
def test_mutated_lines(lines: list[bytes]) -> None:
    """Lines with bytes changed, left out, doubled and put in, alone and among good ones."""
    content = b"".join(lines)
    check(content, Decoder(), Oracle(LATEST_MS, OLDEST_MS))
    check(content, SEASONED, Oracle(LATEST_MS, OLDEST_MS))


@FUZZ
@given(
    st.lists(st.one_of(mutated_lines(), log.events().map(json_line)), max_size=6),
    st.integers(200, 1500),
    st.integers(0, 4),
    st.integers(500, 8000),
    st.integers(1, 12),
)
def test_mutated_lines_under_tight_limits(
    lines: list[bytes], line_bytes: int, bad: int, file_bytes: int, entries: int
) -> None:
    """Limits that some of the lines meet: what is refused, and why, is what the oracle says."""
    limits = Limits(file_bytes=file_bytes, line_bytes=line_bytes, bad_lines=bad, entries=entries)
    oracle = Oracle(LATEST_MS, OLDEST_MS, file_bytes=file_bytes, line_bytes=line_bytes, bad_lines=bad, entries=entries)
    content = b"".join(lines)
    answer = oracle.read(gzip_bytes(content))
    try:
        stats, counts = decode(Decoder(limits=limits), gzip_bytes(content))
    except Unreadable as error:
        assert error.reason in answer.unreadable
    else:
        assert not answer.unreadable
        assert log.plain(stats, counts) == log.plain_answer(answer)
        assert answer.fits(stats.rejects)


@FUZZ
@given(log.files, st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 3), st.binary(max_size=3)), max_size=3))
def test_mutated_files(lines: list[bytes], changes: list[tuple[int, int, bytes]]) -> None:
    """A gzip file with bytes changed is unreadable for both, or says the same to both."""
    half = len(lines) // 2
    body = gzip_bytes(b"".join(lines[:half])) + gzip_bytes(b"".join(lines[half:]))
    for place, length, new in changes:
        at = place % (len(body) + 1)
        body = body[:at] + new + body[at + length :]
    answer = Oracle(LATEST_MS, OLDEST_MS).read(body)
    try:
        stats, counts = decode(SEASONED, body)
    except Unreadable:
        assert answer.unreadable
    else:
        assert not answer.unreadable
        assert log.plain(stats, counts) == log.plain_answer(answer)
