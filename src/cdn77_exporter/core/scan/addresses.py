"""Keyed hashes of addresses, by the compiled code where there is one."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core import scan
from cdn77_exporter.core.columns import ADDRESS_BYTES

_HASH = np.dtype("<u8")
_MAPPED = bytes(10) + b"\xff\xff"


def hash_addresses(addresses: bytes, key: bytes) -> npt.NDArray[np.uint64]:
    """Return 64 bits for each of the addresses, which have `ADDRESS_BYTES` each, keyed with up to 64 bytes.

    The hash is BLAKE2b of an IPv6 address in its 16 bytes, and of an IPv4 address in its 4, although that is given as
    the IPv6 address to which it is mapped.
    """
    if len(addresses) % ADDRESS_BYTES:
        raise ValueError(f"addresses have {ADDRESS_BYTES} bytes each")
    if scan.COMPILED:
        return np.frombuffer(scan._scan.hash_addresses(addresses, key), _HASH)
    parts = (addresses[begin : begin + ADDRESS_BYTES] for begin in range(0, len(addresses), ADDRESS_BYTES))
    return np.frombuffer(
        b"".join(
            hashlib.blake2b(part.removeprefix(_MAPPED), key=key, digest_size=_HASH.itemsize).digest() for part in parts
        ),
        _HASH,
    )
