"""Measures what one exporter takes in from a Dask cluster: its CPU a file with the real client and what workers answer.

Workers on this machine read and decode the files, as those of a cluster fetch and decode them. The exporter's side is a
process of its own, which asks by the real client, takes in what comes, settles, encodes and commits. A backlog
is then worked off by the whole service, which also lists, sends and deletes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench import service
from bench.backlog import Backlog
from bench.data import LINES, File, Kind, kinds, write_all
from bench.measuring import Row, child, python, spread
from bench.merge import CROWDS, HALF_MINUTES, WARM, merging, start_ms
from cdn77_exporter.core.decode import Limits
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN
from cdn77_exporter.edge.decode_job import DecoderRules, decode_files
from cdn77_exporter.flow.sizes import FILES_A_CALL

if TYPE_CHECKING:
    from cdn77_exporter.core.decoded import Decoded

WRITERS, WORKERS = 64, 2
#: Files a second for each core of the exporter, of many viewers.
BAR = 80.0
_RULES = DecoderRules(15, DEFAULT_STREAM_PATTERN, Limits())


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results, and what could not be measured."""
    if find_spec("distributed") is None:
        return {"kinds": {}}, ["cluster: distributed is not installed"]
    from tests.support.cluster import local_cluster  # noqa: PLC0415 - it imports what is only in the extra

    writers, lines = (4, 300) if smoke else (WRITERS, LINES)
    for kind in kinds(smoke):
        write_all(
            File(_path(folder, kind, crowd, half_minute), kind, lines, crowd, start_ms(half_minute))
            for crowd in range(min(CROWDS, writers))
            for half_minute in range(HALF_MINUTES)
        )
    found = {}
    with local_cluster(folder, WORKERS) as cluster:
        cluster.wait_for_scheduler()
        for kind in kinds(smoke):
            # Not as `__main__`, from which the workers could import nothing.
            words = ("-c", "from bench.cluster import main; main()", cluster.address, str(folder), kind, str(writers))
            found[kind] = json.loads(child(python(*words)).out)
    files, shards = (12, 6) if smoke else (service.FILES, service.SHARDS)
    keys = Backlog(Kind.MANY, files, lines, shards, service.CROWDS).write(folder / "backlog")
    whole = service.work_off(folder / "service", keys, WORKERS) | {"files": files, "shards": shards}
    shape = {"writers": writers, "lines": lines, "files_a_call": FILES_A_CALL}
    return {**shape, "bar": BAR, "kinds": found, "service": whole}, []


def _path(folder: Path, kind: Kind, crowd: int, half_minute: int) -> Path:
    return folder / f"{kind}-{crowd}-{half_minute}.ndjson.gz"


def read_and_decode(paths: Sequence[str], latest_ms: int) -> Decoded:
    """Run on a worker: read files and decode them together."""
    return decode_files(_RULES, [Path(path).read_bytes() for path in paths], [latest_ms] * len(paths), 0)


def take_in(address: str, folder: Path, kind: Kind, writers: int) -> Row:
    """Return the CPU milliseconds a file of this process, in which the client is."""
    from cdn77_exporter.edge.cluster import Cluster  # noqa: PLC0415 - it imports what is only in the extra

    cluster = Cluster(address, width=2 * WORKERS)
    spent = []
    with merging() as made:
        for half_minute in range(HALF_MINUTES):
            paths = [str(_path(folder, kind, writer % CROWDS, half_minute)) for writer in range(writers)]
            latest_ms = start_ms(half_minute) + 86_400_000
            if half_minute == WARM:
                made.costs = dict.fromkeys(made.costs, 0.0)
            began = time.process_time()
            calls = [
                cluster.submit(read_and_decode, paths[at : at + FILES_A_CALL], latest_ms)
                for at in range(0, writers, FILES_A_CALL)
            ]
            writer = 0
            while calls:
                writer += made.absorb(calls.pop(0).result(), writer, half_minute)
            made.settle(half_minute)
            if half_minute >= WARM:
                spent.append((time.process_time() - began) / writers * 1000)
        own = sum(made.costs.values()) / writers / (HALF_MINUTES - WARM) * 1000
    cluster.shutdown(wait=False)
    ms = spread(spent)
    return {"cpu_ms": ms, "merging_ms": own, "files_per_second": 1000 / ms["median"]}


def main() -> None:
    """Run as the process that `run` starts."""
    address, folder, kind, writers = sys.argv[1:]
    print(json.dumps(take_in(address, Path(folder), Kind(kind), int(writers))))
