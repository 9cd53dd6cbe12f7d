"""The dashboard of the exporter's log, by Loki."""

from __future__ import annotations

from tools.dashboards.model import Dashboard, Panel, Row

_LINES = '{service="cdn77-exporter"}'
LOGS = Dashboard(
    "cdn77-exporter-logs",
    "CDN77 exporter: log lines",
    "The exporter's own log, by Loki.",
    (),
    (
        Row(
            "Log",
            (
                Panel(
                    "Warnings and errors",
                    "logs",
                    "short",
                    ((f'{_LINES} | level=~"warning|error"', ""),),
                    "What each means and what to do: docs/operations.md.",
                    24,
                    10,
                ),
                Panel(
                    "Lines by message",
                    "timeseries",
                    "short",
                    ((f"sum by (message) (count_over_time({_LINES} | json [$__auto]))", "{{message}}"),),
                    "From the closed list.",
                    12,
                ),
                Panel(
                    "Slowest files",
                    "logs",
                    "short",
                    ((f'{_LINES} | message="file_counted" | json | fetch_seconds > 2 or decode_seconds > 1', ""),),
                    "Files that took long to download or to decode.",
                    12,
                ),
                Panel("All", "logs", "short", ((_LINES, ""),), "The newest first.", 24, 12),
            ),
        ),
    ),
    logs=True,
)
