"""User-Agent to device type: ordered rules, the first that fits decides; the built-in ones are a file beside this."""

from __future__ import annotations

import pkgutil
import re
import tomllib
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
# Of what is encoded in User-Agents nearly all: to replace it takes a tenth of the time of what decodes anything.
_USUAL = (("%20", " "), ("%28", "("), ("%29", ")"), ("%2F", "/"), ("%3B", ";"), ("%2C", ","))


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
        self._tried = tuple(map(_tried, self.rules))
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
        """Return the first rule that fits; there may be many User-Agents, so most rules cost a look for their words."""
        text = decoded(user_agent)
        lower = text.lower()
        for words, rule, rest in self._tried:
            for word in words:
                if word in lower:
                    if rest is None or rest(text, lower):
                        return rule
                    break
        return None


# Words in lower case, of which one must be there before anything else of a rule is looked at; and the rest of it.
_Rest = Callable[[str, str], bool] | None
_Tried = tuple[tuple[str, ...], DeviceRule, _Rest]


def _tried(rule: DeviceRule) -> _Tried:
    words = tuple(word.lower() for word in rule.words) or ("",)
    return words, rule, _rest(rule) if rule.case_sensitive or rule.also or rule.without or rule.pattern else None


def _rest(rule: DeviceRule) -> _Rest:
    """Return what tells whether a rule fits a User-Agent, given as it is and in lower case."""
    case_sensitive, flags = rule.case_sensitive, re.NOFLAG if rule.case_sensitive else re.IGNORECASE
    search = re.compile(rule.pattern, flags).search if rule.pattern else None

    def folded(words: tuple[str, ...]) -> tuple[str, ...]:
        return words if case_sensitive else tuple(word.lower() for word in words)

    groups, without = tuple(filter(None, map(folded, (rule.words, rule.also)))), folded(rule.without)
    if not case_sensitive and rule.words:
        groups = groups[1:]  # which were looked for before

    def fits(text: str, lower: str) -> bool:
        words_in = text if case_sensitive else lower
        for words in groups:
            for word in words:
                if word in words_in:
                    break
            else:
                return False
        for word in without:
            if word in words_in:
                return False
        return search is None or search(text) is not None

    return fits


def decoded(user_agent: str) -> str:
    """Return a User-Agent as the rules see it: without percent-encoding, and not too long; bad `%` sequences stay."""
    if "%" in user_agent:
        user_agent = user_agent[:_MOST_ENCODED]
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
