"""What files count, as columns: the one shape in which counts travel from decoding to the series.

Texts stand once each in a list, and rows name them by their numbers in it. Rows of events are kept by cube (see
`measures`), rows of viewers by address and profile. Whoever decodes hands these arrays over as they are, from a thread,
a process or another machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.measures import Cube

#: Bytes of an address; an IPv4 address is the IPv6 one that it is mapped to (RFC 4291, 2.5.5.2).
ADDRESS_BYTES = 16

Numbers = npt.NDArray[np.uint32]
Amounts = npt.NDArray[np.int64]


@dataclass(slots=True)
class Groups:
    """Sums of one cube, a row for each tick and group of labels; no two rows are of the same tick and labels.

    `ticks` [rows]: the tick after the events (Unix seconds). `labels` [rows, labels of the cube]: numbers of texts.
    `sums` [rows, columns of the cube].
    """

    ticks: Amounts
    labels: Numbers
    sums: Amounts

    @classmethod
    def none_of(cls, cube: Cube) -> Groups:
        """Return no rows, with the columns of a cube."""
        return cls(
            np.zeros(0, np.int64),
            np.zeros((0, len(cube.labels)), np.uint32),
            np.zeros((0, len(cube.columns)), np.int64),
        )

    def __len__(self) -> int:
        """Rows."""
        return len(self.ticks)


def _no_numbers() -> Numbers:
    return np.zeros(0, np.uint32)


def _no_amounts() -> Amounts:
    return np.zeros(0, np.int64)


@dataclass(slots=True)
class Viewers:
    """What was seen of viewers, a row for each tick, address and profile; the four have one entry a row.

    `addresses`, `profiles`: numbers of `Counts.addresses` and `Counts.profiles`. `first`, `last`: the first and the
    last event (Unix milliseconds), which lie before the same tick and not before the tick in front of it.
    """

    addresses: Numbers = field(default_factory=_no_numbers)
    profiles: Numbers = field(default_factory=_no_numbers)
    first: Amounts = field(default_factory=_no_amounts)
    last: Amounts = field(default_factory=_no_amounts)

    def __len__(self) -> int:
        """Rows."""
        return len(self.addresses)


@dataclass(slots=True)
class Counts:
    """What one file counts, or several together.

    `texts`: label values, cleaned, each once. `groups`: by cube, in the order of `Measures.cubes`. `profiles`
    [profiles, labels of `measures.PROFILE`]: numbers of texts, each row once. `addresses`: `ADDRESS_BYTES` each, each
    once.
    """

    texts: list[str]
    groups: list[Groups]
    profiles: Numbers = field(default_factory=lambda: np.zeros((0, 3), np.uint32))
    addresses: bytes = b""
    viewers: Viewers = field(default_factory=Viewers)
