"""Countries and regions from a database that the tests build."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cdn77_exporter.edge.geoip import NOWHERE, GeoIp
from tests.support.geo_database import write_city_database


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database file."""
    return write_city_database(tmp_path / "city.mmdb")


@pytest.mark.parametrize(
    ("ip", "place"),
    [
        ("104.192.89.228", ("US", "California")),
        ("23.0.255.255", ("US", "Texas")),
        ("81.2.69.160", ("GB", "West Berkshire")),
        ("5.5.5.5", ("SG", "Unknown")),
        ("7.7.7.7", ("XX", "Unknown")),
        ("2001:db8::1", ("FR", "Île-de-France")),
        ("9.9.9.9", NOWHERE),
    ],
)
def test_an_address_has_the_place_of_its_network(database: Path, ip: str, place: tuple[str, str]) -> None:
    """Country code and most specific English region name are given, and the contract's defaults for what is missing."""
    geoip = GeoIp(database)
    assert [geoip.locate(ip), geoip.locate(ip)] == [place, place]


@pytest.mark.parametrize(
    "ip", ["", "x", "1.2.3.4.5", " 1.2.3.4", "1.2.3.4\0", "fe80::1%eth0", "::ffff:300.1.1.1", "9" * 5000]
)
def test_an_odd_address_is_nowhere(database: Path, ip: str) -> None:
    """Text that is no address is answered like an unknown one."""
    assert GeoIp(database).locate(ip) == NOWHERE


@pytest.mark.parametrize(
    "entry", [{"country": "US"}, {"subdivisions": "CA"}, ["US"], "US", {"country": {"iso_code": 7}}]
)
def test_an_odd_entry_is_nowhere(tmp_path: Path, entry: object) -> None:
    """An entry of another shape than a City database has does not raise."""
    path = write_city_database(tmp_path / "odd.mmdb", extra={"9.9.9.0/24": entry})
    geoip = GeoIp(path)
    assert geoip.locate("9.9.9.9") == NOWHERE
    assert geoip.locate("23.0.0.1") == ("US", "Texas")


def test_a_country_database_gives_countries_only(tmp_path: Path) -> None:
    """A database without regions is good for countries."""
    geoip = GeoIp(write_city_database(tmp_path / "country.mmdb", kind="GeoLite2-Country"))
    assert geoip.locate("23.0.0.1") == ("US", "Unknown")


def test_without_a_path_all_is_nowhere() -> None:
    """No database is configured: nothing is available, and nothing fails."""
    geoip = GeoIp(None)
    assert (geoip.available, geoip.refresh(), geoip.fault, geoip.locate("23.0.0.1")) == (False, False, "", NOWHERE)


def test_the_database_in_use_is_described(database: Path) -> None:
    """Kind and build time are known once a database is open."""
    geoip = GeoIp(database)
    assert (geoip.available, geoip.kind, geoip.fault) == (True, "GeoLite2-City", "")
    assert geoip.build_epoch > 1_700_000_000


def test_an_unchanged_file_is_not_opened_again(database: Path) -> None:
    """Without a change a refresh does nothing."""
    assert not GeoIp(database).refresh()


@pytest.mark.guarantee("viewers.place")
@pytest.mark.parametrize("replace", ["rename", "in place"])
def test_a_replaced_file_is_used_after_a_refresh(database: Path, tmp_path: Path, replace: str) -> None:
    """Cached answers and the old database are gone, whichever way the file was replaced."""
    geoip = GeoIp(database)
    assert geoip.locate("23.0.0.1") == ("US", "Texas")
    newer = write_city_database(tmp_path / "newer.mmdb", {"23.0.0.0/16": ("CA", ["Ontario"])})
    if replace == "rename":
        newer.rename(database)
    else:
        shutil.copyfile(newer, database)
        os.utime(database, ns=(1, 1))
    assert geoip.refresh()
    assert geoip.locate("23.0.0.1") == ("CA", "Ontario")
    assert geoip.locate("104.192.0.1") == NOWHERE


def test_a_file_cut_short_leaves_the_database_in_use_whole(database: Path) -> None:
    """The copy that `cp` makes begins by cutting the old file to nothing; lookups go on, cached or not."""
    geoip = GeoIp(database)
    os.truncate(database, 0)
    assert geoip.locate("23.0.0.1") == ("US", "Texas")
    assert not geoip.refresh()
    assert geoip.fault
    assert geoip.locate("104.192.0.1") == ("US", "California")


@pytest.mark.parametrize("body", [b"", b"not a database", b"\xab\xcd\xefMaxMind.com", b"\0" * 100_000])
def test_a_broken_new_file_keeps_the_old_database_and_says_so(database: Path, body: bytes) -> None:
    """The fault is named once, and ends when the file is right again."""
    good = database.read_bytes()
    geoip = GeoIp(database)
    database.write_bytes(body)
    assert not geoip.refresh()
    assert geoip.fault
    assert geoip.available
    assert geoip.locate("23.0.0.1") == ("US", "Texas")
    database.write_bytes(good)
    os.utime(database, ns=(2, 2))
    assert geoip.refresh()
    assert geoip.fault == ""


def test_another_kind_of_database_is_refused(tmp_path: Path) -> None:
    """A database of network operators has no places; the fault says which kind was found."""
    geoip = GeoIp(write_city_database(tmp_path / "asn.mmdb", kind="GeoLite2-ASN"))
    assert not geoip.available
    assert "GeoLite2-ASN" in geoip.fault


def test_a_missing_file_is_found_when_it_comes(tmp_path: Path) -> None:
    """The service can start before its database is there."""
    path = tmp_path / "city.mmdb"
    geoip = GeoIp(path)
    assert not geoip.available
    assert geoip.locate("23.0.0.1") == NOWHERE
    write_city_database(path)
    assert geoip.refresh()
    assert geoip.locate("23.0.0.1") == ("US", "Texas")


def test_a_file_that_vanishes_and_returns_is_no_fault(database: Path, tmp_path: Path) -> None:
    """The database stays in use while its file is away, and the fault is gone with its return."""
    geoip = GeoIp(database)
    database.rename(tmp_path / "away")
    assert not geoip.refresh()
    assert "FileNotFoundError" in geoip.fault
    (tmp_path / "away").rename(database)
    assert geoip.refresh()
    assert geoip.fault == ""


def test_the_cache_is_bounded_and_keeps_what_is_asked_for(database: Path) -> None:
    """However many addresses are asked for, at most `cache_size` are kept, the newest half among them."""
    geoip = GeoIp(database, cache_size=100)
    addresses = [f"23.0.{high}.{low}" for high in range(4) for low in range(250)]
    for ip in addresses:
        assert geoip.locate(ip) == ("US", "Texas")
        assert len(geoip._recent) + len(geoip._older) <= 100
    kept = geoip._recent.keys() | geoip._older.keys()
    assert set(addresses[-50:]) <= kept


def test_no_copy_is_left_behind(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The private copy has no name any more once it is open."""
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))
    geoip = GeoIp(database)
    assert geoip.locate("23.0.0.1") == ("US", "Texas")
    assert list(room.iterdir()) == []


def test_without_room_for_a_copy_the_file_itself_is_read(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without a writable directory has its database too."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert GeoIp(database).locate("23.0.0.1") == ("US", "Texas")
