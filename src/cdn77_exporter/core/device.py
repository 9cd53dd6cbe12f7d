"""User-Agent to device type: ordered rules, the first that fits decides; the built-in ones are a file beside this."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote
from zlib import crc32

OTHER_DEVICE = "other"
BUILT_IN_FILE = "device_rules.toml"
#: Characters of a decoded User-Agent that the rules see: clients may send any number, and patterns may go back and
#: forth over them.
SEEN_CHARACTERS = 512
_MOST_ENCODED = 3 * SEEN_CHARACTERS  # which may be so many, each as `%20`
_REMEMBERED = 10_000  # sets of words that are in User-Agents
# Text that is in most User-Agents.
_OF_BROWSERS = (
    "mozilla/5.0 (windows nt 10.0; win64; x64) (macintosh; intel mac os x 10_15_7) (x11; linux x86_64; rv:1) "
    "(iphone; cpu iphone os 18_1 like mac os x) (linux; android 14; sm-s918b build/up1a; wv) applewebkit/537.36 "
    "(khtml, like gecko) gecko/20100101 version/4.0 chrome/131.0.0.0 mobile/15e148 safari/604.1 firefox/133.0 edg/131"
)
# Of what is encoded in User-Agents nearly all: to replace it takes a tenth of the time of what decodes anything.
_USUAL = (("%3B", ";"), ("%28", "("), ("%29", ")"), ("%2C", ","), ("%2F", "/"))


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """The name of a device type, and the conditions on a User-Agent that must all hold.

    `words`: one of them is in it. `also`: one of these too. `without`: none of these. `pattern`: a regular expression
    is found in it. A condition that is empty holds. Case does not matter, unless `case_sensitive`.
    """

    name: str
    words: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    pattern: str = ""
    case_sensitive: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> DeviceRule:
        """Return the rule that a table of a rules file describes, which must be right."""
        words, also, without = (tuple(values.get(key) or ()) for key in ("words", "with", "without"))
        pattern, case_sensitive = values.get("pattern") or "", values.get("case_sensitive") or False
        return cls(values["name"], words, also, without, pattern, case_sensitive)


class DeviceRules:
    """Rules for User-Agents, in the order in which they are tried; equal and pickled as their data."""

    def __init__(self, rules: Iterable[DeviceRule]) -> None:
        self.rules = tuple(rules)
        self._words = _Words(word.lower() for rule in self.rules for word in (*rule.words, *rule.also, *rule.without))
        self._conditions = [_Condition(rule, self._words) for rule in self.rules]
        self._candidates: dict[int, tuple[_Condition, ...]] = {}  # by the words that are in a User-Agent
        #: The device types that there can be.
        self.devices = tuple(dict.fromkeys([*(rule.name for rule in self.rules), OTHER_DEVICE]))
        #: True if a rule gives the name `other`, so that not all that is `other` is unknown.
        self.names_other = any(rule.name == OTHER_DEVICE for rule in self.rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceRules) and self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)

    def __reduce__(self) -> tuple[type[DeviceRules], tuple[tuple[DeviceRule, ...]]]:
        return DeviceRules, (self.rules,)

    @property
    def number(self) -> int:
        """A number by which the same rules are known again."""
        return crc32(repr(self.rules).encode())

    def device_type(self, user_agent: str) -> str:
        """Return the device type of a User-Agent, one of `devices`."""
        rule = self._first(user_agent)
        return rule.name if rule else OTHER_DEVICE

    def knows(self, user_agent: str) -> bool:
        """Tell whether a rule fits a User-Agent."""
        return self._first(user_agent) is not None

    def _first(self, user_agent: str) -> DeviceRule | None:
        """Return the first rule that fits; which may fit is remembered for all User-Agents with the same words."""
        text = decoded(user_agent) if "%" in user_agent or len(user_agent) > SEEN_CHARACTERS else user_agent
        words = self._words.found_in(text.lower())
        candidates = self._candidates.get(words)
        if candidates is None:
            if len(self._candidates) >= _REMEMBERED:
                self._candidates.clear()
            candidates = tuple(one for one in self._conditions if one.may_fit(words))
            self._candidates[words] = candidates
        for one in candidates:
            if one.fits is None or one.fits(text):
                return one.rule
        return None


class _Words:
    """Texts in lower case, each with a bit.

    To look for one after the other takes most of the time, so those that share a pair of letters which is seldom in a
    User-Agent are looked for only where that is: `tv`, for instance.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._bits = {word: 1 << place for place, word in enumerate(dict.fromkeys(words))}
        left = dict(self._bits)
        self._guarded: list[tuple[str, list[tuple[str, int]]]] = []
        while True:
            pairs = Counter(pair for word in left for pair in _pairs(word) if pair not in _OF_BROWSERS)
            guard, count = max(pairs.items(), key=lambda item: (item[1], item[0]), default=("", 0))
            if count < 2:
                break
            self._guarded.append((guard, [(word, left.pop(word)) for word in [*left] if guard in word]))
        self._others = list(left.items())

    def of(self, words: Iterable[str]) -> int:
        """Return the bits of some of the words."""
        found = 0
        for word in words:
            found |= self._bits[word.lower()]
        return found

    def found_in(self, text: str) -> int:
        """Return the bits of the words that are in a text in lower case."""
        found = 0
        for word, bit in self._others:
            if word in text:
                found += bit
        for guard, words in self._guarded:
            if guard in text:
                for word, bit in words:
                    if word in text:
                        found += bit
        return found


def _pairs(word: str) -> set[str]:
    return {word[place : place + 2] for place in range(len(word) - 1)}


class _Condition:
    """A rule, which words it wants by their bits, and `fits`, which tells the rest of a User-Agent if words do not."""

    def __init__(self, rule: DeviceRule, words: _Words) -> None:
        self.rule = rule
        self._wanted = tuple(words.of(some) for some in (rule.words, rule.also) if some)
        # Where case matters, the words in lower case are only needed, and do not exclude.
        self._excluded = 0 if rule.case_sensitive else words.of(rule.without)
        self.fits: Callable[[str], object] | None = None
        if rule.case_sensitive:
            self.fits = self._fits_exactly
        elif rule.pattern:
            self.fits = re.compile(rule.pattern, re.IGNORECASE).search
        self._search = re.compile(rule.pattern).search

    def may_fit(self, words: int) -> bool:
        """Tell whether the rule can fit a User-Agent with these words."""
        return not words & self._excluded and all(words & wanted for wanted in self._wanted)

    def _fits_exactly(self, text: str) -> bool:
        groups = [some for some in (self.rule.words, self.rule.also) if some]
        if not all(any(word in text for word in some) for some in groups):
            return False
        return not any(word in text for word in self.rule.without) and self._search(text) is not None


def decoded(user_agent: str) -> str:
    """Return a User-Agent as the rules see it: without percent-encoding, and not too long; bad `%` sequences stay."""
    if "%" in user_agent:
        user_agent = user_agent[:_MOST_ENCODED]
        user_agent = user_agent.replace("%20", " ")
        if "%" in user_agent:
            for encoded, character in _USUAL:
                user_agent = user_agent.replace(encoded, character)
            if "%" in user_agent:
                user_agent = unquote(user_agent)
    return user_agent[:SEEN_CHARACTERS]


@cache
def built_in() -> DeviceRules:
    """Return the rules that this package comes with."""
    content = pkgutil.get_data(__package__, BUILT_IN_FILE) or b""
    return DeviceRules(map(DeviceRule.of, tomllib.loads(content.decode())["rule"]))
