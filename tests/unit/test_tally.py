"""Tallies merge: however the lines lie in files, and in whatever order these come, the whole is the same."""

from __future__ import annotations

import copy
from array import array
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.tally import Example, Sums, Tally, TickTally, Times
from tests.support import lines as log
from tests.support.files import EXAMPLE_MS, gzip_bytes

#: A busy machine is no fault of the code.
LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - log.WEEK_MS


def decode(lines: list[bytes]) -> Tally:
    return Decoder().decode(gzip_bytes(b"".join(lines)), latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)


def whole(tally: Tally) -> dict[str, Any]:
    return log.plain(tally) | {"rejects": tally.rejects}


def merged(tallies: list[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.merge(copy.deepcopy(tally))
    return total


tallies = log.files.map(decode)


@given(tallies, tallies)
def test_merging_is_commutative(one: Tally, other: Tally) -> None:
    """Which of two files comes first does not matter."""
    assert whole(merged([one, other])) == whole(merged([other, one]))


@given(tallies, tallies, tallies)
def test_merging_is_associative(one: Tally, two: Tally, three: Tally) -> None:
    """Nor does it matter which of three are merged first."""
    assert whole(merged([merged([one, two]), three])) == whole(merged([one, merged([two, three])]))


@given(tallies)
def test_an_empty_tally_changes_nothing(one: Tally) -> None:
    """It is the neutral element, from both sides."""
    assert whole(merged([Tally(), one])) == whole(one) == whole(merged([one, Tally()]))


@given(st.lists(log.lines, max_size=20), st.data())
def test_any_split_of_the_lines_into_files_gives_the_same_totals(lines: list[bytes], data: st.DataObject) -> None:
    """Every line goes into any of four files, which are merged in any order: as if they were one."""
    files: list[list[bytes]] = [[], [], [], []]
    for line in lines:
        files[data.draw(st.integers(0, 3))].append(line)
    parts = data.draw(st.permutations([decode(file) for file in files]))
    assert whole(merged(parts)) == whole(decode(lines))


@given(tallies, tallies)
def test_merging_leaves_the_other_one_as_it_was(one: Tally, other: Tally) -> None:
    """A tally that was merged into another shares no sums with it: what is merged later does not reach it."""
    before = whole(copy.deepcopy(other))
    total = Tally()
    total.merge(one)
    total.merge(other)
    total.merge(one)
    assert whole(other) == before


def test_sums_and_times_of_the_same_key_are_joined() -> None:
    """Requests, bytes and waits add up; a viewer's span grows to both sides; examples and seconds are kept."""
    group, viewer = ("s", "1", "HIT", "parisFR", "200"), ("s", "10.0.0.1", "web", "US")
    one = Tally(
        {15: TickTally(Sums({group: [1, 10, 5, 1]}), Times({viewer: [3_000, 4_000]}))},
        lines=2, events=1, bytes=10, rejects={"not_json": 1}, newest_ms=4_000, oldest_ms=3_000, seconds=0.5,
        examples=[Example(2, "not_json", "x")],
    )  # fmt: skip
    other = Tally(
        {
            15: TickTally(Sums({group: [2, 20, 0, 0]}), Times({viewer: [1_000, 2_000]})),
            30: TickTally(Sums({group: [1, 1, 0, 0]})),
        },
        lines=4, events=3, bytes=21, rejects={"not_json": 2, "too_old": 1}, newest_ms=16_000, oldest_ms=1_000,
        seconds=0.25,
    )  # fmt: skip
    one.merge(other)
    assert one == Tally(
        {
            15: TickTally(Sums({group: [3, 30, 5, 1]}), Times({viewer: [1_000, 4_000]})),
            30: TickTally(Sums({group: [1, 1, 0, 0]})),
        },
        lines=6, events=4, bytes=31, rejects={"not_json": 3, "too_old": 1}, newest_ms=16_000, oldest_ms=1_000,
        seconds=0.75,
        examples=[Example(2, "not_json", "x")],
    )  # fmt: skip


def test_rows_are_what_they_were_made_of() -> None:
    """Keys in their order, each with its numbers, and every number of one place."""
    rows = Sums({("a", "", "", "", ""): [1, 2, 3, 4], ("b", "", "", "", ""): [5, 6, 7, 8]})
    assert [(key[0], numbers) for key, numbers in rows.items()] == [("a", (1, 2, 3, 4)), ("b", (5, 6, 7, 8))]
    assert ([key[0] for key in rows], len(rows), list(rows.column(1))) == (["a", "b"], 2, [2, 6])
    assert rows != Sums({("a", "", "", "", ""): [1, 2, 3, 4]})
    assert list(Sums().items()) == []


def test_rows_of_equal_keys_are_combined() -> None:
    """Of other texts that are the same label there is one row."""
    one, two = ("s", "10.0.0.1", "web", "US"), ("s", "10.0.0.2", "web", "US")
    times = Times.of([one, two, one], array("q", [5, 6, 7, 8, 1, 9]))
    assert dict(times.items()) == {one: (1, 9), two: (7, 8)}


def test_numbers_too_large_for_eight_bytes_stay_whole() -> None:
    """No sum is cut or refused, however large."""
    group = ("s", "1", "HIT", "parisFR", "200")
    one, other = Sums({group: [1, 2**63 - 1, 0, 0]}), Sums({group: [1, 1, 0, 0]})
    joined = Sums.joined([one, other])
    assert dict(joined.items()) == {group: (2, 2**63, 0, 0)}
    assert dict(Sums.joined([joined, joined]).items()) == {group: (4, 2**64, 0, 0)}
