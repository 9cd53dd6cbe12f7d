"""Mutations of log lines: what a fuzzer would do to them, drawn by hypothesis so that failures shrink."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support import hostile
from tests.support.files import json_line
from tests.support.lines import events

#: What readers of JSON, gzip, time and addresses stumble over.
TOKENS = (
    b"", b"\0", b"\n", b"\r", b"\t", b" ", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"{}", b"{}{}", b"}{",
    b"}\n{", b'""', b"null", b"true", b"false", b"NaN", b"Infinity", b"-", b"0", b"00", b"-0", b"-1", b"1.0", b"1e5",
    b"1e400", b"9" * 30, b"9" * 400, b"9007199254740992", b"9007199254740993", b"\\u0000", b"\\ud800", b"\\udc00",
    b"\\ud83d\\ude00", b"\\u2028", b"\xe2\x80\xa8", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc3\xa9",
    b"\x7f", b"\x1b[31m", b"/", b"//", b"/78001c7e2b3ff8ca21b504883b47c44c/", b"Z", b"T", b"+00:00", b"+02:00", b".",
    b".299", b"24", b"60", b"-13-", b"2026-02-29", b"::", b"%eth0", b"255", b"256", b'"clientIP":', b'"responseBytes":',
    b'"timestamp":null,', b'"cacheStatus":"x",', b'"responseStatus":"200",', b"x" * 200,
)  # fmt: skip
_SEEDS: tuple[bytes, ...] = (
    *(line for _, line, _ in hostile.bad_lines() if len(line) < 2000),
    *(line for _, line in hostile.odd_lines() if len(line) < 2000),
)


@st.composite
def mutated_lines(draw: st.DrawFn) -> bytes:
    """One or several lines: a good one, or a hostile one, with some places of it changed."""
    line = draw(st.one_of(events().map(json_line), st.sampled_from(_SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(line)))
        length = draw(st.sampled_from((0, 0, 1, 1, 2, 5, 20)))
        kind = draw(st.integers(0, 9))
        if kind < 6:
            line = line[:place] + draw(st.sampled_from(TOKENS)) + line[place + length :]
        elif kind == 6:
            line = line[:place] + draw(st.binary(max_size=4)) + line[place + length :]
        elif kind == 7:
            line = line[:place] + line[place : place + length] * 2 + line[place + length :]
        elif kind == 8 and place < len(line):
            line = line[:place] + bytes([line[place] ^ (1 << draw(st.integers(0, 7)))]) + line[place + 1 :]
        else:
            # A value that stands where another one belongs.
            begin = line.find(b":", place) + 1
            end = line.find(b",", begin)
            if 0 < begin < end:
                line = line[:begin] + draw(st.sampled_from(TOKENS)) + line[end:]
    return line
