"""The bucket: lists, fetches and deletes log files, and keeps small objects for the state and the quarantine.

Every error leaves here as one of `core.errors`, and every wait has a bound.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aioboto3
import aiobotocore.session
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError
from yarl import URL

from cdn77_exporter.core.errors import Conflict, FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.s3.connection import MOST_ERROR_BYTES, Connections, Keys, SecretText
from cdn77_exporter.edge.s3.faults import CLIENT_ERRORS, cannot_delete_many, code_of, elsewhere, meaning, not_s3
from cdn77_exporter.edge.s3.listing import ListingError, NoXml, Page, check_xml, etag_of, read_page
from cdn77_exporter.edge.s3.model import slim_loader

A = TypeVar("A")
B = TypeVar("B")

_DELETE_AT_ONCE = 1000  # the protocol's bound
_LOOKS = 8  # so many objects are looked at one by one; of more, the folder is listed
_HASH_BESIDE_BYTES = 512 * 1024  # from here on a checksum takes longer than the event loop may
_MD5 = re.compile(r"[0-9a-f]{32}")
_REGION = "us-east-1"  # what servers without regions take
_CHANGED = "changed"
_NOT_MODIFIED = 304
_MOST_PAGES = 10_000  # of one listing; the next one begins anew, when what was listed is gone
_MOST_LISTING_SECONDS = 3600.0
_MOST_OBJECT_BYTES = 1 << 30  # of one that is read whole: a state, a lease, a reason
_OUTSIDE = "a key outside of the prefix that was asked for"
_DOTS = "a key in which a folder is named by dots, and which may lead out of the prefix"
#: Servers, and proxies on the way, may resolve such folders as those of an address, to another object.
_HAS_DOTS = re.compile(r"(?:^|/)\.\.?(?:/|$)")
_HALF_A_SECOND = 500  # ms; an HTTP date is cut to the second


@dataclass(frozen=True, slots=True)
class Waits:
    """The longest waits, in seconds. A call is bounded as a whole, since a read bound never ends a slow drip."""

    connect: float = 5.0
    read: float = 20.0
    call: float = 90.0  # with its three attempts
    body: float = 60.0


class S3Bucket:
    """One bucket behind one client; an async context manager.

    Files larger than `most_bytes` are not fetched.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        bucket: str,
        access_key: SecretText,
        secret_key: SecretText,
        region: str | None = None,
        ca_bundle: Path | str | None = None,
        concurrency: int = 8,
        body_timeout: float | None = None,
        waits: Waits | None = None,
        most_bytes: int | None = None,
        proxy: URL | None = None,
    ) -> None:
        self._date: tuple[int, float] | None = None  # of the last answer (Unix ms), and when it came (monotonic)
        self._endpoint = endpoint
        self._bucket = bucket
        self._keys = Keys(access_key, secret_key)
        self._region = region or _REGION
        self._ca_bundle = str(ca_bundle) if ca_bundle else None
        self._concurrency = concurrency
        self._waits = waits or Waits()
        self._body_seconds = body_timeout or self._waits.body
        self._most_bytes = most_bytes
        # An empty one keeps the library from looking into the environment by rules of its own.
        self._proxies = {} if proxy is None else {URL(endpoint).scheme: str(proxy)}
        self._deletes_many = True
        self._ignored: dict[str, tuple[int, str]] = {}
        self._client: Any = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        inner = aiobotocore.session.get_session()
        inner.register_component("credential_provider", self._keys)
        inner.register_component("data_loader", slim_loader(tuple(inner.get_component("data_loader").search_paths)))
        config = AioConfig(
            signature_version="s3v4",
            retries={"mode": "standard", "total_max_attempts": 3},
            request_checksum_calculation="when_required",  # else bodies are sent in a form that not every server takes
            response_checksum_validation="when_required",
            connect_timeout=self._waits.connect,
            read_timeout=self._waits.read,
            s3={"addressing_style": "path"},  # fits addresses without names, and certificates with one name
            max_pool_connections=self._concurrency + 4,  # listing, deletion and the lease do not wait for downloads
            connector_args={"keepalive_timeout": 60},
            http_session_cls=Connections,
            proxies=self._proxies,
        )
        client = aioboto3.Session(botocore_session=inner).client(
            "s3", endpoint_url=self._endpoint, region_name=self._region, config=config, verify=self._ca_bundle
        )
        try:
            self._client = await self._stack.enter_async_context(client)
        except ValueError:
            raise not_s3("no client can be made of S3_ENDPOINT") from None
        events = self._client.meta.events
        events.register("before-parse.s3", self._note_date)
        events.register("before-parse.s3", _stay_here)
        # Handlers for any service come first: the library's own would parse what comes to look for an error in it.
        events.register("before-parse.*", _check_answer)
        events.register("before-parse.*.ListObjectsV2", _read_listing)
        events.register("before-sign.s3.DeleteObjects", _add_content_md5)
        events.register("before-sign.s3.PutObject", _send_at_once)
        events.register("before-call.s3.HeadBucket", _refuse_to_move)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # Calls

    def _note_date(self, response_dict: dict[str, Any], **_: object) -> None:
        """Note the server's time by a successful answer; an error or a redirect may be somebody else's."""
        if not 200 <= response_dict["status_code"] < 300:
            return
        try:
            date = parsedate_to_datetime(response_dict["headers"]["date"])
        except (KeyError, ValueError, TypeError, IndexError):
            return  # then the clocks are not compared
        self._date = round(date.timestamp() * 1000) + _HALF_A_SECOND, time.monotonic()

    def take_server_ms(self) -> int | None:
        """Return the server's time now (Unix ms), by its last answer; None without one since the last call."""
        date, self._date = self._date, None
        return date[0] + round((time.monotonic() - date[1]) * 1000) if date is not None else None

    async def _ask(self, call: str, **values: Any) -> Any:
        """Make one call with the library's errors; three attempts at most."""
        async with asyncio.timeout(self._waits.call):
            return await getattr(self._client, call)(Bucket=self._bucket, **values)

    async def _call(self, call: str, **values: Any) -> Any:
        """Make one call; its errors are those of `core.errors`."""
        try:
            return await self._ask(call, **values)
        except CLIENT_ERRORS as error:
            raise meaning(error, call, of_object="Key" in values) from None

    async def _together(self, call: Callable[[A], Awaitable[B]], items: Iterable[A]) -> list[B]:
        """`call` for every item, some at a time; the first failure is raised when all have ended."""
        turns = asyncio.Semaphore(self._concurrency)

        async def one(item: A) -> B:
            async with turns:
                return await call(item)

        results = await asyncio.gather(*(one(item) for item in items), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if not isinstance(result, BaseException)]

    # Log files

    async def list_files(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        """Yield the files under a prefix, a page of at most 1,000 at a time, in the order of their keys."""
        async for page in self._pages(prefix):
            files = [file for file in page if not file.key.endswith("/")]  # consoles make such objects as folders
            if files:
                yield files

    async def _pages(self, prefix: str) -> AsyncIterator[list[LogFile]]:
        token: str | None = None
        began = time.monotonic()
        for _ in range(_MOST_PAGES):
            page = await self._page(prefix, **({"ContinuationToken": token} if token else {}))
            yield page.files
            if page.next_token is None:
                return
            if page.next_token == token:
                raise Transient("the bucket lists the same page again and again")
            if time.monotonic() - began > _MOST_LISTING_SECONDS:
                break
            token = page.next_token
        raise Transient("a listing of the bucket does not come to an end")

    async def _page(self, prefix: str, **values: str) -> Page:
        """Return a page of the files under a prefix; what is none of them is left out, and kept for `take_ignored`."""
        answer = await self._call("list_objects_v2", Prefix=prefix, **values)
        page = answer.get("Page")
        if not isinstance(page, Page):
            raise not_s3("the answer to a listing is no listing")
        reasons = [(_strangeness(file.key, prefix), file) for file in page.files]
        for why, key in (*page.odd, *((why, file.key) for why, file in reasons if why)):
            count, example = self._ignored.get(why, (0, key))
            self._ignored[why] = (count + 1, example)
        return Page([file for why, file in reasons if not why], page.next_token)

    def take_ignored(self) -> dict[str, tuple[int, str]]:
        """Return what listings named that cannot be taken for files, since the last call.

        By reason: how many entries, and the key of one, which may be any text.
        """
        ignored, self._ignored = self._ignored, {}
        return ignored

    async def fetch(self, file: LogFile) -> bytes:
        """Return the file's bytes, which are those that were listed; a second attempt when they are not."""
        if self._most_bytes is not None and file.size > self._most_bytes:
            raise Unreadable("too_large", f"{file.size} bytes")
        try:
            return await self._fetch_once(file)
        except Unreadable:
            return await self._fetch_once(file)

    async def _fetch_once(self, file: LogFile) -> bytes:
        # A weak ETag never fulfils a condition; it is compared below.
        condition = {} if file.etag.startswith("W/") else {"IfMatch": f'"{file.etag}"'}
        try:
            answer = await self._call("get_object", Key=file.key, **condition)
        except Conflict:
            raise FileGone("changed") from None
        with closing(answer["Body"]):
            # An answer need not name its ETag; then length and, where it is one, MD5 tell.
            if etag_of(answer.get("ETag", "")) not in (file.etag, ""):
                raise FileGone("changed")
            length = answer.get("ContentLength", file.size)
            if length != file.size:
                raise Unreadable("size_mismatch", f"{length} bytes instead of {file.size}")
            body = await self._read(answer["Body"], file.size)
        if len(body) != file.size:
            raise Unreadable("size_mismatch", f"{len(body)} bytes instead of {file.size}")
        if not await _matches(body, file.etag, answer):
            raise Unreadable("checksum_mismatch")
        return body

    async def _read(self, stream: Any, most: int | None = None) -> bytes:
        """Return a body, or a little more than `most` bytes of one that is longer."""
        body = io.BytesIO()  # joining parts would need twice the memory
        try:
            async with asyncio.timeout(self._body_seconds):
                async for part in stream.content.iter_any():
                    body.write(part)
                    if most is not None and body.tell() > most:
                        break
        except CLIENT_ERRORS as error:
            raise meaning(error, "get_object") from None
        return body.getvalue()  # the buffer itself, not a copy

    # Deletion

    async def delete(self, files: Sequence[LogFile]) -> dict[tuple[str, str], str]:
        """Delete files that are still the ones that were listed; why it failed, by identity, for those that are left.

        Servers ignore conditions on a deletion, so each object's ETag is compared before. "changed": another object
        has the key by now, which stays. A file that is gone already counts as deleted.
        """
        odd = [file for file in files if not file.key.isprintable()]
        plain = [file for file in files if file.key.isprintable()]
        etags = await self._etags(sorted({file.key for file in plain}))
        there = [file for file in plain if file.key in etags]
        failures = {file.identity: _CHANGED for file in there if etags[file.key] != file.etag}
        doomed = list(dict.fromkeys(file for file in there if file.identity not in failures))
        refused: dict[str, str] = {}
        for begin in range(0, len(doomed), _DELETE_AT_ONCE):
            refused |= await self._delete_many([file.key for file in doomed[begin : begin + _DELETE_AT_ONCE]])
        failures |= {file.identity: refused[file.key] for file in doomed if file.key in refused}
        left = zip(odd, await self._together(self._delete_odd, odd), strict=True)
        return failures | {file.identity: why for file, why in left if why}

    async def _delete_odd(self, file: LogFile) -> str:
        """Delete one whose key neither XML nor every server's listing can name; why that failed, or nothing."""
        try:
            etag = await self._etag(file.key)
            if etag not in (None, file.etag):
                return _CHANGED
            if etag is not None:
                await self.remove(file.key)
        except (Misconfigured, Conflict) as error:  # about this key: the others are not held up
            return str(error)
        return ""

    async def _etags(self, keys: list[str]) -> dict[str, str]:
        """Return the ETags of the objects that exist, of sorted keys."""
        found: dict[str, str] = {}
        for folder, members in groupby(keys, lambda key: key.rpartition("/")[:2]):
            names = list(members)
            if len(names) > _LOOKS:
                found |= await self._etags_by_listing("".join(folder), names)
            else:
                etags = await self._together(self._etag, names)
                found |= {key: etag for key, etag in zip(names, etags, strict=True) if etag is not None}
        return found

    async def _etag(self, key: str) -> str | None:
        try:
            answer = await self._call("head_object", Key=key)
        except FileGone:
            return None
        if "ETag" in answer:
            return etag_of(answer["ETag"])
        page = await self._page(key)  # a server that names it in listings alone
        return next((file.etag for file in page.files if file.key == key), None)

    async def _etags_by_listing(self, folder: str, keys: list[str]) -> dict[str, str]:
        """Return them from pages of the folder's listing; what lies between two pages with wanted keys is skipped."""
        found: dict[str, str] = {}
        wanted = keys
        while wanted:
            page = await self._page(folder, StartAfter=wanted[0][:-1])  # the key without its end comes before it
            found |= {file.key: file.etag for file in page.files}
            if page.next_token is None or not page.files:
                break
            left = [key for key in wanted if key > page.files[-1].key]
            if len(left) == len(wanted):
                etag = await self._etag(left.pop(0))  # more than a page lies before it
                found |= {} if etag is None else {wanted[0]: etag}
            wanted = left
        return {key: found[key] for key in keys if key in found}

    async def _delete_many(self, keys: list[str]) -> dict[str, str]:
        """Delete at most a thousand objects; why it failed, by key."""
        if self._deletes_many and keys:
            request = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            try:
                answer = await self._ask("delete_objects", Delete=request)
            except CLIENT_ERRORS as error:
                if not (isinstance(error, ClientError) and cannot_delete_many(error)):
                    raise meaning(error, "delete_objects", of_object=False) from None
                self._deletes_many = False
            else:
                codes = {error.get("Key", ""): code_of(error) for error in answer.get("Errors", [])}
                return {key: code for key, code in codes.items() if code != "NoSuchKey"}
        await self._together(self.remove, keys)
        return {}

    # Small objects

    async def get(self, key: str) -> tuple[bytes, str] | None:
        """Return an object's bytes and ETag; None when there is none."""
        try:
            answer = await self._call("get_object", Key=key)
        except FileGone:
            return None
        with closing(answer["Body"]):
            body = await self._read(answer["Body"], _MOST_OBJECT_BYTES)
        if len(body) > _MOST_OBJECT_BYTES:
            raise not_s3("an object that is no log file is longer than a gigabyte")
        etag = etag_of(answer["ETag"]) if "ETag" in answer else await self._etag(key) or ""
        if not await _matches(body, etag, answer):
            raise Transient("cannot read an object: its bytes are not those that its ETag names")
        return body, etag

    async def put(self, key: str, body: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        """Write an object; its ETag. Raises Conflict when there is one already, or not the one of that ETag."""
        values = {"ContentMD5": base64.b64encode(await _md5(body)).decode()}
        if if_none_match:
            values["IfNoneMatch"] = "*"
        if if_match is not None:
            values["IfMatch"] = if_match  # without quotes: Ceph 16 compares this header, on writes, as it is
        try:
            answer = await self._call("put_object", Key=key, Body=body, **values)
        except FileGone as error:
            if if_match is None:
                raise not_s3(f"the bucket refuses to write an object: {error}") from None
            raise Conflict(str(error)) from None  # there is nothing that could match
        return etag_of(answer["ETag"]) if "ETag" in answer else await self._etag(key) or ""

    async def copy(self, source_key: str, target_key: str) -> None:
        """Copy an object within the bucket; FileGone when there is none."""
        await self._call("copy_object", Key=target_key, CopySource={"Bucket": self._bucket, "Key": source_key})

    async def remove(self, key: str) -> None:
        """Delete an object, whatever it is; nothing happens when there is none."""
        with suppress(FileGone):
            await self._call("delete_object", Key=key)

    async def list_keys(self, prefix: str) -> AsyncIterator[list[str]]:
        """Yield all keys under a prefix, page by page."""
        async for page in self._pages(prefix):
            yield [file.key for file in page]

    # Uploads that are begun and never completed

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
        """Return keys and ids of uploads that are begun and not completed (the first thousand)."""
        answer = await self._call("list_multipart_uploads", Prefix=prefix)
        return [(found["Key"], found["UploadId"]) for found in answer.get("Uploads", [])]


# Handlers of the library's events


async def _read_listing(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Read a listing in place of the library's parser, which holds the loop for 50 ms and more a page.

    An answer that is none is left to the library: it takes broken XML and errors inside a 200 for a failure, which it
    tries again.
    """
    if response_dict["status_code"] != 200:
        return
    if "html" in response_dict["headers"].get("content-type", ""):
        raise not_s3("S3_ENDPOINT leads to a web page")
    body = response_dict["body"]
    response_dict["body"] = b""
    try:
        customized_response_dict["Page"] = await read_page(body)
    except ListingError:
        response_dict["body"] = body if len(body) <= MOST_ERROR_BYTES else b""
        _check_body(response_dict)


def _stay_here(response_dict: dict[str, Any], **_: object) -> None:
    """Refuse a redirect before the library would look for another host or region in it."""
    if 300 <= response_dict["status_code"] < 400 and response_dict["status_code"] != _NOT_MODIFIED:
        raise elsewhere()


def _check_answer(response_dict: dict[str, Any], operation_model: Any, **_: object) -> None:
    """Check an answer that the library parses; a listing it does not."""
    if operation_model.name != "ListObjectsV2" or response_dict["status_code"] != 200:
        _check_body(response_dict)


def _check_body(response_dict: dict[str, Any]) -> None:
    """Refuse an answer that would take the library's parser a multiple of its length in memory or time.

    Of an error, such as a web page of a server on the way, the status is enough.
    """
    body = response_dict["body"]
    if not isinstance(body, bytes):
        return
    try:
        check_xml(body)
    except ListingError as error:
        if isinstance(error, NoXml) and len(body) <= MOST_ERROR_BYTES:
            return  # the parser gives it up at once, too
        if response_dict["status_code"] < 300:
            raise not_s3("an answer of the bucket is longer or deeper than any of S3") from None
        response_dict["body"] = b""


def _add_content_md5(request: Any, **_: object) -> None:
    """Add the hash without which some servers do not delete several objects."""
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


def _send_at_once(request: Any, **_: object) -> None:
    """Send the body unasked: some servers never say `100 Continue`, for which the HTTP library waits without an end."""
    del request.headers["Expect"]


def _refuse_to_move(**_: object) -> None:
    """Refuse to look for the bucket's region after a redirect, which the library repeats without an end."""
    raise elsewhere()


# Small things


def _strangeness(key: str, prefix: str) -> str:
    """Return why a listing of a prefix must not name a key; empty for one that it may."""
    if not key.startswith(prefix):
        return _OUTSIDE
    return _DOTS if _HAS_DOTS.search(key) else ""


async def _md5(body: bytes) -> bytes:
    def digest() -> bytes:
        return hashlib.md5(body, usedforsecurity=False).digest()

    return await asyncio.to_thread(digest) if len(body) > _HASH_BESIDE_BYTES else digest()


async def _matches(body: bytes, etag: str, answer: dict[str, Any]) -> bool:
    """Return whether the bytes are those of the ETag, where it is their MD5: not of parts, nor of encrypted ones."""
    encrypted = answer.get("ServerSideEncryption", "").startswith("aws:kms") or "SSECustomerAlgorithm" in answer
    if encrypted or not _MD5.fullmatch(etag):
        return True
    return (await _md5(body)).hex() == etag
