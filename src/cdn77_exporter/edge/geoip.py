"""Country and region of a client IP, from a MaxMind City database that may be replaced on disk at any time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cdn77_exporter.edge.stamp import Stamp, stamp_of

if TYPE_CHECKING:  # without a database the library is not imported
    import geoip2.database
    import geoip2.models

#: The country and region of an address that the database does not know.
NOWHERE = ("XX", "Unknown")

_Find = Callable[[str], "geoip2.models.Country"]


class GeoIp:
    """Looks addresses up, and keeps at most `cache_size` of the answers, at least the last half as many.

    `locate` may run in one thread and `refresh` in another. `fault` says why the current file is not used, or is empty;
    an older database stays in use then. `build_epoch` and `kind` describe the database in use.
    """

    def __init__(self, path: Path | None, cache_size: int = 65536) -> None:
        self._path = path
        self._cache_size = max(1, cache_size // 2)
        self._stamp: Stamp | None = None  # of the file that was read last
        self._find: _Find | None = None
        self._recent: dict[str, tuple[str, str]] = {}
        self._older: dict[str, tuple[str, str]] = {}
        self._places: dict[tuple[str, str], tuple[str, str]] = {}  # each once, however many addresses share it
        self.build_epoch = 0
        self.kind = ""
        self.fault = ""
        self.refresh()

    @property
    def available(self) -> bool:
        """True if a database is in use."""
        return self._find is not None

    def locate(self, ip: str) -> tuple[str, str]:
        """Return the country code and the region's name; never raises."""
        return self._recent.get(ip) or self._look_up(ip)

    def refresh(self) -> bool:
        """Open the file if it was replaced; return whether a new database is in use now.

        The file is read when it is new, which takes a moment for a large one.
        """
        if self._path is None:
            return False
        try:
            stamp = stamp_of(self._path)
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            reader = _open(self._path)
            find = _finder(reader)
            if stamp_of(self._path) != stamp:
                raise OSError("the file changes while it is read")
        except OSError as error:
            self._stamp = None  # may pass without a change of the file
            self.fault = f"{type(error).__name__}: {error}"
            return False
        except Exception as error:  # broken bytes lead to any kind of error; none of them may stop the counting
            self.fault = f"{type(error).__name__}: {error}"
            return False
        self.build_epoch, self.kind = reader.metadata().build_epoch, reader.metadata().database_type
        # The reader goes before the cache, see `_look_up`. The old one is not closed, since a lookup may
        # still use it; it is freed with its last reference.
        self._find = find
        self._recent, self._older, self._places = {}, {}, {}
        self.fault = ""
        return True

    def _look_up(self, ip: str) -> tuple[str, str]:
        # The cache is taken before the reader: an old answer can then only land in a cache that is no longer used.
        recent = self._recent
        find = self._find
        found = self._older.get(ip)
        if found is None:
            place = _place(find, ip) if find else NOWHERE
            found = self._places.setdefault(place, place)
        if len(recent) >= self._cache_size and recent is self._recent:
            self._older = recent
            self._recent = recent = {}
        recent[ip] = found
        return found


def _open(path: Path) -> geoip2.database.Reader:
    """Open a private copy of the file.

    The database is mapped into memory, and reading a mapping of a file that somebody cuts short (as `cp` does with the
    file that it replaces) kills the process. Nobody else can reach the copy. Without room for one the file itself is
    mapped, and should only be replaced by renaming.
    """
    import geoip2.database  # noqa: PLC0415

    try:
        with tempfile.NamedTemporaryFile(prefix="geoip-", suffix=".mmdb") as copy, path.open("rb") as original:
            shutil.copyfileobj(original, copy, 1 << 20)
            copy.flush()
            return geoip2.database.Reader(copy.name)
    except OSError:
        return geoip2.database.Reader(os.fspath(path))


def _finder(reader: geoip2.database.Reader) -> _Find:
    """Return the lookup method that fits the kind of the database."""
    kind = reader.metadata().database_type
    if "City" in kind:
        return reader.city
    if "Enterprise" in kind:
        return reader.enterprise
    if "Country" in kind:
        return reader.country
    raise ValueError(f"a database of cities or countries is needed, this one is of kind {kind!r}")


def _place(find: _Find, ip: str) -> tuple[str, str]:
    try:
        answer = find(ip)
        country = answer.country.iso_code
        divisions = getattr(answer, "subdivisions", None)
        region = divisions.most_specific.name if divisions else None
    except Exception:  # an unknown or odd address, or a damaged part of the database: nowhere in each case
        return NOWHERE
    return (country if isinstance(country, str) and country else NOWHERE[0], _text(region))


def _text(region: object) -> str:
    """Return a region's name as a label value."""
    return region if isinstance(region, str) and region else NOWHERE[1]
