"""The reasons why a file cannot be counted, and why a line is not an event: two closed lists."""

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
    "not_a_log": "the file has more lines that are no log lines than others: another format, or a renamed field",
    "no_stream_yet": "no line of any file so far has a stream that counts; see STREAM_PATTERN and STREAM_ALLOWLIST",
    "too_old": "every event of the file is older than seven days",
    "refused": "the bucket refuses to give out this file, while it gives out others",
    "archived": "the file is in an archive (such as Glacier) from which it must be restored first",
    "gone": "listings name the file, but it is not there",
    "unavailable": "the bucket could not give out this file at many polls, while it gave out others",
    "changed": "a file of this key was counted, and this one does not begin with the same content",
    "decoder_died": "the process that decodes the file ends, again and again",
}

#: Of these, the one that ends with the first event of all.
NO_STREAM_YET = "no_stream_yet"
#: Those that a second attempt would find again.
FINAL_REASONS = frozenset({"not_a_log", "no_stream_yet", "too_old", "changed"})
#: Those that say that files have another format than the settings.
FORMAT_REASONS = frozenset({"not_a_log", NO_STREAM_YET, "line_too_long", "too_many_bad_lines"})
#: Those that are the bucket's, or of what lies before it, when they are those of every file.
OF_BUCKET_REASONS = frozenset({"archived", "size_mismatch", "checksum_mismatch"})
#: Those of files that stay where they are: they cannot be copied, or wait for something else.
STAYING_REASONS = frozenset({NO_STREAM_YET, "refused", "archived", "gone", "unavailable"})

#: Why a line is not an event; closed.
REJECT_REASONS = {
    "not_json": "the line is not one JSON value",
    "not_an_object": "the line is JSON but not an object",
    "line_too_long": "the line is longer than MAX_LINE_BYTES",
    "bad_timestamp": "the timestamp is missing or is not an ISO 8601 date and time with its offset from UTC",
    "bad_path": "the request path is missing or not text",
    "no_stream": "the path has no stream name",
    "stream_not_allowed": "the stream is not on STREAM_ALLOWLIST",
    "too_old": "the event is older than seven days",
}

#: Of these, the usual ones: the settings leave such lines out, and nothing is wrong with them.
LEFT_OUT_REASONS = frozenset({"no_stream", "stream_not_allowed"})
