"""Turns what libraries write to `logging` into messages, so that every line is JSON and masked."""

from __future__ import annotations

import logging

from cdn77_exporter.telemetry.logger import Telemetry


def adopt_logging(telemetry: Telemetry) -> None:
    """Send warnings of libraries, and Python's own, to the log as `library_warned`; replaces all handlers."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_Adopted(telemetry))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)


class _Adopted(logging.Handler):
    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__(logging.WARNING)
        self._telemetry = telemetry

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
            self._telemetry("library_warned", library=record.name, text=text)
        except Exception:  # a warning that cannot be formatted must not become an error of its own
            self._telemetry("library_warned", library=record.name, text="a warning that cannot be formatted")
