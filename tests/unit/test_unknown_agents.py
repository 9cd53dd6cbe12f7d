"""User-Agents that no device rule knows: how often each occurs, in bounded memory and with nothing personal."""

from __future__ import annotations

from collections import Counter
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core import scan
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.device import DeviceRule, DeviceRules
from cdn77_exporter.core.unknown_agents import OF_A_FILE, UnknownAgents
from cdn77_exporter.status.document import UnknownAgents as Unknown
from tests.support.files import EXAMPLE_MS, event, log_file
from tests.support.service_run import THROUGH_SECONDS, Run, simulate
from tests.support.truth import device_type

AGENTS = ("curl/8.5.0", "VLC/3.0.21", "VLC%2F3.0.21", "", "Firefox/133", "AppleTV11,1", "Lavf/60 é", 'Lavf/60 \\ "x"')
WAYS = [True, False] if scan.COMPILED else [False]


@pytest.mark.parametrize("accelerate", WAYS)
@given(st.lists(st.tuples(st.sampled_from(AGENTS), st.sampled_from(["198.51.100.7", "", "bad"])), min_size=1))
def test_a_file_tells_how_often_each_unknown_agent_occurs(accelerate: bool, found: list[tuple[str, str]]) -> None:
    """Every event counts, with a viewer or without, in whichever way it is decoded; encoded or not, an agent is one."""
    events = [event(EXAMPLE_MS, clientRequestUserAgent=agent, clientIP=address) for agent, address in found]
    decoder = Decoder(accelerate=accelerate)
    for _ in range(2):
        stats, _ = decoder.decode(log_file(events), latest_ms=EXAMPLE_MS, oldest_ms=0)
        expected = Counter(agent.replace("%2F", "/") for agent, _ in found if device_type(agent) == "other")
        assert stats.unknown_agents == UnknownAgents(expected.total(), len(found), dict(expected))


@pytest.mark.parametrize("accelerate", WAYS)
def test_what_a_rule_calls_other_is_not_unknown(accelerate: bool) -> None:
    """A rule can take User-Agents off the list that are of no interest."""
    rules = DeviceRules([DeviceRule("web", ("firefox",)), DeviceRule("other", ("curl",))])
    events = [event(EXAMPLE_MS, clientRequestUserAgent=agent) for agent in ("Firefox", "curl/8", "Wget/1", "curl/7")]
    decoder = Decoder(devices=rules, accelerate=accelerate)
    stats, counts = decoder.decode(log_file(events), latest_ms=EXAMPLE_MS, oldest_ms=0)
    assert stats.unknown_agents == UnknownAgents(1, 4, {"Wget/1": 1})
    assert {"web", "other"} <= set(counts.texts)


def test_rejected_lines_have_no_part_in_it() -> None:
    """Only events count, also those of files that need a second look line by line."""
    good = [event(EXAMPLE_MS, clientRequestUserAgent="curl/8")] * 3
    lines = [*good, event(EXAMPLE_MS, clientRequestPath="/no/stream", clientRequestUserAgent="Wget/1")]
    for more in ([], [event(EXAMPLE_MS, responseBytes="many", clientRequestUserAgent="curl/8")]):
        stats, _ = Decoder().decode(log_file([*lines, *more]), latest_ms=EXAMPLE_MS, oldest_ms=0)
        assert stats.unknown_agents.named == {"curl/8": 3 + len(more)}


def test_an_address_in_an_agent_is_masked() -> None:
    """Nothing personal leaves decoding, nor what could hide itself."""
    found = UnknownAgents.counted({"app 203.0.113.77": 2, quote("app [2001:db8::7] \x1b[1m"): 1, "x" * 10_000: 1}, 9)
    assert set(found.named) == {"app ***", "app [***] \ufffd[1m", "x" * 128}


def test_of_a_file_only_the_frequent_are_named() -> None:
    """The sums are of all."""
    found = UnknownAgents.counted({f"agent {number}": number for number in range(1, 1001)}, 600_000)
    assert (found.requests, found.of, len(found.named)) == (500_500, 600_000, OF_A_FILE)
    assert found.frequent(2) == {"agent 1000": 1000, "agent 999": 999}


def test_memory_is_bounded_however_many_there_are() -> None:
    """The frequent ones are exact, and the sums are of all."""
    whole = UnknownAgents()
    for file in range(1000):
        rare = {f"rare {file} {number}": 1 for number in range(OF_A_FILE - 2)}
        whole.add(UnknownAgents.counted({"frequent": 5, "second": 3, **rare}, 100))
        assert len(whole.named) <= 1000
    assert whole.frequent(2) == {"frequent": 5000, "second": 3000}
    assert (whole.requests, whole.of) == (1000 * (OF_A_FILE + 6), 100_000)


@pytest.mark.parametrize("accelerate", WAYS)
def test_very_many_of_one_file_are_counted_together(accelerate: bool) -> None:
    """Their number is right, and the frequent are named."""
    events = [event(EXAMPLE_MS, clientRequestUserAgent=f"made up {number}") for number in range(10_050)]
    events[:0] = [event(EXAMPLE_MS, clientRequestUserAgent="often")] * 100
    stats, _ = Decoder(accelerate=accelerate).decode(log_file(events), latest_ms=EXAMPLE_MS, oldest_ms=0)
    assert stats.unknown_agents.requests == stats.unknown_agents.of == 10_150
    assert stats.unknown_agents.frequent(1) == {"often": 100}


def test_the_status_page_has_the_frequent_ones_with_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all requests since the start, the most frequent first."""

    async def main() -> None:
        run = Run(monkeypatch)
        assert run.service.overview.status().unknown_agents == Unknown(share=0.0, frequent=[])
        for number, agent in enumerate(("curl/8.5.0", "Firefox/133", "VLC%2F3.0.21", "curl/8.5.0")):
            await run.put(number, events=2, clientRequestUserAgent=agent)
        async with run.running(THROUGH_SECONDS):
            found = run.service.overview.status().unknown_agents
        assert found.share == 0.75
        assert [(one.user_agent, one.requests, one.share) for one in found.frequent] == [
            ("curl/8.5.0", 4, 0.5),
            ("VLC/3.0.21", 2, 0.25),
        ]

    simulate(main())
