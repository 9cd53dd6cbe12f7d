"""Counts the User-Agents that no device rule knows, the frequent ones by name; memory is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import nlargest

from cdn77_exporter.core.device import decoded
from cdn77_exporter.core.lines import clean
from cdn77_exporter.core.masking import Masker

#: User-Agents of one file that are named.
OF_A_FILE = 20
_LOOKED_AT = 5 * OF_A_FILE  # since some may be the same, once they are decoded and masked
#: User-Agents that are counted by name over many files; when there are twice as many, the rarer half is forgotten.
_KEPT = 500
_MASK = Masker()


@dataclass(slots=True)
class UnknownAgents:
    """Requests with a User-Agent that no rule knows.

    `requests`: all of them. `of`: all requests, known ones too. `named`: requests by User-Agent, without its
    percent-encoding, addresses masked, and cut to the length of a label; at least so many, since of each file only the
    frequent ones are known.
    """

    requests: int = 0
    of: int = 0
    named: dict[str, int] = field(default_factory=dict)

    @classmethod
    def counted(cls, requests: Mapping[str, int], of: int) -> UnknownAgents:
        """Return those of one file, given requests by unknown User-Agent as the log has it, and all of its requests."""
        named: dict[str, int] = {}
        for agent, count in _largest(requests, _LOOKED_AT).items():
            text = clean(_MASK(decoded(agent)))
            named[text] = named.get(text, 0) + count
        return cls(sum(requests.values()), of, _largest(named, OF_A_FILE))

    def add(self, other: UnknownAgents) -> None:
        """Add those of other files."""
        self.requests += other.requests
        self.of += other.of
        for agent, count in other.named.items():
            self.named[agent] = self.named.get(agent, 0) + count
        if len(self.named) > 2 * _KEPT:
            self.named = _largest(self.named, _KEPT)

    def frequent(self, most: int) -> dict[str, int]:
        """Return the `most` frequent ones, the most frequent first."""
        return _largest(self.named, most)


def _largest(named: Mapping[str, int], most: int) -> dict[str, int]:
    return dict(nlargest(most, named.items(), key=lambda entry: (entry[1], entry[0])))
