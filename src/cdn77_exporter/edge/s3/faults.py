"""The meaning of an error of the S3 client: whether to try again, or what an operator has to do.

No text of the server goes into an error: such texts can hold keys and signatures. Codes and variables' names do.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

import aiohttp
import botocore.exceptions as boto

from cdn77_exporter.core.errors import Conflict, FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.edge.http_faults import TlsFault, causes_of, retry_after, tls_fault
from cdn77_exporter.edge.s3.connection import AnswerTooLong

#: What each call does, for error texts.
VERBS = {
    "list_objects_v2": "list files",
    "get_object": "read an object",
    "head_object": "look at an object",
    "put_object": "write an object",
    "copy_object": "copy an object",
    "delete_object": "delete an object",
    "delete_objects": "delete objects",
    "create_multipart_upload": "begin an upload",
    "abort_multipart_upload": "end an upload",
    "list_multipart_uploads": "list uploads",
}

_KEYS = "check S3_ACCESS_KEY and S3_SECRET_KEY"
_RIGHTS = f"{_KEYS}, and that this key may do so in the bucket of S3_BUCKET"
_PLACE = "check S3_ENDPOINT and S3_REGION: the bucket is elsewhere, or requests are signed for another region"
_BUCKET = "check S3_BUCKET, and that S3_ENDPOINT is the one of that bucket's region"
_RENEW = "renew the credentials of S3_ACCESS_KEY and S3_SECRET_KEY: these are no longer valid"
_CLOCK = "synchronise this machine's clock (NTP): the server refuses signatures that are minutes off"
_NOT_S3 = "check S3_ENDPOINT: it must be the address of an S3 server, without a bucket or a path"
_PROXY = "let HTTPS_PROXY or HTTP_PROXY lead to a proxy that lets S3 pass, or name S3_ENDPOINT in NO_PROXY"
_UNTRUSTED = "set S3_CA_BUNDLE to the authority that signed the server's certificate, and check its names and dates"
_BAD_BUNDLE = "S3_CA_BUNDLE must be a readable file of PEM certificates"
_NOT_TLS = "check the scheme and port of S3_ENDPOINT: the server did not answer with TLS"
_STRANGE = "check S3_ENDPOINT, S3_BUCKET and S3_REGION: the server does not take such a request"

#: What to do, by the code of the answer, or by its status where it has no code.
_REMEDIES = {
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": _RIGHTS,
    "AccountProblem": _RIGHTS,
    "UserSuspended": _RIGHTS,
    "403": _RIGHTS,
    "Forbidden": _RIGHTS,
    "401": _KEYS,
    "Unauthorized": _KEYS,
    "InvalidAccessKeyId": f"{_KEYS}: the server does not know the access key",
    "SignatureDoesNotMatch": f"{_KEYS}: the secret key is not the one of the access key",
    "ExpiredToken": _RENEW,
    "InvalidToken": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "NoSuchBucket": _BUCKET,
    "InvalidBucketName": _BUCKET,
    "AuthorizationHeaderMalformed": _PLACE,
    "IllegalLocationConstraintException": _PLACE,
    "PermanentRedirect": _PLACE,
    "Redirect": _PLACE,
    "TemporaryRedirect": _PLACE,
    "404": _NOT_S3,
    "407": _PROXY,
    "QuotaExceeded": "the bucket or its owner has no room left: raise the quota, or delete something",
}
_GONE = {"404", "NotFound", "NoSuchKey", "NoSuchUpload", "NoSuchVersion"}
_ARCHIVED = {"InvalidObjectState"}
_CONFLICT = {"412", "PreconditionFailed"}
#: Codes that pass although their status is no 5xx.
_PASSING = {
    "RequestTimeout",
    "RequestTimeoutException",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "OperationAborted",
    "ConditionalRequestConflict",
    "SlowDown",
    "TooManyRequests",
    "TooManyRequestsException",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "ServiceUnavailable",
    "InternalError",
}
_PASSING_STATUSES = {408, 409, 425, 429}
#: Answers of servers that cannot delete several objects at once.
_NO_MULTI_DELETE = {
    "405",
    "501",
    "InvalidRequest",
    "MalformedXML",
    "MethodNotAllowed",
    "MissingContentMD5",
    "NotImplemented",
    "UnsupportedOperation",
}
_TLS_REMEDIES = {
    TlsFault.UNTRUSTED: _UNTRUSTED,
    TlsFault.CLIENT_REFUSED: _NOT_TLS,
    TlsFault.NOT_TLS: _NOT_TLS,
    TlsFault.BAD_FILE: _BAD_BUNDLE,
}
#: Only the bundle of authorities is a file.
_UNREADABLE = (FileNotFoundError, PermissionError, IsADirectoryError)
#: The first that is among an error's causes says what happened.
_CONNECTION_WORDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    ((socket.gaierror, aiohttp.ClientConnectorDNSError), "the name in S3_ENDPOINT is not found (DNS)"),
    (ConnectionRefusedError, "nothing listens at S3_ENDPOINT (connection refused)"),
    ((TimeoutError, boto.ConnectTimeoutError, boto.ReadTimeoutError), "the bucket does not answer in time"),
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

#: What the client may raise; anything else is a bug.
CLIENT_ERRORS = (boto.ClientError, boto.BotoCoreError, aiohttp.ClientError, OSError, TimeoutError)


def not_s3(what: str) -> Misconfigured:
    """Return the error of an endpoint that does not answer as an S3 server does."""
    return Misconfigured(what, _NOT_S3)


def elsewhere() -> Misconfigured:
    """Return the error of an endpoint that says that the bucket is elsewhere."""
    return Misconfigured("the bucket redirects to another place or region", _PLACE)


def code_of(error: Mapping[str, object]) -> str:
    """Return an error's code, fit for a log line."""
    return _UNSAFE.sub("", str(error.get("Code") or ""))[:64] or "no code"


def cannot_delete_many(error: boto.ClientError) -> bool:
    """Return whether the server refuses to delete several objects with one request."""
    return code_of(error.response.get("Error", {})) in _NO_MULTI_DELETE


def meaning(error: BaseException, call: str, *, of_object: bool = True) -> Exception:
    """Return the error as the flow knows it. `of_object`: whether the call names an object that may be gone."""
    verb = VERBS[call]
    if isinstance(error, boto.ClientError):
        return _of_answer(error, verb, of_object=of_object)
    if isinstance(error, boto.ParamValidationError):
        return Misconfigured(f"cannot {verb}: the request would not be valid", _BUCKET)
    if isinstance(error, boto.InvalidEndpointConfigurationError | boto.UnsupportedS3ConfigurationError):
        return not_s3(f"cannot {verb}: no request can be made of the settings")
    if isinstance(error, boto.NoCredentialsError | boto.CredentialRetrievalError):
        return Misconfigured(f"cannot {verb}: there are no credentials", _KEYS)
    return _of_connection(error, verb)


def _of_answer(error: boto.ClientError, verb: str, *, of_object: bool) -> Exception:
    code = code_of(error.response.get("Error", {}))
    answer = error.response.get("ResponseMetadata", {})
    status = int(answer.get("HTTPStatusCode", 0))
    if code in _GONE and of_object:
        return FileGone(code)
    if code in _ARCHIVED and of_object:
        return Unreadable("archived", code)
    if code in _CONFLICT:
        return Conflict(code)
    said = code if str(status) in (code, "0") else f"{status} {code}"
    reason = f"the bucket refuses to {verb}: {said}"
    if status >= 500 or status in _PASSING_STATUSES or code in _PASSING:
        return Transient(f"the bucket cannot {verb} now: {said}", retry_after(answer.get("HTTPHeaders", {})))
    by_status = _PLACE if 300 <= status < 400 else _STRANGE
    remedy = _REMEDIES.get(code) or _REMEDIES.get(str(status), by_status)
    return Misconfigured(reason, remedy, of_object=of_object and remedy in (_RIGHTS, _STRANGE))


def _of_connection(error: BaseException, verb: str) -> Exception:
    causes = causes_of(error)
    if any(isinstance(cause, AnswerTooLong) for cause in causes):
        return not_s3(f"cannot {verb}: an answer of the bucket is longer than any of S3")
    if any(isinstance(cause, _UNREADABLE) for cause in causes):
        return Misconfigured("the authorities in S3_CA_BUNDLE cannot be loaded", _BAD_BUNDLE)
    found = tls_fault(error)
    if found is not None:
        fault, words, _ = found
        said = words.lower().replace("_", " ")
        return Misconfigured(f"no TLS connection to the bucket: {said}", _TLS_REMEDIES[fault])
    for kinds, words in _CONNECTION_WORDS:
        if any(isinstance(cause, kinds) for cause in causes):
            return Transient(f"cannot {verb}: {words}")
    return Transient(f"cannot {verb}: the connection to the bucket broke ({type(causes[-1]).__name__})")
