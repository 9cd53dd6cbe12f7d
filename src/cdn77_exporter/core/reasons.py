"""Why a file cannot be counted, and why a line is not an event: two closed lists with their meanings."""

from __future__ import annotations

#: Why a file cannot be counted; closed.
UNREADABLE_REASONS = {
    "not_gzip": "the file does not start with a gzip header",
    "truncated": "the gzip data ends before its trailer",
    "corrupt": "the gzip data cannot be inflated or fails its checksum",
    "empty": "the object has no bytes",
    "size_mismatch": "the body's length is not the listed one",
    "checksum_mismatch": "the body's MD5 is not the ETag",
    "too_large": "the file is larger than the limits allow",
    "too_many_bad_lines": "the file has more bad lines than the limit allows",
    "too_many_distinct": "the file has more different groups and viewers than MAX_FILE_ENTRIES",
    "line_too_long": "a line does not end within 16 times MAX_LINE_BYTES, or one over MAX_LINE_BYTES not at all",
    "decoder_died": "the process that decodes the file ends, again and again",
}

#: Why a line is not an event; closed.
REJECT_REASONS = {
    "not_json": "the line is not one JSON value",
    "not_an_object": "the line is JSON but not an object",
    "line_too_long": "the line is longer than MAX_LINE_BYTES",
    "bad_timestamp": "the timestamp is missing or is not an ISO 8601 UTC time",
    "bad_path": "the request path is missing or not text",
    "bad_client_ip": "the client IP is missing or is not an IP address",
    "bad_number": "a count is not an integer from 0 to 2^53",
    "bad_text": "a text field is not text",
    "no_stream": "the path has no stream name",
    "stream_not_allowed": "the stream is not on STREAM_ALLOWLIST",
    "too_old": "the event is older than seven days",
}
