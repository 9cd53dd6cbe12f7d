"""Patterns that could take very long are told from those that cannot, before a stranger's text is searched."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdn77_exporter.settings.pattern_cost import ENDLESS, compile_fault, most_steps

LENGTH = 512
BOUND = 2**24


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bAFT[A-Z0-9]{1,7}\b",
        r"roku",
        r"^Mozilla/5\.0 \(Linux; Android \d+; (AFT\w+)",
        r"Version/\d+(?:\.\d+)*;",
        r"(?:iphone|ipad|ios)/[0-9.]+",
        r"(?:foo|bar)*",
        r"android.*\btv\b",
        r"a[^;]{0,40}b[^;]{0,40}c",
        r"(?:\d+\.)+\d+",
        r"(?=.*tv)android",
        r"(x)?y(?(1)a|b)",
        r"[^\W\d]+ [^a-z]+",
        r"(.)\1+",
        r"(?>a+)b",
        r"a++b",
        "",
    ],
)
def test_usual_patterns_are_taken(pattern: str) -> None:
    """One repeat without an end, several whose ends are told by what follows, and choices that begin differently."""
    assert most_steps(pattern, LENGTH) <= BOUND


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b",
        r"(a*)*b",
        r"(?:a|a)*b",
        r"(?:a|ab)+c",
        r"(a|aa)+$",
        r"(x+x+)+y",
        r"(\w+\s?)*;",
        r"([a-z]+)*[0-9]",
        r"(.*a){20}",
        r"(a?){30}a{30}",
        r".*.*.*x",
        r"\w+\d+\w+\d+;",
        r"(?i:(Ab|ab)+)c",
        r"(Kay|key)+x",
        r"(?:é+)+a",
        r"([^a]+b?)+a",
        r"(?=(a+)+b)c",
        r"x(?>(a+)+b)",
        r"(a{1,40}){1,40}b",
        r"(?:(a+)|b(?(1)c+|d))+e",
    ],
)
def test_patterns_that_could_take_very_long_are_told(pattern: str) -> None:
    """Repeats within repeats over the same characters, many repeats in a row, and choices that begin alike."""
    re.compile(pattern)
    assert most_steps(pattern, LENGTH) > BOUND


@pytest.mark.parametrize("pattern", ["(", "[", "*", "a{2,1}", "(?P<a>b)(?P<a>c)", r"\8", "(?<=a+)b", "x{99999999999}"])
def test_what_is_no_pattern_is_told(pattern: str) -> None:
    """The fault in the words of the standard library."""
    assert compile_fault(pattern)
    assert compile_fault("(a)") == ""


# A backtracking matcher that counts its steps: a part tries each way, and calls what follows it.

_Then = Callable[[int], bool]
_Part = tuple[Any, ...]  # its kind, and what it consists of


class Counted:
    """Matches a pattern of a small grammar from each place of a text, and counts how often a part is tried."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.steps = 0

    def search(self, part: _Part) -> None:
        """Search to the first match, or in vain."""
        any(self.match(part, at, lambda _: True) for at in range(len(self.text) + 1))

    def match(self, part: _Part, at: int, then: _Then) -> bool:
        """Tell whether the part matches here and what follows matches behind it."""
        self.steps += 1
        kind, *inner = part
        if kind == "characters":
            return at < len(self.text) and self.text[at] in inner[0] and then(at + 1)
        if kind == "sequence":
            return self._sequence(inner, at, then)
        if kind == "choice":
            return any(self.match(one, at, then) for one in inner)
        least, most, item = inner
        return self._repeat(item, least, most, at, then)

    def _sequence(self, parts: list[_Part], at: int, then: _Then) -> bool:
        if not parts:
            return then(at)
        return self.match(parts[0], at, lambda behind: self._sequence(parts[1:], behind, then))

    def _repeat(self, item: _Part, least: int, most: int, at: int, then: _Then) -> bool:
        def again(behind: int) -> bool:
            # A turn that takes nothing is not repeated, as the library has it.
            return (behind > at or least > 0) and self._repeat(item, max(0, least - 1), most - 1, behind, then)

        self.steps += 1
        return (most > 0 and self.match(item, at, again)) or (least <= 0 and then(at))


def written(part: _Part) -> str:
    """The pattern as a text."""
    kind, *inner = part
    if kind == "characters":
        return f"[{inner[0]}]"
    if kind == "sequence":
        return "".join(map(written, inner))
    if kind == "choice":
        return f"(?:{'|'.join(map(written, inner))})"
    least, most, item = inner
    return f"(?:{written(item)}){{{least},{most if most < 99 else ''}}}"


CHARACTERS = st.sampled_from(["a", "b", "c", "ab", "bc", "abc"]).map(lambda some: ("characters", some))


def _more(parts: st.SearchStrategy[_Part]) -> st.SearchStrategy[_Part]:
    counts = st.sampled_from([(0, 1), (0, 99), (1, 99), (1, 3), (2, 2)])
    return (
        st.lists(parts, min_size=1, max_size=3).map(lambda some: ("sequence", *some))
        | st.lists(parts, min_size=2, max_size=3).map(lambda some: ("choice", *some))
        | st.tuples(counts, parts).map(lambda pair: ("repeat", *pair[0], pair[1]))
    )


PATTERNS = st.recursive(CHARACTERS, _more, max_leaves=5)
A = ("characters", "a")
NESTED = ("sequence", ("repeat", 1, 99, ("repeat", 1, 99, A)), ("characters", "b"))
TEXTS = ["a" * 13, "ab" * 6, "abc" * 4, "aab" * 4, "b" * 12 + "a", *map("".join, product("ab", repeat=4))]


@settings(max_examples=60)
@given(PATTERNS)
@example(NESTED)
@example(("sequence", ("repeat", 0, 99, ("choice", A, ("sequence", A, ("characters", "b")))), ("characters", "c")))
def test_no_search_takes_more_steps_than_the_bound_says(pattern: _Part) -> None:
    """A matcher that counts its steps stays below it, for each way the pattern's length and the text's at most."""
    text = written(pattern)
    parts = text.count("[") + text.count("{") + text.count("|") + 1
    for searched in TEXTS:
        counted = Counted(searched)
        counted.search(pattern)
        bound = most_steps(text, len(searched) + 1)
        assert counted.steps <= bound * parts * 4 * (len(searched) + 1) or bound == ENDLESS


def test_the_matcher_takes_long_where_a_pattern_does() -> None:
    """So the bound is compared with something: the nested repeat doubles with each character."""
    steps = []
    for length in (8, 9, 10):
        counted = Counted("a" * length)
        counted.search(NESTED)
        steps.append(counted.steps)
    assert steps[1] > 1.8 * steps[0] and steps[2] > 1.8 * steps[1]
