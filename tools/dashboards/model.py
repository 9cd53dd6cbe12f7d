"""What a dashboard consists of: rows of panels, and variables at the top."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `queries`: what is asked, and how the answer is called (in a table: the column).

    `kind`: timeseries, stat, bargauge, table, list (a table of the labels of one query) or logs. `steps`: from which
    value on it is shown yellow and red.
    """

    title: str
    kind: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    help: str
    width: int = 8
    height: int = 8
    steps: tuple[float, float] | None = None
    stacked: bool = False
    units: tuple[str, ...] = ()  # of a table's columns
    most: float | None = None
    since: str = ""  # a span of its own, such as this month: now/M
    links: tuple[tuple[str, str], ...] = ()  # of a table: the column, and the dashboard that its value leads to
    empty: str = ""  # what is shown when there is no value


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: tuple[Panel, ...]
    collapsed: bool = False  # its queries are asked when it is opened


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of the dashboard: the values of a label. `single`: one of them, not several or all."""

    name: str
    title: str
    query: str
    single: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One file."""

    uid: str
    title: str
    help: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    logs: bool = False
    since: str = "now-3h"
