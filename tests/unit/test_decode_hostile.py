"""Hostile lines and files: the good lines count, the bad ones have a named reason, memory is bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cdn77_exporter
from cdn77_exporter.core.columns import Counts
from cdn77_exporter.core.decode import Decoder, Limits
from cdn77_exporter.core.decoded import FileStats
from cdn77_exporter.core.errors import Unreadable
from cdn77_exporter.core.reasons import REJECT_REASONS, UNREADABLE_REASONS
from tests.support import hostile
from tests.support import lines as log
from tests.support.bombs import bomb
from tests.support.cases import Cases
from tests.support.files import EXAMPLE_MS, event, gzip_bytes, json_line, stream_name
from tests.support.oracle import Oracle
from tests.support.ways import way

__all__ = ["way"]  # every test here is run with the compiled scan and without

LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - log.WEEK_MS
ORACLE = Oracle(LATEST_MS, OLDEST_MS)
WITNESS = json_line(hostile.WITNESS)
MEBIBYTE = 1024 * 1024

BAD = list(hostile.bad_lines())
ODD = list(hostile.odd_lines())
READABLE = list(hostile.readable_files(WITNESS + b"nonsense\n" + hostile.LINE + WITNESS))
UNREADABLE = list(hostile.unreadable_files())


def decode(body: bytes, limits: Limits | None = None) -> tuple[FileStats, Counts]:
    return Decoder(limits=limits).decode(body, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)


def refusal(body: bytes | Iterable[bytes]) -> str | None:
    """Return why a file is unreadable, or None where it is not."""
    try:
        Decoder().decode(body, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
    except Unreadable as error:
        return error.reason
    return None


def test_every_bad_line_is_a_named_reject_and_its_neighbours_count() -> None:
    """Between two good lines, and as the first and the last of a file, without its newline too."""
    with Cases() as cases:
        for name, line, reason in BAD:
            with cases.case(name):
                assert reason in REJECT_REASONS
                for content in (WITNESS + line + WITNESS, line + WITNESS + WITNESS, WITNESS + WITNESS + line):
                    stats, _ = decode(gzip_bytes(content, 1))
                    assert stats.rejects == {reason: 1}
                    assert (stats.lines, stats.events, stats.bytes) == (3, 2, 2000)


def test_every_odd_line_counts() -> None:
    """It is an event with everything that the oracle sees in it, alone and between others."""
    decoder = Decoder()
    with Cases() as cases:
        for name, line in ODD:
            with cases.case(name):
                for content in (line, WITNESS + line + WITNESS, line * 2):
                    body = gzip_bytes(content, 1)
                    stats, counts = decoder.decode(body, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
                    assert stats.rejects == {}
                    assert log.plain(stats, counts) == log.plain_answer(ORACLE.read_lines(content))


def test_label_values_are_short_and_harmless() -> None:
    """Whatever a line holds, no label is longer than 128 characters or can control a terminal or a protocol."""
    for _, line in ODD:
        _stats, counts = decode(gzip_bytes(line, 1))
        labels = counts.texts
        assert labels
        for label in labels:
            assert 0 < len(label) <= 128
            assert not set(label) & set(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)))


def test_all_bad_lines_in_one_file() -> None:
    """Hundreds of them together: each is counted once under its reason, and the witnesses between them all count."""
    content = WITNESS.join(line for _, line, _ in BAD) + WITNESS
    stats, _ = decode(gzip_bytes(content, 1))
    expected: dict[str, int] = {}
    for _, _, reason in BAD:
        expected[reason] = expected.get(reason, 0) + 1
    assert stats.rejects == expected
    assert (stats.lines, stats.events, stats.bytes) == (2 * len(BAD), len(BAD), 1000 * len(BAD))
    assert set(expected) == set(REJECT_REASONS) - {"stream_not_allowed"}


def test_every_odd_file_counts() -> None:
    """Its lines count as in a usual file, whole and in parts of any length."""
    usual = log.plain(*decode(READABLE[0][1]))
    with Cases() as cases:
        for name, body in READABLE:
            for length in (len(body), 1, 11, 100):
                with cases.case(f"{name}, in parts of {length} bytes"):
                    parts = (body[at : at + length] for at in range(0, len(body), length))
                    stats, counts = Decoder().decode(parts, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
                    assert (stats.lines, stats.events, stats.bytes, stats.rejects) == (4, 3, 6143, {"not_json": 1})
                    assert log.plain(stats, counts) == usual


def test_every_unreadable_file_says_why() -> None:
    """It raises its reason, whole and in parts; nothing of it is counted."""
    with Cases() as cases:
        for name, body, reason in UNREADABLE:
            parts = (body[at : at + 997] for at in range(0, len(body), 997))
            for how, given in (("whole", body), ("in parts", parts)):
                with cases.case(f"{name}, {how}"):
                    assert reason in UNREADABLE_REASONS
                    assert refusal(given) == reason


def test_a_file_without_a_line_is_no_fault() -> None:
    """A gzip file of nothing, and one of blank lines, hold no events and no rejects."""
    for content in (b"", b"\n", b"\r\n\r\n", b" "):
        stats, counts = decode(gzip_bytes(content))
        assert (stats.lines, stats.events, stats.rejects, len(counts)) == (0, 0, {}, 0)


# Limits, each to the exact number


def test_bad_lines_are_counted_up_to_their_limit() -> None:
    """As many as the limit are rejects; one more, and the file is unreadable."""
    limits = Limits(bad_lines=10)
    assert decode(gzip_bytes(b"x\n" * 10 + WITNESS), limits)[0].rejects == {"not_json": 10}
    with pytest.raises(Unreadable, match="too_many_bad_lines"):
        decode(gzip_bytes(b"x\n" * 11 + WITNESS), limits)


def test_lines_that_only_are_of_no_use_have_no_limit() -> None:
    """A file may be full of requests without a stream, or of old ones: nothing is wrong with it."""
    other = b'{"timestamp":"2026-01-10T14:49:28Z","clientRequestPath":"/","clientIP":"10.0.0.1"}\n'
    old = hostile.LINE.replace(b"2026-01-10", b"2025-12-01")
    assert decode(gzip_bytes(other * 50 + old * 50), Limits(bad_lines=0))[0].rejects == {"no_stream": 50, "too_old": 50}


def test_the_inflated_size_has_a_limit() -> None:
    """A file of exactly MAX_FILE_BYTES is read; with one byte more it is too large, in one member or in several."""
    content = WITNESS * 3
    limits = Limits(file_bytes=len(content))
    assert decode(gzip_bytes(content), limits)[0].events == 3
    for body in (gzip_bytes(content + b"\n"), gzip_bytes(content) + gzip_bytes(b"\n")):
        with pytest.raises(Unreadable, match="too_large"):
            decode(body, limits)


@pytest.mark.parametrize("extra", [0, 1, 10])
def test_a_line_has_a_limit(extra: int) -> None:
    """A line of exactly MAX_LINE_BYTES counts, a longer one is a reject, wherever the pieces are cut."""
    limits = Limits(line_bytes=len(WITNESS) - 1)
    longer = WITNESS[:-2] + b" " * extra + b"}\n"
    for before in (0, 1, 130, 131_072 - len(WITNESS) // 2):
        content = b"\n" * before + longer + WITNESS
        stats, _ = decode(gzip_bytes(content), limits)
        assert stats.events == (1 if extra else 2)
        assert stats.rejects == ({"line_too_long": 1} if extra else {})


def test_groups_and_viewers_have_a_limit(way: str) -> None:
    """As many different ones as the limit count, however often they come; one more, and nothing of the file does."""
    streams = [json_line(event(clientRequestPath=f"/{stream_name(number)}/x")) for number in range(1500)]
    crowd = [json_line(event(clientIP=f"10.0.{number >> 8}.{number & 255}")) for number in range(3000)]
    for lines, entries in ((streams, 1500), (crowd, 3000)):
        content = b"".join([*lines, *lines, *lines[:7]])
        assert decode(gzip_bytes(content), Limits(entries=entries))[0].events == 2 * len(lines) + 7
        with pytest.raises(Unreadable, match="too_many_distinct"):
            decode(gzip_bytes(content), Limits(entries=entries - 1))


def test_spellings_of_one_label_are_one_group(way: str) -> None:
    """What is missing, null or empty in a line is the same label, and takes no more of the limit."""
    spelt = [
        json_line(event(cacheStatus=cache, locationID=pop, resourceID=cdn, responseStatus=status))
        for cache in ("", None, "UNKNOWN")
        for pop in ("", None, "unknown")
        for cdn in (0, None)
        for status in (0, None)
    ]
    stats, _ = decode(gzip_bytes(b"".join(spelt * 40)), Limits(entries=1))
    assert stats.events == 40 * len(spelt)


# Bombs


@dataclass(frozen=True)
class Bomb:
    """A line that repeats, after some good bytes, and why the file is refused."""

    line: bytes
    reasons: set[str]
    before: bytes = b""

    def body(self) -> bytes:
        return self.before + bomb(self.line, 600 * MEBIBYTE)


BOMBS = {
    "600 MB of zeros": Bomb(b"\0", {"line_too_long", "too_large"}),
    "300 million short bad lines": Bomb(b"x\n", {"too_many_bad_lines"}),
    "200 million empty objects": Bomb(b"{}\n", {"too_many_bad_lines"}),
    "600 million blank lines": Bomb(b"\n", {"too_many_bad_lines", "too_large"}),
    "one endless line": Bomb(b'{"a":"', {"line_too_long", "too_large"}),
    "an endless line behind a good one": Bomb(b"abcdefg", {"line_too_long", "too_large"}, gzip_bytes(WITNESS)),
    "good lines without end": Bomb(WITNESS, {"too_large"}),
    "two million longer bad lines": Bomb(b"y" * 300 + b"\n", {"too_many_bad_lines"}),
    "a hundred thousand empty members": Bomb(b"x\n", {"too_many_bad_lines"}, gzip_bytes(b"") * 100_000),
}

_MEASURED = """
import json, sys
from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.errors import Unreadable

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

def pieces(path):
    with open(path, "rb") as file:
        while piece := file.read(65536):
            yield piece

decoder = Decoder(examples=True, accelerate=sys.argv[3] == "compiled")
decoder.decode(pieces(sys.argv[1]), latest_ms=10**13, oldest_ms=0)
before, reason = peak(), ""
try:
    decoder.decode(pieces(sys.argv[2]), latest_ms=10**13, oldest_ms=0)
except Unreadable as error:
    reason = error.reason
print(json.dumps({"reason": reason, "grown_kib": peak() - before}))
"""


def measured(usual: Path, hostile_file: Path, way: str) -> dict[str, Any]:
    """Why a process of its own refuses a file, and how much its peak of memory grows by that."""
    ended = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(usual), str(hostile_file), way],
        env={"PYTHONPATH": str(Path(cdn77_exporter.__file__).parent.parent)},
        capture_output=True,
        timeout=120,
        check=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_without_memory(name: str, tmp_path: Path, way: str) -> None:
    """A small file that would inflate to 600 MB is given up within 40 MB of memory."""
    usual, hostile_file = tmp_path / "usual.gz", tmp_path / "bomb.gz"
    usual.write_bytes(gzip_bytes(WITNESS))
    hostile_file.write_bytes(BOMBS[name].body())
    assert hostile_file.stat().st_size < 4 * MEBIBYTE
    found = measured(usual, hostile_file, way)
    assert found["reason"] in BOMBS[name].reasons
    assert found["grown_kib"] < 40 * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_a_file_of_nothing_but_new_viewers_has_bounded_memory(tmp_path: Path, way: str) -> None:
    """Of 700,000 tiny lines, each with a stream and a viewer of its own, no more is remembered than the limit says."""
    line = '{"timestamp":"2026-01-10T14:49:28Z","clientIP":"%d.%d.%d.9","clientRequestPath":"/%032x/"}\n'
    content = "".join(line % (number >> 16, number >> 8 & 255, number & 255, number) for number in range(700_000))
    usual, hostile_file = tmp_path / "usual.gz", tmp_path / "crowd.gz"
    usual.write_bytes(gzip_bytes(WITNESS))
    hostile_file.write_bytes(gzip_bytes(content.encode(), 1))
    found = measured(usual, hostile_file, way)
    assert found["reason"] == "too_many_distinct"
    assert found["grown_kib"] < 300 * 1024
