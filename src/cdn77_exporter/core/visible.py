"""Escapes what a text must not do to whoever reads it: move the cursor, turn the direction of letters, end the line."""

from __future__ import annotations


def visible(text: str, keep: str = "") -> str:
    """Return the text with every character that cannot be seen as `\\n`, `\\x9b`, `\\u202e`, as in a Python string.

    These are control characters, those that change the direction of letters, line separators, spaces but the usual one,
    lone surrogates, and what Unicode does not define; not those in `keep`.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
