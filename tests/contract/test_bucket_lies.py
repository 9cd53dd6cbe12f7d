"""Servers that answer as no S3 server should: nothing crashes or grows, one odd object stops no other, all is told."""

from __future__ import annotations

import asyncio
import hashlib
import re
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from cdn77_exporter.core.errors import FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.s3 import S3Bucket, Waits
from cdn77_exporter.edge.s3 import client as client_module
from cdn77_exporter.edge.s3.listing import read_page
from tests.contract.test_bucket_faults import BODY, CALLS, NAME, client, failure, files, keys, no_waits, proxy
from tests.support.fault_proxy import Answers, Fault, FaultProxy, Renames, Rewrites

__all__ = ["no_waits", "proxy"]

_MB = 1024 * 1024
_ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'


@pytest.fixture
async def bucket(proxy: FaultProxy) -> AsyncIterator[S3Bucket]:
    """A client of an empty bucket behind the proxy."""
    waits = Waits(connect=10.0, read=10.0, call=60.0, body=10.0)
    async with client(proxy.endpoint, waits=waits) as ready:
        await ready._client.create_bucket(Bucket=NAME)
        for key in await keys(ready):
            await ready.remove(key)
        yield ready


@pytest.fixture
async def elsewhere() -> AsyncIterator[FaultProxy]:
    """Another host, which no request may reach."""
    async with FaultProxy("http://127.0.0.1:9") as ready:
        yield ready


# The time


@pytest.mark.guarantee("clocks.seconds")
@pytest.mark.parametrize(
    ("status", "code"), [(403, "RequestTimeTooSkewed"), (403, "AccessDenied"), (404, "NoSuchKey"), (503, "SlowDown")]
)
async def test_the_time_in_an_error_answer_is_not_heard(
    bucket: S3Bucket, proxy: FaultProxy, status: int, code: str
) -> None:
    """It may be somebody else's, or of the very clock that is wrong; that of a success is heard."""
    bucket.take_server_ms()
    headers = {"Date": "Fri, 27 Nov 2099 12:00:00 GMT"}
    body = f"<Error><Code>{code}</Code></Error>".encode()
    proxy.inject(*[Answers(status=status, body=body, headers=headers, on="GET") for _ in range(3)])
    with suppress(Misconfigured, Transient):
        assert await bucket.get("logs/x") is None
    proxy.faults.clear()
    assert bucket.take_server_ms() is None
    await keys(bucket)
    assert bucket.take_server_ms() is not None


# Redirects


@pytest.mark.guarantee("bucket.redirect")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", CALLS)
async def test_no_redirect_is_followed(
    bucket: S3Bucket, proxy: FaultProxy, elsewhere: FaultProxy, status: int, call: str
) -> None:
    """Whatever path, headers or body name as the new place, nothing is sent there, and it is told."""
    (file,) = await files(bucket, proxy)
    on, work = CALLS[call]
    host = elsewhere.endpoint.removeprefix("http://")
    body = f"<Error><Code>PermanentRedirect</Code><Endpoint>{host}</Endpoint><Region>x@{host}/</Region></Error>"
    hints: tuple[dict[str, str], ...] = (
        {"Location": f"{elsewhere.endpoint}/{NAME}/logs/x"},
        {"Location": f"//{host}/{NAME}"},
        {"x-amz-bucket-region": f"x@{host}/"},
        {},
    )
    for headers in hints:
        proxy.inject(Answers(status=status, body=body.encode(), headers=headers, on=on))
        error = await failure(work(bucket, file))
        assert isinstance(error, Misconfigured)
        assert "S3_ENDPOINT" in error.remedy
        assert not proxy.faults
    assert not elsewhere.seen
    assert await keys(bucket)


async def test_the_region_of_an_error_names_no_other_host(
    bucket: S3Bucket, proxy: FaultProxy, elsewhere: FaultProxy
) -> None:
    """A request that was signed for another region goes to the same host again, or nowhere."""
    region = f"x@{elsewhere.endpoint.removeprefix('http://')}/"
    body = f"<Error><Code>AuthorizationHeaderMalformed</Code><Region>{region}</Region></Error>".encode()
    proxy.inject(*[Answers(status=400, body=body)] * 3)
    error = await failure(keys(bucket))
    assert isinstance(error, Misconfigured)
    assert not elsewhere.seen


# Answers without an end


_NESTED = b"<ListBucketResult>" + b"<a>" * (3 * _MB)
_TOO_LARGE: dict[str, Callable[[str], Fault]] = {
    "nested": lambda on: Answers(status=200, body=_NESTED, on=on),
    "nested, behind the right beginning": lambda on: Rewrites(body=_NESTED + b"</a>" * (3 * _MB), on=on),
    "entries": lambda on: Rewrites(body=b"<ListBucketResult>" + b"<Contents/>" * 600_000, on=on),
    "one text": lambda on: Rewrites(body=b"<ListBucketResult><a>" + b"x" * 30 * _MB, on=on),
    "an error's text": lambda on: Answers(status=400, body=b"<Error><Code>X" + b"x" * 30 * _MB, on=on),
    "an error's elements": lambda on: Answers(status=403, body=b"<Error>" + b"<a>" * (3 * _MB), on=on),
}


@pytest.mark.guarantee("bucket.endless")
@pytest.mark.parametrize("kind", _TOO_LARGE)
@pytest.mark.parametrize("call", ["list", "delete", "copy"])
async def test_an_answer_has_a_bound(bucket: S3Bucket, proxy: FaultProxy, kind: str, call: str) -> None:
    """However much a server sends for an answer, a small part of it is read, memory stays, and it is told."""
    listed = await files(bucket, proxy, 9)
    on, work = CALLS[call]
    proxy.inject(*[_TOO_LARGE[kind](on)] * 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = await failure(work(bucket, listed[0]))
    assert isinstance(error, Misconfigured | Transient)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 150 * 1024  # with the proxy's own copies, which are in this process
    proxy.faults.clear()
    assert len(await keys(bucket)) >= 8  # the server may have done what it was asked


_ENTITIES = "".join(f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 9))
_LAUGHS = f'<!DOCTYPE a [<!ENTITY a0 "ha ha ha ha">{_ENTITIES}]>'


@pytest.mark.guarantee("bucket.endless")
@pytest.mark.parametrize("call", [call for call in CALLS if call != "look"])  # which has no body
@pytest.mark.parametrize(("status", "kind"), [(200, Misconfigured), (403, Misconfigured), (502, Transient)])
async def test_no_answer_declares_entities(
    bucket: S3Bucket, proxy: FaultProxy, status: int, kind: type[Exception], call: str
) -> None:
    """A page of some KB whose entities grow to a GB is read by nobody; of an error its status tells."""
    (file,) = await files(bucket, proxy)
    on, work = CALLS[call]
    body = f"{_LAUGHS}<ListBucketResult><Code>&a8;</Code></ListBucketResult>".encode()
    proxy.inject(*[Answers(status=status, body=body, on=on) for _ in range(4)])
    busy = time.process_time()
    error = await failure(work(bucket, file))
    proxy.faults.clear()
    if call == "fetch" and status == 200:
        assert isinstance(error, Unreadable | FileGone)  # a body that is not the one that was listed
    else:
        assert isinstance(error, kind)
    assert time.process_time() - busy < 5  # a single one expands for longer


@pytest.mark.guarantee("bucket.endless")
async def test_pages_without_an_end_are_left(
    bucket: S3Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that always names a further page ends, and its files until then are given."""
    monkeypatch.setattr(client_module, "_MOST_PAGES", 20)
    number = 0

    def page(line: str, _: str) -> Fault | None:
        nonlocal number
        number += 1
        return Answers(status=200, body=_listing(_entry(f"logs/{number:05}"), more=f"token-{number}"))

    proxy.judge = page
    found: list[str] = []

    async def read() -> None:
        async for some in bucket.list_keys("logs/"):
            found.extend(some)

    assert isinstance(await failure(read()), Transient)
    assert len(found) == number == 20


# Odd entries


def _entry(key: str, *, size: str = "5", etag: str | None = _ETAG, time: str = "2026-01-10T14:40:04.000Z") -> str:
    told = "" if etag is None else f"<ETag>{etag.replace(chr(34), '&quot;')}</ETag>"
    return f"<Contents><Key>{key}</Key><LastModified>{time}</LastModified>{told}<Size>{size}</Size></Contents>"


def _listing(*entries: str, more: str = "") -> bytes:
    token = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    return f"<ListBucketResult>{token}{''.join(entries)}</ListBucketResult>".encode()


@pytest.mark.guarantee("bucket.odd_entry", "bucket.outside")
@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (_entry("logs/odd", etag=None), "without an ETag"),
        (_entry("logs/odd", etag='""'), "without an ETag"),
        (_entry("logs/odd", etag='"a\nb"'), "ETag"),
        (_entry("logs/odd", etag='"\x7f"'), "ETag"),
        (_entry("logs/odd", etag="a" * 100_000), "ETag"),
        (_entry("logs/odd", size="9" * 400), "size"),
        (_entry("logs/odd", size="-1"), "size"),
        (_entry("logs/odd", size="\u0665"), "size"),
        (_entry("logs/odd", time="yesterday"), "time"),
        (_entry("logs/odd", time="0001-01-01T00:00:00+14:00"), "time"),
        (_entry("logs/odd", time=""), "time"),
        (_entry(""), "without a key"),
        ("<Contents/>", "without a key"),
        (_entry("other/odd"), "outside"),
        (_entry("log"), "outside"),
        (_entry("LOGS/odd"), "outside"),
        (_entry("/logs/odd"), "outside"),
        (_entry("logs/../other/odd"), "dots"),
        (_entry("logs/a/.."), "dots"),
        (_entry("logs/./odd"), "dots"),
    ],
)
async def test_an_odd_entry_is_left_out_and_told(bucket: S3Bucket, proxy: FaultProxy, odd: str, why: str) -> None:
    """An entry that names no file under the prefix is ignored, and why and its key are told; the others are files."""
    proxy.inject(Answers(status=200, body=_listing(_entry("logs/a"), odd, odd, _entry("logs/b"))))
    listed = [file.key async for page in bucket.list_files("logs/") for file in page]
    assert listed == ["logs/a", "logs/b"]
    ((reason, (count, example)),) = bucket.take_ignored().items()
    assert why in reason
    assert count == 2
    assert example in odd
    assert bucket.take_ignored() == {}


@pytest.mark.guarantee("bucket.odd_entry")
@pytest.mark.parametrize("form", ["{}Z", "{}", "{}.000+00:00", "{}.000000123Z"])
async def test_a_time_of_a_listing_is_utc_in_any_form(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that names no offset, wherever this machine stands."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        page = await read_page(_listing(_entry("logs/a", time=form.format("2026-01-10T14:40:04"))))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [file.modified_ms for file in page.files] == [1_768_056_004_000]


@pytest.mark.guarantee("bucket.no_etag")
@pytest.mark.parametrize("header", [None, f"W/{_ETAG}"], ids=["no ETag", "a weak ETag"])
async def test_answers_without_a_strong_etag_are_enough(
    bucket: S3Bucket, proxy: FaultProxy, header: str | None
) -> None:
    """Files are fetched and deleted, and small objects read and written, where answers name no ETag, or a weak one."""
    digest = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
    value = None if header is None else f'W/"{digest}"'
    await files(bucket, proxy)
    proxy.judge = lambda line, _: None if "list-type=2" in line else Renames(header="ETag", value=value)
    (file,) = [file async for page in bucket.list_files("logs/") for file in page]
    if value:
        file = LogFile(file.key, f"W/{digest}", file.size, file.modified_ms)
    assert await bucket.fetch(file) == BODY
    found = await bucket.get(file.key)
    assert found is not None
    assert found[0] == BODY
    assert found[1].removeprefix("W/") == digest
    assert (await bucket.put("small", BODY)).removeprefix("W/") == digest
    assert await bucket.delete([file]) == {}
    assert file.key not in await keys(bucket)


async def test_another_weak_etag_is_another_object(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """A file of which a weak ETag was listed is not fetched, nor deleted, when the object has another one by now."""
    (file,) = await files(bucket, proxy)
    weak = LogFile(file.key, "W/before", file.size, file.modified_ms)
    proxy.judge = lambda line, _: Renames(header="ETag", value='W/"now"')
    with pytest.raises(FileGone):
        await bucket.fetch(weak)
    assert await bucket.delete([weak]) == {weak.identity: "changed"}


# Names that not every server can tell of


@pytest.mark.guarantee("bucket.refused_name")
async def test_a_name_that_the_server_refuses_holds_up_no_other(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """Of many deletions those that can be done are done; why a strange name's could not is told by its identity."""
    listed = await files(bucket, proxy, 12)
    odd = [LogFile(f"logs/\x01{name}", "e" * 32, 1, 1) for name in "ab"]

    def refuse(line: str, _: str) -> Fault | None:
        return Answers(status=400, code="InvalidArgument") if "%01" in line else None

    proxy.judge = refuse
    failures = await bucket.delete([*odd, *listed])
    assert failures.keys() == {file.identity for file in odd}
    assert all("refuses" in why for why in failures.values()) or all(failures.values())
    assert await keys(bucket) == []


async def test_a_strange_name_is_deleted_like_any_other(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """Where the server takes it, a name with a control character goes, unless it is another object by now."""
    await bucket.put("logs/\x01a", b"1")
    await bucket.put("logs/\x01b", b"2")
    etags = [hashlib.md5(body, usedforsecurity=False).hexdigest() for body in (b"1", b"other")]
    first, second = (LogFile(f"logs/\x01{name}", etag, 1, 1) for name, etag in zip("ab", etags, strict=True))
    gone = LogFile("logs/\x01c", "e" * 32, 1, 1)
    assert await bucket.delete([first, second, gone]) == {second.identity: "changed"}
    assert await keys(bucket) == ["logs/\x01b"]
    await bucket.remove("logs/\x01b")


async def test_an_object_without_an_end_is_left(bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small object that is larger than any may be is not read whole."""
    monkeypatch.setattr(client_module, "_MOST_OBJECT_BYTES", 1000)
    await bucket.put("state", bytes(5000))
    assert isinstance(await failure(bucket.get("state")), Misconfigured)
    async with client(bucket._endpoint) as other:
        assert await other.get("nothing") is None


async def test_a_server_that_never_says_to_continue_gets_the_body(no_waits: None) -> None:
    """Not every server and proxy knows `Expect: 100-continue`; one that waits for the body gets it at once."""
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = re.findall(rb"(?i)content-length: ([0-9]+)", head)
        bodies.append(await reader.readexactly(int(length)))
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with client(f"http://127.0.0.1:{port}", waits=Waits(connect=2.0, read=2.0, call=5.0)) as bucket:
            await bucket.put("logs/x", b"some bytes")
    assert bodies == [b"some bytes"]
