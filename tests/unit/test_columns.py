"""Counts join: however the lines lie in files, and in whatever order these come, the whole is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.columns import MOST_SUM, Counts, join, number_rows
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.measures import RESPONSES, TIMES_TO_FIRST_BYTE, TRANSFER_BYTES, Measures
from cdn77_exporter.core.open_ticks import ROWS_AS_THEY_COME, Sums
from tests.support import lines as log
from tests.support.counts import counts_of, plain_counts
from tests.support.examples import examples
from tests.support.files import EXAMPLE_MS, gzip_bytes, log_file, traffic

LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - log.WEEK_MS
#: Measures of one cube, with four columns.
FOUR = Measures((TRANSFER_BYTES, RESPONSES, *TIMES_TO_FIRST_BYTE))
GROUP, VIEWER = ("s", "1", "HIT", "parisFR", "200"), ("s", "10.0.0.1", "web", "US")


def decode(lines: list[bytes]) -> Counts:
    _, counts = Decoder().decode(gzip_bytes(b"".join(lines)), latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
    return counts


def whole(*parts: Counts) -> dict[str, Any]:
    return plain_counts(join(parts))


files = log.files.map(decode)


@given(files, files)
def test_joining_is_commutative(one: Counts, other: Counts) -> None:
    """Which of two files comes first does not matter."""
    assert whole(one, other) == whole(other, one)


@given(files, files, files)
def test_joining_is_associative(one: Counts, two: Counts, three: Counts) -> None:
    """Nor does it matter which of three are joined first."""
    assert whole(join([one, two]), three) == whole(one, join([two, three])) == whole(one, two, three)


@given(files)
def test_nothing_changes_nothing(one: Counts) -> None:
    """It is the neutral element, from both sides."""
    assert whole(Counts(), one) == whole(one) == whole(one, Counts()) == whole(one, decode([]))
    assert whole() == plain_counts(Counts())


@given(st.lists(log.lines, max_size=20), st.data())
def test_any_split_of_the_lines_into_files_gives_the_same_totals(lines: list[bytes], data: st.DataObject) -> None:
    """Every line goes into any of four files, which are joined in any order: as if they were one."""
    parts: list[list[bytes]] = [[], [], [], []]
    for line in lines:
        parts[data.draw(st.integers(0, 3))].append(line)
    assert whole(*data.draw(st.permutations([decode(part) for part in parts]))) == whole(decode(lines))


@given(files, files)
def test_joining_leaves_the_parts_as_they_were(one: Counts, other: Counts) -> None:
    """What is joined later does not reach them."""
    before = whole(one), whole(other)
    join([one, other])
    assert (whole(one), whole(other)) == before


def test_files_of_real_size_join() -> None:
    """Files that share ticks and viewers, and texts in another order."""
    bodies = [log_file(traffic(1000, seed=number % 3, start_ms=EXAMPLE_MS - number * 3000)) for number in range(5)]
    found = Decoder().decode_all(bodies, [LATEST_MS] * 5, OLDEST_MS)
    expected: dict[str, dict[int, dict[Any, list[int]]]] = {"groups": {}, "viewers": {}}
    for body in bodies:
        _, counts = Decoder(accelerate=False).decode(body, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
        plain = plain_counts(counts)
        for tick, groups in plain["groups"].items():
            for group, sums in groups.items():
                own = expected["groups"].setdefault(tick, {}).setdefault(group, [0] * len(sums))
                own[:] = [one + other for one, other in zip(own, sums, strict=True)]
        for tick, viewers in plain["viewers"].items():
            for viewer, (first, last) in viewers.items():
                seen = expected["viewers"].setdefault(tick, {}).setdefault(viewer, [first, last])
                seen[:] = [min(seen[0], first), max(seen[1], last)]
    assert plain_counts(found.counts) == expected


def test_a_viewer_s_ticks_stay_apart() -> None:
    """Sums of one key and tick add up, a viewer's span grows to both sides; what is of another tick is another row."""
    one = counts_of({15: {GROUP: [1, 10, 5, 1]}}, {15: {VIEWER: [3_000, 4_000]}}, FOUR)
    other = counts_of(
        {15: {GROUP: [2, 20, 0, 0]}, 30: {GROUP: [1, 1, 0, 0]}},
        {15: {VIEWER: [1_000, 2_000]}, 30: {VIEWER: [15_000, 16_000]}},
        FOUR,
    )
    assert whole(one, other) == {
        "groups": {15: {GROUP: [3, 30, 5, 1]}, 30: {GROUP: [1, 1, 0, 0]}},
        "viewers": {15: {VIEWER: [1_000, 4_000]}, 30: {VIEWER: [15_000, 16_000]}},
    }
    assert plain_counts(join([one, other]).of_ticks(30, 45)) == {
        "groups": {30: {GROUP: [1, 1, 0, 0]}},
        "viewers": {30: {VIEWER: [15_000, 16_000]}},
    }


def test_sums_end_at_what_a_column_holds() -> None:
    """A sum that would be larger stays there, however often more is added; others are exact to the unit."""
    most = counts_of({15: {GROUP: [1, MOST_SUM - 1, 2**60, 1]}}, {15: {VIEWER: [1, 2]}}, FOUR)
    assert whole(most, most)["groups"] == {15: {GROUP: [2, MOST_SUM, 2**61, 2]}}
    assert whole(*[most] * 9)["groups"] == {15: {GROUP: [9, MOST_SUM, MOST_SUM, 9]}}


def test_rows_that_are_merged_later_end_there_too() -> None:
    """What an open tick keeps of one cell, when it has become much."""
    kept = Sums()
    for _ in range(3):
        kept.add(np.zeros(ROWS_AS_THEY_COME, np.int64), np.full((ROWS_AS_THEY_COME, 2), [1, 2**53]))
    cells, sums = kept.take()
    assert len(cells) < ROWS_AS_THEY_COME * 3
    assert (sums[:, 0].sum(), sums[0, 1]) == (3 * ROWS_AS_THEY_COME, MOST_SUM)


def test_sums_by_fewer_labels() -> None:
    """By some labels alone, and by tick where that is asked for."""
    other = ("t", *GROUP[1:])
    counts = counts_of({15: {GROUP: [1, 2, 3, 4], other: [1, 1, 1, 1]}, 30: {GROUP: [5, 6, 7, 8]}}, {}, FOUR)
    (groups,) = counts.groups
    by_stream = groups.by(0)
    assert dict(zip(by_stream.labels[:, 0].tolist(), by_stream.sums[:, 1].tolist(), strict=True)) == {
        counts.texts.index("s"): 8, counts.texts.index("t"): 1,
    }  # fmt: skip
    assert sorted(groups.by(1, ticks=True).sums[:, 0].tolist()) == [2, 5]
    assert groups.by().sums.tolist() == [[7, 9, 11, 13]]


@examples(100)
@given(
    st.lists(
        st.tuples(*(st.sampled_from((0, 1, 2**31, 2**32, 2**62, 2**64 - 1)) for _ in range(3))), min_size=1, max_size=20
    )
)
def test_rows_are_equal_where_all_their_columns_are(rows: list[tuple[int, ...]]) -> None:
    """However far the numbers lie apart: no two different rows fall together."""
    firsts, numbers = number_rows([*np.array(rows, np.uint64).T])
    assert len(firsts) == len(set(rows))
    assert [rows[firsts[number]] for number in numbers] == rows


def test_rows_of_nothing_are_none() -> None:
    """No rows, no numbers."""
    firsts, numbers = number_rows([np.zeros(0, np.uint32)])
    assert len(firsts) == len(numbers) == 0


@pytest.mark.parametrize("accelerate", [True, False])
def test_a_failed_file_counts_nothing(accelerate: bool) -> None:
    """What is wrong is known at a file's end alone; then nothing of it is in the counts."""
    good, bad = log_file(traffic(50, seed=1)), log_file(traffic(50, seed=2))
    decoder = Decoder(accelerate=accelerate)
    found = decoder.decode_all([bad[:-8] + bytes(4) + bad[-4:], good], [LATEST_MS] * 2, OLDEST_MS)
    _, counts = decoder.decode(good, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
    assert plain_counts(found.counts) == plain_counts(counts)
