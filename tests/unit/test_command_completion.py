"""`completion`: each shell offers the commands, their options, their words, and files where files belong."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cdn77_exporter.__main__ import main
from cdn77_exporter.commands import COMMANDS
from cdn77_exporter.commands.completion import SHELLS, all_words

_TRY = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_cdn77_exporter
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints for a shell."""
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def offered(path: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    ended = subprocess.run(
        ["bash", "--norc", "-c", _TRY, "try", str(path), "cdn77-exporter", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=path.parent,
    )
    assert ended.stderr == ""
    return ended.stdout.split("\n")[:-1]


def test_bash_completes_commands_options_words_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script works in a real bash, with a file name that has a space too."""
    path = tmp_path / "script"
    path.write_text(script("bash", capsys))
    (tmp_path / "two words.gz").touch()
    assert offered(path, "ch") == ["check"]
    assert offered(path, "check", "--j") == ["--json"]
    assert offered(path, "check", "--timeout", "") == [""]
    assert offered(path, "quarantine", "re") == ["release"]
    assert offered(path, "completion", "") == ["bash", "fish", "zsh", "--help"]
    assert offered(path, "inspect", "two") == ["two words.gz"]
    assert offered(path, "backfill", "x", "--out", "scr") == ["script"]
    assert set(COMMANDS) < set(offered(path, ""))


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_every_command_and_option_is_in_every_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the parsers declare is what the scripts offer."""
    text = script(shell, capsys)
    for words in all_words():
        assert words.command in text
        for option in words.options:
            assert option.name.removeprefix("--") in text


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_every_script_is_one_that_its_shell_reads(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shell itself finds no fault in the script's grammar."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on this machine")
    path = tmp_path / "script"
    path.write_text(script(shell, capsys))
    ended = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
