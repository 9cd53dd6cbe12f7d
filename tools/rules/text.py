"""The table as text: YAML for Prometheus and the chart, jsonnet for the mixin."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

from tools.rules.config import SETTINGS, Config, filled
from tools.rules.table import Alert, Group, Record

_WIDTH = 120

Fill = Callable[[str], str]


def as_it_is(text: str) -> str:
    """Leave the settings unfilled, for the chart, which fills them when it is installed."""
    return text


def with_settings(config: Config) -> Fill:
    """Return what fills texts with settings."""
    return lambda text: filled(text, config)


def comment(text: str, indent: str = "") -> Iterator[str]:
    """Yield the lines of a comment, wrapped."""
    line = ""
    for word in text.split():
        if line and len(indent) + len(line) + len(word) + 3 > _WIDTH:
            yield f"{indent}# {line}"
            line = ""
        line += f" {word}" if line else word
    if line:
        yield f"{indent}# {line}"


def plain(groups: Iterable[Group], head: str, fill: Fill) -> str:
    """Return a file of rules."""
    lines = [*comment(head), "groups:"]
    for group in groups:
        lines += ["", f"  - name: {group.name}"] if lines[-1] != "groups:" else [f"  - name: {group.name}"]
        lines += [f"    interval: {group.interval}s"] if group.interval else []
        lines += ["    rules:"]
        for rule in group.rules:
            lines += _recorded(rule, fill) if isinstance(rule, Record) else _alerting(rule, fill)
    return "\n".join(lines) + "\n"


def _recorded(rule: Record, fill: Fill) -> list[str]:
    return [
        *comment(rule.why, "      "),
        f"      - record: {rule.name}",
        *_block("expr", fill(rule.expr), "        "),
    ]


def _alerting(rule: Alert, fill: Fill) -> list[str]:
    return [
        f"      - alert: {rule.name}",
        *_block("expr", fill(rule.expr), "        "),
        *([f"        for: {fill(rule.lasts)}"] if rule.lasts else []),
        f"        labels: {{severity: {rule.severity}}}",
        "        annotations:",
        f"          summary: {json.dumps(fill(rule.summary))}",
        f"          description: {json.dumps(fill(rule.description))}",
        f"          runbook_url: {json.dumps(fill(runbook(rule)))}",
    ]


def runbook(rule: Alert) -> str:
    """Return the address of an alert's entry in the runbook, unfilled."""
    return f"%(runbookUrl)s#{rule.anchor}"


def _block(key: str, text: str, indent: str) -> list[str]:
    return [f"{indent}{key}: |-", *(f"{indent}  {line}" for line in text.splitlines())]


# The mixin


def config_of_mixin(head: str) -> str:
    """Return the file with the settings and what each is."""
    lines = [*_remark(head), "{", "  _config+:: {"]
    for setting in SETTINGS:
        lines += [*_remark(setting.help, "    "), f"    {setting.name}: {_quoted(setting.default)},"]
    return "\n".join([*lines, "  },", "}", ""])


def mixin(groups: Iterable[Group], field: str, head: str) -> str:
    """Return a file that adds groups of rules to a field of the mixin; settings are filled in when it is evaluated."""
    lines = [*_remark(head), "{", f"  {field}+:: {{", "    groups+: ["]
    for group in groups:
        lines += ["      {", f"        name: {_quoted(group.name)},"]
        lines += [f"        interval: '{group.interval}s',"] if group.interval else []
        lines += ["        rules: ["]
        for rule in group.rules:
            lines += _in_jsonnet(rule)
        lines += ["        ],", "      },"]
    return "\n".join([*lines, "    ],", "  },", "}", ""])


def _in_jsonnet(rule: Record | Alert) -> list[str]:
    begin = [f"            {'record' if isinstance(rule, Record) else 'alert'}: {_quoted(rule.name)},"]
    expr = ["            expr: |||", *(f"              {line}" for line in _with_digits(rule.expr).splitlines())]
    lines = ["          {", *begin, *expr, "            ||| % $._config,"]
    if isinstance(rule, Record):
        return [*_remark(rule.why, "          "), *lines, "          },"]
    lasts = [f"            'for': {_formatted(rule.lasts)},"] if rule.lasts else []
    return [
        *lines,
        *lasts,
        "            labels: {",
        f"              severity: {_quoted(rule.severity)},",
        "            },",
        "            annotations: {",
        f"              summary: {_formatted(rule.summary)},",
        f"              description: {_formatted(rule.description)},",
        f"              runbook_url: {_formatted(runbook(rule))},",
        "            },",
        "          },",
    ]


def _remark(text: str, indent: str = "") -> list[str]:
    return [f"{indent}//{line.removeprefix(indent)[1:]}" for line in comment(text, indent)]


def _formatted(text: str) -> str:
    return f"{_quoted(_with_digits(text))} % $._config" if "%(" in text else _quoted(text)


def _with_digits(text: str) -> str:
    """Say how numbers are written: jsonnet has 17 digits otherwise, and 0.9 is 0.90000000000000002."""
    for setting in SETTINGS:
        if not isinstance(setting.default, str):
            text = text.replace(f"%({setting.name})s", f"%({setting.name}).15g")
    return text


def _quoted(value: str | float) -> str:
    if not isinstance(value, str):
        return f"{value:.15g}"
    plain = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{plain}'" if '"' in value or "'" not in value else json.dumps(value, ensure_ascii=False)
