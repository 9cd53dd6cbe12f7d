"""The dashboard of one stream, to which its row in the table of streams leads."""

from __future__ import annotations

from dataclasses import replace

from tools.dashboards.model import Dashboard, Panel, Row
from tools.dashboards.queries import BYTES, PLAYERS, largest, rate
from tools.dashboards.traffic import (
    ERRORS,
    LAST_WEEK,
    MONTH,
    NOW,
    PLACES,
    POPS_TABLE,
    SPAN,
    SPEED,
    TRACKS,
    TRAFFIC_ROW,
    VARIABLES,
    VIEWERS_ROW,
)

_OF_STREAM = Row(
    "The stream",
    (
        Panel(
            "Viewers by device over time",
            "timeseries",
            "short",
            ((f"sum by (device_type) ({PLAYERS})", "{{device_type}}"),),
            "Players that are watching.",
            12,
            stacked=True,
        ),
        Panel(
            "Bandwidth by CDN",
            "timeseries",
            "bps",
            ((largest(f"{rate(BYTES, 'cdn_id')} * 8", "cdn_id", BYTES), "{{cdn_id}}"),),
            "The twenty CDNs with the most bytes in this span.",
            12,
            stacked=True,
        ),
        *(panel for panel in TRAFFIC_ROW.panels if not panel.title.endswith("by stream")),
    ),
)
_LATE = Row("Points of presence", (replace(POPS_TABLE, width=24),))

STREAM = Dashboard(
    "cdn77-stream",
    "CDN77 stream",
    "One stream. Every graph lies 90 s behind, since the newest log files are still on their way.",
    (replace(VARIABLES[0], single=True), *VARIABLES[1:]),
    (NOW, SPAN, _OF_STREAM, LAST_WEEK, ERRORS, SPEED, VIEWERS_ROW, TRACKS, PLACES, _LATE, MONTH),
)
