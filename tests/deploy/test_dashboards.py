"""Dashboards: the files are what the tables give, and every query has an answer from a real Prometheus."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cdn77_exporter.core.measures import MEASURES
from tests.deploy.tools import DEPLOY
from tests.support.filled_prometheus import filled_prometheus
from tests.support.prometheus import Prometheus

FOLDER = DEPLOY / "grafana" / "dashboards"
FILES = sorted(path.name for path in FOLDER.glob("*.json"))


def build() -> ModuleType:
    """The program that writes the dashboards."""
    spec = importlib.util.spec_from_file_location("grafana_build", DEPLOY / "grafana" / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def queries() -> Iterator[tuple[str, str, str]]:
    """File, panel and query, for all panels that ask Prometheus."""
    for name in FILES:
        dashboard = json.loads((FOLDER / name).read_text("utf-8"))
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                if target["datasource"]["type"] == "prometheus":
                    yield name, panel["title"], target["expr"]
        for variable in dashboard["templating"]["list"]:
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", ""))
            if found:
                yield name, f"variable {variable['name']}", f"count by ({found[2]}) ({found[1]})"


def asked(query: str) -> str:
    """The query as Grafana sends it with everything selected."""
    query = query.replace("$__rate_interval", "1m").replace("$__range", "10m")
    return re.sub(r"\$\w+", ".*", query)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with half an hour of every series that the code can write."""
    with filled_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


def test_dashboards_are_what_the_tables_give() -> None:
    """Nobody edited a dashboard by hand, and none is missing."""
    module = build()
    assert module.stale(FOLDER) == []
    assert sorted(module.DASHBOARDS) == FILES


def test_stale_dashboards_are_found(tmp_path: Path) -> None:
    """A changed and a missing file are both named."""
    module = build()
    (tmp_path / "traffic.json").write_text("{}")
    assert module.stale(tmp_path) == list(module.DASHBOARDS)


@pytest.mark.prometheus
@pytest.mark.parametrize(("file", "panel", "query"), list(queries()))
def test_every_query_has_an_answer(prometheus: Prometheus, file: str, panel: str, query: str) -> None:
    """With half an hour of traffic every panel shows numbers."""
    found = prometheus.query(asked(query))
    assert found, f"{file}: {panel} shows nothing"
    assert all(math.isfinite(value) for value in found.values()), (file, panel, found)


def test_traffic_is_never_asked_for_at_now() -> None:
    """Every selector of a traffic metric lies 90 s behind, but for the lists of label values."""
    for file, panel, query in queries():
        if not panel.startswith("variable"):
            selectors = re.findall(r"(?<!:)\bcdn77_(?!exporter_)\w+(?:\{[^}]*\})?(?:\[[^\]]*\])?( offset 90s)?", query)
            assert all(selectors), (file, panel, query)


def test_every_traffic_metric_is_shown() -> None:
    """No metric is pushed that no panel looks at, but for those that say the same by another label."""
    shown = " ".join(query for _, _, query in queries())
    missing = {metric.name for metric in MEASURES.rows if metric.name not in shown}
    assert missing == {
        "cdn77_viewers_by_device_total",
        "cdn77_viewers_by_country_total",
        "cdn77_viewers_by_region_total",
        "cdn77_time_to_first_byte_ms",
    }


@pytest.mark.parametrize("name", FILES)
def test_panels_lie_side_by_side(name: str) -> None:
    """Panels have ids of their own, fit the grid and do not cover each other."""
    dashboard = json.loads((FOLDER / name).read_text("utf-8"))
    taken: dict[tuple[int, int], str] = {}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} covers {taken[x, y]}"
                taken[x, y] = panel["title"]
