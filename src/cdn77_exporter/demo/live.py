"""The output of the demo: the progress while it runs, and the comparison at its end."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cdn77_exporter.demo.watching import InTime

_LOG_LINES = 6
_PLAIN_SECONDS = 5.0
_LEVEL_STYLES = {"error": "red", "critical": "red", "warning": "yellow"}


@dataclass(slots=True)
class Progress:
    """The progress so far: the writer's side, and the daemon's side according to its log."""

    seconds: float  # how long traffic is written
    phase: str = "starting"
    began: float = field(default_factory=time.monotonic)
    files_written: int = 0
    lines_written: int = 0
    files_counted: int = 0
    events_counted: int = 0
    lines_rejected: int = 0
    events_late: int = 0
    in_time: InTime | None = None  # to be told which files were late
    files_deleted: int = 0
    pushes: int = 0
    samples: int = 0
    refused: int = 0
    lag_seconds: float = 0.0
    streams: Counter[str] = field(default_factory=Counter)  # requests by stream
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))

    @property
    def elapsed(self) -> float:
        """The seconds since the beginning."""
        return time.monotonic() - self.began

    @property
    def queue(self) -> int:
        """The number of files in the bucket."""
        return max(0, self.files_written - self.files_deleted)

    def listen(self, line: Mapping[str, Any]) -> None:
        """Read a log line of the daemon."""
        message = line.get("message")
        if message == "file_counted":
            rejects = line.get("rejects", 0)
            self.files_counted += 1
            self.events_counted += line.get("events", 0)
            self.lines_rejected += sum(rejects.values()) if isinstance(rejects, dict) else rejects
            self.events_late += line.get("late", 0)
            if self.in_time is not None:
                self.in_time.counted(line.get("key", ""), line.get("late", 0))
        elif message in ("batch_pushed", "batch_incomplete"):
            self.pushes += 1
            self.samples += line.get("samples", 0)
            self.lag_seconds = float(line.get("lag_seconds", 0.0))
        elif message == "files_deleted":
            self.files_deleted += line.get("count", 0)
        elif message in ("request_refused", "request_dropped"):
            self.refused += 1
        if line.get("level") != "debug":
            self.log.append(dict(line))


class View(Protocol):
    """A way to show progress."""

    def __enter__(self) -> View: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, progress: Progress) -> None:
        """Show the progress as it is now."""


class LiveView:
    """Progress in place, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, progress: Progress) -> None:
        """Draw everything again."""
        self._live.update(picture(progress), refresh=True)


class PlainView:
    """Progress as a line every few seconds, where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = ("", -_PLAIN_SECONDS)

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, progress: Progress) -> None:
        """Print a line when it is time, or when a new phase has begun."""
        phase, said = self._said
        if progress.phase == phase and progress.elapsed - said < _PLAIN_SECONDS:
            return
        self._said = (progress.phase, progress.elapsed)
        self._console.print(
            f"{progress.elapsed:5.0f} s  {progress.phase}: "
            f"{progress.files_written} files written, {progress.files_counted} counted, {progress.queue} waiting; "
            f"batches pushed: {progress.pushes}, samples: {progress.samples:,}; {progress.lag_seconds:.0f} s behind",
            highlight=False,
            soft_wrap=True,
        )


def picture(progress: Progress) -> Group:
    """Draw the whole live view."""
    numbers = Table.grid(padding=(0, 3))
    for _ in range(4):
        numbers.add_column(justify="right", style="bold")
        numbers.add_column(style="dim")
    rows: Sequence[Sequence[tuple[str, str]]] = (
        (
            (f"{progress.files_written:,}", "files written"),
            (f"{progress.lines_written:,}", "lines written"),
            (f"{progress.pushes:,}", "pushes"),
            (f"{progress.lag_seconds:.0f} s", "behind"),
        ),
        (
            (f"{progress.files_counted:,}", "files counted"),
            (f"{progress.events_counted:,}", "events counted"),
            (f"{progress.samples:,}", "samples"),
            (f"{progress.queue:,}", "files waiting"),
        ),
        (
            (f"{progress.files_deleted:,}", "files deleted"),
            (f"{progress.lines_rejected:,}", "bad lines"),
            (f"{progress.refused:,}", "refused"),
            (f"{progress.events_late:,}", "late events"),
        ),
    )
    for row in rows:
        numbers.add_row(*(cell for pair in row for cell in pair))
    bar = ProgressBar(total=progress.seconds, completed=min(progress.elapsed, progress.seconds))
    title = f"{progress.phase}  {progress.elapsed:.0f} s"
    return Group(
        Panel(Group(numbers, Text(), bar), title=title, title_align="left", border_style="cyan"),
        Panel(_streams(progress), title="top streams", title_align="left", border_style="dim"),
        Panel(_log(progress), title="last lines of the daemon's log", title_align="left", border_style="dim"),
    )


def _streams(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", min_width=9)
    table.add_column(ratio=1)
    top = progress.streams.most_common(5)
    for name, requests in top:
        length = max(1, round(30 * requests / top[0][1]))
        table.add_row(name, f"{requests:,}", Text("█" * length, style="green"))
    return table


def _log(progress: Progress) -> Group:
    lines = []
    for line in progress.log:
        style = _LEVEL_STYLES.get(str(line.get("level")), "dim")
        fields = " ".join(
            f"{name}={value}" for name, value in line.items() if name not in ("timestamp", "level", "message", "key")
        )
        lines.append(Text(f"{line.get('message', '')}  {fields}", style=style, no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One counter: its sum as written and as the receiver holds it, and the same for the number of its series."""

    metric: str
    written: float
    held: float
    series_written: int
    series_held: int
    different: tuple[str, ...]  # the series that differ, described

    @property
    def equal(self) -> bool:
        """True if both sides have the same series with the same values, or values that may be."""
        return not self.different


def compare(
    metric: str,
    written: Mapping[tuple[str, ...], float],
    held: Mapping[tuple[str, ...], float],
    least: Mapping[tuple[str, ...], float] | None = None,
) -> Comparison:
    """Compare a counter series by series; `least`: what may be held, too, where that is less than was written."""
    least = written if least is None else least
    different = tuple(
        f"{'/'.join(key)}: {written.get(key, 'nothing')} written, {held.get(key, 'nothing')} held"
        for key in sorted(written.keys() | held.keys())
        if key not in written or key not in held or not least.get(key, 0) <= held[key] <= written[key]
    )
    return Comparison(metric, sum(written.values()), sum(held.values()), len(written), len(held), different)


def show_comparison(console: Console, found: Sequence[Comparison], receiver: str) -> None:
    """Draw the table at the end, and the first series that differ if any do."""
    table = Table(title="What was written, and what the receiver holds", title_justify="left")
    table.add_column("counter")
    table.add_column("written", justify="right")
    table.add_column(f"{receiver} holds", justify="right")
    table.add_column("series", justify="right")
    table.add_column("equal")
    for one in found:
        series = str(one.series_written)
        if one.series_held != one.series_written:
            series += f" / {one.series_held}"
        words = f"yes, {short:.3f} late" if (short := round(one.written - one.held, 3)) > 0 else "yes"
        verdict = Text(words, style="green") if one.equal else Text(f"NO ({len(one.different)})", style="bold red")
        table.add_row(one.metric, f"{one.written:,.0f}", f"{one.held:,.0f}", series, verdict)
    console.print(table)
    for one in found:
        for words in one.different[:3]:
            console.print(f"{one.metric} {words}", style="red", highlight=False, soft_wrap=True)
