"""What is made from the code in the documentation says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdn77_exporter.core.measures import MEASURES
from cdn77_exporter.settings import VARIABLES
from cdn77_exporter.telemetry.messages import MESSAGES
from tools import generate_docs


def test_the_generated_pages_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    """`tools/generate_docs.py --check` finds nothing to change."""
    assert (generate_docs.main(["--check"]), capsys.readouterr().err) == (0, "")


def test_a_stale_or_missing_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check fails for a page that differs, and writing makes it fresh."""
    monkeypatch.setattr(generate_docs, "DOCS", tmp_path)
    (tmp_path / "metrics.md").write_text("old")
    assert generate_docs.main(["--check"]) == 1
    assert "metrics.md is stale" in capsys.readouterr().err
    assert generate_docs.main([]) == 0
    assert generate_docs.stale(tmp_path) == []


def test_what_is_written_by_hand_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what stands after the marker is replaced."""
    monkeypatch.setattr(generate_docs, "DOCS", tmp_path)
    page = tmp_path / "operations.md"
    page.write_text(f"# By hand\n\n{generate_docs.MARKER}\nold\n", "utf-8")
    assert "operations.md" in generate_docs.stale(tmp_path)
    assert generate_docs.main([]) == 0
    assert page.read_text("utf-8") == f"# By hand\n\n{generate_docs.log_messages()}"
    assert generate_docs.stale(tmp_path) == []


def test_every_variable_metric_and_message_has_its_place() -> None:
    """Nothing that the code knows is missing from its page."""
    assert all(f"| `{variable.name}` |" in generate_docs.configuration() for variable in VARIABLES)
    headings = " ".join(line for line in generate_docs.metrics().splitlines() if line.startswith("### "))
    assert all(f"`{metric.name}`" in headings for metric in MEASURES.rows)
    assert all(f"### `{message}`" in generate_docs.log_messages() for message in MESSAGES)


def test_tables_have_as_many_cells_in_each_row() -> None:
    """A pipe in a query or a pattern does not break its table."""
    for write in generate_docs.PAGES.values():
        columns = 0
        for line in write().splitlines():
            cells = line.replace("\\|", "").count("|") if line.startswith("|") else 0
            assert not columns or not cells or cells == columns, line
            columns = cells


def test_every_guarantee_is_proved_and_on_the_page() -> None:
    """Each row of the tables has a test, each mark of a test is of a row, and each table stands on the page."""
    tables = generate_docs.guarantee_tables()
    rows = {f"{name}.{row}": cells for name, table in tables.items() for row, cells in table["rows"].items()}
    proofs = generate_docs.guarantee_tests()
    assert sorted(rows.keys() - proofs.keys()) == []
    assert sorted(proofs.keys() - rows.keys()) == []
    found = [found[2] for found in generate_docs.TABLE.finditer(generate_docs.guarantees())]
    assert sorted(found) == sorted(tables)
    for row, cells in rows.items():
        assert len(cells) == len(tables[row.partition(".")[0]]["headings"]), row


def test_every_published_sender_test_is_in_the_table() -> None:
    """Each case passes, does not apply or deviates with a reason, one of these; nothing else is marked."""
    found = generate_docs.sender_tests()
    groups = (found.passes, found.deviates, found.not_applicable)
    assert len(set(found.published)) == len(found.published) > 150
    assert sorted(case for group in groups for case in group) == sorted(found.published)
    assert all(why for _, why in found.deviates.values())
    assert all(found.not_applicable.values())
    page = generate_docs.receivers()
    assert all(page.count(f"| `{case}` |") == 1 for case in found.published)


def test_proofs_are_tests_with_the_mark(tmp_path: Path) -> None:
    """A function that pytest does not run proves nothing; a test may prove several rows."""
    mark = '@pytest.mark.guarantee("a.b", "a.c")\n'
    (tmp_path / "test_x.py").write_text(
        f"{mark}def look(): ...\n\n{mark}@pytest.mark.slow\nasync def test_y(): ...\n\ndef test_z(): ...\n"
    )
    assert generate_docs.guarantee_tests(tmp_path) == {"a.b": ["test_x.py::test_y"], "a.c": ["test_x.py::test_y"]}
