"""An alert of ours on its way: a real Prometheus with our rules, a real Alertmanager, and the webhook of the demo."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from cdn77_exporter.demo.alerts import Alert, AlertReceiver
from tests.deploy.tools import DEPLOY
from tests.support.prometheus import Prometheus, free_port, require
from tools.rules import __main__ as rules

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(120)]

RUNBOOK = "https://wiki.example.com/cdn77"
_SECONDS = 60.0


class WithRules(Prometheus):
    """A Prometheus that scrapes targets and asks our rules each second, which tell an Alertmanager."""

    def __init__(self, folder: Path, targets: list[str], manager: str) -> None:
        super().__init__(folder)
        self._targets, self._manager = targets, manager

    def command(self) -> list[str]:
        """Return what starts it."""
        found = super().command()
        words = ["--set", f"runbookUrl={RUNBOOK}", "--set", "downFor=0s", "--set", "problemFor=0s"]
        assert rules.main(["--out", str(self._folder), *words]) == 0
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["*.rules.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [self._manager]}]}]},
            "scrape_configs": [{"job_name": "cdn77-exporter", "static_configs": [{"targets": self._targets}]}],
        }
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        return found


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """An Alertmanager with the configuration of Compose, but with this webhook and without waiting; its address."""
    config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text("utf-8"))
    config["receivers"][0]["webhook_configs"][0]["url"] = webhook
    config["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    folder.mkdir()
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        require("prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            yield address
        finally:
            server.send_signal(signal.SIGTERM)


@asynccontextmanager
async def target(port: int, text: str) -> AsyncIterator[None]:
    """Something that is scraped."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


class Told:
    """What the webhook was told, for those who wait for it."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self._new = asyncio.Event()

    def __call__(self, alert: Alert) -> None:
        self.alerts.append(alert)
        self._new.set()

    async def until(self, name: str, status: str, **labels: str) -> Alert:
        """Wait for an alert."""
        deadline = time.monotonic() + _SECONDS
        while True:
            for alert in self.alerts:
                if (alert.labels["alertname"], alert.status) == (
                    name,
                    status,
                ) and labels.items() <= alert.labels.items():
                    return alert
            self._new.clear()
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._new.wait()


async def test_an_alert_reaches_the_webhook_and_is_resolved(tmp_path: Path) -> None:
    """Of three exporters one is away and one has a problem: each is told with its instance, its runbook and its end."""
    away, ill, fine = (free_port() for _ in range(3))
    told = Told()
    problem = 'cdn77_exporter_problems{what="bucket"} '
    async with AlertReceiver(told) as webhook, target(fine, f"{problem} 0\n"):
        with alertmanager(tmp_path / "manager", webhook.url) as manager:
            server = WithRules(tmp_path / "server", [f"127.0.0.1:{port}" for port in (away, ill, fine)], manager)
            async with target(ill, f"{problem} 1\n"):
                await asyncio.to_thread(server.start)
                try:
                    down = await told.until("Cdn77ExporterDown", "firing", instance=f"127.0.0.1:{away}")
                    await told.until("Cdn77Problem", "firing", instance=f"127.0.0.1:{ill}", what="bucket")
                    assert down.annotations["runbook_url"] == f"{RUNBOOK}#cdn77exporterdown"
                    assert f"127.0.0.1:{away} does not answer" in down.line
                    async with target(away, f"{problem} 0\n"):
                        await told.until("Cdn77ExporterDown", "resolved", instance=f"127.0.0.1:{away}")
                finally:
                    await asyncio.to_thread(server.stop)
    assert not [alert for alert in told.alerts if alert.labels.get("instance") == f"127.0.0.1:{fine}"]
