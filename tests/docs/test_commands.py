"""Every command in the documentation is run: by the program itself where the machine can, else by a stand-in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks, inline
from tests.docs.sandbox import SYSTEM, World, sandbox, world
from tests.docs.stand_ins import STAND_INS

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

#: Every program that the documentation may name, and what is done with it; the shell of these tests finds no other.
PROGRAMS = {
    **dict.fromkeys(SYSTEM, "run as it is"),
    "aws": "stand-in: reads the same from the sandbox's S3 server; the real one is no dependency",
    "cdn77-exporter": "run as it is, against an S3 server, Prometheus and a running exporter",
    "curl": "stand-in: asks the running exporter; the real one is no dependency",
    "dask": "its options are known and the worker's variables are enough; a cluster has tests of its own",
    "docker": "Compose itself reads file, profiles and options, and stops where it needs Docker; services are there",
    "helm": "stand-in: Helm's library checks and renders the chart with these values; a cluster would be needed",
    "journalctl": "run as it is, on an empty journal",
    "kubectl": "run as it is, up to the point where it needs a cluster",
    "make": "only a dry run: the tasks take minutes, and set up an environment; their commands have tests of their own",
    "pip": "stand-in: constraints and extras are there; it would load packages from the network",
    "python": "run as it is; the service is stopped when it has pushed and deleted",
    "python3": "stand-in: a virtual environment with the programs of this table",
    "ssh": "stand-in: the port is the exporter's; there is no other machine",
    "systemctl": "enables the unit in a root of its own; nothing else can be asked where systemd does not run",
}
#: Pages that show how to set the variables; on the others they are set.
_SETS_VARIABLES = ("README.md", "docs/scaling.md")
_INLINE = re.compile(rf"(?:{'|'.join(map(re.escape, [*STAND_INS, 'promtool']))}) \S")
SHELL = [block for block in blocks() if block.language == "sh"]


def console() -> Iterator[Block]:
    """The commands in blocks that show what a command prints."""
    for block in blocks():
        if block.language == "text":
            for command in re.findall(r"(?m)^\$ (.*)$", block.text):
                yield Block(block.page, block.line, "sh", command)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation that the commands find."""
    with world(tmp_path_factory.mktemp("world")) as found:
        yield found


def run_all(found: list[Block], made: World, folder: Path, *, configured: bool) -> None:
    """Run blocks one after the other in one sandbox."""
    box = sandbox(folder, made, configured=configured)
    for block in found:
        code, out, err = box.run(block.text)
        assert code == 0, f"{block.place}\n{block.text}\n{out[-2000:]}\n{err[-4000:]}"


def test_every_program_is_known() -> None:
    """The table says of each program how it is tried, and names none that the documentation does not use."""
    assert set(PROGRAMS) == {*SYSTEM, *STAND_INS}
    text = "\n".join(block.text for block in [*SHELL, *console(), *inline()])
    assert [name for name in PROGRAMS if not re.search(rf"(?m)(?<![\w-]){re.escape(name)}(?![\w-])", text)] == []
    assert len(SHELL) > 25


@pytest.mark.parametrize("page", sorted({block.page for block in SHELL}))
def test_commands_of_a_page_work(page: str, made: World, tmp_path: Path) -> None:
    """The page's commands, one after the other in one folder, end with exit code 0."""
    found = [block for block in SHELL if block.page == page]
    run_all(found, made, tmp_path, configured=page not in _SETS_VARIABLES)


def test_commands_whose_output_is_shown_work(made: World, tmp_path: Path) -> None:
    """What stands behind a `$` works too."""
    found = list(console())
    assert len(found) >= 5
    run_all(found, made, tmp_path, configured=True)


def test_commands_between_words_work(made: World, tmp_path: Path) -> None:
    """So does what stands within a sentence and has a known program and a word more."""
    found = [block for block in inline() if _INLINE.match(block.text)]
    assert len(found) > 10
    run_all(found, made, tmp_path, configured=True)


def test_what_is_wrong_is_found(made: World, tmp_path: Path) -> None:
    """A program, option, service, file, task, value or command that is not there fails."""
    box = sandbox(tmp_path, made, configured=True)
    for wrong in (
        "terraform apply",
        "docker compose up --deatch",
        "docker compose up nobody",
        "docker compose run --rm exporter chekc",
        "kubectl apply -k deploy/nowhere",
        "kubectl apply --kustomise deploy/kubernetes/base",
        "kubectl logs deployment/nobody",
        "helm upgrade --install x deploy/helm/cdn77-exporter --set state.kind=elsewhere",
        "systemctl enable --now nobody",
        "journalctl --unti cdn77-exporter",
        "make nothing",
        "make bench PART=nothing",
        "pip install -c constraints.txt '.[nothing]'",
        "python -m cdn77_exporter inspct x",
        "cdn77-exporter check --jsn",
        "curl --fail --silent http://localhost:9177/nowhere",
        "cat nowhere",
    ):
        assert box.run(wrong)[0] != 0, wrong


def test_pages_are_all_there() -> None:
    """The pages are found, those of the top and those of the site."""
    assert len(PAGES) > 15
    assert ROOT / "docs" / "quickstart.md" in PAGES
