"""The clock against the bucket's: what is believed, and what time it is there."""

from __future__ import annotations

import time

import pytest

from cdn77_exporter.edge.clock import TOLERANCE_MS, Clock


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Both clocks of the machine, in seconds; they stand still until they are set."""
    now = {"time": 1_700_000_000.0, "monotonic": 50.0}
    monkeypatch.setattr(time, "time", lambda: now["time"])
    monkeypatch.setattr(time, "monotonic", lambda: now["monotonic"])
    return now


@pytest.mark.parametrize("skew", [0, 20_000, -20_000])
def test_a_small_difference_leaves_the_clock_and_is_known(at: dict[str, float], skew: int) -> None:
    """Within the tolerance the wall clock is right; the bucket's time is told apart from it."""
    clock = Clock()
    assert clock.bucket_ms() == clock.now_ms() == 1_700_000_000_000
    assert clock.compare(1_700_000_000_000 - skew)
    at["monotonic"] += 3
    assert clock.skew_ms == skew
    assert clock.now_ms() == 1_700_000_003_000
    assert clock.bucket_ms() == 1_700_000_003_000 - skew


@pytest.mark.parametrize("skew", [TOLERANCE_MS + 1, -TOLERANCE_MS - 1])
def test_a_clock_that_is_far_off_is_not_believed(at: dict[str, float], skew: int) -> None:
    """Then it is as late as in the bucket, until the wall clock is right again."""
    clock = Clock()
    assert not clock.compare(1_700_000_000_000 - skew)
    at["monotonic"] += 3
    assert clock.now_ms() == clock.bucket_ms() == 1_700_000_003_000 - skew
    at["time"] += 3
    assert clock.compare(1_700_000_003_000)
    assert clock.now_ms() == clock.bucket_ms() == 1_700_000_003_000


def test_a_jump_of_the_wall_clock_moves_nothing(at: dict[str, float]) -> None:
    """Between two comparisons time goes on with the clock that never jumps."""
    clock = Clock()
    at["time"] -= 7200
    at["monotonic"] += 1
    assert clock.now_ms() == 1_700_000_001_000
