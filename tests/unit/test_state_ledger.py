"""The ledger of files: it answers as a plain model does, its counts are kept, and each call costs what it asks for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cdn77_exporter.core.changes import Changes, CountedFile, Request
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.edge.state import Database
from cdn77_exporter.edge.state import database as database_module

_KEYS = st.sampled_from(
    [f"logs/2026011{day}/rtl.{name}+1+{day}.ndjson.gz" for day in range(3) for name in "abcd\u00e9"]
)
_FILES = st.builds(LogFile, _KEYS, st.sampled_from(["e1", "e2"]), st.integers(0, 9), st.integers(0, 9))


def _changes(files: list[CountedFile], requests: list[Request]) -> Changes:
    return Changes({"settled": 1}, [], [], [], [], [], b"", [], 0, [], files, requests)


class _Ledger(RuleBasedStateMachine):
    """A database and a dictionary that go through the same steps."""

    @initialize()
    def begin(self) -> None:
        self.database = Database(":memory:")
        self.files: dict[tuple[str, str], tuple[str, int, LogFile]] = {}  # what it is, its due tick, the file
        self.outbox: dict[int, bytes] = {}
        self.number = 0
        self.acknowledged = 0

    @rule(files=st.lists(_FILES, max_size=5), due=st.integers(1, 9), body=st.binary(max_size=9))
    def commit(self, files: list[LogFile], due: int, body: bytes) -> None:
        counted = [CountedFile(file.key, file.etag, due, file.size, file.modified_ms) for file in files]
        self.database.commit(_changes(counted, [Request(self.number, due, 1, body)]))
        self.files |= {file.identity: ("counted", due, file) for file in files}
        self.outbox[self.number] = body
        self.number += 1

    @rule(data=st.data(), acknowledged=st.none() | st.integers(0, 9))
    def push(self, data: st.DataObject, acknowledged: int | None) -> None:
        numbers = data.draw(st.lists(st.integers(0, self.number), max_size=4))
        self.database.mark_done(numbers, acknowledged)
        self.acknowledged = max(self.acknowledged, acknowledged or 0)
        for number in numbers:
            self.outbox.pop(number, None)

    @rule(files=st.lists(_FILES, max_size=6))
    def delete(self, files: list[LogFile]) -> None:
        self.database.mark_deleted([file.identity for file in files])
        for identity in {file.identity for file in files} & self.files.keys():
            self.files[identity] = ("done", 0, self.files[identity][2])

    @rule(files=st.lists(_FILES, max_size=6, unique_by=lambda file: file.identity), again=st.booleans())
    def list(self, files: list[LogFile], again: bool) -> None:
        listed = {file.identity: file for file in files}
        assert self.database.known(files, again=again) == listed.keys() & self.files.keys()
        written_later = [
            file.key
            for identity, file in listed.items()
            if identity in self.files
            and self.files[identity][0] == "aside"
            and file.modified_ms > self.files[identity][2].modified_ms
        ]
        assert sorted(self.database.uploaded_again(files)) == sorted(written_later)
        for identity in listed.keys() & self.files.keys() if again else ():
            if self.files[identity][0] == "done":
                self.files[identity] = ("counted", 0, listed[identity])

    @rule(file=_FILES)
    def set_aside(self, file: LogFile) -> None:
        self.database.set_aside(file, "corrupt")
        self.files[file.identity] = ("aside", 0, file)

    @rule(key=_KEYS)
    def release(self, key: str) -> None:
        self.database.release(key)
        self.files = {identity: row for identity, row in self.files.items() if identity[0] != key or row[0] != "aside"}

    @rule(before_ms=st.integers(0, 10))
    def prune(self, before_ms: int) -> None:
        """A whole round: some calls may look at rows that none looked at before."""
        for _ in range(2 + len(self.files)):
            self.database.prune(before_ms)
        self.files = {
            identity: row for identity, row in self.files.items() if row[0] != "done" or row[2].modified_ms >= before_ms
        }

    @rule()
    def restart(self) -> None:
        content = self.database.serialize()
        self.database.close()
        self.database = Database(":memory:")
        self.database.replace(content)

    @invariant()
    def the_counts_are_kept(self) -> None:
        kinds = Counter(kind for kind, _, _ in self.files.values())
        expected = {kind: kinds[kind] for kind in ("counted", "done", "aside")}
        expected |= {"requests": len(self.outbox), "bytes": sum(map(len, self.outbox.values()))}
        assert self.database.counts() == expected
        assert {number: self.database.body(number) for number, _, _ in self.database.outbox()} == self.outbox

    @invariant()
    def files_can_go_when_their_tick_is_acknowledged(self) -> None:
        assert self.database.acknowledged() == self.acknowledged
        due = [
            CountedFile(file.key, file.etag, tick, file.size, file.modified_ms)
            for kind, tick, file in self.files.values()
            if kind == "counted" and tick <= self.acknowledged
        ]
        found = self.database.deletable(self.acknowledged, 100)
        assert sorted(found, key=str) == sorted(due, key=str)
        assert [file.due for file in found] == sorted(file.due for file in due)
        assert self.database.deletable(self.acknowledged, 2, 1) == found[1:3]
        assert sorted((file.key, file.etag) for file in self.database.aside()) == sorted(
            identity for identity, row in self.files.items() if row[0] == "aside"
        )


@pytest.mark.parametrize("some", [3, 1000])
def test_the_ledger_is_the_model(some: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is committed, pushed, deleted, listed, set aside, released and pruned, and however keys are batched."""
    monkeypatch.setattr(database_module, "_PRUNED_AT_ONCE", some)
    monkeypatch.setattr(database_module, "_KEYS_AT_ONCE", some)
    monkeypatch.setattr(database_module, "_WITH_KEYS", f"WHERE key IN ({', '.join('?' * some)})")
    machine = _Ledger.TestCase
    machine.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
    machine().runTest()


def test_no_call_reads_more_of_the_ledger_than_it_is_asked_for(tmp_path: Path) -> None:
    """With a ledger of many files, a listing of few reads few pages, counts read none, and pruning reads a slice."""
    database = Database(str(tmp_path / "state.db"))
    files = [CountedFile(f"logs/{number:06d}", "e" * 32, 1, 1, number) for number in range(30_000)]
    database.commit(_changes(files, []))
    database.mark_done([], 1)
    database.mark_deleted([(file.key, file.etag) for file in files])
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    database._connection.set_progress_handler(count, 100)  # every so many instructions of SQLite
    listed = [LogFile(files[number].key, files[number].etag, 1, 1) for number in (0, 29_999)]
    assert len(database.known(listed)) == 2
    assert database.counts()["done"] == 30_000
    assert database.deletable(1, 100) == []
    assert steps < 500
    database.prune(before_ms=0)
    assert steps < 1500
    database.close()
