"""The device types of User-Agents."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.device import OTHER_DEVICE, SEEN_CHARACTERS, DeviceRule, DeviceRules, built_in, decoded
from tests.support import truth
from tests.support.files import USER_AGENTS
from tests.support.user_agents import REAL_AGENTS

DEVICES = built_in().devices
device_type = built_in().device_type

#: Everything that a rule looks for, and what comes near.
WORDS = (
    "bot", "robots", "Cubot", "crawler", "spider", "Headless", "preview", "hbbtv", "appletv", "apple tv", "Apple  TV",
    "tvos", "roku", "aft", "AFT", "AFTMM", "AFTmm", "AFTEUFF014", "AFTERTHEPARTY", "shAFTMM", "draft", "after",
    "fire tv", "Fire", "android", "Android 14", "AndroidTV", "tv", "TV", "ATV", "PlutoTV", "BRAVIA", "shield",
    "SHIELD Tablet", "Chromecast", "MIBOX4", "MiTV-4", "onn", "onn.", "connected", "GoogleTV", "CrKey", "Tizen",
    "Web0S", "webOS", "SmartTV", "SMART-TV", "NetCast", "Vizio", "PlayStation", "Xbox", "NEXBOX", "Nintendo", "baron",
    "VirtualRailfan/4.2", "AppleCoreMedia", "CFNetwork", "iPhone", "iPad", "Darwin", "iPod", "ExoPlayer", "Media3",
    "Dalvik", "okhttp", "chrome", "Firefox", "safari", "edge", "edg", "edg/", "opera", "other", "", "/", "%20",
    "%2", "%zz", "%E2%82%AC", "%FF", "%25",
)  # fmt: skip


@pytest.mark.parametrize(("agent", "device"), [(agent, device) for agent, device, _ in REAL_AGENTS])
def test_real_agents_have_their_device_type(agent: str, device: str) -> None:
    """Agents of each type as devices send them, and those that look like another; encoded or not, it is the same."""
    assert device_type(agent) == device
    assert device_type(quote(agent, safe="%")) == device
    assert device_type(quote(agent, safe="%/()")) == device
    assert truth.device_type(agent) == device


def test_the_table_has_enough_of_each_type() -> None:
    """Fifteen real agents at least, and one that comes near of all but the last."""
    assert min(Counter(device for _, device, near in REAL_AGENTS if not near).values()) >= 15
    assert {device for _, device, near in REAL_AGENTS if not near} == set(DEVICES)
    assert {device for agent, device, _ in REAL_AGENTS if agent in ("draft", "PlutoTV (Android)")} == {"other"}


def test_agents_of_the_tests_traffic_are_of_many_types() -> None:
    """The agents that the traffic of tests uses cover most of the table."""
    assert len({device_type(agent) for agent in USER_AGENTS}) >= 7


@given(st.lists(st.sampled_from(WORDS), max_size=6), st.sampled_from(["", " ", ";", "_", "/", "\n", "%20", "%3B"]))
def test_any_mixture_of_words_is_what_the_contract_says(words: list[str], between: str) -> None:
    """Equal to the table read literally, in any order of words and any case."""
    agent = between.join(words)
    assert device_type(agent) == truth.device_type(agent)
    assert device_type(agent.swapcase()) == truth.device_type(agent.swapcase())


@given(st.text())
def test_any_text_has_a_device_type(agent: str) -> None:
    """There is no User-Agent without one of the closed list."""
    assert device_type(agent) in DEVICES


@given(st.text(max_size=100).filter(lambda agent: "%" not in agent))
def test_encoding_changes_nothing(agent: str) -> None:
    """A User-Agent is seen as it was before it was encoded, however much of it was."""
    assert decoded(quote(agent)) == decoded(quote(agent, safe="")) == decoded(agent) == agent


@pytest.mark.parametrize(
    ("agent", "seen"),
    [("a%2", "a%2"), ("%zz", "%zz"), ("100%", "100%"), ("%%20", "% "), ("%2520", "%20"), ("a%c3%A4", "aä"), ("%", "%")],
)
def test_bad_encoding_stays(agent: str, seen: str) -> None:
    """A percent sign without two hexadecimal digits is one, and what is encoded twice is decoded once."""
    assert DeviceRules([DeviceRule("it", (seen,))]).knows(agent)
    assert not DeviceRules([DeviceRule("it", (seen + "x",))]).knows(agent)


def test_a_long_agent_is_looked_at_up_to_a_bound() -> None:
    """What stands behind the bound does not count, for an encoded agent either; nothing depends on its length."""
    rules = DeviceRules([DeviceRule("it", ("word",))])
    fits = " " * (SEEN_CHARACTERS - 4) + "word"
    for agent in (fits, fits + "a" * 1_000_000, quote(fits), quote(fits) + "%20" * 300_000):
        assert rules.knows(agent)
        assert truth.device_type(agent.replace("word", "roku")) == "roku"
    for agent in (f" {fits}", quote(f" {fits}")):
        assert not rules.knows(agent)
        assert truth.device_type(agent.replace("word", "roku")) == "other"


# Rules of one's own


@pytest.mark.parametrize(
    ("rule", "fits", "not_fit"),
    [
        (DeviceRule("it", ("One", "two")), ("ONE", "a two b", "twofold"), ("on", "t wo", "")),
        (DeviceRule("it", ("One",), case_sensitive=True), ("aOne",), ("one", "ONE")),
        (DeviceRule("it", ("a1", "a2"), also=("b1", "b2")), ("B2 A1", "a2b1"), ("a1 a2", "b1 b2", "a b1")),
        (DeviceRule("it", ("a",), without=("b", "C")), ("A", "aad"), ("ab", "cA", "d")),
        (DeviceRule("it", pattern=r"\bx\d"), ("a X1", "x2b"), ("ax1", "x", "")),
        (DeviceRule("it", pattern=r"^x.*y$", case_sensitive=True), ("xay", "xy"), ("Xy", "axy", "x")),
        (DeviceRule("it", ("q",), ("r",), ("s",), "[0-9]"), ("r1Q",), ("q1", "rq", "rqs1", "r1")),
        (DeviceRule("it", ("q",), ("R",), ("S",), "[0-9]", case_sensitive=True), ("R1qs",), ("r1q", "R1qS", "R1Q")),
    ],
)
def test_a_rule_fits_when_all_that_it_has_holds(
    rule: DeviceRule, fits: tuple[str, ...], not_fit: tuple[str, ...]
) -> None:
    """One of the words, one of those with them, none of those without, and the pattern; case-blind unless said."""
    rules = DeviceRules([rule])
    assert all(rules.device_type(agent) == "it" and rules.knows(agent) for agent in fits)
    assert all(rules.device_type(agent) == OTHER_DEVICE and not rules.knows(agent) for agent in not_fit)


WORDS_OF_RULES = st.lists(st.text("abTtVv ", min_size=1, max_size=3), max_size=3).map(tuple)
RULES = st.lists(
    st.builds(
        DeviceRule,
        st.sampled_from(["one", "two", "other"]),
        WORDS_OF_RULES,
        WORDS_OF_RULES,
        WORDS_OF_RULES,
        st.sampled_from(["", r"\bt", "V$", "a.b"]),
        st.booleans(),
    ),
    max_size=5,
)


def plainly(rules: list[DeviceRule], agent: str) -> str:
    """The rules read literally."""
    for rule in rules:
        text = agent if rule.case_sensitive else agent.lower()
        groups = [
            [word if rule.case_sensitive else word.lower() for word in words]
            for words in (rule.words, rule.also, rule.without)
        ]
        found = re.search(rule.pattern, agent, 0 if rule.case_sensitive else re.IGNORECASE) is not None
        found &= all(not words or any(word in text for word in words) for words in groups[:2])
        if found and not any(word in text for word in groups[2]):
            return rule.name
    return "other"


@given(RULES, st.lists(st.text("abTtVv ", max_size=12), min_size=1))
def test_any_rules_are_what_they_say(rules: list[DeviceRule], agents: list[str]) -> None:
    """Whatever is remembered of one User-Agent, the next one is judged by what it has itself."""
    made = DeviceRules(rules)
    assert [made.device_type(agent) for agent in agents] == [plainly(rules, agent) for agent in agents]


def test_the_first_rule_that_fits_decides_and_names_may_repeat() -> None:
    """In their order; the types are the names, each once, and `other`, which a rule may name as well."""
    rules = DeviceRules([DeviceRule("b", ("x",)), DeviceRule("a", ("y",)), DeviceRule("b", ("z",))])
    assert [rules.device_type(agent) for agent in ("yx", "zy", "z", "w")] == ["b", "a", "b", "other"]
    assert rules.devices == ("b", "a", "other")
    known = DeviceRules([DeviceRule("other", ("curl",))])
    assert known.devices == ("other",)
    assert known.knows("curl/8") and not known.knows("wget")


def test_rules_travel_as_their_data() -> None:
    """What another process gets is equal and decides as the original does."""
    copy = pickle.loads(pickle.dumps(built_in()))  # noqa: S301
    assert copy == built_in() and hash(copy) == hash(built_in())
    assert copy.device_type("AppleTV11,1/18.1") == "apple_tv"
    assert copy != DeviceRules(built_in().rules[1:])
