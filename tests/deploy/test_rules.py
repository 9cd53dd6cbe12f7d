"""Recording and alert rules: accepted by Prometheus, each alert tested and explained; chart and mixin say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import _jsonnet
import pytest
import yaml

from cdn77_exporter.core.measures import CDN, POP
from cdn77_exporter.telemetry.conditions import CONDITIONS, Severity
from cdn77_exporter.telemetry.metrics import PREFIX, SELF_METRICS
from tests.deploy.tools import DEPLOY, ROOT, program, run
from tools import distinct_viewers
from tools.rules import __main__ as written
from tools.rules.config import SETTINGS, defaults

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
    """docs/operations.md has exactly one entry for each alert, where the alert's absolute address points."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert re.findall(r"(?m)^### (Cdn77\w+)$", page) == ALERTS
    for rule in rules("alerts.rules.yml"):
        address = urlsplit(rule["annotations"]["runbook_url"])
        assert (address.scheme, address.netloc != "", address.path) == ("https", True, "/cdn77-exporter/operations/")
        assert address.fragment == rule["alert"].lower()
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}


def test_alerts_keep_to_the_guidelines_of_mixins() -> None:
    """Names, severities, a summary that is one fixed sentence, and a description that says which and how much."""
    for rule in rules("alerts.rules.yml"):
        assert re.fullmatch(r"([A-Z]+[a-z0-9]+)+", rule["alert"])
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert re.fullmatch(r"[A-Z].+\.", rule["annotations"]["summary"])
        assert "{{" not in rule["annotations"]["summary"]
        assert re.search(r"\{\{.+\}\}", rule["annotations"]["description"])


def test_no_exporter_hides_another() -> None:
    """No alert takes a maximum or a sum over exporters, but for those that compare their number and their sum."""
    sums = {"Cdn77FewerExporters", "Cdn77NoData"}
    for rule in rules("alerts.rules.yml"):
        over = re.findall(
            r"(?<!:)\b(sum|max|min|avg|count|topk|group)\b\s*(by \([^)]*\)|without \([^)]*\))?", rule["expr"]
        )
        hides = [by for _, by in over if not by.startswith("without")]
        assert bool(hides) == (rule["alert"] in sums), rule["alert"]


def test_every_condition_is_an_alert() -> None:
    """A red condition is critical, an amber one a warning, and one of a process that does not count yet is none."""
    wanted = {Severity.RED: ["Cdn77Problem"], Severity.AMBER: ["Cdn77MinorProblem"], Severity.WAITING: []}
    found: dict[str, list[str]] = {name: [] for name in CONDITIONS}
    for rule in rules("alerts.rules.yml"):
        if match := re.search(r'problems\{[^}]*what(=~|!~)"([^"]*)"\} > 0$', rule["expr"]):
            for name, alerts in found.items():
                if (re.fullmatch(match[2], name) is not None) is (match[1] == "=~"):
                    alerts.append(rule["alert"])
    assert found == {name: wanted[condition.severity] for name, condition in CONDITIONS.items()}
    assert {alert for condition in CONDITIONS.values() for alert in condition.alerts} <= set(ALERTS)


def test_every_metric_of_the_rules_is_there() -> None:
    """No rule asks for a metric of the exporter, or a recorded series, that nobody makes."""
    own = {PREFIX + metric.name for metric in SELF_METRICS}
    recorded = {rule["record"] for rule in rules("recording.rules.yml")}
    for name in ("recording.rules.yml", "alerts.rules.yml"):
        for rule in rules(name):
            assert set(re.findall(rf"(?<![:\w]){PREFIX}\w+", rule["expr"])) <= own
            assert set(re.findall(r"\w+:cdn77_\w+:\w+", rule["expr"])) <= recorded


# One table, three forms


def test_rules_are_what_the_table_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody edited a file by hand; one that is missing or edited is named."""
    assert written.stale() == []
    assert written.main(["--check"]) == 0
    assert written.stale(tmp_path) == list(written.files())
    assert capsys.readouterr().err == ""


def evaluated(config: Mapping[str, object]) -> dict[str, Any]:
    """What the mixin gives with some settings."""
    snippet = f"""
    local mixin = (import 'mixin.libsonnet') + {{ _config+:: {json.dumps(config)} }};
    {{ rules: mixin.prometheusRules, alerts: mixin.prometheusAlerts, dashboards: mixin.grafanaDashboards }}
    """
    folder = DEPLOY / "mixin"
    found: dict[str, Any] = json.loads(_jsonnet.evaluate_snippet("test", snippet, jpathdir=[str(folder)]))
    return found


def stripped(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of rules, without the line break that ends a block of text in jsonnet."""
    return [group | {"rules": [rule | {"expr": rule["expr"].strip()} for rule in group["rules"]]} for group in groups]


OTHER: dict[str, str | float] = {
    "runbookUrl": "https://wiki.example.com/cdn77",
    "exporterSelector": 'job=~"cdn77-.+", cluster="eu"',
    "behindSeconds": 600,
    "errorBudget": 0.00125,
    "problemFor": "90s",
}


@pytest.mark.parametrize("config", [{}, OTHER], ids=["defaults", "own settings"])
def test_mixin_and_plain_files_say_the_same(config: dict[str, str | float], tmp_path: Path) -> None:
    """With the same settings the mixin gives the groups of the plain files, and the dashboards as they are."""
    words = [word for name, value in config.items() for word in ("--set", f"{name}={value}")]
    assert written.main(["--out", str(tmp_path), *words]) == 0
    mixin = evaluated(config)
    for field, name in (("rules", "recording.rules.yml"), ("alerts", "alerts.rules.yml")):
        groups = yaml.safe_load((tmp_path / name).read_text("utf-8"))["groups"]
        assert stripped(mixin[field]["groups"]) == groups
    assert "%(" not in json.dumps([mixin["rules"], mixin["alerts"]])
    for name, dashboard in mixin["dashboards"].items():
        assert dashboard == json.loads((DEPLOY / "grafana" / "dashboards" / name).read_text("utf-8"))


def test_links_lead_to_the_repository_that_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its address known, written rules link to its runbook; those that the repository holds do not change."""
    monkeypatch.setenv("CDN77_EXPORTER_REPOSITORY", "https://git.example.com/me/exporter/")
    assert written.main(["--out", str(tmp_path)]) == 0
    groups = yaml.safe_load((tmp_path / "alerts.rules.yml").read_text("utf-8"))["groups"]
    links = {rule["annotations"]["runbook_url"].partition("#")[0] for group in groups for rule in group["rules"]}
    assert links == {"https://git.example.com/me/exporter/blob/main/docs/operations.md"}
    assert written.stale() == []


@pytest.mark.prometheus
def test_rules_with_other_settings_are_rules(tmp_path: Path) -> None:
    """promtool accepts what is written with settings of one's own, and they are in it."""
    words = [word for name, value in OTHER.items() for word in ("--set", f"{name}={value}")]
    assert written.main(["--out", str(tmp_path), *words]) == 0
    run(program("promtool", "prometheus"), "check", "rules", *tmp_path.glob("*.rules.yml"))
    text = (tmp_path / "alerts.rules.yml").read_text("utf-8")
    assert text.count("https://wiki.example.com/cdn77#") == len(ALERTS)
    assert 'job="cdn77-exporter"' not in text


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    """An unknown setting, a value that is no number, and settings without a folder end with a usage error."""
    for words in (["--set", "behind=5"], ["--set", "behindSeconds=soon"]):
        with pytest.raises(SystemExit):
            written.main(["--out", str(tmp_path), *words])
    with pytest.raises(SystemExit):
        written.main(["--set", "behindSeconds=600"])


def test_the_chart_knows_every_setting() -> None:
    """Its schema has each setting with its type, so that a slip in a name is refused."""
    schema = json.loads((DEPLOY / "helm" / "cdn77-exporter" / "values.schema.json").read_text("utf-8"))
    config = schema["properties"]["prometheusRule"]["properties"]["config"]
    assert config["additionalProperties"] is False
    assert {name: row["type"] for name, row in config["properties"].items()} == {
        setting.name: "string" if isinstance(setting.default, str) else "number" for setting in SETTINGS
    }
    assert all(f"%({name})s" in json.dumps(written.files()) for name in defaults())


@pytest.mark.parametrize("name", ["recording.rules.yml", "alerts.rules.yml"])
def test_traffic_is_never_asked_for_at_now(name: str) -> None:
    """Every selector of a traffic metric lies 90 s behind; recorded series, which do already, are not meant."""
    for rule in rules(name):
        selectors = re.findall(
            r"(?<![:\w])cdn77_(?!exporter_)\w+(?:\{[^}]*\})?(?:\[\w+\])?( offset 90s)?", rule["expr"]
        )
        assert all(selectors), rule


def test_labels_that_a_receiver_adds_stay_apart() -> None:
    """Traffic is summed without the labels that have to go, not by those that stay: two accounts stay two."""
    for rule in rules("recording.rules.yml"):
        for by, labels in re.findall(r"\bsum (by|without) \(([^)]*)\)", rule["expr"]):
            assert by == "without"
            assert {CDN.name, POP.name} & set(labels.split(", ")) or labels in ("cache_status", "response_status")
