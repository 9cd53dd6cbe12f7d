"""Session windows shorter than the run, across kills: viewers count again exactly when they come back."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.test_crash import AWAY_MS
from tests.support import files as log_files
from tests.support.examples import sample
from tests.support.truth import COUNTERS, PLAYERS, WINDOW_GAUGES, Values
from tests.support.virtual_time import simulate
from tests.support.world import BEGAN_MS, Moment, Upload, World, traffic, upload

_EXACT = ("cdn77_transfer_bytes_total", "cdn77_requests_total", "cdn77_responses_total")
_VIEWERS = [name for name in COUNTERS if name not in _EXACT]


def in_step(seed: int, *, files: int = 9, shards: int = 3, lines: int = 5) -> list[Upload]:
    """Files that come together, one of each shard, so that no event is late; viewers come and go, on many devices."""
    draw = random.Random(seed)
    found = []
    for sequence in range(files):
        begin = BEGAN_MS + 30_000 + sequence * 30_000
        for shard in range(shards):
            events = [
                log_files.event(
                    ms,
                    clientIP=f"198.51.100.{draw.randrange(12)}",
                    clientRequestPath=f"/{log_files.stream_name(draw.randrange(2))}/index.m3u8",
                    clientRequestUserAgent=draw.choice(log_files.USER_AGENTS[:3]),
                    clientCountry=draw.choice(("US", "US", "DE")),
                )
                for ms in sorted(draw.randrange(begin, begin + 30_000) for _ in range(lines))
            ]
            found.append(upload(shard, sequence, begin + 35_000, events))
    return found


def lives(folder: Path, uploads: list[Upload], window_seconds: int, seed: int, kills: int = 4) -> Iterator[World]:
    """A run that is killed some times, at random points; each process's world when it has ended."""
    draw = random.Random(seed)
    moment: Moment | None = None
    for number in range(kills + 1):
        where = folder / f"life-{number}"
        if moment is None:
            world = World(where, uploads, seed=seed, window_seconds=window_seconds)
        else:
            away_ms = draw.choice(AWAY_MS[:-1])
            world = World.after(moment, where, uploads, away_ms, seed=seed + number, window_seconds=window_seconds)
        caught = world.catch(draw.randrange(20, 400) if number < kills else 0)
        simulate(world.run())
        yield world
        if not caught:
            return
        moment = caught[0]


def late_events(worlds: list[World]) -> int:
    """How many events were late, as the processes said; one that was counted again is there twice."""
    return sum(int(str(said["late"])) for world in worlds for said in world.said.of("file_counted"))


def check_every_window(world: World) -> None:
    """Every sample of every gauge of a window is how many are in the window at its tick."""
    truth = world.truth
    known: dict[int, dict[str, Values]] = {}
    for labels, samples in world.receiver.series.items():
        pairs = dict(labels)
        name = pairs.pop("__name__")
        if name in WINDOW_GAUGES:
            key = tuple(sorted(pairs.items()))
            for at, value in samples.items():
                if at not in known:
                    known[at] = truth.active(at)
                assert math.isnan(value) or value == known[at][name].get(key, 0), f"{labels} at {at}"
    assert len(known) > 10


def check_every_player(world: World) -> None:
    """What players watch has grown at every sample by what had happened before its tick, to the millisecond.

    A series is at zero on the floor, and where it begins anew behind a gap: there it says nothing yet.
    """
    truth = world.truth
    known: dict[int, dict[str, Values]] = {}
    for labels, samples in world.receiver.series.items():
        pairs = dict(labels)
        name = pairs.pop("__name__")
        if name in PLAYERS:
            key = tuple(sorted(pairs.items()))
            grown = before = 0.0
            for at, value in sorted(samples.items()):
                if at not in known:
                    known[at] = truth.players(at)
                is_counter = name != "cdn77_concurrent_viewers"
                if math.isnan(value) or (is_counter and value == 0):  # where it begins, at the floor or behind a gap
                    before = 0.0
                    continue
                grown = grown + value - before if is_counter else value
                before = value
                assert grown == pytest.approx(known[at][name].get(key, 0), abs=1e-6), f"{labels} at {at}"
            if name != "cdn77_concurrent_viewers":
                newest = max(at for at, value in samples.items() if not math.isnan(value))
                assert grown == pytest.approx(known[newest][name].get(key, 0), abs=1e-6), f"{labels} in the end"
    last = known[max(known)]
    assert sum(last["cdn77_session_watch_seconds_count"].values()) > 2


@pytest.mark.parametrize("seed", sample(range(8), fast=1))
@pytest.mark.parametrize("window_seconds", [15, 40, 100])
def test_kills_do_not_change_who_is_new(folder: Path, window_seconds: int, seed: int) -> None:
    """A viewer counts again after a whole window without a request, whatever was killed, and however often."""
    worlds = list(lives(folder, in_step(seed), window_seconds, seed))
    assert late_events(worlds) == 0
    last = worlds[-1]
    assert last.receiver.values(COUNTERS) == last.truth.counters()
    last.check_every_sample()
    check_every_window(last)
    check_every_player(last)


@pytest.mark.guarantee("viewers.late_event")
@pytest.mark.parametrize("seed", sample(range(8), fast=1))
def test_a_late_event_may_change_what_a_session_was(folder: Path, seed: int) -> None:
    """Requests stay exact; viewers are off by two at most for each event that came when its tick was written.

    An event that would have joined two sessions comes when both are counted, and no counter can go back. One that
    began a session comes when only the session's last event is known.
    """
    window_seconds = 15 * (1 + seed % 4)
    worlds = list(lives(folder, traffic(seed, files=8, lines=6), window_seconds, seed, kills=seed % 3))
    late = late_events(worlds)
    assert late > 0
    values, truth = worlds[-1].receiver.values(COUNTERS), worlds[-1].truth.counters()
    for name in _EXACT:
        assert values[name] == truth[name]
    for name in _VIEWERS:
        assert values[name].keys() == truth[name].keys()
        assert sum(abs(values[name][labels] - truth[name][labels]) for labels in truth[name]) <= 2 * late
