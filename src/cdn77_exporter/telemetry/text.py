"""How times and long texts are written in log lines."""

from __future__ import annotations

from datetime import UTC, datetime


def cut(text: str, characters: int) -> str:
    """Shorten a text to so many characters, with an ellipsis where it was cut."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def iso(seconds: float) -> str:
    """Write Unix seconds as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
