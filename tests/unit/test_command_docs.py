"""The page of commands: every command and every option that it names exists, and none is missing."""

from __future__ import annotations

import re
from pathlib import Path

from cdn77_exporter.commands import COMMANDS
from cdn77_exporter.commands.completion import all_words

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")


def test_every_command_is_on_the_page() -> None:
    """The first table has a row for each, and nothing else."""
    table = PAGE.partition("| exit code")[0]
    assert set(re.findall(r"^\| \[?`([a-z]+)`", table, re.MULTILINE)) == set(COMMANDS)


def test_every_option_on_the_page_exists() -> None:
    """What is called in an example, or named in a section, is an option of some command."""
    known = {option.name for words in all_words() for option in words.options} | {"--all"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE))
    assert named <= known, named - known
