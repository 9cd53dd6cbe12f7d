"""Bounds the steps of a regular expression on the worst of texts, before it is used on those of strangers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

#: More than any pattern may take; a step takes some 10 ns.
ENDLESS = 10**12

# A set of characters is a number with a bit for each of ASCII, and one for all others.
_OTHERS = 1 << 128
_ALL = 2 * _OTHERS - 1
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_LOOKS = (op.ASSERT, op.ASSERT_NOT)


def compile_fault(pattern: str) -> str:
    """Return why a text is no regular expression; "" if it is one."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return ""


def most_steps(pattern: str, characters: int) -> int:
    """Return a bound of the steps of a search in a text of so many characters, `ENDLESS` at most.

    The pattern must compile. The bound is the number of ways in which the pattern can match from any place: a repeat
    can end in as many places as it has counts, unless what follows it tells where; and ways within a repeat multiply
    with each of its turns.
    """
    return min(ENDLESS, characters * _Ways(characters).of(parser.parse(pattern), 0))


class _Ways:
    """Counts the ways in which parts of a parsed pattern can match from one place, in a text of so many characters."""

    def __init__(self, characters: int) -> None:
        self._characters = characters

    def of(self, sequence: Any, then: int) -> int:
        """Return the ways of a sequence; `then` are the characters with which what follows it can begin."""
        ways = 1
        for kind, value in reversed(list(sequence)):
            ways = min(ENDLESS, ways * self._of_one(kind, value, then))
            begin, may_be_empty = _begin(kind, value)
            then = begin | then if may_be_empty else begin
        return ways

    def _of_one(self, kind: Any, value: Any, then: int) -> int:
        if kind in _REPEATS:
            return self._of_repeat(value, then)
        if kind is op.BRANCH:
            return self._of_choice(value[1], then)
        inner = _inner(kind, value)
        if kind is op.GROUPREF_EXISTS:
            return self._of_choice(inner, then)
        # What is not one of these is a character, a class of them, a border, or what a group has matched.
        return self.of(inner[0], _ALL if kind in _LOOKS else then) if inner else 1

    def _of_choice(self, choices: Sequence[Any], then: int) -> int:
        ways = [self.of(one, then) for one in choices]
        begins = [_begin_of(one) for one in choices]
        seen = 0
        for begin, may_be_empty in begins:
            if may_be_empty or seen & begin:
                return min(ENDLESS, sum(ways))
            seen |= begin
        return max(ways, default=1)  # the first character tells which

    def _of_repeat(self, value: Any, then: int) -> int:
        least, most, item = int(value[0]), int(value[1]), value[2]
        begin, _ = _begin_of(item)
        width = max(1, int(item.getwidth()[0]))
        most = max(least, min(most, self._characters // width))
        ways = self.of(item, begin | then)
        if ways == 1:
            return most - least + 1 if begin & then else 1
        if most > 40:  # 2 to the 40th is more than endless
            return ENDLESS
        found: int = sum(ways**turns for turns in range(least, most + 1))
        return min(ENDLESS, found)


def _inner(kind: Any, value: Any) -> list[Any]:
    """Return the patterns that a group, a look around or a condition consists of."""
    if kind is op.SUBPATTERN:
        return [value[3]]
    if kind is op.ATOMIC_GROUP:
        return [value]
    if kind in _LOOKS:
        return [value[1]]
    if kind is op.GROUPREF_EXISTS:
        return [one if one is not None else () for one in value[1:]]
    return []


# The characters with which a part can begin, and whether it may be empty


def _begin_of(sequence: Any) -> tuple[int, bool]:
    found = 0
    for kind, value in sequence:
        begin, may_be_empty = _begin(kind, value)
        found |= begin
        if not may_be_empty:
            return found, False
    return found, True


def _begin(kind: Any, value: Any) -> tuple[int, bool]:
    if kind in _REPEATS:
        least, _, item = value
        begin, may_be_empty = _begin_of(item)
        return begin, may_be_empty or least == 0
    if kind is op.AT or kind in _LOOKS:
        return 0, True
    if kind is op.GROUPREF:
        return _ALL, True
    choices = value[1] if kind is op.BRANCH else _inner(kind, value)
    if choices:
        begins = [_begin_of(one) for one in choices]
        found = 0
        for begin, _ in begins:
            found |= begin
        return found, any(may_be_empty for _, may_be_empty in begins)
    return _characters(kind, value), False


def _characters(kind: Any, value: Any) -> int:
    if kind is op.IN:
        found = 0
        for part, one in value:
            found |= _characters(part, one) if part is not op.NEGATE else 0
        return _ALL & ~found | _OTHERS if value[0][0] is op.NEGATE else found
    if kind is op.LITERAL:
        return _either_case(value, value)
    if kind is op.RANGE:
        return _either_case(*value)
    if kind is op.CATEGORY:
        return _CATEGORIES[value]
    return _ALL & ~(1 << value) if kind is op.NOT_LITERAL and value < 128 else _ALL


def _either_case(first: int, last: int) -> int:
    """Return the characters from first to last, those of the other case too, since case may not matter."""
    found = _OTHERS if last >= 128 else 0
    for code in range(first, min(last, 127) + 1):
        found |= 1 << code | 1 << ord(chr(code).swapcase())
    return found


def _ascii(pattern: str) -> int:
    return sum(1 << code for code in range(128) if re.match(pattern, chr(code))) | _OTHERS


_CATEGORIES = {
    op.CATEGORY_DIGIT: _ascii(r"\d"),
    op.CATEGORY_NOT_DIGIT: _ascii(r"\D"),
    op.CATEGORY_SPACE: _ascii(r"\s"),
    op.CATEGORY_NOT_SPACE: _ascii(r"\S"),
    op.CATEGORY_WORD: _ascii(r"\w"),
    op.CATEGORY_NOT_WORD: _ascii(r"\W"),
}
