"""An exporter as docs/migration.md describes the old kind: it pushes what each file holds, as if it were a counter.

Each file is summed up by minute and labels, and pushed at once. So that two files of one minute do not write the same
timestamp, each later one is written 100 ms later.
"""

from __future__ import annotations

import gzip
import time
import urllib.error
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson

from cdn77_exporter.core.encode.remote_write_pb2 import WriteRequest
from cdn77_exporter.demo.traffic import Plan, Traffic, usual_streams
from tests.support.filled_prometheus import write
from tests.support.prometheus import Prometheus

METRIC = "cdn77_requests_total"
_LABELS = {
    "stream_name": "clientRequestPath",
    "cdn_id": "resourceID",
    "cache_status": "cacheStatus",
    "pop": "locationID",
}
_MINUTES = 50  # less than the hour that Prometheus takes
_POLL_SECONDS = 60


@dataclass
class PerBatch:
    """The old exporter, with what became of its samples."""

    receiver: Prometheus
    flushes: Counter[int] = field(default_factory=Counter)
    pushed: int = 0
    refused: int = 0

    def push(self, body: bytes) -> None:
        """Count one file and push it."""
        sums: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
        for line in gzip.decompress(body).splitlines():
            event = orjson.loads(line)
            values = tuple(str(event.get(name) or "unknown")[:33] for name in _LABELS.values())
            minute = datetime.strptime(event["timestamp"][:16], "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
            sums[values][int(minute.timestamp())] += 1
        request = WriteRequest()
        for values, by_minute in sums.items():
            series = request.timeseries.add()
            for name, value in sorted({"__name__": METRIC, **dict(zip(_LABELS, values, strict=True))}.items()):
                series.labels.add(name=name, value=value)
            for minute_s, count in sorted(by_minute.items()):
                series.samples.add(timestamp=minute_s * 1000 + 100 * self.flushes[minute_s], value=count)
        self.flushes.update({minute_s for by_minute in sums.values() for minute_s in by_minute})
        samples = sum(map(len, sums.values()))
        self.pushed += samples
        try:
            write(self.receiver, request)
        except urllib.error.HTTPError:
            self.refused += samples


@dataclass(frozen=True)
class Measured:
    """What it comes to: the share of its samples that is refused, and of the truth that is shown."""

    refused: float
    shown: float


def measure(folder: Path) -> Measured:
    """Fifty minutes of three shards, files of 30 seconds, a poll a minute, pushed to a real Prometheus."""
    end = int(time.time()) // 60 * 60
    begin = end - _MINUTES * 60
    plan = Plan(lines_per_second=20, viewers=100, streams=usual_streams(_MINUTES * 60), bad_share=0)
    traffic = Traffic(plan, start_ms=begin * 1000, prefix="logs")
    with Prometheus(folder) as receiver:
        old = PerBatch(receiver)
        for poll in range(begin + _POLL_SECONDS, end + 1, _POLL_SECONDS):
            for upload in traffic.until(poll * 1000):
                old.push(upload.body)
        for upload in traffic.finish():
            old.push(upload.body)
        shown = sum(receiver.query(f"sum(increase({METRIC}[{_MINUTES}m]))", at=end + 1).values())
    return Measured(old.refused / old.pushed, shown / traffic.totals.counters[METRIC].total())
