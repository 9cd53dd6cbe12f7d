"""The figures of docs/migration.md about the old kind of exporter are measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.per_batch import measure


@pytest.mark.prometheus
def test_the_old_exporters_figures_are_measured(tmp_path: Path) -> None:
    """A real Prometheus refuses as many samples of a per-batch exporter, and shows as little, as the pages say."""
    measured = measure(tmp_path)
    for page in ("docs/migration.md", "README.md"):
        text = " ".join((ROOT / page).read_text("utf-8").split())
        found = re.search(r"(\d+) % of its samples were refused.*?showed (\d+) % of the truth", text)
        assert found, page
        assert abs(int(found[1]) - 100 * measured.refused) < 2
        assert abs(int(found[2]) - 100 * measured.shown) < 2
