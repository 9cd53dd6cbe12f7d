"""`backfill` with the real promtool and a real Prometheus: old files come out as if an exporter had run then."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import pytest
from prometheus_client.openmetrics.parser import text_fd_to_metric_families
from prometheus_client.samples import Sample

from tests.e2e.scene import Scene
from tests.support.command import run_command
from tests.support.files import event, log_file, stream_name, traffic
from tests.support.prometheus import Prometheus, require_prometheus
from tests.support.truth import Truth

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(120)]

_TICK = 15
_WINDOW_SECONDS = 600
_SPAN_SECONDS = 40 * 60


def old_events(start_ms: int) -> list[dict[str, Any]]:
    """Forty minutes of traffic with a quarter of an hour in which all is silent but one stream."""
    first = list(traffic(900, start_ms=start_ms + 2000, span_ms=600_000, streams=4, viewers=40, seed=1))
    again = list(traffic(900, start_ms=start_ms + 1_500_000, span_ms=880_000, streams=4, viewers=40, seed=2))
    path = f"/{stream_name(99)}/index.m3u8"
    steady = [event(start_ms + at * 1000, clientRequestPath=path) for at in range(5, _SPAN_SECONDS - 20, 20)]
    return [*first, *again, *steady]


def write_files(folder: Path, events: list[dict[str, Any]], start_ms: int) -> list[Path]:
    """The events in files of half a minute and two shards, some of them late, in hour folders."""
    draw = random.Random(7)
    files: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for one in sorted(events, key=lambda one: one["startTimeMs"]):
        number = max(0, (one["startTimeMs"] - start_ms) // 30_000)
        late = draw.choice((0, 0, 0, 0, 3))
        files.setdefault((draw.randrange(2), number + late), []).append(one)
    found = []
    for (shard, number), some in files.items():
        upload = datetime.fromtimestamp((start_ms + (number + 1) * 30_000) / 1000, UTC)
        path = folder / f"{upload:%Y%m%d}/{upload:%H}/rtl.b+{shard}+{number}.ndjson.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(log_file(some))
        found.append(path)
    return found


def families_in(text: TextIO) -> dict[str, list[Sample]]:
    """The samples of an OpenMetrics text, by their family's name."""
    return {family.name: family.samples for family in text_fd_to_metric_families(text)}  # type: ignore[no-untyped-call]


class _Imported(Scene):
    """A Prometheus that holds all it will."""

    def last_stored_ms(self) -> int:
        return sys.maxsize


def test_old_files_are_served_as_if_counted_in_their_time(tmp_path: Path) -> None:
    """Every counter and gauge on every tick is the truth of that instant; increase() too, over gaps and late files."""
    require_prometheus()
    promtool = shutil.which("promtool")
    assert promtool, "promtool comes with prometheus"
    start_ms = (int(time.time()) - 2 * 3600) // 60 * 60_000
    events = old_events(start_ms)
    files = write_files(tmp_path / "files", events, start_ms)
    out = tmp_path / "old.txt"
    environ = {"SESSION_WINDOW_SECONDS": str(_WINDOW_SECONDS)}
    ended = run_command("backfill", str(tmp_path / "files"), "--out", str(out), environ=environ)
    assert ended.code == 0, ended
    assert f"{len(files)} files, {len(events):,} events" in ended.out
    with out.open() as text:  # a parser that is not the program's takes each family and each series together
        samples = sum(map(len, families_in(text).values()))
    assert f"{samples:,} samples" in ended.out

    data = tmp_path / "prometheus" / "data"
    subprocess.run([promtool, "tsdb", "create-blocks-from", "openmetrics", out, data], check=True, capture_output=True)
    with Prometheus(tmp_path / "prometheus") as prometheus:
        scene = _Imported(None, prometheus, None, _WINDOW_SECONDS)  # type: ignore[arg-type] # neither bucket nor exporter
        truth = Truth(events, window_seconds=_WINDOW_SECONDS)
        scene.check_counters(truth)
        scene.check_increase(truth)
        scene.check_last_windows(truth)
        scene.check_every_tick(truth, _TICK, step=9)


def test_a_span_ends_where_another_exporter_begins(tmp_path: Path) -> None:
    """With --from and --to only the events between them are written; an unreadable file is named, and exit code 1."""
    start_ms = 1_700_000_000_000 // 60_000 * 60_000
    events = [event(start_ms + at * 1000) for at in range(600)]
    write_files(tmp_path / "files", events, start_ms)
    (tmp_path / "files" / "broken.gz").write_bytes(b"broken")
    begin, end = (datetime.fromtimestamp(start_ms / 1000 + at, UTC).isoformat() for at in (120, 300))
    out = tmp_path / "old.txt"
    ended = run_command("backfill", str(tmp_path / "files"), "--out", str(out), "--from", begin, "--to", end)
    assert ended.code == 1
    assert "broken.gz: unreadable (not_gzip)" in ended.err
    assert "180 events" in ended.out
    with out.open() as text:
        families = families_in(text)
    stamps = [float(str(sample.timestamp)) for sample in families["cdn77_requests"]]
    assert max(stamps) == start_ms / 1000 + 300
    assert [sample.value for sample in families["cdn77_requests"]][-1] == 180
    again = run_command("backfill", str(tmp_path / "files"), "--out", str(out))
    assert (again.code, again.out) == (2, "")
    assert "is there already" in again.err


def test_native_histograms_are_written_as_classic_ones(tmp_path: Path) -> None:
    """The text has none, which is said, and the bounds of classic ones instead, which add up to what was observed."""
    start_ms = 1_767_225_600_000
    write_files(tmp_path / "files", [event(start_ms + at * 1000) for at in range(60)], start_ms)
    out = tmp_path / "old.txt"
    ended = run_command("backfill", str(tmp_path / "files"), "--out", str(out), environ={"HISTOGRAMS": "native"})
    assert ended.code == 0, ended.err
    assert "OpenMetrics text has no native histograms" in ended.err
    with out.open() as text:
        families = families_in(text)
    last = {tuple(sample.labels.items()): sample.value for sample in families["cdn77_request_duration_seconds_bucket"]}
    counts = {tuple(sample.labels.items()): sample.value for sample in families["cdn77_request_duration_seconds_count"]}
    assert sum(value for labels, value in last.items() if ("le", "+Inf") in labels) == sum(counts.values()) > 0


def test_sums_that_end_at_their_bound_are_said(tmp_path: Path) -> None:
    """With how many there were; the file is written all the same."""
    start_ms = 1_700_000_000_000 // 60_000 * 60_000
    write_files(tmp_path / "files", [event(start_ms + 1000, responseBytes=2**53) for _ in range(1025)], start_ms)
    ended = run_command("backfill", str(tmp_path / "files"), "--out", str(tmp_path / "old.txt"))
    assert ended.code == 0
    assert "sums ended at 2^63 - 1" in ended.out
