"""Tables to what Grafana reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from tools.dashboards.model import Dashboard, Panel, Variable

_COLUMNS = 24
_METRICS = {"type": "prometheus", "uid": "${datasource}"}
_LOGS = {"type": "loki", "uid": "${loki}"}
_TABLES = ("table", "list")
_SINGLE = {"multi": False, "includeAll": False}
_ALL = {"multi": True, "includeAll": True, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}


def made(dashboard: Dashboard) -> dict[str, Any]:
    """Return the dashboard as Grafana's JSON."""
    source = (
        Variable("loki", "Data source", "loki")
        if dashboard.logs
        else Variable("datasource", "Data source", "prometheus")
    )
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.help,
        "tags": ["cdn77"],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 41,
        "time": {"from": dashboard.since, "to": "now"},
        "timezone": "browser",
        "links": [_link()],
        "templating": {"list": [_source(source), *map(_variable, dashboard.variables)]},
        "annotations": {"list": [] if dashboard.logs else [_restarts()]},
        "panels": list(_placed(dashboard)),
    }


def _placed(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Yield headings and panels with their ids and places; those of a collapsed row are within its heading."""
    ids = count(1)
    top = 0
    for row in dashboard.rows:
        heading = {
            "id": next(ids),
            "type": "row",
            "title": row.title,
            "collapsed": row.collapsed,
            "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1},
            "panels": [],
        }
        top += 1
        left = height = 0
        panels = []
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                top, left, height = top + height, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            panels.append({"id": next(ids), "gridPos": place, **_panel(panel, dashboard)})
            left, height = left + panel.width, max(height, panel.height)
        top += height
        if row.collapsed:
            yield heading | {"panels": panels}
        else:
            yield from (heading, *panels)


def _restarts() -> dict[str, Any]:
    """Return the marks of the exporters' starts: when each process began, with its version."""
    return {
        "name": "Starts of the exporter",
        "datasource": _METRICS,
        "enable": True,
        "iconColor": "purple",
        "expr": "process_start_time_seconds * on (job, instance) group_left (version) cdn77_exporter_build_info * 1000",
        "step": "60s",
        "useValueForTime": True,
        "titleFormat": "Exporter started",
        "textFormat": "{{instance}}, version {{version}}",
    }


def _link() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "tags": ["cdn77"],
        "title": "CDN77",
        "asDropdown": False,
        "keepTime": True,
        "icon": "",
    }


def _source(variable: Variable) -> dict[str, Any]:
    return {"name": variable.name, "label": variable.title, "type": "datasource", "query": variable.query, "refresh": 1}


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.title,
        "type": "query",
        "datasource": _METRICS,
        "query": {"query": variable.query, "refId": "variable"},
        "definition": variable.query,
        "refresh": 2,
        "sort": 1,
        **(_SINGLE if variable.single else _ALL),
    }


def unused(panel: Panel, dashboard: Dashboard) -> list[str]:
    """Return the titles of the variables that select nothing in a panel."""
    text = " ".join(query for query, _ in panel.queries)
    return [one.title for one in dashboard.variables if f"${one.name}" not in text]


def _help(panel: Panel, dashboard: Dashboard) -> str:
    """Return the description, with the variables that do not apply."""
    names = unused(panel, dashboard)
    if not names:
        return panel.help
    several = len(names) > 1
    words = f"{', '.join(names[:-1])} and {names[-1]}" if several else names[0]
    return f"{panel.help} The choice of {words} does not apply here."


def _panel(panel: Panel, dashboard: Dashboard) -> dict[str, Any]:
    source = _LOGS if dashboard.logs else _METRICS
    own_span = {"timeFrom": panel.since, "hideTimeOverride": False} if panel.since else {}
    return own_span | {
        "type": "table" if panel.kind == "list" else panel.kind,
        "title": panel.title,
        "description": _help(panel, dashboard),
        "datasource": source,
        "targets": [_target(panel, source, *query, place) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _columns(panel)},
        "options": _options(panel),
        "transformations": _transformations(panel),
    }


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _target(panel: Panel, source: dict[str, str], query: str, legend: str, place: int) -> dict[str, Any]:
    target: dict[str, Any] = {"refId": _letter(place), "datasource": source, "expr": query}
    if source is _LOGS:
        return target | {"queryType": "range", "legendFormat": legend}
    instant = panel.kind != "timeseries"
    return target | {
        "instant": instant,
        "range": not instant,
        "format": "table" if panel.kind in _TABLES else "time_series",
        "legendFormat": legend if panel.kind not in _TABLES and legend else "__auto",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.steps:
        steps += [{"color": "yellow", "value": panel.steps[0]}, {"color": "red", "value": panel.steps[1]}]
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind != "stat":
        defaults["min"] = 0
    if panel.empty:
        defaults["noValue"] = panel.empty
    if any("{{stream_name}}" in legend for _, legend in panel.queries):
        defaults["links"] = [_link_to("cdn77-stream", "stream_name", "${__field.labels.stream_name:percentencode}")]
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 5,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": 60_000,
            "stacking": stacking,
        }
    if panel.kind == "stat" and not panel.steps:
        defaults["color"] = {"mode": "fixed", "fixedColor": "text"}
    return defaults | ({"max": panel.most} if panel.most is not None else {})


def _columns(panel: Panel) -> list[dict[str, Any]]:
    if panel.kind != "table":
        return []
    units = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for (_, name), unit in zip(panel.queries, panel.units, strict=True)
    ]
    links = [
        {
            "matcher": {"id": "byName", "options": column},
            "properties": [{"id": "links", "value": [_link_to(uid, column, "${__value.raw:percentencode}")]}],
        }
        for column, uid in panel.links
    ]
    return units + links


def _link_to(uid: str, label: str, value: str) -> dict[str, str]:
    """Return a link to a dashboard with a label's value chosen, the same span and the same data source."""
    name = label.removesuffix("_name")
    address = f"/d/{uid}?var-{name}={value}&${{__url_time_range}}&${{datasource:queryparam}}"
    return {"title": f"This {name}'s own view", "url": address}


def _options(panel: Panel) -> dict[str, Any]:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "stat":
        return {"reduceOptions": last, "colorMode": "value", "graphMode": "none", "textMode": "auto"}
    if panel.kind == "bargauge":
        return {"reduceOptions": last, "displayMode": "basic", "orientation": "horizontal", "valueMode": "text"}
    if panel.kind == "list":
        return {"showHeader": True}
    if panel.kind == "table":
        return {"showHeader": True, "sortBy": [{"displayName": panel.queries[0][1], "desc": True}]}
    if panel.kind == "logs":
        return {"showTime": True, "wrapLogMessage": True, "sortOrder": "Descending", "enableLogDetails": True}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def _transformations(panel: Panel) -> list[dict[str, Any]]:
    if panel.kind == "list":
        return [
            {"id": "organize", "options": {"excludeByName": dict.fromkeys(("Time", "Value", "__name__", "job"), True)}}
        ]
    if panel.kind != "table":
        return []
    names = {f"Value #{_letter(place)}": name for place, (_, name) in enumerate(panel.queries)}
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}},
    ]
