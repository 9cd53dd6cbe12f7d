"""The life of a file: only the moves of the table, and what follows from where files are, after any history."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.files import LogFile
from cdn77_exporter.flow.in_flight import IN_MEMORY, MOVES, OUTSTANDING, At, Attempts, ForbiddenMove, InFlight
from tests.support.examples import examples
from tests.support.stage_bench import counted_fields, log_file
from tests.support.world import Said

FIELDS: dict[At, dict[str, object]] = {
    At.COUNTED: counted_fields(),
    At.UNREADABLE: {"reason": "truncated"},
    At.SET_ASIDE: {"reason": "truncated"},
}


def _move(book: InFlight, file: LogFile, *ways: At) -> None:
    for to in ways:
        book.move(file, to, **FIELDS.get(to, {}))


@examples(200)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([None, *At])), max_size=80
    ),  # a file, and where it is to go; None: it is listed
    most=st.integers(1, 4),
)
def test_whatever_happens_the_book_is_right(steps: list[tuple[int, At | None]], most: int) -> None:
    """After any moves, those refused among them, permits, shards and counts follow from where the files are."""
    said = Said()
    book, plain = InFlight(most, said, steady=lambda: 0.0, patience=120), dict[int, At]()
    files = [log_file(number, shard=number % 2) for number in range(6)]
    for number, to in steps:
        file, at = files[number], plain.get(number)
        full = sum(where in IN_MEMORY for where in plain.values()) == most
        if to is None:
            allowed = at is None
        else:
            allowed = at is not None and to in MOVES[at] and not (full and to in IN_MEMORY and at not in IN_MEMORY)
        before = len(said.events)
        if allowed:
            book.list([file]) if to is None else _move(book, file, to)
            message = MOVES[at][to] if at and to else None
            assert [name for name, _ in said.events[before:]] == ([message] if message else [])
            where = to or At.LISTED
            plain[number] = where
            if where not in MOVES:
                del plain[number]
        else:
            with pytest.raises((ForbiddenMove, RuntimeError)):
                book.list([file]) if to is None else _move(book, file, to)
            assert len(said.events) == before
        _check(book, plain, files)


def _check(book: InFlight, plain: dict[int, At], files: list[LogFile]) -> None:
    assert len(book) == len(plain)
    assert book.permits.taken == sum(at in IN_MEMORY for at in plain.values()) <= book.permits.most
    assert book.outstanding == Counter(files[number].shard for number, at in plain.items() if at in OUTSTANDING)
    for at in MOVES:
        expected = {files[number].identity for number, where in plain.items() if where is at}
        found = [file.identity for file in book.files(at)]
        assert set(found) == expected
        assert len(found) == book.count(at) == len(expected)
    assert book.unknown(files) == [file for number, file in enumerate(files) if number not in plain]


def test_every_life_comes_to_an_end() -> None:
    """From everywhere a file can reach an end; it has left memory and its shard by then, and nothing leads back."""

    def longest(at: At) -> int:
        return 1 + max(map(longest, MOVES[at])) if at in MOVES else 0

    assert longest(At.LISTED) == 6
    ends = set(At) - MOVES.keys()
    assert ends == {At.COMMITTED, At.LEFT, At.GONE, At.SET_ASIDE}
    assert not ends & OUTSTANDING
    assert set(MOVES) | ends == {At.LISTED}.union(*MOVES.values())


def test_a_key_is_in_flight_once() -> None:
    """Another content of a key in flight waits for a later poll, and of a key listed twice the last one stays."""
    book = InFlight(4, Said(), steady=lambda: 0.0, patience=120)
    book.list([log_file(0, etag="old")])
    assert book.unknown([log_file(0, etag="old"), log_file(0, etag="new")]) == []
    with pytest.raises(ForbiddenMove):
        book.list([log_file(0, etag="new")])
    assert book.unknown([log_file(1, etag="old"), log_file(1, etag="new")]) == [log_file(1, etag="new")]


def test_attempts_are_counted_per_file_until_it_is_decoded() -> None:
    """Each failure in a row adds one to a file's own count; whether others succeed is asked from the first one on."""
    book = InFlight(4, Said(), steady=lambda: 0.0, patience=120)
    one, two = log_file(1), log_file(2)
    assert [book.attempt(file).count for file in (one, two, one)] == [1, 1, 2]
    assert not book.attempt(two).others_succeed
    book.list([one])
    _move(book, one, At.FETCHING, At.FETCHED, At.DECODING, At.DECODED)
    assert (book.attempt(two).count, book.attempt(two).others_succeed) == (3, True)
    assert book.attempt(one) == Attempts(1, others_succeed=True, failing=2)
    assert book.attempt(one) == Attempts(2, others_succeed=False, failing=2)


def test_a_flood_of_failing_files_is_remembered_within_a_bound() -> None:
    """At most ten thousand counts are kept; the newest are among them, and one that is there takes no other's room."""
    book = InFlight(1, lambda *_, **__: None, steady=lambda: 0.0, patience=120)
    files = [log_file(number) for number in range(10_050)]
    for file in files:
        book.attempt(file)
    assert book.attempt(files[-1]).count == 2
    assert [book.attempt(files[number]).count for number in (51, 49)] == [2, 1]


@pytest.mark.guarantee("shards.hangs")
def test_a_file_that_cannot_be_fetched_is_expected_for_so_long_only() -> None:
    """Counted from its first attempt, over polls; its shard is, once one of its files is fetched."""
    now = 0.0
    book = InFlight(4, Said(), steady=lambda: now, patience=120)
    stuck, other = log_file(1, shard=1), log_file(2, shard=1)
    book.list([stuck])
    assert book.expected == {"1"}
    book.move(stuck, At.FETCHING)
    now = 90.0
    book.move(stuck, At.LEFT, error="no")
    assert book.expected == set()
    book.list([stuck, other])
    assert (book.is_tried_again(stuck), book.is_tried_again(other)) == (True, False)
    assert book.expected == {"1"}
    now = 121.0
    assert book.expected == set(), "neither the file nor any other of its shard was fetched since the first attempt"
    book.move(other, At.FETCHING)
    assert book.expected == set()
    book.move(other, At.FETCHED)
    assert book.expected == {"1"}
    now = 10_000.0
    assert book.expected == {"1"}, "what was fetched waits for us"
    book.move(other, At.DECODING)
    book.move(other, At.DECODED)
    book.move(other, At.COUNTED, **counted_fields())
    assert book.expected == set()
    for at in (At.FETCHING, At.FETCHED, At.DECODING, At.DECODED):
        book.move(stuck, at)
    assert not book.is_tried_again(stuck)
    assert book.expected == {"1"}


def test_attempts_that_are_far_apart_have_nothing_to_do_with_each_other() -> None:
    """A shard whose only file failed an hour ago is expected again when it has a new one."""
    now = 0.0
    book = InFlight(4, Said(), steady=lambda: now, patience=120)
    book.list([log_file(1)])
    book.move(log_file(1), At.FETCHING)
    book.move(log_file(1), At.LEFT, error="no")
    now = 3600.0
    book.list([log_file(2)])
    book.move(log_file(2), At.FETCHING)
    assert book.expected == {"0"}
