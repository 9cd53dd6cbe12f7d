"""A large listing: a hundred thousand keys, ten thousand of them new, listed over HTTP and claimed by the lister."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measuring import ROOT, Row, python, spread, wait_for_port
from tests.support.prometheus import free_port

KEYS, NEW, ROUNDS = 100_000, 10_000, 3
BAR = 5.0
_PAGE = 1000
_HOURS = 3


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results, and what could not be measured."""
    keys, new, rounds = (3000, 300, 1) if smoke else (KEYS, NEW, ROUNDS)
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    port = free_port()
    server = subprocess.Popen(python("-m", "bench.keys", "serve", str(port), str(keys), now.isoformat()), cwd=ROOT)  # noqa: S603
    try:
        wait_for_port(port)
        rows = [_in_a_new_process(port, keys, new, now, folder / f"state-{number}.db") for number in range(rounds)]
    finally:
        server.kill()
        server.wait()
    found: Row = {
        "keys": keys,
        "new": new,
        "cpu_seconds": spread([row["cpu_seconds"] for row in rows]),
        "wall_seconds": spread([row["wall_seconds"] for row in rows]),
        "longest_stall_seconds": spread([row["longest_stall_seconds"] for row in rows]),
        "memory_bytes": spread([row["memory_bytes"] for row in rows]),
        "bar": BAR,
    }
    return found, []


def _in_a_new_process(*values: Any) -> Row:
    """Run a poll in a process that has no memory of another to use again."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_run, *values).result()


def _run(port: int, keys: int, new: int, now: datetime, path: Path) -> Row:
    return asyncio.run(_poll(port, keys, new, now, path))


def _names(keys: int, now: datetime) -> dict[str, list[tuple[str, str]]]:
    """Return keys and ETags by hour folder."""
    from cdn77_exporter.core.files import hour_prefixes  # noqa: PLC0415

    folders = hour_prefixes("logs", int(now.timestamp() * 1000), _HOURS - 1)[:_HOURS]
    found: dict[str, list[tuple[str, str]]] = {folder: [] for folder in folders}
    for number in range(keys):
        folder = folders[number * len(folders) // keys]
        shard, sequence = number % 40, number // 40
        name = f"{folder}rtl.0b5e7d1c-8a53-4c1b-9d55-7a1f3d9c2b{shard:02d}+{shard}+{sequence:08d}.ndjson.gz"
        found[folder].append((name, f"{number:032x}"))
    return {folder: sorted(names) for folder, names in found.items()}


async def _poll(port: int, keys: int, new: int, now: datetime, path: Path) -> Row:
    """Run one poll of the real lister over the real client, with a ledger that has all but the new files."""
    from bench.ledger import only_files  # noqa: PLC0415 - the server does without
    from cdn77_exporter.core.arrivals import Arrivals  # noqa: PLC0415
    from cdn77_exporter.core.changes import CountedFile  # noqa: PLC0415
    from cdn77_exporter.core.files import LogNames  # noqa: PLC0415
    from cdn77_exporter.core.watermark import Watermark  # noqa: PLC0415
    from cdn77_exporter.edge.clock import Clock  # noqa: PLC0415
    from cdn77_exporter.edge.s3 import S3Bucket  # noqa: PLC0415
    from cdn77_exporter.edge.state import Database, State  # noqa: PLC0415
    from cdn77_exporter.flow.in_flight import InFlight  # noqa: PLC0415
    from cdn77_exporter.flow.ports import Common  # noqa: PLC0415
    from cdn77_exporter.flow.stages.list import Lister  # noqa: PLC0415
    from cdn77_exporter.flow.stages.sweep import Sweeper  # noqa: PLC0415
    from tests.support.world import Said, Trouble  # noqa: PLC0415

    database = Database(str(path))
    known = [entry for names in _names(keys, now).values() for entry in names]
    every = max(1, keys // new)
    counted = [CountedFile(key, etag, 10**10, 1, 1) for number, (key, etag) in enumerate(known) if number % every]
    database.commit(only_files(counted))
    del known, counted
    said, state = Said(), State(database)
    common = Common(Clock(), said, Trouble(), asyncio.Event())
    watermark, in_flight = (
        Watermark(idle_seconds=120, lag_seconds=180),
        InFlight(8, said, steady=common.clock.monotonic, patience=120),
    )
    async with S3Bucket(endpoint=f"http://127.0.0.1:{port}", bucket="b", access_key="a", secret_key="s") as bucket:  # noqa: S106
        names = LogNames("logs")
        sweeper = Sweeper(common, in_flight, bucket, state, names, 0)
        lister = Lister(common, in_flight, bucket, state, watermark, Arrivals(), names, 60, _HOURS - 1, sweeper)
        stalls = asyncio.create_task(_stalls())
        await asyncio.sleep(0.1)
        before, began = _resident(), time.perf_counter()
        cpu = time.process_time()
        files = await lister.poll() or []
        row = {
            "cpu_seconds": time.process_time() - cpu,
            "wall_seconds": time.perf_counter() - began,
            "memory_bytes": float(max(0, _resident() - before)),
        }
        stalls.cancel()
        row["longest_stall_seconds"] = max(_lags)
    state.close()
    expected = keys - keys * (every - 1) // every
    if said.of("poll_failed") or abs(len(files) - expected) > 1:
        raise SystemExit(f"{len(files)} of {expected} new files were found: {said.of('poll_failed')}")
    return row


_lags: list[float] = [0.0]


async def _stalls() -> None:
    """Return how late a task is that wants to run every ten milliseconds."""
    _lags[:] = [0.0]
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.01
        await asyncio.sleep(0.01)
        _lags.append(loop.time() - due)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# The server, in a process of its own


def serve(port: int, keys: int, now: datetime) -> None:
    """Answer listings as an S3 server does, a thousand keys a page."""
    from aiohttp import web  # noqa: PLC0415

    names = _names(keys, now)
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    async def answer(request: web.Request) -> web.Response:
        entries = names.get(request.query.get("prefix", ""), [])
        begin = int(request.query.get("continuation-token", "0"))
        page = entries[begin : begin + _PAGE]
        more = begin + _PAGE < len(entries)
        content = "".join(
            f"<Contents><Key>{key.replace('+', '%2B')}</Key><LastModified>{stamp}</LastModified>"
            f"<ETag>&quot;{etag}&quot;</ETag><Size>1700000</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key, etag in page
        )
        token = f"<NextContinuationToken>{begin + _PAGE}</NextContinuationToken>" if more else ""
        text = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>b</Name><EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{token}{content}"
            "</ListBucketResult>"
        )
        return web.Response(text=text, content_type="application/xml")

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    serve(int(sys.argv[2]), int(sys.argv[3]), datetime.fromisoformat(sys.argv[4]))
