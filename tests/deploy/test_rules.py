"""Recording and alert rules: Prometheus accepts them, each alert is tested and has a runbook entry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tools import DEPLOY, ROOT, program, run
from tools import distinct_viewers

RULES = DEPLOY / "prometheus"
TESTS = sorted((RULES / "tests").glob("*.test.yml"))


def rules(name: str) -> list[dict[str, Any]]:
    """All rules of a file."""
    groups = yaml.safe_load((RULES / name).read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = [rule["alert"] for rule in rules("alerts.rules.yml")]


@pytest.mark.prometheus
def test_prometheus_accepts_the_rules_and_the_configuration() -> None:
    """promtool finds nothing wrong with the rules and with the configuration that loads them."""
    promtool = program("promtool", "prometheus")
    assert "SUCCESS" in run(promtool, "check", "config", RULES / "prometheus.yml")
    names = ("recording", "alerts", "distinct-viewers")
    run(promtool, "check", "rules", *(RULES / f"{name}.rules.yml" for name in names))


def test_the_rules_of_distinct_viewers_are_those_of_the_tool() -> None:
    """The file is what `tools/distinct_viewers.py` writes for a horizon of a day."""
    written = distinct_viewers.rules(distinct_viewers.Expressions(86_400), ["1h", "1d", "7d"])
    assert (RULES / "distinct-viewers.rules.yml").read_text("utf-8") == written


@pytest.mark.prometheus
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_rules_say_what_their_tests_expect(path: Path) -> None:
    """promtool's unit tests of the rules pass."""
    assert "SUCCESS" in run(program("promtool", "prometheus"), "test", "rules", path)


def test_every_alert_is_tested_both_ways() -> None:
    """For each alert a test expects it to fire, and one expects it not to."""
    fires: dict[str, set[bool]] = {}
    for path in TESTS:
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for check in test["promql_expr_test"]:
                found = re.search(r'alertname="(\w+)"', check["expr"])
                if found:
                    fires.setdefault(found[1], set()).add(bool(check["exp_samples"]))
    assert {name: {True, False} for name in ALERTS} == fires


def test_every_alert_has_a_runbook_entry_and_no_entry_is_left_over() -> None:
    """docs/operations.md has exactly one entry for each alert, where the alert's address points."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert re.findall(r"(?m)^### (\w+)$", page) == ALERTS
    for rule in rules("alerts.rules.yml"):
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["labels"]["severity"] in ("critical", "warning")


@pytest.mark.parametrize("name", ["recording.rules.yml", "alerts.rules.yml"])
def test_traffic_is_never_asked_for_at_now(name: str) -> None:
    """Every selector of a traffic metric lies 90 s behind; recorded series, which do already, are not meant."""
    for rule in rules(name):
        selectors = re.findall(
            r"(?<![:\w])cdn77_(?!exporter_)\w+(?:\{[^}]*\})?(?:\[\w+\])?( offset 90s)?", rule["expr"]
        )
        assert all(selectors), rule
