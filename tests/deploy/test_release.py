"""The release: a wheel and an sdist that are whole, one version everywhere, and pinned dependencies."""

from __future__ import annotations

import json
import os
import re
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import hatch_build
from cdn77_exporter import __version__
from tests.deploy.tools import DEPLOY, ROOT, run
from tests.support.files import traffic_file
from tests.support.ways import can_compile
from tools import lock as tools_lock

_PIN = re.compile(r"[a-z0-9][a-z0-9-]*==[0-9][0-9A-Za-z.]*")


_COMPILED = "cdn77_exporter/core/scan/_scan.abi3.so"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist of the tree as it is."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built where there is no compiler."""
    folder = tmp_path_factory.mktemp("pure")
    environ = {**os.environ, "CC": "no-such-compiler"}
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT, environ=environ)
    return the_wheel(folder)


def the_wheel(folder: Path) -> Path:
    """The one wheel in a folder."""
    (wheel,) = folder.glob("*.whl")
    return wheel


def names(wheel: Path) -> set[str]:
    """The files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_has_every_module_and_nothing_else(built: Path, pure: Path) -> None:
    """The wheel holds the package's files, its licence and its metadata, and no tests; and the scan, if compiled."""
    wheel = the_wheel(built)
    folder = ROOT / "src"
    source = {
        path.relative_to(folder).as_posix()
        for path in (folder / "cdn77_exporter").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".c", ".so")
    }
    found = names(wheel)
    assert {name for name in found if ".dist-info/" not in name} == source | ({_COMPILED} if can_compile() else set())
    assert {name for name in names(pure) if ".dist-info/" not in name} == source
    assert "cdn77_exporter/py.typed" in source
    assert f"cdn77_exporter-{__version__}.dist-info/licenses/LICENSE" in found


def test_wheels_say_where_they_run(built: Path, pure: Path) -> None:
    """With the compiled scan the wheel is for this platform and every Python from 3.11 on, without it for all."""
    if not can_compile():
        pytest.skip("needs a compiler and the headers of Python")
    assert re.fullmatch(rf"cdn77_exporter-{__version__}-cp311-abi3-linux_\w+\.whl", the_wheel(built).name)
    assert pure.name == f"cdn77_exporter-{__version__}-py3-none-any.whl"


def test_wheel_installs_the_command(built: Path) -> None:
    """The command's entry point exists in the package."""
    with zipfile.ZipFile(the_wheel(built)) as archive:
        told = archive.read(f"cdn77_exporter-{__version__}.dist-info/entry_points.txt").decode()
    assert "cdn77-exporter = cdn77_exporter.__main__:main" in told


def test_wheels_run_from_a_folder_of_their_own(built: Path, pure: Path, tmp_path: Path) -> None:
    """The installed wheel tells its version and whether it has the compiled scan, and works, away from the sources."""
    log = tmp_path / "log.ndjson.gz"
    log.write_bytes(traffic_file(50))
    for wheel, scan in ((the_wheel(built), " (with the compiled scan)" if can_compile() else ""), (pure, "")):
        folder = tmp_path / wheel.stem
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)  # noqa: S202 - built just now
        environ = {"PYTHONPATH": str(folder), "PATH": ""}
        told = run(sys.executable, "-m", "cdn77_exporter", "--version", environ=environ, folder=folder)
        assert told.strip() == f"cdn77_exporter {__version__}{scan}"
        command = ("-m", "cdn77_exporter", "inspect", "--json", str(log))
        assert json.loads(run(sys.executable, *command, environ=environ, folder=folder))["events"] == 50


def test_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    """A wheel built from the sdist is the wheel built from the tree, byte for byte."""
    with tarfile.open(built / f"cdn77_exporter-{__version__}.tar.gz") as archive:
        archive.extractall(tmp_path)  # noqa: S202 - built just now
    again = tmp_path / "again"
    source = tmp_path / f"cdn77_exporter-{__version__}"
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", again, source)
    assert the_wheel(again).name == the_wheel(built).name
    assert the_wheel(again).read_bytes() == the_wheel(built).read_bytes()


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        (hatch_build.PURE, "1", "is 1"),
        ("CC", "no-such-compiler -pipe", "the compiler no-such-compiler cannot be run"),
        ("CC", "false", "failed with 1"),
    ],
)
def test_a_build_without_the_scan_says_why(
    variable: str, value: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be compiled is left out with its reason, and what was compiled of an earlier source is removed."""
    monkeypatch.setenv(variable, value)
    (tmp_path / hatch_build.BUILT).write_bytes(b"an earlier one")
    assert why in hatch_build.compile_scan(ROOT / hatch_build.FOLDER, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_constraints_hold_names_and_versions_only() -> None:
    """No address, no option and no range is in the constraints."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not _PIN.fullmatch(line)] == []
    assert len({line.partition("==")[0] for line in lines}) == len(lines)


def requirements() -> Iterator[Requirement]:
    """Everything that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    lists = [
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
    ]
    yield from (Requirement(text) for texts in lists for text in texts)


def test_every_requirement_is_pinned_within_its_range() -> None:
    """The pin of each requirement is there and is one that the requirement allows."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines())
    checked = 0
    for need in requirements():
        name = re.sub(r"[-_.]+", "-", need.name).lower()
        if name != "cdn77-exporter":
            assert need.specifier.contains(pins[name], prereleases=True), need
            checked += 1
    assert checked > 30


@pytest.mark.parametrize("lock", tools_lock.LOCKS)
def test_locks_hold_what_is_shipped_by_hash(lock: str) -> None:
    """Every package that an installation needs, in the version of the constraints, with hashes and nothing else."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines())
    text = (ROOT / "locks" / f"{lock}.txt").read_text("utf-8")
    lines = [line for line in text.replace("\\\n", "").splitlines() if not line.startswith("#")]
    found = {}
    for line in lines:
        pin, *hashes = line.split()
        assert _PIN.fullmatch(pin)
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes)
        name, _, version = pin.partition("==")
        found[name] = version
    assert len(found) == len(lines)
    assert found == {name: pins[name] for name in tools_lock.needed(tools_lock.LOCKS[lock])}


def test_version_is_the_same_everywhere() -> None:
    """What repeats the package's version repeats it rightly."""
    kustomization = yaml.safe_load((DEPLOY / "kubernetes" / "base" / "kustomization.yaml").read_text("utf-8"))
    assert kustomization["images"][0]["newTag"] == __version__
    for path in (".env.example", "deploy/compose/demo.env"):
        text = (ROOT / path).read_text("utf-8")
        assert re.findall(r"cdn77-exporter:(\d+\.\d+\.\d+)", text) == [__version__]


def test_licence_is_whole() -> None:
    """LICENSE is the Apache License 2.0 in full."""
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_tasks_are_explained() -> None:
    """`make` alone lists every task with what it does."""
    told = run("make", "--no-print-directory")
    listed = set(re.findall(r"(?m)^make ([a-z-]+) ", told))
    declared = re.search(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"))
    assert declared
    assert listed == set(declared[1].split())


def test_links_are_those_of_the_repository_that_builds(tmp_path: Path) -> None:
    """The package's links lead to the repository that is named at the build; without one there are none."""
    for repository, expected in (("", set()), ("https://git.example.com/a/b/", {"https://git.example.com/a/b"})):
        environ = {**os.environ, hatch_build.PURE: "1", hatch_build.REPOSITORY: repository}
        folder = tmp_path / (repository and "named")
        run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT, environ=environ)
        with zipfile.ZipFile(the_wheel(folder)) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            links = [line for line in archive.read(name).decode().splitlines() if line.startswith("Project-URL: ")]
        assert {link.partition(", ")[2] for link in links if "Source" in link} == expected
        assert len(links) == (len(hatch_build.LINKS) if repository else 0)


def test_supported_pythons_are_those_that_are_tested() -> None:
    """The classifiers name the Pythons of the workflow and of `make test-pythons`, and no others."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["classifiers"]
    prefix = "Programming Language :: Python :: 3."
    named = {text.removeprefix("Programming Language :: Python :: ") for text in classifiers if text.startswith(prefix)}
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert named == set(workflow["jobs"]["pythons"]["strategy"]["matrix"]["python"])
    script = (ROOT / "tools/other_pythons.sh").read_text("utf-8")
    (versions,) = re.findall(r"^for version in (.*); do$", script, re.MULTILINE)
    assert named == set(versions.split())
