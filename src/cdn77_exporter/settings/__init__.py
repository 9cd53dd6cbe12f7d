"""Turns the environment into one frozen `Settings`, reports all its faults at once, and keeps secrets to itself."""

from cdn77_exporter.settings.load import load, load_some
from cdn77_exporter.settings.parse import (
    DEFAULT_HTTP_ADDR,
    File,
    InBucket,
    Off,
    StatePlace,
    host_to_ask,
    http_address,
)
from cdn77_exporter.settings.values import Settings
from cdn77_exporter.settings.variables import SECTIONS, VARIABLES, Variable

__all__ = [
    "DEFAULT_HTTP_ADDR",
    "SECTIONS",
    "VARIABLES",
    "File",
    "InBucket",
    "Off",
    "Settings",
    "StatePlace",
    "Variable",
    "host_to_ask",
    "http_address",
    "load",
    "load_some",
]
