"""The ledger of files: it answers as a plain model does, its counts are kept, and each call costs what it asks for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cdn77_exporter.core.changes import AsideFile, Changes, CountedFile, Request
from cdn77_exporter.core.content import Content
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.reasons import NO_STREAM_YET
from cdn77_exporter.edge.state import Database
from cdn77_exporter.edge.state import database as database_module

_KEYS = st.sampled_from(
    [f"logs/2026011{day}/rtl.{name}+1+{day}.ndjson.gz" for day in range(3) for name in "abcd\u00e9"]
)
_FILES = st.builds(LogFile, _KEYS, st.sampled_from(["e1", "e2"]), st.integers(0, 9), st.integers(0, 9))


def _changes(files: list[CountedFile], requests: list[Request]) -> Changes:
    return Changes({"settled": 1}, [], [], b"", b"", [], b"", [], 0, [], files, requests)


_CONTENTS = st.builds(Content, st.integers(0, 3), st.integers(0, 2**62))


class _Ledger(RuleBasedStateMachine):
    """A database and dictionaries that go through the same steps."""

    @initialize()
    def begin(self) -> None:
        self.database = Database(":memory:")
        # By key: whether it is deleted, its due tick, the file, its content.
        self.files: dict[str, tuple[bool, int, LogFile, Content]] = {}
        self.aside: dict[str, tuple[LogFile, str]] = {}
        self.outbox: dict[int, bytes] = {}
        self.number = 0
        self.acknowledged = 0
        self.seen = False

    @rule(files=st.lists(_FILES, max_size=5), due=st.integers(0, 9), content=_CONTENTS, body=st.binary(max_size=9))
    def commit(self, files: list[LogFile], due: int, content: Content, body: bytes) -> None:
        counted = [CountedFile(file.key, file.etag, due, file.size, file.modified_ms, *content) for file in files]
        self.database.commit(_changes(counted, [Request(self.number, due, 1, body)]))
        before = {key: due for key, (gone, due, _, _) in self.files.items() if not gone}
        for file in files:
            self.files[file.key] = (False, max(due, before.get(file.key, 0)), file, content)
            self.aside.pop(file.key, None)
        if files and due:
            self.aside = {key: one for key, one in self.aside.items() if one[1] != NO_STREAM_YET}
        self.seen = self.seen or bool(files and due)
        assert bool(self.database.meta().get("events_seen")) == self.seen
        self.outbox[self.number] = body
        self.number += 1

    @rule(data=st.data(), acknowledged=st.none() | st.integers(0, 9))
    def push(self, data: st.DataObject, acknowledged: int | None) -> None:
        numbers = data.draw(st.lists(st.integers(0, self.number), max_size=4))
        self.database.mark_done(numbers, acknowledged)
        self.acknowledged = max(self.acknowledged, acknowledged or 0)
        for number in numbers:
            self.outbox.pop(number, None)

    @rule(files=st.lists(_FILES, max_size=6, unique_by=lambda file: file.key))
    def delete(self, files: list[LogFile]) -> None:
        self.database.mark_deleted([file.identity for file in files])
        for file in files:
            known = self.files.get(file.key)
            if known and known[2].etag == file.etag:
                self.files[file.key] = (True, *known[1:])

    @rule(files=st.lists(_FILES, max_size=6, unique_by=lambda file: file.key), again=st.booleans())
    def list(self, files: list[LogFile], again: bool) -> None:
        found = self.database.sort_out(files, again=again)
        new, released = [], []
        for file in files:
            known, aside = self.files.get(file.key), self.aside.get(file.key)
            if aside and aside[0].etag == file.etag and aside[0].modified_ms >= file.modified_ms:
                continue
            if aside:
                released.append(file.key)
                del self.aside[file.key]
            if not known or known[2].etag != file.etag:
                new.append((file, known[3] if known else None))
            elif again and known[0]:
                self.files[file.key] = (False, 0, file, known[3])
        assert [(file, file.counted) for file in found.new] == new
        assert found.released == released

    @rule(file=_FILES, reason=st.sampled_from(["corrupt", NO_STREAM_YET]))
    def set_aside(self, file: LogFile, reason: str) -> None:
        self.database.set_aside(file, reason, "words")
        self.aside[file.key] = (file, reason)

    @rule(key=_KEYS)
    def release(self, key: str) -> None:
        self.database.release(key)
        self.aside.pop(key, None)

    @rule(bounds=st.tuples(_KEYS, _KEYS), listed=st.sets(_KEYS), gone_ms=st.integers(0, 10), old_ms=st.integers(0, 10))
    def forget(self, bounds: tuple[str, str], listed: set[str], gone_ms: int, old_ms: int) -> None:
        after, upto = sorted(bounds)
        at = after
        while at < upto:
            at = self.database.forget_absent(at, upto, listed, gone_ms, old_ms)

        def absent(key: str) -> bool:
            return after < key <= upto and key not in listed

        self.aside = {key: one for key, one in self.aside.items() if not absent(key) or one[0].modified_ms >= gone_ms}
        self.files = {
            key: one for key, one in self.files.items() if not absent(key) or not one[0] or one[2].modified_ms >= old_ms
        }

    @rule()
    def restart(self) -> None:
        content = self.database.serialize()
        self.database.close()
        self.database = Database(":memory:")
        self.database.replace(content)

    @invariant()
    def the_counts_are_kept(self) -> None:
        deleted = Counter(gone for gone, *_ in self.files.values())
        expected = {"counted": deleted[False], "done": deleted[True], "aside": len(self.aside)}
        expected |= {"requests": len(self.outbox), "bytes": sum(map(len, self.outbox.values()))}
        assert self.database.counts() == expected
        assert {number: self.database.body(number) for number, _, _ in self.database.outbox()} == self.outbox
        assert self.database.aside_reasons() == Counter(reason for _, reason in self.aside.values())

    @invariant()
    def files_can_go_when_their_tick_is_acknowledged(self) -> None:
        assert self.database.acknowledged() == self.acknowledged
        due = [
            CountedFile(file.key, file.etag, tick, file.size, file.modified_ms, *content)
            for gone, tick, file, content in self.files.values()
            if not gone and tick <= self.acknowledged and self.seen
        ]
        found = self.database.deletable(self.acknowledged, 100)
        assert sorted(found, key=str) == sorted(due, key=str)
        assert [file.due for file in found] == sorted(file.due for file in due)
        assert self.database.deletable(self.acknowledged, 2, 1) == found[1:3]
        assert self.database.aside() == [
            AsideFile(key, file.etag, reason, file.size, file.modified_ms, "words")
            for key, (file, reason) in sorted(self.aside.items())
        ]


@pytest.mark.parametrize("some", [3, 1000])
def test_the_ledger_is_the_model(some: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is committed, pushed, deleted, listed, set aside and forgotten, and however keys are batched."""
    monkeypatch.setattr(database_module, "_FORGOTTEN_AT_ONCE", some)
    monkeypatch.setattr(database_module, "_KEYS_AT_ONCE", some)
    monkeypatch.setattr(database_module, "_WITH_KEYS", f"WHERE key IN ({', '.join('?' * some)})")
    machine = _Ledger.TestCase
    machine.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
    machine().runTest()


def test_no_call_reads_more_of_the_ledger_than_it_is_asked_for(tmp_path: Path) -> None:
    """With a ledger of many files, a listing of few reads few pages, counts read none, and forgetting a slice."""
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
    assert database.sort_out(listed).new == []
    assert database.counts()["done"] == 30_000
    assert database.deletable(1, 100) == []
    assert steps < 500
    assert database.forget_absent("", "z", set(), 0, 1) == files[4_999].key
    assert steps < 1500
    database.close()
