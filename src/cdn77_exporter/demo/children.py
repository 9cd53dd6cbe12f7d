"""The programs that the demo starts: each in its own session, reliably ended, with the end of its output kept."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import orjson

_END_SECONDS = 30.0


class ChildError(Exception):
    """A program did not start or ended by itself."""


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Child:
    """A program that runs as long as the context. Ctrl-C on the terminal reaches the demo only, which ends it in order.

    `environ` is its whole environment, None for the demo's own. `listen` is given each line of its output that is a
    JSON object; all output goes to `log` too.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environ: Mapping[str, str] | None = None,
        listen: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._environ = environ
        self._listen = listen
        self._program: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Child:
        self._program = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environ,
            cwd=self._log.parent,
            start_new_session=True,
            limit=1 << 20,
        )
        self._reader = asyncio.create_task(self._read(self._program))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def _read(self, program: asyncio.subprocess.Process) -> None:
        assert program.stdout is not None  # noqa: S101
        with self._log.open("ab") as log:
            async for line in program.stdout:
                log.write(line)
                log.flush()
                if self._listen is None:
                    continue
                with suppress(orjson.JSONDecodeError):
                    found = orjson.loads(line)
                    if isinstance(found, dict):
                        self._listen(found)

    @property
    def ended(self) -> bool:
        """True when the program has ended."""
        return self._program is None or self._program.returncode is not None

    def require(self) -> None:
        """Raise ChildError when the program has ended by itself."""
        if self.ended:
            code = self._program.returncode if self._program else None
            raise ChildError(f"{self.name} ended by itself with exit code {code}. Its last lines:\n{self.last_words()}")

    def last_words(self, size_bytes: int = 3000) -> str:
        """Return the end of the program's output."""
        return self._log.read_bytes()[-size_bytes:].decode(errors="replace") if self._log.exists() else ""

    async def ready(self, url: str, seconds: float = 30.0) -> None:
        """Wait until the program answers at `url` with 200."""
        deadline = asyncio.get_running_loop().time() + seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while True:
                self.require()
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                if asyncio.get_running_loop().time() > deadline:
                    raise ChildError(f"{self.name} was not ready within {seconds:g} s:\n{self.last_words()}")
                await asyncio.sleep(0.1)

    async def end(self) -> int | None:
        """Send SIGTERM, after a while SIGKILL; return the exit code."""
        program = self._program
        if program is None:
            return None
        with suppress(ProcessLookupError):
            program.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_END_SECONDS):
                await program.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                program.kill()
            await program.wait()
        finally:
            if program.returncode is None:  # this task was cancelled while it waited
                with suppress(ProcessLookupError):
                    program.kill()
        if self._reader is not None:
            await self._reader
        return program.returncode
