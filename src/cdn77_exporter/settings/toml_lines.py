"""Finds the line of each key, table and list item of a TOML text, which the standard library's parser does not tell."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

#: Keys and numbers of list items, from the root to a value: `("rule", 0, "name")`.
Path = tuple[str | int, ...]

_DEEPEST = 6  # what lies deeper has the line of what it lies in
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PART = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|("(?:[^"\\\n]|\\.)*")|'([^'\n]*)')[ \t]*""")
_SCALAR = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' + r"|'''.*?'{3,5}" + r'|"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'" + r"|[^,\]}#\r\n]+",
    re.DOTALL,
)


class TomlLines:
    """The lines of a TOML text, which the standard library's parser has found valid."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._breaks = [found.end() for found in re.finditer("\n", text)]
        self._lines: dict[Path, int] = {}
        self._items: dict[Path, int] = {}  # the last of each array of tables
        self._read()

    def line(self, path: Path) -> int:
        """Return the line of a value, or of what it would lie in; the whole text begins in line 1."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _read(self) -> None:
        table: Path = ()
        position = self._blank(0)
        while position < len(self._text):
            if self._text.startswith("[[", position):
                parts, end = self._key(position + 2)
                table = self._resolve(parts)
                self._items[table] = self._items.get(table, -1) + 1
                table = (*table, self._items[table])
                self._note(table, position)
                end += 2
            elif self._text.startswith("[", position):
                parts, end = self._key(position + 1)
                table = self._resolve(parts)
                self._note(table, position)
                end += 1
            else:
                end = self._pair(position, table)
            position = self._blank(end)

    def _resolve(self, parts: Path) -> Path:
        """Return the path of a table's name: within arrays of tables it belongs to the last of them."""
        path: Path = ()
        for place, part in enumerate(parts):
            path = (*path, part)
            if path in self._items and place < len(parts) - 1:
                path = (*path, self._items[path])
        return path

    def _pair(self, position: int, table: Path) -> int:
        parts, end = self._key(position)
        path = (*table, *parts)
        self._note(path, position)
        return self._value(self._blank(end + 1), path)

    def _value(self, position: int, path: Path) -> int:
        """Read the value that begins here; return where it ends."""
        if self._text[position] == "{":
            position = self._blank(position + 1)
            while self._text[position] != "}":
                position = self._comma(self._pair(position, path))
            return position + 1
        if self._text[position] == "[":
            position, number = self._blank(position + 1), 0
            while self._text[position] != "]":
                item = (*path, number)
                self._note(item, position)
                position = self._comma(self._value(position, item))
                number += 1
            return position + 1
        return self._match(_SCALAR, position).end()

    def _comma(self, position: int) -> int:
        position = self._blank(position)
        return self._blank(position + 1) if self._text[position] == "," else position

    def _key(self, position: int) -> tuple[Path, int]:
        """Read a key with dots; return its parts, and where it ends."""
        parts: list[str] = []
        while True:
            found = self._match(_PART, position)
            bare, quoted, literal = found.groups()
            parts.append(bare or literal or (_unquoted(quoted) if quoted else ""))
            position = found.end()
            if self._text[position : position + 1] != ".":
                return tuple(parts), position
            position += 1

    def _blank(self, position: int) -> int:
        return self._match(_BLANK, position).end()

    def _match(self, pattern: re.Pattern[str], position: int) -> re.Match[str]:
        found = pattern.match(self._text, position)
        if found is None:
            raise ValueError("the text is no TOML")
        return found

    def _note(self, path: Path, position: int) -> None:
        line = bisect_right(self._breaks, position) + 1
        for length in range(1, min(len(path), _DEEPEST) + 1):
            self._lines.setdefault(path[:length], line)


def _unquoted(text: str) -> str:
    return str(tomllib.loads(f"key = {text}")["key"])
