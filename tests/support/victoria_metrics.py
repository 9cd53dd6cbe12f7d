"""A real VictoriaMetrics on loopback for tests; it is asked as a Prometheus is."""

from __future__ import annotations

import urllib.request
from typing import Any

from tests.support.prometheus import Prometheus, require


class VictoriaMetrics(Prometheus):
    """A VictoriaMetrics of a single node. What it has taken is seen at once by the questions of this class."""

    READY = "/health"

    def command(self) -> list[str]:
        """Return what starts it."""
        return [
            require("victoria-metrics"),
            f"-storageDataPath={self._folder / 'data'}",
            f"-httpListenAddr=127.0.0.1:{self._port}",
            "-retentionPeriod=1",  # month
            "-search.latencyOffset=0s",
            "-search.disableCache",
            "-loggerLevel=WARN",
        ]

    def _get(self, path: str, **parameters: str) -> Any:
        urllib.request.urlopen(f"{self.address}/internal/force_flush", timeout=30).close()  # noqa: S310
        return super()._get(path, **parameters)

    def refused(self) -> dict[str, float]:
        """Rows that it did not keep, and write requests that were not taken."""
        return {
            name: value
            for name, value in self.own_metrics().items()
            if value and (name.startswith("vm_rows_ignored_total") or ("request_errors" in name and "write" in name))
        }
