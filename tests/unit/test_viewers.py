"""The window of viewers against brute force over the times of all events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdn77_exporter.core.viewers.movement import Movement
from cdn77_exporter.core.viewers.profiles import Profile, Profiles
from cdn77_exporter.core.viewers.rows import FACET, SEEN, STATE, merge_runs, packed, split, unpacked
from cdn77_exporter.core.viewers.table import Table
from cdn77_exporter.core.viewers.window import Lengths, ViewerWindow
from tests.support.examples import examples

PLACE = ("XX", "Unknown")
Seen = tuple[int, str, str, int]  # viewer, device, country of the log, Unix ms
Label = tuple[str, str]  # what is counted ("all", "device", "country") and its value


def key_of(viewer: int) -> int:
    """An odd number of 64 bits, another one for each viewer, as evenly spread as a hash."""
    return (viewer * 2 + 1) * 0x9E3779B97F4A7C15 % 2**64


def labels_of(device: str, country: str) -> list[Label]:
    """What an event of a viewer counts under."""
    return [("all", ""), ("device", device), ("country", country)]


class BruteForce:
    """Keeps the time of every event and looks through all of them for each answer."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._times: dict[tuple[Label, int], list[int]] = {}
        self.appeared: Counter[Label] = Counter()

    def advance(self, seen: Iterable[Seen]) -> None:
        """Count appearances: a viewer that was not seen in [t - window, t) under a label is new there."""
        for viewer, device, country, at in sorted(seen, key=lambda one: one[3]):
            for label in labels_of(device, country):
                times = self._times.setdefault((label, viewer), [])
                if not any(at - self._window_ms <= before for before in times):
                    self.appeared[label] += 1
                times.append(at)

    def present(self, tick_ms: int) -> Counter[Label]:
        """Distinct viewers with an event in [tick - window, tick), by label."""
        found: Counter[Label] = Counter()
        for (label, _), times in self._times.items():
            found[label] += any(tick_ms - self._window_ms <= at < tick_ms for at in times)
        return +found


def window_of(profiles: Profiles, seconds: int, tick_seconds: int = 15) -> ViewerWindow:
    """Windows of which the session window is the only long one."""
    return ViewerWindow(profiles, Lengths((seconds,), presence=tick_seconds, gap=tick_seconds), tick_seconds)


class Driven:
    """The window under test, with what its movements add up to."""

    def __init__(self, window_seconds: int, tick_seconds: int) -> None:
        self._length = (window_seconds, tick_seconds)
        self.profiles = Profiles()
        self.window = self._empty()
        self.appeared: Counter[Label] = Counter()
        self.held: Counter[Label] = Counter()
        self.runs: list[bytes] = []

    def _empty(self) -> ViewerWindow:
        return window_of(self.profiles, *self._length)

    def rows(self, seen: Iterable[Seen]) -> npt.NDArray[np.void]:
        """Rows as decoding gives them: one for each viewer, device, country and tick, with first and last event."""
        spans: dict[tuple[int, str, str, int], list[int]] = {}
        for viewer, device, country, at in seen:
            spans.setdefault((viewer, device, country, at // self._length[1] // 1000), []).append(at)
        return np.array(
            [
                (key_of(viewer), self.profiles.number(Profile("s", device, country, PLACE)), min(times), max(times))
                for (viewer, device, country, _), times in spans.items()
            ],
            SEEN,
        )

    def advance(self, tick: int, seen: Iterable[Seen]) -> Movement:
        """Let a tick pass."""
        movement = self.window.advance(tick, [self.rows(seen)])
        for number, count in numbers_of(movement.appeared()).items():
            for label in self._labels(number):
                self.appeared[label] += count
        for number, delta in numbers_of(movement.present(self._length[0])).items():
            for label in self._labels(number):
                self.held[label] += delta
        return movement

    def _labels(self, number: int) -> list[Label]:
        profile = self.profiles[number]
        found: list[Label] = [("all", "")] if profile.place else []
        found += [("device", profile.device)] if profile.device else []
        found += [("country", profile.country)] if profile.country else []
        return found

    def restart(self, tick: int, *, merged: bool) -> None:
        """Go on in a new window with what the old ones said had changed."""
        self.runs.append(self.window.take_changes())
        if merged:
            self.runs = merge_runs(self.runs, (tick - self._length[0]) * 1000)
        self.window = self._empty()
        self.window.restore(self.runs, tick * 1000)

    def counted(self) -> Counter[Label]:
        """What a count over all viewers in the window gives."""
        found: Counter[Label] = Counter()
        for number, count in numbers_of(self.window.present(self._length[0])).items():
            for label in self._labels(number):
                found[label] += count
        return found


def numbers_of(counts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> dict[int, int]:
    """Counts by profile."""
    return dict(zip(counts[0].tolist(), counts[1].tolist(), strict=True))


def ticks_of(tick_seconds: int, seen: Iterable[Seen]) -> dict[int, list[Seen]]:
    """Events by the tick after them."""
    found: dict[int, list[Seen]] = {}
    for one in seen:
        found.setdefault((one[3] // 1000 // tick_seconds + 1) * tick_seconds, []).append(one)
    return found


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from(["web", "roku"]), st.sampled_from(["CZ", "US"]), st.integers(0, 250_000)
    ),
    max_size=40,
)


@given(
    st.sampled_from([15, 20, 47, 60, 120]),
    st.sampled_from([7, 15]),
    EVENTS,
    st.sets(st.integers(0, 40)),
    st.booleans(),
)
@example(60, 15, [(0, "web", "CZ", 0), (0, "web", "CZ", 60_000)], set(), False)
@example(60, 15, [(0, "web", "CZ", 0), (0, "web", "CZ", 60_001)], set(), False)
@example(15, 7, [(0, "web", "CZ", 7000), (0, "web", "US", 0)], {1}, False)  # found: the first facets were not kept
@examples(80)
def test_every_tick_is_what_brute_force_says(
    window: int, step: int, seen: list[Seen], restarts: set[int], merged: bool
) -> None:
    """Appearances and those present are exact at every tick, by device and country too, across restarts."""
    driven, truth = Driven(window, step), BruteForce(window * 1000)
    by_tick = ticks_of(step, seen)
    for number, tick in enumerate(range(step, 420, step)):
        driven.advance(tick, by_tick.get(tick, []))
        truth.advance(by_tick.get(tick, []))
        assert driven.appeared == truth.appeared
        assert +driven.held == truth.present(tick * 1000)
        assert driven.counted() == +driven.held
        if number in restarts:
            driven.restart(tick, merged=merged)
            assert driven.counted() == +driven.held
    assert len(driven.window) == 0


def as_it_stands(last: dict[tuple[Label, int], int], seen: Iterable[Seen], window_ms: int) -> Counter[Label]:
    """Appearances against the window as it stands: a late event of somebody who has left is an appearance."""
    found: Counter[Label] = Counter()
    for viewer, device, country, at in sorted(seen, key=lambda one: one[3]):
        for label in labels_of(device, country):
            if (label, viewer) not in last or at - last[label, viewer] > window_ms:
                found[label] += 1
            last[label, viewer] = max(at, last.get((label, viewer), at))
    return found


LATE = st.lists(
    st.tuples(
        st.tuples(st.integers(0, 3), st.sampled_from(["web", "roku"]), st.just("CZ"), st.integers(0, 200_000)),
        st.integers(0, 150_000),
    ),
    max_size=30,
)


@given(st.sampled_from([20, 60, 165]), LATE, st.sets(st.integers(0, 40)))
@examples(80)
def test_late_events_count_in_the_window_they_belong_to(
    window: int, seen: list[tuple[Seen, int]], restarts: set[int]
) -> None:
    """A viewer that is taken in late is in the window as long as its events are, and appears as often as it returns."""
    driven, truth = Driven(window, 15), BruteForce(window * 1000)
    last: dict[tuple[Label, int], int] = {}
    appeared: Counter[Label] = Counter()
    by_tick: dict[int, list[Seen]] = {}
    for one, lateness in seen:
        by_tick.setdefault(((one[3] + lateness) // 15_000 + 1) * 15, []).append(one)
    for number, tick in enumerate(range(15, 600, 15)):
        driven.advance(tick, by_tick.get(tick, []))
        truth.advance(by_tick.get(tick, []))
        appeared += as_it_stands(last, by_tick.get(tick, []), window * 1000)
        last = {key: at for key, at in last.items() if at >= (tick - window) * 1000}
        assert +driven.held == truth.present(tick * 1000)
        assert min(driven.held.values(), default=0) >= 0
        assert driven.counted() == +driven.held
        assert driven.appeared == appeared
        if number in restarts:
            driven.restart(tick, merged=bool(number % 2))
    assert len(driven.window) == 0


def test_a_late_event_does_not_take_a_viewer_back() -> None:
    """An event that is older than the viewer's newest one neither counts as an appearance nor shortens its stay."""
    driven = Driven(60, 15)
    driven.advance(105, [(1, "web", "CZ", 100_000)])
    driven.advance(120, [(1, "web", "CZ", 10_000)])
    assert driven.appeared["all", ""] == 1
    driven.advance(150, [])
    assert driven.held["all", ""] == 1
    driven.advance(165, [])
    assert driven.held["all", ""] == 0


@pytest.mark.guarantee("viewers.late_visits")
def test_late_visits_in_one_tick_are_told_apart() -> None:
    """Two late events of a viewer, further apart than the window, are two appearances, though one tick takes both."""
    driven = Driven(300, 15)
    driven.advance(3600, [(1, "web", "CZ", 1_000_000), (1, "web", "CZ", 1_400_000), (1, "web", "CZ", 1_500_000)])
    assert driven.appeared == {("all", ""): 2, ("device", "web"): 2, ("country", "CZ"): 2}


@pytest.mark.guarantee("viewers.place")
def test_a_viewer_moves_to_its_new_place_with_its_next_event() -> None:
    """With another place the viewer leaves one profile for the other; it neither appears again nor gets facets."""
    profiles = Profiles()
    here, there = (profiles.number(Profile("s", "web", "CZ", place)) for place in (PLACE, ("CZ", "Prague")))
    window = window_of(profiles, 300)
    rows = np.array([(key_of(1), here, 1000, 1000), (key_of(2), here, 2000, 2000)], SEEN)
    window.advance(15, [rows])
    movement = window.advance(30, [np.array([(key_of(1), there, 16_000, 17_000)], SEEN)])
    assert numbers_of(movement.appeared()) == {}
    assert numbers_of(movement.present(300)) == {here: -1, there: 1}
    movement = window.advance(315, [])
    assert numbers_of(movement.present(300)) == {here: -1}
    assert len(profiles) == 2 + 4  # the two, their wholes, and the two facets that nobody has


def test_a_viewer_with_several_devices_moves_too() -> None:
    """Its device and country facets stay as they are while its place changes."""
    profiles = Profiles()
    window = window_of(profiles, 300)
    web, roku = (profiles.number(Profile("s", device, "CZ", PLACE)) for device in ("web", "roku"))
    window.advance(15, [np.array([(key_of(1), web, 1000, 1000), (key_of(1), roku, 2000, 2000)], SEEN)])
    moved = profiles.number(Profile("s", "web", "CZ", ("CZ", "Prague")))
    movement = window.advance(30, [np.array([(key_of(1), moved, 16_000, 16_000)], SEEN)])
    assert numbers_of(movement.appeared()) == {}
    assert {profiles[number]: delta for number, delta in numbers_of(movement.present(300)).items()} == {
        Profile("s", None, None, PLACE): -1,
        Profile("s", None, None, ("CZ", "Prague")): 1,
    }


def test_many_viewers_come_and_go() -> None:
    """The table grows and is cleared of those who left, and counts exactly on every tick."""
    driven = Driven(60, 15)
    source = np.random.default_rng(7)
    profile = driven.profiles.number(Profile("s", "web", "CZ", PLACE))
    last: dict[int, int] = {}
    appeared = held = 0
    for tick in range(15, 900, 15):
        rows = np.zeros(1500, SEEN)
        rows["key"] = [key_of(viewer) for viewer in source.integers(0, 40_000, 1500).tolist()]
        rows["first"] = rows["last"] = source.integers((tick - 15) * 1000, tick * 1000, 1500)
        rows["profile"] = profile
        expected = 0
        for key, at in sorted(zip(rows["key"].tolist(), rows["last"].tolist(), strict=True), key=lambda one: one[1]):
            expected += key not in last or at - last[key] > 60_000
            last[key] = at
        movement = driven.window.advance(tick, [rows])
        appeared = numbers_of(movement.appeared()).get(profile, 0)
        held += numbers_of(movement.present(60)).get(profile, 0)
        assert appeared == expected
        assert held == sum(at >= (tick - 60) * 1000 for at in last.values()) == len(driven.window)
    assert driven.window.size_bytes < 60 * len(driven.window)


def one_profile() -> Profiles:
    profiles = Profiles()
    profiles.number(Profile("s", "web", "CZ", PLACE))
    return profiles


def test_colliding_places_are_told_apart() -> None:
    """Viewers whose keys begin at the same place of the table are all found again, also after some have left."""
    window = window_of(one_profile(), 60)
    table = Table()
    keys = np.arange(1, 1 << 62, 1 << 45, dtype=np.uint64)
    last = table.capacity - 1  # so that probing goes on at the first place
    crowded = keys[table._home(keys) == last][:40]
    assert len(crowded) == 40
    rows = np.zeros(40, SEEN)
    rows["key"] = crowded
    rows["first"] = rows["last"] = [1000 if place % 2 else 14_000 for place in range(40)]
    assert numbers_of(window.advance(15, [rows]).present(60)) == {0: 40}

    def moved(tick: int) -> tuple[dict[int, int], dict[int, int]]:
        movement = window.advance(tick, [again])
        return numbers_of(movement.appeared()), numbers_of(movement.present(60))

    again = rows[::2].copy()
    again["first"] = again["last"] = 61_000
    assert moved(75) == ({}, {0: -20})
    again = again[:0]
    assert moved(90) == ({}, {})
    assert moved(135) == ({}, {0: -20})


def test_merging_runs_keeps_the_latest_row_of_each() -> None:
    """Two runs merged, and merged with a third, restore the same window as all three; who has left is dropped."""
    driven = Driven(60, 15)
    runs = []
    for tick, seen in (
        (15, [(1, "web", "CZ", 1000), (2, "web", "CZ", 2000)]),
        (30, [(1, "roku", "CZ", 20_000), (3, "web", "CZ", 21_000)]),
        (75, [(3, "web", "CZ", 70_000)]),
    ):
        driven.advance(tick, seen)
        runs.append(driven.window.take_changes())
    merged = merge_runs([*merge_runs(runs[:2], 15_000), runs[2]], 15_000)
    assert len(b"".join(merged)) < len(b"".join(runs))
    found = []
    for given_runs in (runs, merged):
        window = window_of(driven.profiles, 60)
        window.restore(given_runs, 75_000)
        found.append((numbers_of(window.present(60)), numbers_of(window.advance(90, []).present(60)), len(window)))
    assert found[0] == found[1]


def test_large_runs_are_merged_as_small_ones_are() -> None:
    """So many rows that they are merged in parts: of each viewer and facet the last one, unless it is too old."""
    draw = np.random.default_rng(1)
    known = draw.integers(1, 1 << 63, 30_000, np.uint64) * np.uint64(2) + np.uint64(1)
    runs = []
    for number in range(3):
        rows = np.zeros(20_000, STATE)
        rows["key"] = draw.choice(known, len(rows))
        rows["profile"] = draw.integers(0, 4, len(rows))
        rows["profile"][::7] |= FACET
        rows["seen"] = number * 1000 + draw.integers(0, 1000, len(rows))
        rows["watched"] = draw.integers(0, 9, len(rows))
        runs.append(rows)
    latest: dict[tuple[int, int], tuple[int, ...]] = {}
    for row in np.concatenate(runs).tolist():
        key, profile, seen, _ = row
        if seen >= 500:
            latest[key, profile if profile & FACET else -1] = row
    parts = [unpacked(part) for part in merge_runs(map(packed, runs), 500)]
    assert all(len(split(part)[number]) == len(part) > 0 for number, part in enumerate(parts))
    merged = np.concatenate(parts)
    assert sorted(merged.tolist()) == sorted(latest.values())


def test_profiles_keep_their_numbers() -> None:
    """A profile has one number, is new once, and has the same number after a restart."""
    profiles = Profiles()
    made = [Profile("s", "web", "CZ", PLACE), Profile("s", None, "CZ", None)]
    assert [profiles.number(profile) for profile in (*made, *made)] == [0, 1, 0, 1]
    assert profiles.take_new() == list(enumerate(made))
    assert profiles.take_new() == []
    restored = Profiles()
    restored.restore(enumerate(made))
    assert restored.take_new() == []
    assert restored.number(made[1]) == 1
    assert len(restored) == 2
