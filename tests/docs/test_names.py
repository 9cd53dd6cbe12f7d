"""Every name in the documentation is one that the code has: metrics, events, fields, variables, files, alerts."""

from __future__ import annotations

import re

import yaml

from cdn77_exporter import __version__
from cdn77_exporter.commands import COMMANDS
from cdn77_exporter.core import measures as tables
from cdn77_exporter.core.device import built_in
from cdn77_exporter.core.measures import MEASURES, Histograms
from cdn77_exporter.core.reasons import REJECT_REASONS, UNREADABLE_REASONS
from cdn77_exporter.core.returns import return_rows
from cdn77_exporter.settings import VARIABLES, device_rules
from cdn77_exporter.telemetry.conditions import CONDITIONS
from cdn77_exporter.telemetry.messages import MESSAGES
from cdn77_exporter.telemetry.metrics import PREFIX, SELF_METRICS
from tests.deploy.tools import DEPLOY
from tests.docs.pages import PAGES, ROOT, blocks, cells, inline, rows

_PROGRAM = "cdn77_exporter"
_JSON_OF_INSPECT = ROOT / "src" / _PROGRAM / "commands" / "inspect" / "as_json.py"
_COMPOSE = {"COMPOSE_PROFILES", "EXTRAS", "CDN77_EXPORTER_IMAGE", "ALERTMANAGER_CONFIG"}
_FOLDERS = "docs|deploy|tests|tools|bench|src|core|flow|edge|commands|service|settings|status|telemetry"
_TASKS = {
    "PYTHON_IMAGE",
    "PYTHON_DIGEST",
    "CDN77_EXPORTER_PURE",
    "DEMO_SECONDS",
    "SOAK_SECONDS",
    "OUTAGE_SECONDS",
    "KILLS",
    "RUNBOOK_URL",
}
_PROXIES = {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"}
_OF_CHECK = {"cdn77_exporter_check", "cdn77_exporter_check_histogram"}
#: Words in capitals that are no variables: values, labels, headers, and what stands for something in an example.
_CAPITALS = {"SIGTERM", "SIGINT", "MISS", "UNKNOWN", "GET", "DENY", "FILE", "TIME", "KEY", "DIR", "DATA_DIR"}
#: Names in small letters of Prometheus and Mimir, and reasons of `inspect` that the service does not know.
_OTHERS = {"remote_write", "out_of_order_time_window", "build_info", "cannot_be_opened", "not_found", "ip_version"}
_OTHERS |= {"runbook_url", "histogram_quantile", "native_histograms_ingestion_enabled", "created_timestamp"}


def metrics() -> set[str]:
    """Every metric, with the parts of histograms and what the rules record."""
    rows = (row for how in Histograms for row in (*tables.built_in(how).rows, *return_rows(86_400, 15, how)))
    known = {row.name for row in rows} | {f"{PREFIX}build_info"}
    for own in SELF_METRICS:
        known.add(PREFIX + own.name)
        if own.kind == "histogram":
            known |= {f"{PREFIX}{own.name}_{part}" for part in ("bucket", "sum", "count")}
    for name in ("recording", "distinct-viewers"):
        recorded = yaml.safe_load((DEPLOY / "prometheus" / f"{name}.rules.yml").read_text("utf-8"))
        known |= {rule["record"] for group in recorded["groups"] for rule in group["rules"]}
    return known


def test_every_metric_that_is_named_exists() -> None:
    """A metric that a sentence, a table or a query names is one that the code knows."""
    known = (
        metrics() | {metric.family.name for metric in MEASURES.rows} | {_PROGRAM, PREFIX, "cdn77_", *_OF_CHECK}
    )  # the program, and what names begin with
    found = [*inline(), *(block for block in blocks() if block.language == "promql")]
    named = [(block.place, name) for block in found for name in re.findall(r"(?<!:)\bcdn77_\w*", block.text)]
    named += [(block.place, name) for block in found for name in re.findall(r"\b\w+:cdn77_\w+:\w+", block.text)]
    assert len(named) > 80
    assert [(place, name) for place, name in named if name not in known] == []


def test_every_variable_that_is_named_exists() -> None:
    """A word in capitals is an environment variable, of the service or of Compose, or is known to be none."""
    variables = {variable.name for variable in VARIABLES}
    known = variables | {f"{name}_FILE" for name in variables} | _COMPOSE | _TASKS | _CAPITALS | _PROXIES
    found = [
        (block.place, word)
        for block in inline()
        for word in re.findall(r"(?<![\w.:/-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![\w*-])", block.text)
    ]
    assert len(found) > 100
    assert [(place, word) for place, word in found if word not in known] == []


def test_every_name_in_small_letters_exists() -> None:
    """A word such as `file_counted` is an event, a field, a metric, a label or a reason."""
    known = {*MESSAGES, *REJECT_REASONS, *UNREADABLE_REASONS, *_OTHERS}
    known |= {field.name for event in MESSAGES.values() for field in event.fields}
    known |= {label for metric in MEASURES.rows for label in metric.labels} | {metric.name for metric in MEASURES.rows}
    known |= {own.name for own in SELF_METRICS} | metrics() | {_PROGRAM, *_OF_CHECK, *CONDITIONS}
    known |= {*built_in().devices, *(key.name for key in device_rules.RULE.keys)}
    for own in SELF_METRICS:
        known |= {value for _, values in own.labels for value in values}
    known |= set(re.findall(r'"(\w+)"', _JSON_OF_INSPECT.read_text("utf-8")))
    words = {(block.place, block.text) for block in inline() if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", block.text)}
    assert len(words) > 100
    assert [(place, word) for place, word in sorted(words) if word not in known] == []


def test_every_condition_is_found_and_solved_somewhere() -> None:
    """The code has a place that finds each condition of the table, and the rules for Prometheus have its alerts."""
    code = "".join(path.read_text("utf-8") for path in (ROOT / "src" / _PROGRAM).rglob("*.py"))
    code = re.sub(r"(?s)class Condition.*?MappingProxyType", "", code)
    found = set(re.findall(r'(?:found|_tell)\((?:[^()"]|\([^()]*\))*"(\w+)"', code)) | {"clock", "clock_doubtful"}
    assert found >= CONDITIONS.keys()
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.rules.yml").read_text("utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert {alert for row in CONDITIONS.values() for alert in row.alerts} <= alerts


def test_every_file_that_is_named_is_there() -> None:
    """A path into the repository leads somewhere, seen from the top or from the package."""
    found = [(block.place, block.text) for block in inline() if re.fullmatch(rf"({_FOLDERS})/[\w./-]*", block.text)]
    assert len(found) > 10
    roots = (ROOT, ROOT / "src" / _PROGRAM)
    assert [(place, path) for place, path in found if not any((root / path).exists() for root in roots)] == []


def test_readmes_links_lead_somewhere() -> None:
    """mkdocs checks the links within the site; those of the README are checked here, headings too."""
    for text, target in re.findall(r"\[([^\]]*)\]\(([^)]+)\)", PAGES[0].read_text("utf-8")):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            assert (ROOT / path).exists(), text
            if anchor:
                page = (ROOT / path).read_text("utf-8").lower()
                headings = re.findall(r"(?m)^#+ (.*)$", page)
                assert anchor in {re.sub(r"[^\w\s-]", "", heading).strip().replace(" ", "-") for heading in headings}


def test_readmes_defaults_are_those_of_the_code() -> None:
    """Each variable in the README's table has the default that the code has, or is required as it says."""
    variables = {variable.name: variable for variable in VARIABLES}
    found = [row for page, row in rows("variable", "default", "meaning") if page == "README.md"]
    assert len(found) > 10
    for names, default, _ in found:
        for name in re.findall(r"`(\w+)`", names):
            known = "required" if variables[name].required else variables[name].default or "none"
            assert default.strip("`") == known, name


def test_readmes_metrics_are_those_of_the_code() -> None:
    """The README's table has every metric with its kind and its labels, in the code's order."""
    found = [row for page, row in rows("metric", "kind", "labels") if page == "README.md"]
    told = [(name.strip("`"), kind, re.sub(r" \(.*", "", labels).split(", ")) for name, kind, labels in found]
    expected = [(metric.name, str(metric.family.kind), list(metric.labels)) for metric in MEASURES.rows]
    assert told == [row for place, row in enumerate(expected) if row not in expected[:place]]  # a bucket for each bound


def test_changelog_begins_with_this_version() -> None:
    """The newest entry of a release is that of the package's version, with its date."""
    entries = re.findall(r"(?m)^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    newest = next(entry for entry in entries if not entry.startswith("Unreleased"))
    assert re.fullmatch(re.escape(__version__) + r" \(20\d\d-\d\d-\d\d\)", newest)


def test_every_value_of_the_chart_that_is_named_exists() -> None:
    """What the page on Kubernetes sets or names is in the chart's values."""
    values = yaml.safe_load((DEPLOY / "helm" / "cdn77-exporter" / "values.yaml").read_text("utf-8"))
    named = [block.text.partition("=")[0] for block in cells("value") if block.page == "docs/deployment.md"]
    assert len(named) > 5
    for name in named:
        place = values
        for part in name.split("."):
            assert part in place, name
            place = place[part]


def test_every_command_has_its_line() -> None:
    """The page of commands lists all, and the README names them."""
    found = [row[0] for page, row in rows("command", "question that it answers") if page == "docs/commands.md"]
    assert {re.sub(r"[^a-z]", "", re.sub(r"\(.*\)", "", cell)) for cell in found} == set(COMMANDS)
    readme = PAGES[0].read_text("utf-8")
    assert [name for name in COMMANDS if f"`{name}`" not in readme] == ["healthcheck"]
