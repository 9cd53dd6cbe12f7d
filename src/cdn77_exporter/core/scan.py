"""The compiled scan of plain lines, where the package was built with it; without it, the decoder does all by itself.

What it takes of a file, and why the result is the same, is said in `_scan.c`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from typing import TYPE_CHECKING, TypeVar

try:
    from cdn77_exporter.core import _scan
except ImportError:  # built without a compiler
    COMPILED = False
else:
    COMPILED = True

if TYPE_CHECKING:
    from cdn77_exporter.core._scan import Scanner

_K = TypeVar("_K")
_V = TypeVar("_V")
# Python's hash of a text is keyed with a secret of the process.
_SECRETS = (hash("one half"), hash("the other half"))
#: A group as the scan gives it out: tick, stream, CDN id, cache status, POP, response status; requests, bytes, sum and
#: number of times to first byte. A viewer: tick, stream, IP, User-Agent, country; first and last time. Where there is a
#: text, they have its number.
GROUP, VIEWER = Struct("=10q"), Struct("=7q")
_LONGEST = 2**62  # beyond all times and lengths, and within the scan's numbers


def begin_scan(
    *, tick_seconds: int, line_bytes: int, oldest_ms: int, latest_ms: int, streams: Iterable[str] | None
) -> Scanner | None:
    """The scan of one file; None where there is none.

    Where `streams` are given it takes those only, and those that are admitted later.
    """
    if not COMPILED:
        return None
    scanner = _scan.Scanner(
        tick_seconds=tick_seconds,
        line_bytes=min(line_bytes, _LONGEST),
        oldest_ms=max(min(oldest_ms, _LONGEST), 0),
        latest_ms=max(min(latest_ms, _LONGEST), 0),
        admitted_only=streams is not None,
        secrets=_SECRETS,
    )
    for stream in streams or ():
        scanner.admit(stream)
    return scanner


class Once(dict[_K, _V]):
    """What a function gives for a key, asked once for each."""

    def __init__(self, ask: Callable[[_K], _V]) -> None:
        super().__init__()
        self._ask = ask

    def __missing__(self, key: _K) -> _V:
        value = self[key] = self._ask(key)
        return value
