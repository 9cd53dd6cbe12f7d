"""The kinds of values that a TOML file of settings holds: each checks a value, and describes itself as JSON Schema.

So a file's shape is declared once: it finds every fault of a file with its line, and by its schema an editor completes
and checks the file while it is written.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cdn77_exporter.settings.toml_file import Place, shown


class Kind(Protocol):
    """A kind of values."""

    @property
    def expected(self) -> str:
        """Such as `a text`, for the words of a fault."""

    def read(self, value: object, place: Place) -> Any:
        """Return the value; None with a fault noted at the place, if it is not of this kind."""

    def schema(self) -> dict[str, Any]:
        """Return the kind's JSON Schema."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text of one character at least. `pattern`: what the whole of it must fit; `words` say so."""

    most: int = 200
    pattern: str = r"[\s\S]+"
    words: str = "that is not empty"

    @property
    def expected(self) -> str:
        """In words."""
        return "a text"

    def read(self, value: object, place: Place) -> str | None:
        """Return the text."""
        if not isinstance(value, str):
            _wrong(self, value, place)
            return None
        if len(value) > self.most:
            place.fault(f"`{place.name}` has {len(value):,} characters; it can have {self.most:,} at most.")
            return None
        if not re.fullmatch(self.pattern, value):
            place.fault(f"`{place.name}` is `{shown(value)}`; it must be a text {self.words}.")
            return None
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "string", "maxLength": self.most, "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some texts."""

    options: tuple[str, ...]

    @property
    def expected(self) -> str:
        """In words."""
        return "one of " + ", ".join(f"`{one}`" for one in self.options)

    def read(self, value: object, place: Place) -> str | None:
        """Return the text."""
        if not isinstance(value, str):
            _wrong(self, value, place)
            return None
        if value not in self.options:
            place.fault(f"`{place.name}` is `{shown(value)}`, which is not known; {guess(value, self.options)}")
            return None
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"enum": list(self.options)}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    @property
    def expected(self) -> str:
        """In words."""
        return "true or false"

    def read(self, value: object, place: Place) -> bool | None:
        """Return the flag."""
        if not isinstance(value, bool):
            _wrong(self, value, place)
            return None
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in a range."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        """In words."""
        return f"a whole number from {self.least:,} to {self.most:,}"

    def read(self, value: object, place: Place) -> int | None:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int):
            _wrong(self, value, place)
            return None
        if not self.least <= value <= self.most:
            place.fault(f"`{place.name}` is out of range; it must be {self.expected}.")
            return None
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Number:
    """A number above `above`, which need not be whole."""

    above: float = 0.0

    @property
    def expected(self) -> str:
        """In words."""
        return f"a number above {self.above:g}"

    def read(self, value: object, place: Place) -> float | None:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            _wrong(self, value, place)
            return None
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not (math.isfinite(number) and number > self.above):
            place.fault(f"`{place.name}` is out of range; it must be {self.expected}.")
            return None
        return number

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "number", "exclusiveMinimum": self.above}


@dataclass(frozen=True, slots=True)
class OneOf:
    """A value of the first of some kinds that has its type."""

    kinds: tuple[tuple[type, Kind], ...]

    @property
    def expected(self) -> str:
        """In words."""
        return ", or ".join(kind.expected for _, kind in self.kinds)

    def read(self, value: object, place: Place) -> Any:
        """Return the value."""
        for own, kind in self.kinds:
            if type(value) is own:
                return kind.read(value, place)
        _wrong(self, value, place)
        return None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"anyOf": [kind.schema() for _, kind in self.kinds]}


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of one value at least."""

    item: Kind
    most: int = 1000

    @property
    def expected(self) -> str:
        """In words."""
        return f"a list, each item {self.item.expected}"

    def read(self, value: object, place: Place) -> tuple[Any, ...] | None:
        """Return the values; None if one of them is wrong."""
        if not isinstance(value, list):
            _wrong(self, value, place)
            return None
        if not value:
            place.fault(f"`{place.name}` is an empty list; leave it out, or give it values.")
            return None
        if len(value) > self.most:
            place.fault(f"`{place.name}` has {len(value):,} items; it can have {self.most:,} at most.")
            return None
        found = tuple(self.item.read(one, place.at(number)) for number, one in enumerate(value))
        return None if None in found else found

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "array", "items": self.item.schema(), "minItems": 1, "maxItems": self.most}


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables of one name, one at least: in TOML each begins with the name in double brackets."""

    table: Table
    most: int = 1000

    @property
    def expected(self) -> str:
        """In words."""
        return "tables, each of which begins with the name in double brackets"

    def read(self, value: object, place: Place) -> tuple[dict[str, Any], ...] | None:
        """Return the values of each; of what is no table, none."""
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            place.fault(f"`{place.name}` must be tables, each of which begins with a line `[[{place.name}]]`.")
            return None
        if not value:
            place.fault(f"`{place.name}` is empty; write tables that begin with `[[{place.name}]]`, or leave it out.")
            return None
        if len(value) > self.most:
            place.fault(f"`{place.name}` has {len(value):,} tables; it can have {self.most:,} at most.")
            return None
        found = [self.table.read(one, place.at(number)) for number, one in enumerate(value)]
        return tuple(one for one in found if one is not None)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "array", "items": self.table.schema(), "minItems": 1, "maxItems": self.most}


@dataclass(frozen=True, slots=True)
class MapOf:
    """A table with keys of one's own, one at least, and values of one kind."""

    key: Text
    value: Kind
    most: int = 100

    @property
    def expected(self) -> str:
        """In words."""
        return "a table"

    def read(self, value: object, place: Place) -> dict[str, Any] | None:
        """Return the table; None if something in it is wrong."""
        if not isinstance(value, dict):
            _wrong(self, value, place)
            return None
        if not value:
            place.fault(f"`{place.name}` is an empty table; leave it out, or give it values.")
            return None
        if len(value) > self.most:
            place.fault(f"`{place.name}` has {len(value):,} keys; it can have {self.most:,} at most.")
            return None
        names = [self.key.read(name, place.at(name)) for name in value]
        found = {name: self.value.read(one, place.at(name)) for name, one in value.items()}
        return None if None in names or None in found.values() else found

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {
            "type": "object",
            "propertyNames": self.key.schema(),
            "additionalProperties": self.value.schema(),
            "minProperties": 1,
            "maxProperties": self.most,
        }


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a table: its name, the kind of its value, what it says, and what it is when it is left out."""

    name: str
    kind: Kind
    help: str
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of known keys.

    `rules`: check what no key says by itself, given the table's values and its place; they note faults. A wrong value
    is None there, like one that was left out without a default. `constraints`: of the JSON Schema, the same in its own
    words where it has any.
    """

    help: str
    keys: tuple[Key, ...]
    rules: tuple[Callable[[Mapping[str, Any], Place], None], ...] = ()
    constraints: Mapping[str, Any] = field(default_factory=dict)

    @property
    def expected(self) -> str:
        """In words."""
        return "a table"

    def read(self, value: object, place: Place) -> dict[str, Any] | None:
        """Return the values of all keys, those that are left out with their default."""
        if not isinstance(value, dict):
            _wrong(self, value, place)
            return None
        names = [key.name for key in self.keys]
        for name in value.keys() - set(names):
            place.at(name).fault(f"`{shown(name)}` is not a key here; {guess(name, names)}")
        found = {}
        for key in self.keys:
            if key.name in value:
                found[key.name] = key.kind.read(value[key.name], place.at(key.name))
            else:
                found[key.name] = key.default
                if key.required:
                    place.fault(f"`{key.name}` is missing; {key.help[:1].lower()}{key.help[1:]}")
        for rule in self.rules:
            rule(found, place)
        return found

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        found: dict[str, Any] = {
            "type": "object",
            "description": self.help,
            "properties": {key.name: _described(key) for key in self.keys},
            "additionalProperties": False,
        }
        required = [key.name for key in self.keys if key.required]
        return found | ({"required": required} if required else {}) | dict(self.constraints)


def _described(key: Key) -> dict[str, Any]:
    found = key.kind.schema() | {"description": key.help}
    return found if key.default in (None, ()) else found | {"default": key.default}


def schema_text(table: Table, title: str) -> str:
    """Return the JSON Schema of a whole file, as text."""
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": title}  # what editors of TOML know
    return json.dumps(head | table.schema(), indent=2, ensure_ascii=False) + "\n"


def guess(name: str, known: Sequence[str]) -> str:
    """Return the end of a sentence that helps somebody who wrote a name that is not known."""
    close = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.7)
    if close:
        return f"did you mean `{close[0]}`?"
    if len(known) > 12:
        return f"there are {len(known)}, such as `{known[0]}`."
    return "known are " + ", ".join(f"`{one}`" for one in known) + "."


_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
}


def _wrong(kind: Kind, value: object, place: Place) -> None:
    own = _TYPES.get(type(value), "a date or a time")
    place.fault(f"`{place.name}` is {own}; it must be {kind.expected}.")
