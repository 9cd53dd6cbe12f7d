"""Log files: the hour folders in which they lie, and the order in which they are taken."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.files import LogFile, LogNames, hour_prefixes, oldest_first

HOUR = "logs/20260110/14"


def _file(
    shard: int, sequence: int, modified_ms: int, writer: str = "w", folder: str = HOUR, etag: str = ""
) -> LogFile:
    key = f"{folder}/rtl.{writer}+{shard}+{sequence}.ndjson.gz"
    return LogFile(key, etag or f"etag-{shard}-{sequence}-{writer}", 100, modified_ms)


def test_the_hours_from_the_lookback_to_now_are_listed() -> None:
    """Every hour folder from the lookback to five minutes from now is listed, oldest first, over midnight too."""
    now = int(datetime(2026, 1, 1, 0, 57, tzinfo=UTC).timestamp() * 1000)
    assert hour_prefixes("a/b", now, 2) == [
        "a/b/20251231/22/",
        "a/b/20251231/23/",
        "a/b/20260101/00/",
        "a/b/20260101/01/",
    ]
    assert hour_prefixes("", now - 600_000, 0.5) == ["20260101/00/"]
    assert hour_prefixes("", now - 600_000, 1) == ["20251231/23/", "20260101/00/"]


@pytest.mark.parametrize(
    ("minutes", "dated"), [(-999_999, 60), (-6, 60), (-4, -4), (0, 0), (30, 30), (200, 200)], ids=str
)
def test_no_upload_is_before_the_hour_of_its_folder(minutes: int, dated: int) -> None:
    """A bucket that names an earlier time, such as 1970, says nothing of it: the end of the hour stands for it."""
    begin_ms = int(datetime(2026, 1, 10, 14, tzinfo=UTC).timestamp() * 1000)
    (taken,), _, _ = LogNames("logs").take([_file(3, 8, begin_ms + minutes * 60_000)])
    assert taken == _file(3, 8, begin_ms + dated * 60_000)
    elsewhere = _file(3, 8, 0, folder="logs/other")
    assert LogNames("logs").take([elsewhere])[0] == [elsewhere]


def test_a_file_that_was_uploaded_late_goes_to_its_place() -> None:
    """A number that is missing among those uploaded before it, as a number, comes where it belongs."""
    files = [_file(3, 8, 1000), _file(3, 11, 2000), _file(3, 10, 4000), _file(3, 9, 3000), _file(3, 7, 5000)]
    assert [file.sequence for file in oldest_first(files)] == [7, 8, 9, 10, 11]


@pytest.mark.guarantee("files.odd_numbers")
@pytest.mark.parametrize(
    "numbers",
    [
        (99_998, 99_999, 0, 1),
        (3, 4, 0, 1, 2, 3, 4, 5),
        (9, 0, 2, 4),
        (1_768_056_004, 1_768_056_034, 1_768_056_064),
        (4, 9, 17, 18, 40),
        (7, 7, 7),
    ],
    ids=["begin again", "after a few", "with gaps", "a time", "shared by shards", "the same"],
)
def test_where_numbers_tell_nothing_the_uploads_decide(numbers: tuple[int, ...]) -> None:
    """Numbers that begin again, are a time or belong to all shards leave files in the order of their uploads."""
    files = [_file(3, number, 1000 + at * 30, etag=f"etag-{at}") for at, number in enumerate(numbers)]
    assert oldest_first(list(reversed(files))) == files


def test_a_restarted_writers_files_come_after_those_of_the_one_before() -> None:
    """Of two writers of a shard the one that uploaded first goes first, though the second counts from 0 again."""
    old = [_file(0, 40 + number, 1000 + number * 30, "old") for number in range(3)]
    new = [_file(0, number, 2000 + number * 30, "new") for number in range(3)]
    assert oldest_first([*new, *reversed(old)]) == [*old, *new]


def test_hours_come_one_after_the_other_and_their_shards_interleaved() -> None:
    """Every file of an hour comes before any of the next, and no shard's files of an hour come all before another's."""
    earlier = [_file(shard, number, 1000, folder="p/20260110/13") for shard in (0, 1) for number in range(4)]
    later = [_file(shard, number, 500, folder="p/20260110/14") for shard in (0, 1) for number in range(4)]
    order = oldest_first([*later, *earlier])
    assert {file.folder for file in order[:8]} == {"p/20260110/13"}
    assert {file.shard for file in order[:2]} == {"0", "1"}
    assert {file.shard for file in order[6:8]} == {"0", "1"}


def test_writers_of_one_shard_that_write_at_the_same_time_take_turns() -> None:
    """Their files come as they were uploaded; one that was uploaded late by its writer holds up no other writer."""
    one = [_file(0, number, at, "one") for number, at in enumerate((1000, 1060, 1120))]
    two = [_file(0, 70 + number, at, "two") for number, at in enumerate((1030, 1300, 1150))]
    expected = [one[0], two[0], one[1], one[2], two[1], two[2]]
    assert oldest_first([*two, *one]) == expected
    assert oldest_first([*reversed(one), *reversed(two)]) == expected


_files = st.lists(
    st.builds(
        _file,
        shard=st.integers(0, 3),
        sequence=st.integers(0, 30),
        modified_ms=st.integers(0, 100),
        writer=st.sampled_from("ab"),
        folder=st.sampled_from(["p/20260110/13", "p/20260110/14"]),
    ),
    unique_by=lambda file: file.identity,
    max_size=40,
)


@given(_files, st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_listing(files: list[LogFile], draw: object) -> None:
    """Any listing order gives the same order, which holds every file once."""
    order = oldest_first(files)
    shuffled = list(files)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    assert oldest_first(shuffled) == order
    assert sorted(order, key=repr) == sorted(files, key=repr)
