"""Files as they may be, through the whole pipeline: what is no log is kept, what comes again counts once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cdn77_exporter.core.errors import FileGone, Misconfigured, Transient, Unreadable
from cdn77_exporter.core.files import LogFile
from tests.support import files as log_files
from tests.support.virtual_time import simulate
from tests.support.world import BEGAN_MS, BucketPort, Event, Upload, World, traffic, upload

MINUTE_MS = 60_000


def with_body(one: Upload, body: bytes, **changed: object) -> Upload:
    """An upload of another body, and so another ETag."""
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    file = replace(one.file, size=len(body), **({"etag": etag} | changed))  # type: ignore[arg-type]
    return replace(one, file=file, body=body)


# What is no log


def _csv(events: list[Event]) -> bytes:
    return "".join(",".join(map(str, event.values())) + "\n" for event in events).encode()


def _renamed(events: list[Event]) -> bytes:
    return log_files.ndjson(
        [{("time" if key == "timestamp" else key): value for key, value in event.items()} for event in events]
    )


NO_LOGS: dict[str, Callable[[list[Event]], bytes]] = {
    "csv": _csv,
    "tsv": lambda events: _csv(events).replace(b",", b"\t"),
    "utf-16": lambda events: log_files.ndjson(events).decode().encode("utf-16"),
    "gzip in gzip": log_files.log_file,
    "an array": lambda events: json.dumps(events).encode(),
    "records": lambda events: json.dumps({"Records": events}).encode(),
    "pretty": lambda events: "\n".join(json.dumps(event, indent=2) for event in events).encode(),
    "one long line": lambda events: json.dumps([*events] * 300).encode(),
    "without newlines": lambda events: b"".join(json.dumps(event).encode() for event in events),
    "a renamed field": _renamed,
    "mostly something else": lambda events: log_files.ndjson(events[:2]) + b"# comment\n" * 3,
}


@pytest.mark.guarantee("files.no_log")
@pytest.mark.parametrize("kind", NO_LOGS)
def test_a_file_that_is_no_log_is_kept_and_told(kind: str, tmp_path: Path) -> None:
    """It is set aside with an example, counts nothing, and is never deleted; the others are exact."""
    uploads = traffic(3)
    place = next(number for number, one in enumerate(uploads) if one.file.sequence == 2)
    bad = uploads[place] = with_body(uploads[place], log_files.gzip_bytes(NO_LOGS[kind](list(uploads[place].events))))
    world = World(tmp_path, uploads, most=3)
    simulate(world.run())
    (said,) = world.said.of("file_set_aside")
    assert (said["key"], said["reason"]) == (bad.file.key, "line_too_long" if "long" in kind else "not_a_log")
    assert len(str(said["detail"])) > 20
    assert "format" in world.trouble.now
    assert world.deleted == {one.file.key for one in uploads} - {bad.file.key}
    world.uploads = [one for one in uploads if one is not bad]
    world.check()


@pytest.mark.guarantee("files.huge_values")
@pytest.mark.parametrize("point", [0, 20, 45, 70, 120])
def test_sums_beyond_all_bounds_end_there(point: int, tmp_path: Path) -> None:
    """Thousands of lines of 2^53 bytes in one tick, of one file and of several, end no process."""
    huge = [log_files.event(BEGAN_MS + 40_000 + place % 2, responseBytes=2**53, timeToFirstByteMs=2**53)
            for place in range(2048)]  # fmt: skip
    uploads = [*traffic(2, files=3), upload(0, 90, BEGAN_MS + 60_000, huge), 
               upload(1, 91, BEGAN_MS + 61_000, huge[:600]), upload(2, 92, BEGAN_MS + 62_000, huge[:600])]  # fmt: skip
    world = World(tmp_path / "first", uploads)
    caught = world.catch(point)
    simulate(world.run())
    if caught:
        world = World.after(caught[0], tmp_path / "second", uploads, 5_000)
        simulate(world.run())
    assert world.deleted == {one.file.key for one in uploads}
    own = {dict(labels)["__name__"]: max(series.values()) for labels, series in world.receiver.series.items()
           if dict(labels).get("pop") == uploads[-3].own_pop}  # fmt: skip
    assert own["cdn77_requests_total"] == 1024
    assert own["cdn77_transfer_bytes_total"] == 2.0**63
    assert own["cdn77_time_to_first_byte_ms"] == pytest.approx(2.0**53, rel=0.01)
    assert not world.said.of("service_crashed")


@pytest.mark.guarantee("files.no_stream")
def test_a_pattern_that_does_not_fit_empties_no_bucket(tmp_path: Path) -> None:
    """Before the first event nothing is deleted; once the pattern fits every file counts, to the unit."""
    uploads = traffic(4, late=False)
    world = World(tmp_path, uploads, stream_pattern="/no/such/(path)")
    simulate(world.run())
    assert not world.deleted
    assert "STREAM_PATTERN" in world.trouble.now["format"]
    assert {said["reason"] for said in world.said.of("file_set_aside")} == {"no_stream_yet"}
    assert world.left is not None
    again = World(tmp_path, uploads, world.left.now_ms + 1000, world.receiver)
    simulate(again.run())
    again.check()


@pytest.mark.guarantee("files.no_stream")
def test_a_pattern_that_is_changed_and_no_longer_fits_empties_no_bucket(tmp_path: Path) -> None:
    """Until there was an event by the new rules, files without one are kept; with the right ones they count."""
    uploads = traffic(5, late=False)
    ends_ms = BEGAN_MS + 2 * MINUTE_MS
    world = World(tmp_path, uploads)
    simulate(world.run(until_ms=ends_ms))
    gone = set(world.deleted)
    wrong = World(tmp_path, uploads, ends_ms + 1000, world.receiver, world.deleted, stream_pattern="/no/such/(path)")
    simulate(wrong.run())
    assert world.deleted == gone != {one.file.key for one in uploads}
    assert "STREAM_PATTERN" in wrong.trouble.now["format"]
    assert wrong.left is not None
    again = World(tmp_path, uploads, wrong.left.now_ms + 1000, world.receiver, world.deleted)
    simulate(again.run())
    assert again.deleted == {one.file.key for one in uploads}


@pytest.mark.guarantee("files.no_stream")
def test_files_without_a_stream_go_once_there_was_an_event(tmp_path: Path) -> None:
    """Lines of other paths are no rejects: their files are done, those that came before the first event too."""
    uploads = traffic(5, late=False)
    first = min(uploads, key=lambda one: one.file.modified_ms)
    late = max(uploads, key=lambda one: one.file.modified_ms)
    for one in (first, late):
        events = tuple({**event, "clientRequestPath": "/favicon.ico"} for event in one.events)
        uploads[uploads.index(one)] = replace(with_body(one, log_files.log_file(events)), events=())
    world = World(tmp_path, uploads)
    simulate(world.run())
    world.check()


# The same key again


def _key_again(tmp_path: Path, later: bytes, later_ms: int, **changed: object) -> tuple[World, Upload, Upload]:
    """Upload five events, and something else under the same key some time later."""
    events = [log_files.event(BEGAN_MS + 30_000 + number * 100, clientIP=f"192.0.2.{number}") for number in range(5)]
    first = upload(0, 0, BEGAN_MS + 40_000, events)
    second = with_body(first, later, modified_ms=BEGAN_MS + later_ms, **changed)
    others = [
        upload(1, number, BEGAN_MS + 40_000 + number * 30_000, [log_files.event(BEGAN_MS + 35_000 + number * 30_000)])
        for number in range(20)
    ]
    world = World(tmp_path, [first, second, *others])

    def put(_: str) -> None:
        if world.clock.now_ms() >= second.file.modified_ms:
            world.deleted.discard(first.file.key)
            world.on_point = lambda _: None

    world.on_point = put
    simulate(world.run())
    return world, first, second


def _content(count: int) -> bytes:
    events = [log_files.event(BEGAN_MS + 30_000 + number * 100, clientIP=f"192.0.2.{number}") for number in range(5)]
    told = list(upload(0, 0, BEGAN_MS + 40_000, events).events)
    return log_files.ndjson([*told, *(log_files.event(BEGAN_MS + 31_000 + number) for number in range(count - 5))])


LATER_MS = [55_000, 4 * MINUTE_MS]  # before the first is settled, and long after it was deleted


@pytest.mark.guarantee("files.again", "files.grown")
@pytest.mark.parametrize("later_ms", LATER_MS)
@pytest.mark.parametrize(
    ("body", "changed", "total"),
    [
        (log_files.gzip_bytes(_content(5), level=1), {}, 5),
        (log_files.gzip_bytes(_content(5)), {"etag": "0123456789abcdef-2"}, 5),
        (log_files.gzip_bytes(_content(5)[:3000]) + log_files.gzip_bytes(_content(5)[3000:]), {}, 5),
        (log_files.gzip_bytes(_content(10)), {}, 10),
    ],
    ids=["compressed again", "in parts", "in members", "longer"],
)
def test_a_key_counts_once(body: bytes, changed: dict[str, object], total: int, later_ms: int, tmp_path: Path) -> None:
    """The same content again counts nothing, and content that goes on where the first ended counts what is new."""
    world, first, second = _key_again(tmp_path, body, later_ms, **changed)
    assert sum(world.receiver.requests_by_pop().values()) == total + 20
    assert first.file.key in world.deleted
    assert not world.said.of("file_set_aside")
    assert len([said for said in world.said.of("file_counted") if said["key"] == second.file.key]) == 2


@pytest.mark.guarantee("files.changed")
@pytest.mark.parametrize("later_ms", LATER_MS)
@pytest.mark.parametrize(
    "body",
    [log_files.log_file(log_files.event() for _ in range(7)), log_files.gzip_bytes(_content(5)[:-200])],
    ids=["another", "shorter"],
)
def test_other_content_of_a_key_that_counted_is_set_aside(body: bytes, later_ms: int, tmp_path: Path) -> None:
    """It counts nothing, is told once, and stays in the bucket."""
    world, first, _ = _key_again(tmp_path, body, later_ms)
    assert sum(world.receiver.requests_by_pop().values()) == 5 + 20
    (said,) = world.said.of("file_set_aside")
    assert (said["key"], said["reason"]) == (first.file.key, "changed")
    assert first.file.key not in world.deleted


# Files that cannot be had


@pytest.mark.guarantee("files.out_of_reach")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Misconfigured("the bucket refuses to read", "check the rights", of_object=True), "refused"),
        (Unreadable("archived"), "archived"),
        (FileGone("404"), "gone"),
    ],
    ids=["refused", "archived", "gone"],
)
def test_one_object_that_cannot_be_fetched_is_set_aside(error: Exception, reason: str, tmp_path: Path) -> None:
    """After some polls, while the service stays ready and everything else is exact."""
    uploads = traffic(6)
    bad = next(one for one in uploads if one.file.sequence == 3)

    class Odd(BucketPort):
        async def fetch(self, file: LogFile) -> bytes:
            if file.key == bad.file.key:
                raise error
            return await super().fetch(file)

    world = World(tmp_path, uploads)
    world.bucket = Odd(world)
    simulate(world.run())
    (said,) = world.said.of("file_set_aside")
    assert (said["key"], said["reason"]) == (bad.file.key, reason)
    assert not world.trouble.ever
    world.uploads = [one for one in uploads if one is not bad]
    world.check()


@pytest.mark.guarantee("files.out_of_reach")
@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (Misconfigured("the bucket refuses to read", "check the rights", of_object=True), "reading"),
        (FileGone("404"), "reading"),
        (FileGone("changed"), "reading"),
        (Unreadable("archived"), "reading"),
        (Unreadable("size_mismatch"), "reading"),
        (Transient("500"), "reading"),
    ],
    ids=str,
)
def test_while_no_file_can_be_had_none_is_set_aside_and_it_is_told(
    error: Exception, problem: str, tmp_path: Path
) -> None:
    """Files that cannot be fetched are only set aside when others can; until then the service is not ready."""
    world = World(tmp_path, traffic(7))

    class Closed(BucketPort):
        async def fetch(self, file: LogFile) -> bytes:
            if self._world.clock.now_ms() < BEGAN_MS + 5 * MINUTE_MS:
                raise error
            return await super().fetch(file)

    world.bucket = Closed(world)
    simulate(world.run())
    assert problem in dict(world.trouble.ever)
    assert world.trouble.ended.count(problem) == 1  # and not between two polls
    assert not world.said.of("file_set_aside")
    assert not world.trouble.now
    world.check()


def test_a_file_that_fails_now_and_then_is_not_set_aside(tmp_path: Path) -> None:
    """Passing failures are tried for half an hour, while others succeed."""
    uploads = traffic(8)
    bad = next(one for one in uploads if one.file.sequence == 3)

    class Slow(BucketPort):
        async def fetch(self, file: LogFile) -> bytes:
            if file.key == bad.file.key and self._world.clock.now_ms() < bad.file.modified_ms + 120_000:
                raise Transient("503")
            return await super().fetch(file)

    world = World(tmp_path, uploads)
    world.bucket = Slow(world)
    simulate(world.run())
    assert not world.said.of("file_set_aside")
    world.check()


# Hours that are not polled


@pytest.mark.guarantee("files.old_folder")
@pytest.mark.parametrize("hour", ["20260110/09", "20260104/23"])
def test_a_file_in_an_old_folder_counts_within_an_hour(hour: str, tmp_path: Path) -> None:
    """A file that is uploaded late into a folder that is no longer polled counts, however old the folder."""
    uploads = traffic(9)
    place = next(number for number, one in enumerate(uploads) if not one.file.sequence)
    old = uploads[place]
    key = old.file.key.replace("20260110/14", hour)
    uploads[place] = replace(old, file=LogFile(key, old.file.etag, old.file.size, BEGAN_MS + 20_000))
    world = World(tmp_path, uploads)
    simulate(world.run())
    assert world.receiver.values(["cdn77_requests_total"]) == {
        "cdn77_requests_total": world.truth.counters()["cdn77_requests_total"]
    }
    assert key in world.deleted


@pytest.mark.guarantee("files.old_folder")
def test_after_a_long_stop_everything_counts(tmp_path: Path) -> None:
    """A process that was away for longer than the lookback lists from where the one before had ended."""
    uploads = traffic(10, late=False)
    later = [
        upload(
            shard,
            100 + number,
            BEGAN_MS + number * 20 * MINUTE_MS,
            [log_files.event(BEGAN_MS + number * 20 * MINUTE_MS - 5000)],
        )
        for shard in range(3)
        for number in range(1, 30)
    ]
    world = World(tmp_path, uploads, lookback_hours=1)
    simulate(world.run())
    assert world.left is not None
    assert world.deleted == {one.file.key for one in uploads}
    again = World(tmp_path, later, BEGAN_MS + 10 * 60 * MINUTE_MS, lookback_hours=1)
    simulate(again.run())
    assert len(again.said.of("file_counted")) == len(later)
    assert not again.said.of("files_left_out")
    assert again.deleted == {one.file.key for one in later}
