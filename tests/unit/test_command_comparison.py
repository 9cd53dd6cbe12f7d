"""Comparing files with a receiver: late events are told apart from missing ones, to the unit."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.commands.reconcile.comparison import Difference, Increments, compare, total

REQUESTS = "cdn77_requests_total"
TICK = 15
BEGIN, END = 1500, 3000
OUTER = (BEGIN - 600, END + 600)


def sides(events: list[tuple[int, int]]) -> tuple[Increments, Increments]:
    """Files and receiver, of events that happened before a tick and were counted at another."""
    files, receiver = Increments(*OUTER), Increments(*OUTER)
    for happened, counted in events:
        files.add("s", REQUESTS, happened, 1)
        receiver.add("s", REQUESTS, counted, 1)
    return files, receiver


def compared(files: Increments, receiver: Increments) -> list[Difference]:
    return list(compare(files, receiver, BEGIN, END))


def ticks(begin: int, end: int) -> st.SearchStrategy[int]:
    return st.integers(begin // TICK, end // TICK).map(lambda number: number * TICK)


@given(
    st.lists(st.tuples(ticks(OUTER[0] + 200, OUTER[1] - 200), st.integers(0, 8)), min_size=1, max_size=60),
    st.lists(ticks(BEGIN + TICK, END), max_size=5),
)
def test_what_is_late_explains_itself_and_what_is_lost_does_not(events: list[tuple[int, int]], lost: list[int]) -> None:
    """However late events are, within what is looked at, exactly the lost ones remain as the difference."""
    files, receiver = sides([(tick, tick + late * TICK) for tick, late in events])
    for tick in lost:
        files.add("s", REQUESTS, tick, 1)
    assert sum(row.unexplained for row in compared(files, receiver)) == len(lost)


def test_an_event_that_is_counted_behind_the_span_is_late() -> None:
    """One that happened in the span and counts after it is a plain difference, but none that is unexplained."""
    files, receiver = sides([(END, END + TICK), (BEGIN + TICK, BEGIN + TICK)])
    (row,) = compared(files, receiver)
    assert (row.files, row.receiver, row.late, row.unexplained) == (2, 1, 1, 0)


def test_an_event_of_before_that_counts_in_the_span_is_late() -> None:
    """The receiver then has more than the files of the span, which is explained."""
    files, receiver = sides([(BEGIN, BEGIN + TICK)])
    (row,) = compared(files, receiver)
    assert (row.files, row.receiver, row.late, row.unexplained) == (0, 1, -1, 0)


def test_what_is_counted_twice_is_named() -> None:
    """Too much at the receiver is a negative difference; equal streams have none; totals are of all streams."""
    files, receiver = sides([(BEGIN + TICK * number, BEGIN + TICK * number) for number in range(1, 20)])
    receiver.add("s", REQUESTS, BEGIN + 10 * TICK, 3)
    for side in (files, receiver):
        side.add("equal", REQUESTS, BEGIN + TICK, 5)
    rows = compared(files, receiver)
    assert [(row.stream, row.unexplained) for row in rows] == [("equal", 0), ("s", -3)]
    assert total(rows, REQUESTS) == (24, 27)


def test_ticks_outside_are_left_out() -> None:
    """The first tick is the end of what came before it; nothing outside of what is looked at is kept."""
    draw = random.Random(1)
    increments = Increments(*OUTER)
    for _ in range(100):
        increments.add("s", REQUESTS, draw.choice((OUTER[0], OUTER[1] + TICK)), 1)
    assert increments.ticks == {}
