"""The device types of User-Agents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.device import DEVICES, device_type
from tests.support import truth
from tests.support.files import USER_AGENTS

#: A busy machine is no fault of the code.
#: Everything that a rule looks for, and what comes near.
WORDS = (
    "baron", "virtualrailfan", "VirtualRailfan/4.2", "iphone", "iPad", "ios", "iOS 17", "bios", "iphones", "android",
    "Android 14", "mobile", "appletv", "apple tv", "Apple  TV", "tvos", "roku", "aft", "AFTMM", "aft1", "shaft",
    "craft", "after", "amazon", "fire", "Firefox", "tv", "TV", "chrome", "safari", "edge", "edg", "edg/", "opera",
    "other", "", "/",
)  # fmt: skip


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        ("VirtualRailfan/4.2.1 (iPhone; iOS 17.5; Scale/3.00)", "baron_mobile"),
        ("Baron/1.0 CFNetwork ios/17", "baron_mobile"),
        ("BARON (IPAD)", "baron_mobile"),
        ("baron/2 (Linux; Android 14; Pixel 8) Mobile", "baron_mobile"),
        ("baron/2 (Mobile; Android)", "baron_mobile"),
        ("baron/2 (Linux; Android 14)", "other"),  # a tablet: not mobile
        ("baron/2 (BIOS)", "other"),  # ios is not a word in it
        ("baron/2 tvOS/17 ios_17", "apple_tv"),  # the underscore belongs to the word
        ("VirtualRailfan (AppleTV)", "apple_tv"),
        ("AppleCoreMedia/1.0.0.21L569 (Apple TV; U; CPU OS 17_5 like Mac OS X; en_us)", "apple_tv"),
        ("AppleTV11,1/16.1", "apple_tv"),
        ("something tvOS", "apple_tv"),
        ("Roku/DVP-13.0 (13.0.0.4140-46)", "roku"),
        ("Mozilla/5.0 (Linux; Android 9; AFTMM Build/PS7633) Chrome/120", "firestick"),
        ("x AFTT y", "firestick"),
        ("AFT y", "other"),  # no letters follow
        ("aft4", "other"),
        ("Minecraftt", "other"),  # it is not the begin of a word
        ("Amazon something Fire", "firestick"),
        ("Amazon Firefox", "firestick"),
        ("Mozilla/5.0 (Linux; Android 12; BRAVIA 4K TV) Chrome/122.0", "android_tv"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/131.0.0.0 Safari/537.36", "web"),
        ("Mozilla/5.0 Firefox/128.0", "web"),
        ("Edg/120", "web"),
        ("Edg 120", "other"),
        ("Opera/9", "web"),
        ("VLC/3.0.20 LibVLC/3.0.20", "other"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)", "other"),
        ("", "other"),
    ],
)
def test_the_first_rule_that_fits_decides(agent: str, device: str) -> None:
    """The contract's table, its order and its borders of words."""
    assert device_type(agent) == device


def test_every_device_type_is_met() -> None:
    """The agents that the traffic of tests uses cover the whole table."""
    assert {device_type(agent) for agent in USER_AGENTS} == set(DEVICES)


@given(st.lists(st.sampled_from(WORDS), max_size=6), st.sampled_from(["", " ", ";", "_", "İ", "\n"]))
def test_any_mixture_of_words_is_what_the_contract_says(words: list[str], between: str) -> None:
    """Equal to the table read literally, in any order of words and any case."""
    agent = between.join(words)
    assert device_type(agent) == truth.device_type(agent)
    assert device_type(agent.swapcase()) == truth.device_type(agent.swapcase())


@given(st.text())
def test_any_text_has_a_device_type(agent: str) -> None:
    """There is no User-Agent without one of the closed list."""
    assert device_type(agent) in DEVICES


@pytest.mark.parametrize("agent", ["a" * 1_000_000, "aft" * 300_000, "android " * 100_000, "baron ios" * 100_000])
def test_a_long_agent_is_read_in_one_go(agent: str) -> None:
    """A User-Agent of a megabyte gives the same answer as its rule says; nothing in the rules repeats within itself."""
    assert device_type(agent) == truth.device_type(agent)
