"""Files of past findings, each with what it must count: what once went wrong does not come back.

A new finding is a file `NAME.ndjson.gz` in `corpus/` and its entry in `corpus/expected.json`. All are read as if they
had been uploaded 20 seconds after the instant of the example line.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.errors import Unreadable
from tests.support import lines as log
from tests.support.cases import Cases
from tests.support.corpus import CORPUS, EXPECTED, body, summed
from tests.support.files import EXAMPLE_MS
from tests.support.ways import way

__all__ = ["way"]  # every test here is run with the compiled scan and without

LATEST_MS = EXAMPLE_MS + 20_000
OLDEST_MS = EXAMPLE_MS - log.WEEK_MS


def test_every_file_has_an_entry() -> None:
    """And every entry a file, with a sentence that says what was found."""
    assert {f"{name}.ndjson.gz" for name in EXPECTED} == {path.name for path in CORPUS.glob("*.gz")}
    assert all(len(entry["finding"]) > 20 for entry in EXPECTED.values())


def test_every_file_counts_what_its_entry_says() -> None:
    """Whole and byte by byte; or it is unreadable for the reason that its entry names."""
    with Cases() as cases:
        for name, entry in EXPECTED.items():
            expected = {key: value for key, value in entry.items() if key != "finding"}
            whole = body(name)
            for how, given in (("whole", whole), ("byte by byte", (whole[at : at + 1] for at in range(len(whole))))):
                with cases.case(f"{name}, {how}"):
                    assert counted(given) == expected


def counted(given: bytes | Iterable[bytes]) -> dict[str, Any]:
    """Return what the decoder finds in a file, in the words of an entry."""
    try:
        stats, counts = Decoder().decode(given, latest_ms=LATEST_MS, oldest_ms=OLDEST_MS)
    except Unreadable as error:
        return {"unreadable": error.reason}
    return summed(log.plain(stats, counts)) | {"rejects": stats.rejects}
