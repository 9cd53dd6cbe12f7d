"""The command line: without a command it is the service; exit codes 0 success, 1 failure, 2 usage or configuration."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from cdn77_exporter import __version__
from cdn77_exporter.commands import COMMANDS
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.scan import COMPILED
from cdn77_exporter.runtime import without_collection, without_idle_threads

PROGRAM = "cdn77_exporter"

_INTERRUPTED = 130
_BUILD = " (with the compiled scan)" if COMPILED else ""


class Command(Protocol):
    """The interface of a module in `commands`."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the command's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command and return the exit code."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if words is None else words)
    _stand_in_for_closed_streams()
    without_idle_threads()
    try:
        if given and given[0] in COMMANDS:
            return _run_command(given[0], given[1:])
        _parser().parse_args(given)
        return _run_service()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (ConfigError, ModuleNotFoundError, OSError) as error:
        return _explain(error)


def _stand_in_for_closed_streams() -> None:
    """Open the null device for a standard stream that the process was started without.

    A file or connection that is opened later would get its number, and what is printed would go into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for all that follows


def _explain(error: ConfigError | ModuleNotFoundError | OSError) -> int:
    """Print what an operator can change and return the exit code; raise anything else again, since it is a bug."""
    if isinstance(error, ConfigError):
        for fault in error.faults:
            _say(fault)
        return 2
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has had enough (`| head`); Python must not complain about it at its exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, ModuleNotFoundError):
        if not error.name or error.name.partition(".")[0] == PROGRAM:
            raise error
        _say(f"{PROGRAM}: the package {error.name} is not installed; see the extras in the documentation")
        return 1
    _say(f"{PROGRAM}: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    return 1


def _run_command(name: str, words: list[str]) -> int:
    module, help_ = COMMANDS[name]
    with without_collection():  # what is imported stays
        command = cast(Command, importlib.import_module(f"cdn77_exporter.commands.{module}"))
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} {name}", description=_sentence(help_))
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def _run_service() -> int:
    with without_collection():  # what is imported stays
        from cdn77_exporter import settings  # noqa: PLC0415 - commands start without it

        loaded = settings.load(os.environ)
        from cdn77_exporter.service import app  # noqa: PLC0415 - a configuration at fault is reported before the libraries load

    return app.run(loaded)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {help_}" for name, (_, help_) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [-h] [--version] [COMMAND ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Turns CDN77 real-time logs in an S3 bucket into Prometheus metrics.\n\n"
            "Without a command it runs the service, configured by environment variables."
        ),
        epilog=(
            f"commands:\n{commands}\n\n"
            f"`{PROGRAM} COMMAND --help` describes a command's arguments.\n"
            "Exit codes: 0 success, 1 failure, 2 usage or configuration."
        ),
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}{_BUILD}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", choices=sorted(COMMANDS), help=argparse.SUPPRESS)
    return parser


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
