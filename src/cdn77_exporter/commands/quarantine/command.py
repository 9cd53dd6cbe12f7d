"""`cdn77-exporter quarantine`: lists the files that were set aside, and releases them to be tried again."""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import TYPE_CHECKING

from cdn77_exporter.commands.output import Waiting, console, print_json, print_table, printable, say, size
from cdn77_exporter.core.errors import ConfigError, Misconfigured, Transient
from cdn77_exporter.core.phrases import number

if TYPE_CHECKING:
    from cdn77_exporter.commands.quarantine.set_aside import Kept, Released

_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Lists the files that could not be read and were set aside, or releases them to be tried again: those under "
        "QUARANTINE_PREFIX go back among the log files; those that were left in their place are written anew."
    )
    parser.epilog = (
        "An exporter tries a released file at its next poll. It does so for files in the hour folders of "
        "LOOKBACK_HOURS; a file whose own folder is older goes into the folder of the present hour. "
        "Exit codes: 0 done, 1 something could not be done, 2 usage or configuration."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|release")
    listing = actions.add_parser("list", help="print the files and why they were set aside")
    release = actions.add_parser("release", help="let files be tried again")
    release.add_argument("keys", nargs="*", metavar="KEY", help="a file's key, as `list` prints it")
    release.add_argument("--all", action="store_true", help="release every file")
    for action in (listing, release):
        action.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def run(arguments: argparse.Namespace) -> int:
    """List or release, and return the exit code."""
    from cdn77_exporter.commands.quarantine.set_aside import list_kept, release_keys  # noqa: PLC0415 - --help is quick
    from cdn77_exporter.settings import load  # noqa: PLC0415

    if arguments.action == "release" and bool(arguments.keys) == arguments.all:
        raise ConfigError(["Name the keys to release, or use --all for every file; `quarantine list` prints them."])
    settings = load(os.environ, receiver=False)
    try:
        if arguments.action == "list":
            with Waiting("listing"):
                kept, note = asyncio.run(list_kept(settings, _SECONDS))
            # What is moved does not depend on the state, so it matters only where files stay in their place.
            moves = settings.quarantine_prefix and not settings.keep_files
            _show_kept(kept, "" if moves else note, arguments.json)
            return 0
        with Waiting("releasing"):
            released = asyncio.run(release_keys(settings, arguments.keys, _SECONDS))
    except (Transient, Misconfigured) as error:
        remedy = error.remedy if isinstance(error, Misconfigured) else "try again when the server answers"
        say(settings.masker()(f"The quarantine cannot be reached: {error}; {remedy}."))
        return 1
    _show_released(released, arguments.json)
    return 0 if all(one.done for one in released) else 1


def _show_kept(kept: list[Kept], note: str, as_json: bool) -> None:

    if as_json:
        files = [
            {"key": one.key, "at": one.at, "reason": one.reason, "size": one.size, "since": one.since} for one in kept
        ]
        print_json({"files": files, "note": note})
        return
    screen = console()
    if kept:
        rows = [(one.reason, size(one.size), one.since, one.key) for one in kept]
        print_table(screen, ("reason", "size", "since", "key"), rows, right=("size",))
        screen.print()
    screen.print(f"{number(len(kept), 'file')} set aside." if kept else "No file is set aside.")
    if note:
        say(note)


def _show_released(released: list[Released], as_json: bool) -> None:

    if as_json:
        print_json(
            {"released": [{"key": one.key, "to": one.to, "done": one.done, "why": one.words} for one in released]}
        )
        return
    for one in released:
        if one.done:
            print(printable(f"released {one.key}" + (f" to {one.to}" if one.to != one.key else "")))
        else:
            say(f"{one.key}: {one.words}")
    if not released:
        print("No file is set aside.")
