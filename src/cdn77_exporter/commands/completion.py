"""`cdn77-exporter completion`: prints a script that completes the command line, made from the commands' own options."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cdn77_exporter.commands import COMMANDS

PROGRAM = "cdn77-exporter"

_FILES = {"DIR", "FILE", "PATH"}  # what stands for a file in an option's description


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command: its longest spelling, what it is for, and what its value is, if it has one."""

    name: str
    help: str
    value: str = ""

    @property
    def takes_file(self) -> bool:
        """Whether its value names a file."""
        return self.value in _FILES


@dataclass(frozen=True, slots=True)
class Words:
    """What may follow a command: its options, words of a fixed choice, or files."""

    command: str
    help: str
    options: tuple[Option, ...]
    choices: tuple[str, ...]
    files: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Prints a script that completes the command line."
    parser.epilog = (
        "bash:  cdn77-exporter completion bash > ~/.local/share/bash-completion/completions/cdn77-exporter\n"
        "zsh:   cdn77-exporter completion zsh > a folder of $fpath, as _cdn77-exporter\n"
        "fish:  cdn77-exporter completion fish > ~/.config/fish/completions/cdn77-exporter.fish"
    )
    parser.add_argument("shell", choices=sorted(SHELLS), help="for which shell")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(SHELLS[arguments.shell](list(all_words())))
    return 0


def all_words() -> Iterator[Words]:
    """Every command, as its own parser describes it."""
    for command, (module, help_) in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"{PROGRAM} {command}")
        importlib.import_module(f"cdn77_exporter.commands.{module}").add_arguments(parser)
        options: dict[str, Option] = {}
        choices: list[str] = []
        files = False
        for action in _actions(parser):
            if action.option_strings:
                name = max(action.option_strings, key=len)
                help_text = (action.help or "").split(" (", maxsplit=1)[0]
                value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
                options.setdefault(name, Option(name, help_text, value))
            elif action.choices is not None:
                choices += map(str, action.choices)
            else:
                files = files or action.metavar in _FILES
        yield Words(command, help_, tuple(options.values()), tuple(choices), files)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """A parser's actions and those of the parsers below it."""
    for action in parser._actions:  # there is no public way to them
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)


# The shells

#: Names of files, of which one may have a space in it.
_BASH_FILES = """IFS=$'\\n'; COMPREPLY=($(compgen -f -- "$current"))"""


def _bash(commands: list[Words]) -> str:
    values, words = [], []
    for one in commands:
        for option in one.options:
            if option.value:
                files = _BASH_FILES if option.takes_file else "COMPREPLY=()"
                values.append(f"            {one.command}:{option.name}) {files}; return ;;")
        offered = " ".join([*one.choices, *(option.name for option in one.options)])
        files = "; files=1" if one.files else ""
        words.append(f'            {one.command}) words="{offered}"{files} ;;')
    first = " ".join([*(one.command for one in commands), "--help", "--version"])
    return "\n".join(
        [
            f"# bash completion of {PROGRAM}",
            "_cdn77_exporter() {",
            "    local IFS=$' \\t\\n'",
            '    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words="" files=""',
            '    if [ "$COMP_CWORD" -eq 1 ]; then',
            f'        words="{first}"',
            "    else",
            '        case "${COMP_WORDS[1]}:$previous" in',
            *values,
            "        esac",
            '        case "${COMP_WORDS[1]}" in',
            *words,
            "        esac",
            "    fi",
            '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
            '    if [ -n "$files" ] && [ "${current#-}" = "$current" ]; then',
            f"        {_BASH_FILES}",
            "    fi",
            "}",
            f"complete -o filenames -F _cdn77_exporter {PROGRAM}",
        ]
    )


def _zsh(commands: list[Words]) -> str:
    described = [f"        {_quoted(f'{one.command}:{one.help}')}" for one in commands]
    cases = []
    for one in commands:
        parts = [_zsh_option(option) for option in one.options]
        if one.choices:
            parts.append(_quoted(f"*:word:({' '.join(one.choices)})"))
        elif one.files:
            parts.append(_quoted("*:file:_files"))
        arguments = " \\\n                ".join(parts)
        cases.append(f"        {one.command})\n            _arguments \\\n                {arguments} ;;")
    return "\n".join(
        [
            f"#compdef {PROGRAM}",
            "_cdn77_exporter() {",
            "    local -a commands",
            "    commands=(",
            *described,
            "    )",
            "    if (( CURRENT == 2 )); then",
            "        _describe command commands",
            "        return",
            "    fi",
            "    local command=$words[2]",
            "    shift words",
            "    (( CURRENT -= 1 ))",
            "    case $command in",
            *cases,
            "    esac",
            "}",
            f"if [[ $funcstack[1] == _{PROGRAM} ]]; then",
            '    _cdn77_exporter "$@"',
            "else",
            f"    compdef _cdn77_exporter {PROGRAM}",
            "fi",
        ]
    )


def _zsh_option(option: Option) -> str:
    text = option.help.replace("[", "(").replace("]", ")").replace(":", ";")
    value = "" if not option.value else f":{option.value.lower()}:{'_files' if option.takes_file else ' '}"
    return _quoted(f"{option.name}[{text}]{value}")


def _fish(commands: list[Words]) -> str:
    none = f"not __fish_seen_subcommand_from {' '.join(one.command for one in commands)}"
    lines = [f"# fish completion of {PROGRAM}", f"complete -c {PROGRAM} -f"]
    lines += [f"complete -c {PROGRAM} -n '{none}' -l {name}" for name in ("help", "version")]
    for one in commands:
        lines.append(f"complete -c {PROGRAM} -n '{none}' -a {one.command} -d {_quoted(one.help)}")
        here = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {one.command}'"
        if one.files:
            lines.append(f"{here} -F")
        if one.choices:
            lines.append(f"{here} -a {_quoted(' '.join(one.choices))}")
        for option in one.options:
            value = "" if not option.value else " -r -F" if option.takes_file else " -x"
            lines.append(f"{here} -l {option.name.removeprefix('--')} -d {_quoted(option.help)}{value}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """In single quotes, as every shell reads them."""
    return "'" + text.replace("'", "'\\''") + "'"


SHELLS: dict[str, Callable[[list[Words]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
