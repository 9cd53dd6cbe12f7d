"""A state that release 0.2.0 wrote is taken up, in a file and in the bucket: its viewers have no watch time yet.

The states in `fixtures` were written by that release's own code, in the middle of a run, and what they hold was read by
it: viewers with one device and with several, a file that was counted and not yet settled, requests not yet pushed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cramjam
import msgspec
import pytest

from cdn77_exporter.core.timeline import Rules, Timeline
from cdn77_exporter.core.viewers.rows import merge_runs, unpacked
from cdn77_exporter.edge.state import BucketState, Database
from tests.support.fake_bucket import FakeBucket
from tests.unit.test_state import series_of

_FIXTURE = Path(__file__).parents[1] / "fixtures" / "state_0_2_0.msgpack.zst"
Written = dict[str, Any]


@pytest.fixture(scope="module")
def written() -> Written:
    """The file and the objects that 0.2.0 wrote, and what it read from them."""
    found: Written = msgspec.msgpack.decode(bytes(cramjam.zstd.decompress(_FIXTURE.read_bytes())))
    return found


def _expect(database: Database, expected: Written) -> None:
    """What a database holds is what 0.2.0 read, and nobody is in a session."""
    snapshot = database.load()
    assert snapshot is not None
    assert snapshot.meta == expected["meta"]
    rows = [row for run in merge_runs(snapshot.viewer_runs, 0) for row in unpacked(run).tolist()]
    assert sorted(rows) == [(*row, 0) for row in expected["viewers"]]
    snapshot = database.load()
    assert snapshot is not None
    assert {row[1]: row[2] for row in series_of(snapshot)} == expected["series"]


def test_a_file_of_0_2_0_is_taken_up_once(written: Written, tmp_path: Path) -> None:
    """All that it holds is there after it is opened, and again after that."""
    path = tmp_path / "state.db"
    path.write_bytes(written["file"])
    for _ in range(2):
        database = Database(str(path))
        _expect(database, written["file_content"])
        database.close()


async def test_a_bucket_state_of_0_2_0_is_taken_up(written: Written) -> None:
    """A snapshot and the journal after it are read as 0.2.0 reads them."""
    bucket = FakeBucket()
    assert any("/journal-" in key for key in written["objects"])
    for key, body in written["objects"].items():
        await bucket.put(key, body)
    state = await BucketState.open(bucket, "state")
    _expect(state.database, written["bucket_content"])
    state.close()


def test_the_timeline_goes_on_from_a_state_of_0_2_0(written: Written, tmp_path: Path) -> None:
    """Every gauge has its value, and whoever was there before is in no session."""
    path = tmp_path / "state.db"
    path.write_bytes(written["file"])
    database = Database(str(path))
    snapshot = database.load()
    assert snapshot is not None
    timeline = Timeline(Rules(), start_ms=written["file_content"]["meta"]["watermark_ms"], key=database.secret_key())
    timeline.restore(snapshot)
    slots, values = timeline.series.windows()
    gauges = {timeline.series.key(slot): value for slot, value in zip(slots.tolist(), values.tolist(), strict=True)}
    before = {key: value for key, value in written["file_content"]["series"].items() if "\x1f2h" in key}
    assert before
    assert {key: gauges[key] for key in before} == before
    tick = snapshot.meta["settled"] + 3600
    movement = timeline.viewers.advance(tick, [])
    assert [len(found) for found in (*movement.watched(), *movement.over(), *movement.begun())] == [0] * 6
    database.close()
