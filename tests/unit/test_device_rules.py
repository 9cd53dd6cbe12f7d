"""Files of device rules: read, or refused with every fault, its line and a remedy; the schema agrees."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from cdn77_exporter import __main__ as command_line
from cdn77_exporter.core import device
from cdn77_exporter.core.device import DeviceRule, DeviceRules, built_in
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.settings.device_rules import device_rules_file, schema
from cdn77_exporter.settings.toml_file import MOST_BYTES, FileFaults
from tests.support.settings import LEAST
from tests.unit.test_settings import load

BUILT_IN = Path(device.__file__).with_name(device.BUILT_IN_FILE)

OWN = """\
# Our own.
[[rule]]
name = "tv"
words = ["AppleTV", "roku"]

[[rule]]
name = "app"
words = ["OurApp"]
with = ["ios", "android"]
without = ["bot"]
pattern = '\\d'
case_sensitive = true
"""


def written(folder: Path, text: str) -> str:
    """The path of a file with this text."""
    path = folder / "devices.toml"
    path.write_text(text)
    return str(path)


def faults(folder: Path, text: str) -> list[str]:
    """The faults of a file with this text."""
    with pytest.raises(FileFaults) as caught:
        device_rules_file(written(folder, text))
    return [str(fault) for fault in caught.value.faults]


def test_a_file_gives_its_rules_in_order(tmp_path: Path) -> None:
    """Names, words and patterns as they stand there; what is left out is empty."""
    path = written(tmp_path, OWN)
    found = device_rules_file(path)
    assert str(found) == path
    assert found.rules == DeviceRules(
        [
            DeviceRule("tv", ("AppleTV", "roku")),
            DeviceRule("app", ("OurApp",), ("ios", "android"), ("bot",), r"\d", case_sensitive=True),
        ]
    )


def test_the_built_in_table_is_such_a_file() -> None:
    """Read by the same check it has no fault, and is what the program uses without a file."""
    assert device_rules_file(str(BUILT_IN)).rules == built_in()
    assert built_in().devices == (
        *("bot", "apple_tv", "roku", "firestick", "android_tv", "smart_tv", "console"),
        *("baron_mobile", "mobile", "web", "other"),
    )


MANY_FAULTS = """\
rule_of_thumb = 1

[[rule]]
words = ["x"]
wrods = ["y"]

[[rule]]
name = "two words"
words = "x"

[[rule]]
name = "empty"

[[rule]]
name = "patterns"
pattern = '(unclosed'

[[rule]]
name = "slow"
pattern = '(\\w+\\s?)*;'

[[rule]]
name = "with"
pattern = "x"
with = ["y"]
case_sensitive = "no"

[[rule]]
name = "lists"
words = ["x", 7, ""]
without = []
"""


def test_every_fault_of_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    """Nothing is told twice, no fault hides another, and each says what would be right."""
    assert faults(tmp_path, MANY_FAULTS) == [
        "line 1: `rule_of_thumb` is not a key here; known are `rule`.",
        "line 3: `name` is missing; the device type of what it fits: the value of the label `device_type`.",
        "line 5: `wrods` is not a key here; did you mean `words`?",
        "line 8: `name` is `two words`; it must be a text of letters, digits, `_`, `.` and `-`.",
        "line 9: `words` is a text; it must be a list, each item a text.",
        "line 11: The rule has neither `words` nor `pattern`, so nothing tells what it fits; give it one of them.",
        "line 16: `pattern` is not a regular expression (missing ), unterminated subpattern at position 0); "
        "a backslash makes `(`, `[`, `*` and others plain.",
        "line 20: `pattern` could take very long on a User-Agent made for it: it has a repeat within a repeat, or "
        "several without an end; write how often, such as `[^;]{0,40}` for `.*`, or use `words` and `with`.",
        "line 25: `with` stands without `words`, to which it adds; call it `words`.",
        "line 26: `case_sensitive` is a text; it must be true or false.",
        "line 30: `words` is `` ; it must be a text that is not empty.".replace("` ;", "`;"),
        "line 30: `words` is a whole number; it must be a text.",
        "line 31: `without` is an empty list; leave it out, or give it values.",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1: `rule` is missing; the rules, in the order in which they are tried."),
        ("rule = []", "line 1: `rule` is empty; write tables that begin with `[[rule]]`, or leave it out."),
        ("[rule]\nname = 'x'", "line 1: `rule` must be tables, each of which begins with a line `[[rule]]`."),
        ("[[rule]\n", "line 1: It is not TOML from here on "),
        ("#" * (MOST_BYTES + 1), "It is larger than 256 KiB; is it the right file?"),
        ("[[rule]]\nname='x'\nwords=['x']\n" * 501, "line 1: `rule` has 501 tables; it can have 500 at most."),
    ],
)
def test_what_is_no_rules_file_is_told(tmp_path: Path, text: str, fault: str) -> None:
    """Another file, no TOML, too much of it, and nothing at all."""
    (found,) = faults(tmp_path, text)
    assert found.startswith(fault)


def test_a_wrong_file_is_among_the_faults_of_the_settings(tmp_path: Path) -> None:
    """All of its faults stand beside those of other variables, each with the variable, the file and the line."""
    path = written(tmp_path, "[[rule]]\nname = 'x'\nx = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(DEVICE_RULES_FILE=path, TICK_SECONDS="7")
    said = [fault for fault in caught.value.faults if fault.startswith("DEVICE_RULES_FILE")]
    assert len(said) == 2 and len(caught.value.faults) == 3
    assert said[1].startswith(f"DEVICE_RULES_FILE ({path}): line 3: `x` is not a key here; known are `name`, `words`")
    with pytest.raises(ConfigError) as caught:
        load(DEVICE_RULES_FILE=str(tmp_path / "missing.toml"))
    (fault,) = caught.value.faults
    assert fault.endswith("): It cannot be read (No such file or directory); name a file that this user may read.")


@pytest.mark.parametrize("words", [[], ["check"]])
def test_the_start_ends_with_every_fault(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service and `check` say the same, before anything is contacted, with exit code 2."""
    monkeypatch.setattr("os.environ", LEAST | {"DEVICE_RULES_FILE": written(tmp_path, MANY_FAULTS)})
    assert command_line.main(words) == 2
    said = " ".join("".join(capsys.readouterr()).split())  # `check` folds its lines
    assert said.count("DEVICE_RULES_FILE") == 13
    assert ": line 5: `wrods` is not a key here; did you mean `words`?" in said


def test_the_decoder_gets_the_rules_and_not_the_path(tmp_path: Path) -> None:
    """So it travels to processes and other machines; only the path is shown."""
    path = written(tmp_path, OWN)
    settings = load(DEVICE_RULES_FILE=path)
    rules = settings.decoder_rules.devices
    assert rules is not None and rules.devices == ("tv", "app", "other")
    assert settings.public()["DEVICE_RULES_FILE"] == path
    assert load().decoder_rules.devices is None
    assert load().public()["DEVICE_RULES_FILE"] is None


# Schema

GOOD = (OWN, BUILT_IN.read_text(), "[[rule]]\nname = 'a-1.b_C'\npattern = 'x'\n")
BAD = (
    "",
    "rule = []",
    "[rule]\nname = 'x'\nwords = ['x']",
    "rules = 1",
    "[[rule]]\nname = 'x'",
    "[[rule]]\nwords = ['x']",
    "[[rule]]\nname = ''\nwords = ['x']",
    "[[rule]]\nname = 'a b'\nwords = ['x']",
    "[[rule]]\nname = 'a'\nwords = []",
    "[[rule]]\nname = 'a'\nwords = ['']",
    "[[rule]]\nname = 'a'\nwords = 'x'",
    "[[rule]]\nname = 'a'\nwords = [1]",
    "[[rule]]\nname = 'a'\nwords = ['x']\nwith = 'y'",
    "[[rule]]\nname = 'a'\npattern = 'x'\nwith = ['y']",
    "[[rule]]\nname = 'a'\nwords = ['x']\nwithout = {}",
    "[[rule]]\nname = 'a'\npattern = 7",
    "[[rule]]\nname = 'a'\npattern = ''",
    "[[rule]]\nname = 'a'\npattern = '" + "x" * 501 + "'",
    "[[rule]]\nname = 'a'\nwords = ['x']\ncase_sensitive = 1",
    "[[rule]]\nname = 'a'\nwords = ['x']\nnote = 'y'",
)
#: Faults that a schema has no words for.
BEYOND = ("[[rule]]\nname = 'a'\npattern = '('", "[[rule]]\nname = 'a'\npattern = '(a+)+'")


def test_schema_and_check_agree(tmp_path: Path) -> None:
    """What an editor marks by the schema is what the start refuses, but for what only Python can tell of a pattern."""
    found = json.loads(schema())
    jsonschema.Draft7Validator.check_schema(found)
    validator = jsonschema.Draft7Validator(found)
    for text in GOOD:
        device_rules_file(written(tmp_path, text))
        assert validator.is_valid(tomllib.loads(text)), text
    for text in (*BAD, *BEYOND):
        assert faults(tmp_path, text), text
        assert validator.is_valid(tomllib.loads(text)) == (text in BEYOND), text


def test_the_shipped_schema_is_the_checks_own() -> None:
    """The file in the package, which an editor is given, is made from what the check reads."""
    shipped = Path(device.__file__).parents[1] / "settings" / "device_rules.schema.json"
    assert shipped.read_text() == schema()
