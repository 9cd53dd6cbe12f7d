"""The meaning of a line's fields, whatever its format: instants, addresses, numbers, texts as label values."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from decimal import Decimal

from cdn77_exporter.core.columns import ADDRESS_BYTES

#: Counts above this are not exact in a sample, which is a float.
MAX_COUNT = 2**53
#: Longer label values are cut.
LABEL_LENGTH = 128
#: What access logs write for "nothing"; neither is taken for a malformed value where a number or an address belongs.
NOTHING = frozenset({"", "-"})
#: A longer text holds no address.
ADDRESSES_LENGTH = 1024

_MAPPED = bytes(10) + b"\xff\xff"
_ADDRESS_LENGTH = 64  # an IPv6 address with a zone; the zone has no limit of its own
_NOT_IN_LABELS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONE = re.compile("[\ud800-\udfff]+")
_SECOND = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)", re.ASCII)
_FRACTION = re.compile(r"(?:[.,](\d+))?(?:[Zz]|[+-]00(?::?00)?)", re.ASCII)
# A date and a time of day, in ISO 8601's extended form and in its basic one, and how far it is from UTC.
_OFFSET = r"(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?)"
_INSTANTS = (
    re.compile(rf"(\d{{4}})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?{_OFFSET}", re.ASCII),
    re.compile(rf"(\d{{4}})(\d\d)(\d\d)[Tt ](\d\d)(\d\d)(?:(\d\d)(?:[.,](\d+))?)?{_OFFSET}", re.ASCII),
)
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_BYTE}\.{_BYTE}\.{_BYTE}\.{_BYTE}")
_WITH_PORT = re.compile(r"(?:\[([^\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_USUAL_DIGITS = 15  # of a number that is small enough for certain
_DAY = 86_400


def second_ms(text: str) -> int | None:
    """Return the Unix milliseconds of a date and time down to the second; None when there is no such instant."""
    found = _SECOND.fullmatch(text)
    return _calendar_ms(*map(int, found.groups())) if found else None


def _calendar_ms(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        return None


def fraction_ms(text: str) -> int | None:
    """Return the milliseconds behind a timestamp's seconds; None when that is not how UTC is written (ISO 8601)."""
    found = _FRACTION.fullmatch(text)
    return _digits_ms(found[1]) if found else None


def _digits_ms(fraction: str | None) -> int:
    return int((fraction or "").ljust(3, "0")[:3])


def instant_ms(text: str) -> int | None:
    """Return the Unix milliseconds of a timestamp, what is finer cut off; None when it tells no instant.

    It is a calendar date and a time of day with its offset from UTC (ISO 8601); seconds may be left out. A leap second
    is the first second of the next day, as in Unix time. Without an offset it may be any of 26 hours, so that is none.
    """
    found = next(filter(None, (pattern.fullmatch(text) for pattern in _INSTANTS)), None)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    offset = (int(hours or 0) * 60 + int(minutes or 0)) * 60_000 * (-1 if sign == "-" else 1)
    is_leap = second == "60"
    begin = _calendar_ms(*map(int, (year, month, day, hour, minute, "59" if is_leap else second or "0")))
    if begin is None or int(hours or 0) > 23 or int(minutes or 0) > 59:
        return None
    at = begin - offset
    if is_leap and (at := at + 1000) % (_DAY * 1000):
        return None
    return at + _digits_ms(fraction)


def packed_address(text: str, ipv6_prefix: int = 128) -> bytes | None:
    """Return the 16 bytes of an address, an IPv4 one as the IPv6 one that it is mapped to; None for none.

    It is the first address of a list with commas, which may have a port behind it, and an IPv6 one a zone, which says
    nothing about whose it is. Of an IPv6 address the first `ipv6_prefix` bits are kept, and the rest are zeros.
    """
    if _IPV4.fullmatch(text):  # ten times as fast
        return _MAPPED + bytes(map(int, text.split(".")))
    if len(text) > ADDRESSES_LENGTH:
        return None
    for part in text.split(","):
        packed = _address(part.strip(" \t"))
        if packed is not None:
            return packed if packed.startswith(_MAPPED) else _network(packed, ipv6_prefix)
    return None


def ip_version(text: str | None) -> str:
    """Return the version of the address that `packed_address` finds, `4` or `6`; no text for none."""
    packed = packed_address(text) if text else None
    if packed is None:
        return ""
    return "4" if packed.startswith(_MAPPED) else "6"


def _address(text: str) -> bytes | None:
    found = _WITH_PORT.fullmatch(text)
    if found:
        text = found[2] or found[1]
        if (":" in text) == bool(found[2]):
            return None  # brackets are for IPv6
    if len(text) > _ADDRESS_LENGTH:
        return None
    try:
        packed = ipaddress.ip_address(text).packed
    except ValueError:
        return None
    return packed if len(packed) == ADDRESS_BYTES else _MAPPED + packed


def _network(packed: bytes, prefix: int) -> bytes:
    mask = (1 << 128) - (1 << 128 - prefix)
    return (int.from_bytes(packed, "big") & mask).to_bytes(ADDRESS_BYTES, "big")


def whole_number(text: str) -> int | None:
    """Return the number from 0 to 2^53 that a text is, written as a number of JSON is; None if it is no such number."""
    if len(text) <= _USUAL_DIGITS and text.isascii() and text.isdigit() and (text[0] != "0" or text == "0"):
        return int(text)
    if not _NUMBER.fullmatch(text):
        return None
    try:
        number = Decimal(text)
    except ArithmeticError:  # an exponent beyond all bounds
        return None
    if not 0 <= number <= MAX_COUNT or number != number.to_integral_value():
        return None
    return int(number.to_integral_value())


def characters(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate, which is no character."""
    return text if text.isascii() else _LONE.sub(lambda run: "\ufffd" * len(run[0]), text)


def clean(text: str) -> str:
    """Return a label value: control characters and lone surrogates replaced, cut to `LABEL_LENGTH` characters."""
    text = text[:LABEL_LENGTH]
    return text if text.isascii() and text.isprintable() else _NOT_IN_LABELS.sub("\ufffd", text)
