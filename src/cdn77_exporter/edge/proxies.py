"""Forward proxies, as the environment names them: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in either case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from yarl import URL

from cdn77_exporter.core.masking import MASK, basic_credentials

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxies:
    """The proxies by the scheme of what is reached through them, and the places that are reached without.

    Their texts show no password.
    """

    by_scheme: Mapping[str, URL] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Proxies:
        """Return what an environment names; as with other programs, a name in lower case comes first.

        Raises ValueError, with the variable's name, for what is no proxy.
        """
        found = {}
        for scheme in ("http", "https"):
            for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
                text = environ.get(name, "").strip()
                if text:
                    found[scheme] = _address(name, text)
                    break
        places = re.split(r"[\s,]+", environ.get("no_proxy") or environ.get("NO_PROXY") or "")
        return cls(found, tuple(place.lower() for place in places if place))

    def url_for(self, target: str) -> URL | None:
        """Return the proxy, with its credentials, through which an address is reached; None for none."""
        url = URL(target)
        proxy = self.by_scheme.get(url.scheme)
        return None if proxy is None or self._goes_without(url) else proxy

    def shown_for(self, target: str) -> str:
        """Return the same as anybody may see it, empty for none."""
        proxy = self.url_for(target)
        if proxy is None:
            return ""
        return str(proxy.with_user(None).with_user(MASK) if proxy.user else proxy).rstrip("/")

    def secret_texts(self) -> set[str]:
        """Return every text that no output may hold."""
        texts = set()
        for proxy in self.by_scheme.values():
            if proxy.password and proxy.raw_password:
                texts |= {proxy.password, proxy.raw_password, basic_credentials(proxy.user or "", proxy.password)}
        return texts

    def hosts(self) -> set[str]:
        """Return the hosts of the proxies."""
        return {proxy.host for proxy in self.by_scheme.values() if proxy.host}

    def _goes_without(self, url: URL) -> bool:
        host, port = (url.host or "").lower().rstrip("."), url.port or _PORTS.get(url.scheme)
        return any(_covers(place, host, port) for place in self.without)

    def __repr__(self) -> str:
        return f"Proxies({', '.join(sorted(self.by_scheme))})"


def _covers(place: str, host: str, port: int | None) -> bool:
    """Return whether an entry of NO_PROXY covers a host: a name and those below it, an address, a network, or `*`.

    Each of these may have a port behind it, and addresses of version 6 may be in brackets.
    """
    name, only = _parts(place)
    if only not in (None, port):
        return False
    with suppress(ValueError):
        return ip_address(host) in ip_network(name, strict=False)
    if name == "*":
        return True
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _parts(place: str) -> tuple[str, int | None]:
    """Return the name or network of an entry, and its port if it has one."""
    with suppress(ValueError):
        ip_network(place)
        return place, None  # its last colon is none before a port
    name, colon, digits = place.rpartition(":")
    port = int(digits) if colon and digits.isdecimal() else None
    return (place if port is None else name).replace("[", "").replace("]", ""), port


def _address(name: str, text: str) -> URL:
    try:
        url = URL(text if "://" in text else f"http://{text}")
        usable = url.scheme in _PORTS and url.host and url.port
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{name} is no proxy that can be used; expected http://host:port, or https://host:port.")
    return url.with_path("").with_query(None).with_fragment(None)
