"""The least policy of docs/security.md, as it stands there, on a Ceph gateway: enough for everything, and no more.

Ceph 16 wants the right to delete on the bucket itself, too, before it reads a request that deletes several objects;
each object is then judged by itself. So the page's policy names the bucket there.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cdn77_exporter.core.errors import Misconfigured, StateError
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.clock import Clock
from cdn77_exporter.edge.s3 import S3Bucket
from cdn77_exporter.edge.state import BucketState, Database, State
from cdn77_exporter.flow.lease import Lease, lease_prefix
from cdn77_exporter.flow.quarantine import REASON_SUFFIX, Quarantine
from tests.support.ceph_gateway import CephGateway
from tests.support.world import Said, Trouble

pytestmark = pytest.mark.ceph

_PAGE = Path(__file__).parent.parent.parent / "docs" / "security.md"
_BUCKET, _LOGS, _STATE, _ASIDE = "my-logs", "real-time-logs/all-logs", "exporter-state", "unreadable-logs"
_HOUR = f"{_LOGS}/20260110/14/"


def documented_policy() -> dict[str, Any]:
    """The policy of the page."""
    found = re.search(r"```json\n(.*?)```", _PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    policy: dict[str, Any] = json.loads(found[1])
    return policy


def documented_additions(beginning: str) -> list[dict[str, Any]]:
    """What the page's table says is needed for a setting or a command."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in _PAGE.read_text("utf-8").splitlines()]
    found = [
        {"Effect": "Allow", "Action": re.findall(r"s3:\w+", row[1]), "Resource": row[2].strip("`")}
        for row in rows
        if len(row) == 3 and row[0].strip("`").startswith(beginning) and "arn:aws:s3:::" in row[2]
    ]
    assert found
    return found


class Shop:
    """The bucket `my-logs` of one user, and the program's client of another, who may do what the policy says."""

    def __init__(self, ceph: CephGateway) -> None:
        self._ceph = ceph
        self.owner = self._client(ceph.access_key, ceph.secret_key)
        self.guest = self._client(ceph.guest_access_key, ceph.guest_secret_key)
        self.owner.create_bucket(Bucket=_BUCKET)

    def _client(self, access_key: str, secret_key: str) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self._ceph.endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    def allow(self, *additions: str) -> None:
        """Put the page's policy on the bucket, with what it says is needed for these."""
        policy = documented_policy()
        for beginning in additions:
            policy["Statement"] += documented_additions(beginning)
        for statement in policy["Statement"]:
            statement["Principal"] = {"AWS": [self._ceph.guest_arn]}
        self.owner.put_bucket_policy(Bucket=_BUCKET, Policy=json.dumps(policy))

    def put(self, key: str, body: bytes = b"a log") -> None:
        self.owner.put_object(Bucket=_BUCKET, Key=key, Body=body)

    def names(self) -> list[str]:
        return [found["Key"] for found in self.owner.list_objects_v2(Bucket=_BUCKET).get("Contents", [])]

    def open(self) -> S3Bucket:
        return S3Bucket(
            endpoint=self._ceph.endpoint,
            bucket=_BUCKET,
            access_key=self._ceph.guest_access_key,
            secret_key=self._ceph.guest_secret_key,
            region="us-east-1",
        )

    def empty(self) -> None:
        for key in self.names():
            self.owner.delete_object(Bucket=_BUCKET, Key=key)
        for upload in self.owner.list_multipart_uploads(Bucket=_BUCKET).get("Uploads", []):
            self.owner.abort_multipart_upload(Bucket=_BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
        self.owner.delete_bucket(Bucket=_BUCKET)


@pytest.fixture
async def shop(ceph: CephGateway) -> AsyncIterator[Shop]:
    """A bucket of its own for each test."""
    made = Shop(ceph)
    try:
        yield made
    finally:
        made.empty()


async def listed(bucket: S3Bucket) -> list[LogFile]:
    """The log files that the program sees."""
    return [file async for page in bucket.list_files(f"{_LOGS}/") for file in page]


async def test_the_policy_is_enough_to_count(shop: Shop) -> None:
    """Under the least policy files are listed, fetched and deleted, and the lease is held and given up."""
    shop.allow()
    for number in range(25):
        shop.put(f"{_HOUR}rtl.w+1+{number}.ndjson.gz")
    async with shop.open() as bucket:
        lease = Lease(bucket, lease_prefix(_LOGS), Clock(), Said(), Trouble())
        assert await lease.take(asyncio.Event())
        (held,) = await bucket.list_uploads(lease_prefix(_LOGS))
        later = await bucket.begin_upload(held[0])  # as a renewal does
        assert await bucket.abort_upload(held[0], later)
        files = await listed(bucket)
        assert len(files) == 25
        assert await bucket.fetch(files[0]) == b"a log"
        assert await bucket.delete(files[:1]) == {}
        assert await bucket.delete(files[1:]) == {}
        assert await bucket.delete(files[:2]) == {}  # gone already: to see that takes the right to list
        await lease.release()
        assert await bucket.list_uploads(lease_prefix(_LOGS)) == []
    assert shop.names() == []
    assert not shop.owner.list_multipart_uploads(Bucket=_BUCKET).get("Uploads")


async def test_the_policy_is_enough_for_a_state_in_the_bucket(shop: Shop) -> None:
    """With the row of STATE_PATH a state is made in the bucket, grows, is saved anew, and is found again."""
    shop.allow("STATE_PATH=")
    async with shop.open() as bucket:
        state = await BucketState.open(bucket, _STATE)
        key = state.database.secret_key()
        await state.set_aside(LogFile(f"{_HOUR}x.gz", "etag", 1, 0), "empty")
        await state.take()
        await state.save()
        state.close()
        again = await BucketState.open(bucket, _STATE)
        assert again.database.secret_key() == key
        assert [one.key for one in await again.aside()] == [f"{_HOUR}x.gz"]
        again.close()
    assert shop.names()
    assert all(key.startswith(f"{_STATE}/") for key in shop.names())


async def test_the_policy_is_enough_to_move_files_aside(shop: Shop) -> None:
    """With the row of QUARANTINE_PREFIX a file is copied, compared, explained and removed from the logs."""
    shop.allow("QUARANTINE_PREFIX=")
    key = f"{_HOUR}rtl.w+1+7.ndjson.gz"
    shop.put(key, b"no gzip")
    said, trouble = Said(), Trouble()
    async with shop.open() as bucket:
        (file,) = await listed(bucket)
        state = State(Database(":memory:"))
        await state.set_aside(file, "not_gzip")
        await Quarantine(bucket, state, Clock(), said, trouble, _ASIDE).sweep()
        assert await state.aside() == []
        state.close()
    assert [name for name, _ in said.events] == ["file_quarantined"]
    assert trouble.ever == []
    assert shop.names() == [f"{_ASIDE}/{key}", f"{_ASIDE}/{key}{REASON_SUFFIX}"]


async def test_the_policy_is_enough_to_release_a_file(shop: Shop) -> None:
    """With the rows of the command, too, a file that was moved aside is brought back to where it is listed."""
    shop.allow("QUARANTINE_PREFIX=", "for who runs")
    aside = f"{_ASIDE}/{_HOUR}rtl.w+1+7.ndjson.gz"
    shop.put(aside)
    async with shop.open() as bucket:
        await bucket.copy(aside, aside.removeprefix(f"{_ASIDE}/"))
        await bucket.put(aside + REASON_SUFFIX, b"{}")
        await bucket.remove(aside)
        await bucket.remove(aside + REASON_SUFFIX)
        assert len(await listed(bucket)) == 1


async def test_the_policy_gives_nothing_else(shop: Shop) -> None:
    """What the page does not list is refused: other folders, writing logs, the bucket's own settings, other buckets."""
    shop.allow()
    log, lease = f"{_HOUR}rtl.w+1+7.ndjson.gz", f"{lease_prefix(_LOGS)}x"
    for key in (log, lease, "elsewhere/secret", f"{_STATE}/x", f"{_ASIDE}/x"):
        shop.put(key)
    async with shop.open() as bucket:
        for key in ("elsewhere/secret", f"{_STATE}/x", f"{_ASIDE}/x", lease):
            if key != lease:  # beside it lies the last tick that was pushed
                with pytest.raises(Misconfigured):
                    await bucket.get(key)
            with pytest.raises(Misconfigured):
                await bucket.remove(key)
        for key in (log, "elsewhere/new", f"{_STATE}/new", f"{_ASIDE}/new", "new"):
            with pytest.raises(Misconfigured):
                await bucket.put(key, b"mine")
            with pytest.raises(Misconfigured):
                await bucket.begin_upload(key)
        with pytest.raises(Misconfigured):
            await bucket.copy(log, f"{_ASIDE}/{log}")
        with pytest.raises((Misconfigured, StateError)):
            await BucketState.open(bucket, f"{_STATE}/fresh")
    several = [{"Key": key} for key in shop.names() if key != log]
    answer = shop.guest.delete_objects(Bucket=_BUCKET, Delete={"Objects": several})
    assert [error["Code"] for error in answer["Errors"]] == ["AccessDenied"] * 4
    for call, values in (
        ("delete_bucket", {}),
        ("get_bucket_policy", {}),
        ("put_bucket_policy", {"Policy": "{}"}),
        ("put_bucket_acl", {"ACL": "public-read"}),
        ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
        ("put_object_acl", {"Key": log, "ACL": "public-read"}),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            getattr(shop.guest, call)(Bucket=_BUCKET, **values)
    assert sorted(shop.names()) == sorted([log, lease, "elsewhere/secret", f"{_STATE}/x", f"{_ASIDE}/x"])
