"""Files of past findings, each with what it must count: what once went wrong does not come back.

A new finding is a file `NAME.ndjson.gz` in `corpus/` and its entry in `corpus/expected.json`. All are read as if they
had been uploaded 20 seconds after the instant of the example line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.errors import Unreadable
from tests.support import lines as log
from tests.support.files import EXAMPLE_MS
from tests.support.oracle import Oracle
from tests.support.ways import way

__all__ = ["way"]  # every test here is run with the compiled scan and without

CORPUS = Path(__file__).parent / "corpus"
EXPECTED: dict[str, dict[str, Any]] = json.loads((CORPUS / "expected.json").read_text())
LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - log.WEEK_MS


def summed(plain: dict[str, Any]) -> dict[str, Any]:
    """What an entry of the corpus says, of the plain values of a tally or of the oracle's answer."""
    sums = [sums for groups in plain["groups"].values() for sums in groups.values()]
    return {
        **{name: plain[name] for name in ("lines", "events", "bytes", "oldest_ms", "newest_ms")},
        "ticks": sorted(plain["groups"]),
        "groups": len(sums),
        "viewers": sum(len(viewers) for viewers in plain["viewers"].values()),
        "waits": [sum(one[2] for one in sums), sum(one[3] for one in sums)],
    }


def body(name: str) -> bytes:
    return (CORPUS / f"{name}.ndjson.gz").read_bytes()


def test_every_file_has_an_entry() -> None:
    """And every entry a file, with a sentence that says what was found."""
    assert {f"{name}.ndjson.gz" for name in EXPECTED} == {path.name for path in CORPUS.glob("*.gz")}
    assert all(len(entry["finding"]) > 20 for entry in EXPECTED.values())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_the_corpus(name: str) -> None:
    """It counts what its entry says, whole and byte by byte, or is unreadable for the reason that its entry names."""
    whole = body(name)
    expected = {key: value for key, value in EXPECTED[name].items() if key != "finding"}
    for given in (whole, (whole[at : at + 1] for at in range(len(whole)))):
        try:
            tally = Decoder().decode(given, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
        except Unreadable as error:
            assert {"unreadable": error.reason} == expected
        else:
            assert summed(log.plain(tally)) | {"rejects": tally.rejects} == expected


@pytest.mark.parametrize("name", EXPECTED)
def test_the_oracle_agrees_with_the_corpus(name: str) -> None:
    """Two readings of the contract, and neither is taken for granted."""
    expected = EXPECTED[name]
    answer = Oracle(LATEST_MS, OLDEST_MS).read(body(name))
    if answer.unreadable:
        assert expected["unreadable"] in answer.unreadable
    else:
        assert answer.fits(expected["rejects"])
        assert summed(log.plain_answer(answer)).items() <= expected.items()
