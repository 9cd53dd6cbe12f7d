"""Writes the locks: what an installation ships, by version and by the hashes of its files, for `pip --require-hashes`.

Versions are those of constraints.txt. pip itself is asked which file it would take on each platform; nothing else is
installed from an index by the image, so that no package of the same name can take a pinned one's place.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement

_PROJECT = "cdn77-exporter"
_ROOT = Path(__file__).parent.parent
Part = tuple[str, str]  # a package, and an extra of it or ""
#: Name of the lock -> what it is of. The extras have the names by which the image is asked for them.
LOCKS: dict[str, list[Part]] = {
    "build": [("hatchling", "")],
    "production": [(_PROJECT, "")],
    "cluster": [(_PROJECT, ""), (_PROJECT, "cluster")],
    "demo": [(_PROJECT, ""), (_PROJECT, "demo")],
}
_MACHINES = ("x86_64", "aarch64")
_LIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
_PYTHONS = ("3.11", "3.12", "3.13")
_HEAD = (
    "# Made by tools/lock.py of constraints.txt: the packages of an installation with the hashes of their files, for\n"
    "# Linux on x86-64 and ARM64. pip install --require-hashes --no-deps -r {name}\n"
)


def pins() -> dict[str, str]:
    """Return the versions of constraints.txt by name."""
    return dict(line.split("==") for line in (_ROOT / "constraints.txt").read_text("utf-8").split())


def needed(roots: Iterable[Part]) -> set[str]:
    """Return the names of all packages that these need, themselves included, but the project."""
    left = list(roots)
    seen: set[Part] = set()
    while left:
        part = left.pop()
        if part not in seen:
            seen.add(part)
            left += [(_key(need.name), extra) for need in _needs(*part) for extra in ("", *need.extras)]
    return {name for name, _ in seen} - {_PROJECT}


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    try:
        texts = requires(name) or ()
    except PackageNotFoundError:
        return  # of another platform
    for text in texts:
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            yield need


def hashes(versions: dict[str, str]) -> dict[str, set[str]]:
    """Return the SHA-256 of each file that pip takes for these packages, on every platform; by name."""
    found: dict[str, set[str]] = defaultdict(set)
    for machine in _MACHINES:
        for python in _PYTHONS:
            for name, digest in _asked(versions, machine, python):
                found[name].add(digest)
    return found


def _asked(versions: dict[str, str], machine: str, python: str) -> Iterator[tuple[str, str]]:
    platforms = [f"--platform={libc}_{machine}" for libc in _LIBC]
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "packages.txt"
        listed.write_text("".join(f"{name}=={version}\n" for name, version in sorted(versions.items())), "utf-8")
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        command += ["--only-binary=:all:", f"--python-version={python}", *platforms, f"--target={folder}/target"]
        subprocess.run([*command, f"--report={report}", f"--requirement={listed}"], check=True)  # noqa: S603
        for one in json.loads(report.read_text("utf-8"))["install"]:
            yield _key(one["metadata"]["name"]), one["download_info"]["archive_info"]["hashes"]["sha256"]


def main() -> int:
    """Write the locks."""
    versions = pins()
    sets = {name: needed(roots) for name, roots in LOCKS.items()}
    found = hashes({name: versions[name] for name in set().union(*sets.values())})
    (_ROOT / "locks").mkdir(exist_ok=True)
    for lock, names in sets.items():
        path = f"locks/{lock}.txt"
        lines = [
            f"{name}=={versions[name]}" + "".join(f" \\\n    --hash=sha256:{one}" for one in sorted(found[name]))
            for name in sorted(names)
        ]
        (_ROOT / path).write_text(_HEAD.format(name=path) + "\n".join(lines) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
