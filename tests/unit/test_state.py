"""The state file: what is committed comes back, whole or not at all, and what is damaged is refused with a way out."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core import series_rows
from cdn77_exporter.core.changes import AsideFile, Changes, CountedFile, ProfileRow, Request, Snapshot
from cdn77_exporter.core.content import UNKNOWN
from cdn77_exporter.core.errors import StateError, StateLocked, Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.series_rows import latest, pending_of, values_of
from cdn77_exporter.core.viewers.rows import FACET, STATE, merge_runs, packed, unpacked
from cdn77_exporter.edge.state import Database, State, schema
from cdn77_exporter.edge.state.migration import SAME_SCHEMA, SAME_TABLES
from tests.support.examples import examples


def _rows(*rows: tuple[int, int, int]) -> bytes:
    return packed(np.array([(*row, row[2] % 100) for row in rows], STATE))


def _viewers(runs: Iterable[bytes]) -> list[tuple[int, ...]]:
    """Key, profile and time of the rows of runs; their watch time is what `_rows` gave them."""
    rows = [row for run in runs for row in unpacked(run).tolist()]
    assert all(row[3] == row[2] % 100 for row in rows)
    return [row[:3] for row in rows]


def series_of(snapshot: Snapshot) -> list[tuple[object, ...]]:
    """Slot, key and the latest row of each series, without the time at which it began."""
    rows = {slot: row for slot, *row, _ in latest(snapshot.series).tolist()}
    return [(slot, key, *rows[slot]) for slot, key in snapshot.series_keys]


def _changes(number: int, *, size: int = 40, **replaced: object) -> Changes:
    """The changes of one step; each differs from the others in every part."""
    meta = {
        "tick_seconds": 15,
        "floor": 1000,
        "first_emission": 1015,
        "settled": 1000 + 15 * number,
        "emitted": 1000 + 15 * number,
        "next_request": number + 1,
        "watermark_ms": 1_000_000 + number,
        "viewers_since_ms": 0,
    }
    changes = Changes(
        meta=meta,
        profiles=[ProfileRow(number, f"stream-{number}", "web", None, ("US", "Ohio") if number % 2 else None, "4")],
        series_new=[(number, f"key-{number}")],
        series=values_of((slot, number + slot / 8, number, number, True) for slot in range(number + 1)),
        pending=pending_of([(number, number / 2)]),
        waits=[(number, 7 * number, number + 1)],
        viewers=_rows((2 * number + 1, number, 1000 * number), (1, number, 1000 * number + 1)),
        held=[(5000 + number, b"held" * size), (4999, b"%d" % number)],
        held_until=number,
        shards=[(str(number % 3), number)],
        files=[CountedFile(f"file-{number}", "etag", 1000 + 15 * number, number, number)],
        requests=[Request(number, 1000 + 15 * number, number, bytes([number % 256]) * size)],
    )
    return msgspec.structs.replace(changes, **replaced)


def _content(database: Database) -> dict[str, object]:
    """All that a process takes up, in a form that can be compared."""
    snapshot = database.load()
    assert snapshot is None or isinstance(snapshot, Snapshot)
    outbox = [(number, tick, samples, database.body(number)) for number, tick, samples in database.outbox()]
    files = [LogFile(f"file-{number}", "etag", 0, 0) for number in range(60)]
    new = [file.key for file in database.sort_out(files).new]
    content: dict[str, object] = {"outbox": outbox, "new": new, "counts": database.counts()}
    if snapshot is not None:
        content |= {name: getattr(snapshot, name) for name in ("meta", "profiles", "pending", "waits", "shards")}
        content["series"] = series_of(snapshot)
        content["held"] = list(snapshot.held)
        content["viewers"] = sorted(_viewers(merge_runs(snapshot.viewer_runs, 0)))
    return content


def _filled(path: Path, steps: int = 12, *, size: int = 40) -> dict[str, object]:
    """A state file with some commits in it, and its content."""
    database = Database(str(path))
    for number in range(steps):
        database.commit(_changes(number, size=size))
    content = _content(database)
    database.close()
    return content


# What is committed comes back


def test_a_fresh_state_holds_nothing(tmp_path: Path) -> None:
    """A new state file has no snapshot, no requests and a secret key that stays."""
    database = Database(str(tmp_path / "state.db"))
    assert database.load() is None
    assert database.outbox() == []
    key = database.secret_key()
    assert len(key) == 32
    database.close()
    again = Database(str(tmp_path / "state.db"))
    assert again.secret_key() == key
    assert Database(":memory:").secret_key() != key


def test_a_commit_comes_back_as_it_was(tmp_path: Path) -> None:
    """What one process committed the next one loads, in every part."""
    changes = _changes(0)
    database = Database(str(tmp_path / "state.db"))
    database.commit(changes)
    database.close()
    database = Database(str(tmp_path / "state.db"))
    snapshot = database.load()
    assert snapshot is not None
    assert snapshot.meta == changes.meta | {"events_seen": 1}
    assert snapshot.profiles == changes.profiles
    assert series_of(snapshot) == [(0, "key-0", 0.0, 0, 0, True)]
    assert snapshot.pending == changes.pending
    assert snapshot.waits == changes.waits
    assert list(snapshot.viewer_runs) == [changes.viewers]
    assert list(snapshot.held) == changes.held
    assert snapshot.shards == changes.shards
    assert database.outbox() == [(0, 1000, 0)]
    assert database.body(0) == changes.requests[0].body


@examples(50)
@given(st.data())
def test_later_commits_replace_earlier_ones_part_by_part(data: st.DataObject) -> None:
    """Any sequence of commits loads as the model says: slots used again, ticks added, pending whole, shards by name."""
    database = Database(":memory:")
    series: dict[int, tuple[str, float, int, int, bool]] = {}
    held: list[tuple[int, bytes]] = []
    shards: dict[str, tuple[str, int]] = {}
    pending: list[tuple[int, float]] = []
    waits: list[tuple[int, int, int]] = []
    meta: dict[str, int] = {}
    values = st.floats(0, 2.0**53)
    told: list[tuple[str | int, ...]]
    for _ in range(data.draw(st.integers(1, 6))):
        gone = data.draw(st.lists(st.sampled_from(sorted(series)), unique=True)) if series else []
        for slot in gone:
            del series[slot]
        free = [slot for slot in range(len(series) + len(gone) + 3) if slot not in series]
        new = [(slot, f"key-{slot}-{len(meta)}") for slot in free[: data.draw(st.integers(0, 3))]]
        series |= {slot: (key, 0.0, 0, 0, False) for slot, key in new}
        slots = data.draw(st.lists(st.sampled_from(sorted(series)), unique=True)) if series else []
        rows = [(slot, data.draw(values), data.draw(st.integers(0, 99)), 7, data.draw(st.booleans())) for slot in slots]
        series |= {row[0]: (series[row[0]][0], *row[1:]) for row in rows}
        until = data.draw(st.integers(0, 8))
        more_held = data.draw(st.lists(st.tuples(st.integers(until + 1, 20), st.binary(max_size=4)), max_size=4))
        held = [(tick, tally) for tick, tally in held if tick > until] + more_held
        rows_of_shards = data.draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9))))
        shards |= {row[0]: row for row in rows_of_shards}
        told = [(*row,) for row in rows_of_shards]
        pending = [(slot, data.draw(values)) for slot in slots]
        waits = [(slot, slot + 1, 1) for slot in slots]
        meta = {"settled": data.draw(st.integers(0, 2**40)), "emitted": 1}
        more = [(slot, 0.0, 0, 0, False) for slot, _ in new] + rows
        changes = Changes(
            meta, [], new, values_of(more), pending_of(pending), waits, b"", more_held, until, told, [], []
        )
        database.commit(msgspec.structs.replace(changes, series_gone=gone))
    snapshot = database.load()
    assert snapshot is not None
    assert snapshot.meta == meta
    assert series_of(snapshot) == [(slot, *series[slot]) for slot in sorted(series)]
    assert snapshot.pending == pending_of(pending)
    assert sorted(snapshot.waits) == sorted(waits)
    assert list(snapshot.held) == held
    assert sorted(snapshot.shards) == sorted(shards.values())


def test_a_state_becomes_what_another_was(tmp_path: Path) -> None:
    """The bytes of one state make another one equal to it; bytes that are no state, or not all of it, are refused."""
    path = tmp_path / "state.db"
    content = _filled(path)
    database = Database(str(path))
    copied = database.serialize()
    key = database.secret_key()
    database.close()
    twin = Database(":memory:")
    twin.replace(copied)
    assert _content(twin) == content
    assert twin.secret_key() == key
    twin.commit(_changes(12))
    for damaged in (copied[: len(copied) // 2], b"x" * 9000):
        with pytest.raises((StateError, sqlite3.DatabaseError)):
            Database(":memory:").replace(damaged)


# The outbox and the ledger


def test_done_requests_leave_the_outbox_and_acknowledge(tmp_path: Path) -> None:
    """Requests stay until they are done; files are deletable through a tick; the acknowledged one never goes back."""
    database = Database(str(tmp_path / "state.db"))
    for number in range(4):
        database.commit(_changes(number))
    assert [number for number, _, _ in database.outbox()] == [0, 1, 2, 3]
    assert database.acknowledged() == 0
    assert database.deletable(999, 10) == []
    database.mark_done([0, 1], 1015)
    assert [number for number, _, _ in database.outbox()] == [2, 3]
    assert database.acknowledged() == 1015
    database.mark_done([2], None)
    database.mark_done([], 1000)
    assert database.acknowledged() == 1015
    assert [file.key for file in database.deletable(1015, 10)] == ["file-0", "file-1"]
    database.mark_deleted([("file-0", "etag")])
    assert [file.key for file in database.deletable(1015, 10)] == ["file-1"]
    assert database.counts()["done"] == 1
    database.commit(_changes(4))
    snapshot = database.load()
    assert snapshot is not None
    assert snapshot.meta["acknowledged"] == 1015


def test_the_ledger_knows_what_was_counted_under_a_key() -> None:
    """A file of another ETag is looked at again, with what was counted before; one set aside only if it is another."""
    database = Database(":memory:")
    database.commit(_changes(5))
    counted = LogFile("file-5", "etag", 5, 5)
    changed = LogFile("file-5", "other", 5, 5)
    aside = LogFile("bad", "etag", 1, 1)
    database.set_aside(aside, "truncated")
    assert database.sort_out([]) == ([], [])
    assert database.sort_out([counted, aside]) == ([], [])
    for _ in range(2):
        (new,) = database.sort_out([changed]).new
        assert (new, new.counted) == (changed, UNKNOWN)
        database.mark_deleted([counted.identity])
        assert database.sort_out([counted]) == ([], [])
    assert database.aside() == [AsideFile("bad", "etag", "truncated", 1, 1)]
    assert database.sort_out([LogFile("bad", "other", 1, 1)]) == ([LogFile("bad", "other", 1, 1)], ["bad"])
    assert database.aside() == []


def test_events_are_seen_by_the_rules_of_their_time() -> None:
    """An event counts for the rules by which it had a stream; a state that knows no rules keeps what it saw."""
    database = Database(":memory:")
    assert not database.events_seen(1)
    database.commit(_changes(5))
    assert database.events_seen(1)
    for _ in range(2):
        assert not database.events_seen(2)
    assert database.deletable(9999, 10) == []
    database.commit(_changes(6))
    assert database.events_seen(2)
    assert len(database.deletable(9999, 10)) == 2


def test_a_deleted_file_that_is_back_is_deleted_again_and_not_counted_again() -> None:
    """A listing with a file that had been deleted makes it deletable once more; where files are kept it does not."""
    database = Database(":memory:")
    database.commit(_changes(5))
    file = LogFile("file-5", "etag", 5, 5)
    database.mark_done([5], 2000)
    database.mark_deleted([file.identity])
    assert database.sort_out([file]).new == []
    assert database.deletable(9999, 10) == []
    assert database.sort_out([file], again=True).new == []
    assert [found.key for found in database.deletable(9999, 10)] == ["file-5"]


def test_a_file_set_aside_can_be_released() -> None:
    """A file that is set aside is known until it is released, and is never deletable."""
    database = Database(":memory:")
    file = LogFile("bad", "etag", 1, 1)
    database.set_aside(file, "corrupt")
    database.mark_done([], 9999)
    assert database.deletable(9999, 10) == []
    database.release("bad")
    database.release("bad")
    assert database.sort_out([file]).new == [file]


def test_what_a_listing_lacks_is_forgotten_when_it_was_deleted_or_set_aside() -> None:
    """What is counted, listed, was deleted lately or lies outside of the listing stays."""
    database = Database(":memory:")
    for number in range(4):
        database.commit(_changes(number))
    for name in ("bad", "file-9", "worse"):
        database.set_aside(LogFile(name, "etag", 1, 0), "corrupt")
    database.mark_deleted([("file-1", "etag"), ("file-3", "etag")])
    assert database.forget_absent("c", "g", {"file-0"}, gone_ms=1, old_ms=3) == "g"
    assert [row.key for row in database.aside()] == ["bad", "worse"]
    listed = [LogFile(f"file-{number}", "etag", 0, 0) for number in range(4)]
    assert [file.key for file in database.sort_out(listed).new] == ["file-1"]


# Viewer runs


def test_of_two_rows_of_a_viewer_the_later_run_holds() -> None:
    """Merging keeps each viewer's latest row, each facet's apart from it, and leaves out who was seen too long ago."""
    merged = merge_runs(
        [
            _rows((1, 10, 100), (3, 10, 100), (5, 10, 50), (1, 7 | FACET, 100), (1, 8 | FACET, 50)),
            _rows((1, 11, 200), (1, 7 | FACET, 190), (1, 9 | FACET, 200)),
        ],
        since_ms=60,
    )
    rows = sorted(_viewers(merged))
    assert rows == [(1, 11, 200), (1, 7 | FACET, 190), (1, 9 | FACET, 200), (3, 10, 100)]


@examples(60)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3), st.integers(0, 20)), min_size=1),
        min_size=1,
        max_size=40,
    )
)
def test_merged_runs_load_as_the_rows_one_after_the_other(steps: list[list[tuple[int, bool, int, int]]]) -> None:
    """However many commits there were, however they were merged: the latest row of each viewer and facet is loaded."""
    database = Database(":memory:")
    latest: dict[tuple[int, int], tuple[int, ...]] = {}
    now = 0
    for number, step in enumerate(steps):
        rows = []
        for viewer, is_facet, profile, seconds in step:
            now += seconds
            labelled = profile | FACET if is_facet else profile
            rows.append((2 * viewer + 1, labelled, now))
            latest[viewer, labelled if is_facet else -1] = rows[-1]
        database.commit(_changes(number, viewers=_rows(*rows)))
    snapshot = database.load()
    assert snapshot is not None
    runs = list(snapshot.viewer_runs)
    assert len(runs) <= 8 * 3
    loaded: dict[tuple[int, int], tuple[int, ...]] = {}
    for run in runs:
        for key, profile, seen in _viewers([run]):
            loaded[key // 2, profile if profile & FACET else -1] = (key, profile, seen)
    assert loaded == latest


# All or nothing


class _Fault(Exception):
    """What stops a commit in the middle."""


@pytest.mark.guarantee("crash.during_commit")
@pytest.mark.parametrize(
    "step",
    [
        lambda database: database.commit(_changes(16)),
        lambda database: database.mark_done([3, 4], 1060),
        lambda database: database.mark_deleted([("file-1", "etag"), ("file-2", "etag")]),
        lambda database: database.set_aside(LogFile("bad", "etag", 1, 1), "corrupt"),
    ],
    ids=["commit", "mark_done", "mark_deleted", "set_aside"],
)
def test_a_step_that_ends_at_any_statement_leaves_all_or_nothing(
    tmp_path: Path, step: Callable[[Database], None]
) -> None:
    """An error, or a kill, at each statement leaves the content of before; after the last it leaves all of the step."""
    before = _filled(tmp_path / "before.db", 16)
    shutil.copy(tmp_path / "before.db", tmp_path / "after.db")
    statements: list[str] = []
    database = Database(str(tmp_path / "after.db"), on_statement=statements.append)
    step(database)
    count = len(statements)
    after = _content(database)
    database.close()
    assert after != before
    assert count >= 3

    for fatal in range(count):
        path = tmp_path / f"at-{fatal}.db"
        shutil.copy(tmp_path / "before.db", path)
        left = fatal

        def strike(statement: str, path: Path = path) -> None:
            nonlocal left
            if left == 0:
                for suffix in ("", "-journal"):  # what a kill would leave
                    if Path(f"{path}{suffix}").exists():
                        shutil.copy(f"{path}{suffix}", f"{path}-killed{suffix}")
                raise _Fault(statement)
            left -= 1

        database = Database(str(path), on_statement=strike)
        with pytest.raises(_Fault):
            step(database)
        database._on_statement = None
        assert _content(database) == before
        database.close()
        for reopened in (path, Path(f"{path}-killed")):
            database = Database(str(reopened))
            assert _content(database) == before
            step(database)
            assert _content(database) == after
            database.close()


_WRITER = """
import sys
sys.path[:0] = {paths!r}
from tests.unit.test_state import _changes
from cdn77_exporter.edge.state import Database
database = Database({path!r})
number = database.counts()["counted"]
while True:
    database.commit(_changes(number, size=3000))
    number += 1
    print(number, flush=True)
"""


@pytest.mark.guarantee("crash.during_commit")
@pytest.mark.slow
def test_a_killed_process_leaves_its_last_commit(tmp_path: Path) -> None:
    """A process killed by SIGKILL at any instant of its commits leaves a sound state with all it had reported."""
    path = tmp_path / "state.db"
    draw = random.Random(5)
    root = str(Path(__file__).parents[2])
    program = _WRITER.format(paths=[root, *sys.path], path=str(path))
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        reported = int(child.stdout.readline())
        for _ in range(draw.randrange(12)):
            reported = int(child.stdout.readline())
        time.sleep(draw.random() * 0.01)  # somewhere within a commit; nothing depends on where
        child.send_signal(signal.SIGKILL)
        reported = max([reported, *map(int, child.stdout.read().split())])
        child.wait()
        child.stdout.close()
        database = Database(str(path))
        there = database.counts()["counted"]
        content = _content(database)
        database.close()
        assert there in (reported, reported + 1)
        expected = Database(":memory:")
        for number in range(there):
            expected.commit(_changes(number, size=3000))
        assert content == _content(expected)


# Damage


def _expect_refusal_or(path: Path, content: dict[str, object]) -> bool:
    """Whether the file is refused; when it is not, its content must be exactly this."""
    try:
        database = Database(str(path))
        try:
            assert _content(database) == content
        finally:
            database.close()
    except StateError as error:
        assert str(path) in str(error)
        assert error.remedy
        return True
    return False


@pytest.mark.guarantee("copies.damaged")
def test_a_file_cut_anywhere_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """A state file cut at any page and at any byte is never taken for a whole one."""
    whole = tmp_path / "whole.db"
    content = _filled(whole, size=5000)
    data = whole.read_bytes()
    draw = random.Random(1)
    cuts = {*range(0, len(data), 4096), *(draw.randrange(len(data)) for _ in range(60)), 1, len(data) - 1}
    cuts |= {len(data) - back for back in (2, 7, 100, 2000, 4095)}
    path = tmp_path / "cut.db"
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        assert _expect_refusal_or(path, content), f"cut at {cut} of {len(data)}"


def test_a_file_with_something_behind_its_end_is_refused_or_sound(tmp_path: Path) -> None:
    """Bytes behind the end change no number."""
    whole = tmp_path / "whole.db"
    content = _filled(whole)
    for extra in (b"\0", b"x" * 100, b"\0" * 4096, random.Random(0).randbytes(9000)):
        path = tmp_path / "longer.db"
        path.write_bytes(whole.read_bytes() + extra)
        _expect_refusal_or(path, content)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\0", b"\0" * 8192, b"{}", random.Random(0).randbytes(20_000), b"SQLite format 3\0" + b"\xff" * 9000],
    ids=["empty", "one zero", "zeros", "json", "noise", "a header and noise"],
)
def test_garbage_is_refused_with_a_remedy(tmp_path: Path, garbage: bytes) -> None:
    """What is no state file at all is refused in words that name the file and say what to do, and is left as it is."""
    path = tmp_path / "state.db"
    path.write_bytes(garbage)
    with pytest.raises(StateError, match=r"state\.db") as caught:
        Database(str(path))
    assert "move it away" in caught.value.remedy
    assert path.read_bytes() == garbage


@pytest.mark.guarantee("copies.damaged")
@pytest.mark.parametrize("fill", ["noise", "zeros", "another page"])
def test_a_page_overwritten_is_refused_or_harmless(tmp_path: Path, fill: str) -> None:
    """With any single page replaced the file is refused, at the latest when it is loaded, or gives the same content."""
    whole = tmp_path / "whole.db"
    content = _filled(whole, size=5000)
    data = whole.read_bytes()
    draw = random.Random(fill)
    path = tmp_path / "torn.db"
    refused = 0
    for begin in range(0, len(data), 4096):
        other = draw.randrange(len(data) // 4096) * 4096
        page = {"noise": draw.randbytes(4096), "zeros": bytes(4096), "another page": data[other : other + 4096]}[fill]
        path.write_bytes(data[:begin] + page + data[begin + 4096 :])
        refused += _expect_refusal_or(path, content)
    assert refused > len(data) // 4096 // 2


@pytest.mark.guarantee("copies.damaged")
@pytest.mark.parametrize("flips", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path, flips: int) -> None:
    """With any single bit flipped the file is refused in words, or gives the same content to the last row."""
    whole = tmp_path / "whole.db"
    database = Database(str(whole))
    for number in range(12):
        database.commit(_changes(number, metrics=[(number, f"metric_{number}", "stream_name,pop")]))
    database.set_aside(LogFile("bad", "etag", 1, 1), "corrupt")
    database.mark_done([0, 1, 2], 1060)
    database.mark_deleted([("file-0", "etag"), ("file-2", "etag")])
    database.close()
    data = bytearray(whole.read_bytes())
    # What pages hold is at their ends, and how it is to be read at their beginnings; between them there is nothing.
    used = [at for at, byte in enumerate(data) if byte or at % 4096 < 12 or at < 100]
    draw = random.Random(flips)
    content = _all_of(Database(str(whole)))
    path = tmp_path / "flipped.db"
    refused = 0
    for _ in range(flips):
        at, bit = draw.choice(used), 1 << draw.randrange(8)
        data[at] ^= bit
        path.write_bytes(data)
        data[at] ^= bit
        try:
            assert _all_of(Database(str(path))) == content, f"bit {bit} of byte {at}"
        except StateError as error:
            assert str(path) in str(error)
            assert error.remedy
            refused += 1
    assert refused > flips // 2


@pytest.mark.guarantee("copies.damaged")
def test_a_page_that_was_not_written_is_refused_or_harmless(tmp_path: Path) -> None:
    """Pages of an earlier commit among those of the last one have sound rows, and are refused all the same."""
    path = tmp_path / "state.db"
    database = Database(str(path))
    for number in range(40):
        database.commit(_changes(number, metrics=[(number, f"metric_{number}", "stream_name,pop")]))
        if number == 20:
            earlier = path.read_bytes()
    database.mark_deleted([("file-0", "etag"), ("file-2", "etag")])
    database.mark_done([0, 1, 2], 1060)
    database.close()
    data = path.read_bytes()
    content = _all_of(Database(str(path)))
    refused = 0
    for begin in range(4096, len(earlier), 4096):
        if data[begin : begin + 4096] != earlier[begin : begin + 4096]:
            path.write_bytes(data[:begin] + earlier[begin : begin + 4096] + data[begin + 4096 :])
            refused += _expect_refusal_or(path, content)
    assert refused > 5


@pytest.mark.guarantee("copies.damaged")
@pytest.mark.parametrize("table", schema.TABLES, ids=lambda table: table.name)
def test_a_row_that_is_missing_is_refused(tmp_path: Path, table: schema.Table) -> None:
    """A table that lacks a row is refused, though all its other rows are sound."""
    path = tmp_path / "state.db"
    database = Database(str(path))
    told = [(1000 + 15 * number, b"told") for number in range(3)]
    for number in range(3):
        database.commit(
            _changes(number, metrics=[(number, f"metric_{number}", "stream_name,pop")], told=[told[number]])
        )
    database.set_aside(LogFile("bad", "etag", 1, 1), "corrupt")
    database.mark_deleted([("file-0", "etag")])
    database.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"DROP TRIGGER {table.name}_delete")
        least = f"(SELECT min(checksum) FROM {table.name})"  # noqa: S608 - constants
        assert connection.execute(f"DELETE FROM {table.name} WHERE checksum = {least}").rowcount == 1  # noqa: S608
        connection.execute(table.triggers[1])
    with pytest.raises(StateError, match=f"in {table.name}\\b"):
        Database(str(path))


def test_a_state_without_sums_gets_them(tmp_path: Path) -> None:
    """A state of 0.2.0 is taken up as it is, and from then on a row that is missing is noticed."""
    path = tmp_path / "state.db"
    content = _filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE sums")
        for name in [name for table in schema.TABLES for name in (f"{table.name}_insert", f"{table.name}_delete")]:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(f"PRAGMA user_version = {SAME_TABLES}")
    assert not _expect_refusal_or(path, content)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER series_delete")
        connection.execute("DELETE FROM series WHERE slot = 4")
        connection.execute(schema.SERIES.triggers[1])
    assert _expect_refusal_or(path, content)


def test_a_state_of_0_3_0_is_taken_up(tmp_path: Path) -> None:
    """Its runs of series do not say when they began; runs that are merged with them do, and nothing else changes."""
    path = tmp_path / "state.db"
    _filled(path)
    database = Database(str(path))
    old = np.array([(4, 7.5, 15, 30, True), (0, 2.5, 15, 30, False)], series_rows._VALUES_0_3_0)
    for number in range(5):  # so that some are merged
        database.commit(_changes(20 + number, series_new=[], series=old.tobytes(), profiles=[], metrics=[]))
    database.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {SAME_SCHEMA}")
    for _ in range(2):
        database = Database(str(path))
        snapshot = database.load()
        assert snapshot is not None
        rows = {row[0]: row[1:] for row in latest(snapshot.series).tolist()}
        assert (rows[4], rows[0]) == ((7.5, 15, 30, True, 0), (2.5, 15, 30, False, 0))
        database.close()


@pytest.mark.guarantee("copies.damaged")
def test_rows_of_another_table_are_refused(tmp_path: Path) -> None:
    """Two tables of the same shape whose pages have changed places are refused."""
    path = tmp_path / "state.db"
    _filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        pages = [
            connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
            for name in ("profiles", "bodies")
        ]
    data = path.read_bytes()
    first, second = (slice((page - 1) * 4096, page * 4096) for page in pages)
    swapped = bytearray(data)
    swapped[first], swapped[second] = data[second], data[first]
    path.write_bytes(swapped)
    with pytest.raises(StateError, match="damaged"):
        Database(str(path))


def _all_of(database: Database) -> dict[str, object]:
    """All that a process can be told of a state; the state is closed."""
    with closing(database):
        snapshot = database.load()
        assert snapshot is not None
        content = _content(database) | {"key": database.secret_key(), "metrics": snapshot.metrics}
        content |= {"aside": database.aside(), "deletable": database.deletable(database.acknowledged(), 100)}
        files = [LogFile(f"file-{number}", "etag", 0, 10**15) for number in range(60)] + [LogFile("bad", "etag", 0, 9)]
        found = database.sort_out(files, again=True)
        return content | {"new": [(file, file.counted) for file in found.new], "released": found.released}


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """A SQLite file that is not this program's is refused and not written to."""
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match="not a state file") as caught:
        Database(str(path))
    assert caught.value.remedy
    assert path.read_bytes() == before


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A state of a version to come is refused, and the remedy is the version that wrote it."""
    path = tmp_path / "state.db"
    _filled(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError, match="version 99") as caught:
        Database(str(path))
    assert "version that wrote it" in caught.value.remedy


def test_a_kill_during_the_making_of_the_state_leaves_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the very first start is cut short the next one begins afresh, without an operator."""
    path = tmp_path / "state.db"
    for name in ("write", "fsync", "link"):
        step = getattr(os, name)

        def stopped(*values: object, step: Callable[..., object] = step, **named: object) -> object:
            raise _Fault(step.__name__)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, stopped)
            if name != "write":
                with pytest.raises(_Fault):
                    Database(str(path))
        assert not path.exists() or path.stat().st_size > 0
    database = Database(str(path))
    assert database.load() is None
    database.commit(_changes(0))
    database.close()


# Locks and disks


def test_a_second_opener_is_told_that_it_is_locked(tmp_path: Path) -> None:
    """Who opens a state that another holds gets StateLocked, before and after commits; once given up it opens."""
    path = str(tmp_path / "state.db")
    first = Database(path)
    with pytest.raises(StateLocked, match="another process"):
        Database(path)
    first.commit(_changes(0))
    with pytest.raises(StateLocked):
        Database(path)
    first.commit(_changes(1))
    first.close()
    second = Database(path)
    assert second.counts()["counted"] == 2
    second.close()


def test_the_lock_holds_between_processes(tmp_path: Path) -> None:
    """Another process cannot open a state that this one holds."""
    path = str(tmp_path / "state.db")
    holder = Database(path)
    program = (
        "from cdn77_exporter.edge.state import Database\n"
        "from cdn77_exporter.core.errors import StateLocked\n"
        "try:\n"
        f"    Database({path!r})\n"
        "except StateLocked:\n"
        "    print('locked')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "locked", ran.stderr
    holder.close()


def test_an_opener_that_fails_holds_no_lock(tmp_path: Path) -> None:
    """After a refusal nothing is kept open, so that the remedy can be applied and tried at once."""
    path = tmp_path / "state.db"
    _filled(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError) as caught:
        Database(str(path))
    connection = sqlite3.connect(path, timeout=0)
    connection.execute("PRAGMA user_version = 5")
    connection.close()
    Database(str(path)).close()
    assert caught.value.remedy


def test_the_state_and_its_folder_are_private(tmp_path: Path) -> None:
    """Nobody else may read the state file or the folder that is made for it."""
    path = tmp_path / "deep" / "state" / "state.db"
    Database(str(path)).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_said_with_a_remedy(tmp_path: Path) -> None:
    """A state path below something that is no folder is refused in words for the operator."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StateError, match="cannot be made") as caught:
        Database(str(tmp_path / "file" / "state.db"))
    assert "STATE_PATH" in caught.value.remedy


_READ_ONLY = """
import os, sys
from cdn77_exporter.edge.state import Database
from cdn77_exporter.core.errors import StateError
os.setgid(65534)
os.setuid(65534)
try:
    Database(sys.argv[1])
except StateError as error:
    print(error.remedy)
"""


@pytest.mark.parametrize("there", [True, False], ids=["a read-only file", "no file yet"])
def test_a_read_only_folder_is_said_with_a_remedy(there: bool) -> None:
    """Without the right to write, the refusal says to make the file and its folder writable."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "state"
        folder.mkdir()
        path = folder / "state.db"
        if there:
            _filled(path)
            path.chmod(0o444)
        Path(place).chmod(0o755)
        folder.chmod(0o555)
        if os.geteuid():
            with pytest.raises(StateError) as caught:
                Database(str(path))
            said = caught.value.remedy
        else:  # root may write anywhere, so a child becomes somebody else
            ran = subprocess.run(
                [sys.executable, "-c", _READ_ONLY, str(path)], capture_output=True, text=True, check=False
            )
            said = ran.stdout + ran.stderr
        folder.chmod(0o755)
    assert "writable" in said
    assert "Traceback" not in said


def test_a_full_disk_is_transient_and_takes_nothing(tmp_path: Path) -> None:
    """While the disk is full a commit raises Transient and changes nothing; with room again it succeeds."""
    path = tmp_path / "state.db"
    before = _filled(path)
    database = Database(str(path))
    connection = database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = _changes(12, size=200_000)
    for _ in range(3):
        with pytest.raises(Transient, match=r"state\.db.*full"):
            database.commit(big)
        assert _content(database) == before
    connection.execute("PRAGMA max_page_count = 1000000")
    database.commit(big)
    after = _content(database)
    assert after != before
    database.close()
    reopened = Database(str(path))
    assert _content(reopened) == after


async def test_calls_of_the_state_are_done_in_the_order_asked(tmp_path: Path) -> None:
    """The asynchronous state does one call after the other, and closing waits for the last and gives up the lock."""
    path = str(tmp_path / "state.db")
    state = State(Database(path))
    for number in range(5):
        await state.commit(_changes(number))
    await state.mark_done([0, 1], 1015)
    assert [number for number, _, _ in await state.outbox()] == [2, 3, 4]
    assert await state.body(3) == _changes(3).requests[0].body
    assert [file.key for file in await state.deletable(1015, 1)] == ["file-0"]
    await state.mark_deleted([("file-0", "etag")])
    await state.set_aside(LogFile("bad", "etag", 1, 1), "corrupt")
    assert (await state.sort_out([LogFile("bad", "etag", 1, 1)])).new == []
    assert [file.key for file in await state.aside()] == ["bad"]
    await state.forget_absent("", "file-9", set(), 0, 10**15)
    counts = await state.counts()
    assert (counts["counted"], counts["done"], counts["aside"], counts["requests"]) == (4, 0, 1, 3)
    state.close()
    Database(path).close()


# A file that is removed while it is open


@pytest.mark.guarantee("copies.removed")
@pytest.mark.parametrize("how", ["removed", "removed with its folder", "replaced"])
def test_a_lost_file_is_made_again_whole(tmp_path: Path, how: str) -> None:
    """Everything that was committed is in it, it is locked, it is for this user only; another's file is kept."""
    path = tmp_path / "state" / "state.db"
    database = Database(str(path))
    file = LogFile("logs/a.ndjson.gz", "etag", 1, 2)
    database.set_aside(file, "corrupt")
    key = database.secret_key()
    assert database.lost() == ""
    if how == "replaced":
        path.with_name("other").write_bytes(b"another's")
        path.with_name("other").replace(path)
    elif how == "removed":
        path.unlink()
    else:
        shutil.rmtree(path.parent)
    assert database.lost() == how.partition(" ")[0]
    database.set_aside(LogFile("logs/b.ndjson.gz", "etag", 1, 2), "corrupt")  # it can still be written
    database.make_file_again()
    assert database.lost() == ""
    database.set_aside(LogFile("logs/c.ndjson.gz", "etag", 1, 2), "corrupt")
    with pytest.raises(StateLocked):
        Database(str(path))
    database.close()
    assert path.stat().st_mode & 0o777 == 0o600
    again = Database(str(path))
    assert again.secret_key() == key
    assert [one.key for one in again.aside()] == [f"logs/{name}.ndjson.gz" for name in "abc"]
    again.close()
    others = sorted(one.name for one in path.parent.iterdir() if not one.name.startswith("state.db-journal"))
    assert others == (["state.db", "state.db.replaced"] if how == "replaced" else ["state.db"])


def test_a_file_that_is_lost_at_the_end_is_there_at_the_next_start(tmp_path: Path) -> None:
    """A stop before anybody has noticed loses nothing."""
    path = tmp_path / "state.db"
    database = Database(str(path))
    database.set_aside(LogFile("logs/a.ndjson.gz", "etag", 1, 2), "corrupt")
    path.unlink()
    database.close()
    again = Database(str(path))
    assert [one.key for one in again.aside()] == ["logs/a.ndjson.gz"]
    again.close()


def test_a_state_in_memory_is_never_lost() -> None:
    """It has no file."""
    assert Database(":memory:").lost() == ""
