"""`cdn77-exporter inspect`: decodes local log files as the service would, and says what is in them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cdn77_exporter.commands.arguments import parse_instant
from cdn77_exporter.commands.inspect.inspection import INSPECTED, Inspection, Pieces, inspect_file
from cdn77_exporter.commands.output import Bar, say
from cdn77_exporter.core.decode import Decoder, Limits
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.measures import Measures
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN
from cdn77_exporter.edge.decode_job import DecoderRules
from cdn77_exporter.edge.plain_file import open_plain
from cdn77_exporter.runtime import without_collection

#: The settings that are honoured when they are set: those that decide what a line and a file are.
LIMITS = ("MAX_FILE_BYTES", "MAX_LINE_BYTES", "MAX_BAD_LINES", "MAX_FILE_ENTRIES")
HONOURED = (
    *LIMITS,
    "DEVICE_RULES_FILE",
    "STREAM_ALLOWLIST",
    "STREAM_PATTERN",
    "TICK_SECONDS",
    "VIEWER_IPV6_PREFIX",
)
DEFAULT_TICK_SECONDS = 15
STANDARD_INPUT = "-"

_READ_BYTES = 64 * 1024
_SPOOL_BYTES = 1024 * 1024  # of the standard input that stay in memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Decodes local log files as the service would and says what is in them. It needs no network and no "
        f"configuration; {', '.join(HONOURED[:-1])} and {HONOURED[-1]} are honoured when they are set."
    )
    parser.epilog = (
        "As in the service, events older than seven days are rejected (too_old) and events later than the current time "
        "are counted as of now. The seven days end at the current time; for a file without an event of the last seven "
        "days they end at its newest event, so that old files can be looked at too. "
        "Exit codes: 0 the service would count every file, 1 it would not, or one is not there, 2 usage or "
        "configuration."
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a file, a folder (every *.gz in it), or - for standard input"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_argument(
        "--top", type=_top, default=10, metavar="N", help="how many streams to list, those with most requests (10)"
    )
    parser.add_argument(
        "--measures",
        metavar="FILE",
        help="try a file of measures (see MEASURES_FILE): what each counts, its label sets, and what its limit does",
    )
    parser.add_argument(
        "--now", type=_instant_ms, metavar="TIME", help="take this for the current time, such as 2026-01-10T14:49:28Z"
    )


def _top(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


def _instant_ms(text: str) -> int:
    return int(parse_instant(text) * 1000)


def run(arguments: argparse.Namespace) -> int:
    """Read the files and print what they hold; the exit code."""
    rules = honoured_rules()
    rules, inspection = _with_measures(rules, arguments.measures)
    if STANDARD_INPUT in arguments.paths and sys.stdin.isatty():
        raise ConfigError(["The standard input is a terminal; name a file, or pipe one in."])
    now_ms = time.time_ns() // 1_000_000 if arguments.now is None else arguments.now
    decoder = rules.decoder(examples=not arguments.json, content=False)
    paths = list(_files(arguments.paths, inspection))
    # Tallies are full of small containers without cycles; to look for cycles among them costs a tenth of the time.
    with without_collection(), Bar("reading", _total(paths), in_bytes=True) as bar:
        for path in paths:
            _inspect(inspection, decoder, path, now_ms, rules.tick_seconds * 1000, bar.advance)
    if arguments.json:
        from cdn77_exporter.commands.inspect.as_json import to_json  # noqa: PLC0415 - each form imports its own

        sys.stdout.write(to_json(inspection, arguments.top))
    else:
        from cdn77_exporter.commands.inspect.as_text import show  # noqa: PLC0415 - each form imports its own

        show(inspection, arguments.top)
    return 1 if inspection.unreadable else 0


def _with_measures(rules: DecoderRules, path: str | None) -> tuple[DecoderRules, Inspection]:
    """Return what to decode by and an empty inspection, which try a file of measures; ConfigError with its faults."""
    if path is None:
        return rules, Inspection()
    from cdn77_exporter.commands.inspect.trial import Trial  # noqa: PLC0415 - as above
    from cdn77_exporter.settings.measures_file import measures_file  # noqa: PLC0415
    from cdn77_exporter.settings.toml_file import FileFaults  # noqa: PLC0415

    try:
        own = measures_file(path).rows
    except FileFaults as error:
        raise ConfigError([f"{path}: {fault}" for fault in error.faults]) from None
    measures = Measures((*INSPECTED.rows, *own))
    return replace(rules, measures=measures), Inspection(measures=measures, trial=Trial(measures, own))


def honoured_rules() -> DecoderRules:
    """Return what a line and a file are, by those of `HONOURED` that are set; raises ConfigError with every fault."""
    if not any(os.environ.get(name, "").strip() for name in HONOURED):
        return DecoderRules(DEFAULT_TICK_SECONDS, DEFAULT_STREAM_PATTERN, Limits(), measures=INSPECTED)
    from cdn77_exporter.settings import load_some  # noqa: PLC0415 - a fifth of the start-up, and rarely needed

    values = load_some(HONOURED, os.environ)
    limits = Limits(*(values[name.lower()] for name in LIMITS))
    return DecoderRules(
        values["tick_seconds"],
        values["stream_pattern"],
        limits,
        values["stream_allowlist"],
        values["viewer_ipv6_prefix"],
        INSPECTED,
        devices=values["device_rules_file"].rules if values["device_rules_file"] else None,
    )


# Files


def _files(paths: list[str], inspection: Inspection) -> Iterator[str]:
    """List the files that the paths name, a folder's in the order of their names; say what is not there."""
    for path in paths:
        if path == STANDARD_INPUT or not Path(path).is_dir():
            yield path
            continue
        found = sorted(_in_folder(path, inspection))
        if not found:
            say(f"{path}: there is no *.gz file in this folder")
        yield from found


def _in_folder(folder: str, inspection: Inspection) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        _refuse(inspection, error.filename or folder, error)

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (str(Path(parent, name)) for name in names if name.endswith(".gz"))


def _inspect(
    inspection: Inspection, decoder: Decoder, path: str, now_ms: int, tick_ms: int, advance: Callable[[int], None]
) -> None:
    pieces = _standard_input(advance) if path == STANDARD_INPUT else _file(path, advance)
    try:
        inspect_file(inspection, decoder, path, pieces, now_ms, tick_ms)
    except OSError as error:
        _refuse(inspection, path, error)


def _file(path: str, advance: Callable[[int], None]) -> Pieces:
    def pieces() -> Iterator[bytes]:
        with open_plain(Path(path)) as file:
            while piece := file.read(_READ_BYTES):
                advance(len(piece))
                yield piece

    return pieces


def _standard_input(advance: Callable[[int], None]) -> Pieces:
    """Return the standard input, which can be read only once: what has been read is kept as long as it is wanted."""
    import tempfile  # noqa: PLC0415 - only for this

    kept = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - it goes with the last reference

    def pieces() -> Iterator[bytes]:
        kept.seek(0)
        while piece := kept.read(_READ_BYTES):
            yield piece
        while piece := sys.stdin.buffer.read(_READ_BYTES):
            advance(len(piece))
            kept.write(piece)
            yield piece

    return pieces


def _refuse(inspection: Inspection, path: str, error: OSError) -> None:
    missing = isinstance(error, FileNotFoundError)
    inspection.unreadable.append((path, "not_found" if missing else "cannot_be_opened"))
    say(f"{path}: " + ("there is no such file" if missing else f"cannot be read: {error.strerror or error}"))


def _total(paths: list[str]) -> int | None:
    """Sum up the files' sizes; None with the standard input, of which nobody knows."""
    return None if STANDARD_INPUT in paths else sum(map(_size, paths))


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
