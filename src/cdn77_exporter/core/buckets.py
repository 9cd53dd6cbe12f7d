"""The buckets of native histograms (exponential schema 3): which one a whole number of units is in.

Bucket `b` holds what is above 2^((b-1)/8) and not above 2^(b/8), so that the bounds of neighbours are a factor of
2^(1/8) apart, and what is taken for the middle of a bucket is at most 4.4 % off.

Source: Prometheus, Native Histograms specification (prometheus.io/docs/specs/native_histograms).
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.lines import MAX_COUNT

_A_DOUBLING = 8  # buckets


@cache
def first_bucket(per: int) -> int:
    """Return the bucket of 1, of which `per` are one unit."""
    bucket = -per.bit_length() * _A_DOUBLING
    while not _largest(bucket, per):
        bucket += 1
    return bucket


@cache
def bounds(per: int) -> tuple[int, ...]:
    """Return the largest number in each bucket from the first one on, until all numbers of a line are in one."""
    found: list[int] = []
    bucket = first_bucket(per)
    while not found or found[-1] < MAX_COUNT:
        found.append(_largest(bucket + len(found), per))
    return tuple(found)


def bucket_of(number: int | None, per: int) -> str:
    """Return a number's bucket as a text; no text for 0 and for none."""
    return str(first_bucket(per) + bisect_left(bounds(per), number)) if number else ""


def bucket_numbers(numbers: npt.NDArray[np.int64], per: int) -> npt.NDArray[np.int64]:
    """Return the bucket of each number, all of which are above 0."""
    return np.searchsorted(np.array(bounds(per), np.uint64), numbers.astype(np.uint64)) + first_bucket(per)


def _largest(bucket: int, per: int) -> int:
    """Return the largest whole number whose eighth power is at most `per`^8 * 2^`bucket`."""
    most, scale = per**_A_DOUBLING << max(bucket, 0), 1 << max(-bucket, 0)
    number = int(per * 2.0 ** (bucket / _A_DOUBLING))
    while (number + 1) ** _A_DOUBLING * scale <= most:
        number += 1
    while number and number**_A_DOUBLING * scale > most:
        number -= 1
    return number
