"""A Dask cluster of processes on this machine, started as an operator would start it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.exporter_process import wait_until
from tests.support.prometheus import free_port

ROOT = Path(__file__).parents[2]


@dataclass
class LocalCluster:
    """A scheduler and workers under nannies, each a process as an operator would start them."""

    folder: Path
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    scheduler: subprocess.Popen[bytes] | None = None
    environ: dict[str, str] = field(default_factory=dict)
    bare: bool = False  # whether it lacks this program, as a cluster does that was there before

    def _without_program(self) -> Path:
        """A folder in front of all others whose package of this name is as good as none."""
        package = self.folder / "bare" / "cdn77_exporter"
        package.mkdir(parents=True, exist_ok=True)
        words = "raise ModuleNotFoundError(\"No module named 'cdn77_exporter'\", name='cdn77_exporter')\n"
        (package / "__init__.py").write_text(words)
        return package.parent

    @property
    def address(self) -> str:
        """The scheduler's."""
        return f"tcp://127.0.0.1:{self.port}"

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        environ = {
            **os.environ,
            "PYTHONPATH": str(self._without_program()) if self.bare else f"{ROOT / 'src'}:{ROOT}",
            "DASK_LOGGING__DISTRIBUTED": "error",
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
            **self.environ,
        }
        with (self.folder / "cluster.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]],
                env=environ,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def start_scheduler(self) -> None:
        """Start it, at the same address each time."""
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--no-jupyter"
        )

    def start_workers(self, count: int) -> None:
        """Start more, each under a nanny that starts it again when it dies."""
        for _ in range(count):
            self.processes.append(
                self._start(
                    "dask_worker",
                    self.address,
                    "--host",
                    "127.0.0.1",
                    "--nthreads",
                    "1",
                    "--nworkers",
                    "1",
                    "--no-dashboard",
                    "--local-directory",
                    str(self.folder),
                )
            )

    @contextmanager
    def frozen_scheduler(self) -> Iterator[None]:
        """It accepts connections and answers nothing."""
        assert self.scheduler is not None
        self.scheduler.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.scheduler.send_signal(signal.SIGCONT)

    def wait_for_scheduler(self) -> None:
        """Until it accepts connections."""
        wait_until(self._accepts, 30, "the scheduler listens")

    def _accepts(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop_scheduler(self) -> None:
        """Kill it."""
        if self.scheduler is not None:
            self.scheduler.kill()
            self.scheduler.wait(10)
            self.scheduler = None

    def stop(self) -> None:
        """Kill everything."""
        self.stop_scheduler()
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)  # the nanny and its worker: a session of its own
            process.wait(10)


@contextmanager
def local_cluster(
    folder: Path,
    workers: int = 2,
    *,
    start: bool = True,
    environ: Mapping[str, str] | None = None,
    bare: bool = False,
) -> Iterator[LocalCluster]:
    """A cluster, running unless `start` says otherwise; `environ` is added to that of its processes."""
    cluster = LocalCluster(folder, environ=dict(environ or {}), bare=bare)
    if start:
        cluster.start_scheduler()
        cluster.start_workers(workers)
    try:
        yield cluster
    finally:
        cluster.stop()
