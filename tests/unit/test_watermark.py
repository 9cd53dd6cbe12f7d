"""The watermark against rule 2 of the contract, read literally."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core import watermark as watermark_module
from cdn77_exporter.core.watermark import ShardState, Watermark
from tests.support.examples import examples

NOW = 1_700_000_000_000
IDLE, LAG, WAIT = 120_000, 180_000, 300_000


def new_watermark() -> Watermark:
    """A watermark with the default lengths."""
    return Watermark(idle_seconds=120, lag_seconds=180)


@dataclass
class PlainShard:
    """What a shard has delivered, and whether it was left behind."""

    listed: int = 0
    newest: int = 0
    seen: float | None = None
    lags: bool = False


class PlainWatermark:
    """Rule 2 of the contract, by brute force; the steady clock shows the Unix time in seconds."""

    def __init__(self) -> None:
        self.shards = {name: PlainShard() for name in "123"}
        self.value = 0

    def advance(self, polled: int) -> int:
        """The watermark at the time of the last listing (Unix ms)."""
        live = [
            one
            for one in self.shards.values()
            if one.listed or (one.seen is not None and polled - one.seen * 1000 <= IDLE)
        ]
        front = max([one.newest for one in live] + [self.value])
        for one in live:
            if one.lags:
                one.lags = front - one.newest > WAIT / 2
            else:
                one.lags = front - one.newest > WAIT and not one.listed
        waited = [one.newest for one in live if not one.lags]
        self.value = max(self.value, min([*waited, polled]) if waited else polled - LAG)
        return self.value


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["list", "list", "deliver", "deliver", "empty", "withdraw", "poll", "restart"]),
        st.sampled_from(["1", "2", "3"]),
        st.integers(0, 90_000),  # how much later it is now
        st.integers(0, 900_000),  # how old the newest event is
    ),
    max_size=40,
)


@given(STEPS)
@examples(300)
def test_the_watermark_is_the_smallest_of_the_live_shards(steps: list[tuple[str, str, int, int]]) -> None:
    """After any history it is the minimum over live shards that do not lag, or the clock less the lag."""
    watermark, plain = new_watermark(), PlainWatermark()
    now = polled = NOW
    watermark.listed(now / 1000)
    assert advance(watermark, now) == plain.advance(polled)
    rows: dict[str, tuple[str, int]] = {}
    for verb, name, later, age in steps:
        now += later
        shard = plain.shards[name]
        if verb in ("list", "poll"):
            shard.listed += 2 * (verb == "list")
            polled = now
            watermark.listed(now / 1000)
        elif verb in ("deliver", "empty") and shard.listed:
            shard.listed -= 1
            watermark.delivered(name, now - age if verb == "deliver" else 0, now / 1000)
            if verb == "deliver":
                shard.newest, shard.seen = max(shard.newest, now - age), now / 1000
        elif verb == "withdraw" and shard.listed:
            shard.listed -= 1
        elif verb == "restart":
            rows.update({row[0]: row for row in watermark.take_changes()})
            watermark, polled = new_watermark(), now
            watermark.restore(rows.values(), plain.value, now / 1000)
            watermark.listed(now / 1000)
            for one in plain.shards.values():
                one.listed, one.lags, one.seen = 0, False, now / 1000 if one.newest >= plain.value > 0 else None
        expected = [key for key, one in plain.shards.items() if one.listed]
        assert advance(watermark, now, expected) == plain.advance(polled)
        lagging = {key for key, one in plain.shards.items() if one.lags}
        assert {key for key in "123" if watermark.lags(key)} == lagging


def advance(watermark: Watermark, now_ms: int, expected: Collection[str] = ()) -> int:
    """The watermark when it is `now_ms`, on both clocks."""
    return watermark.advance(expected, now_ms, now_ms / 1000)


@pytest.mark.guarantee("shards.silent")
def test_a_silent_shard_holds_the_watermark_for_its_idle_time() -> None:
    """A shard that has stopped holds the others back for SHARD_IDLE_SECONDS after its last delivery, and no longer."""
    watermark = new_watermark()
    watermark.listed(NOW / 1000)
    watermark.delivered("1", NOW - 40_000, NOW / 1000)
    watermark.delivered("2", NOW - 30_000, NOW / 1000)
    for later in (0, 60_000, 120_000):
        watermark.listed((NOW + later) / 1000)
        watermark.delivered("2", NOW + later - 5000, (NOW + later) / 1000)
        assert advance(watermark, NOW + later) == NOW - 40_000
    watermark.listed((NOW + 120_001) / 1000)
    assert advance(watermark, NOW + 120_001) == NOW + 115_000


def test_an_expected_file_holds_the_watermark_until_it_is_delivered() -> None:
    """A file that is listed and not delivered keeps its shard live however long it takes, even a new shard."""
    watermark = new_watermark()
    watermark.listed(NOW / 1000)
    watermark.delivered("1", NOW, NOW / 1000)
    watermark.listed(NOW / 1000 + 3600)
    assert advance(watermark, NOW + 3_600_000, {"2"}) == 0
    watermark.delivered("2", NOW + 1_800_000, NOW / 1000 + 3600)
    assert advance(watermark, NOW + 3_600_000) == NOW + 1_800_000


def test_when_nothing_arrives_time_follows_the_clock() -> None:
    """Without a live shard the watermark is IDLE_LAG_SECONDS behind the last listing, and stands without one."""
    watermark = new_watermark()
    assert advance(watermark, NOW) == 0
    watermark.listed(NOW / 1000)
    assert advance(watermark, NOW) == NOW - LAG
    assert advance(watermark, NOW + 30_000) == NOW - LAG
    watermark.listed(NOW / 1000 + 60)
    assert advance(watermark, NOW + 60_000) == NOW + 60_000 - LAG


def test_the_watermark_is_never_later_than_the_clock() -> None:
    """An event from the future does not take the watermark past the time of the listing."""
    watermark = new_watermark()
    watermark.listed(NOW / 1000)
    watermark.delivered("1", NOW + 86_400_000, NOW / 1000)
    assert advance(watermark, NOW + 1000) == NOW


def test_a_shard_that_delivers_old_events_holds_up_nothing() -> None:
    """It lags once all that is listed of it is counted, until it is near the others; then it is waited for again."""
    watermark = new_watermark()
    for step in range(6):
        at = NOW + step * 60_000
        watermark.listed(at / 1000)
        watermark.delivered("1", at, at / 1000)
        watermark.delivered("2", at - 3_600_000, at / 1000)
        assert advance(watermark, at) == at
        assert watermark.states((), ()) == {"1": ShardState.CURRENT, "2": ShardState.LAGGING}
        assert advance(watermark, at, {"2"}) == at, "not even while it has files, since it is known to lag"
    watermark.delivered("2", at - 149_000, at / 1000)
    assert watermark.waited_for(()) == {"1", "2"}


def test_the_only_shard_that_is_left_and_lags_holds_up_nothing() -> None:
    """When the others have fallen silent the clock goes on, not the lagging shard's time."""
    watermark = new_watermark()
    watermark.listed(NOW / 1000)
    watermark.delivered("1", NOW, NOW / 1000)
    watermark.delivered("2", NOW - 3_600_000, NOW / 1000)
    assert advance(watermark, NOW) == NOW
    watermark.listed(NOW / 1000 + 600)
    watermark.delivered("2", NOW - 3_000_000, NOW / 1000 + 600)
    assert advance(watermark, NOW + 600_000) == NOW + 600_000 - LAG


def test_a_shard_whose_files_wait_is_not_left_behind() -> None:
    """Another that began hours later may be far ahead of it in a backlog: it is still waited for."""
    watermark = new_watermark()
    watermark.listed(NOW / 1000)
    watermark.delivered("1", NOW - 18_000_000, NOW / 1000)
    watermark.delivered("2", NOW - 3_600_000, NOW / 1000)
    assert advance(watermark, NOW, {"1"}) == NOW - 18_000_000
    assert watermark.states({"1"}, {"1"}) == {"1": ShardState.CURRENT, "2": ShardState.CURRENT}


def test_a_file_that_is_not_expected_does_not_hold_time() -> None:
    """A shard without any other file lets the watermark go on, and is not waited for."""
    watermark = new_watermark()
    watermark.listed(NOW / 1000)
    assert advance(watermark, NOW, {"1"}) == 0
    assert advance(watermark, NOW) == NOW - LAG
    assert watermark.states((), {"1"}) == {"1": ShardState.LAGGING}


def test_the_allowed_lateness_is_subtracted_from_the_newest_event() -> None:
    """With it the watermark stays so far behind each shard's newest event, and not behind the idle clock."""
    watermark = Watermark(idle_seconds=120, lag_seconds=180, lateness_seconds=30)
    watermark.listed(NOW / 1000)
    watermark.delivered("1", NOW - 10_000, NOW / 1000)
    assert advance(watermark, NOW) == NOW - 40_000
    watermark.listed(NOW / 1000 + 600)
    assert advance(watermark, NOW + 600_000) == NOW + 600_000 - LAG


def test_invented_shards_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more shards than the bound the longest silent are forgotten; an outstanding file holds time all the same."""
    monkeypatch.setattr(watermark_module, "MAX_SHARDS", 3)
    watermark = new_watermark()
    for number in range(10):
        watermark.listed(NOW / 1000 + number)
        watermark.delivered(str(number), NOW + number, NOW / 1000 + number)
    assert sorted(watermark.shards) == ["7", "8", "9"]
    assert advance(watermark, NOW + 9000, {"0"}) == 0
    assert advance(watermark, NOW + 9000) == NOW + 7
