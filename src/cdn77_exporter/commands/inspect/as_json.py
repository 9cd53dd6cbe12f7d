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
        "saturated_sums": inspection.saturated,
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
    if inspection.trial is not None:
        found["measures"] = [
            {
                "name": tried.family.name,
                "kind": str(tried.family.kind),
                "label_sets": len(tried.events),
                "label_sets_complete": tried.complete,
                "limit": tried.limit,
                "own": len(tried.own),
                "other_share": round(tried.other, 6),
                "series": tried.series,
                "total": tried.total,
                "top": [{"labels": labels, "value": value} for labels, value in tried.top(top)],
            }
            for tried in inspection.trial.tried
        ]
    return json.dumps(found) + "\n"


def _instant(ms: int) -> str | None:
    return instant(ms / 1000, "milliseconds") if ms else None
