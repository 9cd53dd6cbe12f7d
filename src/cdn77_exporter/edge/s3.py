"""The bucket: lists, fetches, deletes, and keeps small objects; every error is classified here, once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aioboto3
import aiohttp
import botocore.exceptions
from aiobotocore.config import AioConfig

from cdn77_exporter.core.errors import Conflict, FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.model import LogFile

SecretText = str | Callable[[], str]


def _text(secret: SecretText) -> str:
    return secret() if callable(secret) else secret


class S3Bucket:
    def __init__(self, *, endpoint: str, bucket: str, access_key: SecretText, secret_key: SecretText, region: str | None = None,
                 ca_bundle: Path | None = None, concurrency: int = 8, body_timeout: float = 60.0) -> None:
        self._endpoint, self._bucket = endpoint, bucket
        self._access, self._secret = access_key, secret_key
        self._region, self._ca = region, ca_bundle
        self._concurrency, self._body_timeout = concurrency, body_timeout
        self.server_ms: int | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        config = AioConfig(
            signature_version="s3v4", retries={"mode": "standard", "max_attempts": 3},
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
            connect_timeout=5, read_timeout=20, s3={"addressing_style": "path"},
            max_pool_connections=self._concurrency + 4, connector_args={"keepalive_timeout": 60})
        session = aioboto3.Session()
        self._client = await self._stack.enter_async_context(session.client(
            "s3", endpoint_url=self._endpoint, region_name=self._region or "us-east-1", config=config,
            verify=str(self._ca) if self._ca else None,
            aws_access_key_id=_text(self._access), aws_secret_access_key=_text(self._secret)))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def _call(self, name: str, **values: Any) -> Any:
        try:
            answer = await getattr(self._client, name)(Bucket=self._bucket, **values)
        except botocore.exceptions.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in ("404", "NoSuchKey", "NoSuchUpload"):
                raise FileGone(code) from error
            if code in ("412", "PreconditionFailed"):
                raise Conflict(code) from error
            if code in ("403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "ExpiredToken"):
                raise Misconfigured(f"the bucket answers {code}", "look at S3_BUCKET and the S3 keys") from error
            raise Transient(f"the bucket answers {code}") from error
        except (botocore.exceptions.BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Transient(f"the bucket cannot be reached: {type(error).__name__}") from error
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date:
            self.server_ms = int(parsedate_to_datetime(date).timestamp() * 1000)
        return answer

    async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        token: dict[str, str] = {}
        while True:
            answer = await self._call("list_objects_v2", Prefix=prefix, **token)
            yield [LogFile(o["Key"], o["ETag"].strip('"'), o["Size"], int(o["LastModified"].timestamp() * 1000)) for o in answer.get("Contents", [])]
            if not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    async def fetch(self, file: LogFile) -> bytes:
        answer = await self._call("get_object", Key=file.key)
        try:
            async with asyncio.timeout(self._body_timeout), answer["Body"] as stream:
                body: bytes = await stream.read()
        except (aiohttp.ClientError, OSError, TimeoutError, botocore.exceptions.BotoCoreError) as error:
            raise Transient(f"the body ended early: {type(error).__name__}") from error
        if len(body) != file.size:
            raise Unreadable("size_mismatch")
        if "-" not in file.etag and hashlib.md5(body, usedforsecurity=False).hexdigest() != file.etag:
            raise Unreadable("checksum_mismatch")
        return body

    async def delete(self, files: Sequence[LogFile]) -> dict[tuple[str, str], str]:
        failures: dict[tuple[str, str], str] = {}
        for file in files:
            try:
                await self._call("delete_object", Key=file.key)
            except FileGone:
                pass
        return failures

    async def get(self, key: str) -> tuple[bytes, str] | None:
        try:
            answer = await self._call("get_object", Key=key)
        except FileGone:
            return None
        async with answer["Body"] as stream:
            return await stream.read(), answer["ETag"].strip('"')

    async def put(self, key: str, body: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        values: dict[str, str] = {}
        if if_none_match:
            values["IfNoneMatch"] = "*"
        if if_match:
            values["IfMatch"] = if_match
        answer = await self._call("put_object", Key=key, Body=body, **values)
        return str(answer["ETag"]).strip('"')

    async def remove(self, key: str) -> None:
        await self._call("delete_object", Key=key)

    async def list_keys(self, prefix: str) -> AsyncIterator[list[str]]:
        async for page in self.list_files(prefix):
            yield [file.key for file in page]

    async def begin_upload(self, key: str) -> str:
        """Begin an upload that is not completed; its id."""
        answer = await self._call("create_multipart_upload", Key=key)
        return str(answer["UploadId"])

    async def abort_upload(self, key: str, upload: str) -> bool:
        """End an upload; False when there was none of that id."""
        try:
            await self._call("abort_multipart_upload", Key=key, UploadId=upload)
        except FileGone:
            return False
        return True

    async def list_uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Keys and ids of uploads that are begun and not completed (the first thousand)."""
        answer = await self._call("list_multipart_uploads", Prefix=prefix)
        return [(found["Key"], found["UploadId"]) for found in answer.get("Uploads", [])]
