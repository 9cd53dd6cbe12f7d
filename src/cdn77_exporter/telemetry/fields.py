"""Turns the value of a message's field into plain JSON values: masked, visible, cut to length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from cdn77_exporter.core.masking import Masker
from cdn77_exporter.core.visible import visible
from cdn77_exporter.telemetry.messages import Holds

#: A longer text is cut; that is room for a traceback.
TEXT_CHARACTERS = 8_000
_TABLE_ENTRIES = 200


def clean(value: object, holds: Holds, mask: Masker) -> object:
    """Return the value as JSON has it. Secrets are masked, and addresses too unless the field holds a name."""
    if isinstance(value, (bool, int, float)) or value is None:
        return _number(value)
    if isinstance(value, Mapping):
        entries = list(value.items())[:_TABLE_ENTRIES]
        return {_text(str(name), holds, mask): clean(item, holds, mask) for name, item in entries}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [clean(item, holds, mask) for item in list(value)[:_TABLE_ENTRIES]]
    return _text(str(value), holds, mask)


def cut(text: str, characters: int) -> str:
    """Shorten a text to so many characters, with an ellipsis where it was cut."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def iso(seconds: float) -> str:
    """Format Unix seconds as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(text: str, holds: Holds, mask: Masker) -> str:
    # Masked before it is cut: half a secret at the end would not be found.
    masked = visible(mask.secrets(text)) if holds is Holds.NAME else visible(mask(text), keep="\n\t")
    return cut(masked, TEXT_CHARACTERS)


def _number(value: float | int | bool | None) -> object:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 10**300 else None
    return value
