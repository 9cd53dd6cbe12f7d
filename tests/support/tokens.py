"""Pieces of bytes that are put into log lines to break whoever reads them."""

#: What readers of JSON, gzip, time and addresses stumble over.
TOKENS = (
    b"", b"\0", b"\n", b"\r", b"\t", b" ", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"{}", b"{}{}", b"}{",
    b"}\n{", b'""', b"null", b"true", b"false", b"NaN", b"Infinity", b"-", b"0", b"00", b"-0", b"-1", b"1.0", b"1e5",
    b"1e400", b"9" * 30, b"9" * 400, b"9007199254740992", b"9007199254740993", b"\\u0000", b"\\ud800", b"\\udc00",
    b"\\ud83d\\ude00", b"\\u2028", b"\xe2\x80\xa8", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc3\xa9",
    b"\x7f", b"\x1b[31m", b"/", b"//", b"/78001c7e2b3ff8ca21b504883b47c44c/", b"Z", b"T", b"+00:00", b"+02:00", b".",
    b".299", b"24", b"60", b"-13-", b"2026-02-29", b"::", b"%eth0", b"255", b"256", b'"clientIP":', b'"responseBytes":',
    b'"timestamp":null,', b'"cacheStatus":"x",', b'"responseStatus":"200",', b"x" * 200,
    b"\xe2\x82", b"\xf0\x9f", b"\xef\xbf\xbd", b"\\ud83d", b"\\ude00", b'"-"', b'""', b"-1.5", b"12.5", b"2.0", b'"12"',
    b"+0000", b"-0530", b"+01", b",5", b"1.2.3.4:80", b"[::1]:80", b", ", b"t", b'"clientRequestUserAgent":"\xff",',
    b'"timeToFirstByteMs":-1,', b'"clientIP":"-",', b'"locationID":12,', b"18446744073709551616",
)  # fmt: skip
