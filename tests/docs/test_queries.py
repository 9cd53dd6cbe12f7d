"""Every query in the documentation is asked: PromQL of a real Prometheus, LogQL of the closed list of messages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cdn77_exporter.core.reasons import REJECT_REASONS
from cdn77_exporter.telemetry.messages import MESSAGES, Holds, Level
from tests.deploy.tools import program, run
from tests.docs.logql import NotLogQL, Query, read
from tests.docs.pages import Block, blocks, cells
from tests.support.filled_prometheus import filled_prometheus
from tests.support.prometheus import Prometheus

PROMQL = [*(block for block in blocks() if block.language == "promql"), *cells("query", "before")]
LOGQL = [block for block in blocks() if block.language == "logql"]
_LANGUAGES = {"mermaid", "sh", "promql", "logql", "text", "json", "yaml", "toml"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with half an hour of every series that the code can write."""
    with filled_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


def test_every_block_says_what_it_is() -> None:
    """No block is left out because nobody knows its language."""
    assert {block.place: block.language for block in blocks() if block.language not in _LANGUAGES} == {}
    assert len(PROMQL) > 40
    assert len(LOGQL) > 8


@pytest.mark.prometheus
def test_promtool_can_read_every_query(tmp_path: Path) -> None:
    """promtool takes each query as that of a rule."""
    rules = [{"record": f"query:number:{number}", "expr": block.text} for number, block in enumerate(PROMQL)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "docs", "rules": rules}]}), "utf-8")
    assert f"{len(PROMQL)} rules found" in run(program("promtool", "prometheus"), "check", "rules", path)


@pytest.mark.prometheus
@pytest.mark.parametrize("block", PROMQL, ids=lambda block: block.place)
def test_every_query_has_an_answer(prometheus: Prometheus, block: Block) -> None:
    """With half an hour of traffic each query returns numbers."""
    found = prometheus.query(block.text)
    assert found
    assert all(math.isfinite(value) for value in found.values())


def test_queries_do_not_ask_for_now() -> None:
    """Every selector of a traffic metric lies 90 s behind, but in the column of what was asked before."""
    before = {block.text for block in cells("before")}
    asked = [block for block in PROMQL if block.text not in before]
    for block in asked:
        selectors = re.findall(
            r"\bcdn77_(?!exporter_)\w+(?:\{[^}]*\})?(?:\[[^\]]*\])?( offset 90s)?(?![\w*.])", block.text
        )
        assert all(selectors), block


@pytest.mark.parametrize("block", LOGQL, ids=lambda block: block.place)
def test_loki_queries_name_what_is_there(block: Block) -> None:
    """Each is LogQL, selects by the labels that Alloy sets, and asks only for fields that its messages have."""
    query = read(block.text)
    assert query.labels["service"] == ["cdn77-exporter"]
    assert set(query.labels) <= {"service", "container", "level", "message"}
    assert set(query.labels.get("level", [])) <= {level.value for level in Level}
    messages = query.labels.get("message", [])
    assert set(messages) <= set(MESSAGES)
    known = set.intersection(*(_fields(message) for message in messages)) if messages else set()
    assert query.fields <= known
    assert query.grouped <= {"message", "level", *(known if query.parsed else ())}


def _fields(message: str) -> set[str]:
    """The fields of a message's lines as `| json` names them, in a table one for each name."""
    found = set()
    for field in MESSAGES[message].fields:
        found |= {f"rejects_{name}" for name in REJECT_REASONS} if field.name == "rejects" else {field.name}
        assert field.holds is not Holds.TABLE or field.name in ("rejects", "ignored", "settings")
    return found


def test_the_reader_of_logql_refuses_what_is_wrong() -> None:
    """A slip in the syntax is found; what is right is read with all its names."""
    right = 'sum by (reason) (count_over_time({message="file_set_aside"} | json | seconds > 2 [1h]))'
    assert read(right) == Query({"message": ["file_set_aside"]}, {"seconds"}, {"reason"}, parsed=True)
    for wrong in (
        '{message="x"',
        "{message=x}",
        'count_over_time({message="x"})',
        'sum({message="x"})',
        'sum_over_time({message="x"} | json [1m])',
        '{message="x"} | seconds > 2',
        '{message="x"} | json | seconds >',
        '{message="x"} ; rm',
        'sum(count_over_time({message="x"}[1m])))',
    ):
        with pytest.raises(NotLogQL):
            read(wrong)
