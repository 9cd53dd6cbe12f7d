"""The fields of a log line: the 39 that CDN77 writes, and how each is read."""

from __future__ import annotations

from enum import StrEnum


class Reads(StrEnum):
    """The way a field's value is read."""

    TEXT = "text"
    NUMBER = "number"  # a whole number from 0 to 2^53
    FLAG = "flag"  # true or false


#: Every field of a line, in the order in which CDN77 writes them.
FIELDS: dict[str, Reads] = {
    "timestamp": Reads.TEXT,
    "startTimeMs": Reads.NUMBER,
    "tcpRTTus": Reads.NUMBER,
    "requestTimeMs": Reads.NUMBER,
    "timeToFirstByteMs": Reads.NUMBER,
    "resourceID": Reads.NUMBER,
    "cacheAge": Reads.NUMBER,
    "cacheStatus": Reads.TEXT,
    "clientCountry": Reads.TEXT,
    "clientIP": Reads.TEXT,
    "clientPort": Reads.NUMBER,
    "clientASN": Reads.NUMBER,
    "clientRequestAccept": Reads.TEXT,
    "clientRequestBytes": Reads.NUMBER,
    "clientRequestCompleted": Reads.FLAG,
    "clientRequestConnTimeout": Reads.FLAG,
    "clientRequestContentType": Reads.TEXT,
    "clientRequestHost": Reads.TEXT,
    "clientRequestMethod": Reads.TEXT,
    "clientRequestPath": Reads.TEXT,
    "clientRequestProtocol": Reads.TEXT,
    "clientRequestRange": Reads.TEXT,
    "clientRequestReferer": Reads.TEXT,
    "clientRequestScheme": Reads.TEXT,
    "clientRequestServerPush": Reads.FLAG,
    "clientRequestUserAgent": Reads.TEXT,
    "clientRequestVia": Reads.TEXT,
    "clientRequestXForwardedFor": Reads.TEXT,
    "clientSSLCipher": Reads.TEXT,
    "clientSSLFlags": Reads.NUMBER,
    "clientSSLProtocol": Reads.TEXT,
    "locationID": Reads.TEXT,
    "serverIP": Reads.TEXT,
    "serverPort": Reads.NUMBER,
    "responseStatus": Reads.NUMBER,
    "responseBytes": Reads.NUMBER,
    "responseContentType": Reads.TEXT,
    "responseContentRange": Reads.TEXT,
    "responseContentEncoding": Reads.TEXT,
}
