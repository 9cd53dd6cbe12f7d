"""`cdn77-exporter check`: contacts everything with the configuration at hand, and says what to do."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Sequence

from cdn77_exporter import __version__
from cdn77_exporter.commands.arguments import parse_seconds
from cdn77_exporter.commands.check.findings import Finding, Findings, Status
from cdn77_exporter.commands.output import Waiting, console, print_json, print_table
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.visible import visible

_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.SKIPPED: "dim"}
_VARIABLES = "variables"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Contacts the bucket and the receiver with the configuration at hand, looks at the GeoIP database and the "
        "state, and prints a line for each with what to do. It changes nothing: no object is made or deleted, a "
        "running exporter is not disturbed, and no sample is written, but for one of cdn77_exporter_check when "
        "BACKFILL_WINDOW is longer than 55 minutes, and one of cdn77_exporter_check_histogram with HISTOGRAMS=native."
    )
    parser.epilog = "Exit codes: 0 nothing has failed (warnings may be there), 1 something has, 2 configuration."
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_argument(
        "--timeout",
        type=parse_seconds,
        default=10.0,
        metavar="SECONDS",
        help="the longest wait for an answer (10)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check everything, print it, and return the exit code."""
    from cdn77_exporter.settings import load  # noqa: PLC0415 - --help is quick

    try:
        settings = load(os.environ)
    except ConfigError as error:
        findings = Findings(arguments.timeout)
        for fault in error.faults:
            findings.fail(_VARIABLES, fault, "")
        findings.skip("everything else", "not contacted before the variables are right")
        _show(findings.all, arguments.json, str)
        return 2
    from cdn77_exporter.commands.check.checks import check_all  # noqa: PLC0415 - not without settings

    with Waiting("checking"):
        found = asyncio.run(check_all(settings, arguments.timeout))
    _show(found, arguments.json, settings.masker())
    return 1 if any(finding.status is Status.FAILED for finding in found) else 0


def _show(findings: Sequence[Finding], as_json: bool, mask: Callable[[str], str]) -> None:

    ok = all(finding.status is not Status.FAILED for finding in findings)
    if as_json:
        checks = [
            {
                "check": finding.check,
                "status": finding.status.value,
                "found": mask(finding.found),
                "remedy": mask(finding.remedy),
            }
            for finding in findings
        ]
        print_json({"ok": ok, "version": __version__, "checks": checks})
        return
    screen = console()
    rows = []
    for finding in findings:
        text = visible(mask(finding.found))
        if finding.remedy:
            text += f"\n→ {visible(mask(finding.remedy))}"
        rows.append((finding.check, (finding.status.value, _STYLES[finding.status]), text))
    print_table(screen, ("check", "", "result"), rows, keep="\n")
    screen.print()
    screen.print(_verdict(findings))


def _verdict(findings: Sequence[Finding]) -> str:
    failed = sum(finding.status is Status.FAILED for finding in findings)
    warned = sum(finding.status is Status.WARNING for finding in findings)
    if failed:
        return f"{failed} of {len(findings)} checks failed."
    return "Everything works" + (f", with {warned} warning{'s' if warned > 1 else ''}." if warned else ".")
