"""State in the bucket: what is committed is there again after any end, and two writers never mix."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from cdn77_exporter.core.catalogue import Catalogue, series_key
from cdn77_exporter.core.changes import Changes, CountedFile, Request
from cdn77_exporter.core.errors import LeaseLost, StateError, Transient
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.measures import MEASURES
from cdn77_exporter.core.series import SeriesTable
from cdn77_exporter.core.series_rows import latest, values_of
from cdn77_exporter.edge.state import BucketState
from cdn77_exporter.edge.state import bucket as bucket_module
from tests.support.fake_bucket import FakeBucket
from tests.unit.test_state import series_of

PREFIX = "state/exporter"


class _Objects(FakeBucket):
    """A bucket in which a write may arrive although its answer is lost."""

    lose_answers = 0

    async def put(self, key: str, body: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        etag = await super().put(key, body, if_none_match=if_none_match, if_match=if_match)
        if self.lose_answers:
            self.lose_answers -= 1
            raise Transient("the answer was lost")
        return etag


def _changes(number: int) -> Changes:
    meta = {"settled": 15 * number, "emitted": 15 * number, "next_request": number + 1}
    return Changes(
        meta=meta,
        profiles=[],
        series_new=[(number, f"key-{number}")],
        series=values_of([(number, float(number), 15, 15, True)]),
        pending=b"",
        waits=[(number, 10, 2)],
        viewers=b"",
        held=[],
        held_until=0,
        shards=[("1", number)],
        files=[CountedFile(f"file-{number}", "etag", 15 * number, 1, 1)],
        requests=[Request(number, 15 * number, 1, b"body-%d" % number)],
    )


async def _content(bucket: FakeBucket) -> tuple[object, ...]:
    """All that a process finds that opens the state now."""
    state = await BucketState.open(bucket, PREFIX)
    try:
        snapshot = state.database.load()
        assert snapshot is not None
        files = [LogFile(f"file-{number}", "etag", 1, 1) for number in range(50)]
        new = (await state.sort_out(files)).new
        return snapshot.meta, series_of(snapshot), snapshot.waits, await state.outbox(), new, await state.counts()
    finally:
        state.close()


@pytest.mark.parametrize("every", [1, 3, 1000])
async def test_every_commit_is_there_again(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever snapshots are written, whoever opens the state finds all commits and the steps before them."""
    monkeypatch.setattr(bucket_module, "_SNAPSHOT_EVERY", every)
    bucket = FakeBucket()
    state = await BucketState.open(bucket, PREFIX)
    for number in range(8):
        await state.commit(_changes(number))
        await state.mark_done([number - 1], 15 * number)
        await state.mark_deleted([(f"file-{number - 2}", "etag")])
    await state.commit(msgspec.structs.replace(_changes(8), files=[]))
    state.close()
    meta, series, waits, outbox, new, counts = await _content(bucket)
    assert isinstance(meta, dict)
    assert meta["emitted"] == 15 * 8
    assert meta["acknowledged"] == 15 * 7
    assert isinstance(series, list)
    assert [value for _, _, value, *_ in series] == [float(number) for number in range(9)]
    assert waits == [(8, 10, 2)]
    assert outbox == [(7, 105, 1), (8, 120, 1)]
    assert new == [LogFile(f"file-{number}", "etag", 1, 1) for number in range(8, 50)]
    assert isinstance(counts, dict)
    assert (counts["counted"], counts["done"]) == (2, 6)


async def test_the_request_that_is_being_sent_is_written_before_it_is_sent() -> None:
    """It does not wait for a commit, and neither it nor a commit gets lost when the answer to its object is."""
    bucket = FakeBucket()
    state = await BucketState.open(bucket, PREFIX)
    await state.commit(_changes(1))
    put, fails = bucket.put, True

    async def losing(key: str, body: bytes, **options: Any) -> str:
        nonlocal fails
        etag = await put(key, body, **options)
        if fails:
            fails = False
            raise Transient("the answer is lost")
        return etag

    bucket.put = losing  # type: ignore[method-assign]
    second = _changes(2)
    calls: list[Callable[[], Awaitable[None]]] = [lambda: state.mark_sending(1), lambda: state.commit(second)]
    for call in calls:
        fails = True
        with pytest.raises(Transient):
            await call()
        await state.mark_done([], None, 7)  # another stage goes on meanwhile
        await call()
    await state.mark_sending(2)
    meta, *_ = await _content(bucket)
    assert isinstance(meta, dict)
    assert (meta["sending"], meta["emitted"]) == (2, 30)
    state.close()


async def test_what_a_tick_counts_is_added() -> None:
    """Rows of series come as the table gives them, and what commits hold of one tick is kept part by part."""
    bucket = FakeBucket()
    table = SeriesTable(Catalogue(MEASURES), 15)
    table.add(table.slot(series_key(0, ("stream", "1", "HIT", "pop"))), 7)
    state = await BucketState.open(bucket, PREFIX)
    new = table.take_new()
    held: list[list[tuple[int, bytes]]] = [
        [(30, b"a"), (45, b"b")],
        [(30, b"c")],
        [(60, b"d")],
        [(45, b"e")],
    ]
    for number, part in enumerate(held):
        rows = table.take_changes(new)
        changes = msgspec.structs.replace(_changes(number), series_new=new, series=rows, held=part)
        await state.commit(changes)
        new = []
    state.close()
    state = await BucketState.open(bucket, PREFIX)
    snapshot = state.database.load()
    assert snapshot is not None
    assert list(snapshot.held) == [(30, b"a"), (45, b"b"), (30, b"c"), (60, b"d"), (45, b"e")]
    assert [(value, live) for _, value, _, _, live, _ in latest(snapshot.series).tolist()] == [(7.0, False)]
    state.close()


async def test_a_write_whose_answer_is_lost_is_no_other_process() -> None:
    """A commit that arrived, but was not answered, may be tried again, also after other steps."""
    bucket = _Objects()
    state = await BucketState.open(bucket, PREFIX)
    bucket.lose_answers = 1
    changes = _changes(0)
    with pytest.raises(Transient):
        await state.commit(changes)
    await state.set_aside(LogFile("bad", "etag", 1, 1), "corrupt")  # goes along with the commit after this one
    await state.commit(changes)
    await state.commit(_changes(1))
    state.close()
    content = await _content(bucket)
    assert content[3] == [(0, 0, 1), (1, 15, 1)]
    assert content[5]["aside"] == 1  # type: ignore[index]


@pytest.mark.guarantee("copies.two_writers")
async def test_of_two_writers_one_ends() -> None:
    """Two processes that believe in the same state cannot both commit."""
    bucket = FakeBucket()
    first = await BucketState.open(bucket, PREFIX)
    second = await BucketState.open(bucket, PREFIX)
    await first.commit(_changes(0))
    with pytest.raises(LeaseLost):
        await second.commit(_changes(0))
    for state in (first, second):
        state.close()


async def _keys(bucket: FakeBucket) -> list[str]:
    pages: AsyncIterator[list[str]] = bucket.list_keys(PREFIX)
    return [key async for page in pages for key in page]


async def test_damage_is_said_and_never_counted_from() -> None:
    """Each object of the state cut short, replaced by garbage, or gone from the middle is an error with a way out."""
    bucket = FakeBucket()
    state = await BucketState.open(bucket, PREFIX)
    for number in range(4):
        await state.commit(_changes(number))
    state.close()
    keys = await _keys(bucket)
    assert len(keys) == 5
    for key in keys:
        found = await bucket.get(key)
        assert found is not None
        body = found[0]
        for damaged in (b"", body[: len(body) // 2], b"garbage", body[:-1]):
            await bucket.put(key, damaged)
            with pytest.raises(StateError) as caught:
                await BucketState.open(bucket, PREFIX)
            assert PREFIX in str(caught.value)
            assert caught.value.remedy
        await bucket.put(key, body)
    middle = sorted(key for key in keys if "journal" in key)[1]
    await bucket.remove(middle)
    with pytest.raises(StateError, match="missing"):
        await BucketState.open(bucket, PREFIX)


async def test_many_steps_at_once_stay_in_order() -> None:
    """Steps that come while a commit is under way are in the next entry, none lost and none twice."""
    bucket = FakeBucket()
    state = await BucketState.open(bucket, PREFIX)
    for number in range(4):
        await state.commit(_changes(number))
    await asyncio.gather(
        state.commit(_changes(4)), state.mark_done([0, 1], 15), state.mark_deleted([("file-1", "etag")])
    )
    await state.commit(_changes(5))
    state.close()
    _, _, _, outbox, _, counts = await _content(bucket)
    assert outbox == [(2, 30, 1), (3, 45, 1), (4, 60, 1), (5, 75, 1)]
    assert isinstance(counts, dict)
    assert counts["done"] == 1


@pytest.mark.parametrize("call", ["put", "list_keys", "remove"])
async def test_a_snapshot_that_fails_takes_no_commit_back(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit is done when its journal object is written, so it succeeds although no snapshot can be made of it."""
    monkeypatch.setattr(bucket_module, "_SNAPSHOT_EVERY", 2)
    bucket = FakeBucket()
    state = await BucketState.open(bucket, PREFIX)
    await state.commit(_changes(0))
    save = state.save

    async def failing() -> None:
        bucket.fail(call, Transient("no answer"))
        await save()

    monkeypatch.setattr(state, "save", failing)
    await state.commit(_changes(1))
    monkeypatch.setattr(state, "save", save)
    await state.commit(_changes(2))
    state.close()
    _, series, _, outbox, _, _ = await _content(bucket)
    assert [value for _, _, value, *_ in series] == [0.0, 1.0, 2.0]  # type: ignore[attr-defined]
    assert outbox == [(number, 15 * number, 1) for number in range(3)]


async def test_who_takes_the_state_keeps_others_from_committing() -> None:
    """After a take the process before can commit nothing, not even once; and what it did before the take is read."""
    bucket = FakeBucket()
    before = await BucketState.open(bucket, PREFIX)
    after = await BucketState.open(bucket, PREFIX)
    await before.commit(_changes(0))
    with pytest.raises(Transient):
        await after.take()
    after.close()
    after = await BucketState.open(bucket, PREFIX)
    await after.take()
    with pytest.raises(LeaseLost):
        await before.commit(_changes(1))
    await after.commit(_changes(1))
    before.close()
    after.close()
    _, series, *_ = await _content(bucket)
    assert [value for _, _, value, *_ in series] == [0.0, 1.0]  # type: ignore[attr-defined]
