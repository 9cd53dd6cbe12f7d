"""Turns the environment into one frozen `Settings`, reports all its faults at once, and keeps secrets to itself."""

from cdn77_exporter.settings.load import (
    DEFAULT_HTTP_ADDR,
    DEFAULT_STREAM_PATTERN,
    FILES_A_CALL,
    SECTIONS,
    VARIABLES,
    Settings,
    Variable,
    field_names,
    host_to_ask,
    load,
    parse_http_addr,
)

__all__ = [
    "DEFAULT_HTTP_ADDR",
    "DEFAULT_STREAM_PATTERN",
    "FILES_A_CALL",
    "SECTIONS",
    "VARIABLES",
    "Settings",
    "Variable",
    "field_names",
    "host_to_ask",
    "load",
    "parse_http_addr",
]
