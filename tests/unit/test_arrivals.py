"""When a poll should come early, against a plain account of what polls would find."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import assume, given
from hypothesis import strategies as st

from cdn77_exporter.core.arrivals import MAX_ARRIVALS, NO_LEAD, Arrivals
from tests.support.examples import examples

NOW = 1_700_000_040_000  # a whole minute
VISIBLE = 2000  # after its LastModified a file is there for sure


@dataclass(frozen=True)
class Pace:
    """Files of some shards: each ends so many seconds after a multiple of `distance` and appears after `upload`."""

    distance: int
    offsets: tuple[int, ...]
    upload: int = 2

    def behind(self, at_ms: int) -> int:
        """How far the last tick that is complete for a poll lies behind it, in milliseconds."""
        ends = [
            at_ms - VISIBLE - (at_ms - VISIBLE - (offset + self.upload) * 1000) % (self.distance * 1000)
            for offset in self.offsets
        ]
        return at_ms - min(end - self.upload * 1000 - 1 for end in ends) // 15_000 * 15_000

    def fill(self, arrivals: Arrivals, until_ms: int, seconds: int) -> None:
        """Count all files that appeared in the seconds until then."""
        first_ms = until_ms - seconds * 1000
        for second in range(-(-first_ms // 1000), until_ms // 1000 + 1):
            for shard, offset in enumerate(self.offsets):
                if (second - offset - self.upload) % self.distance == 0:
                    arrivals.counted(str(shard), second * 1000, (second - self.upload) * 1000 - 1)


PACES = st.builds(
    Pace,
    distance=st.sampled_from([10, 15, 30, 60]),
    offsets=st.lists(st.integers(0, 59), min_size=1, max_size=5).map(tuple),
    upload=st.integers(0, 8),
)


@given(PACES, st.sampled_from([60, 120, 180]), st.integers(0, 120_000))
@examples(300)
def test_what_a_lead_promises_comes_true(pace: Pace, interval: int, later: int) -> None:
    """With files at a pace that the interval is a multiple of, samples are more recent by exactly the gain."""
    arrivals, poll_ms = Arrivals(), NOW + later
    pace.fill(arrivals, poll_ms, 900)
    found = arrivals.lead(poll_ms, interval)
    next_ms = poll_ms + interval * 1000
    gain = pace.behind(next_ms) - pace.behind(next_ms - round(found.seconds * 1000))
    assert gain == round(found.gain * 1000)
    assert 0 <= found.seconds <= 0.75 * interval
    steps = [pace.behind(next_ms - lead) for lead in range(0, interval * 750 + 1, max(1000, interval * 1000 // 60))]
    most = pace.behind(next_ms) - min(steps)
    worth = max(2000, interval * 50)
    assert gain == (most if most >= worth else 0)


@given(PACES, st.sampled_from([5, 15, 30, 60, 120]), st.integers(0, 120_000))
@examples(100)
def test_the_polls_come_to_rest(pace: Pace, interval: int, later: int) -> None:
    """After a few leads there is nothing more to gain, where the interval and the pace of the files go together."""
    assume(interval % pace.distance == 0 or pace.distance % interval == 0)
    arrivals, poll_ms, leads = Arrivals(), NOW + later, 0
    pace.fill(arrivals, poll_ms, 900)
    for _ in range(12):
        before, lead = poll_ms, arrivals.lead(poll_ms, interval)
        leads += lead is not NO_LEAD
        poll_ms += round((interval - lead.seconds) * 1000)
        pace.fill(arrivals, poll_ms, -(-(poll_ms - before - 1) // 1000))
    assert leads <= 4
    assert arrivals.lead(poll_ms, interval) is NO_LEAD


def test_without_a_minute_of_history_there_is_no_lead() -> None:
    """Nothing counted, or too little, or long ago: the interval stays as it is."""
    pace = Pace(30, (5,))
    empty = Arrivals()
    assert empty.lead(NOW, 60) is NO_LEAD
    assert empty.lead(NOW, 1) is NO_LEAD
    short = Arrivals()
    pace.fill(short, NOW, 60)
    assert short.lead(NOW, 15) is NO_LEAD
    assert short.lead(NOW, 120) is NO_LEAD
    enough = Arrivals()
    pace.fill(enough, NOW, 120)
    assert enough.lead(NOW, 15) is not NO_LEAD
    assert enough.lead(NOW, 60) is not NO_LEAD
    assert enough.lead(NOW + 3_600_000, 60) is NO_LEAD


def test_a_shard_that_ended_and_one_that_just_began_do_not_count() -> None:
    """They hold the watermark, or have no pace yet, whenever the bucket is listed."""
    arrivals, pace = Arrivals(), Pace(30, (5, 15))
    pace.fill(arrivals, NOW, 600)
    expected = arrivals.lead(NOW, 60)
    assert expected is not NO_LEAD
    Pace(30, (0, 0, 0)).fill(arrivals, NOW - 120_000, 60)
    for ago in (200_000, 230_000, 260_000):
        arrivals.counted("ended", NOW - ago, NOW - ago - 5000)
    arrivals.counted("new", NOW - 10_000, NOW - 15_000)
    arrivals.counted("ahead", NOW + 60_000, NOW)
    arrivals.counted("empty", NOW - 30_000, 0)
    assert arrivals.lead(NOW, 60) == expected


@given(st.lists(st.tuples(st.integers(20, 130), st.integers(0, 9)), min_size=1, max_size=4), st.data())
@examples(200)
def test_a_lead_is_the_best_by_a_plain_account_of_the_watermark(
    shards: list[tuple[int, int]], data: st.DataObject
) -> None:
    """With shards of any pace, each waited for while it is live, and no tick taken back."""
    interval = data.draw(st.sampled_from([15, 30, 60, 100]))
    idle = data.draw(st.sampled_from([30, 60, 120])) * 1000
    draw = data.draw(st.randoms(use_true_random=False))
    files = []
    for shard, (distance, jitter) in enumerate(shards):
        at = NOW - 700_000 + draw.randrange(distance * 1000)
        while at <= NOW:
            files.append((at, str(shard), at - 2000 - draw.randrange(5000)))
            at += distance * 1000 + draw.randrange(jitter * 1000 + 1)
    arrivals = Arrivals(15, idle / 1000)
    for modified_ms, name, newest_ms in files:
        arrivals.counted(name, modified_ms, newest_ms)
    after = NOW - 300_000 - 2 * interval * 1000 - VISIBLE
    known = [file for file in files if after < file[0] <= NOW - VISIBLE]
    cycles = max(1, 300 // interval)
    step = max(1000, interval * 1000 // 60)
    leads = list(range(0, interval * 750 + 1, step))
    assume(
        all(
            min(file[0] for file in known if file[1] == str(shard)) + VISIBLE
            <= NOW - leads[-1] - (cycles - 1) * interval * 1000
            for shard in range(len(shards))
        )
    )

    def behind(lead: int) -> float:
        reached, total = 0, 0
        for cycle in reversed(range(cycles)):
            at_ms = NOW - lead - cycle * interval * 1000
            live = []
            for shard in range(len(shards)):
                found = [file for file in known if file[1] == str(shard) and file[0] + VISIBLE <= at_ms]
                if at_ms - (found[-1][0] + VISIBLE) <= idle:
                    live.append(max(file[2] for file in found))
            reached = max(reached, min(live, default=0) // 15_000 * 15_000)
            total += at_ms - reached
        return total / cycles

    plain = {lead: behind(lead) for lead in leads}
    best = min(leads, key=lambda lead: (plain[lead], lead))
    gain = plain[0] - plain[best]
    found = arrivals.lead(NOW, interval)
    if gain < max(2000, interval * 50):
        assert found is NO_LEAD
    else:
        assert (found.seconds, found.gain) == (best / 1000, gain / 1000)


def test_memory_is_bounded() -> None:
    """The files counted first are forgotten; too many shards for a look back mean no lead."""
    arrivals = Arrivals()
    Pace(30, tuple(range(30)) * 20).fill(arrivals, NOW, 600)
    assert len(arrivals) == MAX_ARRIVALS
    assert arrivals.lead(NOW, 60) is NO_LEAD
