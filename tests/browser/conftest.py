"""An exporter at work, with everything in it that the page can show, and a browser to look at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.stage import Stage, stage
from tests.deploy.tools import program
from tests.e2e.conftest import s3_endpoint

__all__ = ["s3_endpoint"]  # the S3 server of the end-to-end tests

# Debian's chromium as root, with nothing that it would ask the outside world for.
_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--force-prefers-reduced-motion",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium, without a window."""
    path = program("chromium", "chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=_OPTIONS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Stage]:
    """The exporter with traffic, bad lines, a gap, a file that cannot be read, and a GeoIP database."""
    with stage(Path(tmp_path_factory.mktemp("page")), s3_endpoint) as found:
        yield found
