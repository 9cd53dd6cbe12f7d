"""Hostile lines and files, each with what must become of it."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from tests.support.files import EXAMPLE_MS, event, gzip_bytes, json_line, log_file, ndjson, traffic

MEBIBYTE = 1024 * 1024
COUNTS = ("responseBytes", "timeToFirstByteMs", "resourceID", "responseStatus")
TEXTS = ("cacheStatus", "locationID", "clientCountry", "clientRequestUserAgent")
GOOD = event()
LINE = json_line(GOOD)
#: A good event that stands around the hostile lines; other than these, so that it cannot be mistaken.
WITNESS = event(EXAMPLE_MS + 1000, clientIP="198.51.100.7", responseBytes=1000)


def _line(**changed: Any) -> bytes:
    return json_line(event(**changed))


def _raw(name: str, value: bytes) -> bytes:
    """A line in which a field's value is these bytes."""
    return _line(**{name: "@@"}).replace(b'"@@"', value)


def _without(name: str) -> bytes:
    return json_line({key: value for key, value in GOOD.items() if key != name})


def _padded(length: int) -> bytes:
    """A good line of so many bytes, without its newline."""
    return _line(clientRequestReferer="x" * (length - len(_line(clientRequestReferer="")) + 1))


def bad_lines() -> Iterator[tuple[str, bytes, str]]:
    """Name, line, and the reason that it must be counted under."""
    yield "not JSON", b"this is not JSON\n", "not_json"
    yield "a single quote", b"'\n", "not_json"
    yield "Python's way", b"{'timestamp': None}\n", "not_json"
    yield "truncated in a string", LINE[:200] + b"\n", "not_json"
    yield "without its brace", LINE[:-2] + b"\n", "not_json"
    yield "without its begin", LINE[10:], "not_json"
    yield "an array", b"[" + LINE[:-1] + b"]\n", "not_an_object"
    yield "an empty array", b"[]\n", "not_an_object"
    yield "a number", b"17\n", "not_an_object"
    yield "a text", b'"text"\n', "not_an_object"
    yield "true", b"true\n", "not_an_object"
    yield "null", b"null\n", "not_an_object"
    yield "NaN", b"NaN\n", "not_json"
    yield "two objects", LINE[:-1] + LINE, "not_json"
    yield "two objects and a blank", LINE[:-1] + b" " + LINE, "not_json"
    yield "two objects and a comma", LINE[:-1] + b"," + LINE, "not_json"
    yield "an object and something", LINE[:-1] + b" x\n", "not_json"
    yield "a comma at the end", LINE[:-2] + b",}\n", "not_json"
    yield "a byte-order mark within", b"{\xef\xbb\xbf" + LINE[1:], "not_json"
    yield "two byte-order marks", b"\xef\xbb\xbf" * 2 + LINE, "not_json"
    yield "a byte-order mark of UTF-16", b"\xff\xfe" + LINE, "not_json"
    yield "UTF-16", LINE[:-1].decode().encode("utf-16-le").replace(b"\n", b"") + b"\n", "not_json"
    yield "100,000 brackets", b"[" * 100_000 + b"]" * 100_000 + b"\n", "not_json"
    yield "100,000 open brackets", b"[" * 100_000 + b"\n", "not_json"
    yield "100,000 braces", b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", "not_json"
    yield "brackets in a field", _raw("clientRequestReferer", b"[" * 100_000 + b"]" * 100_000), "not_json"
    yield "brackets in a count", _raw("responseBytes", b"[" * 100_000 + b"]" * 100_000), "not_json"
    yield "NUL bytes", b"\0" * 50 + b"\n", "not_json"
    yield "NUL before the line", b"\0" + LINE, "not_json"
    yield "NUL behind the line", LINE[:-1] + b"\0\n", "not_json"
    yield "NUL in a text", _raw("cacheStatus", b'"H\0T"'), "not_json"
    yield "NUL in a text that does not count", _raw("clientRequestReferer", b'"a\0b"'), "not_json"
    yield "a raw tab in a text", _raw("locationID", b'"a\tb"'), "not_json"
    yield "a wrong escape", _raw("clientRequestReferer", b'"\\x41"'), "not_json"
    yield "a byte that is no UTF-8 outside of a text", LINE[:-2] + b"\xff}\n", "not_json"
    yield "a byte that is no UTF-8 before the end of a text", _raw("clientRequestReferer", b'"\xe2"x'), "not_json"
    for name in COUNTS:
        yield f"NaN as {name}", _raw(name, b"NaN"), "not_json"
        yield f"-Infinity as {name}", _raw(name, b"-Infinity"), "not_json"
        yield f"a number with a zero before it as {name}", _raw(name, b"012"), "not_json"
    for value in (
        b"null", b"1768056568299", b'""', b'"yesterday"', b'"2026-01-10"', b'"2026-01-10T14:49:28"',
        b'"2026-13-10T14:49:28Z"', b'"2026-00-10T14:49:28Z"', b'"2026-02-30T14:49:28Z"', b'"2025-02-29T00:00:00Z"',
        b'"2026-01-10T24:00:00Z"', b'"2026-01-10T14:60:00Z"', b'"2026-01-10T14:49:60Z"', b'"2026-01-10T14:49:28.Z"',
        b'"2026-01-10T14:49:28+24:00"', b'"2026-01-10T14:49:28-02:60"', b'"2026-01-10T14:49:28+1"',
        b'"2026-01-10T14:49:28+01:00:00"', b'"2026-01-10T14:49.5Z"', b'"2026-01-10_14:49:28Z"',
        b'"2026-01-10T144928Z"',
        b'"2026-01-10T23:59:61Z"', b'"2026-01-10T23:59:60+01:00"', b'"2026-01-10T14Z"', b'"2026-010T14:49:28Z"',
        b'"2026-01-10T14:49:28\xffZ"', b'"0000-01-10T14:49:28Z"', b'"+2026-01-10T14:49:28Z"',
        b'"2026-1-10T14:49:28Z"',
        b'" 2026-01-10T14:49:28Z"', b'"2026-01-10T14:49:28Z\\n"', b'"2026-01-10T14:49:28Z and more"', b"[]", b"true",
        '"２０２６-01-10T14:49:28Z"'.encode(), b'"2026-01-10T14:49:28.29\xd9\xa9Z"', b'"' + b"2" * 100_000 + b'"',
    ):  # fmt: skip
        yield f"the timestamp {value[:40].decode('utf-8', 'replace')}", _raw("timestamp", value), "bad_timestamp"
    yield "no timestamp", _without("timestamp"), "bad_timestamp"
    for value in (b"null", b"5", b"[]", b"true"):
        yield f"the path {value.decode()}", _raw("clientRequestPath", value), "bad_path"
    yield "no path", _without("clientRequestPath"), "bad_path"
    for path in (
        "",
        "/",
        "/favicon.ico",
        "/78001C7E2B3FF8CA21B504883B47C44C/x",
        "/78001c7e2b3ff8ca21b504883b47c44c",
        "x" * 50_000,
    ):
        yield f"the path '{path[:40]}'", _line(clientRequestPath=path), "no_stream"
    for text in ("2020-01-10T14:49:28.299Z", "1999-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"):
        yield f"an event of {text[:4]}", _line(timestamp=text), "too_old"
    yield "a line of MAX_LINE_BYTES and one", _padded(MEBIBYTE + 1) + b"\n", "line_too_long"
    yield "a label of MAX_LINE_BYTES", _line(cacheStatus="x" * MEBIBYTE), "line_too_long"
    yield "a line of 3 MiB", b"y" * 3 * MEBIBYTE + b"\n", "line_too_long"


def odd_lines() -> Iterator[tuple[str, bytes]]:
    """Name and line of what looks odd and is an event."""
    yield "as the service writes it", LINE
    yield "the longest line", _padded(MEBIBYTE) + b"\n"
    yield "a label value of a megabyte", _line(cacheStatus="x" * 1_000_000)
    yield "a User-Agent of a megabyte", _line(clientRequestUserAgent="aft" * 333_000)
    yield "a path of a megabyte", _line(clientRequestPath="/x" * 500_000 + GOOD["clientRequestPath"])
    for name in TEXTS:
        yield f"quotes in {name}", _line(**{name: "a\"b\\c'"})
        yield f"control characters in {name}", _line(**{name: "a\0b\x1b[31mc\r\nd\x7fe\x9bf\u2028g\u2029h"})
        yield f"null as {name}", _line(**{name: None})
        yield f"nothing as {name}", _line(**{name: ""})
        yield f"no {name}", _without(name)
    for name in COUNTS:
        yield f"null as {name}", _line(**{name: None})
        yield f"2^53 as {name}", _line(**{name: 2**53})
        yield f"-0 as {name}", _raw(name, b"-0")
        yield f"no {name}", _without(name)
    yield from _malformed_fields()
    yield from _broken_texts()
    yield "no client IP", _without("clientIP")
    for address in ODD_ADDRESSES:
        yield f"the client IP '{address[:40].decode('utf-8', 'replace')}'", _raw("clientIP", b'"' + address + b'"')
    for value in (b"null", b"5", b"1.2", b"[]", b'["1.2.3.4"]', b"true"):
        yield f"the client IP {value.decode()}", _raw("clientIP", value)
    for text in (
        "2026-01-10T16:49:28+02:00", "2026-01-10T14:49:28+0000", "2026-01-10T09:19:28,5-0530",
        "2026-01-10T15:49:28+01",
        "2026-01-10 14:49:28.299Z", "2026-01-10t14:49:28z", "2026-01-10T14:49Z", "20260110T144928Z",
        "20260110T1449+0000", "2026-01-09T23:59:60Z", "2026-01-10T00:59:60.5+01:00",
        "2026-01-10T14:49:28.2991234567890123Z",
        "2026-01-10T14:49:28-00:00", "9999-12-31T23:59:59-23:59",
        "2026-01-10T14:49:28Z", "2026-01-10T14:49:28.2Z", "2026-01-10T14:49:28.299999999Z",
        "2026-01-10T14:49:28.299+00:00", "2026-01-11T14:49:28.299Z", "9999-12-31T23:59:59.999Z",
    ):  # fmt: skip
        yield f"the timestamp {text}", _line(timestamp=text)
    yield "U+2028 in a text", _line(clientRequestReferer="a\u2028b\u2029c\x85d")
    yield "U+2028 in a label", _line(locationID="a\u2028b")
    yield "an emoji, escaped as a pair", _raw("locationID", b'"\\ud83d\\ude00"')
    yield "an escaped name", LINE.replace(b'"clientIP"', b'"client\\u0049P"')
    yield "blanks around everything", LINE.replace(b'"cacheStatus":', b' "cacheStatus" :\t').replace(b"{", b" { ", 1)
    yield "the same name twice", LINE.replace(b"{", b'{"responseBytes":1,', 1)
    yield "unknown fields of any kind", LINE.replace(b"{", b'{"a":[{"b":[1e400,-0.5,null]}],"":{},', 1)
    yield "an IPv6 address", _line(clientIP="2001:db8::1")
    yield "an IPv4 address in an IPv6 one", _line(clientIP="::ffff:1.2.3.4")


#: Texts that hold an address, or none.
ODD_ADDRESSES = (
    b"", b"-", b"localhost", b"198.51.100.xxx", b"1.2.3", b"1.2.3.4.5", b"256.1.1.1", b"1.2.3.4/24", b"1.2.3.4:80",
    b"1.2.3.4:", b"1.2.3.4:123456", b":80", b" 1.2.3.4", b"1.2.3.4 ", b"1.2.3.4\\t", b"01.2.3.4", b"0x7f.1",
    b"16909060", b":::", b"2001:db8::g", b"1:2:3:4:5:6:7:8:9", b"[::1]", b"[::1]:443", b"[::1", b"::1]", b"[::1]443",
    b"[1.2.3.4]:80", b"[]", b"[fe80::1%eth0]:80", b"fe80::1%eth0, 1.2.3.4", b"1.2.3.4, 5.6.7.8", b"unknown,1.2.3.4",
    b",,1.2.3.4,", b",",
    b"::ffff:1.2.3.4", b"::1:80", b"\\u0000", "１.2.3.4".encode(), b"9" * 100_000, b"1.2.3.4," * 1000, b"\xff",
    b"\xff,1.2.3.4", b"\\ud800", b"2001:db8:1:2:3:4:5:6", b"2001:db8:1:2::9",
)  # fmt: skip


def _malformed_fields() -> Iterator[tuple[str, bytes]]:
    """Fields that hold something else than they should: they are as good as missing."""
    for name in COUNTS:
        for value in (
            b'""', b'"-"', b'"12"', b'"12.0"', b'"-1"', b'" "', b'" 12"', b'"012"', b'"twelve"', b'"1e3"', b'"+1"',
            b"1.5", b"12.0", b"12.00", b"0.0", b"0.5", b"-0", b"-0.0", b"1e3", b"1e-3", b"1000e-3", b"12e1",
            b"1e400", b"-1",
            b"-1.5", b"true", b"false", b"1" + b"0" * 30, b"18446744073709551616", b"9007199254740993",
            b"9007199254740993.0",
            b"9007199254740992", b"9007199254740992.0", b'"9007199254740992"', b"[]", b"{}", b"[1,[2]]",
            b"9" * 100_000,
            b"0." + b"0" * 100_000, b'"\xff"', '"１２"'.encode(), b"1e99999999999999999999",
        ):  # fmt: skip
            yield f"{value[:40].decode('utf-8', 'replace')} as {name}", _raw(name, value)
    for name in TEXTS:
        for value in (
            b"5",
            b"-5",
            b"1.0",
            b"1e400",
            b"9" * 5000,
            b"true",
            b"false",
            b"[]",
            b"{}",
            b'["Roku","b"]',
            b'"-"',
        ):
            yield f"{value[:40].decode()} as {name}", _raw(name, value)
    yield "a count that is malformed, and again as it should be", LINE.replace(b"{", b'{"responseBytes":-1,', 1)
    yield "a count, and again malformed", LINE.replace(b"}\n", b',"responseBytes":-1}\n', 1)
    yield "a timestamp that is none, and again one", LINE.replace(b"{", b'{"timestamp":null,', 1)


def _broken_texts() -> Iterator[tuple[str, bytes]]:
    """Texts with bytes that are no UTF-8, and with escapes of half a character."""
    for name in (*TEXTS, "clientRequestReferer", "clientRequestPath"):
        before = GOOD[name].encode()
        for odd in (
            b"\xff", b"\xe9", b"\xe2\x82", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98",
            b"\x80\x80", b"\xff\xef\xbf\xbd", b"\xf0\xef\xbf\xbd", b"\\ud800", b"\\udc00", b"\\ud83d\\ud83d\\ude00",
            b"\\ude00\\ud83d", b"\\udce2\\udc82", b"\\ud83dx", b"\\ud83d\\n", b"\\ud83d\xff", b"\\ud83d\\u0041",
            b"\\uD83D\\uDE00",
            b"\xef\xbf\xbd", b"\\ufffd", b"\xff" * 600, b"\\ud800" * 6000,
        ):  # fmt: skip
            yield f"{odd[:40]!r} in {name}", _raw(name, b'"' + before + odd + b'"')
    yield "a byte that is no UTF-8 in a name", _line(nam="x").replace(b'"nam"', b'"n\xff"')
    yield "half a pair in a name", _line(nam="x").replace(b'"nam"', b'"n\\ud800"')
    yield "a byte-order mark", b"\xef\xbb\xbf" + LINE


def readable_files(lines: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and file of what looks odd and holds exactly these lines."""
    whole, middle = gzip_bytes(lines), len(lines) // 3
    yield "as the service writes it", whole
    yield "two members, cut within a line", gzip_bytes(lines[:middle]) + gzip_bytes(lines[middle:])
    yield "a member for each byte", b"".join(gzip_bytes(lines[at : at + 1], 1) for at in range(len(lines)))
    yield "empty members", gzip_bytes(b"") + whole + gzip_bytes(b"") * 100
    yield "zeros behind the end", whole + bytes(100_000)
    yield "zeros between the members", gzip_bytes(lines[:middle]) + bytes(512) + gzip_bytes(lines[middle:]) + bytes(512)
    yield "no last newline", gzip_bytes(lines[:-1])
    yield "CRLF", gzip_bytes(lines.replace(b"\n", b"\r\n"))
    yield "blank lines", gzip_bytes(b"\n\r\n \t\n" + lines.replace(b"\n", b"\n\n  \n") + b"\n" * 1000)
    yield "a name and a comment in the header", whole[:3] + b"\x18" + whole[4:10] + b"name\0comment\0" + whole[10:]
    yield "an extra field in the header", whole[:3] + b"\x04" + whole[4:10] + b"\x05\0extra" + whole[10:]
    header = whole[:3] + b"\x02" + whole[4:10]
    yield "a checksum of the header", header + (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little") + whole[10:]
    yield "not compressed within", gzip.compress(lines, 0)


def unreadable_files() -> Iterator[tuple[str, bytes, str]]:
    """Name, file, and the reason why it cannot be read."""
    body = log_file(traffic(300, seed=9))
    yield "empty", b"", "empty"
    yield "plain text", ndjson([GOOD]), "not_gzip"
    yield "one byte", b"\x1f", "not_gzip"
    yield "a zip file", _zip(), "not_gzip"
    yield "zlib without gzip", b"\x78\x9c" + body[2:], "not_gzip"
    yield "zeros", bytes(1000), "not_gzip"
    yield "only the mark", b"\x1f\x8b", "truncated"
    yield "only the header", body[:10], "truncated"
    yield "cut in the midst", body[: len(body) // 2], "truncated"
    yield "without its trailer", body[:-8], "truncated"
    yield "without its last byte", body[:-1], "truncated"
    yield "a second member that is cut", body + body[:500], "truncated"
    yield "a wrong CRC", body[:-8] + b"\0\0\0\0" + body[-4:], "corrupt"
    yield "a wrong length", body[:-4] + b"\1\1\1\1", "corrupt"
    yield "a flipped byte", body[:2000] + bytes([body[2000] ^ 0xFF]) + body[2001:], "corrupt"
    yield "another method of compression", body[:2] + b"\x07" + body[3:], "corrupt"
    yield "a flag that means nothing", body[:3] + b"\x20" + body[4:], "corrupt"
    yield "such a flag in the second member", body + body[:3] + b"\x80" + body[4:], "corrupt"
    yield "text behind the end", body + b"and more", "corrupt"
    yield "zeros and text behind the end", body + bytes(100) + b"and more", "corrupt"
    yield "an endless line that is none", gzip_bytes(b"z" * 2 * MEBIBYTE), "line_too_long"


def _zip() -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("log.ndjson", LINE)
    return target.getvalue()
