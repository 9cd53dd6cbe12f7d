"""The site of the documentation can be built, and needs nothing from elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.deploy.tools import ROOT, program, run


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run(program("mkdocs", "mkdocs"), "build", "--strict", "--quiet", "--site-dir", folder, environ=environ)
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    """Strict mode has no complaint: every page is in the navigation, every link and heading is there."""
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert {path.parent.name for path in site.glob("*/index.html")} >= pages


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and images are the site's own."""
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r"""<(?:script|img|iframe)\b[^>]*\bsrc=["']?([^"'\s>]+)""", text)
        loaded += re.findall(r"""<link\b[^>]*rel=["']?stylesheet["']?[^>]*href=["']?([^"'\s>]+)""", text)
        loaded += re.findall(r"""<link\b[^>]*href=["']?([^"'\s>]+)["']?[^>]*rel=["']?stylesheet""", text)
        assert loaded
        assert [address for address in loaded if re.match(r"(https?:)?//", address)] == [], page.name
