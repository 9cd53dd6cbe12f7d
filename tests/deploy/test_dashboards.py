"""Dashboards: the files are what the tables give, and panels are as they should be; test_panels asks their queries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdn77_exporter.core.measures import MEASURES
from tests.deploy.tools import DEPLOY
from tools.dashboards import __main__ as dashboards
from tools.dashboards.grafana import unused

FOLDER = DEPLOY / "grafana" / "dashboards"
FILES = sorted(path.name for path in FOLDER.glob("*.json"))


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels, those of collapsed rows too."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries() -> Iterator[tuple[str, str, str]]:
    """File, panel and query, for all panels that ask Prometheus."""
    for name in FILES:
        dashboard = json.loads((FOLDER / name).read_text("utf-8"))
        for panel in panels(dashboard):
            for target in panel.get("targets", ()):
                if target["datasource"]["type"] == "prometheus":
                    yield name, panel["title"], target["expr"]
        for variable in dashboard["templating"]["list"]:
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", ""))
            if found:
                yield name, f"variable {variable['name']}", f"count by ({found[2]}) ({found[1]})"


def test_dashboards_are_what_the_tables_give() -> None:
    """Nobody edited a dashboard by hand, and none is missing."""
    assert dashboards.stale(FOLDER) == []
    assert dashboards.main(["--check"]) == 0
    assert sorted(dashboards.DASHBOARDS) == FILES


def test_stale_dashboards_are_found(tmp_path: Path) -> None:
    """A changed and a missing file are both named."""
    (tmp_path / "traffic.json").write_text("{}")
    assert dashboards.stale(tmp_path) == list(dashboards.DASHBOARDS)


def test_traffic_is_never_asked_for_at_now() -> None:
    """Every selector of a traffic metric lies 90 s behind, but for the lists of label values."""
    for file, panel, query in queries():
        if not panel.startswith("variable") and panel != "Age of the numbers":
            later = r"(?: @ end\(\))? offset (?:90s|1w1m30s)"
            selectors = re.findall(rf"(?<!:)\bcdn77_(?!exporter_)\w+(?:\{{[^}}]*\}})?(?:\[[^\]]*\])?({later})?", query)
            assert all(selectors), (file, panel, query)


def test_every_traffic_metric_is_shown() -> None:
    """No metric is pushed that no panel looks at, but for those that say the same by another label."""
    shown = " ".join(query for _, _, query in queries())
    missing = {metric.name for metric in MEASURES.rows if metric.name not in shown}
    assert missing == {
        "cdn77_viewers_by_device_total",
        "cdn77_viewers_by_region_total",
        "cdn77_time_to_first_byte_ms",
    }


def test_variables_apply_or_say_that_they_do_not() -> None:
    """Whatever the choices at the top do not select is named in the panel's description."""
    told = 0
    for name, dashboard in dashboards.DASHBOARDS.items():
        found = panels(json.loads((FOLDER / name).read_text("utf-8")))
        made = {panel["title"]: panel for panel in found if panel["type"] != "row"}
        for panel in (panel for row in dashboard.rows for panel in row.panels):
            names = unused(panel, dashboard)
            description = made[panel.title]["description"]
            assert bool(names) == ("does not apply here" in description)
            assert all(one in description.rpartition("The choice of ")[2] for one in names)
            told += len(names)
    assert told > 10


def test_no_panel_draws_more_than_twenty_lines() -> None:
    """What there may be hundreds of is chosen once, by the whole span; never by a `topk` at each instant."""
    many = {"stream_name", "pop", "cdn_id", "track", "cache_status", "response_status", "country", "region"}
    for name in ("traffic.json", "stream.json"):
        for panel in panels(json.loads((FOLDER / name).read_text("utf-8"))):
            for target in panel.get("targets", ()) if panel["type"] == "timeseries" else ():
                by = set(re.findall(r"\w+", " ".join(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))))
                assert bool(by & many) == ("@ end()" in target["expr"]), (name, panel["title"])
                assert all(int(most) <= 20 for most in re.findall(r"topk\((\d+)", target["expr"]))


def test_links_lead_to_dashboards_and_choose_what_they_have() -> None:
    """Each data link names a dashboard that is there and a variable of it."""
    known = {board.uid: {one.name for one in board.variables} for board in dashboards.DASHBOARDS.values()}
    found = []
    for name in FILES:
        text = (FOLDER / name).read_text("utf-8")
        found += re.findall(r"/d/([\w-]+)\?var-(\w+)=", text)
    assert len(found) > 5
    assert all(variable in known[uid] for uid, variable in found)


@pytest.mark.parametrize("name", FILES)
def test_panels_lie_side_by_side(name: str) -> None:
    """Panels have ids of their own, fit the grid and do not cover each other."""
    dashboard = json.loads((FOLDER / name).read_text("utf-8"))
    taken: dict[tuple[int, int], str] = {}
    ids = [panel["id"] for panel in panels(dashboard)]
    assert len(ids) == len(set(ids))
    for panel in panels(dashboard):
        place: dict[str, Any] = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} covers {taken[x, y]}"
                taken[x, y] = panel["title"]
