"""What a worker of a cluster takes and refuses, and that nothing secret is in a call to it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cdn77_exporter import __version__
from cdn77_exporter.core.decode import Limits
from cdn77_exporter.core.decoded import Decoded, Failure
from cdn77_exporter.core.files import LogFile, RawLog
from cdn77_exporter.core.path_pattern import DEFAULT_STREAM_PATTERN
from cdn77_exporter.edge.decode_job import DecoderRules
from cdn77_exporter.service.cluster_job import fetch_and_decode, on_cluster

RULES = DecoderRules(15, DEFAULT_STREAM_PATTERN, Limits())
FILES = [LogFile(f"logs/20260110/14/rtl.w+0+{number}.ndjson.gz", "etag", 100, 1) for number in range(3)]
ENVIRON = {
    "S3_ENDPOINT": "http://127.0.0.1:9",
    "S3_BUCKET": "the-bucket",
    "S3_ACCESS_KEY": "the-access-key",
    "S3_SECRET_KEY": "the-secret-key",
}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Decoded]:
    """A call on a worker's thread, which is new: what is kept for a thread is not kept from another test."""

    def call(bucket: str = "the-bucket", version: str = __version__, **environ: str | None) -> Decoded:
        for name, value in {**ENVIRON, **environ}.items():
            monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(fetch_and_decode, version, bucket, RULES, FILES, [1, 1, 1], 0, [None] * 3).result(60)

    return call


def refusals(bundle: Decoded) -> set[tuple[str, str]]:
    """Why all files were refused: reason and remedy."""
    assert len(bundle.files) == len(FILES)
    assert len(bundle.counts) == 0
    found = set()
    for share in bundle.files:
        assert isinstance(share, Failure)
        assert share.kind == "misconfigured"
        found.add((share.reason, share.more))
    return found


def test_a_worker_of_another_version_refuses(worker: Callable[..., Decoded]) -> None:
    """Another program's numbers are not taken."""
    ((reason, remedy),) = refusals(worker(version="9.9.9"))
    assert __version__ in reason
    assert "9.9.9" in remedy


def test_a_worker_for_another_bucket_refuses(worker: Callable[..., Decoded]) -> None:
    """It would look for the files in the wrong place, and perhaps find others there."""
    ((reason, remedy),) = refusals(worker(bucket="another"))
    assert "another bucket" in reason
    assert "S3_BUCKET" in remedy


@pytest.mark.parametrize("name", ENVIRON)
def test_a_worker_without_a_variable_refuses_and_names_it(worker: Callable[..., Decoded], name: str) -> None:
    """The exporter's log says what is missing on a machine that has no log of its own."""
    ((reason, remedy),) = refusals(worker(**{name: None}))
    assert "not configured" in reason
    assert name in remedy
    assert "the-secret-key" not in remedy


def test_a_worker_that_cannot_reach_the_bucket_leaves_the_files_for_later(worker: Callable[..., Decoded]) -> None:
    """That is passing, and no fault of the files."""
    bundle = worker()
    assert [share.kind for share in bundle.files if isinstance(share, Failure)] == ["transient"] * len(FILES)


def test_nothing_secret_is_in_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in what is sent nor in what a scheduler or a log may show of it."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    call, values = on_cluster("the-bucket", RULES)([RawLog(file, b"") for file in FILES])
    sent = pickle.dumps((call, values)) + repr((call, values)).encode()
    assert b"the-bucket" in sent
    assert b"the-secret-key" not in sent
    assert b"the-access-key" not in sent
