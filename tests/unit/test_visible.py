"""Texts that others wrote, as they are shown: nothing in them moves the cursor, turns letters around or ends a line."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter import settings
from cdn77_exporter.commands.output import console, print_json, print_table, printable
from cdn77_exporter.core.visible import visible
from cdn77_exporter.telemetry.logger import Telemetry
from tests.support.settings import LEAST

HOSTILE = {
    "C1": "logs/\x9b31m.gz",
    "escape": "logs/\x1b[2J.gz",
    "RTL": "logs/\u202egz.exe",
    "isolate": "logs/\u2066x\u2069",
    "line separator": "logs/a\u2028b",
    "paragraph separator": "logs/a\u2029b",
    "next line": "logs/a\x85b",
    "line break": "logs/a\nb",
    "zero width": "logs/a\u200bb",
    "tag": "logs/\U000e0041",
}
hostile = pytest.mark.parametrize("key", HOSTILE.values(), ids=HOSTILE)


@given(st.text())
def test_what_is_returned_is_printable(text: str) -> None:
    """Whatever comes; and what was printable is as it was."""
    assert visible(text).isprintable()
    if text.isprintable():
        assert visible(text) == text


def test_a_name_of_any_language_stays() -> None:
    """Letters are no hazard."""
    assert visible("logy/Žluťoučký kůň/日志/سجل 1.gz") == "logy/Žluťoučký kůň/日志/سجل 1.gz"


@pytest.mark.guarantee("copies.names")
@hostile
def test_log_lines_hold_it_escaped(key: str) -> None:
    """In a name, in a text, and in a problem."""
    stream = io.BytesIO()
    telemetry = Telemetry(settings.load(LEAST).masker(), stream=stream)
    telemetry("file_gone", key=key)
    telemetry("poll_failed", error=f"no {key}", remedy="none")
    gone, failed = (json.loads(line) for line in stream.getvalue().splitlines())
    assert gone["key"] == visible(key)
    assert failed["error"].replace("\n", "").isprintable()
    telemetry.problems.found("bucket", key)
    assert telemetry.problems.current()[0].words == visible(key)


@pytest.mark.guarantee("copies.names")
@hostile
def test_commands_print_it_escaped(key: str) -> None:
    """In tables and sentences; in JSON, where it stays the same text for programs."""
    out = io.StringIO()
    with redirect_stdout(out):
        print_table(console(), ("size", "key"), [("1", key), ("2", (key, "red"))])
    assert out.getvalue().replace("\n", "").isprintable()
    assert out.getvalue().count(visible(key)) == 2
    assert printable(key) == visible(key)
    out = io.StringIO()
    with redirect_stdout(out):
        print_json({"key": key})
    assert out.getvalue().replace("\n", "").isprintable()
    assert json.loads(out.getvalue()) == {"key": key}
