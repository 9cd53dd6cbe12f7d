"""The end of a request: stored or not, as the receiver's answers and those that were lost say."""

from __future__ import annotations

import re
from enum import Enum

from cdn77_exporter.core.errors import Refused

#: Refusals that name samples which the receiver has already.
_KNOWN_STATUS = {400, 409}
_KNOWN_WORDS = re.compile(r"duplicate|out[ -]of[ -]order|(repeated|same) timestamp", re.IGNORECASE)


class Delivery(Enum):
    """The end of a request. A tick is acknowledged with what is stored or unknown, never with what is not stored."""

    STORED = "stored"
    NOT_STORED = "not stored"
    NOT_WANTED = "not wanted"  # native histograms, by a receiver that takes none: owed, but nothing waits for them
    UNKNOWN = "unknown"  # counts as stored: going back would count twice what was stored


def after_refusal(refusal: Refused, *, lost: bool) -> Delivery:
    """Tell the end of a request that the receiver refused; `lost`: the answer to an earlier attempt was lost.

    Only then can words such as "duplicate sample" mean this very request.
    """
    if not lost or refusal.too_old:
        return Delivery.NOT_STORED
    return Delivery.STORED if names_stored(refusal) else Delivery.UNKNOWN


def names_stored(refusal: Refused) -> bool:
    """Tell whether a refusal says that the receiver has such samples."""
    return refusal.status in _KNOWN_STATUS and _KNOWN_WORDS.search(refusal.words) is not None


def is_doubtful(refusal: Refused, *, failed: bool) -> bool:
    """Tell whether samples may be stored although they are refused and no answer was lost.

    A replicating receiver may have stored what it answered with a failure (`failed`), and then says that it has it. One
    that answers 2xx to samples that it does not count may be wrong about either.
    """
    return refusal.status < 300 or (failed and names_stored(refusal))


def after_giving_up(*, lost: bool) -> Delivery:
    """Tell the end of a request that is not tried again; `lost`: the answer to an attempt was lost."""
    return Delivery.UNKNOWN if lost else Delivery.NOT_STORED


class Forgetful:
    """A receiver that does not say what it holds."""

    async def holds(self, body: bytes) -> bool | None:
        """Say nothing."""
        return None
