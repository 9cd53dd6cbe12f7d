"""Measures what a million live series, ten million viewers and a million players cost, and how it grows.

Every row is measured in a process of its own, so that one size's memory does not show in the next one's. Sizes grow by
steps of ten; the exponent of a cost is the slope of a straight line through its logarithms.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cdn77_exporter.core.catalogue import Catalogue, series_key
from cdn77_exporter.core.encode.remote_write_1 import RemoteWrite1
from cdn77_exporter.core.measures import MEASURES, REQUESTS
from cdn77_exporter.core.series import SeriesTable
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.core.viewers.profiles import Profile, Profiles
from cdn77_exporter.core.viewers.rows import SEEN
from cdn77_exporter.core.viewers.window import Lengths, ViewerWindow
from cdn77_exporter.edge.state import Database
from cdn77_exporter.runtime import without_collection

START = 1_700_000_100
TICK, WINDOW = 15, 7200
LENGTHS = Lengths((WINDOW,), presence=30, gap=120)
TOUCHED = 50_000  # series that change in a tick, and viewers that are seen in one
REPEATS = 5
Costs = dict[str, float]


def resident_bytes() -> int:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


CATALOGUE = Catalogue(MEASURES)


def cpu_seconds(call: Callable[[], object]) -> float:
    """Return the CPU time of a call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def keys(count: int) -> Iterator[str]:
    """Return series keys with labels of usual length."""
    code = CATALOGUE.code(REQUESTS)
    for number in range(count):
        stream = f"{number // 20:032x}"
        yield series_key(code, (stream, "1234567890", ("HIT", "MISS")[number % 2], f"pop{number % 20 // 2}PRG"))


def emit(table: SeriesTable, encoder: RemoteWrite1, tick: int, pad_from: int) -> None:
    """Write a tick, encoded."""
    encoder.encode(table, table.emit(tick, pad_from=pad_from))


def fill_series(table: SeriesTable, encoder: RemoteWrite1, count: int, tick: int) -> None:
    """Make live series."""
    for key in keys(count):
        table.add(table.slot(key), 1)
    emit(table, encoder, tick, tick)


def touch(table: SeriesTable, source: random.Random, count: int = TOUCHED) -> None:
    """Count something in some of the series, at most in half of them."""
    for slot in source.sample(range(len(table)), min(count, len(table) // 2)):
        table.add(slot, 7)


def series(count: int) -> Costs:
    """Measure a tick over that many live series."""
    source = random.Random(1)  # noqa: S311
    before = resident_bytes()
    table, encoder = SeriesTable(CATALOGUE, TICK), RemoteWrite1(CATALOGUE)
    made = cpu_seconds(lambda: fill_series(table, encoder, count, START))
    table.take_changes(table.take_new())
    ticks, changes = [], []
    for number in range(1, REPEATS + 1):
        touch(table, source)
        tick = START + TICK * number
        ticks.append(cpu_seconds(partial(emit, table, encoder, tick, START)))
        changes.append(cpu_seconds(lambda: table.take_changes(())))
    used = resident_bytes() - before
    for key in list(keys(count + TOUCHED // 5))[count:]:
        table.add(table.slot(key), 1)
    begin = cpu_seconds(lambda: emit(table, encoder, START + 3000, START))
    return {
        "make_cpu_seconds": made,
        "tick_cpu_seconds": statistics.median(ticks),
        "changes_cpu_seconds": statistics.median(changes),
        "tick_with_10000_new_cpu_seconds": begin,
        "bytes_each": used / count,
    }


def seen_rows(source: np.random.Generator, tick: int, count: int, viewers: int) -> npt.NDArray[np.void]:
    """Return what a tick sees: viewers drawn from a population, on a hundred profiles."""
    rows = np.zeros(count, SEEN)
    number = source.integers(0, viewers, count).astype(np.uint64)
    rows["key"] = number * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    rows["profile"] = number % np.uint64(100)
    rows["first"] = rows["last"] = source.integers((tick - TICK) * 1000, tick * 1000, count)
    return rows


def profiles_of_bench() -> Profiles:
    """Return a hundred profiles."""
    profiles = Profiles()
    for number in range(100):
        device, country = ("web", "roku")[number % 2], f"C{number % 4}"
        profiles.number(Profile(f"{number // 4:032x}", device, country, ("XX", "Unknown")))
    return profiles


def fill_viewers(window: ViewerWindow, source: np.random.Generator, count: int, passed: Callable[[int], object]) -> int:
    """Bring that many viewers into the window, evenly over its length; the last tick. `passed` is told every tick."""
    ticks = WINDOW // TICK
    order = source.permutation(count).astype(np.uint64)
    for place, numbers in enumerate(np.array_split(order, ticks)):
        tick = START + TICK * (place + 1)
        rows = np.zeros(len(numbers), SEEN)
        rows["key"] = numbers * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
        rows["profile"] = numbers % np.uint64(100)
        rows["first"] = rows["last"] = source.integers((tick - TICK) * 1000, tick * 1000, len(numbers))
        window.advance(tick, [rows])
        passed(tick)
    return START + TICK * ticks


def viewers(count: int) -> Costs:
    """Measure a tick that sees 50,000 viewers beside that many in the window, and lets as many go as are due."""
    source = np.random.default_rng(1)
    before = resident_bytes()
    window = ViewerWindow(profiles_of_bench(), LENGTHS, TICK)
    made = cpu_seconds(lambda: fill_viewers(window, source, count, lambda _: window.take_changes()))
    tick = START + WINDOW
    held = len(window)
    used = resident_bytes() - before
    spent = []
    for _ in range(REPEATS * 3):
        tick += TICK
        rows = seen_rows(source, tick, TOUCHED, count * 2)
        spent.append(cpu_seconds(partial(window.advance, tick, [rows])))
        window.take_changes()
    quiet = cpu_seconds(lambda: window.advance(tick + TICK, []))
    many_sided = seen_rows(source, tick + 2 * TICK, TOUCHED // 10, count * 2)
    many_sided["profile"] = (many_sided["profile"] + 1) % 100
    sided = cpu_seconds(lambda: window.advance(tick + 2 * TICK, [many_sided]))
    return {
        "fill_cpu_seconds": made,
        "tick_cpu_seconds": statistics.median(spent),
        "slowest_tick_cpu_seconds": max(spent),
        "quiet_tick_cpu_seconds": quiet,
        "tick_with_5000_second_devices_cpu_seconds": sided,
        "array_bytes_each": window.size_bytes / max(1, len(window)),
        "bytes_each": used / held,
    }


def players(count: int) -> Costs:
    """Measure what it takes that so many viewers are players in a session, and a tick that sees 5,000 of them."""
    source = np.random.default_rng(1)
    hour = Lengths((WINDOW,), presence=3600, gap=3600)  # so that those who are not seen stay
    window = ViewerWindow(profiles_of_bench(), hour, TICK)
    rows = np.zeros(count, SEEN)
    number = source.permutation(count).astype(np.uint64)
    rows["key"] = number * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    rows["profile"] = number % np.uint64(100)
    tick = START

    def see(chosen: npt.NDArray[np.void]) -> float:
        nonlocal tick
        tick += TICK
        chosen["first"] = chosen["last"] = source.integers((tick - TICK) * 1000, tick * 1000, len(chosen))
        spent = cpu_seconds(lambda: window.advance(tick, [chosen]))
        window.take_changes()
        return spent

    see(rows)
    some = [see(rows[source.integers(0, count, TOUCHED // 10)]) for _ in range(REPEATS * 3)]
    every = [see(rows) for _ in range(REPEATS)]
    quiet = [see(rows[:0]) for _ in range(REPEATS)]
    before, held = resident_bytes(), window.size_bytes
    tick += 3600 + TICK
    leave = cpu_seconds(lambda: window.advance(tick, []))
    return {
        "tick_of_5000_cpu_seconds": statistics.median(some),
        "tick_of_all_cpu_seconds": statistics.median(every),
        "quiet_tick_cpu_seconds": statistics.median(quiet),
        "tick_when_all_leave_cpu_seconds": leave,
        "array_bytes_more_each": (held - window.size_bytes) / count,
        "bytes_more_each": max(0, before - resident_bytes()) / count,
    }


def state(count: int) -> Costs:
    """Measure commits and a restore with that many series and ten times as many viewers."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/state.db"
        first = _commit_all(path, count)
        # A process of its own restores: the pages of the filled one would flatter it.
        out = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "bench.large", "--restore", path], check=True, capture_output=True, text=True
        )
        size = Path(path).stat().st_size
        return {**first, **json.loads(out.stdout), "file_bytes_a_viewer_or_series": size / (count * 11)}


def _timeline(database: Database) -> Timeline:
    rules = Rules(tick_seconds=TICK, session_window_seconds=WINDOW)
    return Timeline(rules, start_ms=START * 1000, key=database.secret_key())


def _commit_all(path: str, count: int) -> Costs:
    database = Database(path)
    timeline = _timeline(database)
    for profile in filter(None, profiles_of_bench().all):
        timeline._profiles.number(profile)
    source = np.random.default_rng(1)
    window = timeline.viewers

    def commit(tick: int) -> None:
        timeline.settled = timeline.emitted = tick
        database.commit(timeline.take_changes([], 0, []))

    began = time.process_time()
    tick = fill_viewers(window, source, count * 10, commit)
    fill = time.process_time() - began
    fill_series(timeline.series, RemoteWrite1(CATALOGUE), count, tick)
    began = time.process_time()
    commit(tick)
    series_new = time.process_time() - began
    chooser = random.Random(1)  # noqa: S311

    def commits(changed: int) -> tuple[list[float], list[float]]:
        nonlocal tick
        spent, cpu = [], []
        for _ in range(REPEATS * 2):
            tick += TICK
            window.advance(tick, [seen_rows(source, tick, changed, count * 20)])
            touch(timeline.series, chooser, changed)
            timeline.series.emit(tick, pad_from=START)
            began, cpu_began = time.perf_counter(), time.process_time()
            commit(tick)
            spent.append(time.perf_counter() - began)
            cpu.append(time.process_time() - cpu_began)
        return spent, cpu

    few, few_cpu = commits(TOUCHED // 10)
    many, many_cpu = commits(TOUCHED)
    database.close()
    return {
        "fill_with_480_commits_cpu_seconds": fill,
        "commit_of_all_series_cpu_seconds": series_new,
        "commit_of_5000_seconds": statistics.median(few),
        "commit_of_5000_cpu_seconds": statistics.median(few_cpu),
        "slowest_commit_of_5000_seconds": max(few),
        "commit_of_50000_seconds": statistics.median(many),
        "commit_of_50000_cpu_seconds": statistics.median(many_cpu),
        "slowest_commit_of_50000_seconds": max(many),
    }


def restore(path: str) -> Costs:
    """Open a state and take it up."""
    before = resident_bytes()
    began = time.perf_counter()
    database = Database(path)
    opened = time.perf_counter() - began
    timeline = _timeline(database)
    snapshot = database.load()
    if snapshot is None:
        raise SystemExit("the state is empty")
    with without_collection():
        timeline.restore(snapshot)
    spent = time.perf_counter() - began
    return {
        "open_seconds": opened,
        "restore_seconds": spent,
        "restored_bytes_in_all": float(resident_bytes() - before),
        "restored_viewers": float(len(timeline.viewers)),
    }


#: What the largest size may cost.
BARS = {
    "series": {"tick_cpu_seconds": 3.0, "bytes_each": 700.0},
    "viewers": {"bytes_each": 60.0},
    "players": {"array_bytes_more_each": 24.0},
    "state": {"restore_seconds": 20.0},
}
PARTS: dict[str, tuple[Callable[[int], Costs], tuple[int, ...]]] = {
    "series": (series, (10_000, 100_000, 1_000_000)),
    "viewers": (viewers, (100_000, 1_000_000, 10_000_000)),
    "players": (players, (10_000, 100_000, 1_000_000)),
    "state": (state, (10_000, 100_000, 1_000_000)),
}


def exponent(sizes: list[int], costs: list[float]) -> float | None:
    """Return the slope of a cost over the size, log-log."""
    if len(sizes) < 2 or min(costs) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def measure(part: str, most: float) -> dict[str, object]:
    """Measure a part at every size up to `most` of its largest."""
    _, all_sizes = PARTS[part]
    sizes = [size for size in all_sizes if size <= all_sizes[-1] * most]
    rows: list[Costs] = []
    for size in sizes:
        command = [sys.executable, "-m", "bench.large", "--one", part, str(size)]
        out = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        rows.append(json.loads(out.stdout))
    names = list(rows[0]) if rows else []
    fitted = {name: exponent(sizes, [row[name] for row in rows]) for name in names}
    return {"sizes": sizes, "rows": rows, "exponents": fitted}


def run(smoke: bool, folder: Path) -> tuple[dict[str, object], list[str]]:
    """Return the results, and what could not be measured."""
    del folder
    return {"touched": TOUCHED, "bars": BARS, **{part: measure(part, 0.01 if smoke else 1.0) for part in PARTS}}, []


def main() -> None:
    """Run as the process that `measure` and `state` start."""
    words = sys.argv[1:]
    if words[0] == "--restore":
        print(json.dumps(restore(words[1])))
    else:
        print(json.dumps(PARTS[words[1]][0](int(words[2]))))


if __name__ == "__main__":
    main()
