"""Native histograms as bytes of remote write 1.0, from the published field numbers alone and without protobuf."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def zigzag(number: int) -> bytes:
    """A signed number, of which small ones are short."""
    return varint(2 * number if number >= 0 else -2 * number - 1)


def field(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def number_field(number: int, content: bytes) -> bytes:
    """A varint's field."""
    return varint(number << 3) + content


def double_field(number: int, value: float) -> bytes:
    """Eight bytes; a proto3 default is left out, and a NaN is none."""
    return varint(number << 3 | 1) + struct.pack("<d", value) if value else b""


def histogram(counts: Mapping[int, int], total: float, at_ms: int) -> bytes:
    """One sample with schema 3, field after field."""
    runs: list[list[int]] = []
    for bucket in sorted(counts):
        if runs and bucket == runs[-1][-1] + 1:
            runs[-1].append(bucket)
        else:
            runs.append([bucket])
    spans = b""
    reached = 0
    for run in runs:
        offset = run[0] - reached
        reached = run[-1] + 1
        spans += field(11, (number_field(1, zigzag(offset)) if offset else b"") + number_field(2, varint(len(run))))
    filled = [counts[bucket] for bucket in sorted(counts)]
    deltas = b"".join(zigzag(now - before) for before, now in zip([0, *filled], filled, strict=False))
    return b"".join(
        (
            number_field(1, varint(sum(filled))),
            double_field(3, total),
            number_field(4, zigzag(3)),
            double_field(5, 1e-6),
            number_field(6, varint(0)),
            spans,
            field(12, deltas) if deltas else b"",
            number_field(15, varint(at_ms)),
        )
    )


def series(labels: Sequence[tuple[str, str]], histograms: Sequence[bytes]) -> bytes:
    """One series of a WriteRequest."""
    names = [field(1, field(1, name.encode()) + field(2, text.encode())) for name, text in labels]
    return field(1, b"".join([*names, *(field(4, one) for one in histograms)]))
