"""The bucket's contract, kept by the fake and by the client with moto and with a Ceph gateway, plain and over TLS."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from cdn77_exporter.core.errors import Conflict, FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.s3 import S3Bucket
from tests.support.ceph_gateway import CephGateway
from tests.support.fake_bucket import FakeBucket

AnyBucket = S3Bucket | FakeBucket

FOLDER = "real-time-logs/all-logs/20260110/14/"
_numbers = itertools.count(1)


@cache
def _client(endpoint: str, access_key: str, secret_key: str, ca_bundle: Path | None) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        verify=str(ca_bundle) if ca_bundle else None,
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )


@dataclass(frozen=True, slots=True)
class Server:
    """An S3 server and a bucket on it that no other test uses."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    ca_bundle: Path | None = None

    def client(self) -> Any:
        """A client that is not the program's."""
        return _client(self.endpoint, self.access_key, self.secret_key, self.ca_bundle)

    def open(self, **other: Any) -> S3Bucket:
        """The program's client, to be entered."""
        values: dict[str, Any] = {
            "endpoint": self.endpoint,
            "bucket": self.bucket,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "ca_bundle": self.ca_bundle,
        }
        return S3Bucket(**(values | other))


def _server(kind: str, request: pytest.FixtureRequest) -> Server:
    name = f"contract-{next(_numbers)}"
    if kind == "moto":
        server = Server(request.getfixturevalue("moto"), "any", "any", name)
    else:
        gateway: CephGateway = request.getfixturevalue("ceph")
        tls = kind == "ceph over TLS"
        endpoint = gateway.tls_endpoint if tls else gateway.endpoint
        server = Server(endpoint, gateway.access_key, gateway.secret_key, name, gateway.ca_bundle if tls else None)
    server.client().create_bucket(Bucket=name)
    return server


CEPH = [pytest.param("ceph", marks=pytest.mark.ceph), pytest.param("ceph over TLS", marks=pytest.mark.ceph)]


@pytest.fixture(params=["moto", *CEPH])
def server(request: pytest.FixtureRequest) -> Server:
    """Every real server in turn."""
    return _server(request.param, request)


@pytest.fixture(params=CEPH)
def strict_server(request: pytest.FixtureRequest) -> Server:
    """Every server that checks credentials; moto takes any."""
    return _server(request.param, request)


@pytest.fixture(params=["fake", "moto", *CEPH])
async def bucket(request: pytest.FixtureRequest) -> AsyncIterator[AnyBucket]:
    """The fake and the client with every server in turn, each with an empty bucket."""
    opened: AnyBucket = FakeBucket() if request.param == "fake" else _server(request.param, request).open()
    async with opened as ready:
        yield ready


async def listed(bucket: AnyBucket, prefix: str = "") -> list[LogFile]:
    """All files under a prefix."""
    return [file async for page in bucket.list_files(prefix) for file in page]


async def keys(bucket: AnyBucket, prefix: str = "") -> list[str]:
    """All keys under a prefix."""
    return [key async for page in bucket.list_keys(prefix) for key in page]


async def put_files(bucket: AnyBucket, count: int) -> list[LogFile]:
    """Log files of three shards, as they are listed afterwards."""
    turns = asyncio.Semaphore(8)

    async def put(number: int) -> None:
        async with turns:
            await bucket.put(f"{FOLDER}rtl.0b5e+{number % 3}+{number}.ndjson.gz", b"%d" % number)

    await asyncio.gather(*(put(number) for number in range(count)))
    return await listed(bucket, FOLDER)


# Listing


async def test_a_file_is_listed_as_it_was_written(bucket: AnyBucket) -> None:
    """A listing tells key, ETag, size and time of writing, in milliseconds; and shard and sequence from the name."""
    before_ms = time.time_ns() // 1_000_000
    key = f"{FOLDER}rtl.0b5e+2+17.ndjson.gz"
    etag = await bucket.put(key, b"some bytes")
    (file,) = await listed(bucket, FOLDER)
    assert file == LogFile(key, etag, 10, file.modified_ms)
    assert (file.shard, file.sequence) == ("2", 17)
    assert before_ms - 2000 <= file.modified_ms <= time.time_ns() // 1_000_000 + 2000


async def test_only_what_lies_under_the_prefix_is_listed_in_order(bucket: AnyBucket) -> None:
    """Files come in the order of their keys' bytes, those of other folders not at all, and none from an empty one."""
    names = ["b", "a", "Z", "a/b", "ä", "é", "🚂", "~", "0"]
    for name in names:
        await bucket.put(f"in/{name}", b"1")
    await bucket.put("inn/a", b"1")
    assert [file.key for file in await listed(bucket, "in/")] == sorted(f"in/{name}" for name in names)
    assert await listed(bucket, "elsewhere/") == []


NAMES = ["a b", "a+b", "a%2Bb", "a&b;c", "a<b>'\"", "ünï🚂", "a//b", "a?b=c", "a#b", "a\\b", "..a", "a=b@c,d"]


async def test_every_name_survives_all_calls(bucket: AnyBucket) -> None:
    """A key is the same in listing, reading, copying and deleting, whatever signs it has."""
    for name in NAMES:
        await bucket.put(f"{FOLDER}{name}", name.encode())
        await bucket.copy(f"{FOLDER}{name}", f"copies/{name}")
    files = await listed(bucket, FOLDER)
    assert [file.key for file in files] == sorted(f"{FOLDER}{name}" for name in NAMES)
    assert await keys(bucket, "copies/") == sorted(f"copies/{name}" for name in NAMES)
    for file in files:
        assert await bucket.fetch(file) == file.key.removeprefix(FOLDER).encode()
    assert await bucket.delete(files[:3]) == {}
    assert await bucket.delete(files) == {}
    assert await keys(bucket, FOLDER) == []


async def test_folder_objects_are_no_files(bucket: AnyBucket) -> None:
    """Empty objects that consoles make for folders are keys, but not files."""
    await bucket.put(FOLDER, b"")
    await bucket.put(f"{FOLDER}file", b"1")
    assert [file.key for file in await listed(bucket)] == [f"{FOLDER}file"]
    assert await keys(bucket) == [FOLDER, f"{FOLDER}file"]


async def test_more_than_a_page_is_listed_and_deleted_whole(bucket: AnyBucket) -> None:
    """More than 1,000 files come in pages of at most that many, each file once, and can be deleted at once."""
    files = await put_files(bucket, 1003)
    assert len({file.key for file in files}) == len(files) == 1003
    sizes = [len(page) async for page in bucket.list_files(FOLDER)]
    assert max(sizes) <= 1000
    assert await bucket.delete(files[:-1]) == {}
    assert await listed(bucket) == files[-1:]


async def test_the_clock_of_the_server_is_known(bucket: AnyBucket) -> None:
    """Every answer tells the server's time, which goes on until it is asked for."""
    assert bucket.take_server_ms() is None
    await keys(bucket)
    server_ms = bucket.take_server_ms()
    assert server_ms is not None
    assert abs(server_ms - time.time() * 1000) < 60_000
    assert bucket.take_server_ms() is None


# Fetching


@pytest.mark.parametrize("size", [0, 1, 3 * 1024 * 1024], ids=["empty", "one byte", "3 MiB"])
async def test_a_file_is_fetched_whole(bucket: AnyBucket, size: int) -> None:
    """What is fetched is what was written, of any size."""
    body = bytes(range(256)) * (size // 256) if size > 1 else b"x" * size
    await bucket.put("file", body)
    (file,) = await listed(bucket)
    assert await bucket.fetch(file) == body


async def test_a_file_that_is_gone_or_changed_is_not_fetched(bucket: AnyBucket) -> None:
    """An object that is no longer the listed one is gone, whether it was deleted or replaced."""
    old, other = await put_files(bucket, 2)
    await bucket.put(old.key, b"something else")
    await bucket.remove(other.key)
    for file in (old, other):
        with pytest.raises(FileGone):
            await bucket.fetch(file)


async def test_a_body_of_another_size_is_not_accepted(bucket: AnyBucket) -> None:
    """A body that has not the listed length is never handed out."""
    (file,) = await put_files(bucket, 1)
    with pytest.raises(Unreadable) as caught:
        await bucket.fetch(replace(file, size=file.size + 1))
    assert caught.value.reason == "size_mismatch"


async def test_a_file_uploaded_in_parts_is_fetched(server: Server) -> None:
    """An ETag that is no MD5, as that of an upload in parts, is no obstacle."""
    client = server.client()
    upload = client.create_multipart_upload(Bucket=server.bucket, Key="parts")["UploadId"]
    bodies = [b"a" * 5 * 1024 * 1024, b"b"]
    values = {"Bucket": server.bucket, "Key": "parts", "UploadId": upload}
    parts = [
        {"PartNumber": number, "ETag": client.upload_part(**values, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    client.complete_multipart_upload(**values, MultipartUpload={"Parts": parts})
    async with server.open() as bucket:
        (file,) = await listed(bucket)
        assert "-" in file.etag
        assert await bucket.fetch(file) == b"".join(bodies)
        assert await bucket.delete([file]) == {}


# Deletion


@pytest.mark.parametrize("count", [4, 25], ids=["few", "many"])
async def test_only_the_listed_objects_are_deleted(bucket: AnyBucket, count: int) -> None:
    """A changed object stays and is told; one that has gone counts as deleted; neighbours stay."""
    files = await put_files(bucket, count + 1)
    spared = files.pop(count // 2)
    changed, gone = files[0], files[-1]
    await bucket.put(changed.key, b"replaced")
    await bucket.remove(gone.key)
    assert await bucket.delete(files) == {changed.identity: "changed"}
    assert await keys(bucket) == sorted([spared.key, changed.key])
    assert await bucket.get(changed.key) is not None


async def test_files_of_several_folders_are_deleted_together(bucket: AnyBucket) -> None:
    """Files may lie anywhere; a second deletion of the same files has nothing left to do."""
    for number in range(30):
        await bucket.put(f"logs/{number % 3}/{'deep/' * (number % 2)}file-{number}", b"%d" % number)
    files = await listed(bucket)
    assert await bucket.delete(list(reversed(files))) == {}
    assert await listed(bucket) == []
    assert await bucket.delete(files) == {}
    assert await bucket.delete([]) == {}


async def test_of_two_contents_of_a_key_the_present_one_is_deleted(bucket: AnyBucket) -> None:
    """When a key was listed twice with different contents, the present one is deleted and the other is told."""
    (old,) = await put_files(bucket, 1)
    await bucket.put(old.key, b"new content")
    (new,) = await listed(bucket)
    assert await bucket.delete([old, new]) == {old.identity: "changed"}
    assert await listed(bucket) == []


# Small objects


async def test_an_object_is_read_as_written(bucket: AnyBucket) -> None:
    """A read gives the bytes and the ETag of the last write; None where there is nothing."""
    assert await bucket.get("state/a") is None
    await bucket.put("state/a", b"first")
    etag = await bucket.put("state/a", b"second" * 200_000)
    assert await bucket.get("state/a") == (b"second" * 200_000, etag)


async def test_conditional_writes(bucket: AnyBucket) -> None:
    """A write that demands that nothing is there, or a certain object, does nothing otherwise."""
    first = await bucket.put("lease", b"one", if_none_match=True)
    with pytest.raises(Conflict):
        await bucket.put("lease", b"two", if_none_match=True)
    second = await bucket.put("lease", b"three", if_match=first)
    with pytest.raises(Conflict):
        await bucket.put("lease", b"four", if_match=first)
    with pytest.raises(Conflict):
        await bucket.put("nothing there", b"five", if_match=first)
    assert await bucket.get("lease") == (b"three", second)
    assert await bucket.get("nothing there") is None


async def test_of_many_that_create_an_object_one_succeeds(bucket: AnyBucket) -> None:
    """Of writers at the same time that all demand that nothing is there, one writes."""

    async def write(number: int) -> bytes | None:
        body = b"writer %d" % number
        try:
            await bucket.put("lease", body, if_none_match=True)
        except (Conflict, Transient):
            return None
        return body

    winners = [body for body in await asyncio.gather(*map(write, range(6))) if body is not None]
    found = await bucket.get("lease")
    assert found is not None
    assert winners == [found[0]]


async def test_copies(bucket: AnyBucket) -> None:
    """A copy has the same bytes and leaves the source; there is none of nothing."""
    await bucket.put("source", b"bytes")
    await bucket.copy("source", "target/copy")
    assert [(await bucket.get(key) or (None,))[0] for key in ("source", "target/copy")] == [b"bytes", b"bytes"]
    with pytest.raises(FileGone):
        await bucket.copy("nothing", "target/other")
    assert await keys(bucket, "target/") == ["target/copy"]


async def test_removing_is_done_when_nothing_is_left(bucket: AnyBucket) -> None:
    """An object can be removed more than once."""
    await bucket.put("object", b"1")
    await bucket.remove("object")
    await bucket.remove("object")
    assert await keys(bucket) == []


async def test_uploads_that_are_begun_can_be_seen_and_ended(bucket: AnyBucket) -> None:
    """An upload is listed until it is ended, is no object, and can be ended once."""
    one, two = await bucket.begin_upload("lease/one"), await bucket.begin_upload("lease/one")
    other = await bucket.begin_upload("elsewhere/one")
    assert sorted(await bucket.list_uploads("lease/")) == sorted([("lease/one", one), ("lease/one", two)])
    assert await bucket.abort_upload("lease/one", one)
    assert not await bucket.abort_upload("lease/one", one)
    assert await bucket.list_uploads("lease/") == [("lease/one", two)]
    assert await bucket.list_uploads("elsewhere/") == [("elsewhere/one", other)]
    assert await keys(bucket) == []


# What an operator has to set right


async def test_a_bucket_that_is_not_there_is_told(server: Server) -> None:
    """The name of the setting stands in the remedy, for every kind of call."""
    async with server.open(bucket="no-such-bucket-anywhere") as bucket:
        file = LogFile("key", "0" * 32, 1, 0)
        for call in (keys(bucket), bucket.fetch(file), bucket.put("key", b"1"), bucket.remove("key")):
            with pytest.raises(Misconfigured) as caught:
                await call
            assert "S3_BUCKET" in caught.value.remedy


async def test_wrong_keys_are_told_without_showing_them(strict_server: Server) -> None:
    """An unknown access key and a wrong secret key are told apart; neither is in any text."""
    secret = "not-the-secret-0123456789"
    for values, part in (({"access_key": "unknown-key"}, "S3_ACCESS_KEY"), ({"secret_key": secret}, "S3_SECRET_KEY")):
        async with strict_server.open(**values) as bucket:
            with pytest.raises(Misconfigured) as caught:
                await keys(bucket)
        assert part in caught.value.remedy
        told = f"{caught.value!r} {caught.value} {caught.value.remedy}"
        assert not any(one in told for one in (*values.values(), strict_server.secret_key))


async def test_changed_keys_are_used_at_once(strict_server: Server) -> None:
    """Keys that are given as callables are asked for at every request."""
    now = "wrong"
    async with strict_server.open(secret_key=lambda: now) as bucket:
        with pytest.raises(Misconfigured):
            await keys(bucket)
        now = strict_server.secret_key
        assert await keys(bucket) == []
        now = "wrong again"
        with pytest.raises(Misconfigured):
            await keys(bucket)


async def test_another_owners_bucket_is_refused(strict_server: Server) -> None:
    """Where the key lacks a right, the call and the right are named."""
    client = strict_server.client()
    policy = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:DeleteObject",'
        f'"Resource":"arn:aws:s3:::{strict_server.bucket}/*"}}]}}'
    )
    client.put_bucket_policy(Bucket=strict_server.bucket, Policy=policy)
    async with strict_server.open() as bucket:
        files = await put_files(bucket, 12)
        assert await bucket.delete(files) == {file.identity: "AccessDenied" for file in files}
        with pytest.raises(Misconfigured, match="delete an object"):
            await bucket.remove(files[0].key)
        assert await listed(bucket) == files
