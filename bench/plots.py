"""Draws what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

_WAYS = {
    "inspect": "inspect",
    "pure": "inspect, without the compiled scan",
    "plain": "gzip + json + dicts",
    "duckdb": "DuckDB",
    "polars": "Polars",
    "chdb": "ClickHouse (chdb)",
}
_LARGE = {
    "series": ("series that are live", "tick_cpu_seconds", "CPU seconds of a tick"),
    "viewers": ("viewers in the window", "tick_cpu_seconds", "CPU seconds of a tick that sees 50,000"),
    "state": ("series, with ten times as many viewers", "restore_seconds", "seconds of a restore"),
}


def draw(found: dict[str, dict[str, Any]], folder: Path) -> None:
    """Draw what there is of the parts, into files `bench-*.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    if "decode" in found:
        for kind, of in found["decode"]["kinds"].items():
            title = f"CPU seconds for {found['decode']['files']} files of {kind} viewers, start-up included"
            _save(_decode(of["ways"], title), folder / f"bench-decode-{kind}.png")
    if found.get("memory", {}).get("rows"):
        memory = found["memory"]
        _save(_memory(memory["rows"], memory["bars"]["peak_bytes"]), folder / "bench-memory.png")
    if "large" in found:
        _save(_large(found["large"]), folder / "bench-large.png")
    if found.get("latency", {}).get("ways"):
        _save(_latency(found["latency"]["ways"]), folder / "bench-latency.png")


def _figure() -> tuple[Any, Any]:
    figure, axes = pyplot.subplots(figsize=(7.5, 4), dpi=110, layout="constrained")
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    # Without the version of the library, the same results give the same bytes.
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)


def _decode(ways: dict[str, Any], title: str) -> Any:
    figure, axes = _figure()
    there = [way for way in _WAYS if way in ways][::-1]
    values = [ways[way]["cpu_seconds"] for way in there]
    errors = [[of["median"] - of["least"] for of in values], [of["most"] - of["median"] for of in values]]
    colours = ["#a9b4c2"] * (len(there) - 1) + ["#2a6f97"]
    medians = [of["median"] for of in values]
    axes.barh([_WAYS[way] for way in there], medians, xerr=errors, color=colours, ecolor="#444")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _memory(rows: list[dict[str, Any]], bar: float) -> Any:
    figure, axes = _figure()
    for row in rows:
        samples = row["samples_bytes"]
        step = row["backlog_seconds"] / max(1, len(samples))
        seconds = [step * number for number in range(len(samples))]
        axes.plot(seconds, [size / 1e6 for size in samples], label=f"{row['viewers']} viewers")
    axes.axhline(bar / 1e6, color="#888", linewidth=0.8, linestyle="--")
    axes.set_xlabel("seconds since the start of the process")
    axes.set_ylabel("resident memory, MB")
    axes.set_ylim(bottom=0)
    axes.grid(True, alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _large(found: dict[str, Any]) -> Any:
    figure, axes = _figure()
    for part, (what, name, words) in _LARGE.items():
        of = found[part]
        slope = of["exponents"][name]
        label = f"{words}, by {what}" + (f" (exponent {slope:.2f})" if slope is not None else "")
        axes.loglog(of["sizes"], [row[name] for row in of["rows"]], "o-", label=label)
    axes.set_xlabel("how many")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def _latency(ways: dict[str, Any]) -> Any:
    figure, axes = _figure()
    for interval, of in ways.items():
        axes.plot(of["curve"], range(101), label=f"POLL_INTERVAL={interval}")
    axes.axhline(95, color="#888", linewidth=0.8, linestyle="--")
    axes.set_xlabel("seconds from the event to the query")
    axes.set_ylabel("% of events")
    axes.set_xlim(left=0)
    axes.grid(True, alpha=0.25)
    axes.legend()
    return figure
