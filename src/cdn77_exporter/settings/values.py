"""The settings, and everything that follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit, urlunsplit
from zlib import crc32

from cdn77_exporter.core.device import DeviceRules, built_in
from cdn77_exporter.core.files import LogNames
from cdn77_exporter.core.masking import MASK, Address, Masker, basic_credentials
from cdn77_exporter.core.returns import return_rows
from cdn77_exporter.edge.proxies import Proxies
from cdn77_exporter.settings.metrics import measures_in_force
from cdn77_exporter.settings.secret import Headers, Secret, parse_headers
from cdn77_exporter.settings.variables import VARIABLES, Bounds, Bucket, Metrics, Process, Receiver, Streams, Time

if TYPE_CHECKING:
    from cdn77_exporter.core.measures import Measures
    from cdn77_exporter.core.timeline import Rules
    from cdn77_exporter.edge.decode_job import DecoderRules


@dataclass(frozen=True, repr=False)
class Settings(Process, Bounds, Metrics, Streams, Time, Receiver, Bucket):
    """The settings. Their texts show no secret."""

    doubts: tuple[tuple[str, str], ...] = ()  # variable, what looks wrong
    proxies: Proxies = field(default_factory=Proxies)

    def public(self) -> dict[str, object]:
        """Return what anybody who reads the logs may see: variable -> value, secrets masked."""
        return {variable.name: _shown(getattr(self, variable.field)) for variable in VARIABLES}

    @property
    def stream_rules(self) -> int:
        """A hash of what decides whether a line has a stream that counts."""
        allowed = self.stream_allowlist
        return crc32(repr((self.stream_pattern, allowed and (sorted(allowed.names), allowed.pattern))).encode())

    @property
    def device_rules(self) -> DeviceRules:
        """The rules that tell device types."""
        return self.device_rules_file.rules if self.device_rules_file else built_in()

    @property
    def log_names(self) -> LogNames:
        """Return what in the bucket is a log file."""
        return LogNames(self.s3_prefix, self.s3_suffix)

    @property
    def measures(self) -> Measures:
        """The table of what is counted and sent."""
        returns = return_rows(self.return_horizon, self.tick_seconds, self.histograms)
        return measures_in_force(self.histograms, self.metrics_off, self.labels_off, self.measures_file, returns)

    @property
    def decoder_rules(self) -> DecoderRules:
        """The rules from which a decoder is made."""
        from cdn77_exporter.core.decode import Limits  # noqa: PLC0415 - commands that decode nothing start without it
        from cdn77_exporter.edge.decode_job import DecoderRules  # noqa: PLC0415

        limits = Limits(self.max_file_bytes, self.max_line_bytes, self.max_bad_lines, self.max_file_entries)
        return DecoderRules(
            self.tick_seconds,
            self.stream_pattern,
            limits,
            self.stream_allowlist,
            self.viewer_ipv6_prefix,
            self.measures,
            self.device_rules_file.rules if self.device_rules_file else None,
            self.track_pattern,
        )

    @property
    def timeline_rules(self) -> Rules:
        """The rules from which a timeline is made."""
        from cdn77_exporter.core.timeline import Rules  # noqa: PLC0415 - as above

        return Rules(
            tick_seconds=self.tick_seconds,
            session_window_seconds=self.session_window_seconds,
            active_windows=self.active_windows,
            presence_seconds=self.presence_seconds,
            session_gap_seconds=self.session_gap_seconds,
            return_horizon=self.return_horizon,
            timestamp_offset_ms=self.timestamp_offset_ms,
            backfill_seconds=self.backfill_window,
            max_streams=self.max_streams,
            max_series=self.max_series,
            max_label_values=self.max_label_values,
            series_idle_seconds=self.series_idle_seconds,
            send_metadata=self.send_metadata,
            external=self.external_labels.pairs,
        )

    @cached_property
    def secrets(self) -> dict[str, Secret]:
        """The secrets that are set, by their variable."""
        found = {}
        for variable in VARIABLES:
            value = getattr(self, variable.field)
            secret = value.secret if isinstance(value, Headers) else value
            if isinstance(secret, Secret):
                found[variable.name] = secret
        return found

    def secret_texts(self) -> frozenset[str]:
        """Return every text that no output may hold: secrets now and before, header values, encoded logins."""
        texts: set[str] = set()
        for name, secret in self.secrets.items():
            for value in secret.seen:
                texts.add(value)
                if name == "PROMETHEUS_HEADERS":
                    texts.update(parse_headers(value).values())
                if name == "PROMETHEUS_PASSWORD":
                    texts.add(basic_credentials(self.prometheus_user or "", value))
        query = urlsplit(self.prometheus_url).query
        if query:
            texts.add(query)  # some receivers take a token there
        texts |= self.proxies.secret_texts()
        return frozenset(texts)

    def addresses(self) -> frozenset[Address]:
        """Return the IP addresses that the configuration itself names: an error may show them."""
        hosts = [urlsplit(url).hostname for url in (self.s3_endpoint, self.prometheus_url, self.dask_scheduler or "")]
        if self.http_addr:
            hosts.append(self.http_addr[0])
        hosts += self.proxies.hosts()
        found = set()
        for host in hosts:
            try:
                found.add(ip_address(host or ""))
            except ValueError:
                continue  # a name
        return frozenset(found)

    def masker(self) -> Masker:
        """Return what takes this configuration's secrets, and addresses that are not its own, out of a text."""
        return Masker(self.secret_texts, self.addresses())

    def changed_secrets(self) -> list[str]:
        """Return the variables whose secret has changed in its file since the last call."""
        return [name for name, secret in self.secrets.items() if secret.changed()]

    def __repr__(self) -> str:
        return f"Settings({self.public()})"


def _shown(value: object) -> object:
    if isinstance(value, Secret):
        return value.source
    if isinstance(value, Headers):
        return value.secret.source if value.secret else None
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
        host, port = value
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, str) and "?" in value and "://" in value:
        parts = urlsplit(value)
        return urlunsplit(SplitResult(parts.scheme, parts.netloc, parts.path, MASK, ""))
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
