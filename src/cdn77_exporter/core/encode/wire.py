"""Writes lengths and fields around encoded messages."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Return a number as protobuf writes a length."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def field_bytes(size: int) -> int:
    """Return the bytes that a text or message of so many bytes takes as a field, with its tag and its length."""
    return 1 + len(varint(size)) + size
