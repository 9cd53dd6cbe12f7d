"""The places of addresses: country and region of the GeoIP database, asked once for each address seen lately."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.columns import ADDRESS_BYTES
from cdn77_exporter.core.keys import Codes, Vocabulary

Locate = Callable[[str], tuple[str, str]]

#: Country and region of an address without a database, or unknown to it.
NOWHERE = ("XX", "Unknown")
_REMEMBERED = 1 << 17
#: The versions that an address can have.
VERSIONS = ("4", "6")
_MAPPED = b"\0" * 10 + b"\xff\xff"
_MAPPED_WORD = 0xFFFF  # what it ends with


class Places:
    """Places of addresses as pairs of text numbers; remembers `_REMEMBERED` addresses, by their hashes, at most.

    To empty the whole of a full memory would lose what is asked for all the time, and that all at once: so the older
    half is forgotten.
    """

    def __init__(self, locate: Locate | None, vocabulary: Vocabulary) -> None:
        self._locate = locate
        self._vocabulary = vocabulary
        self.forget()

    def use(self, locate: Locate) -> None:
        """Ask this database from now on, for every address again."""
        self._locate = locate
        self.forget()

    @property
    def known(self) -> bool:
        """True if there is a database."""
        return self._locate is not None

    def forget(self) -> None:
        """Ask for every address again."""
        self._newer, self._older = _Remembered(), _Remembered()

    def codes(self, addresses: bytes, hashes: npt.NDArray[np.uint64]) -> Codes:
        """Return country and region [addresses, 2] of packed addresses with these hashes [addresses]."""
        if self._locate is None:
            return np.tile(self._vocabulary.codes(NOWHERE), (len(hashes), 1))
        found, known = self._newer.find(hashes)
        missing = np.flatnonzero(~known)
        if len(missing):
            found[missing] = self._find_again(addresses, hashes[missing], missing)
            if len(self._newer) + len(missing) > _REMEMBERED // 2:
                self._newer, self._older = _Remembered(), self._newer
            self._newer.add(hashes[missing], found[missing])
        return found

    def _find_again(self, addresses: bytes, hashes: npt.NDArray[np.uint64], numbers: npt.NDArray[np.int64]) -> Codes:
        found, known = self._older.find(hashes)
        code, locate = self._vocabulary.code, self._locate
        assert locate is not None  # noqa: S101 - `codes` has looked
        for at in np.flatnonzero(~known).tolist():
            begin = int(numbers[at]) * ADDRESS_BYTES
            country, region = locate(address_text(addresses[begin : begin + ADDRESS_BYTES]))
            found[at] = code(country), code(region)
        return found


class _Remembered:
    """Places by hash, in the order of the hashes."""

    def __init__(self) -> None:
        self._hashes: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._places: Codes = np.zeros((0, 2), np.uint32)

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, hashes: npt.NDArray[np.uint64]) -> tuple[Codes, npt.NDArray[np.bool_]]:
        if not len(self._hashes):
            return np.zeros((len(hashes), 2), np.uint32), np.zeros(len(hashes), np.bool_)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return self._places[at], self._hashes[at] == hashes

    def add(self, hashes: npt.NDArray[np.uint64], places: Codes) -> None:
        hashes, first = np.unique(np.append(self._hashes, hashes), return_index=True)
        self._hashes, self._places = hashes, np.concatenate((self._places, places))[first]


def is_version_4(addresses: bytes) -> npt.NDArray[np.bool_]:
    """Return which packed addresses [addresses] are of version 4, the others being of version 6."""
    words = np.frombuffer(addresses, ">u8").reshape(-1, 2)
    found: npt.NDArray[np.bool_] = (words[:, 0] == 0) & (words[:, 1] >> np.uint64(32) == _MAPPED_WORD)
    return found


def address_text(packed: bytes) -> str:
    """Return the usual form of a packed address of 16 bytes."""
    if packed.startswith(_MAPPED):
        return ".".join(map(str, packed[-4:]))
    return str(ipaddress.IPv6Address(packed))
