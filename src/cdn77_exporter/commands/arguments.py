"""Parses values of the command line that several commands take; each raises ArgumentTypeError."""

from __future__ import annotations

import argparse
import re
import time
from datetime import UTC, datetime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LENGTH = re.compile(r"(\d{1,6})([smhd])")


def parse_length(text: str) -> int:
    """Return a length of time such as `90s` or `2h`, in seconds."""
    found = _LENGTH.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length such as 90s, 10m or 2h")
    return int(found[1]) * _UNITS[found[2]]


def parse_instant(text: str) -> float:
    """Return an ISO 8601 time, UTC unless it says otherwise, in Unix seconds."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-01-10T14:49:28Z") from None


def parse_time(text: str) -> float:
    """Return a time, or a length before now, in Unix seconds."""
    if _LENGTH.fullmatch(text):
        return time.time() - parse_length(text)
    try:
        return parse_instant(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor a length before now such as 2h") from None


def parse_seconds(text: str) -> float:
    """Return how long to wait for an answer, in seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 600")
    return seconds
