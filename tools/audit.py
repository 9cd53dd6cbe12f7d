"""Looks up known vulnerabilities of the shipped packages; a finding fails, an unreachable service does not.

pip-audit asks the package index's own JSON interface. Behind a mirror that has none, every package is "not found":
then this prints loudly that nothing was audited, since a check that cannot run is not a check that passed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

_PROJECT = "cdn77-exporter"
_SECONDS = 300


def shipped() -> dict[str, str]:
    """Return the packages of a production installation besides the project itself: name -> version."""
    found: dict[str, str] = {}
    left = [(_PROJECT, extra) for extra in ("", "cluster")]
    while left:
        name, extra = left.pop()
        for need in _needs(name, extra):
            key = re.sub(r"[-_.]+", "-", need.name).lower()
            if key not in found:
                try:
                    found[key] = version(need.name)
                except PackageNotFoundError:
                    continue  # an extra that is not installed here
                left += [(need.name, part) for part in ("", *need.extras)]
    return found


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    for text in requires(name) or ():
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            yield need


def audited(packages: dict[str, str]) -> list[dict[str, object]]:
    """Run pip-audit and return its answers, one for each package; raises OSError when it gave none."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "shipped.txt"
        listed.write_text("".join(f"{name}=={number}\n" for name, number in sorted(packages.items())), "utf-8")
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner=off"]
        command += ["--format=json", f"--requirement={listed}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_SECONDS)  # noqa: S603
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        raise OSError((done.stderr.strip().splitlines() or ["it said nothing"])[-1]) from None
    return [dict(answer) for answer in answers]


def main() -> int:
    """Run the audit; return exit code 1 when a vulnerability is known."""
    packages = shipped()
    # One package first: when the service is not there, the others need not be asked for.
    first = dict(sorted(packages.items())[:1])
    try:
        if all("skip_reason" in answer for answer in audited(first)):
            raise OSError("the package index answers no questions about vulnerabilities")
        answers = audited(packages)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _not_audited(str(error))
    skipped = [str(answer["name"]) for answer in answers if "skip_reason" in answer]
    if skipped:
        print(f"not audited, because the index does not know them: {', '.join(skipped)}", file=sys.stderr)
    found = 0
    for answer in answers:
        known = answer.get("vulns")
        for vulnerability in known if isinstance(known, list) else []:
            found += 1
            fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no version yet"
            print(f"{answer['name']} {answer['version']}: {vulnerability['id']}, fixed in {fixed}", file=sys.stderr)
    print(f"{len(answers) - len(skipped)} packages audited, {found} known vulnerabilities")
    return 1 if found else 0


def _not_audited(why: str) -> int:
    line = f"NOT AUDITED for known vulnerabilities: {why}"
    print(f"{'!' * len(line)}\n{line}\n{'!' * len(line)}", file=sys.stderr)
    if os.environ.get("AUDIT") == "required":
        print("AUDIT=required is set, so this is a failure.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
