"""Reads TOML files of settings: bounded, and with the line of each fault, of which all are collected.

What a file may hold is declared in kinds of values, see `toml_kinds`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdn77_exporter.core.visible import visible
from cdn77_exporter.edge.plain_file import open_plain
from cdn77_exporter.settings import toml_lines
from cdn77_exporter.settings.toml_lines import TomlLines

MOST_BYTES = 256 * 1024
_MOST_FAULTS = 50  # that are told; a file of another kind may have one in each line
_MOST_SHOWN = 60  # characters of a key or value
_AT_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """A fault of a file: its line, 0 for the file itself, and in a sentence what is wrong and what would be right."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


class FileFaults(ValueError):
    """A file cannot be used; `faults` are all that were found, in the order of their lines."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = tuple(faults)


@dataclass(slots=True)
class TomlFile:
    """The content of a file, and what was found to be wrong with it so far."""

    content: dict[str, Any]
    lines: TomlLines
    found: set[Fault] = field(default_factory=set)

    @property
    def root(self) -> Place:
        """The place of the whole content."""
        return Place(self, ())

    def raise_faults(self) -> None:
        """Raise FileFaults with what is wrong, if anything is."""
        if self.found:
            faults = sorted(self.found)
            more = len(faults) - _MOST_FAULTS
            if more > 0:
                faults[_MOST_FAULTS:] = [Fault(faults[_MOST_FAULTS].line, f"here and below are {more} more faults.")]
            raise FileFaults(faults)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, for the faults of what stands there."""

    file: TomlFile
    path: toml_lines.Path

    def at(self, key: str | int) -> Place:
        """Return the place of a key of this table, or of an item of this list."""
        return Place(self.file, (*self.path, key))

    @property
    def line(self) -> int:
        """Its line."""
        return self.file.lines.line(self.path)

    @property
    def value(self) -> Any:
        """The value that stands there."""
        found: Any = self.file.content
        for part in self.path:
            found = found[part]
        return found

    @property
    def name(self) -> str:
        """The last key on the way to it, for the words of a fault."""
        return next((shown(part) for part in reversed(self.path) if isinstance(part, str)), "the file")

    def fault(self, text: str) -> None:
        """Note a fault: a sentence that says what is wrong, and what would be right."""
        self.file.found.add(Fault(self.line, text))


def read_toml(path: Path, most_bytes: int = MOST_BYTES) -> TomlFile:
    """Return a TOML file's content; raises FileFaults when it cannot be read or is no TOML."""
    try:
        with open_plain(path) as file:
            body = file.read(most_bytes + 1)
    except OSError as error:
        raise _refused(0, f"It cannot be read ({error.strerror}); name a file that this user may read.") from None
    except ValueError:
        raise _refused(0, "It is no path; name a file that this user may read.") from None
    if len(body) > most_bytes:
        raise _refused(0, f"It is larger than {most_bytes // 1024} KiB; is it the right file?")
    return parse_toml(body)


def parse_toml(body: bytes) -> TomlFile:
    """Return the content of a TOML file's bytes; raises FileFaults when they are no TOML."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise _refused(line, "There are bytes that are no UTF-8 text; save the file as UTF-8.") from None
    try:
        return TomlFile(tomllib.loads(text), TomlLines(text))
    except ValueError as error:  # a number of thousands of digits is no error of the parser's own
        words = visible(_AT_LINE.sub("", str(error)).strip())[:200]
        text = f"It is not TOML from here on ({words}); see https://toml.io for how it is written."
        raise _refused(_line_of(error, body), text) from None
    except RecursionError:
        raise _refused(0, "It is nested too deeply; no setting needs more than a few levels.") from None


def _line_of(error: ValueError, body: bytes) -> int:
    found = _AT_LINE.search(str(error))
    if found is None:
        return 0
    return int(found[1]) if found[1] else body.rstrip().count(b"\n") + 1


def _refused(line: int, text: str) -> FileFaults:
    return FileFaults([Fault(line, text)])


def shown(text: object, most: int = _MOST_SHOWN) -> str:
    """Return a key or value as a fault may quote it: short, and on one line."""
    whole = visible(str(text))
    return whole if len(whole) <= most else f"{whole[:most]}..."
