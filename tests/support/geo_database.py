"""GeoIP databases for tests: City databases of a few networks, put together with mmdb_writer."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]

from cdn77_exporter.demo import traffic

#: Networks of many address families and shapes: country code, then subdivisions from the largest to the smallest.
PLACES: dict[str, tuple[str | None, Sequence[str]]] = {
    "104.192.0.0/16": ("US", ["California"]),
    "23.0.0.0/16": ("US", ["Texas"]),
    "81.2.69.0/24": ("GB", ["England", "West Berkshire"]),
    "193.99.0.0/16": ("DE", ["Hesse"]),
    "5.5.5.0/24": ("SG", []),
    "7.7.7.0/24": (None, []),
    "2001:db8::/32": ("FR", ["Île-de-France"]),
}


def write_city_database(
    path: Path,
    places: Mapping[str, tuple[str | None, Sequence[str]]] = PLACES,
    *,
    kind: str = "GeoLite2-City",
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a database; `extra` maps networks to entries as they are, however wrong."""
    writer = MMDBWriter(6, kind, languages=["en"], description="made for a test", ipv4_compatible=True)
    for network, (country, divisions) in places.items():
        entry: dict[str, Any] = {"location": {"latitude": 1.5, "longitude": 2.5}}
        if country:
            entry["country"] = {"iso_code": country, "names": {"en": f"Country {country}", "de": f"Land {country}"}}
        if divisions:
            entry["subdivisions"] = [{"iso_code": name[:2].upper(), "names": {"en": name}} for name in divisions]
        writer.insert_network(IPSet([network]), entry)
    for network, raw in (extra or {}).items():
        writer.insert_network(IPSet([network]), raw)
    writer.to_db_file(str(path))
    return path


def locate(ip: str) -> tuple[str, str]:
    """Country and region of an address, as the test's database has them."""
    address = ipaddress.ip_address(ip)
    for place in traffic.PLACES:
        if any(address in ipaddress.ip_network(network) for network in place.networks):
            return place.country, place.region
    return "XX", "Unknown"


def build_geoip(path: Path) -> None:
    """A database of the City kind that knows the networks of the made-up viewers."""
    places = {
        network: (place.country, [] if place.region == "Unknown" else [place.region])
        for place in traffic.PLACES
        for network in place.networks
    }
    write_city_database(path, places)
