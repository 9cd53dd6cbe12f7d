"""Writes the lengths that stand before encoded messages."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Return a number as protobuf writes a length."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
