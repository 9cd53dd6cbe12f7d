"""Worker processes: the same files by one thread, one process and two, each decoding and merging several at a time."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench.data import LATEST_MS, LINES, kinds, write_files
from bench.measuring import Row, in_turn, ratios, summary
from cdn77_exporter.core.decode import Limits
from cdn77_exporter.core.decoded import Decoded
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN
from cdn77_exporter.edge.decode_job import DecoderRules, decode_files
from cdn77_exporter.edge.workers import Workers
from cdn77_exporter.flow.sizes import FILES_A_CALL

FILES, ROUNDS = 48, 5
BAR = 1.7
_RULES = DecoderRules(15, DEFAULT_STREAM_PATTERN, Limits())


def run(smoke: bool, folder: Path) -> tuple[Row, list[str]]:
    """Return the results, and what could not be measured."""
    files, lines, rounds = (4, 300, 1) if smoke else (FILES, LINES, ROUNDS)
    bodies = {
        kind: [path.read_bytes() for path in write_files(folder, kind, min(8, files), lines)] * (-(-files // 8))
        for kind in kinds(smoke)
    }
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # as the service has it
    executors: dict[str, tuple[Executor, int]] = {
        "thread": (ThreadPoolExecutor(1), 1),
        "one_process": (Workers(1), FILES_A_CALL),
        "two_processes": (Workers(2), FILES_A_CALL),
        "two_processes_a_file_each": (Workers(2), 1),
    }
    try:
        found = {kind: measure(executors, of_kind, rounds) for kind, of_kind in bodies.items()}
    finally:
        for executor, _ in executors.values():
            executor.shutdown(wait=False)
    shape = {"files": files, "lines": lines, "rounds": rounds, "files_a_call": FILES_A_CALL}
    return {**shape, "bar": BAR, "kinds": found}, []


def measure(executors: Mapping[str, tuple[Executor, int]], bodies: list[bytes], rounds: int) -> Row:
    """Measure the seconds of each way, and how they compare."""
    for executor, _ in executors.values():
        for future in [_begin(executor, bodies[:1]) for _ in range(4)]:
            future.result()  # so that all are started and have met the streams
    rows = in_turn({name: partial(_decode, *of, bodies) for name, of in executors.items()}, rounds)
    two = rows["two_processes"]
    return {
        "ways": {name: summary(of) for name, of in rows.items()},
        "two_over_one": ratios(rows["one_process"], two, "wall_seconds"),
        "two_over_one_a_file_each": ratios(rows["one_process"], rows["two_processes_a_file_each"], "wall_seconds"),
        "two_over_thread": ratios(rows["thread"], two, "wall_seconds"),
    }


def _begin(executor: Executor, bodies: list[bytes]) -> Future[Decoded]:
    return executor.submit(decode_files, _RULES, bodies, [LATEST_MS] * len(bodies), 0)


def _decode(executor: Executor, most: int, bodies: list[bytes]) -> Row:
    began, cpu = time.perf_counter(), time.process_time()
    futures = [
        executor.submit(decode_files, _RULES, bodies[at : at + most], [LATEST_MS] * len(bodies[at : at + most]), 0)
        for at in range(0, len(bodies), most)
    ]
    shares = 0
    while futures:  # each is released when it has come, as the service does once it is counted
        shares += len(futures.pop(0).result().files)
    if shares != len(bodies):
        raise SystemExit(f"{shares} of {len(bodies)} files came back")
    return {"wall_seconds": time.perf_counter() - began, "own_cpu_seconds": time.process_time() - cpu}
