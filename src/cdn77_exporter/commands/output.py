"""Prints for the commands: tables for people, JSON for programs, and a progress bar for long work."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from os import fsencode
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cdn77_exporter.core.phrases import number
from cdn77_exporter.core.visible import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.status import Status

_PIPE_WIDTH = 120  # columns, where nobody says how wide the screen is
_PATIENCE_SECONDS = 2.0  # work that is quicker has no progress bar

Cell = str | tuple[str, str]  # text, or text and its style


def console() -> Console:
    """Return where people read; a character that the terminal does not have is replaced."""
    from rich.console import Console  # noqa: PLC0415 - JSON and --help do without it

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def print_table(
    screen: Console, head: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = (), keep: str = ""
) -> None:
    """Print a table without a frame; the columns named in `right` are aligned there, the last one is folded to fit.

    `keep`: characters that cannot be seen and are printed all the same.
    """
    from rich.table import Table  # noqa: PLC0415 - see `console`
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, name in enumerate(head):
        last = place == len(head) - 1
        table.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=not last)
    for row in rows:
        table.add_row(
            *(
                Text(visible(cell, keep)) if isinstance(cell, str) else Text(visible(cell[0], keep), cell[1])
                for cell in row
            )
        )
    screen.print(table)


def print_json(found: Mapping[str, object]) -> None:
    """Print one JSON object."""
    import json  # noqa: PLC0415 - tables do without it

    text = json.dumps(found, indent=2, ensure_ascii=False)
    # A program gets the names as they are, and a terminal that this comes to nothing that it would obey.
    safe = (one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)
    sys.stdout.write("".join(safe) + "\n")


def say(text: str) -> None:
    """Print a sentence beside the result."""
    print(printable(text), file=sys.stderr)


def printable(text: str) -> str:
    """Return a text, such as a path, as it may be printed, whatever bytes it is made of."""
    whole = fsencode(text).decode("utf-8", "replace")
    return visible(whole)


def ended_sums(count: int) -> str:
    """Say that sums were too large to be counted in full."""
    return f"{number(count, 'sum')} ended at 2^63 - 1: there was more than was counted"


def instant(seconds: float, precision: str = "seconds") -> str:
    """Return an instant (Unix seconds) in UTC, to the second or to the milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def size(count: float) -> str:
    """Return a number of bytes in the largest binary unit that fits."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} PiB"


class Bar:
    """A progress bar on the standard error: only on a terminal, and only for work that takes more than two seconds.

    `total`: how many steps there will be, or None when nobody knows. `in_bytes`: a step is a byte.
    """

    def __init__(self, what: str, total: int | None, *, in_bytes: bool = False) -> None:
        self._what, self._total, self._in_bytes = what, total, in_bytes
        self._due = time.monotonic() + _PATIENCE_SECONDS
        self._wanted = sys.stderr.isatty()
        self._done = 0
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def advance(self, count: int = 1) -> None:
        """Count steps that are done."""
        if not self._wanted:
            return
        self._done += count
        if self._progress is None:
            if time.monotonic() < self._due:
                return
            self._progress = self._begin()
        self._progress.update(self._progress.task_ids[0], completed=self._done)

    def _begin(self) -> Progress:
        from rich import progress as bars  # noqa: PLC0415
        from rich.console import Console  # noqa: PLC0415 - see `console`

        count = bars.DownloadColumn(binary_units=True) if self._in_bytes else bars.MofNCompleteColumn()
        columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), count, bars.TimeRemainingColumn())
        progress = bars.Progress(*columns, console=Console(stderr=True), transient=True)
        progress.add_task(self._what, total=self._total)
        progress.start()
        return progress


class Waiting:
    """Says on the standard error what is being waited for, under the same conditions as `Bar`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._timer = threading.Timer(_PATIENCE_SECONDS, self._begin)
        self._status: Status | None = None
        self._ended = False
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._turn:
            self._ended = True
            if self._status is not None:
                self._status.stop()

    def _begin(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - see `console`

        with self._turn:
            if not self._ended:
                self._status = Console(stderr=True).status(self._what)
                self._status.start()
