"""Heads of answers, read leniently: whatever a proxy adds to an answer, its status is what counts.

The HTTP library refuses an answer as a whole for a header of 12 KB, a length that is told twice, or a body where none
belongs. The request would be sent again although it was taken. So a head is read here, and passed on with nothing in it
but the headers that matter.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

#: The longest head that is read. What is longer is no answer.
MOST_HEAD_BYTES = 1024 * 1024
_LONGEST_VALUE = 4096
_STATUS = re.compile(rb"HTTP/1\.([01])[ \t]+(\d{3})(?!\d)")
_END = re.compile(rb"\r?\n\r?\n")
_MATTERS = {
    *(b"content-type", b"content-encoding", b"connection", b"location", b"retry-after", b"date", b"server"),
    *(f"x-prometheus-remote-write-{kind}-written".encode() for kind in ("samples", "histograms", "exemplars")),
}
_UNFIT = re.compile(rb"[^\x20-\x7e\x80-\xff]")
_BODILESS = {204, 304}


class LenientAnswers(ResponseHandler):
    """A connection of the HTTP library that is shown heads as `tidied` makes them, and no body of an answer without."""

    def set_response_params(self, **values: Any) -> None:
        """Begin to wait for an answer."""
        self._head: bytearray | None = bytearray()
        self._deaf = False
        super().set_response_params(**values)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        head = getattr(self, "_head", None)
        if head is None:
            if not getattr(self, "_deaf", False):
                super().data_received(data)
            return
        head += data
        while (end := _END.search(head)) is not None:
            status = _STATUS.match(head)
            if status is None:
                break
            code = int(status[2])
            if 100 <= code < 200 and code != 101:
                del head[: end.end()]
                continue
            self._head = None
            rest = bytes(head[end.end() :])
            super().data_received(tidied(bytes(head[: end.start()])))
            if code in _BODILESS:
                self._deaf = True
                if rest:
                    self.force_close()  # the connection is not what it should be
            elif rest:
                super().data_received(rest)
            return
        if _is_none(head):
            self._head = None
            super().data_received(bytes(head))


def _is_none(head: bytearray) -> bool:
    """Return whether this cannot become the head of an answer."""
    return len(head) > MOST_HEAD_BYTES or not b"HTTP/1.".startswith(head[:7]) or bool(head[8:13] and _END.search(head))


def tidied(head: bytes) -> bytes:
    """Return a head with its status and the headers that matter alone, each once, and one length if it is certain."""
    lines = re.split(rb"\r?\n", head)
    status = _STATUS.match(lines[0])
    assert status is not None  # noqa: S101 - asked before
    kept: dict[bytes, bytes] = {}
    lengths: set[bytes] = set()
    chunked = False
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name == b"content-length":
            lengths.update(one.strip() for one in value.split(b","))
        elif name == b"transfer-encoding":
            chunked = value.lower().endswith(b"chunked")
        elif name in _MATTERS and len(value) <= _LONGEST_VALUE:
            kept.setdefault(name, _UNFIT.sub(b" ", value))
    if int(status[2]) in _BODILESS:
        kept.pop(b"content-encoding", None)
    elif chunked:
        kept[b"transfer-encoding"] = b"chunked"
    elif len(lengths) == 1 and (length := lengths.pop()).isdigit() and len(length) < 19:
        kept[b"content-length"] = length
    elif lengths:
        kept[b"connection"] = b"close"  # the body is what comes until then
    head = b"HTTP/1.%b %b \r\n" % (status[1], status[2])
    return head + b"".join(b"%b: %b\r\n" % pair for pair in kept.items()) + b"\r\n"


class Connector(aiohttp.TCPConnector):
    """Connections with lenient answers."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._factory: Any = partial(LenientAnswers, loop=self._loop)
