"""Judging a file by its lines: what is no log must not count, and lines without a stream say nothing against it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdn77_exporter.core.content import NOTHING
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.decoded import Example, Failure, FileStats
from cdn77_exporter.core.judging import refuse, unfit, without_event
from cdn77_exporter.core.reasons import UNREADABLE_REASONS
from tests.support.counts import plain_counts
from tests.support.files import EXAMPLE_MS, event, gzip_bytes, log_file, ndjson


@pytest.mark.parametrize(
    ("events", "rejects", "reason"),
    [
        (0, {}, None),
        (1, {}, None),
        (0, {"not_json": 1}, "not_a_log"),
        (3, {"not_json": 2, "bad_path": 1}, None),
        (3, {"not_json": 2, "bad_path": 2}, "not_a_log"),
        (0, {"no_stream": 9}, None),
        (0, {"stream_not_allowed": 9, "no_stream": 1}, None),
        (0, {"no_stream": 1, "not_json": 2}, "not_a_log"),
        (0, {"no_stream": 9, "not_json": 1}, None),
        (0, {"too_old": 2, "no_stream": 1}, "too_old"),
        (1, {"too_old": 5}, None),
    ],
)
def test_a_file_is_judged_by_its_lines(events: int, rejects: dict[str, int], reason: str | None) -> None:
    """More lines that are none than others make it no log; if all events are too old, that is the reason."""
    stats = FileStats(lines=events + sum(rejects.values()), events=events, rejects=rejects)
    assert unfit(stats) == reason
    assert reason is None or reason in UNREADABLE_REASONS
    assert without_event(stats) == (not events and bool(rejects))


def test_a_refusal_says_what_was_found() -> None:
    """The number of lines, the reasons, the most frequent first, and one line."""
    stats = FileStats(
        lines=3, events=1, rejects={"bad_path": 1, "not_json": 2}, examples=[Example(2, "not_json", "a,b")]
    )
    assert refuse("not_a_log", stats).detail == '3 lines, 1 events; 2 not_json, 1 bad_path; line 2: "a,b"'


def test_what_is_no_log_counts_nothing_among_others() -> None:
    """The counts of files that are decoded together are those of the logs among them."""
    good, bad = log_file(event() for _ in range(3)), gzip_bytes(ndjson([event()]) + b"nonsense\n" * 2)
    found = Decoder().decode_all([good, bad, good], [EXAMPLE_MS + 1000] * 3, 0)
    alone = Decoder().decode_all([good, good], [EXAMPLE_MS + 1000] * 2, 0)
    assert plain_counts(found.counts) == plain_counts(alone.counts)
    assert [isinstance(one, Failure) for one in found.files] == [False, True, False]


@pytest.mark.parametrize("accelerate", [True, False])
@pytest.mark.parametrize("before", [0, 1, 2, 5])
def test_content_that_was_counted_is_not_counted_again(before: int, accelerate: bool) -> None:
    """Of a file that begins with what was counted only the rest counts, however it is compressed; nothing else does."""
    lines = [ndjson([event(EXAMPLE_MS, responseBytes=number)]) for number in range(1, 6)]
    decoder = Decoder(accelerate=accelerate)

    def decode(content: bytes, level: int = 6, counted: FileStats | None = None) -> FileStats | Failure:
        known = [counted.content] if counted else [None]
        return decoder.decode_all([gzip_bytes(content, level)], [EXAMPLE_MS + 1000], 0, known).files[0]

    first = decode(b"".join(lines[:before]))
    assert isinstance(first, FileStats)
    rest = decode(b"".join(lines), 1, first)
    assert isinstance(rest, FileStats)
    assert (rest.lines, rest.events) == (5 - before, 5 - before)
    assert rest.bytes == sum(range(before + 1, 6))
    whole = decode(b"".join(lines), 9)
    assert isinstance(whole, FileStats)
    assert rest.content == whole.content
    for other in (b"".join(lines)[1:], b"".join(lines)[:-1], b"x" * 100):
        assert decode(other, 6, whole) == Failure("unreadable", "changed")


def test_content_need_not_be_measured() -> None:
    """Without it everything else is the same."""
    body = log_file([event(EXAMPLE_MS)])
    without, counts = Decoder(content=False).decode(body, latest_ms=EXAMPLE_MS + 1000, oldest_ms=0)
    stats, same = Decoder().decode(body, latest_ms=EXAMPLE_MS + 1000, oldest_ms=0)
    assert without.content == NOTHING
    assert replace(without, content=stats.content, seconds=stats.seconds) == stats
    assert plain_counts(counts) == plain_counts(same)
