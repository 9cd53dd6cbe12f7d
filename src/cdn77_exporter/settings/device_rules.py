"""Reads a file of device rules: TOML, checked with every fault at once, and described by a JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdn77_exporter.core.device import SEEN_CHARACTERS, DeviceRule, DeviceRules
from cdn77_exporter.settings.pattern_cost import compile_fault, most_steps
from cdn77_exporter.settings.toml_file import Place, TomlFile, read_toml
from cdn77_exporter.settings.toml_kinds import Flag, Key, ListOf, Table, Tables, Text, schema_text

#: Steps that a pattern may take on the worst User-Agent: a fraction of a second, and not at once for each.
_MOST_STEPS = 2**24
_MOST_RULES = 500


@dataclass(frozen=True, slots=True)
class DeviceRulesFile:
    """A file of device rules and its content; its text is its path."""

    path: Path
    rules: DeviceRules

    def __str__(self) -> str:
        return str(self.path)


def _has_condition(rule: Mapping[str, Any], place: Place) -> None:
    given = place.value
    if not ({"words", "pattern"} & given.keys()):
        place.fault("The rule has neither `words` nor `pattern`, so nothing tells what it fits; give it one of them.")
    elif "with" in given and "words" not in given:
        place.at("with").fault("`with` stands without `words`, to which it adds; call it `words`.")


def _has_good_pattern(rule: Mapping[str, Any], place: Place) -> None:
    pattern = rule["pattern"]
    if pattern is None:
        return
    at = place.at("pattern")
    fault = compile_fault(pattern)
    if fault:
        at.fault(f"`pattern` is not a regular expression ({fault}); a backslash makes `(`, `[`, `*` and others plain.")
    elif most_steps(pattern, SEEN_CHARACTERS) > _MOST_STEPS:
        at.fault(
            "`pattern` could take very long on a User-Agent made for it: it has a repeat within a repeat, or several "
            "without an end; write how often, such as `[^;]{0,40}` for `.*`, or use `words` and `with`."
        )


RULE = Table(
    "A rule. It fits a User-Agent when all hold of `words`, `with`, `without` and `pattern` that it has.",
    (
        Key(
            "name",
            Text(64, "[A-Za-z0-9][A-Za-z0-9_.-]*", "of letters, digits, `_`, `.` and `-`"),
            "The device type of what it fits: the value of the label `device_type`.",
            required=True,
        ),
        Key("words", ListOf(Text()), "Texts of which one is in the User-Agent, anywhere.", ()),
        Key("with", ListOf(Text()), "Texts of which one is in it as well.", ()),
        Key("without", ListOf(Text()), "Texts of which none is in it.", ()),
        Key("pattern", Text(500), "A regular expression (Python's) that is found in it."),
        Key("case_sensitive", Flag(), "Whether upper and lower case differ.", default=False),
    ),
    (_has_condition, _has_good_pattern),
    {
        "anyOf": [{"required": ["words"]}, {"required": ["pattern"]}],
        "dependencies": {"with": ["words"]},
    },
)
FILE = Table(
    "Rules by which User-Agents are told apart; the first that fits decides, and what none fits is `other`.",
    (Key("rule", Tables(RULE, _MOST_RULES), "The rules, in the order in which they are tried.", required=True),),
)


def schema() -> str:
    """Return the JSON Schema of a rules file, as text."""
    return schema_text(FILE, "Device rules of cdn77-exporter")


def read_device_rules(file: TomlFile) -> DeviceRules:
    """Return the rules of a file; raises FileFaults with all that is wrong."""
    found = FILE.read(file.content, file.root)
    file.raise_faults()
    assert found is not None  # noqa: S101 - the content is a table
    return DeviceRules(map(DeviceRule.of, found["rule"]))


def device_rules_file(text: str) -> DeviceRulesFile:
    """Return the rules of the file at a path; raises FileFaults with all that is wrong."""
    path = Path(text)
    return DeviceRulesFile(path, read_device_rules(read_toml(path)))
