"""The contract of what decodes: a thread, worker processes and a Dask cluster are interchangeable, and lose nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdn77_exporter.core.decode import Decoder, Limits
from cdn77_exporter.core.decoded import Decoded, Failure, FileStats
from cdn77_exporter.core.device import DeviceRule, DeviceRules
from cdn77_exporter.core.errors import Transient
from cdn77_exporter.core.files import LogFile, RawLog
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN
from cdn77_exporter.edge.cluster import Cluster
from cdn77_exporter.edge.decode_job import DecoderRules
from cdn77_exporter.edge.decoding import ExecutorDecoder, Job, fetched
from cdn77_exporter.edge.workers import Workers
from tests.support import files as log_files
from tests.support.cluster import ROOT, LocalCluster, local_cluster
from tests.support.counts import plain_counts
from tests.support.decode_jobs import DEADLY, boom, decode_or_die, decode_or_wait
from tests.support.exporter_process import wait_until

#: Of no file that another process or machine could read.
DEVICES = DeviceRules([DeviceRule("lounge", ("roku", "tv")), DeviceRule("desk", pattern=r"\bFirefox/\d")])
RULES = DecoderRules(15, DEFAULT_STREAM_PATTERN, Limits(), ipv6_prefix=64, devices=DEVICES)
LATEST_MS = log_files.EXAMPLE_MS + 3_600_000


def deadly(rules: DecoderRules) -> Job:
    """The job of `decode_or_die`."""
    return lambda logs: (decode_or_die, (rules, [log.body for log in logs]))


def logs_of(count: int, lines: int = 300) -> list[RawLog]:
    """Files that overlap in time and share viewers, one of them damaged, one without an event."""
    found = []
    for number in range(count):
        content = list(log_files.traffic(lines, seed=number % 3, start_ms=log_files.EXAMPLE_MS + number // 2 * 20_000))
        body = log_files.log_file(content)
        if number == 3:
            body = body[:-20]
        if number == 4:
            body = log_files.gzip_bytes(b'{"timestamp": 1}\nnonsense\n')
        if number == 5:
            body = log_files.gzip_bytes(b"\xef\xbb\xbf" + log_files.ndjson(map(_odd, content)).replace(b"@@", b"\xff"))
        found.append(RawLog(LogFile(f"logs/rtl.w+{number % 2}+{number}.ndjson.gz", f"e{number}", len(body), 1), body))
    return found


def _odd(fields: dict[str, Any]) -> dict[str, Any]:
    """The same request, oddly told; no IPv4 address is in it."""
    return {
        **fields,
        "clientIP": "[2001:db8:7::1]:443, 10.0.0.1",
        "timeToFirstByteMs": -1,
        "clientRequestUserAgent": "@@",
    }


def truth(logs: list[RawLog]) -> Decoded:
    """What the files count, decoded here one after the other."""
    decoder = Decoder(examples=True, ipv6_prefix=64, devices=DEVICES)
    found = decoder.decode_all([log.body for log in logs], [LATEST_MS] * len(logs), 0)
    assert not {"web", "roku", "apple_tv"} & set(found.counts.texts)
    return found


def plain(decoded: Decoded) -> tuple[list[object], dict[str, object]]:
    """Without what differs from run to run."""
    files = [replace(file, seconds=0.0) if isinstance(file, FileStats) else file for file in decoded.files]
    return list[object](files), plain_counts(decoded.counts)


class Said:
    """What was reported."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, /, **fields: object) -> None:
        self.events.append((event, fields))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster that the tests share."""
    with local_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


def waiting(meet: Path) -> Job:
    """The job of `decode_or_wait`."""
    return lambda logs: (decode_or_wait, (str(meet), RULES, [log.body for log in logs]))


KINDS = ["thread", "processes", "cluster"]
DYING = ["processes", "cluster"]


@pytest.fixture
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """One of each kind."""
    made: Executor
    if request.param == "thread":
        made = ThreadPoolExecutor(1)
    elif request.param == "processes":
        made = Workers(2)
    else:
        made = Cluster(request.getfixturevalue("cluster").address, width=3, connect_seconds=30, call_seconds=60)
    yield made
    made.shutdown(wait=False, cancel_futures=True)


def decoder_on(executor: Executor, job: Job | None = None) -> tuple[ExecutorDecoder, Said]:
    """A decoder, and what it says."""
    said = Said()
    return ExecutorDecoder(job or fetched(RULES), executor, most=4, width=3, report=said), said


async def decode(decoder: ExecutorDecoder, logs: list[RawLog]) -> Decoded:
    """All at once."""
    return await decoder.decode(logs, [LATEST_MS] * len(logs), 0)


@pytest.mark.parametrize("executor", KINDS, indirect=True)
async def test_a_bundle_is_what_its_files_count_one_by_one(executor: Executor) -> None:
    """Shares and failures come back in the order of the files, and the ticks hold what all of them count."""
    decoder, said = decoder_on(executor)
    logs = logs_of(6)
    groups = [logs[:4], logs[4:], logs[2:5], logs]
    found = await asyncio.gather(*(decode(decoder, group) for group in groups))
    assert [plain(bundle) for bundle in found] == [plain(truth(group)) for group in groups]
    assert isinstance(found[0].files[3], Failure)
    assert found[0].files[3].error().reason == "truncated"  # type: ignore[union-attr]
    assert not said.events


@pytest.mark.parametrize("executor", KINDS, indirect=True)
async def test_a_fault_in_the_program_is_raised_as_it_is(executor: Executor) -> None:
    """An error that is no answer comes out with its own type, and the executor goes on."""
    decoder, _ = decoder_on(executor, lambda logs: (boom, ()))
    with pytest.raises(ZeroDivisionError, match="in the program"):
        await decode(decoder, logs_of(1))
    decoder, _ = decoder_on(executor)
    assert plain(await decode(decoder, logs_of(2))) == plain(truth(logs_of(2)))


@pytest.mark.guarantee("files.deadly")
@pytest.mark.parametrize("executor", DYING, indirect=True)
async def test_a_file_that_kills_whoever_decodes_it_is_found_and_the_others_count(executor: Executor) -> None:
    """After a death the files are decoded alone; the deadly one is unreadable after some, and nothing else is lost."""
    decoder, said = decoder_on(executor, deadly(RULES))
    logs = logs_of(3)
    bad = RawLog(LogFile("logs/bad.gz", "e", 6, 1), DEADLY)
    found = await decode(decoder, [logs[0], bad, *logs[1:]])
    assert found.files.pop(1) == Failure("unreadable", "decoder_died")
    assert plain(found) == plain(truth(logs))
    assert [(name, fields["files"]) for name, fields in said.events] == [("worker_replaced", 4)] + [
        ("worker_replaced", 1)
    ] * 2
    assert all(fields["worker"] and fields["error"] for _, fields in said.events)


@pytest.mark.parametrize("executor", DYING, indirect=True)
async def test_a_worker_killed_in_the_middle_is_replaced_and_nothing_counts_twice(
    executor: Executor, tmp_path: Path
) -> None:
    """While several calls are under way one worker is killed from outside; all bundles come out whole."""
    meet = tmp_path / "pid"
    decoder, said = decoder_on(executor, waiting(meet))
    logs = logs_of(9)
    groups = [logs[0:3], logs[3:6], logs[6:9]]
    under_way = [asyncio.create_task(decode(decoder, group)) for group in groups]
    await asyncio.to_thread(wait_until, meet.exists, 60, "a worker is on a call")
    os.kill(int(meet.read_text()), signal.SIGKILL)
    found = await asyncio.gather(*under_way)
    assert [plain(bundle) for bundle in found] == [plain(truth(group)) for group in groups]
    assert {name for name, _ in said.events} <= {"worker_replaced"}


@pytest.mark.parametrize("executor", DYING, indirect=True)
async def test_what_is_let_go_ends_at_once(executor: Executor, tmp_path: Path) -> None:
    """Closing does not wait for a call that never ends, and afterwards nothing new is begun."""
    meet = tmp_path / "pid"
    decoder, _ = decoder_on(executor, waiting(meet))
    under_way = asyncio.create_task(decode(decoder, logs_of(1)))
    await asyncio.to_thread(wait_until, meet.exists, 60, "a worker is on the call")
    decoder.close()
    with pytest.raises(RuntimeError):
        executor.submit(os.getpid)
    under_way.cancel()
    os.kill(int(meet.read_text()), signal.SIGKILL) if is_alive(int(meet.read_text())) else None


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_worker_processes_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """When the parent is killed outright no worker stays behind."""
    words = (
        "import os, signal, sys; from cdn77_exporter.edge.workers import Workers; workers = Workers(2);"
        "[future.result() for future in [workers.submit(os.getpid) for _ in range(4)]];"
        "print(*workers.pids, flush=True); signal.pause()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", words], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert pids
    assert all(is_alive(pid) for pid in pids)
    for pid in pids:  # a stop of the whole group is for the parent alone
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert all(is_alive(pid) for pid in pids)
    parent.kill()
    parent.wait(10)
    wait_until(lambda: not any(is_alive(pid) for pid in pids), 20, "no worker is left")


async def test_a_process_that_gives_no_answer_is_replaced(tmp_path: Path) -> None:
    """Whether it stands still on a call or does not even read the next: it is ended in time, and another goes on."""
    executor = Workers(1, call_seconds=5)
    decoder, said = decoder_on(executor)
    logs = logs_of(2)
    try:
        stuck, _ = decoder_on(executor, waiting(tmp_path / "pid"))
        stuck._report = said
        await decode(stuck, logs[:1])
        (pid,) = executor.pids
        os.kill(pid, signal.SIGSTOP)
        large = [replace(logs[0], body=bytes(8 * 2**20))]
        assert [share.reason for share in (await decode(decoder, large)).files if isinstance(share, Failure)] == [
            "not_gzip"
        ]
        assert plain(await decode(decoder, logs)) == plain(truth(logs))
        assert [name for name, _ in said.events] == ["worker_replaced"] * 2
        assert {str(fields["error"]) for _, fields in said.events} == {"gave no answer within 5 s"}
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def test_workers_come_after_the_process_that_answers() -> None:
    """Where cores are short the kernel prefers the event loop to the decoding: workers are nicer by five."""
    executor = Workers(1)
    assert executor.submit(os.nice, 0).result(60) == min(19, os.nice(0) + 5)
    executor.shutdown(wait=False)


def test_a_worker_imports_nothing_but_what_decoding_needs() -> None:
    """No event loop, no S3, no HTTP in a worker process: each costs memory once per core."""
    words = (
        "from cdn77_exporter.edge.decode_job import decode_files; from cdn77_exporter.edge.workers import Workers;"
        "from tests.support.decode_jobs import loaded_modules; workers = Workers(1);"
        "print(*workers.submit(loaded_modules).result(60)); workers.shutdown(wait=False)"
    )
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    out = subprocess.run([sys.executable, "-c", words], env=environ, check=True, capture_output=True, text=True)
    loaded = set(out.stdout.split())
    assert "cdn77_exporter.core.decode" in loaded
    assert not loaded & {"asyncio", "aiohttp", "botocore", "google.protobuf", "sqlite3", "ssl", "http.client"}


async def test_a_scheduler_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    """Without a scheduler a call is refused as passing; with it, and with one started anew, the same executor works."""
    with local_cluster(tmp_path, workers=0, start=False) as own:
        executor = Cluster(own.address, width=2, connect_seconds=2, call_seconds=60)
        decoder, said = decoder_on(executor)
        logs = logs_of(3)
        try:
            with pytest.raises(Transient, match="cannot be reached"):
                await decode(decoder, logs)
            own.start_scheduler()
            own.start_workers(1)
            assert plain(await until_it_works(decoder, logs)) == plain(truth(logs))
            meet = tmp_path / "pid"
            stuck, _ = decoder_on(executor, waiting(meet))
            under_way = asyncio.create_task(decode(stuck, logs))
            await asyncio.to_thread(wait_until, meet.exists, 60, "a worker is on the call")
            own.stop_scheduler()
            with pytest.raises(Transient, match="lost"):
                await under_way
            own.start_scheduler()
            own.start_workers(1)
            assert plain(await until_it_works(decoder, logs)) == plain(truth(logs))
            assert not said.events
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


async def test_a_cluster_without_workers_is_given_up_in_time(tmp_path: Path) -> None:
    """A call that no worker takes ends as passing when its time is over."""
    with local_cluster(tmp_path, workers=0) as own:
        executor = Cluster(own.address, width=1, connect_seconds=30, call_seconds=0.5)
        decoder, _ = decoder_on(executor)
        try:
            with pytest.raises(Transient, match=r"no worker .* within"):
                await decode(decoder, logs_of(1))
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


async def test_a_scheduler_that_accepts_and_says_nothing_is_given_up_in_time(tmp_path: Path) -> None:
    """A connection without a greeting is no connection: calls are refused as passing, and letting go does not wait."""
    with local_cluster(tmp_path, workers=1) as own:
        executor = Cluster(own.address, width=2, connect_seconds=1, call_seconds=60)
        decoder, _ = decoder_on(executor)
        logs = logs_of(2)
        try:
            own.wait_for_scheduler()
            with own.frozen_scheduler():
                for found in await asyncio.gather(*(decode(decoder, logs) for _ in range(3)), return_exceptions=True):
                    assert isinstance(found, Transient)
                    assert "cannot be reached" in str(found)
            assert plain(await until_it_works(decoder, logs)) == plain(truth(logs))
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


async def test_letting_go_of_a_silent_scheduler_does_not_wait(tmp_path: Path) -> None:
    """A stop while the connection is being made ends the calls, although no bound of theirs is reached."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        executor = Cluster(f"tcp://127.0.0.1:{silent.getsockname()[1]}", width=1, connect_seconds=3600)
        calls = [executor.submit(os.getpid) for _ in range(2)]
        peer, _ = await asyncio.to_thread(silent.accept)
        with peer:
            executor.shutdown(wait=True, cancel_futures=True)
        assert all(call.cancelled() for call in calls)
        with pytest.raises(RuntimeError):
            executor.submit(os.getpid)


async def test_letting_go_with_patience_waits_for_what_is_under_way(cluster: LocalCluster) -> None:
    """A plain shutdown lets the calls end, as for every executor."""
    executor = Cluster(cluster.address, width=2, connect_seconds=30)
    calls = [executor.submit(pow, 2, number) for number in range(4)]
    await asyncio.to_thread(executor.shutdown)
    assert [call.result(0) for call in calls] == [1, 2, 4, 8]


async def test_a_cluster_without_the_program_says_so_and_lives_on(tmp_path: Path) -> None:
    """A scheduler and workers of others: the calls are refused as passing with what to do, and no worker ends."""
    with local_cluster(tmp_path, workers=1, bare=True) as own:
        executor = Cluster(own.address, width=2, connect_seconds=30, call_seconds=60)
        decoder, said = decoder_on(executor)
        try:
            pid = await asyncio.to_thread(executor.submit(os.getpid).result, 60)
            for _ in range(3):
                with pytest.raises(Transient, match="cannot import cdn77_exporter; install"):
                    await decode(decoder, logs_of(2))
            assert await asyncio.to_thread(executor.submit(os.getpid).result, 60) == pid
            assert not said.events
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


async def until_it_works(decoder: ExecutorDecoder, logs: list[RawLog]) -> Decoded:
    """As the service does: again, when what decodes is not there."""
    for _ in range(60):
        try:
            return await decode(decoder, logs)
        except Transient:
            await asyncio.sleep(0.2)
    raise AssertionError("nothing decodes")
