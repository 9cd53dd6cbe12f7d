"""Kills at every point, each statement of the state and each await of a port: afterwards every number is the truth."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdn77_exporter.edge.state import Database
from tests.support.virtual_time import simulate
from tests.support.world import Moment, Receiver, Upload, World, backlog, traffic

#: How long the process is gone, in turn: hardly, some polls, minutes, more than an hour.
AWAY_MS = (1_000, 25_000, 4_000, 110_000, 1_000, 7_000, 300_000, 1_000, 50_000, 13_000, 3_900_000)


class _Killed(Exception):
    """The kill."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for state files, in memory where that is possible: a run has hundreds of synced commits."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield path
    shutil.rmtree(path)


class _Witness:
    """Copies the world at every point at which a kill would leave something that no point before it did."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder
        self._seen: set[tuple[str, int, int]] = set()
        self.points = 0
        self.moments: list[Moment] = []
        world.on_point = self

    def __call__(self, name: str) -> None:
        self.points += 1
        moment = self._world.moment(name)
        left = (self._restored(moment), len(self._world.write.bodies), len(moment.deleted))
        if left not in self._seen:
            self._seen.add(left)
            self.moments.append(moment)

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


@pytest.mark.parametrize(
    ("out_of_order", "seed", "part", "before"),
    [(False, 1, 2, 0), (True, 2, 4, 0), (False, 3, 4, 12)],
    ids=["in order only", "out of order too", "a backlog"],
)
def test_a_kill_at_any_point_changes_no_number(
    folder: Path, out_of_order: bool, seed: int, part: int, before: int
) -> None:
    """Whatever a kill leaves, the next process ends with every counter and gauge at the truth and an empty bucket."""
    uploads = [*backlog(before), *traffic(seed)]
    witness = _witnessed(folder, uploads, out_of_order=out_of_order, seed=seed)
    assert witness.points > 500
    assert len(witness.moments) > 60
    chosen = [*witness.moments[:10], *witness.moments[10::part]]  # the start has the rarest states
    for number, moment in enumerate(chosen):
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


@pytest.mark.parametrize("seed", range(6))
def test_many_kills_one_after_the_other_change_no_number(folder: Path, seed: int) -> None:
    """A process that is killed again and again, at random points, ends with every number at the truth."""
    draw = random.Random(seed)
    uploads = traffic(seed, late=seed % 2 == 0)
    moment: Moment | None = None
    for number in range(7):
        where = folder / f"life-{number}"
        if moment is None:
            world = World(where, uploads, receiver=Receiver(out_of_order=seed % 3 == 0), seed=seed)
        else:
            world = World.after(moment, where, uploads, draw.choice(AWAY_MS[:6]), seed=seed + number)
        if number == 6:
            break
        left = draw.randrange(10, 250)
        caught: list[Moment] = []

        def count_down(name: str, world: World = world, caught: list[Moment] = caught) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                caught.append(world.moment(name))

        world.on_point = count_down
        simulate(world.run())
        if not caught:
            break
        moment = caught[0]
    world.on_point = lambda _: None
    if not world.said.events:
        simulate(world.run())
    world.check()
    assert not world.said.of("request_refused")


@pytest.mark.parametrize("seed", range(2))
def test_an_error_at_any_point_ends_the_run_and_the_next_one_makes_it_good(folder: Path, seed: int) -> None:
    """An error at a statement or an await ends the whole run with it, and nothing undelivered is ever deleted."""
    uploads = traffic(seed)
    points: list[str] = []
    counting = World(folder / "counting", uploads, seed=seed, on_point=points.append)
    simulate(counting.run())
    draw = random.Random(seed)
    for fatal in sorted(draw.sample(range(len(points)), 12)):
        world = World(folder / f"killed-{fatal}", uploads, seed=seed)
        passed = 0

        def strike(name: str, fatal: int = fatal) -> None:
            nonlocal passed
            passed += 1
            if passed == fatal + 1:
                raise _Killed(name)

        world.on_point = strike
        with pytest.raises(ExceptionGroup) as caught:
            simulate(world.run())
        assert caught.group_contains(_Killed), points[fatal]
        assert passed == fatal + 1, f"the run went on after {points[fatal]}"
        assert world.left is not None
        again = World.after(world.left, folder / f"after-{fatal}", uploads, seed=seed + 1)
        simulate(again.run())
        again.check()
