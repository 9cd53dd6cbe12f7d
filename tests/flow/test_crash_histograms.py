"""Kills while native histograms are sent, and while the receiver takes none: afterwards every bucket is the truth."""

from __future__ import annotations

import math
import random
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from cdn77_exporter.core.measures import CACHE, CDN, MEASURES, POP, STREAM, Measures, native_histogram
from tests.support.examples import sample
from tests.support.plain_wholes import Content, rounded
from tests.support.truth import Labels
from tests.support.virtual_time import simulate
from tests.support.world import BEGAN_MS, Event, Moment, Upload, World, traffic, upload

NAME = "cdn77_wait_seconds"
TABLE = Measures(
    (*MEASURES.rows, *native_histogram(NAME, "timeToFirstByteMs", 1000, (STREAM, CDN, CACHE, POP), "Waits."))
)
AWAY_MS = (1_000, 25_000, 110_000, 300_000, 3_900_000)


def bucket(seconds: float) -> int:
    """The bucket of a number: the last bound below it is 2^((i-1)/8)."""
    found = math.ceil(8 * math.log2(seconds)) - 2
    while 2 ** (found / 8) < seconds:
        found += 1
    return found


def with_waits(uploads: Iterable[Upload], seed: int) -> list[Upload]:
    """The same files, whose requests waited as they do: a tenth of them not at all."""
    draw = random.Random(seed)
    found = []
    for one in uploads:
        events: list[Event] = [
            {**event, "timeToFirstByteMs": 0 if draw.random() < 0.1 else max(1, round(draw.lognormvariate(3, 1.5)))}
            for event in one.events
        ]
        file = one.file
        found.append(upload(int(file.shard), file.sequence, file.modified_ms, events))
    return found


def truth(uploads: Iterable[Upload]) -> dict[Labels, Content]:
    """What every histogram must hold in the end."""
    found: dict[Labels, Counter[object]] = {}
    for one in uploads:
        for event in one.events:
            wait = event["timeToFirstByteMs"]
            if wait:
                labels = {
                    "__name__": NAME,
                    "stream_name": event["clientRequestPath"].split("/")[1],
                    "cdn_id": str(event["resourceID"]),
                    "cache_status": event["cacheStatus"],
                    "pop": event["locationID"],
                }
                own = found.setdefault(tuple(sorted(labels.items())), Counter())
                own.update({bucket(wait / 1000): 1, "sum": wait / 1000})
    return {labels: rounded(content) for labels, content in found.items()}


def check(world: World) -> None:
    """Everything is as without histograms, and each of them holds what it must."""
    world.check()
    assert world.receiver.observed() == truth(world.uploads)
    assert not world.said.of("request_refused")
    assert not world.trouble.now


def _points(folder: Path, uploads: list[Upload]) -> int:
    """How many points a run has at which it may be killed."""
    points: list[str] = []
    world = World(folder / "first", uploads, measures=TABLE, seed=1, on_point=points.append)
    simulate(world.run())
    check(world)
    return len(points)


@pytest.mark.slow
def test_a_kill_at_many_points_changes_no_bucket(folder: Path) -> None:
    """Whatever a kill leaves, the next process ends with every bucket and sum at the truth."""
    uploads = with_waits(traffic(1, files=3, shards=2, lines=8), 1)
    for number, point in enumerate(range(1, _points(folder, uploads), 9)):
        before = World(folder / f"killed-{number}", uploads, measures=TABLE, seed=1)
        caught = before.catch(point)
        simulate(before.run())
        away_ms = AWAY_MS[number % len(AWAY_MS)]
        world = World.after(caught[0], folder / f"after-{number}", uploads, away_ms, measures=TABLE, seed=number)
        simulate(world.run())
        try:
            check(world)
        except AssertionError as error:
            error.add_note(f"killed at {caught[0].now_ms}, {caught[0].name}; away for {away_ms} ms")
            raise
        for one in (before, world):
            shutil.rmtree(one.folder)


@pytest.mark.parametrize("seed", sample(range(4), fast=1))
def test_many_kills_one_after_the_other_change_no_bucket(folder: Path, seed: int) -> None:
    """A process that is killed again and again ends with every bucket and sum at the truth."""
    draw = random.Random(seed)
    uploads = with_waits(traffic(seed, files=4, late=seed % 2 == 0), seed)
    world = World(folder / "life-0", uploads, measures=TABLE, seed=seed)
    for number in range(1, 6):
        caught = world.catch(draw.randrange(10, 250))
        simulate(world.run())
        if not caught:
            break
        away_ms = draw.choice(AWAY_MS[:4])
        world = World.after(caught[0], folder / f"life-{number}", uploads, away_ms, measures=TABLE, seed=seed + number)
    if world.left is None:
        simulate(world.run())
    check(world)


def test_a_receiver_without_histograms_gets_them_once_it_takes_them(folder: Path) -> None:
    """Meanwhile counters are exact and files are deleted; a later process tells what the histograms have missed."""
    uploads = with_waits(traffic(2, files=4), 2)
    world = World(folder / "refused", uploads, measures=TABLE, histograms_from_ms=BEGAN_MS + 10**9)
    simulate(world.run())
    world.check()
    assert world.receiver.observed() == {}
    assert len(world.said.of("histograms_refused")) == 1
    assert not world.said.of("request_refused")
    assert not world.said.of("batch_incomplete")
    assert set(world.trouble.now) == {"histograms"}
    moment: Moment | None = world.left
    assert moment is not None
    after = World.after(moment, folder / "taken", uploads, 60_000, measures=TABLE)
    simulate(after.run())
    check(after)


def test_histograms_are_taken_up_by_the_process_that_saw_them_refused(folder: Path) -> None:
    """When the receiver begins to take them while the process runs, all that they missed is told."""
    uploads = with_waits(traffic(3, files=5), 3)
    world = World(folder / "refused", uploads, measures=TABLE, histograms_from_ms=BEGAN_MS + 150_000)
    simulate(world.run())
    check(world)
    assert (len(world.said.of("histograms_refused")), len(world.said.of("histograms_taken"))) == (1, 1)
