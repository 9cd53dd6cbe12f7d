"""Describes the errors that end the service: what happened, where, and the calls that led there."""

from __future__ import annotations

import traceback
from pathlib import Path

from cdn77_exporter.telemetry.fields import TEXT_CHARACTERS

_PACKAGE = Path(__file__).parent.parent
_CALLS = 30
_ERRORS = 5


def leaves(error: BaseException) -> list[BaseException]:
    """Return the errors within a group, at most five; one that several tasks share is returned once."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    found: list[BaseException] = []
    for part in error.exceptions:
        found += [leaf for leaf in leaves(part) if leaf not in found]
    return found[:_ERRORS]


def summary(error: BaseException) -> str:
    """Return the error's type and text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def calls(error: BaseException) -> str:
    """Return the end of the traceback, without the values of variables."""
    whole = "".join(traceback.TracebackException.from_exception(error, limit=-_CALLS).format())
    return whole[-TEXT_CHARACTERS:]


def stage(error: BaseException) -> str:
    """Return the innermost function of this package through which the error came, as `module.function`."""
    found = "unknown"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_PACKAGE):
            module = ".".join(path.relative_to(_PACKAGE).with_suffix("").parts)
            found = f"{module}.{frame.f_code.co_qualname}"
    return found
