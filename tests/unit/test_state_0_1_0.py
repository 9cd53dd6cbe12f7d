"""A state that release 0.1.0 wrote is taken up, in a file and in the bucket, with all that it holds.

The states in `fixtures` were written by that release's own code, in the middle of a run, and what they hold was read by
it. The run: some files counted, some deleted, one set aside, requests not yet pushed, ticks not yet settled.
"""

from __future__ import annotations

import base64
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import cramjam
import msgspec
import numpy as np
import pytest

from cdn77_exporter.core.catalogue import split_key
from cdn77_exporter.core.changes import Changes, ProfileRow
from cdn77_exporter.core.content import UNKNOWN
from cdn77_exporter.core.errors import StateError
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.measures import (
    CONCURRENT_VIEWERS,
    SESSIONS,
    TIMES_TO_FIRST_BYTE,
    WATCH_SECONDS,
    Histograms,
    session_watch,
)
from cdn77_exporter.core.series_rows import PENDING
from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.edge.state import BucketState, Database
from cdn77_exporter.edge.state.look import Access, look_at_state
from tests.support.fake_bucket import FakeBucket
from tests.unit.test_state import series_of

_FIXTURE = Path(__file__).parents[1] / "fixtures" / "state_0_1_0.msgpack.zst"
Written = dict[str, Any]


@pytest.fixture(scope="module")
def written() -> Written:
    """The file and the objects that 0.1.0 wrote, and what it read from them."""
    found: Written = msgspec.msgpack.decode(bytes(cramjam.zstd.decompress(_FIXTURE.read_bytes())))
    return found


def _plain(value: object) -> object:
    """Bytes as text, tuples as lists: the form in which the content was kept."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _profile(row: ProfileRow) -> list[object]:
    """A profile as 0.1.0 had it."""
    *kept, version = msgspec.structs.astuple(row)
    assert version is None
    return [_plain(one) for one in kept]


def _expect(database: Database, expected: Written) -> None:
    """What a database holds is what 0.1.0 read."""
    snapshot = database.load()
    assert snapshot is not None
    series = series_of(snapshot)
    found: Written = {
        "secret": _plain(database.secret_key()),
        "meta": snapshot.meta,
        "profiles": [_profile(row) for row in snapshot.profiles],
        "series": _plain([row[1:] for row in series]),
        "pending": _plain(np.frombuffer(snapshot.pending, PENDING).tolist()),
        "waits": _plain(snapshot.waits),
        "viewer_runs": _plain(list(snapshot.viewer_runs)),
        "held": _plain(list(snapshot.held)),
        "outbox": [[*row, _plain(database.body(row[0]))] for row in database.outbox()],
        "counts": database.counts(),
    }
    added = {"events_seen": 1, "ledger_since_ms": snapshot.meta["ledger_since_ms"]}
    assert added["ledger_since_ms"] <= snapshot.meta["watermark_ms"]
    assert found == {name: value for name, value in expected.items() if name not in ("files", "shards")} | {
        "meta": expected["meta"] | added
    }
    assert _plain(snapshot.shards) == [row[:2] for row in expected["shards"]]
    files = [LogFile(key, etag, size, modified_ms) for key, etag, _, _, size, modified_ms, _ in expected["files"]]
    assert database.sort_out(files).new == []
    aside = [(row.key, row.etag, row.reason, row.size, row.modified_ms) for row in database.aside()]
    assert aside == [
        (key, etag, reason, size, modified_ms)
        for key, etag, status, _, size, modified_ms, reason in expected["files"]
        if status == 2
    ]
    assert sorted(
        (row.key, row.etag, row.due, row.size, row.modified_ms) for row in database.deletable(2**40, 100)
    ) == [
        (key, etag, due, size, modified_ms)
        for key, etag, status, due, size, modified_ms, _ in expected["files"]
        if not status
    ]
    assert [row[0] for row in series] == list(range(len(expected["series"])))
    others = [LogFile(file.key, "another", 1, 2**40) for file in files]
    assert {file.counted for file in database.sort_out(others).new} == {UNKNOWN, None}
    metrics = {code: (name, labels) for code, name, labels in snapshot.metrics}
    assert metrics[0] == ("cdn77_transfer_bytes_total", "stream_name,cdn_id,cache_status,pop")
    for key, *_ in expected["series"]:
        code, *values = key.split("\x1f")
        assert len(metrics[int(code)][1].split(",")) == len(values)


def test_a_file_of_0_1_0_is_taken_up_once(written: Written, tmp_path: Path) -> None:
    """All that it holds is there after it is opened, and again after that."""
    path = tmp_path / "state.db"
    path.write_bytes(written["file"])
    for _ in range(2):
        database = Database(str(path))
        database.close()
    database = Database(str(path))
    _expect(database, written["file_content"])
    database.close()


def test_a_look_at_a_file_of_0_1_0_changes_nothing(written: Written, tmp_path: Path) -> None:
    """Before it is taken up, a look shows its last tick and what is set aside, as it does afterwards."""
    path = tmp_path / "state.db"
    path.write_bytes(written["file"])
    look = look_at_state(path)
    assert path.read_bytes() == written["file"]
    assert look.access is Access.READ
    assert look.emitted == written["file_content"]["meta"]["emitted"]
    assert [row.reason for row in look.aside] == ["truncated"]
    Database(str(path)).close()
    again = look_at_state(path)
    assert (again.emitted, again.aside) == (look.emitted, look.aside)


async def test_a_bucket_state_of_0_1_0_is_taken_up(written: Written) -> None:
    """A snapshot and the journal after it are read as 0.1.0 reads them, and commits go on behind them."""
    bucket = FakeBucket()
    for key, body in written["objects"].items():
        await bucket.put(key, body)
    state = await BucketState.open(bucket, "state")
    await state.commit(Changes({"emitted": 99}, [], [], b"", b"", [], b"", [], 0, [], [], []))
    await state.save()
    state.close()
    state = await BucketState.open(bucket, "state")
    expected = written["bucket_content"]
    lists: Written = {"pending": [], "waits": []}  # which the commit has replaced
    _expect(state.database, expected | {"meta": expected["meta"] | {"emitted": 99}} | lists)
    state.close()


@pytest.mark.parametrize("table", ["viewer_runs", "held", "outbox"])
def test_a_damaged_file_of_0_1_0_is_refused_and_left(written: Written, tmp_path: Path, table: str) -> None:
    """A value that is not what 0.1.0 wrote is not made part of a new state."""
    path = tmp_path / "state.db"
    path.write_bytes(written["file"])
    connection = sqlite3.connect(path)
    column = {"viewer_runs": "rows", "held": "tally", "outbox": "body"}[table]
    statement = f"UPDATE {table} SET {column} = CAST('x' || substr({column}, 2) AS BLOB)"  # noqa: S608 - constants
    connection.execute(statement)
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match="checksum"):
        Database(str(path))
    assert path.read_bytes() == before


@pytest.mark.slow
def test_a_kill_while_a_file_of_0_1_0_is_taken_up_changes_nothing(written: Written, tmp_path: Path) -> None:
    """Whatever statement of it is the last, the next start takes all of it up."""
    path, killed = tmp_path / "state.db", tmp_path / "killed.db"
    done, last = 0, 10**9

    def strike() -> None:
        nonlocal done
        done += 1
        if done > last:
            for suffix in ("", "-journal"):  # what a kill would leave
                if Path(f"{path}{suffix}").exists():
                    shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")
            raise KeyboardInterrupt

    class Watched(sqlite3.Connection):
        def execute(self, *values: Any) -> sqlite3.Cursor:
            strike()
            return super().execute(*values)

        def executemany(self, *values: Any) -> sqlite3.Cursor:
            strike()
            return super().executemany(*values)

    connect = sqlite3.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *values, **named: connect(*values, factory=Watched, **named))
        path.write_bytes(written["file"])
        Database(str(path)).close()
        total = done
    assert total > 60
    for number in range(8, total):
        path.write_bytes(written["file"])
        done, last = 0, number
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite3, "connect", lambda *values, **named: connect(*values, factory=Watched, **named))
            with pytest.raises(KeyboardInterrupt):
                Database(str(path))
        for left in (path, killed):
            database = Database(str(left))
            assert database.counts() == written["file_content"]["counts"]
            database.close()


def test_the_timeline_goes_on_from_a_state_of_0_1_0(written: Written, tmp_path: Path) -> None:
    """Each series has the value that it had, under its own name, and the next tick is the one after the last."""
    path = tmp_path / "state.db"
    path.write_bytes(written["file"])
    database = Database(str(path))
    snapshot = database.load()
    assert snapshot is not None
    expected = written["file_content"]
    timeline = Timeline(Rules(), start_ms=expected["meta"]["watermark_ms"], key=database.secret_key())
    timeline.restore(snapshot)
    assert timeline.emitted == expected["meta"]["emitted"]
    database.commit(timeline.take_changes([], expected["meta"]["watermark_ms"], []))
    again = database.load()
    assert again is not None
    before = {key: value for key, value, *_ in expected["series"]}
    after = {str(key): value for _, key, value, *_ in series_of(again)}
    assert {key: value for key, value in after.items() if key in before} == before
    # What 0.1.0 held for its next tick counts for measures, too, that it did not have, if it had their sums.
    names = {code: name for code, name, _ in again.metrics}
    new = {names[split_key(key)[0]] for key in after.keys() - before.keys()}
    begun = (CONCURRENT_VIEWERS, WATCH_SECONDS, SESSIONS, *session_watch(Histograms.OFF), *TIMES_TO_FIRST_BYTE)
    assert new == {measure.name for measure in begun}
    assert sorted(again.metrics)[:12] == sorted(snapshot.metrics)
    database.close()
