"""The job of a cluster's worker: fetches files with the credentials of its own environment, checks and decodes them.

The worker is configured like the exporter, by the `S3_` variables of its environment. Nothing secret is in a call.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence

from cdn77_exporter import __version__
from cdn77_exporter.clients import open_bucket
from cdn77_exporter.core.content import Content
from cdn77_exporter.core.decoded import Decoded, Failure
from cdn77_exporter.core.errors import ConfigError, FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.decode_job import DecoderRules, decode_files
from cdn77_exporter.edge.decoding import Job
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.settings import Settings, load

_own = threading.local()
# A worker has a core: one thread decodes, and another may fetch meanwhile.
_decoding = threading.Lock()


def on_cluster(bucket: str, rules: DecoderRules) -> Job:
    """Return the job of fetching and decoding files of `bucket`."""
    return lambda logs: (fetch_and_decode, (__version__, bucket, rules, [log.file for log in logs]))


def fetch_and_decode(
    version: str,
    bucket: str,
    rules: DecoderRules,
    files: Sequence[LogFile],
    latest_ms: Sequence[int],
    oldest_ms: int,
    counted: Sequence[Content | None],
) -> Decoded:
    """Fetch and decode files of `bucket` together; raises nothing that is an answer of the bucket.

    `version` is the exporter's: another program's numbers are not taken.
    """
    if version != __version__:
        return _refuse(files, f"a worker has version {__version__}", f"run version {version} on all workers")
    try:
        own, runner = _bucket()
    except ConfigError as error:
        return _refuse(files, "a worker is not configured", " ".join(error.faults))
    if own.s3_bucket != bucket:
        return _refuse(files, "a worker is set up for another bucket", "set S3_BUCKET as the exporter has it")
    bodies = runner.run(_fetch_all(_own.client, files))
    with _decoding:
        return decode_files(rules, bodies, latest_ms, oldest_ms, counted)


def _refuse(files: Sequence[LogFile], reason: str, remedy: str) -> Decoded:
    return Decoded([Failure("misconfigured", reason, remedy) for _ in files])


def _bucket() -> tuple[Settings, asyncio.Runner]:
    """Return the settings of this worker, and this thread's event loop, on which its client of the bucket is open."""
    if getattr(_own, "runner", None) is None:
        settings = worker_settings(os.environ)
        client = open_bucket(settings)
        runner = asyncio.Runner()
        runner.run(client.__aenter__())  # open for as long as the worker lives
        _own.settings, _own.client, _own.runner = settings, client, runner
    return _own.settings, _own.runner


def worker_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings of a worker, which needs those of the bucket alone; raises ConfigError."""
    return load({"S3_PREFIX": "/"} | {name: text for name, text in environ.items() if text.strip()}, receiver=False)


async def _fetch_all(bucket: S3Bucket, files: Sequence[LogFile]) -> list[bytes | Failure]:
    return await asyncio.gather(*(_fetch(bucket, file) for file in files))


async def _fetch(bucket: S3Bucket, file: LogFile) -> bytes | Failure:
    try:
        return await bucket.fetch(file)
    except (FileGone, Misconfigured, Transient, Unreadable) as error:
        return Failure.of(error)
