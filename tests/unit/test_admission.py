"""Which streams count under their own name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.admission import OTHER, Admission


def admission(series: int = 0, **bounds: int) -> Admission:
    """An admission with a given number of series."""
    return Admission(**{"max_streams": 10, "max_series": 100, **bounds}, series=lambda: series)


def names(admitted: Admission, streams: range) -> list[str]:
    """The names under which streams count."""
    return [admitted.name(f"s{number}") for number in streams]


def test_half_of_the_bound_is_open_to_all() -> None:
    """Failing streams are admitted up to half of the bound, successful ones up to the bound, later ones not."""
    admitted = admission()
    admitted.admit((f"s{number}", "404") for number in range(9))
    assert names(admitted, range(9)) == [f"s{number}" for number in range(5)] + [OTHER] * 4
    admitted.admit((f"s{number}", "206") for number in range(8, 20))
    assert len(admitted) == 10
    assert admitted.name("s5") == OTHER
    admitted.admit([("s99", "200")])
    assert admitted.name("s99") == OTHER
    assert admitted.name("s0") == "s0"


def test_success_is_a_status_of_two_or_three_hundred() -> None:
    """Only three-digit statuses that begin with 2 or 3 let a stream in past half of the bound."""
    admitted = admission(max_streams=2)
    admitted.admit([("first", "500")])
    for status in ("404", "0", "2", "20", "2000", "", "500", "199"):
        admitted.admit([("late", status)])
        assert admitted.name("late") == OTHER
    admitted.admit([("late", "404"), ("late", "304")])
    assert admitted.name("late") == "late"


def test_the_bound_on_series_counts_too() -> None:
    """From half of the series on only successful streams come in, at the bound none."""
    below, half, full = admission(series=49), admission(series=50), admission(series=100)
    for admitted in (below, half, full):
        admitted.admit([("bad", "404"), ("good", "200")])
    assert [below.name("bad"), half.name("bad"), half.name("good"), full.name("good")] == ["bad", OTHER, "good", OTHER]


@given(
    st.permutations([(f"s{number}", status) for number in range(8) for status in ("404", "200" if number > 4 else "0")])
)
def test_the_order_of_one_file_does_not_matter(seen: list[tuple[str, str]]) -> None:
    """Streams of one file are admitted alike in any order, the successful ones first."""
    admitted = admission(max_streams=5)
    admitted.admit(seen)
    assert names(admitted, range(8)) == [OTHER] * 5 + ["s5", "s6", "s7"]


def test_restored_streams_stay_admitted() -> None:
    """What an earlier process admitted counts on its own, and against the bound."""
    admitted = admission(max_streams=2)
    admitted.restore(["a", "b", OTHER, "a"])
    admitted.admit([("c", "200")])
    assert [admitted.name(stream) for stream in "abc"] == ["a", "b", OTHER]
    assert len(admitted) == 2
    assert admitted.name(OTHER) is OTHER
