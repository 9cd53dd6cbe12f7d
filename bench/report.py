"""Writes `docs/performance.md` and its plots from the results that are there, and says which parts lack."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.__main__ import PARTS
from bench.measuring import ROOT, Result, load_result

PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"
_NAMES = {
    "inspect": "`inspect`",
    "pure": "`inspect`, without the compiled scan",
    "plain": "gzip + json + dicts",
    "duckdb": "DuckDB",
    "polars": "Polars",
    "chdb": "ClickHouse (chdb)",
}
_HEAD = """# Performance

<!-- Written by `make bench` from bench/results/*.json; do not edit. -->

Every number here is measured by `make bench` and can be measured again. Ratios are taken within one run, the contenders
one after the other in a new order each round, so that what disturbs one disturbs all; medians are given with the least
and the most. What is measured is CPU time where possible, which depends less on what else the machine does.
"""
_REPEAT = """
## To repeat it

```sh
make bench                # everything: about half an hour, ten minutes of it in real time
make bench PART=decode    # one part
make bench-smoke          # on little data, only to see that it runs
```

The other engines are in the extra `bench`. Results are kept in `bench/results/`, and this page is written from them, so
that parts can be measured one by one, on a machine that does nothing else.
"""


def write(results: Path) -> None:
    """Write the page, and plots for the parts that there are."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    found = {part: load_result(part, results) for part in PARTS}
    text = _HEAD
    for part, result in found.items():
        text += "\n" + (f"## {part.capitalize()}\n\nNot measured yet.\n" if result is None else _section(part, result))
    text += _REPEAT + _machines([result for result in found.values() if result is not None])
    PAGE.write_text(text)
    print(f"wrote {PAGE.relative_to(ROOT)}")


def _section(part: str, result: Result) -> str:
    lines = list(SECTIONS[part](result.found))
    if result.left_out:
        lines += ["", "Left out: " + "; ".join(result.left_out) + "."]
    lines += ["", f"*Measured {result.at}; load before: {result.load_before}.*"]
    if result.smoke:
        lines += ["", "**On little data: this says nothing about speed.**"]
    return "\n".join(lines) + "\n"


def _table(*rows: list[str]) -> Iterator[str]:
    head, *body = rows
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in body:
        yield "| " + " | ".join(row) + " |"


def _spread(of: dict[str, float], form: str = "{:.2f}", scale: float = 1.0) -> str:
    median, least, most = (form.format(of[name] * scale) for name in ("median", "least", "most"))
    return f"{median} ({least}-{most})"


def _bar(value: float, bar: float, form: str, *, least: bool = False) -> str:
    kept = value >= bar if least else value <= bar
    words = "at least" if least else "at most"
    return f"{words} {form.format(bar)}: {'kept' if kept else '**missed**'}"


# The parts


def _decode(found: dict[str, Any]) -> Iterator[str]:
    ways, mib = found["ways"], 1 / 2**20
    yield "## One core"
    yield ""
    yield (
        f"{found['files']} files of {found['lines']:,} lines, start-up included: sums per tick, stream, CDN, cache "
        "status, POP and status, and distinct viewers, with one thread. All ways come to the same numbers; that is "
        "checked before anything is measured."
    )
    yield ""
    rows = [["way", "CPU seconds", "`inspect` against it", "bar", "peak memory (MiB)"]]
    for way, name in _NAMES.items():
        if way not in ways:
            continue
        ratio = found["cpu_ratios"].get(way)
        bar = found["bars"].get(way)
        rows.append(
            [
                name,
                _spread(ways[way]["cpu_seconds"]),
                _spread(ratio) if ratio else "",
                _bar(ratio["median"], bar, "{:.2f}") if ratio and bar else "",
                f"{ways[way]['peak_bytes']['median'] * mib:.0f}",
            ]
        )
    yield from _table(*rows)
    yield ""
    above = found["peak_above_idle_bytes"]
    kept = _bar(above * mib, found["memory_bar"] * mib, "{:.0f} MiB")
    yield f"Memory above an idle interpreter: {above * mib:.1f} MiB, {kept}."
    yield ""
    steps = found["split"]
    inflate, typed, pure = (steps[name]["median"] for name in ("inflate", "inflate_and_decode", "whole_pure"))
    yield f"Where the time of a file goes (CPU milliseconds), of which inflating takes {inflate:.1f}:"
    yield ""
    if "whole" in steps:
        scan, whole = steps["inflate_and_scan"]["median"], steps["whole"]["median"]
        yield f"- with the compiled scan: scanning {scan - inflate:.1f}, adding up what is found {whole - scan:.1f};"
        yield f"  together {whole:.1f}"
    yield f"- without: decoding the lines {typed - inflate:.1f}, counting {pure - typed:.1f}; together {pure:.1f}"
    yield ""
    yield "![CPU seconds by way](images/bench-decode.png)"
    _plot_bars(
        "bench-decode.png",
        [name.strip("`") for way, name in _NAMES.items() if way in ways],
        [ways[way]["cpu_seconds"] for way in _NAMES if way in ways],
        f"CPU seconds for {found['files']} files, start-up included",
    )


def _workers(found: dict[str, Any]) -> Iterator[str]:
    names = {
        "thread": "one thread beside the event loop",
        "one_process": "one process",
        "two_processes": "two processes",
        "two_processes_a_file_each": "two processes, each file answered by itself",
    }
    yield "## All cores"
    yield ""
    yield (
        f"{found['files']} files of {found['lines']:,} lines; processes decode and merge up to {found['files_a_call']} "
        "files before they answer."
    )
    yield ""
    rows = [["way", "seconds", "files a second", "CPU of the asking process"]]
    for way, name in names.items():
        of = found["ways"][way]
        rate = found["files"] / of["wall_seconds"]["median"]
        rows.append([name, _spread(of["wall_seconds"]), f"{rate:.1f}", _spread(of["own_cpu_seconds"])])
    yield from _table(*rows)
    yield ""
    two = found["two_over_one"]
    yield f"Two processes against one: {_spread(two)}, {_bar(two['median'], found['bar'], '{:.1f}', least=True)}."
    yield f"With each file answered by itself it is {_spread(found['two_over_one_a_file_each'])}."
    yield (
        f"Two processes against the one thread, which sends nothing to and fro: {_spread(found['two_over_thread'])}; "
        "the asking process has its share of the same two cores."
    )


def _merge(found: dict[str, Any]) -> Iterator[str]:
    yield "## What one exporter can take in"
    yield ""
    yield (
        "Whoever decodes, one process merges, counts, encodes and commits. Its CPU a file bounds the whole; with more "
        "writers a half minute's ticks are shared by more files."
    )
    yield ""
    rows = [["writers", "unpickle", "absorb", "settle and encode", "commit", "CPU ms a file", "files/s", "lines/s"]]
    for shards, row in zip(found["shards"], found["rows"], strict=True):
        steps = [f"{row['steps_ms'][name]['median']:.1f}" for name in ("unpickle", "absorb", "advance", "commit")]
        rates = [f"{row['whole_ms']:.1f}", f"{row['files_per_second']:.0f}", f"{row['lines_per_second']:,.0f}"]
        rows.append([str(shards), *steps, *rates])
    yield from _table(*rows)


def _loop(found: dict[str, Any]) -> Iterator[str]:
    yield "## The event loop"
    yield ""
    if not found["rows"]:
        yield "Not measured."
        return
    bars = found["bars"]
    yield (
        f"A backlog of {found['files']} files of {found['lines']:,} lines, worked off by the real process: how late "
        "its event loop is, as its own metric says."
    )
    yield ""
    rows = [["DECODE_WORKERS", "p99 (ms)", "bar", "maximum (ms)", "bar", "files a second"]]
    for workers in dict.fromkeys(row["workers"] for row in found["rows"]):
        of = found[f"workers_{workers}"]
        cells = [f"`{workers}`"]
        for name in ("p99_seconds", "max_seconds"):
            cells += [_spread(of[name], "{:.0f}", 1000), _bar(of[name]["median"] * 1000, bars[name] * 1000, "{:.0f}")]
        rows.append([*cells, _spread(of["files_per_second"], "{:.1f}")])
    yield from _table(*rows)


def _memory(found: dict[str, Any]) -> Iterator[str]:
    yield "## Memory"
    yield ""
    if not found["rows"]:
        yield "Not measured."
        return
    bars, rows = found["bars"], found["rows"]
    idle = _bar(found["idle_bytes"] / 1e6, bars["idle_bytes"] / 1e6, "{:.0f} MB")
    yield (
        f"Resident memory of the real process with nothing to do: {found['idle_bytes'] / 1e6:.0f} MB ({idle}). With a "
        f"backlog of {found['files']} files of {found['lines']:,} lines, of {found['shards']} writers, that is there "
        "at the start; by who is in it, and whether each of its ticks is emitted (`BACKFILL_WINDOW`), or all of it "
        "waits for the first one that is:"
    )
    yield ""
    table = [["viewers", "ticks", "peak (MB)", "bar", "half of the time below (MB)", "series", "viewers in the window"]]
    for row in rows:
        peak, half = row["peak_bytes"] / 1e6, statistics.median(row["samples_bytes"]) / 1e6
        bar = _bar(peak, bars["peak_bytes"] / 1e6, "{:.0f} MB")
        ticks = "every one" if row["every_tick"] else "one"
        ends = [f"{row[name]:,.0f}" for name in ("series", "viewers")]
        table.append([f"{row['viewers_seen']:,}", ticks, f"{peak:.0f}", bar, f"{half:.0f}", *ends])
    yield from _table(*table)
    yield ""
    yield "![Resident memory while a backlog is worked off](images/bench-memory.png)"
    _plot_memory(rows, bars["peak_bytes"])


_LARGE = {
    "series": ("series that are live", "tick_cpu_seconds", "CPU seconds of a tick"),
    "viewers": ("viewers in the window", "tick_cpu_seconds", "CPU seconds of a tick that sees 50,000"),
    "state": ("series, with ten times as many viewers", "restore_seconds", "seconds of a restore"),
}


def _large(found: dict[str, Any]) -> Iterator[str]:
    yield "## Large"
    yield ""
    yield (
        f"In steps of ten; the exponent is the slope of a line through the logarithms (0: independent of the size, 1: "
        f"in proportion). A tick changes {found['touched']:,} series or sees as many viewers."
    )
    for part, (what, _, _) in _LARGE.items():
        of = found[part]
        yield ""
        yield f"### By the number of {what}"
        yield ""
        rows = [["", *(f"{size:,}" for size in of["sizes"]), "exponent", "bar"]]
        for name, slope in of["exponents"].items():
            values = [row[name] for row in of["rows"]]
            bar = found["bars"][part].get(name)
            cells = [f"{value:,.3f}" if value < 100 else f"{value:,.0f}" for value in values]
            fitted = f"{slope:.2f}" if slope is not None else ""
            rows.append(
                [name.replace("_", " "), *cells, fitted, _bar(values[-1], bar, "{:,.0f}") if bar is not None else ""]
            )
        yield from _table(*rows)
    yield ""
    yield "![Cost by size](images/bench-large.png)"
    _plot_large(found)


def _keys(found: dict[str, Any]) -> Iterator[str]:
    yield "## A large listing"
    yield ""
    yield (
        f"{found['keys']:,} keys, {found['new']:,} of them new, by the real lister over HTTP: CPU seconds "
        f"{_spread(found['cpu_seconds'])}, {_bar(found['cpu_seconds']['median'], found['bar'], '{:.0f}')}; memory "
        f"{found['memory_bytes']['most'] / 2**20:.1f} MiB, which grows with the new files; the event loop was held "
        f"for at most {found['longest_stall_seconds']['most'] * 1000:.0f} ms."
    )


def _latency(found: dict[str, Any]) -> Iterator[str]:
    yield "## From the event to the query"
    yield ""
    if not found["ways"]:
        yield "Not measured."
        return
    yield (
        f"Traffic in real time for {found['seconds'] / 60:g} minutes, three writers with a file each 30 s, the real "
        "daemon, a real S3 API and a real Prometheus that is asked twice a second. Seconds from an event's time until "
        "a query sees it, the first two minutes left out. How long files wait for a poll depends on when the daemon "
        "was started, so several are, at different distances from the traffic; the bar is for the worst of them."
    )
    yield ""
    rows = [["POLL_INTERVAL", "mean", "median", "p95", "p95 by start", "bar", "p99", "events", "late", "polls early"]]
    for interval, of in found["ways"].items():
        bar = found["bars"].get(interval)
        marks = [f"{of[name]:.0f}" for name in ("mean", "p50", "p95")]
        starts = of["p95_by_phase"].values()
        words = _bar(max(starts), bar, "{:.0f}") if bar else ""
        counts = [f"{of['events']:,}", f"{of['late_events']:,}", f"{of['early_polls']} of {of['polls']}"]
        by_start = " / ".join(f"{p95:.0f}" for p95 in starts)
        rows.append([f"`{interval}`", *marks, by_start, words, f"{of['p99']:.0f}", *counts])
    yield from _table(*rows)
    yield ""
    yield "![Distribution of delays](images/bench-latency.png)"
    _plot_latency(found)


SECTIONS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "decode": _decode,
    "workers": _workers,
    "merge": _merge,
    "loop": _loop,
    "memory": _memory,
    "large": _large,
    "keys": _keys,
    "latency": _latency,
}


def _machines(results: list[Result]) -> str:
    """Where and with what it was measured; each machine once."""
    text = "\n## The machine\n"
    told: list[dict[str, Any]] = []
    for result in results:
        if result.machine in told:
            continue
        told.append(result.machine)
        of = result.machine
        packages = ", ".join(f"{name} {number}" for name, number in of["packages"].items())
        text += (
            f"\n{of['processor']}, {of['cores']} cores, {of['memory_gib']} GiB, {of['system']}, Python {of['python']}; "
            f"{packages}.\n"
        )
    return text


# Plots


def _figure() -> tuple[Any, Any]:
    import matplotlib  # noqa: PLC0415 - an extra, and only for the page

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(figsize=(7.5, 4), dpi=110, layout="constrained")
    return figure, axes


def _save(figure: Any, name: str) -> None:
    # Without the version of the library, the same results give the same bytes.
    figure.savefig(IMAGES / name, metadata={"Software": None})


def _plot_bars(name: str, labels: list[str], values: list[dict[str, float]], title: str) -> None:
    figure, axes = _figure()
    medians = [of["median"] for of in values]
    errors = [[of["median"] - of["least"] for of in values], [of["most"] - of["median"] for of in values]]
    colours = ["#2a6f97"] + ["#a9b4c2"] * (len(labels) - 1)
    axes.barh(labels[::-1], medians[::-1], xerr=[error[::-1] for error in errors], color=colours[::-1], ecolor="#444")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, name)


def _plot_memory(rows: list[dict[str, Any]], bar: float) -> None:
    figure, axes = _figure()
    for row in rows:
        samples = row["samples_bytes"]
        step = row["backlog_seconds"] / max(1, len(samples))
        label = f"{row['viewers_seen']:,} viewers, {'every tick' if row['every_tick'] else 'one tick'}"
        axes.plot([step * number for number in range(len(samples))], [size / 1e6 for size in samples], label=label)
    axes.axhline(bar / 1e6, color="#888", linewidth=0.8, linestyle="--")
    axes.set_xlabel("seconds since the start of the process")
    axes.set_ylabel("resident memory, MB")
    axes.set_ylim(bottom=0)
    axes.grid(True, alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")
    _save(figure, "bench-memory.png")


def _plot_large(found: dict[str, Any]) -> None:
    figure, axes = _figure()
    for part, (what, name, words) in _LARGE.items():
        of = found[part]
        slope = of["exponents"][name]
        label = f"{words}, by {what}" + (f" (exponent {slope:.2f})" if slope is not None else "")
        axes.loglog(of["sizes"], [row[name] for row in of["rows"]], "o-", label=label)
    axes.set_xlabel("how many")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    _save(figure, "bench-large.png")


def _plot_latency(found: dict[str, Any]) -> None:
    figure, axes = _figure()
    for interval, of in found["ways"].items():
        axes.plot(of["curve"], range(101), label=f"POLL_INTERVAL={interval}")
    axes.axhline(95, color="#888", linewidth=0.8, linestyle="--")
    axes.set_xlabel("seconds from the event to the query")
    axes.set_ylabel("% of events")
    axes.set_xlim(left=0)
    axes.grid(True, alpha=0.25)
    axes.legend()
    _save(figure, "bench-latency.png")
