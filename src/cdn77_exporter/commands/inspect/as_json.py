"""Prints the result of `inspect` as one JSON object for programs."""

from __future__ import annotations

import json
from typing import Any

from cdn77_exporter.commands.inspect.inspection import Inspection, largest
from cdn77_exporter.commands.output import instant, printable

# Names that anybody can invent are not listed without end.
_LISTED = 1000


def to_json(inspection: Inspection, top: int) -> str:
    """Return one line of JSON, with the `top` streams that have most requests."""
    found: dict[str, Any] = {
        "files": inspection.files,
        "lines": inspection.lines,
        "events": inspection.events,
        "requests": sum(sums.requests for sums in inspection.streams.values()),
        "bytes": inspection.bytes,
        "streams": len(inspection.streams),
        "rejects": inspection.rejects,
        "ignored": inspection.ignored,
        "unreadable": [{"path": printable(path), "reason": reason} for path, reason in inspection.unreadable],
        "oldest": _instant(inspection.oldest_ms),
        "newest": _instant(inspection.newest_ms),
        "ahead_of_now": inspection.ahead,
        "viewers": inspection.viewers,
        "viewers_complete": inspection.viewers_complete,
        "statuses": largest(inspection.statuses, _LISTED),
        "cache_statuses": largest(inspection.caches, _LISTED),
        "pops": largest(inspection.pops, _LISTED),
        "viewers_by_device": largest(inspection.devices, _LISTED),
        "viewers_by_country": largest(inspection.countries, _LISTED),
        "unknown_agents": inspection.unknown_agents.frequent(_LISTED),
        "by_stream": {
            name: {"requests": sums.requests, "bytes": sums.bytes, "viewers": sums.viewers}
            for name, sums in inspection.top_streams(top)
        },
    }
    return json.dumps(found) + "\n"


def _instant(ms: int) -> str | None:
    return instant(ms / 1000, "milliseconds") if ms else None
