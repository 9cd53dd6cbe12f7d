"""Hours of mishaps of every kind, drawn at random, in virtual time: afterwards every number is the truth.

`CAMPAIGNS` is how many seeds are lived through, of which each fifth may have outages of up to a day.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.campaign import (
    Plan,
    drawn,
    live_through,
    with_backups,
    with_lasting_trouble,
    with_long_outage,
    with_out_of_order,
    with_take_over,
)

_SEEDS = int(os.environ.get("CAMPAIGNS", "4"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("seed", range(_SEEDS))
def test_whatever_happens_the_numbers_are_true(folder: Path, seed: int) -> None:
    """Kills, clocks that lie, copies of the state, a bucket and a receiver that fail in every way change no number.

    Every counter has grown by the truth, asked over all and in short windows, on Prometheus and on VictoriaMetrics; no
    file was deleted before; nothing is owed, wrong, or left in the bucket.
    """
    live_through(drawn(seed, long=seed % 5 == 4), folder)


@pytest.mark.guarantee("copies.backup")
@pytest.mark.parametrize("seed", range(max(2, _SEEDS // 4)))
def test_a_restored_backup_counts_nothing_again(folder: Path, seed: int) -> None:
    """What was told since a backup was made is not told again, from files that are still in the bucket either.

    Only viewers whom the backup does not know appear once more when they come back.
    """
    said = live_through(with_backups(seed), folder).log
    assert sum("a backup is restored" in line for line in said) == 2


@pytest.mark.guarantee("copies.lease_lost")
@pytest.mark.parametrize("seed", range(max(2, _SEEDS // 4)))
def test_a_copy_that_takes_over_counts_nothing_again(folder: Path, seed: int) -> None:
    """A process that is cut off ends once it reaches the bucket again, and what it told is not told by its copy.

    Only viewers whom the copy does not know appear once more when they come back.
    """
    said = live_through(with_take_over(seed), folder).log
    assert sum("the first has ended" in line for line in said) == 1


@pytest.mark.parametrize("seed", range(max(2, _SEEDS // 4)))
@pytest.mark.parametrize("plan", [with_lasting_trouble, with_long_outage, with_out_of_order])
def test_what_lasts_changes_no_number(folder: Path, plan: Callable[[int], Plan], seed: int) -> None:
    """A shard that lags for hours, a clock that stays wrong, an outage of nearly a day, a receiver that takes samples
    out of order: beside all other mishaps, every counter has grown by the truth."""
    live_through(plan(seed), folder)
