"""What log lines are written in: a module for each format, which the decoder uses by the same few methods."""

from __future__ import annotations

from typing import Any, Protocol


class Format(Protocol):
    """Reads rows from lines. A row has the fields that are read as attributes; None stands for a missing one."""

    def rows(self, data: bytes) -> list[Any] | None:
        """Return a row for each of whole lines; None if they have to be looked at one by one."""

    def row(self, line: bytes) -> Any | None:
        """Return the row of a line, which is given without its newline; None if it has something wrong in it."""

    def fault(self, line: bytes) -> str:
        """Say why a line has no row: one of `reasons.REJECT_REASONS`."""

    def excerpt(self, line: bytes, reason: str = "") -> str:
        """Return what of a rejected line may be shown: no addresses, nothing that controls a terminal."""
