"""Watch time, concurrent viewers and sessions against brute force over every request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from cdn77_exporter.core.viewers.movement import Movement
from cdn77_exporter.core.viewers.profiles import Profile, Profiles
from cdn77_exporter.core.viewers.rows import SEEN, merge_runs
from cdn77_exporter.core.viewers.window import Lengths, ViewerWindow
from tests.support.examples import examples
from tests.support.players import Players
from tests.unit.test_viewers import key_of, numbers_of

Seen = tuple[int, str, str, int]  # viewer, device, country of the log, Unix ms
DEVICES, COUNTRIES = ("web", "roku"), ("CZ", "US")


class Driven:
    """The windows under test, with what their movements add up to by device."""

    def __init__(self, lengths: Lengths, tick_seconds: int) -> None:
        self.lengths, self._tick = lengths, tick_seconds
        self.profiles = Profiles()
        self.window = ViewerWindow(self.profiles, lengths, tick_seconds)
        self.watched: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()
        self.over: dict[str, list[int]] = {device: [] for device in DEVICES}
        self.held: dict[int, Counter[str]] = {length: Counter() for length in lengths.counted}
        self._runs: list[bytes] = []

    def _rows(self, seen: Iterable[Seen]) -> np.ndarray:
        spans: dict[tuple[int, str, str, int], list[int]] = {}
        for viewer, device, country, at in seen:
            spans.setdefault((viewer, device, country, at // self._tick // 1000), []).append(at)
        place = ("XX", "Unknown")
        return np.array(
            [
                (key_of(viewer), self.profiles.number(Profile("s", device, country, place)), min(times), max(times))
                for (viewer, device, country, _), times in spans.items()
            ],
            SEEN,
        )

    def advance(self, tick: int, seen: Iterable[Seen]) -> Movement:
        """Let a tick pass."""
        movement = self.window.advance(tick, [self._rows(seen)])
        for total, counts in ((self.watched, movement.watched()), (self.begun, movement.begun())):
            for number, count in numbers_of(counts).items():
                if device := self.profiles[number].device:
                    total[device] += count
                    assert count > 0
        for number, watched in zip(*(one.tolist() for one in movement.over()), strict=True):
            if device := self.profiles[number].device:
                self.over[device].append(watched)
        for length, held in self.held.items():
            for number, count in numbers_of(movement.present(length)).items():
                if device := self.profiles[number].device:
                    held[device] += count
        return movement

    def restart(self, tick: int, *, merged: bool) -> None:
        """Go on in new windows with what the old ones said had changed."""
        self._runs.append(self.window.take_changes())
        if merged:
            self._runs = merge_runs(self._runs, (tick - self.lengths.kept) * 1000)
        self.window = ViewerWindow(self.profiles, self.lengths, self._tick)
        self.window.restore(self._runs, tick * 1000)

    def change(self, lengths: Lengths, tick: int) -> None:
        """Go on with other lengths."""
        before, self.lengths = self.lengths, lengths
        self._runs.append(self.window.take_changes())
        self.window = ViewerWindow(self.profiles, lengths, self._tick)
        self.window.restore(self._runs, tick * 1000, presence=before.presence, gap=before.gap)
        self.held = {length: self.counted(length) for length in lengths.counted}

    def counted(self, length: int) -> Counter[str]:
        """What a count over all who are in a window gives."""
        found: Counter[str] = Counter()
        for number, count in numbers_of(self.window.present(length)).items():
            if device := self.profiles[number].device:
                found[device] += count
        return found


REQUESTS = st.lists(
    st.tuples(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(DEVICES),
            st.sampled_from(COUNTRIES),
            # Times that differ by exactly a presence or a gap are as many as any others.
            st.one_of(st.integers(0, 200_000), st.integers(0, 14).map(lambda number: number * 15_000)),
        ),
        st.sampled_from([0, 0, 0, 0, 14_000, 40_000, 100_000, 200_000]),
    ),
    max_size=40,
)
LENGTHS = st.sampled_from(
    [
        Lengths((60,), 15, 15),
        Lengths((60,), 15, 30),
        Lengths((120, 45), 30, 60),
        Lengths((30,), 30, 120),
        Lengths((20, 300), 45, 45),
    ]
)


CHANGES = st.sampled_from(
    [
        (Lengths((60,), 15, 30), Lengths((60,), 45, 60)),
        (Lengths((60,), 45, 60), Lengths((60,), 15, 30)),
        (Lengths((60,), 30, 120), Lengths((60, 300), 30, 30)),
        (Lengths((120,), 30, 30), Lengths((45,), 60, 120)),
        (Lengths((30,), 20, 120), Lengths((30,), 120, 120)),
    ]
)


def united(times: Iterable[int], presence_ms: int, begin: int, end: int) -> int:
    """How long somebody is present between two instants who has made these requests."""
    spans = sorted((max(at, begin), min(at + presence_ms, end)) for at in times)
    total, reached = 0, begin
    for first, last in spans:
        total += max(0, last - max(first, reached))
        reached = max(reached, last)
    return total


@given(CHANGES, REQUESTS, st.integers(1, 20))
@examples(60)
def test_lengths_may_change_between_processes(
    lengths: tuple[Lengths, Lengths], requests: list[tuple[Seen, int]], number: int
) -> None:
    """What was present up to the change is so by the old length, from then on by the new one; all of it is in some
    session that is over at the end, and every session that began."""
    driven = Driven(lengths[0], 15)
    seen = [one for one, _ in requests]
    by_tick: dict[int, list[Seen]] = {}
    for one in seen:
        by_tick.setdefault((one[3] // 15_000 + 1) * 15, []).append(one)
    change = number * 15
    for tick in range(15, 600, 15):
        driven.advance(tick, by_tick.get(tick, []))
        if tick == change:
            driven.change(lengths[1], tick)
        expected: Counter[str] = Counter()
        for player in {one[:2] for one in seen}:
            times = sorted(one[3] for one in seen if one[:2] == player and one[3] < tick * 1000)
            now = min(tick, change) * 1000
            before = [at for at in times if at < now]
            if before and before[-1] < now - lengths[0].gap * 1000:  # a session that is over has no more presence
                times = times[len(before) :]
            expected[player[1]] += united(before, lengths[0].presence * 1000, 0, now) + united(
                times, lengths[1].presence * 1000, now, tick * 1000
            )
        assert driven.watched == +expected
        for length in driven.window.lengths.counted:
            assert (
                driven.counted(length)
                == {
                    device: there
                    for device in DEVICES
                    if (
                        there := len(
                            {
                                one[0]
                                for one in seen
                                if one[1] == device and (tick - length) * 1000 <= one[3] < tick * 1000
                            }
                        )
                    )
                }
                or length > lengths[0].kept
            )
    assert sum(map(len, driven.over.values())) == driven.begun.total()
    assert sum(map(sum, driven.over.values())) == driven.watched.total()


def drive(
    lengths: Lengths, step: int, requests: Iterable[tuple[Seen, int]], restarts: dict[int, bool], skipped: set[int]
) -> None:
    """Let all requests arrive, so much late each, and compare on every tick that is not skipped."""
    driven = Driven(lengths, step)
    truth = {device: Players[int](lengths.presence, lengths.gap, lengths.kept) for device in DEVICES}
    by_tick: dict[int, list[Seen]] = {}
    for one, lateness in requests:
        by_tick.setdefault(((one[3] + lateness) // 1000 // step + 1) * step, []).append(one)
    for number, tick in enumerate(range(step, 750, step)):
        seen = by_tick.get(tick, [])
        if number in skipped and not seen:
            continue
        driven.advance(tick, seen)
        for device, players in truth.items():
            players.settle(tick, [(viewer, at) for viewer, own, _, at in seen if own == device])
            assert driven.watched[device] == players.watched_ms(), (tick, device)
            assert driven.held[lengths.presence][device] == players.concurrent(), (tick, device)
            assert driven.begun[device] == players.begun(), (tick, device)
            assert sorted(driven.over[device]) == sorted(players.over()), (tick, device)
        for length, held in driven.held.items():
            assert +held == driven.counted(length)
        if number in restarts:
            driven.restart(tick, merged=restarts[number])
            for length, held in driven.held.items():
                assert +held == driven.counted(length)
    assert len(driven.window) == 0
    assert sum(map(len, driven.over.values())) == driven.begun.total()
    assert sum(map(sum, driven.over.values())) == driven.watched.total()


@given(
    LENGTHS,
    st.sampled_from([5, 15]),
    REQUESTS,
    st.dictionaries(st.integers(0, 100), st.booleans(), max_size=6),
    st.sets(st.integers(0, 200)),
)
@examples(60)
@example(Lengths((60,), 15, 30), 15, [((0, "web", "CZ", 0), 0), ((0, "web", "CZ", 30_000), 0)], {}, set())
@example(Lengths((60,), 15, 30), 15, [((0, "web", "CZ", 0), 0), ((0, "web", "CZ", 30_001), 0)], {}, set())
@example(Lengths((60,), 15, 30), 15, [((0, "web", "CZ", 0), 0), ((0, "web", "CZ", 15_001), 0)], {}, set())
@example(Lengths((60,), 15, 30), 15, [((0, "web", "CZ", 0), 0), ((0, "roku", "US", 10_000), 0)], {0: True}, set())
def test_every_tick_is_what_brute_force_says(
    lengths: Lengths,
    step: int,
    requests: list[tuple[Seen, int]],
    restarts: dict[int, bool],
    skipped: set[int],
) -> None:
    """Watch time, players present and sessions are exact to the millisecond at every tick, with several devices and
    late requests, across restarts, and when ticks are skipped; all that was watched is in some session."""
    drive(lengths, step, requests, restarts, skipped)
