"""Claims: no file under way twice, attempts counted per identity, and the order in which files are taken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.files import LogFile
from cdn77_exporter.flow.claims import Claims, oldest_first

HOUR = "logs/20260110/14"


def _file(shard: int, sequence: int, modified_ms: int, writer: str = "w", folder: str = HOUR) -> LogFile:
    key = f"{folder}/rtl.{writer}+{shard}+{sequence}.ndjson.gz"
    return LogFile(key, f"etag-{shard}-{sequence}-{writer}", 100, modified_ms)


def test_a_claimed_file_is_not_offered_again_until_it_is_released() -> None:
    """A file is under way from its claim to its release, and no other file is."""
    claims = Claims()
    one, two = _file(0, 1, 1000), _file(0, 2, 2000)
    claims.claim([one])
    assert claims.unclaimed([one, two]) == [two]
    assert len(claims) == 1
    claims.release(one.identity)
    claims.release(one.identity)
    assert claims.unclaimed([one, two]) == [one, two]
    assert len(claims) == 0


def test_a_key_with_other_content_is_another_file() -> None:
    """The identity of a claim is the key and the ETag."""
    claims = Claims()
    claims.claim([LogFile("a", "1", 1, 0)])
    assert claims.unclaimed([LogFile("a", "2", 1, 0)]) == [LogFile("a", "2", 1, 0)]


def test_attempts_are_counted_per_file_and_forgotten_on_success() -> None:
    """Each failure of a file adds one to its own count; forgetting begins anew."""
    claims = Claims()
    one, two = _file(0, 1, 1000), _file(0, 2, 2000)
    assert [claims.failed(one), claims.failed(two), claims.failed(one)] == [1, 1, 2]
    claims.forget(one.identity)
    assert [claims.failed(one), claims.failed(two)] == [1, 2]


def test_a_flood_of_unreadable_files_is_remembered_within_a_bound() -> None:
    """However many files fail, at most ten thousand counts are kept, and the newest are among them."""
    claims = Claims()
    files = [_file(0, number, number) for number in range(10_050)]
    for file in files:
        claims.failed(file)
    assert claims.failed(files[-1]) == 2
    assert claims.failed(files[0]) == 1
    assert len(claims._attempts) == 10_000


def test_counting_a_failure_again_at_the_bound_forgets_no_other_file() -> None:
    """At the bound a file that is already counted takes no other file's place."""
    claims = Claims()
    files = [_file(0, number, number) for number in range(10_000)]
    for file in files:
        claims.failed(file)
    assert claims.failed(files[5000]) == 2
    assert claims.failed(files[0]) == 2


def test_a_shards_files_come_by_their_sequence_numbers() -> None:
    """Within one writer's hour the sequence decides, as a number, whatever the upload times say."""
    files = [_file(3, 10, 1000), _file(3, 9, 3000), _file(3, 2, 2000)]
    assert [file.sequence for file in oldest_first(files)] == [2, 9, 10]


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
    """Any listing order gives the same order, which holds every file once and each writer's by sequence."""
    order = oldest_first(files)
    shuffled = list(files)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    assert oldest_first(shuffled) == order
    assert sorted(order, key=repr) == sorted(files, key=repr)
    for group in {(file.folder, file.shard, file.writer) for file in files}:
        numbers = [file.sequence for file in order if (file.folder, file.shard, file.writer) == group]
        assert numbers == sorted(numbers)
