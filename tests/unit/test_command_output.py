"""What commands print: numbers as people read them, and nothing beside the result where nobody looks."""

from __future__ import annotations

import pytest

from cdn77_exporter.commands import output
from cdn77_exporter.core import phrases


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (7500, "2 h 5 min"),
        (86_400, "1 d"), (273_600, "3 d 4 h"), (-30, "30 s"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_told_in_its_largest_units(seconds: float, text: str) -> None:
    """Seconds and minutes alone, hours with minutes, days with hours."""
    assert phrases.span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB")]
)
def test_a_size_is_told_in_its_largest_unit(count: int, text: str) -> None:
    """Binary units with one decimal."""
    assert output.size(count) == text


def test_a_count_has_its_unit_in_the_right_number() -> None:
    """One file, two files."""
    assert [phrases.number(count, "file") for count in (1, 0, 1234)] == ["1 file", "0 files", "1,234 files"]


def test_no_bar_is_shown_where_nobody_looks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal neither the bar nor the waiting says anything, however long it takes."""
    monkeypatch.setattr(output, "_PATIENCE_SECONDS", 0.0)
    with output.Bar("working", 3) as bar, output.Waiting("waiting"):
        for _ in range(3):
            bar.advance()
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_shown_on_a_terminal_when_it_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal long work has a bar on the standard error, short work has none."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with output.Bar("short work", 1) as bar:
        bar.advance()
    assert "short work" not in capsys.readouterr().err
    monkeypatch.setattr(output, "_PATIENCE_SECONDS", 0.0)
    with output.Bar("long work", 2) as bar:
        bar.advance()
    printed = capsys.readouterr()
    assert "long work" in printed.err
    assert printed.out == ""
