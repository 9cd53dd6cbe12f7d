"""`inspect`: what it prints, its exit codes, what it reads, and what it does not need."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import cdn77_exporter
from cdn77_exporter import __main__ as command_line
from cdn77_exporter.commands.inspect import command as inspect
from cdn77_exporter.commands.inspect import inspection
from tests.support import hostile
from tests.support.bombs import bomb
from tests.support.files import (
    EXAMPLE_MS,
    event,
    gzip_bytes,
    json_line,
    log_file,
    ndjson,
    stream_name,
    timestamp,
    traffic,
)
from tests.support.lines import WEEK_MS
from tests.support.oracle import Oracle

SOURCE = Path(cdn77_exporter.__file__).parent.parent
NOW_MS = time.time_ns() // 1_000_000
DAY_MS = 24 * 3600 * 1000
NAMED = {"files", "lines", "events", "requests", "bytes", "streams", "rejects", "unreadable"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in inspect.HONOURED:
        monkeypatch.delenv(name, raising=False)


def found(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> dict[str, Any]:
    """What `inspect --json` prints."""
    assert command_line.main(["inspect", "--json", *map(str, words)]) == code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(answer) >= NAMED
    return answer


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    """What `inspect` prints for people."""
    assert command_line.main(["inspect", *map(str, words)]) == code
    return capsys.readouterr().out


def write(path: Path, body: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


# Sums


def test_sums_over_files_are_the_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files with viewers in common: every sum equals the oracle's over both."""
    start = NOW_MS - 120_000
    contents = [ndjson(traffic(800, seed=seed, start_ms=start, viewers=60)) for seed in (1, 1)]
    contents[1] += b"nonsense\n" + json_line(event(NOW_MS, clientRequestPath="/robots.txt"))
    for number, content in enumerate(contents):
        write(tmp_path / f"{number}.gz", gzip_bytes(content))
    answer = found(capsys, tmp_path, "--top", 1000)
    truth = Oracle(NOW_MS + 60_000, NOW_MS - WEEK_MS).read_lines(b"".join(contents))
    groups = [(key, sums) for part in truth.ticks.values() for key, sums in part.groups.items()]
    viewers = {viewer for part in truth.ticks.values() for viewer in part.viewers}

    def requests(place: int) -> dict[str, int]:
        counts: dict[str, int] = {}
        for key, sums in groups:
            counts[key[place]] = counts.get(key[place], 0) + sums[0]
        return counts

    def distinct(*places: int) -> dict[str, int]:
        return {
            name: len({(viewer[0], viewer[1]) for viewer in viewers if viewer[places[0]] == name})
            for name in {viewer[places[0]] for viewer in viewers}
        }

    assert (answer["files"], answer["lines"], answer["events"]) == (2, 1602, 1600)
    assert (answer["requests"], answer["bytes"]) == (1600, truth.bytes)
    assert answer["rejects"] == {"not_json": 1, "no_stream": 1}
    assert answer["unreadable"] == []
    assert answer["streams"] == len(requests(0)) == len(answer["by_stream"])
    assert {name: sums["requests"] for name, sums in answer["by_stream"].items()} == requests(0)
    assert {name: sums["viewers"] for name, sums in answer["by_stream"].items()} == distinct(0)
    assert sum(sums["bytes"] for sums in answer["by_stream"].values()) == truth.bytes
    assert (answer["cache_statuses"], answer["pops"], answer["statuses"]) == (requests(2), requests(3), requests(4))
    assert answer["viewers"] == len({viewer[:2] for viewer in viewers})
    assert answer["viewers_by_device"] == distinct(2)
    assert answer["viewers_by_country"] == distinct(3)
    assert answer["oldest"] == timestamp(truth.oldest_ms)
    assert answer["newest"] == timestamp(truth.newest_ms)
    assert answer["viewers_complete"] is True


def test_a_viewer_counts_once_per_stream_device_and_country(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same address on two streams is two viewers; with two devices it is one viewer, of both."""
    events = [
        event(NOW_MS, clientRequestPath=f"/{stream_name(stream)}/x", clientIP="10.0.0.1", **more)
        for stream, more in (
            (1, {}),
            (1, {"clientRequestUserAgent": "Roku"}),
            (1, {"clientCountry": "DE"}),
            (2, {}),
            (2, {}),
        )
    ]
    answer = found(capsys, write(tmp_path / "a.gz", log_file(events)))
    assert answer["viewers"] == 2
    assert {name: sums["viewers"] for name, sums in answer["by_stream"].items()} == {
        stream_name(1): 1,
        stream_name(2): 1,
    }
    assert answer["viewers_by_device"] == {"web": 2, "roku": 1}
    assert answer["viewers_by_country"] == {"US": 2, "DE": 1}


def test_agents_that_no_rule_knows_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their share of all requests and no address; rules of one's own are honoured, and faults of them told."""
    agents = ("curl/8.5.0", "Odd%20Player (203.0.113.77)", "curl/8.5.0", "Firefox/133")
    path = write(tmp_path / "a.gz", log_file([event(NOW_MS, clientRequestUserAgent=agent) for agent in agents]))
    assert found(capsys, path)["unknown_agents"] == {"curl/8.5.0": 2, "Odd Player (***)": 1}
    text = said(capsys, path)
    assert "User-Agents that no device rule knows, 75.0 % of the requests" in text
    assert re.search(r"curl/8\.5\.0 +2 +50\.0 %\n", text) and "203.0.113" not in text

    rules = write(tmp_path / "devices.toml", b'[[rule]]\nname = "tool"\nwords = ["curl"]\n')
    monkeypatch.setenv("DEVICE_RULES_FILE", str(rules))
    answer = found(capsys, path)
    assert answer["viewers_by_device"] == {"tool": 1, "other": 1}
    assert answer["unknown_agents"] == {"Odd Player (***)": 1, "Firefox/133": 1}
    rules.write_text('[[rule]]\nname = "tool"\n')
    assert command_line.main(["inspect", str(path)]) == 2
    assert "line 1: The rule has neither `words` nor `pattern`" in capsys.readouterr().err


@pytest.mark.guarantee("files.huge_values")
@pytest.mark.parametrize(("apart", "bytes_each"), [(0, 2**53), (15, 2**52), (0, 2**10)])
def test_sums_that_end_at_their_bound_are_said(
    apart: int, bytes_each: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one tick, or of a stream over several; the file counts, and sums that fit are not spoken of."""
    lines = [event(NOW_MS - 100_000 + 1000 * apart * (place % 2), responseBytes=bytes_each) for place in range(2049)]
    path = write(tmp_path / "huge.gz", log_file(lines))
    ended = bytes_each > 2**10
    answer = found(capsys, path)
    assert (answer["saturated_sums"] > 0, answer["events"]) == (ended, 2049)
    assert ("ended at 2^63 - 1" in said(capsys, path)) == ended


@pytest.mark.guarantee("viewers.mapped")
def test_an_address_is_one_viewer_in_any_spelling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An IPv6 address may be written in several ways, and an IPv4 address as an IPv6 one."""
    spelled = ("2001:db8::1", "2001:DB8:0:0::1", "2001:0db8:0:0:0:0:0:1", "::ffff:1.2.3.4", "1.2.3.4")
    path = write(tmp_path / "a.gz", log_file(event(NOW_MS, clientIP=ip) for ip in spelled))
    assert found(capsys, path)["viewers"] == 2


def test_viewers_have_a_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When too many viewers have been met their number is a least number, and that is said; requests stay exact."""
    monkeypatch.setattr(inspection, "_MOST_SEEN", 30)
    path = write(tmp_path / "a.gz", log_file(event(NOW_MS, clientIP=f"10.0.0.{number}") for number in range(100)))
    answer = found(capsys, path)
    assert answer["viewers_complete"] is False
    assert 5 < answer["viewers"] <= 30
    assert answer["requests"] == 100
    assert "at least" in said(capsys, path)


def test_only_the_largest_streams_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--top` bounds the list of streams; `streams` is the number of all of them."""
    events = [event(NOW_MS, clientRequestPath=f"/{stream_name(n)}/x") for n in range(20) for _ in range(n + 1)]
    path = write(tmp_path / "a.gz", log_file(events))
    answer = found(capsys, path, "--top", 3)
    assert answer["streams"] == 20
    assert list(answer["by_stream"]) == [stream_name(19), stream_name(18), stream_name(17)]
    assert found(capsys, path, "--top", 0)["by_stream"] == {}
    assert len(found(capsys, path)["by_stream"]) == 10
    text = said(capsys, path, "--top", 3)
    assert "3 of 20" in text
    assert stream_name(19) in text
    assert stream_name(5) not in text


# Time


@pytest.mark.parametrize("age_ms", [0, 3 * DAY_MS, 21 * DAY_MS, 400 * DAY_MS])
def test_lines_years_old_are_too_old_and_those_ahead_are_told(
    age_ms: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In files of today, of this week, of weeks and of a year ago the good lines count, whatever is beside them."""
    base = NOW_MS - age_ms - 60_000
    good = list(traffic(50, start_ms=base, seed=4))
    years_old = [event(base - years * 365 * DAY_MS) for years in (2, 5, 20)]
    ahead = [event(NOW_MS + DAY_MS), event(NOW_MS + 400 * DAY_MS)]
    answer = found(capsys, write(tmp_path / "a.gz", log_file([*years_old, *good, *ahead])))
    assert answer["lines"] == 55
    assert answer["events"] == 52
    assert answer["rejects"] == {"too_old": 3}
    assert answer["ahead_of_now"] == 2
    assert answer["oldest"] == timestamp(min(round(fields["startTimeMs"]) for fields in good))


def test_a_file_of_old_lines_beside_a_new_one_is_told_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line of today is enough for the others to be too old: the service would say the same."""
    events = [event(NOW_MS - 400 * DAY_MS - number) for number in range(9)] + [event(NOW_MS - 1000)]
    answer = found(capsys, write(tmp_path / "a.gz", log_file(events)))
    assert (answer["events"], answer["rejects"]) == (1, {"too_old": 9})


def test_the_limit_of_age_is_seven_days_to_the_millisecond(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--now` the answer is the service's at that time, and does not depend on the clock."""
    now_ms = NOW_MS - 300 * DAY_MS
    events = [event(now_ms), event(now_ms - WEEK_MS), event(now_ms - WEEK_MS - 1), event(now_ms + DAY_MS)]
    answer = found(capsys, write(tmp_path / "a.gz", log_file(events)), "--now", timestamp(now_ms))
    assert (answer["events"], answer["rejects"], answer["ahead_of_now"]) == (3, {"too_old": 1}, 1)


def test_a_clock_that_is_behind_spoils_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is ahead of the clock as a whole is counted whole, and its lines of years ago are still too old."""
    events = [*traffic(40, start_ms=NOW_MS), event(NOW_MS - 900 * DAY_MS)]
    path = write(tmp_path / "a.gz", log_file(events))
    answer = found(capsys, path, "--now", timestamp(NOW_MS - 300 * DAY_MS))
    assert (answer["events"], answer["rejects"], answer["ahead_of_now"]) == (40, {"too_old": 1}, 40)


# What is read


def test_folders_are_searched_for_gz(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All *.gz at any depth, files that are named whatever they are called, and nothing else."""
    body = log_file([event(NOW_MS)])
    write(tmp_path / "20260110" / "14" / "rtl.a+1+1.ndjson.gz", body)
    write(tmp_path / "20260110" / "15" / "rtl.a+1+2.ndjson.gz", body)
    write(tmp_path / "note.txt", b"no log")
    named = write(tmp_path / "other" / "log", body)
    assert found(capsys, tmp_path)["files"] == 2
    answer = found(capsys, tmp_path / "20260110", named, named)
    assert (answer["files"], answer["events"]) == (4, 4)


def test_a_folder_without_files_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no failure, but a sentence on stderr tells a wrong path from an empty answer."""
    assert command_line.main(["inspect", "--json", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["files"] == 0
    assert captured.err.count("\n") == 1
    assert str(tmp_path) in captured.err


@pytest.mark.parametrize("seven_days", [True, False])
def test_standard_input(
    seven_days: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-` reads standard input, also where the lines have to be read a second time, and beside files."""
    old = [] if seven_days else [event(NOW_MS - 900 * DAY_MS)]
    body = log_file([*traffic(5000, start_ms=NOW_MS - 60_000), *old])

    class Stdin:
        buffer = io.BytesIO(body)

        @staticmethod
        def isatty() -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Stdin)
    monkeypatch.setattr(inspect, "_SPOOL_BYTES", 1000)
    answer = found(capsys, "-", write(tmp_path / "a.gz", body))
    assert (answer["files"], answer["events"], sum(answer["rejects"].values())) == (2, 10_000, 2 * len(old))


def test_a_terminal_is_no_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` without a pipe is a mistake, said at once."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert command_line.main(["inspect", "-"]) == 2
    assert "terminal" in capsys.readouterr().err


# What cannot be read


def test_unreadable_files_are_named_and_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its path and reason; the others count; the exit code is 1."""
    good = write(tmp_path / "good.gz", log_file([event(NOW_MS)]))
    bad = []
    for number, (_, body, reason) in enumerate(hostile.unreadable_files()):
        bad.append({"path": str(write(tmp_path / f"bad{number:02}.gz", body)), "reason": reason})
    answer = found(capsys, tmp_path, code=1)
    assert answer["unreadable"] == bad
    assert (answer["files"], answer["lines"], answer["events"]) == (1 + len(bad), 1, 1)
    text = said(capsys, tmp_path, code=1)
    assert all(entry["reason"] in text for entry in bad)
    assert found(capsys, good)["unreadable"] == []


def test_what_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence on stderr, an entry in the answer, exit code 1; the other files are read."""
    missing = tmp_path / "missing.gz"
    good = write(tmp_path / "good.gz", log_file([event(NOW_MS)]))
    assert command_line.main(["inspect", "--json", str(missing), str(good)]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"{missing}: there is no such file\n"
    answer = json.loads(captured.out)
    assert answer["unreadable"] == [{"path": str(missing), "reason": "not_found"}]
    assert answer["events"] == 1
    assert "not_found" in said(capsys, missing, code=1)


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read"
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the system has its words on stderr and a reason in the answer."""
    path = Path("/proc/self/mem") if os.geteuid() == 0 else write(tmp_path / "a.gz", b"x")
    if os.geteuid() != 0:
        path.chmod(0)
    assert command_line.main(["inspect", "--json", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"{path}: cannot be read: ")
    assert json.loads(captured.out)["unreadable"] == [{"path": str(path), "reason": "cannot_be_opened"}]


@pytest.mark.guarantee("copies.names")
@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text are Linux's")
def test_any_path_can_be_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is no UTF-8, or would control the terminal, is shown with what is wrong in it escaped."""
    monkeypatch.chdir(tmp_path)  # a long path would be folded, wherever the line happens to end
    write(Path("logs", os.fsdecode(b"\xff\x1b[31m[red]x.gz")), b"no log")
    answer = found(capsys, "logs", code=1)
    assert answer["unreadable"] == [{"path": "logs/\ufffd\\x1b[31m[red]x.gz", "reason": "not_gzip"}]
    text = said(capsys, "logs", code=1)
    assert "[red]x.gz" in text
    assert "\x1b" not in text


# Hostile files


def test_every_hostile_line_is_in_a_named_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them in one file beside good lines: the good ones count, each bad one under its reason."""
    now = timestamp(EXAMPLE_MS + 2000)
    bad = list(hostile.bad_lines())
    good = len(bad)
    content = ndjson([hostile.WITNESS] * good) + b"".join(line for _, line, _ in bad)
    expected: dict[str, int] = {}
    for _, _, reason in bad:
        expected[reason] = expected.get(reason, 0) + 1
    path = write(tmp_path / "a.gz", gzip_bytes(content))
    answer = found(capsys, path, "--now", now)
    assert (answer["lines"], answer["events"], answer["requests"]) == (good + len(bad), good, good)
    assert (answer["bytes"], answer["streams"]) == (1000 * good, 1)
    assert answer["rejects"] == expected
    text = said(capsys, path, "--now", now)
    assert all(reason in text for reason in expected)


def test_people_see_where_rejects_are_and_no_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """File, line number and the line's begin, with client addresses masked; no more of them than fit a screen."""
    lines = [json_line(event(NOW_MS, clientIP="203.0.113.9", clientRequestXForwardedFor="203.0.113.9"))] * 3
    lines[1] = json_line(event(NOW_MS, clientIP="2001:db8::beef", timestamp="yesterday"))
    path = write(tmp_path / "a.gz", gzip_bytes(b"".join(lines) + b"203.0.113.77 nonsense\n" * 200))
    text = said(capsys, path, code=1)
    assert "not_a_log" in text
    assert f"{path}:2: bad_timestamp" in text
    assert f"{path}:4: not_json *** nonsense" in text
    assert text.count("nonsense") == inspection.EXAMPLES
    assert "203.0.113" not in text
    assert "beef" not in text


def test_what_the_service_sets_aside_is_unreadable_here_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of another format is told with a line of it, is counted in nothing, and the exit code says so."""
    write(tmp_path / "a.gz", gzip_bytes(b"timestamp,clientIP\n" + b"2026-01-10,203.0.113.9\n" * 5))
    write(tmp_path / "b.gz", log_file([event(NOW_MS)]))
    answer = found(capsys, tmp_path, code=1)
    assert answer["unreadable"] == [{"path": str(tmp_path / "a.gz"), "reason": "not_a_log"}]
    assert (answer["lines"], answer["events"], answer["rejects"]) == (1, 1, {})
    text = said(capsys, tmp_path, code=1)
    assert "a.gz:1: not_json timestamp,clientIP" in text
    assert "203.0.113.9" not in text


@pytest.mark.parametrize("line", [b"\0", b"x\n", b'{"a":"'])
def test_bombs_are_unreadable(line: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """600 MB of zeros, 300 million short bad lines, one endless line: a reason each, and the next file counts."""
    write(tmp_path / "a.gz", bomb(line, 600 * 1024**2))
    write(tmp_path / "b.gz", log_file([event(NOW_MS)]))
    answer = found(capsys, tmp_path, code=1)
    assert [entry["reason"] for entry in answer["unreadable"]] in (
        ["line_too_long"],
        ["too_large"],
        ["too_many_bad_lines"],
    )
    assert (answer["lines"], answer["events"]) == (1, 1)


# The form for people


def test_people_get_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sums, span, streams, status codes, cache, devices and countries, as text without escapes when piped."""
    start = NOW_MS - 60_000
    write(tmp_path / "a.gz", log_file(traffic(1000, start_ms=start)))
    text = said(capsys, tmp_path)
    assert text.splitlines()[0] == "1 file, 1,000 lines: 1,000 events, no rejects"
    assert timestamp(start)[:10] in text.splitlines()[1]
    for word in (
        "cache hits",
        "Streams, 10 of 40",
        "Status codes",
        "200",
        "HIT",
        "roku",
        "US",
        "MiB",
    ):
        assert word in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_an_empty_file_has_a_summary_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of no lines is read, and there is nothing more to say of it."""
    path = write(tmp_path / "a.gz", gzip.compress(b""))
    assert said(capsys, path) == "1 file, 0 lines: 0 events, no rejects\n"
    answer = found(capsys, path)
    assert (answer["oldest"], answer["newest"], answer["streams"]) == (None, None, 0)


def test_a_bar_is_drawn_on_a_terminal_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that takes longer than the patience has a bar on stderr when that is a terminal; stdout stays clean."""
    monkeypatch.setattr("cdn77_exporter.commands.output._PATIENCE_SECONDS", 0.0)
    path = write(tmp_path / "a.gz", log_file(traffic(3000, start_ms=NOW_MS - 60_000)))
    assert command_line.main(["inspect", "--json", str(path)]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert command_line.main(["inspect", "--json", str(path)]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["events"] == 3000
    assert captured.err != ""


# Settings and usage


def test_settings_are_honoured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits, pattern and ticks as the service would take them."""
    events = [event(NOW_MS, clientRequestPath="/live/one/x.ts", locationID=pop) for pop in ("a", "b", "c")]
    path = write(tmp_path / "a.gz", gzip_bytes(ndjson(events) + b"x\n" * 2))
    assert found(capsys, path)["rejects"] == {"no_stream": 3, "not_json": 2}
    monkeypatch.setenv("STREAM_PATTERN", "/live/([a-z]+)/")
    monkeypatch.setenv("TICK_SECONDS", "60")
    assert list(found(capsys, path)["by_stream"]) == ["one"]
    for name, value, reason in (
        ("MAX_BAD_LINES", "1", "too_many_bad_lines"),
        ("MAX_FILE_BYTES", "1000", "too_large"),
        ("MAX_FILE_ENTRIES", "1", "too_many_distinct"),
    ):
        with monkeypatch.context() as within:
            within.setenv(name, value)
            assert found(capsys, path, code=1)["unreadable"] == [{"path": str(path), "reason": reason}]
    monkeypatch.setenv("MAX_LINE_BYTES", "256")
    assert found(capsys, path, code=1)["unreadable"] == [{"path": str(path), "reason": "not_a_log"}]


@pytest.mark.guarantee("viewers.inspect")
@pytest.mark.parametrize("as_file", [False, True], ids=["pattern", "file of names"])
def test_only_streams_of_the_allowlist_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, as_file: bool
) -> None:
    """Lines of others are rejects with the same reason, and the same number of them, as the service has."""
    lines = [event(NOW_MS, clientRequestPath=f"/{stream_name(number % 3)}/x.ts") for number in range(7)]
    path = write(tmp_path / "a.gz", log_file(lines))
    wanted = stream_name(1)
    if as_file:
        names = tmp_path / "streams.txt"
        names.write_text(f"# mine\n{wanted}\n")
    monkeypatch.setenv("STREAM_ALLOWLIST", str(names) if as_file else wanted)
    answer = found(capsys, path)
    assert list(answer["by_stream"]) == [wanted]
    assert (answer["events"], answer["rejects"]) == (2, {"stream_not_allowed": 5})


def test_wrong_settings_are_all_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2 and a sentence for each, that names its variable; nothing is read."""
    wrong = {
        "MAX_FILE_BYTES": "much",
        "MAX_LINE_BYTES": "1",
        "MAX_BAD_LINES": "-1",
        "MAX_FILE_ENTRIES": "0",
        "STREAM_ALLOWLIST": "/no/such/list",
        "STREAM_PATTERN": "(",
        "TICK_SECONDS": "7",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    assert command_line.main(["inspect", "/no/such/file"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sorted(line.split()[0] for line in captured.err.splitlines()) == sorted(wrong)


def test_other_settings_do_not_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong configuration of the service is no reason not to look into a file."""
    monkeypatch.setenv("S3_ENDPOINT", "nonsense")
    monkeypatch.setenv("POLL_INTERVAL", "soon")
    assert found(capsys, write(tmp_path / "a.gz", log_file([event(NOW_MS)])))["events"] == 1


@pytest.mark.parametrize("words", [[], ["--json"], ["--top", "x", "a"], ["--now", "soon", "a"], ["--unknown", "a"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, a sentence on stderr, nothing on stdout."""
    with pytest.raises(SystemExit) as ended:
        command_line.main(["inspect", *words])
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


# The process


_NOT_NEEDED = {
    "aioboto3",
    "aiobotocore",
    "aiohttp",
    "asyncio",
    "boto3",
    "botocore",
    "google",
    "rich",
    "sqlite3",
}
_NOT_NEEDED |= {"http", "ssl", "structlog", "prometheus_client", "uvloop", "cramjam", "geoip2", "multiprocessing"}


@pytest.mark.parametrize("form", ["--json", "--top=5"])
def test_what_is_not_needed_is_not_imported(form: str, tmp_path: Path) -> None:
    """No S3, protobuf, HTTP or event loop, and rich only for people."""
    path = write(tmp_path / "a.gz", log_file([event(NOW_MS)]))
    code = (
        "import sys; from cdn77_exporter.__main__ import main; code = main(sys.argv[1:]); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr); sys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "inspect", form, str(path)],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    imported = set(ended.stderr.split())
    assert "cdn77_exporter" in imported
    assert imported & _NOT_NEEDED <= ({"rich", "asyncio", "ssl"} if form != "--json" else set())


def test_the_real_process(tmp_path: Path) -> None:
    """Through a pipe, in a bare environment: one JSON object on stdout, nothing on stderr, and the exit code."""
    body = log_file(traffic(100, start_ms=NOW_MS - 60_000))
    for given, code, events in ((body, 0, 100), (body[:-9], 1, 0)):
        ended = subprocess.run(
            [sys.executable, "-m", "cdn77_exporter", "inspect", "-", "--json"],
            env={"PYTHONPATH": str(SOURCE), "PATH": os.defpath, "LC_ALL": "C"},
            cwd=tmp_path,
            input=given,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (code, b"")
        assert json.loads(ended.stdout)["events"] == events


def test_memory_does_not_grow_with_files(tmp_path: Path) -> None:
    """Twelve files of 8,000 lines are no more than a file: 40 MB above an interpreter that has imported nothing."""
    body = log_file(traffic(8_000, start_ms=NOW_MS - 60_000))
    for number in range(12):
        write(tmp_path / f"{number}.gz", body)
    code = (
        "import sys\n"
        "def peak():\n"
        "    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "idle = peak()\n"
        "from cdn77_exporter.__main__ import main\n"
        "main(['inspect', '--json', sys.argv[1]])\n"
        "print(peak() - idle, file=sys.stderr)\n"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is read from /proc")
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(ended.stdout)["events"] == 96_000
    assert int(ended.stderr) < 40 * 1024
