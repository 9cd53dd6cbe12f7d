"""Values that no text shows: secrets, read anew when their file changes, and headers that may hold some."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn, cast

from cdn77_exporter.core.masking import MASK
from cdn77_exporter.edge.plain_file import open_plain
from cdn77_exporter.edge.stamp import stamp_of

_SECRET_BYTES = 64 * 1024


class Secret:
    """A value that no repr, text, copy or pickle shows; `reveal` gives it, anew when its file has changed."""

    __slots__ = ("_asked", "_changes", "_check", "_path", "_print", "_seen", "_value")

    def __init__(self, value: str, path: Path | None = None, check: Callable[[str], object] | None = None) -> None:
        self._value = value
        self._path = path
        self._check = check or secret_text
        self._print = stamp_of(path) if path else None
        self._seen: tuple[str, ...] = (value,)  # what the value is or was: an old one still may not be shown
        self._changes = 0
        self._asked = 0

    def reveal(self) -> str:
        """Return the value now: the last good one while its file cannot be read or makes no sense."""
        if self._path is None:
            return self._value
        try:
            now = stamp_of(self._path)
            if now != self._print:
                value = read_secret(self._path)
                self._check(value)
                self._print = now
                self._take(value)
        except (OSError, ValueError):
            pass  # it may be replaced at this very moment
        return self._value

    def _take(self, value: str) -> None:
        if value != self._value:
            self._value = value
            self._seen = (value, *self._seen)[:8]
            self._changes += 1

    def changed(self) -> bool:
        """Tell whether the value has changed since the last call; reads the file if it was replaced."""
        self.reveal()
        changed = self._changes != self._asked
        self._asked = self._changes
        return changed

    @property
    def seen(self) -> tuple[str, ...]:
        """The value and those before it, for masking."""
        return self._seen

    @property
    def source(self) -> str:
        """The text that may be shown: masked, with the file of the secret."""
        return f"{MASK} (file {self._path})" if self._path else MASK

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: it would leave the process in clear")


class Headers(Mapping[str, str]):
    """HTTP headers, which may hold secrets: shown by none of their texts, and read anew when their file changes."""

    __slots__ = ("_secret",)

    def __init__(self, secret: Secret | None = None) -> None:
        self._secret = secret

    def _now(self) -> dict[str, str]:
        return parse_headers(self._secret.reveal()) if self._secret else {}

    def __getitem__(self, name: str) -> str:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    @property
    def secret(self) -> Secret | None:
        """The secret that the headers come from."""
        return self._secret

    def __repr__(self) -> str:
        return f"Headers({MASK if self._secret else ''})"

    __str__ = __repr__


def as_secret(text: str, path: Path | None = None) -> Secret:
    """Return a password or token that was given as text, or read from the file `path`; raises ValueError."""
    return Secret(secret_text(text), path)


def as_headers(text: str, path: Path | None = None) -> Headers:
    """Return headers that were given as text, or read from the file `path`; none for "". Raises ValueError."""
    parse_headers(text)
    return Headers(Secret(text, path, parse_headers) if text else None)


def read_secret(path: Path) -> str:
    """Return the text of a secret's file; raises OSError, or ValueError("what is wrong; what would be right")."""
    with open_plain(path) as file:
        body = file.read(_SECRET_BYTES + 1)
    if len(body) > _SECRET_BYTES:
        raise ValueError("is larger than 64 KiB; a file that holds the secret and nothing else")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text; a file that holds the secret and nothing else") from None
    text = text.rstrip("\r\n")  # editors and `echo` end a file with a line break
    if not text.strip():
        raise ValueError("is empty; a file that holds the secret")
    return text


def secret_text(text: str) -> str:
    """Return the text if it can be a password or token; raises ValueError without quoting it."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("has control characters or several lines; the secret and nothing else")
    return text


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Headers that the exporter itself sets; a second value would break the request.
_OWN_HEADERS = {
    "content-type",
    "content-encoding",
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "x-prometheus-remote-write-version",
}


def parse_headers(text: str) -> dict[str, str]:
    """Parse headers from a JSON object, or from `Name: value` pairs, one a line or with semicolons between them."""
    said = "`Name: value` pairs with semicolons or line breaks between them, or a JSON object"
    if text.lstrip().startswith("{"):
        try:
            pairs = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"is not valid JSON; {said}") from None
        if not all(isinstance(value, str) for value in pairs.values()):
            raise ValueError(f"has values that are not text; {said}")
    else:
        pairs = {}
        for part in re.split(r"[;\r\n]", text):
            name, colon, value = part.partition(":")
            if part.strip() and not colon:
                raise ValueError(f"has a part without a colon; {said}")
            if part.strip():
                pairs[name.strip()] = value.strip()
    for name, value in pairs.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"has a header whose name is not one; {said}")
        if name.lower() in _OWN_HEADERS:
            raise ValueError("has a header that the exporter sets itself (such as Content-Type); only others")
        if not value or any(
            ord(character) < 32 or ord(character) > 255 or ord(character) == 127 for character in value
        ):
            raise ValueError(f"has a header whose value is empty or not plain text; {said}")
    return cast(dict[str, str], pairs)
