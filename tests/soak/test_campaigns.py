"""Hours of mishaps of every kind, drawn at random, in virtual time: afterwards every number is the truth.

`CAMPAIGNS` is how many seeds are lived through, of which each fifth may have outages of up to a day.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.campaign import drawn, live_through, with_backups

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
