"""Writes the parts of `docs/` that follow from the code and its tests: settings, metrics, log messages, guarantees.

`--check` writes nothing and prints which pages are stale.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdn77_exporter.core import measures as tables
from cdn77_exporter.core.device import DeviceRule, built_in
from cdn77_exporter.core.measures import MEASURES, PART, Family, Histograms, Measure
from cdn77_exporter.core.reasons import REJECT_REASONS, UNREADABLE_REASONS
from cdn77_exporter.core.returns import return_rows
from cdn77_exporter.flow.in_flight import IN_MEMORY, MOVES, OUTSTANDING, At, frees_permit, takes_permit
from cdn77_exporter.settings import SECTIONS, Variable, device_rules, measures_file
from cdn77_exporter.settings.toml_kinds import Key, Tables
from cdn77_exporter.telemetry import messages
from cdn77_exporter.telemetry.conditions import CONDITIONS
from cdn77_exporter.telemetry.kinds import Kind
from cdn77_exporter.telemetry.metrics import PREFIX, SELF_METRICS, updated_by

DOCS = Path(__file__).resolve().parent.parent / "docs"
_MADE = "<!-- Made by tools/generate_docs.py from the code; change it there. -->"
_SOURCE = Path(__file__).resolve().parent.parent / "src" / "cdn77_exporter"
_EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "measures.toml"
_TESTS = Path(__file__).resolve().parent.parent / "tests"
_LAYERS = (
    *("__main__.py", "service", "commands", "demo", "clients.py", "status", "settings", "telemetry", "flow", "edge"),
    *("core", "runtime.py"),
)
#: What stands before this line of a page is written by hand, and stays.
MARKER = "<!-- From here on made by tools/generate_docs.py from the code; change it there. -->"
#: A table within a page that is written by hand: what begins it, its name, and what ends it.
TABLE = re.compile(r"(?s)(<!-- table (\w+): [^>]*-->\n).*?(<!-- end of table -->)")


def configuration() -> str:
    """Return the page of environment variables."""
    lines = [
        _MADE,
        "# Configuration",
        "",
        "Everything is set by environment variables. An empty variable is an unset one. All faults are reported "
        "together on stderr before anything is contacted, each with its variable and what would be right, and the exit "
        "code is 2. "
        "A variable that looks misspelt is logged as `setting_doubtful`.",
        "",
        "A variable marked *file* can also be given by a file: `S3_SECRET_KEY_FILE=/run/secrets/s3_secret_key` instead "
        "of `S3_SECRET_KEY`. Line breaks at the file's end do not count. A *secret* is never shown in a log line, an "
        "error or the status page; its file is read again when it changes, so that keys can be replaced without a "
        "restart.",
        "",
        "Durations are seconds, or have a unit: `500ms`, `90s`, `15m`, `2h`, `1d`. Sizes are bytes, or have a unit: "
        "`64KiB`, `256MiB`, `1GiB`. Flags are `true` or `false`.",
        "",
        "`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are used as by other programs, see "
        "[Behind a forward proxy](receivers.md#behind-a-forward-proxy).",
    ]
    for title, variables in SECTIONS.items():
        lines += ["", f"## {title}", "", "| variable | default | meaning |", "|---|---|---|"]
        lines += [_variable(variable) for variable in variables]
    return _page(lines)


def _variable(variable: Variable) -> str:
    marks = [mark for mark, is_so in (("secret", variable.secret), ("file", variable.from_file)) if is_so]
    default = "**required**" if variable.required else f"`{variable.default}`" if variable.default else "none"
    meaning = variable.help
    if variable.example:
        meaning += f" Example: `{variable.example}`."
    if marks:
        meaning += f" *{', '.join(marks)}*"
    return f"| `{variable.name}` | {_cell(default)} | {_cell(meaning)} |"


_DISTRIBUTIONS = {
    Histograms.CLASSIC: "Times as histograms with fixed bounds: `_bucket` counts what is not above `le`.",
    Histograms.NATIVE: "The same times as native histograms: one series each, without `_bucket`, whose bounds are a "
    "factor of 2^(1/8) apart. Quantiles are within 4.4 % of the true ones, also after sums. The receiver has to take "
    "them ([receivers](receivers.md#native-histograms)).",
}


def _families(rows: Iterable[Measure]) -> Iterator[str]:
    """Yield the lines about some metrics, those of a family together."""
    families: dict[Family, list[Measure]] = {}
    for row in rows:
        families.setdefault(row.family, []).append(row)
    for family, metrics in families.items():
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(metric.name for metric in metrics))
        labels = ", ".join(f"`{label}`" for label in metrics[0].labels if label != PART)
        kind = "native histogram" if metrics[0].native else family.kind
        yield from ("", f"### {names}", "", family.help, "", f"- kind: {kind}", f"- labels: {labels}")
        if queries := [pair for metric in metrics for pair in metric.queries]:
            yield from ("", "| question | query |", "|---|---|")
            yield from (f"| {_cell(question)} | `{_cell(query)}` |" for question, query in queries)


def metrics() -> str:
    """Return the page of the pushed metrics and of the self-metrics."""
    lines = [
        _MADE,
        "# Metrics",
        "",
        "## What is pushed",
        "",
        "Counters are cumulative: use `rate()` and `increase()`. Every query has `offset 90s`, since the newest minute "
        "and a half is still on its way from the CDN.",
    ]
    lines += _families(MEASURES.rows)
    for how, words in _DISTRIBUTIONS.items():
        lines += ["", f"## With `HISTOGRAMS={how}`", "", words]
        lines += _families(row for row in tables.built_in(how).rows if row not in MEASURES.rows)
    lines += ["", "## With `RETURN_HORIZON`", "", "[Distinct viewers](distinct-viewers.md) says what it is for."]
    lines += _families(return_rows(86_400, 15, tables.Histograms.OFF))
    lines += [
        "",
        "## About the exporter itself",
        "",
        f"Served at `/metrics` of the status server, in the Prometheus text format. Every name begins with `{PREFIX}`. "
        "With them come `build_info` with the version, and the usual `process_*` and `python_*` metrics.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for own in SELF_METRICS:
        labels = ", ".join(f"`{label}`" for label, _ in own.labels)
        kind = "gauge" if own.kind is Kind.PROBE else own.kind
        lines.append(f"| `{own.name}` | {kind} | {labels} | {_cell(own.help)} |")
    for title, reasons in (("Reject reasons", REJECT_REASONS), ("Unreadable reasons", UNREADABLE_REASONS)):
        lines += ["", f"### {title}", "", "| reason | meaning |", "|---|---|"]
        lines += [f"| `{reason}` | {_cell(meaning)} |" for reason, meaning in reasons.items()]
    return _page(lines)


def log_messages() -> str:
    """Return the end of the operations page: the meaning of each log message, and what to do."""
    lines = [
        MARKER,
        "",
        "## Log messages",
        "",
        "The service writes one JSON object a line to stdout: `timestamp` (UTC), `level`, `message`, then the fields "
        "of that message. The messages are a closed list. Each file and each batch gets one line, a request gets "
        "none, and no line holds a client's IP address or a secret: both are written as `***`. `LOG_LEVEL` decides "
        "which lines are written; metrics are updated in any case.",
    ]
    for title, section in messages.SECTIONS:
        lines += ["", f"## Messages: {title[:1].lower()}{title[1:]}"]
        for message in section:
            lines += [
                "",
                f"### `{message.name}`",
                "",
                f"*{message.level}.* {message.meaning}",
                "",
                f"What to do: {message.action}",
            ]
            if message.fields:
                lines += ["", "| field | holds | meaning |", "|---|---|---|"]
                lines += [f"| `{field.name}` | {field.holds} | {_cell(field.help)} |" for field in message.fields]
            updated = sorted({f"`{PREFIX}{metric.name}`" for metric in updated_by(message)})
            if updated:
                lines += ["", f"Updates {', '.join(updated)}."]
    return _page(lines)


def architecture() -> str:
    """Return the end of the page on the architecture: the life of a file, and what each module is for."""
    memory, outstanding = (", ".join(at for at in At if at in part) for part in (IN_MEMORY, OUTSTANDING))
    lines = [
        MARKER,
        "",
        "## The life of a file",
        "",
        "`flow/in_flight.py` has the table of the moves that a file may make; any other is an error that ends the "
        "process. From where the files are follows all that the service knows of them: how many are in memory "
        f"({memory}), which shards the watermark waits for ({outstanding}), and the numbers of the status page. A file "
        "that is left, or gone, may be listed again by a later poll.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {_state(At.LISTED)} : a poll finds it",
    ]
    for at, moves in MOVES.items():
        lines += [f"    {_state(at)} --> {_state(to)}{_effects(at, to, message)}" for to, message in moves.items()]
    lines += [f"    {_state(at)} --> [*]" for at in At if at not in MOVES]
    lines += [
        "```",
        "",
        "## Modules",
        "",
        "What each says of itself in its first sentence; a layer imports from those below it.",
    ]
    for layer in _LAYERS:
        lines += ["", f"**{layer.removesuffix('.py')}**", "", "| module | what it is for |", "|---|---|"]
        lines += [f"| `{path.relative_to(_SOURCE)}` | {_cell(_duty(path))} |" for path in _modules(layer)]
    return _page(lines)


def _modules(layer: str) -> list[Path]:
    """Return the modules of a layer that say something, generated ones left out."""
    place = _SOURCE / layer
    found = [place] if place.is_file() else sorted(place.rglob("*.py"))
    return [path for path in found if not path.stem.endswith("_pb2") and _duty(path)]


def _duty(path: Path) -> str:
    """Return the first sentence of a module's docstring."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    return text.split(". ")[0].removesuffix(".").replace("`", "")


def _state(at: At) -> str:
    return at.replace(" ", "_")


def _effects(at: At, to: At, message: str | None) -> str:
    """Return the label of a move in the diagram."""
    found = [
        "takes a permit" * takes_permit(at, to),
        "frees its permit" * frees_permit(at, to),
        "its shard waits no more" * (at in OUTSTANDING and to not in OUTSTANDING),
        message or "",
    ]
    label = ", ".join(filter(None, found))
    return f" : {label}" if label else ""


def guarantees() -> str:
    """Return the page on guarantees, with its tables made anew."""
    page = DOCS / "guarantees.md"
    tables, proofs = guarantee_tables(), guarantee_tests()

    def table(found: re.Match[str]) -> str:
        lines = ["", *_guarantee_table(found[2], tables[found[2]], proofs), ""]
        return found[1] + _page(lines) + found[3]

    return TABLE.sub(table, page.read_text("utf-8")) if page.is_file() else ""


def devices() -> str:
    """Return the page on device types, with the table of the built-in ones made anew."""
    page = DOCS / "devices.md"

    def table(found: re.Match[str]) -> str:
        lines = ["", "| `device_type` | a User-Agent fits that has |", "|---|---|"]
        names = dict.fromkeys(rule.name for rule in built_in().rules)
        for name in names:
            fits = "; or ".join(_device_rule(rule) for rule in built_in().rules if rule.name == name)
            lines.append(f"| `{name}` | {_cell(fits)} |")
        lines += ["| `other` | none of these |", ""]
        return found[1] + _page(lines) + found[3]

    return TABLE.sub(table, page.read_text("utf-8")) if page.is_file() else ""


def status_page() -> str:
    """Return the page on the status page, with the table of conditions made anew."""
    page = DOCS / "status-page.md"
    lines = ["", "| `what` | colour | it holds when | what to do | in the log | alerts |", "|---|---|---|---|---|---|"]
    for row in CONDITIONS.values():
        said = ", ".join(f"[`{name}`](operations.md#{name})" for name in row.messages) or "–"
        alerts = ", ".join(f"[{name}](operations.md#{name.lower()})" for name in row.alerts) or "–"
        cells = (f"`{row.name}`", str(row.severity), row.meaning, row.action, said, alerts)
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    text = page.read_text("utf-8") if page.is_file() else ""
    return TABLE.sub(lambda found: found[1] + _page([*lines, ""]) + found[3], text)


def _device_rule(rule: DeviceRule) -> str:
    def words(some: tuple[str, ...]) -> str:
        listed = [f"`{word}`" for word in some]
        return listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + f" or {listed[-1]}"

    parts = [words(rule.words) if rule.words else "anything"]
    parts += [f"with {words(rule.also)}"] if rule.also else []
    parts += [f"without {words(rule.without)}"] if rule.without else []
    parts += [f"where `{rule.pattern}` matches"] if rule.pattern else []
    return ", ".join([" ".join(parts), *(["case-sensitive"] if rule.case_sensitive else [])])


def measures_page() -> str:
    """Return the page on a file of measures, with its keys and the example made anew."""
    page = DOCS / "measures-file.md"
    made = {
        "example": ["", "```toml", *_EXAMPLE.read_text("utf-8").rstrip().splitlines(), "```", ""],
        **{key.name: _keys(key) for key in measures_file.FILE.keys},
    }
    text = page.read_text("utf-8") if page.is_file() else ""
    return TABLE.sub(lambda found: found[1] + _page(made[found[2]]) + found[3], text)


def _keys(tables: Key) -> list[str]:
    assert isinstance(tables.kind, Tables)  # noqa: S101 - a file of measures has no others
    lines = ["", "| key | default | meaning |", "|---|---|---|"]
    for key in tables.kind.table.keys:
        default = "**required**" if key.required else f"`{key.default}`" if key.default else "none"
        lines.append(f"| `{key.name}` | {default} | {_cell(key.help)} |")
    return [*lines, ""]


def guarantee_tables() -> dict[str, dict[str, Any]]:
    """Return the words of the tables of guarantees, by table: its headings, and its rows by their names."""
    return tomllib.loads((_TESTS / "guarantees.toml").read_text("utf-8"))


def guarantee_tests(folder: Path = _TESTS) -> dict[str, list[str]]:
    """Return the tests that prove a row, by `table.row`: those with the mark, which are read and not imported."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        source = path.read_text("utf-8")
        for node in ast.parse(source).body if "mark.guarantee(" in source else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for row in _rows_proved(node):
                    found.setdefault(row, []).append(f"{path.relative_to(folder).as_posix()}::{node.name}")
    return found


def _rows_proved(test: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    marks = [mark for mark in test.decorator_list if isinstance(mark, ast.Call)]
    proving = [mark for mark in marks if ast.unparse(mark.func) == "pytest.mark.guarantee"]
    return [ast.literal_eval(row) for mark in proving for row in mark.args]


@dataclass(frozen=True)
class SenderTests:
    """The published sender tests of remote write: all that there are, and what is said of them in ours.

    `passes`: case -> our tests. `deviates`: case -> our test, and why. `not_applicable`: case -> why.
    """

    published: list[str]
    passes: dict[str, list[str]]
    deviates: dict[str, tuple[str, str]]
    not_applicable: dict[str, str]


def sender_tests(path: Path = _TESTS / "contract" / "test_sender_suite.py") -> SenderTests:
    """Return what the suite says of itself, which is read and not imported."""
    found = SenderTests([], {}, {}, {})
    names: dict[str, str] = {}
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, node.value
            if name.startswith("_NO") and isinstance(value, ast.Constant):
                names[name] = str(value.value)
            elif name == "PUBLISHED":
                for folder, cases in ast.literal_eval(value).items():
                    found.published.extend(f"{folder}/{case}" for case in cases.split())
            elif name == "NOT_APPLICABLE" and isinstance(value, ast.Dict):
                for key, why in zip(value.keys, value.values, strict=True):
                    assert isinstance(key, ast.Constant)  # noqa: S101
                    text = names[why.id] if isinstance(why, ast.Name) else ast.literal_eval(why)
                    found.not_applicable[str(key.value)] = text
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            _add_sender_test(found, node)
    return found


def _add_sender_test(found: SenderTests, test: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    for mark in (mark for mark in test.decorator_list if isinstance(mark, ast.Call)):
        kind, cases = ast.unparse(mark.func), mark.args
        if kind == "pytest.mark.sender":
            for case in cases:
                found.passes.setdefault(ast.literal_eval(case), []).append(test.name)
        elif kind == "pytest.mark.sender_deviates":
            (why,) = (ast.literal_eval(keyword.value) for keyword in mark.keywords)
            found.deviates.update((ast.literal_eval(case), (test.name, why)) for case in cases)


def receivers() -> str:
    """Return the page on receivers, with the table of the published sender tests made anew."""
    page, found = DOCS / "receivers.md", sender_tests()
    passed, other, none = len(found.passes), len(found.deviates), len(found.not_applicable)
    counts = f"Of {len(found.published)} cases {passed} pass, {none} do not apply, {other} deviate on purpose."
    lines = ["", counts, "", '<details markdown="1">', "<summary>All cases</summary>", ""]
    lines += ["| published test | here | why, or the test that shows it |", "|---|---|---|"]
    for case in found.published:
        if case in found.deviates:
            test, why = found.deviates[case]
            lines.append(f"| `{case}` | deviates on purpose | {_cell(why)} (`::{test}`) |")
        elif case in found.not_applicable:
            lines.append(f"| `{case}` | does not apply | {_cell(found.not_applicable[case])} |")
        else:
            lines.append(f"| `{case}` | passes | {', '.join(f'`::{test}`' for test in found.passes.get(case, ()))} |")
    made = _page([*lines, "", "</details>", ""])
    text = page.read_text("utf-8") if page.is_file() else ""
    return TABLE.sub(lambda table: table[1] + made + table[3], text)


def _guarantee_table(name: str, table: dict[str, Any], proofs: dict[str, list[str]]) -> list[str]:
    """Return the lines of a table, and of the list below it that names the tests of each row."""
    lines = [f"| {' | '.join(cells)} |" for cells in (table["headings"], *table["rows"].values())]
    lines.insert(1, "|---" * len(table["headings"]) + "|")
    lines += ["", '<details markdown="1">', "<summary>The tests of each row</summary>", ""]
    for row, cells in table["rows"].items():
        lines.append(f"- {cells[0]}: {', '.join(f'`{test}`' for test in proofs.get(f'{name}.{row}', ()))}")
    return [*lines, "", "</details>"]


#: Page -> what writes it, or its end when the page has a part that is written by hand.
PAGES = {
    "architecture.md": architecture,
    "configuration.md": configuration,
    "devices.md": devices,
    "guarantees.md": guarantees,
    "metrics.md": metrics,
    "operations.md": log_messages,
    "receivers.md": receivers,
    "measures-file.md": measures_page,
    "status-page.md": status_page,
    "schemas/device-rules.schema.json": device_rules.schema,
    "schemas/measures.schema.json": measures_file.schema,
}
#: The same for files of the package.
SHIPPED = {
    _SOURCE / "settings" / "device_rules.schema.json": device_rules.schema,
    _SOURCE / "settings" / "measures.schema.json": measures_file.schema,
}


def written(page: Path, write: Callable[[], str]) -> str:
    """Return the whole page as it should be: the part written by hand, if there is one, and the generated part."""
    made = write()
    if not made.startswith(MARKER):
        return made
    by_hand, _, _ = page.read_text("utf-8").partition(MARKER) if page.is_file() else ("", "", "")
    return by_hand + made


def stale(folder: Path = DOCS) -> list[str]:
    """Return the pages and shipped files that differ from what the code gives now."""
    return [
        page.name
        for page, write in _files(folder).items()
        if not page.is_file() or page.read_text("utf-8") != written(page, write)
    ]


def _files(folder: Path) -> dict[Path, Callable[[], str]]:
    return {folder / name: write for name, write in PAGES.items()} | SHIPPED


def main(words: list[str] | None = None) -> int:
    """Write the pages, or with `--check` print which are stale; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a page is stale")
    if parser.parse_args(words).check:
        pages = stale(DOCS)
        for name in pages:
            print(f"{name} is stale; run tools/generate_docs.py", file=sys.stderr)
        return 1 if pages else 0
    for page, write in _files(DOCS).items():
        page.parent.mkdir(exist_ok=True)
        page.write_text(written(page, write), "utf-8")
    return 0


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _page(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
