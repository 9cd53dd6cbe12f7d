"""Reads the documentation: its fenced blocks, its tables, and the code between its words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"(?ms)^( *)```(\w*)[^\n]*\n(.*?)^\1```$")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block, or a piece of code in a line or a table."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    """Every fenced block of every page."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in _FENCE.finditer(text):
            indent = len(found[1])
            body = "".join(line[indent:] for line in found[3].splitlines(keepends=True))
            yield Block(_name(page), text.count("\n", 0, found.start()) + 1, found[2], body)


def lines() -> Iterator[tuple[Path, int, str]]:
    """Every line outside of fenced blocks, with its number."""
    for page in PAGES:
        text = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text("utf-8"))
        for number, line in enumerate(text.splitlines(), 1):
            yield page, number, line


def cells(*headings: str) -> Iterator[Block]:
    """The code in the table columns with one of these headings."""
    columns: list[int] = []
    for page, number, line in lines():
        row = _row(line)
        if not row:
            columns = []
        elif not columns:
            columns = [place for place, name in enumerate(row) if name in headings] or [-1]
        elif columns != [-1]:
            for place in columns:
                for found in _CODE.finditer(row[place]):
                    yield Block(_name(page), number, "", found[1])


def rows(*headings: str) -> Iterator[tuple[str, list[str]]]:
    """Page and cells of every row of the tables with exactly these headings."""
    table: list[list[str]] = []
    for page, _, line in lines():
        row = _row(line)
        table = [*table, row] if row else []
        if len(table) > 2 and table[0] == list(headings):  # the second one is the rule
            yield _name(page), row


def _row(line: str) -> list[str]:
    """The cells of a table's line, or nothing."""
    if not line.lstrip().startswith("|"):
        return []
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def inline() -> Iterator[Block]:
    """Every piece of code between words, in tables too."""
    for page, number, line in lines():
        for found in _CODE.finditer(line):
            yield Block(_name(page), number, "", found[1].replace("\\|", "|"))


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()
