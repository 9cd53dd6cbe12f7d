"""What the bucket's client makes of a network and of servers that fail: tried again, or told with what to do."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import botocore.retries.standard
import pytest
import trustme

from cdn77_exporter.core.errors import Conflict, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.s3 import S3Bucket, Waits
from tests.support.fault_proxy import (
    Answers,
    Corrupts,
    Drips,
    Fault,
    FaultProxy,
    Resets,
    Rewrites,
    Stalls,
    Truncates,
)
from tests.support.prometheus import free_port

ACCESS, SECRET = "fault-access-0123456789", "fault-secret-that-must-not-be-printed"
NAME = "faults"
QUICK = Waits(connect=2.0, read=0.4, call=6.0, body=0.8)
ATTEMPTS = 3
BODY = b"the body of a log file, which is long enough to be cut" * 4


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's attempts follow each other at once."""
    monkeypatch.setattr(botocore.retries.standard.ExponentialBackoff, "delay_amount", lambda *_: 0.0)


@pytest.fixture
async def proxy(moto: str) -> AsyncIterator[FaultProxy]:
    """The proxy."""
    async with FaultProxy(moto) as ready:
        yield ready


def client(endpoint: str, **values: Any) -> S3Bucket:
    """A client with short waits, to be entered."""
    settings: dict[str, Any] = {"bucket": NAME, "access_key": ACCESS, "secret_key": SECRET, "waits": QUICK}
    return S3Bucket(endpoint=endpoint, **(settings | values))


@pytest.fixture
async def bucket(proxy: FaultProxy, moto: str) -> AsyncIterator[S3Bucket]:
    """A client of an empty bucket behind the proxy."""
    async with client(proxy.endpoint) as ready:
        await ready._client.create_bucket(Bucket=NAME)
        for page in [page async for page in ready.list_keys("")]:
            for key in page:
                await ready.remove(key)
        proxy.seen.clear()
        yield ready


async def keys(bucket: S3Bucket) -> list[str]:
    """All keys."""
    return [key async for page in bucket.list_keys("") for key in page]


async def files(bucket: S3Bucket, proxy: FaultProxy, count: int = 1) -> list[LogFile]:
    """Some log files, put there without a fault."""
    for number in range(count):
        await bucket.put(f"logs/rtl.0b5e+1+{number:03}.ndjson.gz", BODY)
    found = [file async for page in bucket.list_files("logs/") for file in page]
    proxy.seen.clear()
    return found


async def failure(work: Coroutine[Any, Any, Any]) -> Exception:
    """What it raises; no text of it, nor its traceback, shows a key."""
    try:
        await work
    except (Transient, Misconfigured, Unreadable, Conflict) as error:
        told = "".join(traceback.format_exception(error)) + repr(error) + str(getattr(error, "remedy", ""))
        assert SECRET not in told
        assert ACCESS not in told
        return error
    raise AssertionError("nothing was raised")


Call = Callable[[S3Bucket, LogFile], Coroutine[Any, Any, Any]]

CALLS: dict[str, tuple[str, Call]] = {
    "list": ("list-type=2", lambda bucket, _: keys(bucket)),
    "fetch": ("GET /faults/logs/", lambda bucket, file: bucket.fetch(file)),
    "look": ("HEAD", lambda bucket, file: bucket.delete([file])),
    "delete": ("POST /faults?delete", lambda bucket, file: bucket.delete([file])),
    "put": ("PUT /faults/new", lambda bucket, _: bucket.put("new", b"1")),
    "copy": ("PUT /faults/copy", lambda bucket, file: bucket.copy(file.key, "copy")),
    "remove": ("DELETE /faults/logs/", lambda bucket, file: bucket.remove(file.key)),
}
each_call = pytest.mark.parametrize("call", CALLS)


# What passes


FLEETING: dict[str, Callable[[str], Fault]] = {
    "500": lambda on: Answers(status=500, on=on),
    "502 with a page": lambda on: Answers(status=502, body=b"<html>bad gateway", content_type="text/html", on=on),
    "503 SlowDown": lambda on: Answers(status=503, code="SlowDown", retry_after="1", on=on),
    "504": lambda on: Answers(status=504, on=on),
    "reset": lambda on: Resets(on=on),
    "reset after the work": lambda on: Resets(on=on, after=True),
    "stall": lambda on: Stalls(on=on),
}


@each_call
@pytest.mark.parametrize("fault", FLEETING)
async def test_what_passes_is_tried_again(bucket: S3Bucket, proxy: FaultProxy, call: str, fault: str) -> None:
    """A failure that passes is not seen by the caller."""
    (file,) = await files(bucket, proxy)
    on, work = CALLS[call]
    proxy.inject(FLEETING[fault](on))
    await work(bucket, file)
    assert proxy.faults == []
    assert proxy.count(on) == 2


@each_call
@pytest.mark.parametrize("fault", FLEETING)
async def test_what_does_not_pass_is_told_after_three_attempts(
    bucket: S3Bucket, proxy: FaultProxy, call: str, fault: str
) -> None:
    """A failure that stays is Transient after three attempts, and nothing is lost by it.

    Of a reset on a kept connection each attempt may make two, as that mostly means that the connection was too old.
    """
    (file,) = await files(bucket, proxy)
    on, work = CALLS[call]
    most = 2 * ATTEMPTS if "reset" in fault else ATTEMPTS
    proxy.inject(*[FLEETING[fault](on)] * most)
    error = await failure(work(bucket, file))
    assert isinstance(error, Transient)
    assert ATTEMPTS <= proxy.count(on) <= most
    proxy.faults.clear()
    assert await bucket.get(file.key) is not None or "after the work" in fault


@each_call
@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), (None, None), ("soon", None), ("99999999", 3600.0)])
async def test_too_many_requests_tell_how_long_to_wait(
    bucket: S3Bucket, proxy: FaultProxy, call: str, said: str | None, seconds: float | None
) -> None:
    """A 429 is Transient with the wait that the server asks for, within an hour."""
    (file,) = await files(bucket, proxy)
    on, work = CALLS[call]
    proxy.inject(*[Answers(status=429, code="TooManyRequests", retry_after=said, on=on)] * ATTEMPTS)
    error = await failure(work(bucket, file))
    assert isinstance(error, Transient)
    assert error.retry_after == seconds


async def test_a_date_to_wait_for_is_understood(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """Retry-After may be a date; one that is over means no wait."""
    proxy.inject(*[Answers(status=429, retry_after="Sat, 10 Jan 2026 14:40:04 GMT")] * ATTEMPTS)
    error = await failure(keys(bucket))
    assert isinstance(error, Transient)
    assert error.retry_after == 0.0


@pytest.mark.parametrize("code", ["RequestTimeout", "IncompleteBody", "OperationAborted"])
async def test_some_refusals_pass(bucket: S3Bucket, proxy: FaultProxy, code: str) -> None:
    """Some codes of the 4xx family are nobody's mistake."""
    proxy.inject(*[Answers(status=400, code=code)] * ATTEMPTS)
    assert isinstance(await failure(bucket.put("key", b"1")), Transient)


async def test_a_server_that_was_down_is_used_again(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """The same client works as soon as the server is back."""
    proxy.down = True
    assert isinstance(await failure(keys(bucket)), Transient)
    proxy.down = False
    assert await keys(bucket) == []


# Bodies


@pytest.mark.parametrize(
    "fault", [Truncates(), Stalls(inside=True), Drips(pause=0.1)], ids=["truncated", "stalled", "dripping"]
)
async def test_a_body_that_does_not_come_whole_is_transient(bucket: S3Bucket, proxy: FaultProxy, fault: Fault) -> None:
    """A body that ends early, stops, or comes too slowly is Transient; the next attempt gets it."""
    (file,) = await files(bucket, proxy)
    proxy.inject(fault)
    assert isinstance(await failure(bucket.fetch(file)), Transient)
    proxy.inject(fault)
    assert isinstance(await failure(bucket.get(file.key)), Transient)
    assert await bucket.fetch(file) == BODY


@pytest.mark.parametrize("fault", [Truncates(), Stalls(inside=True)], ids=["truncated", "stalled"])
async def test_a_listing_that_does_not_come_whole_is_asked_for_again(
    bucket: S3Bucket, proxy: FaultProxy, fault: Fault
) -> None:
    """A listing that ends early or stops is asked for again; one that never comes whole is Transient."""
    (file,) = await files(bucket, proxy)
    proxy.inject(fault)
    assert await keys(bucket) == [file.key]
    proxy.inject(*[fault] * ATTEMPTS)
    assert isinstance(await failure(keys(bucket)), Transient)


async def test_a_listing_that_drips_has_an_end(proxy: FaultProxy, bucket: S3Bucket) -> None:
    """A listing that comes too slowly is given up, although each byte comes in time."""
    await files(bucket, proxy)
    async with client(proxy.endpoint, waits=Waits(connect=2.0, read=0.4, call=0.8, body=0.8)) as hasty:
        proxy.inject(Drips(pause=0.1))
        assert isinstance(await failure(keys(hasty)), Transient)


async def test_one_wrong_byte_is_noticed(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """A body that is not the ETag's is fetched once more; then it is unreadable."""
    (file,) = await files(bucket, proxy)
    proxy.inject(Corrupts())
    assert await bucket.fetch(file) == BODY
    proxy.inject(Corrupts(), Corrupts())
    error = await failure(bucket.fetch(file))
    assert isinstance(error, Unreadable)
    assert error.reason == "checksum_mismatch"
    proxy.inject(Corrupts())
    assert isinstance(await failure(bucket.get(file.key)), Transient)


async def test_a_file_over_the_bound_is_not_fetched(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """A file that is larger than it may be is refused before anything is asked for."""
    (file,) = await files(bucket, proxy)
    async with client(proxy.endpoint, most_bytes=file.size - 1) as careful:
        error = await failure(careful.fetch(file))
    assert isinstance(error, Unreadable)
    assert error.reason == "too_large"
    assert proxy.seen == []


# Deletion


def deletion(*errors: tuple[str, str]) -> bytes:
    """The answer to a deletion of several objects."""
    told = "".join(f"<Error><Key>{key}</Key><Code>{code}</Code><Message>no</Message></Error>" for key, code in errors)
    return f'<?xml version="1.0" encoding="UTF-8"?><DeleteResult>{told}</DeleteResult>'.encode()


async def test_failures_inside_a_success_are_read(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """An answer of 200 may hold a failure for each file; a file that is not there is none."""
    one, two, three = await files(bucket, proxy, 3)
    proxy.inject(
        Rewrites(
            body=deletion((one.key, "AccessDenied"), (two.key, "InternalError"), (three.key, "NoSuchKey")), on="POST"
        )
    )
    assert await bucket.delete([one, two, three]) == {one.identity: "AccessDenied", two.identity: "InternalError"}


async def test_a_failure_in_place_of_a_success_is_tried_again(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """An answer of 200 whose body is an error counts as a failure of the server."""
    found = await files(bucket, proxy, 2)
    wrong = Rewrites(body=b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>", on="POST")
    proxy.inject(wrong)
    assert await bucket.delete(found) == {}
    found = await files(bucket, proxy, 2)
    proxy.inject(*[wrong] * ATTEMPTS)
    assert isinstance(await failure(bucket.delete(found)), Transient)


@pytest.mark.parametrize(
    "status, code", [(501, "NotImplemented"), (405, "MethodNotAllowed"), (400, "MissingContentMD5")]
)
async def test_without_a_deletion_of_several_each_is_deleted(
    bucket: S3Bucket, proxy: FaultProxy, status: int, code: str
) -> None:
    """A server that refuses to delete several objects at once is asked to delete each, from then on."""
    found = await files(bucket, proxy, 12)
    proxy.inject(Answers(status=status, code=code, on="POST"))
    assert await bucket.delete(found[:6]) == {}
    assert await bucket.delete(found[6:]) == {}
    assert await keys(bucket) == []
    assert (proxy.count("POST"), proxy.count("DELETE")) == (1, 12)


@pytest.mark.parametrize("count", [3, 12], ids=["looked at", "listed"])
async def test_nothing_is_deleted_unseen(bucket: S3Bucket, proxy: FaultProxy, count: int) -> None:
    """When the objects cannot be compared with those that were listed, none is deleted."""
    found = await files(bucket, proxy, count)
    proxy.inject(*[Answers(status=500)] * ATTEMPTS * count)
    assert isinstance(await failure(bucket.delete(found)), Transient)
    proxy.faults.clear()
    assert await keys(bucket) == [file.key for file in found]


async def test_many_files_are_compared_by_one_listing(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """To delete many files of a folder takes two requests."""
    found = await files(bucket, proxy, 40)
    assert await bucket.delete(found[5:35]) == {}
    assert len(proxy.seen) == 2


# Writes


async def test_a_conditional_write_whose_answer_is_lost_is_a_conflict(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """The second attempt finds what the first has written; the caller can see that it is its own."""
    proxy.inject(Resets(after=True, on="PUT"))
    assert isinstance(await failure(bucket.put("journal", b"mine", if_none_match=True)), Conflict)
    found = await bucket.get("journal")
    assert found is not None
    assert found[0] == b"mine"


# What an operator has to set right


REFUSALS: list[tuple[int, str, str]] = [
    (403, "AccessDenied", "S3_ACCESS_KEY"),
    (403, "InvalidAccessKeyId", "S3_ACCESS_KEY"),
    (403, "SignatureDoesNotMatch", "S3_SECRET_KEY"),
    (400, "ExpiredToken", "renew"),
    (403, "RequestTimeTooSkewed", "NTP"),
    (404, "NoSuchBucket", "S3_BUCKET"),
    (400, "AuthorizationHeaderMalformed", "S3_REGION"),
    (403, "QuotaExceeded", "quota"),
    (401, "", "S3_SECRET_KEY"),
    (403, "", "S3_ACCESS_KEY"),
    (407, "", "NO_PROXY"),
    (418, "", "S3_ENDPOINT"),
    (400, "SomethingNew", "S3_ENDPOINT"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=[f"{status} {code}" for status, code, _ in REFUSALS])
@pytest.mark.parametrize("call", ["list", "fetch"])
async def test_a_refusal_says_what_to_do(
    bucket: S3Bucket, proxy: FaultProxy, call: str, refusal: tuple[int, str, str]
) -> None:
    """What only an operator can set right is Misconfigured; the remedy names the setting."""
    status, code, part = refusal
    (file,) = await files(bucket, proxy)
    on, work = CALLS[call]
    proxy.inject(*[Answers(status=status, code=code, on=on)] * 6)
    error = await failure(work(bucket, file))
    assert isinstance(error, Misconfigured)
    assert part in error.remedy
    assert str(code or status) in error.reason


async def test_texts_of_the_server_are_not_repeated(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """A server may answer with the key that it was asked with; that ends in no text of ours."""
    told = f"<Error><Code>Odd {SECRET[:0]}&lt;code&gt;</Code><Message>{ACCESS} {SECRET}</Message></Error>".encode()
    for status in (400, 403, 500):
        proxy.inject(*[Answers(status=status, body=told)] * ATTEMPTS)
        error = await failure(keys(bucket))
        assert "Oddcode" in str(error)
        proxy.faults.clear()


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_is_not_followed(bucket: S3Bucket, proxy: FaultProxy, status: int) -> None:
    """A redirect, which would carry signed requests elsewhere, says that endpoint or region are others."""
    proxy.inject(*[Answers(status=status, code="PermanentRedirect")] * 6)
    error = await failure(keys(bucket))
    assert isinstance(error, Misconfigured)
    assert "S3_ENDPOINT" in error.remedy
    assert len(proxy.seen) == 1


LISTING = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}</ListBucketResult>'


@pytest.mark.parametrize(
    "fault",
    [
        Answers(status=200, body=b"<html><p>Welcome!</html>", content_type="text/html"),
        Answers(status=404, body=b"<html>not found", content_type="text/html"),
        Answers(status=200, body=b"<feed/>"),
        Answers(status=200, body=b""),
        Answers(status=200, body=b'<!DOCTYPE a [<!ENTITY b "c">]><ListBucketResult>&b;</ListBucketResult>'),
        Answers(status=200, body=LISTING.format("<IsTruncated>true</IsTruncated>").encode()),
    ],
    ids=["a page", "not found", "another document", "nothing", "entities", "no token"],
)
async def test_what_is_no_listing_is_told(bucket: S3Bucket, proxy: FaultProxy, fault: Fault) -> None:
    """An endpoint that answers, but not as an S3 server does, is the wrong one."""
    proxy.inject(*[fault] * ATTEMPTS)
    error = await failure(keys(bucket))
    assert isinstance(error, Misconfigured)
    assert "S3_ENDPOINT" in error.remedy


async def test_a_listing_that_repeats_itself_has_an_end(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """A server that ignores the token of the next page is not asked for ever."""
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    proxy.inject(*[Answers(status=200, body=LISTING.format(more).encode())] * 5)
    assert isinstance(await failure(keys(bucket)), Transient)
    assert len(proxy.seen) == 2


async def test_nothing_there_is_transient() -> None:
    """A refused connection may be a restart."""
    async with client(f"http://127.0.0.1:{free_port()}") as bucket:
        error = await failure(keys(bucket))
    assert isinstance(error, Transient)
    assert "refused" in str(error)


async def test_an_unknown_name_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not found may be so again; the text says that it is the name."""

    async def unknown(*_: object, **__: object) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("aiohttp.connector.DefaultResolver.resolve", unknown)
    async with client("http://s3.example.invalid") as bucket:
        error = await failure(keys(bucket))
    assert isinstance(error, Transient)
    assert "DNS" in str(error)


@pytest.mark.parametrize("endpoint", ["http://", "s3.example.com", "http://exa mple"])
async def test_an_endpoint_that_is_none_is_told(endpoint: str) -> None:
    """What is no address cannot be used; the remedy says so."""

    async def use() -> None:
        async with client(endpoint) as bucket:
            await keys(bucket)

    error = await failure(use())
    assert isinstance(error, Misconfigured)
    assert "S3_ENDPOINT" in error.remedy


# TLS


def server_tls(authority: trustme.CA, name: str, *, expired: bool = False) -> ssl.SSLContext:
    """What a server with a certificate for a name speaks with."""
    end = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) if expired else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_after=end).configure_cert(context)
    return context


@pytest.mark.parametrize("fault", ["none", "unknown authority", "other name", "expired"])
async def test_only_a_right_certificate_is_accepted(moto: str, tmp_path: Path, fault: str) -> None:
    """A certificate of an unknown authority, for another name, or of the past is refused, with what to do."""
    authority = trustme.CA()
    signer = trustme.CA() if fault == "unknown authority" else authority
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    tls = server_tls(signer, "example.org" if fault == "other name" else "127.0.0.1", expired=fault == "expired")
    async with FaultProxy(moto, tls=tls) as proxy, client(proxy.endpoint, ca_bundle=bundle) as bucket:
        if fault == "none":
            await bucket._client.create_bucket(Bucket="over-tls")
            return
        error = await failure(keys(bucket))
    assert isinstance(error, Misconfigured)
    assert "S3_CA_BUNDLE" in error.remedy
    assert proxy.seen == []


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["no file", "empty", "something else"])
async def test_a_bundle_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | None) -> None:
    """A bundle of authorities that is missing or is none is named."""
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    async with client(f"https://127.0.0.1:{free_port()}", ca_bundle=bundle) as bucket:
        error = await failure(keys(bucket))
    assert isinstance(error, Misconfigured)
    assert "S3_CA_BUNDLE" in error.remedy


async def test_tls_to_a_plain_port_is_told(proxy: FaultProxy) -> None:
    """An endpoint with the wrong scheme is told."""
    async with client(proxy.endpoint.replace("http:", "https:")) as bucket:
        error = await failure(keys(bucket))
    assert isinstance(error, Misconfigured)
    assert "scheme" in error.remedy


# The event loop


async def test_a_long_listing_lets_others_work(bucket: S3Bucket, proxy: FaultProxy) -> None:
    """While a page of a thousand keys is read, other tasks get many turns."""
    entry = (
        "<Contents><Key>logs%2Frtl.0b5e%2B1%2B{}.ndjson.gz</Key><LastModified>2026-01-10T14:40:04.321Z</LastModified>"
        "<ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag><Size>{}</Size></Contents>"
    )
    page = LISTING.format("".join(entry.format(one, one) for one in range(1000)) + "<EncodingType>url</EncodingType>")
    proxy.inject(Answers(status=200, body=page.encode()))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    found = [file async for page in bucket.list_files("logs/") for file in page]
    task.cancel()
    assert [(file.key, file.size) for file in found] == [(f"logs/rtl.0b5e+1+{n}.ndjson.gz", n) for n in range(1000)]
    assert found[0].modified_ms == 1_768_056_004_321
    assert turns > 10
