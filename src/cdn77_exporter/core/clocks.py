"""Decides what time it is: three witnesses in, a time that is believed out, or doubt.

The witnesses are this machine's clock, the bucket's, and the newest events of files that arrive, which may lag by
minutes but do not lead. Nothing is believed of one of them alone, nor of two before they have agreed for a while: so
neither a wrong clock nor one that is wrong for seconds moves anything that cannot be moved back.

Each reading is kept as its distance to a clock that never jumps, which carries it on. `steady` is always the time in
seconds on that clock, every other time is in Unix milliseconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

#: Clocks that differ by less are both right.
NEAR_MS = 60_000
#: Witnesses that differ by less agree; events lag by minutes.
AGREE_MS = 600_000
#: How long, and how often, witnesses must agree on another time than the believed one before it is believed.
CONFIRM_SECONDS = 30.0
CONFIRM_ANSWERS = 3
_SAME_MS = 5_000  # so far a clock may be moved, or two be apart, without being asked about it
_EVENTS_SECONDS = 600.0  # the newest event of so long a span is the witness,
_EVENTS_LAST_SECONDS = 3600.0  # for so long at most


class ClockSource(StrEnum):
    """The clock that is believed."""

    AUTO = "auto"
    MACHINE = "machine"
    BUCKET = "bucket"


@dataclass(slots=True)
class _Pending:
    """A time that may be believed soon."""

    offset_ms: float
    since: float
    answers: int = 0


class Clocks:
    """Takes readings of the witnesses, and says which time is believed."""

    def __init__(self, source: ClockSource = ClockSource.AUTO) -> None:
        self._source = source
        self._machine: float | None = None
        self._bucket: float | None = None
        self._events: deque[tuple[float, float]] = deque(maxlen=1000)  # when they came, and their distances
        self._carried: float | None = None  # what was believed last; the clock that never jumps carries it on
        self._doubt = True
        self._moved = False  # whether a clock was set since the start
        self._apart_since: float | None = None
        self._pending: _Pending | None = None

    # Readings

    def machine(self, now_ms: float, steady: float) -> None:
        """Note what this machine's clock shows."""
        self._machine = self._read(self._machine, now_ms - steady * 1000)
        self._judge(steady, answers=0)

    def bucket(self, now_ms: float, steady: float) -> None:
        """Note what the bucket's clock showed at `steady`, by a successful answer."""
        self._bucket = self._read(self._bucket, now_ms - steady * 1000)
        self._judge(steady, answers=1)

    def events(self, newest_ms: float, arrived: float, steady: float) -> None:
        """Note the newest event of a file that came into the bucket shortly before `arrived`."""
        self._events.append((arrived, newest_ms - arrived * 1000))
        self._judge(steady, answers=1)

    def _read(self, before: float | None, offset_ms: float) -> float:
        self._moved |= before is not None and abs(offset_ms - before) > NEAR_MS
        return offset_ms

    # Answers

    def believed_ms(self, steady: float) -> float | None:
        """Return the time that is believed, None in doubt."""
        return None if self._believed is None else self._believed + steady * 1000

    def latest_ms(self, steady: float) -> float:
        """Return a time that it cannot be later than: what is believed, or the latest clock while that is open."""
        if self._believed is not None and not self._is_open(steady):
            return self._believed + steady * 1000
        known = (offset for offset in (self._machine, self._bucket, self._believed) if offset is not None)
        return max(known, default=0.0) + steady * 1000

    def clocks_ms(self, steady: float) -> list[float]:
        """Return the times that it may be: the believed one; in doubt both clocks', the earlier one first."""
        if self._believed is not None:
            return [self._believed + steady * 1000]
        return sorted(offset + steady * 1000 for offset in (self._machine, self._bucket) if offset is not None)

    def bucket_ms(self, steady: float) -> float | None:
        """Return the bucket's time, None as long as it has not answered."""
        return None if self._bucket is None else self._bucket + steady * 1000

    @property
    def skew_ms(self) -> float:
        """The lead of this machine's clock over the bucket's; 0 while one of them is not known."""
        return 0.0 if self._machine is None or self._bucket is None else self._machine - self._bucket

    @property
    def machine_off_ms(self) -> float:
        """The lead of this machine's clock over the believed time; 0 in doubt."""
        return 0.0 if self._machine is None or self._believed is None else self._machine - self._believed

    @property
    def bucket_off_ms(self) -> float:
        """The lead of the bucket's clock over the believed time; 0 in doubt."""
        return 0.0 if self._bucket is None or self._believed is None else self._bucket - self._believed

    @property
    def _believed(self) -> float | None:
        return None if self._doubt else self._carried

    # Judging

    def _judge(self, steady: float, *, answers: int) -> None:
        found = self._agreed(steady)
        if found is None:
            self._pending = None
            self._apart_since = steady if self._apart_since is None else self._apart_since
            if steady - self._apart_since >= CONFIRM_SECONDS:
                self._doubt = True
            return
        self._apart_since = None
        if self._carried is None:
            certain = self._source is not ClockSource.AUTO or self._agree_at_once()
        else:
            certain = abs(found - self._carried) <= _SAME_MS
        if certain:
            self._believe(found)
        else:
            self._confirm(found, steady, answers)

    def _confirm(self, found: float, steady: float, answers: int) -> None:
        if self._pending is None or abs(found - self._pending.offset_ms) > NEAR_MS:
            self._pending = _Pending(found, steady)
        pending = self._pending
        pending.answers += answers
        enough = pending.answers >= CONFIRM_ANSWERS or self._source is ClockSource.MACHINE
        if enough and steady - pending.since >= CONFIRM_SECONDS:
            self._believe(found)

    def _believe(self, offset_ms: float) -> None:
        self._carried, self._doubt, self._pending = offset_ms, False, None

    def _agreed(self, steady: float) -> float | None:
        """Return what two witnesses agree on now, or the one that was named is right about."""
        machine, bucket = self._machine, self._bucket
        if self._source is not ClockSource.AUTO:
            return machine if self._source is ClockSource.MACHINE else bucket
        if self._both_near():
            return machine
        supported = self._supported(steady)
        if supported is not None:
            return supported
        if machine is None or bucket is None or abs(machine - bucket) >= AGREE_MS:
            return None
        return min(machine, bucket)  # nothing that is later is certain

    def _agree_at_once(self) -> bool:
        """Return whether the clocks have agreed from the start: those that are wrong are hardly wrong by the same.

        One that was set may agree with what the other showed before that was set, too.
        """
        return not self._moved and self._both_near()

    def _both_near(self) -> bool:
        return self._machine is not None and self._bucket is not None and abs(self.skew_ms) <= NEAR_MS

    def _supported(self, steady: float) -> float | None:
        """Return the clock that events support; of two, the one that they are nearer to."""
        newest = self._newest(steady)
        if newest is None:
            return None
        known = (offset for offset in (self._machine, self._bucket) if offset is not None)
        near = [offset for offset in known if -NEAR_MS <= offset - newest < AGREE_MS]
        return min(near, key=lambda offset: abs(offset - newest), default=None)

    def _newest(self, steady: float) -> float | None:
        while len(self._events) > 1 and steady - self._events[0][0] > _EVENTS_SECONDS:
            self._events.popleft()
        if not self._events or steady - self._events[-1][0] > _EVENTS_LAST_SECONDS:
            return None
        return max(offset for _, offset in self._events)

    def _is_open(self, steady: float) -> bool:
        """Return whether another time may soon be believed, or the clocks are minutes apart and no event decides."""
        if self._source is not ClockSource.AUTO:
            return False
        return self._pending is not None or (abs(self.skew_ms) > NEAR_MS and self._supported(steady) is None)
