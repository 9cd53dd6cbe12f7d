"""Prints the result of `inspect` as tables for people. They hold no client's address."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cdn77_exporter.commands.inspect.inspection import Inspection, largest
from cdn77_exporter.commands.inspect.trial import Tried
from cdn77_exporter.commands.output import console, ended_sums, instant, printable, size
from cdn77_exporter.core.measures import Kind
from cdn77_exporter.core.phrases import number, span
from cdn77_exporter.core.reasons import REJECT_REASONS, UNREADABLE_REASONS
from cdn77_exporter.core.visible import visible

_ROWS = 12  # of a table of statuses, countries and so on
_NOT_OPENED = {"not_found": "there is no such file", "cannot_be_opened": "the file cannot be opened or read"}


def show(inspection: Inspection, top: int) -> None:
    """Print it."""
    screen = console()
    for line in _headlines(inspection):
        screen.print(line)
    if inspection.events:
        if top:
            _below(screen, _streams(inspection, top))
        # Two abreast, that a usual summary fits on one screen.
        for left, right in (
            (_statuses(inspection), _caches(inspection)),
            (_devices(inspection), _countries(inspection)),
        ):
            _below(screen, _abreast(left, right))
        if inspection.unknown_agents.requests:
            _below(screen, Text(_share_of_unknown_agents(inspection), style="bold"))
            screen.print(_unknown_agents(inspection))
    for tried in inspection.trial.tried if inspection.trial else ():
        _below(screen, Text(_about(tried), style="bold"))
        screen.print(_tried(tried, top))
    if inspection.rejects:
        _below(screen, _rejects(inspection))
    if inspection.examples:
        _below(screen, Text("Examples, client addresses masked", style="bold"))
        for line in _examples(inspection):
            screen.print(line, soft_wrap=True)
    if inspection.ignored:
        _below(screen, _ignored(inspection))
    if inspection.unreadable:
        _below(screen, _unreadable(inspection))


def _below(screen: Console, part: RenderableType) -> None:
    screen.print()
    screen.print(part)


def _headlines(found: Inspection) -> Iterable[Text]:
    rejected = sum(found.rejects.values())
    text = f"{number(found.files, 'file')}, {number(found.lines, 'line')}: {number(found.events, 'event')}"
    text += f", {number(rejected, 'reject')}" if rejected else ", no rejects"
    if found.unreadable:
        text += f", {number(len(found.unreadable), 'unreadable file')}"
    yield Text(text, style="bold")
    if not found.events:
        return
    seconds = (found.newest_ms - found.oldest_ms) / 1000
    begin, end = (instant(ms / 1000) for ms in (found.oldest_ms, found.newest_ms))
    yield Text(f"from {begin} to {end} ({span(seconds)})")
    least = "" if found.viewers_complete else "at least "
    hits = 100 * found.caches.get("HIT", 0) / found.events
    yield Text(
        f"{size(found.bytes)} transferred, {number(len(found.streams), 'stream')}, "
        f"{least}{number(found.viewers, 'viewer')}, {hits:.1f} % cache hits"
    )
    if found.ahead:
        yield Text(f"{number(found.ahead, 'event')} later than the current time, counted as of now", style="yellow")
    if found.saturated:
        yield Text(ended_sums(found.saturated), style="yellow")


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
        table.add_row(Text(visible(name)), f"{sums.requests:,}", size(sums.bytes), f"{sums.viewers:,}")
    return table


def _statuses(found: Inspection) -> Table:
    return _shares("Status codes", "status", "requests", found.statuses, found.events)


def _caches(found: Inspection) -> Table:
    return _shares("Cache", "cache status", "requests", found.caches, found.events)


def _devices(found: Inspection) -> Table:
    return _shares("Devices", "device type", "viewers", found.devices, found.viewers)


def _share_of_unknown_agents(found: Inspection) -> str:
    share = 100 * found.unknown_agents.requests / max(1, found.unknown_agents.of)
    return f"User-Agents that no device rule knows, {share:.1f} % of the requests"


def _unknown_agents(found: Inspection) -> Table:
    named = {agent or "(none)": requests for agent, requests in found.unknown_agents.named.items()}
    return _shares("The most frequent", "User-Agent", "requests", named, found.unknown_agents.of)


def _countries(found: Inspection) -> Table:
    return _shares("Countries", "country", "viewers", found.countries, found.viewers)


def _shares(title: str, name: str, of: str, counts: dict[str, int], total: int) -> Table:
    rows = largest(counts, _ROWS)
    more = len(counts) - len(rows)
    table = _table(title + (f", {len(rows)} of {len(counts):,}" if more else ""), name, of, "share")
    for text, count in rows.items():
        table.add_row(Text(visible(text)), f"{count:,}", f"{100 * count / max(1, total):.1f} %")
    return table


_AMOUNTS = {Kind.COUNTER: "value", Kind.HISTOGRAM: "observations", Kind.GAUGE: "viewers"}


def _about(tried: Tried) -> str:
    """Say how many label sets a measure has, and what its limit would do."""
    least = "" if tried.complete else "at least "
    text = f"{tried.family.name} ({tried.family.kind}): {least}{number(len(tried.events), 'label set')}"
    if len(tried.own) < len(tried.events):
        text += f", the busiest {len(tried.own):,} with their names, {100 * tried.other:.1f} % as other"
    return text + f"; {number(tried.series)} series"


def _tried(tried: Tried, top: int) -> Table:
    """Return a measure's label sets with most."""
    names = [label.name for label in tried.labels]
    table = _table("", *(names or ["all"]), _AMOUNTS[tried.family.kind])
    table.title = None
    for column in table.columns[:-1]:
        column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    for labels, value in tried.top(top):
        texts = [Text(visible(text)) for text in labels.values()] or [Text("")]
        table.add_row(*texts, f"{value:,.10g}" if value % 1 else f"{int(value):,}")
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


def _ignored(found: Inspection) -> Table:
    return _shares("Malformed values, ignored", "field", "events", found.ignored, found.events)


def _examples(found: Inspection) -> Iterable[Text]:
    for reason, examples in sorted(found.examples.items(), key=lambda entry: -found.rejects[entry[0]]):
        for path, example in examples:
            yield Text.assemble(
                f"{printable(path)}:{example.line}: ", (reason, "yellow"), f" {visible(example.excerpt)}"
            )


def _unreadable(found: Inspection) -> Table:
    table = Table(title="Unreadable files", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("reason", style="red", no_wrap=True)
    table.add_column("meaning", overflow="fold")
    for path, reason in found.unreadable:
        table.add_row(Text(printable(path)), reason, (UNREADABLE_REASONS | _NOT_OPENED)[reason])
    return table
