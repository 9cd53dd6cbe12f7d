"""Arrival times of log files in the bucket, and how early the next poll should start to find them fresh.

Files appear at a steady pace and polls run at another. Where in that pace the polls fall decides how long files wait
for a poll; after an unlucky start the wait would stay long for as long as the process runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

#: Files that are remembered; of more, those counted first are forgotten.
MAX_ARRIVALS = 1000
#: A poll comes early by at most this share of the interval.
MOST_LEAD = 0.75
_VISIBLE_MS = 2000  # after its LastModified, which may be cut to whole seconds, a file is surely listed
_HISTORY_MS = 300_000  # the span of past polls that are compared
_LEAST_MS = 60_000  # the shortest span that is enough
_MOST_STEPS = 60  # leads that are compared, at least a second apart
_WORTH_MS = 2000  # a smaller gain than this,
_WORTH_SHARE = 1 / 20  # or than this share of the interval, is not worth an early poll


@dataclass(frozen=True, slots=True)
class Lead:
    """Seconds by which a poll should come early, and seconds by which samples are then fresher on average."""

    seconds: float
    gain: float


NO_LEAD = Lead(0.0, 0.0)


class Arrivals:
    """The files counted last: when each could be listed, and how far its shard had come with it.

    For any instant of the last minutes they tell the last tick that was complete for a poll at that instant; as for the
    watermark, a shard is live for `idle_seconds` after each of its files.
    """

    def __init__(self, tick_seconds: int = 15, idle_seconds: float = 120) -> None:
        self._tick_ms = tick_seconds * 1000
        self._idle_ms = int(idle_seconds * 1000)
        self._files: deque[tuple[int, str, int]] = deque(maxlen=MAX_ARRIVALS)  # visible, shard, newest event (Unix ms)

    def __len__(self) -> int:
        return len(self._files)

    def counted(self, shard: str, modified_ms: int, newest_ms: int) -> None:
        """Add a counted file; `newest_ms` is its newest event, 0 when it had none (Unix ms, as is LastModified)."""
        if newest_ms:
            self._files.append((modified_ms + _VISIBLE_MS, shard, newest_ms))

    def lead(self, poll_ms: int, interval: float) -> Lead:
        """Return how early the poll `interval` seconds after the one at `poll_ms` (Unix ms, bucket's clock) should be.

        Compares what polls of the last five minutes, an interval apart, would have found had all of them been earlier
        by that much. A lead gains nothing where the pace of the files is unrelated to the interval.
        """
        interval_ms = round(interval * 1000)
        files, since = self._of_steady_shards(poll_ms - _HISTORY_MS - 2 * interval_ms, poll_ms)
        step_ms = max(1000, interval_ms // _MOST_STEPS)
        leads = range(0, int(MOST_LEAD * interval_ms) + 1, step_ms)
        cycles = min((poll_ms - leads[-1] - since) // interval_ms + 1, max(1, _HISTORY_MS // interval_ms))
        if cycles * interval_ms < _LEAST_MS:
            return NO_LEAD
        polls = sorted((poll_ms - lead - cycle * interval_ms, lead) for lead in leads for cycle in range(cycles))
        behind = dict.fromkeys(leads, 0)
        for at_ms, lead, complete_ms in self._complete_at(polls, files):
            behind[lead] += at_ms - complete_ms
        best = min(leads, key=lambda lead: (behind[lead], lead))
        gain = (behind[0] - behind[best]) / cycles
        if gain < max(_WORTH_MS, interval_ms * _WORTH_SHARE):
            return NO_LEAD
        return Lead(best / 1000, gain / 1000)

    def _of_steady_shards(self, after_ms: int, poll_ms: int) -> tuple[list[tuple[int, str, int]], int]:
        """Return the files of shards that go on, in the order of their appearance, and the first time (Unix ms).

        From that time on there is a file of each of these shards. A shard that has ended holds the watermark for a
        while whenever the bucket is listed, so it is left out.
        """
        files = sorted(file for file in self._files if after_ms < file[0] <= poll_ms)
        times: dict[str, list[int]] = {}
        for visible_ms, shard, _ in files:
            times.setdefault(shard, []).append(visible_ms)
        steady = {
            shard
            for shard, seen in times.items()
            if len(seen) > 1 and poll_ms - seen[-1] <= 2 * max(later - sooner for sooner, later in pairwise(seen))
        }
        return [file for file in files if file[1] in steady], max(
            (times[shard][0] for shard in steady), default=poll_ms
        )

    def _complete_at(
        self, polls: Iterable[tuple[int, int]], files: list[tuple[int, str, int]]
    ) -> Iterable[tuple[int, int, int]]:
        """Yield each poll (its time and lead, by time) with the last tick that was complete then (Unix ms)."""
        shards: dict[str, tuple[int, int]] = {}  # the last file of each: newest event, visible since
        reached: dict[int, int] = {}  # lead -> the latest complete tick of polls with it; it never goes back
        coming = iter(files)
        file = next(coming, None)
        for at_ms, lead in polls:
            while file is not None and file[0] <= at_ms:
                visible_ms, shard, newest_ms = file
                shards[shard] = max(shards.get(shard, (0, 0))[0], newest_ms), visible_ms
                file = next(coming, None)
            since = at_ms - self._idle_ms
            live = [newest_ms for newest_ms, visible_ms in shards.values() if visible_ms >= since]
            reached[lead] = max(reached.get(lead, 0), min(live, default=0) // self._tick_ms * self._tick_ms)
            yield at_ms, lead, reached[lead]
