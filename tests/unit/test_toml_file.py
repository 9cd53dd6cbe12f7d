"""TOML files of settings: every fault at once with its line, and a schema that agrees with the check."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.settings.toml_file import MOST_BYTES, FileFaults, Place, TomlFile, parse_toml, read_toml
from cdn77_exporter.settings.toml_kinds import (
    Choice,
    Flag,
    Key,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Table,
    Tables,
    Text,
    Whole,
    schema_text,
)
from cdn77_exporter.settings.toml_lines import TomlLines

NAME = Text(20, "[a-z_]+", "of small letters")


def _longer(values: Mapping[str, Any], place: Place) -> None:
    if values["name"] == "taken":
        place.at("name").fault("`name` is `taken`; choose another.")


ITEM = Table(
    "One thing.",
    (
        Key("name", NAME, "Its name.", required=True),
        Key("words", ListOf(Text(), most=3), "What it has.", ()),
        Key("loud", Flag(), "Whether it is loud.", default=False),
        Key("limit", Whole(1, 1000), "How many.", 10),
        Key("share", Number(), "How much."),
        Key("kind", Choice(("short", "tall")), "Which."),
        Key("where", MapOf(NAME, OneOf(((str, Text()), (bool, Flag())))), "Where."),
    ),
    (_longer,),
    {"not": {"properties": {"name": {"const": "taken"}}, "required": ["name"]}},
)
FILE = Table("Some things.", (Key("thing", Tables(ITEM, 5), "The things.", ()), Key("shape", Whole(1, 9), "A number.")))
SCHEMA = json.loads(schema_text(FILE, "Things"))


def check(text: str) -> tuple[dict[str, Any] | None, list[tuple[int, str]]]:
    """What a file of things holds, and its faults."""
    try:
        file = parse_toml(text.encode())
        found = FILE.read(file.content, file.root)
        file.raise_faults()
    except FileFaults as error:
        return None, [(fault.line, fault.text) for fault in error.faults]
    return found, []


def test_a_right_file_gives_its_values_with_defaults() -> None:
    """Keys that are left out have their default, and lists are tuples."""
    found, faults = check(
        '[[thing]]\nname = "a"\n[[thing]]\nname = "b"\nwords = ["x", "y"]\nwhere = {n = "m", o = true}\n'
    )
    assert not faults and found is not None
    empty = {"words": (), "loud": False, "limit": 10, "share": None, "kind": None, "where": None}
    assert found["thing"] == (
        {"name": "a"} | empty,
        {"name": "b"} | empty | {"words": ("x", "y"), "where": {"n": "m", "o": True}},
    )


ALL_AT_ONCE = """\
shape = 10
thyng = 1
[[thing]]
name = "Big"
words = [
  "a",
  7, # not this
]
loud = "yes"

[[thing]]
limit = true
kind = "tal"
share = 0
whole = 1
[[thing]]
name = "taken"
where.ok = 7
where."not ok" = ""
"""


def test_every_fault_is_told_at_once_with_its_line_and_a_remedy() -> None:
    """No fault hides another, and each names where it stands and what would be right there."""
    found, faults = check(ALL_AT_ONCE)
    assert found is None
    assert faults == [
        (1, "`shape` is out of range; it must be a whole number from 1 to 9."),
        (2, "`thyng` is not a key here; did you mean `thing`?"),
        (4, "`name` is `Big`; it must be a text of small letters."),
        (7, "`words` is a whole number; it must be a text."),
        (9, "`loud` is a text; it must be true or false."),
        (11, "`name` is missing; its name."),
        (12, "`limit` is true or false; it must be a whole number from 1 to 1,000."),
        (13, "`kind` is `tal`, which is not known; did you mean `tall`?"),
        (14, "`share` is out of range; it must be a number above 0."),
        (
            15,
            "`whole` is not a key here; known are `name`, `words`, `loud`, `limit`, `share`, `kind`, `where`.",
        ),
        (17, "`name` is `taken`; choose another."),
        (18, "`ok` is a whole number; it must be a text, or true or false."),
        (19, "`not ok` is ``; it must be a text that is not empty."),
        (19, "`not ok` is `not ok`; it must be a text of small letters."),
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a = 1\nb = = 2\n", 2, "Invalid value"),
        ("a = 1\na = 2\n", 2, "Cannot overwrite a value"),
        ("\n\nx = [1,\n", 3, "Invalid value"),
        ("x = " + "9" * 5000 + "\n", 0, "integer string conversion"),
        ("x = " + "[" * 100_000, 0, "nested too deeply"),
        ("thing = 7\n", 1, "must be tables"),
        ("thing = [1]\n", 1, "must be tables"),
        ("thing = []\n", 1, "is empty"),
        ("[[thing]]\nname = 'a'\n" * 6, 1, "has 6 tables; it can have 5 at most."),
        ("[[thing]]\nname = 'a'\nwords = []\n", 3, "empty list"),
        ("[[thing]]\nname = 'a'\nwords = ['a', 'b', 'c', 'd']\n", 3, "has 4 items"),
        ("[[thing]]\nname = 'a'\nwhere = {}\n", 3, "empty table"),
        ("[[thing]]\nname = 'a'\nwhere = 1979-05-27\n", 3, "is a date or a time"),
        ("[[thing]]\nname = '" + "a" * 21 + "'\n", 2, "has 21 characters"),
        ("[[thing]]\nname = 'a'\nshare = inf\n", 3, "out of range"),
        ('[[thing]]\nname = "a"\n"\\u202e\\n" = 1\n', 3, r"`\u202e\n` is not a key here"),
    ],
)
def test_each_kind_of_fault_has_its_words(text: str, line: int, words: str) -> None:
    """One fault, its line, and words that can be shown on one line of a terminal."""
    found, faults = check(text)
    assert found is None
    ((at, said),) = faults
    assert at == line
    assert words in said
    assert said.isprintable()


def test_a_file_of_another_kind_does_not_flood_the_terminal() -> None:
    """Of very many faults the first are told, and how many there are more."""
    _, faults = check("".join(f"key_{number} = 1\n" for number in range(1000)))
    assert len(faults) == 51
    assert faults[-1] == (51, "here and below are 950 more faults.")


def test_what_cannot_be_read_is_one_fault(tmp_path: Path) -> None:
    """A missing file, a folder, one that is too large, and one that is no text."""

    def said(path: Path) -> str:
        with pytest.raises(FileFaults) as caught:
            read_toml(path)
        return str(caught.value)

    assert "No such file" in said(tmp_path / "missing.toml")
    assert "it is a folder, not a file" in said(tmp_path)
    assert "no path" in said(Path("a\0b"))
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (MOST_BYTES + 1))
    assert "larger than 256 KiB" in said(large)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"a = 1\n\xff\xfe\n")
    assert said(binary).startswith("line 2: There are bytes that are no UTF-8 text")


def test_a_file_of_the_largest_size_and_with_a_mark_is_read(tmp_path: Path) -> None:
    """Editors of Windows begin a file with a byte-order mark, and end lines with two characters."""
    path = tmp_path / "things.toml"
    path.write_bytes(b"\xef\xbb\xbfshape = 1\r\nthyng = 2\r\n".ljust(MOST_BYTES, b"#"))
    file = read_toml(path)
    assert file.content == {"shape": 1, "thyng": 2}
    assert file.root.at("thyng").line == 2


# Lines

_KEYS = ("a", "b-1", '"q \\"]= #"', "'l ] ='", "c.d", 'e."f".g', "h . i")


def _value(random_: random.Random, line: int, depth: int = 2) -> str:
    """Return a value on one line, in which every number is that of the line."""
    match random_.randrange(5 if depth else 3):
        case 0:
            return random_.choice(['"a]}, # b = 1"', "'c\\'", '"\\\\"', '""', "''", '"""a"""', "true"])
        case 3:
            return "[" + ", ".join(_value(random_, line, depth - 1) for _ in range(random_.randrange(3))) + "]"
        case 4:
            pairs = (f"k{number} = {_value(random_, line, depth - 1)}" for number in range(random_.randrange(3)))
            return "{" + ", ".join(pairs) + "}"
    return str(line)


def _statement(random_: random.Random, key: str, line: int) -> list[str]:
    """Return a key with a value, on one line or several."""
    comment = random_.choice(["", " # c = [", "\t"])
    match random_.randrange(6):
        case 0:
            return [f"{key} = [ # [", f"  {line + 1}, # ]", "", f"  {{x = {line + 3}}},", f"[{line + 4}]]{comment}"]
        case 1:
            return [f'{key} = """', "[[no]]", 'a = 7 "" \\" """"' + comment]
        case 2:
            return [f"{key} = '''", "'' [[no]] #", "x''''' # z"]
    return [f"{key} = {_value(random_, line)}{comment}"]


def _document(random_: random.Random) -> str:
    """Return a TOML text in which every number is that of its line."""
    lines: list[str] = []
    for table in range(random_.randrange(6)):
        lines.append(random_.choice(["[[list]]", f"[t{table}]", f"  [ t{table} . 'x.y' ] # z"]))
        for key in random_.sample(_KEYS, random_.randrange(len(_KEYS))):
            lines += random_.choice([[], [], ["", "# [x]"]])
            lines += _statement(random_, key, len(lines) + 1)
        if lines[-1] == "[[list]]":
            lines += ["[list.sub]", f"n = {len(lines) + 2}", "[[list.subs]]", f"m = {len(lines) + 4}"]
            lines += ["[[list.subs]]", f"m = {len(lines) + 2}"]
    return "\n".join(lines)


def _numbers(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _numbers(one, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _numbers(one, (*path, number))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path, value


@given(st.randoms(use_true_random=False), st.sampled_from(["\n", "\r\n"]))
def test_every_value_has_the_line_in_which_it_stands(random_: random.Random, end: str) -> None:
    """Whatever stands around it: all tables, dots and quotes in keys, texts and comments that look like TOML."""
    text = _document(random_).replace("\n", end)
    lines = TomlLines(text)
    for path, number in _numbers(tomllib.loads(text)):
        if len(path) <= 6:
            assert lines.line(path) == number, (path, text)


def test_what_lies_deep_has_the_line_of_what_it_lies_in() -> None:
    """The book of lines stays small, however deep a file is nested."""
    lines = TomlLines("\n" + ".".join("a" * 2000) + " = 1")
    assert lines.line(("a",) * 2000) == 2
    assert lines.line(("missing",)) == 1


# Schema

GOOD = (
    "",
    "shape = 3",
    "[[thing]]\nname = 'a'\n",
    "[[thing]]\nname = 'a'\nwords = ['x']\nloud = true\nlimit = 1000\nshare = 0.5\nkind = 'tall'\nwhere = {n = true}\n",
)
BAD = (
    "thyng = 1",
    "shape = 0",
    "shape = true",
    "[thing]\nname = 'a'",
    "thing = []",
    "[[thing]]",
    "[[thing]]\nname = ''",
    "[[thing]]\nname = 'A'",
    "[[thing]]\nname = 'taken'",
    "[[thing]]\nname = 7",
    "[[thing]]\nname = 'a'\nwords = 'x'",
    "[[thing]]\nname = 'a'\nwords = []",
    "[[thing]]\nname = 'a'\nwords = ['']",
    "[[thing]]\nname = 'a'\nwords = ['1', '2', '3', '4']",
    "[[thing]]\nname = 'a'\nloud = 1",
    "[[thing]]\nname = 'a'\nlimit = 1001",
    "[[thing]]\nname = 'a'\nshare = 0",
    "[[thing]]\nname = 'a'\nkind = 'wide'",
    "[[thing]]\nname = 'a'\nwhere = {}",
    "[[thing]]\nname = 'a'\nwhere = {N = 'x'}",
    "[[thing]]\nname = 'a'\nwhere = {n = 1}",
    "[[thing]]\nname = 'a'\n" * 6,
)


def test_schema_and_check_agree() -> None:
    """What an editor marks by the schema is what the start refuses, and nothing else."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft7Validator(SCHEMA)
    for text in GOOD:
        assert not check(text)[1], text
        assert validator.is_valid(tomllib.loads(text)), text
    for text in BAD:
        assert check(text)[1], text
        assert not validator.is_valid(tomllib.loads(text)), text


@given(st.binary(max_size=60) | st.text('[]{}=\'",.\n #ab1\\"', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Nothing but a fault comes of what is no TOML, and the lines of what is one are found."""
    try:
        file = parse_toml(body)
    except FileFaults:
        return
    assert isinstance(file, TomlFile)
