"""Hashes of addresses, compiled and by the standard library, and how many different ones there are."""

from __future__ import annotations

import hashlib
import random
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.commands.inspect.distinct import Distinct, mixed
from cdn77_exporter.core.scan.addresses import hash_addresses
from tests.support.counts import packed_text
from tests.support.ways import way

__all__ = ["way"]  # every test here is run with the compiled code and without


@given(st.lists(st.ip_addresses(), max_size=5), st.binary(max_size=64))
def test_a_hash_is_blake2b_of_the_address(addresses: list[IPv4Address | IPv6Address], key: bytes) -> None:
    """Of 4 bytes for IPv4 and 16 for IPv6, with any key; so viewers of a state are found again."""
    addresses = [address for address in addresses if address.version == 4 or not address.ipv4_mapped]
    found = hash_addresses(b"".join(packed_text(str(address)) for address in addresses), key)
    assert found.tolist() == [
        int.from_bytes(hashlib.blake2b(address.packed, key=key, digest_size=8).digest(), "little")
        for address in addresses
    ]


@pytest.mark.guarantee("viewers.mapped")
def test_a_mapped_address_is_the_ipv4_one() -> None:
    """One viewer has one hash, however its address was written."""
    mapped, plain = (hash_addresses(packed_text(text), b"key").tolist() for text in ("::ffff:1.2.3.4", "1.2.3.4"))
    assert mapped == plain


@pytest.mark.parametrize(("addresses", "key"), [(b"x" * 15, b""), (b"x" * 16, b"k" * 65)])
def test_wrong_lengths_are_refused(addresses: bytes, key: bytes, way: str) -> None:
    """Addresses have 16 bytes each, a key at most 64."""
    with pytest.raises(ValueError, match=r"."):
        hash_addresses(addresses, key)


def test_each_key_is_new_once() -> None:
    """Whatever comes together and again: a key's place is given once, and it keeps the value of that place."""
    draw, seen, distinct = random.Random(3), dict[int, int](), Distinct(10_000)
    for _ in range(60):
        keys = [draw.randrange(3000) for _ in range(draw.randrange(200))]
        values = [draw.randrange(1 << 64) for _ in keys]
        new, first = distinct.add(np.array(keys, np.uint64), np.array(values, np.uint64))
        assert sorted(keys[place] for place in new) == sorted(set(keys) - set(seen))
        seen |= {keys[place]: values[place] for place in new}
        assert first.tolist() == [seen[key] for key in keys]
        assert len(distinct) == len(seen)


def test_keys_have_a_bound() -> None:
    """No more than the bound are new, and then none is."""
    distinct = Distinct(5)

    def new(begin: int, end: int) -> int:
        keys = np.arange(begin, end, dtype=np.uint64)
        return len(distinct.add(keys, keys)[0])

    assert new(0, 3) == 3
    assert new(0, 9) == 2
    assert distinct.is_full
    assert new(100, 109) == 0


def test_pairs_of_keys_are_told_apart() -> None:
    """Of a thousand keys with each other no two pairs fall together."""
    keys = np.arange(1000, dtype=np.uint64)
    pairs = mixed(np.repeat(keys, 1000), np.tile(keys, 1000))
    assert np.all(np.diff(np.sort(pairs)) > 0)
