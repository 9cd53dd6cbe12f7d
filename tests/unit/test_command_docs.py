"""The page of commands: every command and every option that it names exists, and none is missing."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

from cdn77_exporter.commands import COMMANDS

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")


def test_every_command_is_on_the_page() -> None:
    """The first table has a row for each, and nothing else."""
    table = PAGE.partition("| exit code")[0]
    assert set(re.findall(r"^\| \[?`([a-z]+)`", table, re.MULTILINE)) == set(COMMANDS)


def test_every_option_on_the_page_exists() -> None:
    """What is called in an example, or named in a section, is an option of some command."""
    known = set().union(*map(_options, COMMANDS)) | {"--help", "--version"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE))
    assert named <= known, named - known


def _options(command: str) -> set[str]:
    """The options in a command's help, and in those of the commands below it."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"cdn77_exporter.commands.{COMMANDS[command][0]}").add_arguments(parser)
    below = [action.choices.values() for action in parser._actions if isinstance(action.choices, dict)]
    texts = [one.format_help() for one in (parser, *(child for children in below for child in children))]
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "".join(texts)))
