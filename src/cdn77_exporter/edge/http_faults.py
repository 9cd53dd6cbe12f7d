"""The meaning of failures below and beside HTTP, for bucket and receiver alike: causes, TLS, and waits asked for."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import Enum, auto

import aiohttp

#: The longest wait that a server is granted, in seconds.
MOST_RETRY_AFTER = 3600.0


class TlsFault(Enum):
    """The reason why TLS cannot work as it is set up."""

    UNTRUSTED = auto()  # the server's certificate
    CLIENT_REFUSED = auto()  # the server wants another certificate of the client, or one at all
    NOT_TLS = auto()  # the server speaks something else, or another version
    BAD_FILE = auto()  # the file of authorities


#: What the text of a TLS failure contains; what fits none is a broken connection and may pass.
_TLS_FAULTS = (
    ("CERTIFICATE_VERIFY_FAILED", TlsFault.UNTRUSTED),
    ("NO_CERTIFICATE_OR_CRL_FOUND", TlsFault.BAD_FILE),
    ("X509", TlsFault.BAD_FILE),
    ("PEM", TlsFault.BAD_FILE),
    ("ALERT_CERTIFICATE", TlsFault.CLIENT_REFUSED),
    ("ALERT_BAD_CERTIFICATE", TlsFault.CLIENT_REFUSED),
    ("ALERT_UNKNOWN_CA", TlsFault.CLIENT_REFUSED),
    ("ALERT_UNSUPPORTED_CERTIFICATE", TlsFault.CLIENT_REFUSED),
    ("ALERT_ACCESS_DENIED", TlsFault.CLIENT_REFUSED),
    ("HANDSHAKE_FAILURE", TlsFault.CLIENT_REFUSED),
    ("WRONG_VERSION_NUMBER", TlsFault.NOT_TLS),
    ("HTTP_REQUEST", TlsFault.NOT_TLS),
    ("UNSUPPORTED_PROTOCOL", TlsFault.NOT_TLS),
    ("PROTOCOL_VERSION", TlsFault.NOT_TLS),
    ("RECORD_LAYER_FAILURE", TlsFault.NOT_TLS),
)
_TLS_ERRORS = (ssl.SSLError, aiohttp.ClientSSLError)


def causes_of(error: BaseException) -> list[BaseException]:
    """Return an error and those that led to it, which client libraries wrap in ways of their own; outermost first."""
    found: list[BaseException] = []
    left = [error]
    while left:
        one = left.pop(0)
        if not any(one is other for other in found):
            found.append(one)
            inner = [one.__cause__, one.__context__, getattr(one, "os_error", None)]
            inner += [getattr(one, "certificate_error", None), getattr(one, "kwargs", {}).get("error")]
            left += [cause for cause in inner if isinstance(cause, BaseException)]
    return found


def tls_fault(error: BaseException) -> tuple[TlsFault, str, BaseException] | None:
    """Return what is wrong with TLS, the words that tell it and the innermost error that has them; None for no such."""
    for cause in reversed(causes_of(error)):
        if isinstance(cause, _TLS_ERRORS):
            text = str(cause).upper().replace(" ", "_")
            for words, fault in _TLS_FAULTS:
                if words in text:
                    return fault, words, cause
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that an answer asks for, as a number or a date; None when it asks for nothing.

    `headers`: by names in any case, or in lower case.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
        return min(float(text), MOST_RETRY_AFTER)
    until = _seconds_of(text)
    if until is None:
        return None
    # The server's own clock is the one that its date is meant by.
    now = _seconds_of(headers.get("date", "")) or time.time()
    return min(max(0.0, until - now), MOST_RETRY_AFTER)


def _seconds_of(http_date: str) -> float | None:
    try:
        return parsedate_to_datetime(http_date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
