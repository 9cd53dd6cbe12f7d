"""The oracle of the decoder's tests reads the contract as the tables of hostile lines and of past findings do."""

from __future__ import annotations

from tests.support import corpus, hostile
from tests.support import lines as log
from tests.support.cases import Cases
from tests.support.files import EXAMPLE_MS
from tests.support.oracle import Oracle

LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - log.WEEK_MS
ORACLE = Oracle(LATEST_MS, OLDEST_MS)


def test_it_knows_the_reason_of_every_bad_line() -> None:
    """What the table says of a line is what the contract says, read plainly."""
    with Cases() as cases:
        for name, line, reason in hostile.bad_lines():
            with cases.case(name):
                (fault,) = ORACLE.read_lines(line).faults
                assert reason in fault


def test_it_agrees_with_the_corpus() -> None:
    """Two readings of the contract, and neither is taken for granted."""
    with Cases() as cases:
        for name, expected in corpus.EXPECTED.items():
            with cases.case(name):
                answer = ORACLE.read(corpus.body(name))
                if answer.unreadable:
                    assert expected["unreadable"] in answer.unreadable
                else:
                    assert answer.fits(expected["rejects"])
                    assert corpus.summed(log.plain_answer(answer)).items() <= expected.items()
