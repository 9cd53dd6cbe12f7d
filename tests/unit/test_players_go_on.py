"""What players count after a restored backup, without a state, and on another grid of ticks, against brute force."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest

from cdn77_exporter.core.already_told import AlreadyTold
from cdn77_exporter.core.timeline import Rules
from cdn77_exporter.edge.state import Database
from tests.support.examples import sample
from tests.support.plain_timeline import Happened
from tests.support.players import Players, buckets
from tests.unit.test_timeline import START, World

_NAME = "cdn77_session_watch_seconds"
Asked = tuple[str, int]  # player, seconds after START


def traffic(until: int, players: int = 12) -> list[Asked]:
    """Players that ask every six seconds, pause now and then, and leave."""
    draw = random.Random(4)
    found = []
    for player in range(players):
        at, end = draw.randrange(300), draw.randrange(200, until)
        while at < end:
            found.append((f"192.0.2.{player}", at))
            at += draw.choice([6, 6, 6, 6, 29, 45, 119, 121, 200])
    return sorted(found, key=lambda one: one[1])


def between(asked: Iterable[Asked], begin: int, end: int) -> list[Asked]:
    """Those from one second to another."""
    return [one for one in asked if begin <= one[1] < end]


def absorb(world: World, asked: Sequence[Asked]) -> None:
    """Count a file of requests."""
    if asked:
        world.absorb([Happened((START + at) * 1000, ip=ip) for ip, at in asked])


def advance(world: World, second: int) -> None:
    """Write the ticks up to a second."""
    world.advance((START + second) * 1000, (START + second) * 1000 + 500)


def brute_force() -> Players[str]:
    """Players of the default lengths, whose windows keep viewers for fifteen minutes."""
    return Players(30, 120, 900)


def settle(players: Players[str], second: int, asked: Iterable[Asked]) -> None:
    """Let a tick pass."""
    players.settle(START + second, [(ip, (START + at) * 1000) for ip, at in asked])


def expect(world: World, players: Players[str], before: tuple[int, int, list[int]] = (0, 0, [])) -> None:
    """The last values are those of brute force, counters less what they had when they began at zero."""
    over = players.over()
    for one in before[2]:
        over.remove(one)
    expected = {
        "cdn77_watch_seconds_total": (players.watched_ms() - before[0]) / 1000,
        "cdn77_concurrent_viewers": players.concurrent(),
        "cdn77_sessions_total": players.begun() - before[1],
        f"{_NAME}_sum": sum(over) / 1000,
        f"{_NAME}_count": len(over),
    }
    assert {name: world.last(name) or 0 for name in expected} == pytest.approx(expected, abs=1e-6)
    for bound, count in buckets(over).items():
        assert world.last(f"{_NAME}_bucket", le=bound) == count


@pytest.mark.parametrize(("before", "after"), [(15, 30), (30, 15), (15, 5), (5, 20)])
@pytest.mark.parametrize("second", sample([315, 300, 330, 345], fast=1))
def test_another_grid_of_ticks_counts_the_same(before: int, after: int, second: int) -> None:
    """With another TICK_SECONDS every counter and gauge goes on as if nothing had been changed."""
    world, players, asked = World(Rules(before, 900)), brute_force(), traffic(900)
    last = 0
    for tick in range(before, second // before * before + 1, before):
        absorb(world, between(asked, last, tick))
        advance(world, tick)
        settle(players, tick, between(asked, last, tick))
        last = tick
    expect(world, players)
    held = between(asked, last, last + 7)  # they wait for their tick while the grid is changed, and keep it
    due = -(-(last + before) // after) * after
    absorb(world, held)
    world.restart(Rules(after, 900))
    last += 7
    for tick in range((last - 7) // after * after + after, 1500, after):
        absorb(world, between(asked, last, tick))
        advance(world, tick)
        settle(players, tick, [*(held if tick == due else []), *between(asked, last, tick)])
        last = max(last, tick)
        if tick % 300 == 0:
            expect(world, players)
    expect(world, players)
    assert players.begun() == len(players.over()) > 20


@pytest.mark.parametrize("lost", sample([90, 45, 150, 600], fast=1))
def test_after_a_restored_backup_only_what_comes_then_counts(lost: int) -> None:
    """What players did before the backup is known and not told again; its sessions go on, or have ended by the time."""
    world, asked = World(), traffic(1500, 30)
    absorb(world, between(asked, 0, 300))
    advance(world, 300)
    absorb(world, held := between(asked, 300, 312))
    world.database.commit(world.timeline.take_changes([], 0, []))
    backup = Database(":memory:")
    backup.replace(world.database.serialize())
    absorb(world, between(asked, 312, 300 + lost))
    advance(world, 300 + lost)

    players, told = brute_force(), 300 + lost
    settle(players, 300, between(asked, 0, 300))
    settle(players, told, held)
    before = (players.watched_ms(), players.begun(), players.over())
    world.take_up(backup, (START + told + 100) * 1000)
    assert world.timeline.begin_after(AlreadyTold(START + told))
    last = told
    for tick in range(told + 15, 2400, 15):
        absorb(world, between(asked, last, tick))
        advance(world, tick)
        settle(players, tick, between(asked, last, tick))
        last = tick
    expect(world, players, before)


def test_without_a_state_the_next_process_knows_nobody() -> None:
    """A stop tells what is held; what comes then is counted as if no one had been there."""
    world, players, asked = World(), brute_force(), traffic(1500, 30)
    absorb(world, between(asked, 0, 285))
    advance(world, 285)
    absorb(world, between(asked, 285, 300))
    settle(players, 285, between(asked, 0, 285))
    settle(players, 300, between(asked, 285, 300))
    assert world.flush((START + 300) * 1000 + 200) == START + 300
    expect(world, players)

    world, players = World(start_ms=(START + 300) * 1000 + 500), brute_force()
    for tick in range(330, 2400, 15):
        absorb(world, between(asked, tick - 15, tick))
        advance(world, tick)
        settle(players, tick, between(asked, tick - 15, tick))
    expect(world, players)
    assert players.begun() == len(players.over()) > 20
