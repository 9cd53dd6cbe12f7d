"""What the page says that players, pauses and prefetching do to the numbers is what they do."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.docs.pages import ROOT
from tests.support.players import Players


def shown(sessions: Iterable[list[float]]) -> tuple[float, float]:
    """Seconds watched and sessions begun, on average, of players that ask at these times (seconds)."""
    players = Players[int](30, 120, 7200)
    times = list(sessions)
    players.settle(10**6, [(number, round(at * 1000)) for number, own in enumerate(times) for at in own])
    players.settle(2 * 10**6, [])
    return players.watched_ms() / 1000 / len(times), players.begun() / len(times)


def steady(seconds: float, begin: float = 0) -> list[list[float]]:
    """A hundred players that ask every 6 seconds, each of them at other moments."""
    return [[begin + offset * 0.06 + 6 * n for n in range(int(seconds / 6))] for offset in range(100)]


def bursts(every: int) -> list[list[float]]:
    """Twenty minutes of segments that are fetched in bursts."""
    return [[at + 0.5 * n for at in range(0, 1200, every) for n in range(every // 6)]]


def test_the_page_says_what_is_measured() -> None:
    """The numbers of the table are those that made-up players have."""
    page = (ROOT / "docs" / "numbers.md").read_text("utf-8")
    assert "24 s more for each session: 40 %, 8 %, 2 % and 0.7 % too much" in page
    for seconds, more in ((60, 0.4), (300, 0.08), (1200, 0.02), (3600, 0.007)):
        assert shown(steady(seconds)) == pytest.approx((seconds + 24, 1))
        assert 24 / seconds == pytest.approx(more, abs=0.001)
    assert "81 %, 58 % and 43 %" in page
    for every, share in ((30, 1.0), (40, 0.81), (60, 0.58), (90, 0.43)):
        watched, sessions = shown(bursts(every))
        assert watched / 1200 == pytest.approx(share, abs=0.006)
        assert sessions == 1
    watched, sessions = shown(bursts(180))
    assert watched / 1200 == pytest.approx(0.26, abs=0.006)
    assert sessions == 7
    for pause, counted, begun in ((20, 20, 1), (60, 24, 1), (110, 24, 1), (121, 24, 2)):
        paused = [one + two for one, two in zip(steady(600), steady(600, 600 + pause), strict=True)]
        assert shown(paused) == pytest.approx((1200 + 24 + counted, begun))
