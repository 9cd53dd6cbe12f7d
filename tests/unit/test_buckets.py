"""Buckets of native histograms: each number is in the one whose bounds it lies between."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.buckets import bounds, bucket_of, first_bucket
from cdn77_exporter.core.lines import MAX_COUNT


def is_at_most(value: Fraction, bucket: int) -> bool:
    """Whether a value is not above 2^(bucket/8), by its eighth power."""
    return value**8 <= Fraction(2) ** bucket


@given(st.one_of(st.integers(1, 5000), st.integers(1, MAX_COUNT)), st.sampled_from((1, 1000, 1_000_000)))
def test_a_number_lies_between_the_bounds_of_its_bucket(number: int, per: int) -> None:
    """It is above the lower one, and not above the upper one, exactly."""
    bucket = int(bucket_of(number, per))
    assert is_at_most(Fraction(number, per), bucket)
    assert not is_at_most(Fraction(number, per), bucket - 1)


def test_powers_of_two_end_their_bucket() -> None:
    """A bound belongs to the bucket below it, and nothing is in none."""
    assert [bucket_of(number, 1) for number in (1, 2, 3, 4)] == ["0", "8", "13", "16"]
    assert [bucket_of(number, 1000) for number in (500, 501, 1000, 1001)] == ["-8", "-7", "0", "1"]
    assert (bucket_of(0, 1000), bucket_of(None, 1000)) == ("", "")


def test_the_bounds_reach_from_one_to_the_largest_number() -> None:
    """Of every unit."""
    for per in (1, 1000, 1_000_000):
        assert bucket_of(1, per) == str(first_bucket(per))
        assert bounds(per)[-2] < MAX_COUNT <= bounds(per)[-1]
