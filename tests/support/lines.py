"""Log lines for property tests: few streams, viewers and instants, so that they meet each other often."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decoded import FileStats
from tests.support.counts import plain_counts
from tests.support.files import EXAMPLE_MS, USER_AGENTS, event, json_line, stream_name
from tests.support.oracle import Answer

STREAMS = tuple(map(stream_name, range(3)))
ADDRESSES = ("104.192.89.228", "10.0.0.1", "2001:db8::7", "::ffff:1.2.3.4")
#: Some with an address, some without.
ODD_ADDRESSES: tuple[Any, ...] = (
    "10.0.0.1:4711",
    "[2001:db8::7]:443",
    "-, 10.0.0.1 ,10.0.0.2",
    "198.51.100.xxx",
    "-",
    "",
    None,
    7,
    [],
)
AGENTS = (*USER_AGENTS[:4], "", None)
#: From well before to well after the limits that the tests set.
INSTANTS = st.integers(EXAMPLE_MS - 40_000, EXAMPLE_MS + 40_000)
WEEK_MS = 7 * 24 * 3600 * 1000

_sizes: st.SearchStrategy[Any] = st.sampled_from(
    (0, 1, 4143, 2**53, None, -1, 1.5, 12.0, "12", "-", "", "x", True, 2**53 + 1, 10**30, {})
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """An event as a log may have it: some fields missing, null, odd or malformed."""
    fields = event(
        draw(INSTANTS),
        clientRequestPath=f"{draw(st.sampled_from(('', '/a', '/b/c')))}/{draw(st.sampled_from(STREAMS))}/x.ts",
        clientIP=draw(st.sampled_from((*ADDRESSES, *ODD_ADDRESSES))),
        clientRequestUserAgent=draw(st.sampled_from(AGENTS)),
        clientCountry=draw(st.sampled_from(("US", "DE", "", None, "\u2028", "é"))),
        cacheStatus=draw(st.sampled_from(("HIT", "MISS", "", None, 'a"b\\', "x\ny", "U" * 200, 5, True, ["HIT"]))),
        locationID=draw(st.sampled_from(("parisFR", "", None))),
        resourceID=draw(st.sampled_from((1693215245, "1693215245", 0, None))),
        responseStatus=draw(st.sampled_from((200, "200", 200.0, 404, 0, None, ""))),
        responseBytes=draw(_sizes),
        timeToFirstByteMs=draw(_sizes),
    )
    for name in draw(st.sets(st.sampled_from(("cacheStatus", "resourceID", "timeToFirstByteMs", "clientCountry")))):
        del fields[name]
    return fields


#: Lines each of which is wrong in one way.
wrong_lines = st.sampled_from((
    b"not json\n",
    b"[]\n",
    b"17\n",
    b"null\n",
    b'"text"\n',
    b"{}\n",
    json_line(event())[:-10] + b"\n",
    json_line(event())[:-1] + json_line(event()),
    json_line(event(timestamp=None)),
    json_line(event(timestamp="2026-13-10T14:49:28Z")),
    json_line(event(timestamp="1999-01-01T00:00:00Z")),
    json_line(event(clientRequestPath=None)),
    json_line(event(clientRequestPath="/favicon.ico")),
    json_line(event(timestamp="2026-01-10T14:49:28")),
    json_line(event(responseBytes="@")).replace(b'"@"', b"NaN"),
))  # fmt: skip

#: Lines of events with something in them that no writer of JSON would write.
broken_lines = st.sampled_from((
    json_line(event(clientRequestReferer="@")).replace(b"@", b"\xff"),
    json_line(event(clientRequestUserAgent="Roku @")).replace(b"@", b"\xe2\x82"),
    json_line(event(locationID="a@b")).replace(b"@", b"\\ud800"),
    json_line(event(cacheStatus="a@b")).replace(b"@", b"\xff\xef\xbf\xbd"),
    b"\xef\xbb\xbf" + json_line(event()),
))  # fmt: skip

lines = st.one_of(events().map(json_line), wrong_lines, broken_lines, st.sampled_from((b"\n", b"\r\n", b"  \n")))
files = st.lists(lines, max_size=12)


def plain(stats: FileStats, counts: Counts) -> dict[str, Any]:
    """What a file counts as plain values, to be compared with an oracle's answer."""
    found = plain_counts(counts)
    requests = {tick: sum(sums[0] for sums in groups.values()) for tick, groups in found["groups"].items()}
    assert stats.requests == requests
    return {
        "lines": stats.lines,
        "events": stats.events,
        "bytes": stats.bytes,
        "unknown": stats.unknown_agents.requests,
        "ignored": stats.ignored,
        "oldest_ms": stats.oldest_ms,
        "newest_ms": stats.newest_ms,
        **found,
    }


def plain_answer(answer: Answer) -> dict[str, Any]:
    """The same of an oracle's answer."""
    return {
        "lines": answer.lines,
        "events": answer.events,
        "bytes": answer.bytes,
        "unknown": answer.unknown,
        "ignored": dict(answer.ignored),
        "oldest_ms": answer.oldest_ms,
        "newest_ms": answer.newest_ms,
        "groups": {tick: part.groups for tick, part in answer.ticks.items()},
        "viewers": {tick: part.viewers for tick, part in answer.ticks.items() if part.viewers},
    }
