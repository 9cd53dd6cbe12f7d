"""The content of a file, by which it is known again under another ETag."""

from __future__ import annotations

from typing import NamedTuple


class Content(NamedTuple):
    """The number of inflated bytes and a hash of them; a negative length stands for what nobody has measured."""

    length: int
    hash: int


#: Not a single byte.
NOTHING = Content(0, 0)
#: Content that an earlier version has counted.
UNKNOWN = Content(-1, 0)
