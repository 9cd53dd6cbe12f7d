"""The watermark against rule 2 of the contract, read literally."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core import watermark as watermark_module
from cdn77_exporter.core.watermark import Watermark
from tests.support.examples import examples

NOW = 1_700_000_000_000
IDLE, LAG = 120_000, 180_000


def new_watermark() -> Watermark:
    """A watermark with the default lengths."""
    return Watermark(idle_seconds=120, lag_seconds=180)


@dataclass
class PlainShard:
    """What a shard has delivered."""

    listed: int = 0
    newest: int = 0
    seen: int | None = None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["list", "list", "deliver", "deliver", "empty", "withdraw", "poll", "restart"]),
        st.sampled_from(["1", "2", "3"]),
        st.integers(0, 90_000),  # how much later it is now
        st.integers(0, 400_000),  # how old the newest event is
    ),
    max_size=40,
)


@given(STEPS)
@examples(300)
def test_the_watermark_is_the_smallest_of_the_live_shards(steps: list[tuple[str, str, int, int]]) -> None:
    """After any history it is the minimum over live shards, or the clock less the lag, and never goes back."""
    watermark, shards = new_watermark(), {name: PlainShard() for name in "123"}
    now = polled = NOW
    watermark.listed(now)
    expected = watermark.advance(())
    rows: dict[str, tuple[str, int, int]] = {}
    for verb, name, later, age in steps:
        now += later
        shard = shards[name]
        if verb in ("list", "poll"):
            shard.listed += 2 * (verb == "list")
            polled = now
            watermark.listed(now)
        elif verb in ("deliver", "empty") and shard.listed:
            shard.listed -= 1
            watermark.delivered(name, now - age if verb == "deliver" else 0, now)
            if verb == "deliver":
                shard.newest, shard.seen = max(shard.newest, now - age), now
        elif verb == "withdraw" and shard.listed:
            shard.listed -= 1
        elif verb == "restart":
            rows.update({row[0]: row for row in watermark.take_changes()})
            watermark = new_watermark()
            watermark.restore(rows.values(), expected)
            watermark.listed(polled)
            for one in shards.values():
                one.listed = 0
        live = [one for one in shards.values() if one.listed or (one.seen is not None and polled - one.seen <= IDLE)]
        expected = max(expected, min([one.newest for one in live] + [polled]) if live else polled - LAG)
        outstanding = [key for key, one in shards.items() if one.listed]
        assert watermark.advance(outstanding) == expected
        assert watermark.live(outstanding) == {key for key, one in shards.items() if any(one is each for each in live)}


def test_a_silent_shard_holds_the_watermark_for_its_idle_time() -> None:
    """A shard that has stopped holds the others back for SHARD_IDLE_SECONDS after its last delivery, and no longer."""
    watermark = new_watermark()
    watermark.listed(NOW)
    watermark.delivered("1", NOW - 40_000, NOW)
    watermark.delivered("2", NOW - 30_000, NOW)
    for later in (0, 60_000, 120_000):
        watermark.listed(NOW + later)
        watermark.delivered("2", NOW + later - 5000, NOW + later)
        assert watermark.advance(()) == NOW - 40_000
    watermark.listed(NOW + 120_001)
    assert watermark.advance(()) == NOW + 115_000


def test_a_listed_file_holds_the_watermark_until_it_is_delivered() -> None:
    """A file that is listed and not delivered keeps its shard live however long it takes, even a new shard."""
    watermark = new_watermark()
    watermark.listed(NOW)
    watermark.delivered("1", NOW, NOW)
    watermark.listed(NOW + 3_600_000)
    assert watermark.advance({"2"}) == 0
    watermark.delivered("2", NOW + 1_800_000, NOW + 3_600_000)
    assert watermark.advance(()) == NOW + 1_800_000


def test_when_nothing_arrives_time_follows_the_clock() -> None:
    """Without a live shard the watermark is IDLE_LAG_SECONDS behind the last listing, and stands without one."""
    watermark = new_watermark()
    watermark.listed(NOW)
    assert watermark.advance(()) == NOW - LAG
    assert watermark.advance(()) == NOW - LAG
    watermark.listed(NOW + 60_000)
    assert watermark.advance(()) == NOW + 60_000 - LAG


def test_the_watermark_is_never_later_than_the_clock() -> None:
    """An event from the future does not take the watermark past the time of the listing."""
    watermark = new_watermark()
    watermark.listed(NOW)
    watermark.delivered("1", NOW + 86_400_000, NOW)
    assert watermark.advance(()) == NOW


def test_a_file_that_is_no_longer_outstanding_does_not_hold_time() -> None:
    """An unreadable file of a shard without any other lets the watermark go on."""
    watermark = new_watermark()
    watermark.listed(NOW)
    assert watermark.advance({"1"}) == 0
    assert watermark.advance(()) == NOW - LAG


def test_invented_shards_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more shards than the bound the longest silent are forgotten; an outstanding file holds time all the same."""
    monkeypatch.setattr(watermark_module, "MAX_SHARDS", 3)
    watermark = new_watermark()
    for number in range(10):
        watermark.listed(NOW + number)
        watermark.delivered(str(number), NOW + number, NOW + number)
    assert sorted(watermark.shards) == ["7", "8", "9"]
    assert watermark.advance({"0"}) == 0
    assert watermark.advance(()) == NOW + 7
