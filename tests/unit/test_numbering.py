"""The numbers in file names: what is missing is told, and only where numbers are counted one by one."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from cdn77_exporter.core import numbering as numbering_module
from cdn77_exporter.core.numbering import Numbering


def _missing(numbers: Iterable[int], shard: str = "1", numbering: Numbering | None = None) -> list[int]:
    """How many numbers each one shows to be missing."""
    numbering = numbering or Numbering()
    return [numbering.counted(shard, "a", number) for number in numbers]


def test_numbers_that_are_passed_over_are_told() -> None:
    """A gap in a writer's numbers is told once, a late file takes it back, and a new writer begins anew."""
    numbering = Numbering()
    assert _missing((7, 8, 11), numbering=numbering) == [0, 0, 2]
    assert numbering.shards["1"].missing == 2
    assert _missing((9,), numbering=numbering) == [0]
    assert (numbering.shards["1"].missing, numbering.shards["1"].gaps) == (1, [(10, 10)])
    assert [numbering.counted("1", "b", number) for number in (0, 1, 3)] == [0, 0, 1]


def test_gaps_name_the_numbers_that_are_missing() -> None:
    """A late file splits or shortens its gap, and only the last gaps are kept."""
    numbering = Numbering()
    _missing((0, 1, 5, 7), numbering=numbering)
    shard = numbering.shards["1"]
    assert (shard.gaps, shard.missing) == ([(2, 4), (6, 6)], 4)
    _missing((3, 6), numbering=numbering)
    assert (shard.gaps, shard.missing) == ([(2, 2), (4, 4)], 2)
    _missing([begin + step for begin in range(8, 128, 3) for step in (0, 1)], numbering=numbering)
    assert (len(shard.gaps), shard.gaps[-1]) == (numbering_module.MAX_GAPS, (124, 124))
    assert shard.missing == 2 + 39


@pytest.mark.guarantee("files.odd_numbers")
@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((99_998, 99_999, 0, 1), [0, 0, 0, 0]),
        ((99_998, 99_999, 0, 1, 2, 5), [0, 0, 0, 0, 0, 2]),
        ((99_998, 99_999, 0, 3), [0, 0, 0, 2]),
        ((5, 6, 7, 0, 1, 2, 5, 6, 7, 8, 10), [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]),
        ((5, 6, 7, 6, 8, 10), [0, 0, 0, 0, 0, 1]),
        ((3, 4, 1_768_056_004, 1_768_056_005, 1_768_056_007), [0, 0, 0, 0, 1]),
    ],
    ids=["begin again", "gap after it", "gap at once", "from low numbers", "one comes twice", "other numbers"],
)
def test_numbers_that_begin_again_are_no_gap_and_real_gaps_after_it_are_told(
    numbers: tuple[int, ...], told: list[int]
) -> None:
    """Two numbers in a row below the highest begin anew; from then on gaps are told as before."""
    assert _missing(numbers) == told


@pytest.mark.guarantee("files.odd_numbers")
@pytest.mark.parametrize("step", [30, 30_000])
def test_numbers_that_are_a_time_have_no_gaps(step: int) -> None:
    """Steps that are never one say that numbers are not counted."""
    assert not any(_missing(range(1_768_056_004, 1_768_056_004 + 50 * step, step)))


@pytest.mark.guarantee("files.odd_numbers")
@pytest.mark.parametrize("seed", range(5))
def test_numbers_shared_by_all_shards_have_no_gaps(seed: int) -> None:
    """A number that another shard has is missing nowhere."""
    draw, numbering = random.Random(seed), Numbering()
    told = [numbering.counted(draw.choice("123"), "a", number) for number in range(1000)]
    assert sum(told) <= 2  # before the second shard has shown that numbers are shared


@pytest.mark.guarantee("files.odd_numbers")
@pytest.mark.parametrize("seed", range(5))
def test_shared_numbers_that_begin_again_have_no_gaps(seed: int) -> None:
    """What another shard had before numbers began again does not say that each shard has its own."""
    draw, numbering = random.Random(seed), Numbering()
    told = [numbering.counted(draw.choice("123"), "a", number % 60) for number in range(1000)]
    assert sum(told) <= 3  # before the second shard has shown that numbers are shared


def test_shards_with_numbers_of_their_own_have_gaps_of_their_own() -> None:
    """What one shard has does not fill another's gap."""
    numbering = Numbering()
    told = [numbering.counted(shard, "a", number) for number in (0, 1, 2, 5, 6) for shard in "123"]
    assert told == [0] * 9 + [2] * 3 + [0] * 3


def test_invented_shards_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more shards are remembered than the bound."""
    monkeypatch.setattr(numbering_module, "MAX_SHARDS", 3)
    numbering = Numbering()
    for number in range(10):
        numbering.counted(str(number), "a", number)
    assert list(numbering.shards) == ["7", "8", "9"]
