"""A small reader of LogQL: the part that the documentation uses, and what a query names.

There is no Loki here to ask. Whatever this grammar does not know is an error, so that a query with a slip in its syntax
does not pass; names are for the test to compare with the closed list of events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"(?:[^"\\]|\\.)*")
    |(?P<range>\[\d+[smhd]\])
    |(?P<sign>=~|!~|!=|==|>=|<=|\|=|[{}(),|=<>])
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<word>[A-Za-z_]\w*)
    )""",
    re.VERBOSE,
)
_OVER_TIME = {"count_over_time": False, "rate": False, "sum_over_time": True, "max_over_time": True}  # needs unwrap
_TOGETHER = ("sum", "max", "topk")


class NotLogQL(ValueError):
    """The text is no query of the known grammar."""


@dataclass
class Query:
    """What a query names: labels with the values that it selects, and fields of lines."""

    labels: dict[str, list[str]] = field(default_factory=dict)
    fields: set[str] = field(default_factory=set)
    grouped: set[str] = field(default_factory=set)
    parsed: bool = False  # by `| json`


def read(text: str) -> Query:
    """The query, or NotLogQL."""
    reader = _Reader(text)
    reader.expression()
    reader.end()
    if reader.query.fields and not reader.query.parsed:
        raise NotLogQL("a field without `| json` before it")
    return reader.query


class _Reader:
    def __init__(self, text: str) -> None:
        self.query = Query()
        self._tokens: list[tuple[str, str]] = []
        self._place = 0
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if not found or not found.lastgroup:
                raise NotLogQL(f"at {text[at : at + 20]!r}")
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()

    # Tokens

    def _peek(self) -> str:
        return self._tokens[self._place][1] if self._place < len(self._tokens) else ""

    def _take(self, *kinds: str) -> str:
        if self._place >= len(self._tokens) or self._tokens[self._place][0] not in kinds:
            raise NotLogQL(f"{self._peek() or 'the end'} where {' or '.join(kinds)} must be")
        self._place += 1
        return self._tokens[self._place - 1][1]

    def _expect(self, *signs: str) -> str:
        if self._peek() not in signs:
            raise NotLogQL(f"{self._peek() or 'the end'} where {' or '.join(signs)} must be")
        self._place += 1
        return self._tokens[self._place - 1][1]

    def end(self) -> None:
        """Nothing is left."""
        if self._peek():
            raise NotLogQL(f"{self._peek()} behind the end")

    # Grammar

    def expression(self) -> None:
        """An aggregation, a function over time, or a selection of lines."""
        if self._peek() in _TOGETHER:
            self._aggregation()
        elif self._peek() in _OVER_TIME:
            self._over_time()
        else:
            self._selection()

    def _aggregation(self) -> None:
        name = self._take("word")
        if self._peek() == "by":
            self._expect("by")
            self._expect("(")
            self.query.grouped.add(self._take("word"))
            self._expect(")")
        self._expect("(")
        if name == "topk":
            self._take("number")
            self._expect(",")
        if self._peek() not in _TOGETHER and self._peek() not in _OVER_TIME:
            raise NotLogQL(f"{name} of lines")
        self.expression()
        self._expect(")")

    def _over_time(self) -> None:
        name = self._take("word")
        self._expect("(")
        unwrapped = self._selection()
        if unwrapped is not _OVER_TIME[name]:
            raise NotLogQL(f"{name} {'with' if unwrapped else 'without'} unwrap")
        self._take("range")
        self._expect(")")

    def _selection(self) -> bool:
        """Whether a field's numbers are taken out of the lines."""
        self._expect("{")
        while True:
            label = self._take("word")
            sign = self._expect("=", "=~", "!=", "!~")
            value = self._take("text")[1:-1]
            self.query.labels.setdefault(label, []).extend(value.split("|") if "~" in sign else [value])
            if self._expect(",", "}") == "}":
                break
        unwrapped = False
        while self._peek() in ("|", "|=", "|~") and not unwrapped:
            unwrapped = self._step()
        return unwrapped

    def _step(self) -> bool:
        if self._expect("|", "|=") == "|=":
            self._take("text")
            return False
        word = self._take("word")
        if word == "json":
            self.query.parsed = True
        elif word == "unwrap":
            self.query.fields.add(self._take("word"))
        elif word == "line_format":
            self.query.fields |= set(re.findall(r"\{\{\.(\w+)\}\}", self._take("text")))
        else:
            self._condition(word)
        return word == "unwrap"

    def _condition(self, name: str) -> None:
        while True:
            self.query.fields.add(name)
            self._expect("=", "==", "!=", "=~", "!~", ">", "<", ">=", "<=")
            self._take("text", "number")
            if self._peek() not in ("or", "and"):
                return
            self._take("word")
            name = self._take("word")
