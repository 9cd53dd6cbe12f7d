"""The bucket in memory: what `S3Bucket` offers and means, with failures and gates that a test sets."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from cdn77_exporter.core.errors import Conflict, FileGone, Unreadable
from cdn77_exporter.core.files import LogFile


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's bytes and when it was written."""

    body: bytes
    modified_ms: int

    @property
    def etag(self) -> str:
        """The MD5 of the bytes."""
        return hashlib.md5(self.body, usedforsecurity=False).hexdigest()


class FakeBucket:
    """A bucket whose calls are counted, can fail, and can be held.

    `now_ms` tells the time of writing. Names of calls are those of the methods: "list_files", "fetch", and so on.
    """

    def __init__(self, *, now_ms: Callable[[], int] | None = None, page_size: int = 1000) -> None:
        self._server_ms: int | None = None
        self.ignored: dict[str, tuple[int, str]] = {}
        self.objects: dict[str, StoredObject] = {}
        self.calls: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()  # calls that have begun and not ended, held ones too
        self.most_under_way: Counter[str] = Counter()
        self.fetched_bytes = 0
        self.deletion_failures: dict[str, str] = {}  # key -> reason, as a multi-delete tells per key
        self._now_ms = now_ms or _wall_ms
        self._page_size = page_size
        self._failures: defaultdict[str, list[Exception]] = defaultdict(list)
        self._gates: dict[str, asyncio.Event] = {}
        self._uploads: dict[tuple[str, str], None] = {}
        self._upload_number = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    # What a test sets

    def fail(self, call: str, *errors: Exception) -> None:
        """Let the next calls of a name raise these, one each, before they have done anything."""
        self._failures[call] += errors

    def hold(self, call: str) -> asyncio.Event:
        """Let calls of a name wait from now on, until the event that is returned is set."""
        return self._gates.setdefault(call, asyncio.Event())

    def file(self, key: str) -> LogFile:
        """An object as a listing names it."""
        found = self.objects[key]
        return LogFile(key, found.etag, len(found.body), found.modified_ms)

    def keys(self, prefix: str = "") -> list[str]:
        """The keys under a prefix, in a listing's order."""
        return sorted(key for key in self.objects if key.startswith(prefix))

    @contextmanager
    def _counted(self, call: str) -> Iterator[None]:
        self.calls[call] += 1
        self.under_way[call] += 1
        self.most_under_way[call] = max(self.most_under_way[call], self.under_way[call])
        try:
            yield
        finally:
            self.under_way[call] -= 1

    async def _pass(self, call: str) -> None:
        await asyncio.sleep(0)
        if call in self._gates:
            await self._gates[call].wait()
        if self._failures[call]:
            raise self._failures[call].pop(0)
        self._server_ms = self._now_ms()

    def take_ignored(self) -> dict[str, tuple[int, str]]:
        """See `S3Bucket.take_ignored`."""
        ignored, self.ignored = self.ignored, {}
        return ignored

    def take_server_ms(self) -> int | None:
        """See `S3Bucket.take_server_ms`."""
        server_ms, self._server_ms = self._server_ms, None
        return server_ms

    # Log files

    async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        """See `S3Bucket.list_files`; a page is what the bucket holds when it is asked for."""
        async for page in self._pages("list_files", prefix):
            files = [self.file(key) for key in page if not key.endswith("/")]
            if files:
                yield files

    async def _pages(self, call: str, prefix: str) -> AsyncIterator[list[str]]:
        last = ""
        while True:
            with self._counted(call):
                await self._pass(call)
                left = [key for key in self.keys(prefix) if key > last]
            page = left[: self._page_size]
            yield page
            if len(left) <= self._page_size:
                return
            last = page[-1]

    async def fetch(self, file: LogFile) -> bytes:
        """See `S3Bucket.fetch`."""
        with self._counted("fetch"):
            await self._pass("fetch")
            found = self.objects.get(file.key)
            if found is None or found.etag != file.etag:
                raise FileGone(file.key)
            if len(found.body) != file.size:
                raise Unreadable("size_mismatch")
            self.fetched_bytes += len(found.body)
            return found.body

    async def delete(self, files: Sequence[LogFile]) -> dict[tuple[str, str], str]:
        """See `S3Bucket.delete`."""
        with self._counted("delete"):
            await self._pass("delete")
            before = dict(self.objects)
            failures: dict[tuple[str, str], str] = {}
            for file in files:
                found = before.get(file.key)
                if found is None:
                    continue
                if found.etag != file.etag:
                    failures[file.identity] = "changed"
                elif file.key in self.deletion_failures:
                    failures[file.identity] = self.deletion_failures[file.key]
                else:
                    self.objects.pop(file.key, None)
            return failures

    # Small objects

    async def get(self, key: str) -> tuple[bytes, str] | None:
        """See `S3Bucket.get`."""
        with self._counted("get"):
            await self._pass("get")
            found = self.objects.get(key)
            return (found.body, found.etag) if found else None

    async def put(self, key: str, body: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        """See `S3Bucket.put`."""
        with self._counted("put"):
            await self._pass("put")
            found = self.objects.get(key)
            if if_none_match and found is not None:
                raise Conflict("there is one")
            if if_match is not None and (found is None or found.etag != if_match):
                raise Conflict("it is not that one")
            self.objects[key] = StoredObject(bytes(body), self._now_ms())
            return self.objects[key].etag

    async def copy(self, source_key: str, target_key: str) -> None:
        """See `S3Bucket.copy`."""
        with self._counted("copy"):
            await self._pass("copy")
            if source_key not in self.objects:
                raise FileGone(source_key)
            self.objects[target_key] = StoredObject(self.objects[source_key].body, self._now_ms())

    async def remove(self, key: str) -> None:
        """See `S3Bucket.remove`."""
        with self._counted("remove"):
            await self._pass("remove")
            self.objects.pop(key, None)

    async def list_keys(self, prefix: str) -> AsyncIterator[list[str]]:
        """See `S3Bucket.list_keys`."""
        async for page in self._pages("list_keys", prefix):
            yield page

    # Uploads that are begun and never completed

    async def begin_upload(self, key: str) -> str:
        """See `S3Bucket.begin_upload`."""
        with self._counted("begin_upload"):
            await self._pass("begin_upload")
            self._upload_number += 1
            upload = f"upload-{self._upload_number}"
            self._uploads[key, upload] = None
            return upload

    async def abort_upload(self, key: str, upload: str) -> bool:
        """See `S3Bucket.abort_upload`."""
        with self._counted("abort_upload"):
            await self._pass("abort_upload")
            there = (key, upload) in self._uploads
            self._uploads.pop((key, upload), None)
            return there

    async def list_uploads(self, prefix: str) -> list[tuple[str, str]]:
        """See `S3Bucket.list_uploads`."""
        with self._counted("list_uploads"):
            await self._pass("list_uploads")
            return [held for held in self._uploads if held[0].startswith(prefix)]
