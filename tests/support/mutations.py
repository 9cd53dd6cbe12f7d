"""Mutations of log lines: what a fuzzer would do to them, drawn by hypothesis so that failures shrink."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support import hostile
from tests.support.files import json_line
from tests.support.lines import events
from tests.support.tokens import TOKENS

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
