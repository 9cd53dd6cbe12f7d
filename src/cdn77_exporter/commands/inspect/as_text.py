"""Prints the result of `inspect` as tables for people. They hold no client's address."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from io import TextIOWrapper

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cdn77_exporter.commands.inspect.inspection import Inspection, largest, shown
from cdn77_exporter.core.reasons import REJECT_REASONS, UNREADABLE_REASONS

_ROWS = 12  # of a table of statuses, countries and so on
_PIPE_WIDTH = 120  # columns, where nobody says how wide the screen is
_NOT_OPENED = {"not_found": "there is no such file", "cannot_be_opened": "the file cannot be opened or read"}


def show(inspection: Inspection, top: int) -> None:
    """Print it."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a sign that the terminal does not have is no reason to stop
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    for line in _headlines(inspection):
        console.print(line)
    if inspection.events:
        if top:
            _below(console, _streams(inspection, top))
        # Two abreast, that a usual summary fits on one screen.
        for left, right in (
            (_statuses(inspection), _caches(inspection)),
            (_devices(inspection), _countries(inspection)),
        ):
            _below(console, _abreast(left, right))
    if inspection.rejects:
        _below(console, _rejects(inspection))
        _below(console, Text("Examples, client addresses masked", style="bold"))
        for line in _examples(inspection):
            console.print(line, soft_wrap=True)
    if inspection.unreadable:
        _below(console, _unreadable(inspection))


def _below(console: Console, part: RenderableType) -> None:
    console.print()
    console.print(part)


def _headlines(found: Inspection) -> Iterable[Text]:
    rejected = sum(found.rejects.values())
    text = f"{_number(found.files, 'file')}, {_number(found.lines, 'line')}: {_number(found.events, 'event')}"
    text += f", {_number(rejected, 'reject')}" if rejected else ", no rejects"
    if found.unreadable:
        text += f", {_number(len(found.unreadable), 'unreadable file')}"
    yield Text(text, style="bold")
    if not found.events:
        return
    seconds = (found.newest_ms - found.oldest_ms) / 1000
    yield Text(f"from {_instant(found.oldest_ms)} to {_instant(found.newest_ms)} UTC ({_duration(seconds)})")
    least = "" if found.viewers_complete else "at least "
    hits = 100 * found.caches.get("HIT", 0) / found.events
    yield Text(
        f"{_size(found.bytes)} transferred, {_number(len(found.streams), 'stream')}, "
        f"{least}{_number(found.viewers, 'viewer')}, {hits:.1f} % cache hits"
    )
    if found.ahead:
        yield Text(f"{_number(found.ahead, 'event')} later than the current time, counted as of now", style="yellow")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(columns[0], overflow="fold", style="cyan")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _streams(found: Inspection, top: int) -> Table:
    rows = found.top_streams(top)
    title = "Streams" if len(rows) == len(found.streams) else f"Streams, {len(rows)} of {len(found.streams):,}"
    table = _table(title, "stream", "requests", "transferred", "viewers")
    for name, sums in rows:
        table.add_row(Text(name), f"{sums.requests:,}", _size(sums.bytes), f"{sums.viewers:,}")
    return table


def _statuses(found: Inspection) -> Table:
    return _shares("Status codes", "status", "requests", found.statuses, found.events)


def _caches(found: Inspection) -> Table:
    return _shares("Cache", "cache status", "requests", found.caches, found.events)


def _devices(found: Inspection) -> Table:
    return _shares("Devices", "device type", "viewers", found.devices, found.viewers)


def _countries(found: Inspection) -> Table:
    return _shares("Countries", "country", "viewers", found.countries, found.viewers)


def _shares(title: str, name: str, of: str, counts: dict[str, int], total: int) -> Table:
    rows = largest(counts, _ROWS)
    more = len(counts) - len(rows)
    table = _table(title + (f", {len(rows)} of {len(counts):,}" if more else ""), name, of, "share")
    for text, count in rows.items():
        table.add_row(Text(text), f"{count:,}", f"{100 * count / max(1, total):.1f} %")
    return table


def _abreast(left: Table, right: Table) -> Table:
    both = Table.grid(padding=(0, 6, 0, 0))
    both.add_row(left, right)
    return both


def _rejects(found: Inspection) -> Table:
    table = Table(title="Rejects", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("reason", style="yellow", no_wrap=True)
    table.add_column("lines", justify="right", no_wrap=True)
    table.add_column("meaning", overflow="fold")
    for reason, count in largest(found.rejects, len(found.rejects)).items():
        table.add_row(reason, f"{count:,}", REJECT_REASONS[reason])
    return table


def _examples(found: Inspection) -> Iterable[Text]:
    for reason in largest(found.rejects, len(found.rejects)):
        for path, example in found.examples.get(reason, ()):
            yield Text.assemble(f"{shown(path)}:{example.line}: ", (reason, "yellow"), f" {example.excerpt}")


def _unreadable(found: Inspection) -> Table:
    table = Table(title="Unreadable files", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("reason", style="red", no_wrap=True)
    table.add_column("meaning", overflow="fold")
    for path, reason in found.unreadable:
        table.add_row(Text(shown(path)), reason, (UNREADABLE_REASONS | _NOT_OPENED)[reason])
    return table


# Words


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} PiB"


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 120:
        return f"{minutes:.1f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
