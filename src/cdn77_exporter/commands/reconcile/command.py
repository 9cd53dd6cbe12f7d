"""`cdn77-exporter reconcile`: counts the files of a span again, and compares with what the receiver holds."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cdn77_exporter.commands.arguments import parse_length, parse_time
from cdn77_exporter.commands.output import (
    Bar,
    Cell,
    console,
    instant,
    print_json,
    print_table,
    printable,
    say,
)
from cdn77_exporter.commands.reconcile.comparison import Difference, total
from cdn77_exporter.core.errors import ConfigError, Misconfigured, Refused, Transient
from cdn77_exporter.core.phrases import number, span

if TYPE_CHECKING:
    from cdn77_exporter.commands.reconcile.recount import Recount
    from cdn77_exporter.core.measures import Measures
from cdn77_exporter.settings import Settings

_SECONDS = 60.0
_ROWS = 20  # of the streams that differ


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Counts the log files of a span again, in a local folder or in the bucket (with KEEP_FILES), and compares "
        "every counter of events, by stream, with the receiver's, to the unit. Events that were uploaded late count in "
        "a later tick; they are told apart from what is missing. Counters of viewers, sessions and watch time cannot "
        "be compared: who was there before the span is not in its files."
    )
    parser.epilog = (
        "A TIME is such as 2026-01-10T14:00:00Z, or a length before now such as 90m or 2h. The span begins and ends on "
        "ticks (TICK_SECONDS). With --files and --query-url no other variable need be set. "
        "Exit codes: 0 equal, 1 something differs or could not be read, 2 usage or configuration."
    )
    parser.add_argument(
        "--from", dest="begin", type=parse_time, required=True, metavar="TIME", help="begin of the span"
    )
    parser.add_argument(
        "--to",
        dest="end",
        type=parse_time,
        default="5m",
        metavar="TIME",
        help="its end (default: 5m, five minutes ago)",
    )
    parser.add_argument("--files", metavar="DIR", help="a folder with the log files, instead of the bucket")
    parser.add_argument(
        "--query-url", metavar="URL", help="the query API's address (default: what lies beside PROMETHEUS_URL)"
    )
    parser.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="compare only this one; may be given again"
    )
    parser.add_argument(
        "--slack",
        type=parse_length,
        default="10m",
        metavar="LENGTH",
        help="how far around the span late events may lie (10m)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Count, ask, compare and print; the exit code."""
    from cdn77_exporter.edge.receiver.query import TooMuch  # noqa: PLC0415 - --help is quick
    from cdn77_exporter.settings import load  # noqa: PLC0415

    settings = load(os.environ, bucket=not arguments.files, receiver=not arguments.query_url)
    if not arguments.files and not settings.keep_files:
        raise ConfigError(
            [
                "KEEP_FILES is off, so the bucket holds only what is not counted yet; name a folder that holds the log "
                "files of the span with --files."
            ]
        )
    begin, end = _span(arguments, settings)
    measures = _counters(arguments, settings)
    try:
        recount, differences, newest = asyncio.run(_reconcile(arguments, settings, measures, begin, end))
    except (Transient, Misconfigured, Refused, TooMuch) as error:
        words = str(error) or "the answers are too large, even those of one tick"
        remedy = "check that the server answers, and that --query-url is that of its query API"
        if isinstance(error, Misconfigured):
            remedy = error.remedy
        say(settings.masker()(f"The span cannot be compared: {words}; {remedy}."))
        return 1
    _show(arguments, recount, differences, begin, end, newest)
    return 1 if recount.unreadable or any(row.unexplained for row in differences) else 0


def _counters(arguments: argparse.Namespace, settings: Settings) -> Measures:
    """Return what can be compared, of what is asked for."""
    from cdn77_exporter.commands.reconcile.recount import comparable  # noqa: PLC0415 - --help is quick

    found = comparable(settings.measures, arguments.metric)
    unknown = [name for name in arguments.metric if found.named(name) is None]
    if unknown or not found.rows:
        words = ", ".join(unknown) or "Everything that is sent"
        raise ConfigError([f"{words} cannot be compared: a counter of events that METRICS_OFF does not have can be."])
    return found


def _span(arguments: argparse.Namespace, settings: Settings) -> tuple[int, int]:
    """Begin and end as ticks, Unix seconds."""
    tick = settings.tick_seconds
    begin, end = (int(at // tick) * tick for at in (arguments.begin, arguments.end))
    if begin >= end:
        raise ConfigError(["The span is empty; --to must be at least a tick after --from."])
    if end > time.time():
        raise ConfigError(["The span ends in the future; --to must lie in the past."])
    return begin, end


async def _reconcile(
    arguments: argparse.Namespace, settings: Settings, measures: Measures, begin: int, end: int
) -> tuple[Recount, list[Difference], int]:
    from cdn77_exporter.clients import open_bucket, open_receiver  # noqa: PLC0415 - --help is quick
    from cdn77_exporter.commands.log_folder import log_paths  # noqa: PLC0415
    from cdn77_exporter.commands.reconcile import recount as counting  # noqa: PLC0415
    from cdn77_exporter.commands.reconcile.comparison import Increments, compare  # noqa: PLC0415
    from cdn77_exporter.edge.receiver.query import QueryApi, query_base  # noqa: PLC0415

    base = arguments.query_url or query_base(settings.prometheus_url)
    if base is None:
        raise ConfigError(["The query API's address cannot be told from PROMETHEUS_URL; name it with --query-url."])
    decoder = replace(settings.decoder_rules, measures=measures).decoder()
    slack = -(-arguments.slack // settings.tick_seconds) * settings.tick_seconds
    outer = (begin - slack, min(end + slack, int(time.time())))
    recount = counting.Recount(Increments(*outer), measures)
    if arguments.files:
        paths = log_paths(arguments.files)
        with Bar("counting files", len(paths)) as bar:
            counting.count_paths(recount, paths, decoder, bar.advance)
    else:
        async with open_bucket(settings, seconds=_SECONDS) as bucket:
            files = await counting.list_span(bucket, settings.log_names, *outer)
            with Bar("counting files", len(files)) as bar:
                width = settings.download_concurrency
                await counting.count_objects(recount, bucket, files, decoder, bar.advance, width)
    stored = Increments(*outer)
    async with open_receiver(settings, seconds=_SECONDS) as writer:
        with Bar("asking the receiver", None) as bar:
            newest_ms = await counting.read_counters(
                QueryApi(writer, base),
                stored,
                measures,
                dict(settings.external_labels.pairs),
                settings.tick_seconds,
                bar.advance,
            )
    return recount, list(compare(recount.increments, stored, begin, end)), newest_ms // 1000


def _show(
    arguments: argparse.Namespace,
    recount: Recount,
    differences: Sequence[Difference],
    begin: int,
    end: int,
    newest: int,
) -> None:

    from cdn77_exporter.core.measures import REQUESTS  # noqa: PLC0415 - --help is quick

    note = _note(differences, recount, end, newest)
    if arguments.json:
        print_json(_as_json(recount, differences, begin, end, note))
        return
    screen = console()
    screen.print(f"{instant(begin)} to {instant(end)} ({span(end - begin)}), {number(recount.files, 'file')}")
    per = {measure.name: measure.per for measure in recount.measures.rows}
    rows = [(name, *(_amount(count, per[name]) for count in total(differences, name))) for name in per]
    print_table(screen, ("", "in files", "at the receiver"), rows, right=("in files", "at the receiver"))
    screen.print()
    streams = number(len({row.stream for row in differences}), "stream")
    wrong = _wrong(differences)
    if wrong:
        head = ("difference", "in files", "at receiver", "counter", "stream")
        print_table(screen, head, [_row(row, per[row.quantity]) for row in wrong[:_ROWS]], right=head[:3])
        if len(wrong) > _ROWS:
            screen.print(f"... and {len(wrong) - _ROWS:,} more, which --json lists")
        screen.print()
        of_them = len({row.stream for row in wrong})
        screen.print(f"{of_them:,} of {streams} {'differs' if of_them == 1 else 'differ'}.", style="bold red")
    else:
        late = sum(abs(row.late) for row in differences if row.quantity == REQUESTS.name)
        extra = f"; {number(late, 'request')} crossed an end of the span late" if late else ""
        screen.print(f"Equal to the unit: {number(len(per), 'counter')} of {streams}{extra}.")
    for key, reason in recount.unreadable:
        screen.print(f"unreadable, and not counted: {printable(key)} ({reason})", style="red", soft_wrap=True)
    if note:
        screen.print(note)


def _wrong(differences: Sequence[Difference]) -> list[Difference]:
    """Return what differs: all of one metric together, of these the largest difference first."""
    wrong = [row for row in differences if row.unexplained]
    return sorted(wrong, key=lambda row: (row.quantity, -abs(row.unexplained)))


def _row(row: Difference, per: int) -> tuple[Cell, ...]:
    """Return a row: what the receiver has too much (+) or too little (-), and what there is on both sides."""
    sign = "-" if row.unexplained > 0 else "+"
    return (
        (sign + _amount(abs(row.unexplained), per), "bold red"),
        _amount(row.files, per),
        _amount(row.receiver, per),
        row.quantity,
        row.stream,
    )


def _amount(count: int, per: int) -> str:
    return f"{count:,}" if per == 1 else f"{count / per:,.3f}"


def _note(differences: Sequence[Difference], recount: Recount, end: int, newest: int) -> str:
    """Suggest an explanation of the difference."""
    if not any(row.unexplained for row in differences):
        return ""
    if not recount.files:
        return "There are no files of this span."
    if not newest:
        return "The receiver holds no counter of this span: check --query-url."
    if newest < end:
        return f"The receiver's newest sample is of {instant(newest)}: wait for the exporter, or end the span earlier."
    if any(row.stream == "other" for row in differences):
        return 'Streams above MAX_STREAMS count as stream_name="other": compare the totals.'
    return (
        "Files that are not in the folder, an exporter without state, or one whose ticks became too old for the "
        "receiver would explain it; a larger --slack finds events that came very late."
    )


def _as_json(recount: Recount, differences: Sequence[Difference], begin: int, end: int, note: str) -> dict[str, object]:
    per = {measure.name: measure.per for measure in recount.measures.rows}
    streams: dict[str, dict[str, dict[str, float]]] = {}
    for row in differences:
        counts = {"files": row.files, "receiver": row.receiver, "late": row.late, "difference": -row.unexplained}
        of_one = per[row.quantity]
        streams.setdefault(row.stream, {})[row.quantity] = {
            name: count if of_one == 1 else count / of_one for name, count in counts.items()
        }
    return {
        "equal": not any(row.unexplained for row in differences),
        "from": instant(begin),
        "to": instant(end),
        "files": recount.files,
        "unreadable": [{"path": path, "reason": reason} for path, reason in recount.unreadable],
        "streams": streams,
        "note": note,
    }
