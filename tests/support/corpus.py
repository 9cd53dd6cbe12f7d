"""The files of past findings in `tests/unit/corpus`, and what each must count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parents[1] / "unit" / "corpus"
EXPECTED: dict[str, dict[str, Any]] = json.loads((CORPUS / "expected.json").read_text())


def body(name: str) -> bytes:
    """Return the file of a finding."""
    return (CORPUS / f"{name}.ndjson.gz").read_bytes()


def summed(plain: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry says, from the plain values of what was decoded or of the oracle's answer."""
    sums = [sums for groups in plain["groups"].values() for sums in groups.values()]
    return {
        **{name: plain[name] for name in ("lines", "events", "bytes", "ignored", "oldest_ms", "newest_ms")},
        "ticks": sorted(plain["groups"]),
        "groups": len(sums),
        "viewers": sum(len(viewers) for viewers in plain["viewers"].values()),
        "waits": [sum(one[2] for one in sums), sum(one[3] for one in sums)],
    }
