"""The formats of log lines: a module for each format, which the decoder uses by the same few methods."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class LineRow(NamedTuple):
    """A line's row, and the fields whose values are malformed: they are missing, or have characters replaced."""

    row: Any
    ignored: tuple[str, ...] = ()


class Format(Protocol):
    """Reads rows from lines. A row has the fields that are read as attributes; None stands for a missing one."""

    def rows(self, data: bytes) -> list[Any] | None:
        """Return a row for each of whole lines; None if they have to be looked at one by one."""

    def row(self, line: bytes) -> LineRow | str:
        """Return the row of a line, which is given without its newline; or one of `reasons.REJECT_REASONS`."""

    def excerpt(self, line: bytes, reason: str = "") -> str:
        """Return what of a rejected line may be shown: no addresses, nothing that controls a terminal."""
