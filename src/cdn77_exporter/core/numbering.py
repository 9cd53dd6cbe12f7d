"""The numbers in the names of a shard's files: those that are missing, where numbers are counted one by one at all.

Nobody promises that they are. They may begin again, be a time, or be shared by all shards; then nothing is missing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

#: Shards that are remembered at most; of more, the ones first met are forgotten.
MAX_SHARDS = 10_000
#: Gaps that are remembered of a shard; of more, the oldest are forgotten.
MAX_GAPS = 20
_MOST_MISSING = 10_000  # a larger step is no gap: the numbers are others from then on
_COMPARED = 1024  # numbers of all shards that are remembered, to find out whether shards have the same ones


@dataclass(slots=True)
class Numbers:
    """The numbers of one shard's files since they began, or began again."""

    writer: str
    first: int
    highest: int
    missing: int = 0  # numbers that were passed over, ever
    gaps: list[tuple[int, int]] = field(default_factory=list)  # the same, first and last number of each run
    again: int = -1  # a number that has been before: the next one tells whether the numbers begin again
    _steps: int = 0  # to the very next number
    _leaps: int = 0  # over some

    def begin(self, number: int, writer: str) -> None:
        """Begin anew; what was passed over before can no longer come."""
        self.writer, self.first, self.highest = writer, number, number
        self.gaps, self.again = [], -1

    def step(self, number: int) -> None:
        """Note that a number follows the highest."""
        if number == self.highest + 1:
            self._steps += 1
        else:
            self._leaps += 1

    @property
    def one_by_one(self) -> bool:
        """True when a number is usually followed by the next one."""
        return self._steps > 0 and 2 * self._steps + 1 >= self._leaps

    def take_back(self, number: int) -> bool:
        """Note that a number that was passed over has come after all; return False for any other."""
        left = _without(self.gaps, number)
        if left == self.gaps:
            return False
        self.missing -= 1
        self.gaps = left
        return True


class Numbering:
    """The numbers of all shards."""

    def __init__(self) -> None:
        self.shards: dict[str, Numbers] = {}
        self._of: OrderedDict[int, str] = OrderedDict()  # the shard that had a number last
        self._apart = False  # two shards had the same number, so each has its own

    def counted(self, name: str, writer: str, number: int) -> int:
        """Note the number of a shard's file, and return how many numbers it shows to be missing before it."""
        shard = self.shards.get(name)
        self._compare(name, number, is_new=shard is None or number > shard.highest)
        if shard is None:
            if len(self.shards) >= MAX_SHARDS:
                del self.shards[next(iter(self.shards))]
            self.shards[name] = Numbers(writer, number, number)
            return 0
        if writer != shard.writer or number > shard.highest + _MOST_MISSING:
            shard.begin(number, writer)
            return 0
        if number <= shard.highest:
            if shard.take_back(number) or not self._begins_again(shard, number):
                return 0
            shard.begin(shard.again, writer)
            self._of.clear()  # a number that another shard had before is not the same as one of now
        shard.again = -1
        return self._go_on(name, shard, number)

    def _compare(self, name: str, number: int, *, is_new: bool) -> None:
        """Find out whether shards have the same numbers; one that begins again may have had those of another shard."""
        self._apart = self._apart or (is_new and self._of.get(number, name) != name)
        self._of[number] = name
        self._of.move_to_end(number)
        if len(self._of) > _COMPARED:
            self._of.popitem(last=False)

    @staticmethod
    def _begins_again(shard: Numbers, number: int) -> bool:
        """Tell whether a number below the highest is the second in a row; a single one is only late."""
        if 0 <= shard.again < number:
            return True
        shard.again = number
        return False

    def _go_on(self, name: str, shard: Numbers, number: int) -> int:
        first, last = shard.highest + 1, number - 1
        shard.step(number)
        shard.highest = number
        if last < first or not shard.one_by_one or self._is_shared(name, shard):
            return 0
        shard.missing += last - first + 1
        shard.gaps = [*shard.gaps, (first, last)][-MAX_GAPS:]
        return last - first + 1

    def _is_shared(self, name: str, shard: Numbers) -> bool:
        """Tell whether other shards have numbers among this one's, and none twice."""
        return not self._apart and any(
            other.first <= shard.highest and other.highest >= shard.first
            for other_name, other in self.shards.items()
            if other_name != name
        )


def _without(gaps: list[tuple[int, int]], number: int) -> list[tuple[int, int]]:
    """Return the gaps when one number of them has come."""
    left = []
    for first, last in gaps:
        parts = ((first, number - 1), (number + 1, last)) if first <= number <= last else ((first, last),)
        left += [part for part in parts if part[0] <= part[1]]
    return left
