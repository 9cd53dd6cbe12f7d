"""Judges variables together: names that look misspelt, combinations that cannot be, values that are seldom meant."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from cdn77_exporter.core.measures import Histograms
from cdn77_exporter.settings.metrics import faults_between, measures_in_force
from cdn77_exporter.settings.parse import InBucket
from cdn77_exporter.settings.variables import VARIABLES


def misspelt(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables that are set, are not known, and look like one that is: name -> the one that was meant."""
    known = {variable.name for variable in VARIABLES}
    known |= {f"{variable.name}_FILE" for variable in VARIABLES if variable.from_file}
    found = {}
    for name in sorted(environ.keys() - known):
        if len(name) <= 40:
            close = difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.85)
            if close and _same_family(name.upper(), close[0]):
                found[name] = close[0]
    return found


def _same_family(name: str, known: str) -> bool:
    """Tell whether the first words look alike too: AWS_CA_BUNDLE is nobody's misspelling of S3_CA_BUNDLE."""
    first, other = name.partition("_")[0], known.partition("_")[0]
    return name.count("_") != known.count("_") or difflib.SequenceMatcher(None, first, other).ratio() >= 0.6


def combinations(values: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Find faults between variables, each of which is right by itself."""

    def given(name: str) -> bool:
        return name in environ or f"{name}_FILE" in environ

    user, password, token = (given(f"PROMETHEUS_{name}") for name in ("USER", "PASSWORD", "BEARER_TOKEN"))
    if user and not password:
        yield "PROMETHEUS_PASSWORD is not set but PROMETHEUS_USER is; set both or neither."
    if password and not user:
        yield "PROMETHEUS_USER is not set but PROMETHEUS_PASSWORD is; set both or neither."
    if token and (user or password):
        yield "PROMETHEUS_BEARER_TOKEN is set beside PROMETHEUS_USER or PROMETHEUS_PASSWORD; choose one way to log in."
    if (user or token) and "authorization" in {name.lower() for name in values["prometheus_headers"] or ()}:
        yield "PROMETHEUS_HEADERS has an Authorization header beside another login; choose one way to log in."
    if values["prometheus_user"] and password and not token and ":" in values["prometheus_user"]:
        yield "PROMETHEUS_USER has a colon, which basic authentication cannot carry; use a name without one."
    if given("PROMETHEUS_CLIENT_CERT") != given("PROMETHEUS_CLIENT_KEY"):
        missing = "KEY" if given("PROMETHEUS_CLIENT_CERT") else "CERT"
        yield f"PROMETHEUS_CLIENT_{missing} is not set but its counterpart is; set certificate and key, or neither."
    window, tick = values["session_window_seconds"], values["tick_seconds"]
    if window is not None and tick is not None and window < tick:
        yield f"SESSION_WINDOW_SECONDS ({window}) is shorter than TICK_SECONDS ({tick}); set at least one tick."
    if values["external_labels"] is not None:
        measures = measures_in_force(
            values["histograms"] or Histograms.OFF,
            values["metrics_off"] or (),
            values["labels_off"] or (),
            values["measures_file"],
        )
        yield from faults_between(values["external_labels"], measures)
    yield from _windows(values)
    yield from _places(values)


def _windows(values: Mapping[str, Any]) -> Iterator[str]:
    """Find windows of viewers that do not go together."""
    tick, presence, gap = (values[name] for name in ("tick_seconds", "presence_seconds", "session_gap_seconds"))
    for window in values["active_windows"] or ():
        if tick is not None and window < tick:
            yield f"ACTIVE_WINDOWS has one ({window}) shorter than TICK_SECONDS ({tick}); set at least one tick."
    if presence is not None and tick is not None and presence < tick:
        yield f"PRESENCE_SECONDS ({presence}) is shorter than TICK_SECONDS ({tick}); set at least one tick."
    if gap is not None and presence is not None and gap < presence:
        yield f"SESSION_GAP_SECONDS ({gap}) is shorter than PRESENCE_SECONDS ({presence}); set at least as much."


def _places(values: Mapping[str, Any]) -> Iterator[str]:
    """Find faults of folders in the bucket: what the exporter writes must not be where it looks for log files."""
    prefix, quarantine, state = values["s3_prefix"], values["quarantine_prefix"], values["state_path"]
    if prefix is None:
        return
    if quarantine == "":
        yield "QUARANTINE_PREFIX is the whole bucket; name a folder of its own, outside of S3_PREFIX."
    elif quarantine is not None and _lies_under(quarantine, prefix):
        yield f"QUARANTINE_PREFIX (`{quarantine}`) lies under S3_PREFIX; name a folder outside of it."
    if isinstance(state, InBucket) and state.bucket == values["s3_bucket"] and _lies_under(state.prefix, prefix):
        yield f"STATE_PATH (`{state}`) lies under S3_PREFIX; name another prefix or another bucket."


def _lies_under(folder: str, prefix: str) -> bool:
    if not prefix:  # the hour folders lie in the bucket itself; only a folder of that form is in the way
        return not folder or re.match(r"\d{8}(/|$)", folder) is not None
    return folder == prefix or folder.startswith(f"{prefix}/")


def doubts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find what can be meant so, but seldom is: variable and what looks wrong."""
    url = urlsplit(values["prometheus_url"])
    if url.path in {"", "/"}:
        yield "PROMETHEUS_URL", "has no path; remote-write endpoints usually have one, such as `/api/v1/write`"
    secret = values["prometheus_password"] or values["prometheus_bearer_token"]
    for name, parts, sends_secret in (
        ("PROMETHEUS_URL", url, bool(secret)),
        ("S3_ENDPOINT", urlsplit(values["s3_endpoint"]), False),
    ):
        if parts.scheme == "http" and sends_secret and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
            yield name, "is http, so that the login crosses the network in clear; use https"
    if values["lookback_hours"] * 3600 < values["backfill_window"]:
        yield "BACKFILL_WINDOW", "is longer than LOOKBACK_HOURS, so that older files are not even listed"
    places = values["geoip_db_path"]
    if places is not None and not (places.is_file() and os.access(places, os.R_OK)):
        yield "GEOIP_DB_PATH", f"names no file that can be read ({places}); viewers by region begin when there is one"
    if values["quarantine_prefix"] and values["keep_files"]:
        yield "QUARANTINE_PREFIX", "moves nothing while KEEP_FILES is on: files that cannot be read stay where they are"
