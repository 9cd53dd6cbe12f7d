"""Kills at every point, each statement of the state and each await of a port: afterwards every number is the truth."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest

from cdn77_exporter.edge.state import Database
from tests.support.examples import sample
from tests.support.virtual_time import simulate
from tests.support.world import Moment, Receiver, Upload, World, backlog, traffic

#: How long the process is gone, in turn: hardly, some polls, minutes, more than an hour.
AWAY_MS = (1_000, 25_000, 4_000, 110_000, 1_000, 7_000, 300_000, 1_000, 50_000, 13_000, 3_900_000)
#: Each await of the bucket and of the receiver that a run has.
AWAITS = {
    "list",
    "list, after a page",
    "fetch, before",
    "fetch, after",
    "write, before it is stored",
    "write, after it is stored",
    "delete, before",
    "delete, after a file",
}
#: The kinds of statement that the state store is asked.
STATEMENTS = {"BEGIN", "COMMIT", "SELECT", "INSERT", "DELETE"}


class _Killed(Exception):
    """The kill."""


class _Witness:
    """Copies the world at every point at which a kill would leave something that no point before it did."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder
        self._seen: set[tuple[str, int, int]] = set()
        self.points: list[str] = []
        self.moments: list[Moment] = []
        world.on_point = self

    def __call__(self, name: str) -> None:
        self.points.append(name)
        moment = self._world.moment(name)
        left = self.left(moment)
        if left not in self._seen:
            self._seen.add(left)
            self.moments.append(moment)

    def left(self, moment: Moment) -> tuple[str, int, int]:
        """What the next process finds: the same where this is the same."""
        return (self._restored(moment), len(self._world.write.bodies), len(moment.deleted))

    def _restored(self, moment: Moment) -> str:
        """What a database opened on the files makes of them."""
        state, journal = moment.state
        if journal:
            after = World.after(moment, self._folder / "restored", [])
            Database(str(after.path)).close()
            state = after.path.read_bytes()
            shutil.rmtree(after.folder)
        return hashlib.sha256(state or b"").hexdigest()


def _witnessed(folder: Path, uploads: list[Upload], *, out_of_order: bool, seed: int) -> _Witness:
    """A run without a kill, and what a kill would have left at each of its points."""
    world = World(folder / "first", uploads, receiver=Receiver(out_of_order=out_of_order), seed=seed)
    witness = _Witness(world, folder)
    simulate(world.run())
    world.check()
    assert not world.receiver.refused
    return witness


@pytest.mark.guarantee(
    "crash.while_reading",
    "crash.before_commit",
    "crash.during_commit",
    "crash.before_push",
    "crash.during_push",
    "crash.before_mark",
    "crash.before_deletion",
    "crash.during_deletion",
)
@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 6], ids=["no backlog", "a backlog"])
@pytest.mark.parametrize("out_of_order", [False, True], ids=["in order only", "out of order too"])
def test_a_kill_at_every_point_changes_no_number(folder: Path, out_of_order: bool, before: int) -> None:
    """Whatever a kill leaves, the next process ends with every counter and gauge at the truth and an empty bucket.

    Every point of a run is there: each await of a port and each statement of the state. Those that leave the same to
    the next process as one before them are gone on from once.
    """
    seed = 1 + before + out_of_order
    uploads = [*backlog(before), *traffic(seed, files=3 if before else 4, shards=2, lines=6)]
    witness = _witnessed(folder, uploads, out_of_order=out_of_order, seed=seed)
    assert set(witness.points) >= AWAITS
    assert {name.split()[1] for name in witness.points if name.startswith("statement: ")} >= STATEMENTS
    assert len(witness.moments) > 50
    for number, moment in enumerate(witness.moments):
        away_ms = AWAY_MS[number % len(AWAY_MS)]
        world = World.after(moment, folder / f"after-{number}", uploads, away_ms, seed=number)
        simulate(world.run())
        try:
            world.check()
            assert not world.said.of("request_refused")
            assert not world.trouble.now
        except AssertionError as error:
            error.add_note(f"killed at {moment.now_ms}, {moment.name}; away for {away_ms} ms")
            raise
        shutil.rmtree(world.folder)


@pytest.mark.guarantee("receiver.too_large")
@pytest.mark.parametrize("most_bytes", [None, 1000])
@pytest.mark.parametrize("seed", sample(range(6), fast=1))
def test_many_kills_one_after_the_other_change_no_number(folder: Path, seed: int, most_bytes: int | None) -> None:
    """A process that is killed again and again, at random points, ends with every number at the truth.

    So it does when the receiver takes no request of more than `most_bytes`, which each process finds out anew.
    """
    draw = random.Random(seed)
    uploads = traffic(seed, late=seed % 2 == 0)
    moment: Moment | None = None
    for number in range(7):
        where = folder / f"life-{number}"
        if moment is None:
            world = World(
                where, uploads, receiver=Receiver(out_of_order=seed % 3 == 0, most_bytes=most_bytes), seed=seed
            )
        else:
            world = World.after(moment, where, uploads, draw.choice(AWAY_MS[:6]), seed=seed + number)
        if number == 6:
            break
        caught = world.catch(draw.randrange(10, 250))
        simulate(world.run())
        if not caught:
            break
        moment = caught[0]
    world.on_point = lambda _: None
    if not world.said.events:
        simulate(world.run())
    world.check()
    assert not world.said.of("request_refused")
    assert bool(world.receiver.too_large) == (most_bytes is not None)


@pytest.mark.slow
def test_an_error_at_every_point_ends_the_run_and_the_next_one_makes_it_good(folder: Path) -> None:
    """An error at a statement or an await ends the whole run with it, and nothing undelivered is ever deleted."""
    uploads = traffic(3, files=1, shards=2, lines=6)
    points: list[str] = []
    until_ms = uploads[-1].file.modified_ms + 130_000  # then all is deleted
    counting = World(folder / "counting", uploads, seed=3, on_point=points.append)
    simulate(counting.run(until_ms))
    assert set(points) >= AWAITS
    gone_on_from = set()
    for fatal in range(len(points)):
        world = World(folder / f"killed-{fatal}", uploads, seed=3)
        witness = _Witness(world, folder)
        struck: list[int] = []
        passed = 0

        def strike(name: str, world: World = world, struck: list[int] = struck, fatal: int = fatal) -> None:
            nonlocal passed
            passed += 1
            if passed == fatal + 1:
                struck.append(world.clock.now_ms())
                raise _Killed(name)

        world.on_point = strike
        with pytest.raises((ExceptionGroup, _Killed)) as caught:  # alone while the stages do not run yet
            simulate(world.run(until_ms))
        assert caught.errisinstance(_Killed) or caught.group_contains(_Killed), points[fatal]
        assert world.left is not None
        assert struck == [world.left.now_ms], f"the run went on after {points[fatal]}"
        left = witness.left(world.left)
        if left not in gone_on_from:
            gone_on_from.add(left)
            again = World.after(world.left, folder / f"after-{fatal}", uploads, seed=4)
            simulate(again.run())
            again.check()
        shutil.rmtree(world.folder)
    assert len(gone_on_from) > 20
