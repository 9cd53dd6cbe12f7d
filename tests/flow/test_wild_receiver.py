"""A receiver that changes its version, fails, loses answers and lies: what is told of each sample is what it holds."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdn77_exporter.core.encode.parts import Series, series_in
from cdn77_exporter.core.encode.version import RemoteWriteVersion, version_of
from cdn77_exporter.core.errors import Refused, Transient, UnsupportedVersion
from cdn77_exporter.flow.delivery import Delivery
from tests.flow.test_sending import _content
from tests.flow.test_versions import AUTO, TWO, Server, body_of, push
from tests.support.examples import examples
from tests.support.stage_bench import TICK, StageBench
from tests.support.virtual_time import simulate

NAMES = [f"s{number}" for number in range(8)]
REQUESTS = 4
_MOST_WILD = 60  # attempts; after that it behaves, so that every request comes to its end
#: What may become of an attempt, beside that it goes well.
WAYS = (
    "away",
    "415",
    "503",
    "lost before",
    "lost after",
    "lost within",
    "500 within",
    "wrong",
    "silent",
    "other version",
)
#: Words that name an earlier attempt only where that was stored as a whole.
WORDS = ("out of order sample", "duplicate sample", "series limit reached", "out of bounds")


class Wild(Server):
    """A receiver that goes wrong at random. It takes a sample twice, a request of 1.0 as a whole or not at all."""

    def __init__(self, seed: int, wanted: RemoteWriteVersion) -> None:
        self._random = random.Random(seed)
        self._wanted = wanted
        self._share = self._random.random() * 0.7
        self._attempts = 0
        super().__init__(1, 2, bad=tuple(self._random.sample(NAMES, self._random.choice([0, 0, 1, 2, 8]))))
        self.words = self._random.choice(WORDS)

    async def write(self, body: bytes) -> int | None:
        """Answer in one of the ways."""
        await asyncio.sleep(0.01)
        self._attempts += 1
        is_wild = self._attempts < _MOST_WILD and self._random.random() < self._share
        way = self._random.choice(WAYS) if is_wild else ""
        if way == "other version":
            self.speaks = self._random.choice([(2,), (1, 2), (2,) if self._wanted is TWO else (1,)])
        if way in ("away", "lost before", "503"):
            raise Transient(way, answered=way == "503", lost=way == "lost before")
        if way == "415" or version_of(body) not in self.speaks:
            raise UnsupportedVersion("415", "write in another version")
        series = series_in(body)
        good = [one for one in series if one.entries[0].labels[0].value not in self.bad]
        if version_of(body) == 2:
            return self._by_2(series, good, way)
        self._by_1(series, good, way)
        return None

    def _by_1(self, series: list[Series], good: list[Series], way: str) -> None:
        if way == "500 within":
            raise Transient("500", answered=True)
        if len(good) == len(series):
            self._take(good)
        if way.startswith("lost"):
            raise Transient(way, lost=True)
        if len(good) < len(series):
            raise Refused(400, self.words)

    def _by_2(self, series: list[Series], good: list[Series], way: str) -> int | None:
        if way.endswith("within"):
            good = [one for one in good if self._random.random() < 0.5]
        written, whole = self._take(good), sum(one.samples for one in series)
        if way.startswith("lost"):
            raise Transient(way, lost=True)
        if way == "500 within":
            raise Transient("500", answered=True, lost=bool(written), written=written)
        if way == "silent":
            return None
        if way == "wrong":  # but not right by chance
            return self._random.choice([told for told in (0, written + 1, 2 * whole) if told != whole or not whole])
        if written < whole:
            raise Refused(400, self.words, written)
        return written

    def _take(self, series: list[Series]) -> int:
        return sum(self._store(one) for one in series)


@pytest.mark.parametrize("wanted", [AUTO, TWO])
@given(seed=st.integers(0, 1 << 32))
@examples(150)
def test_what_is_told_is_what_it_holds(wanted: RemoteWriteVersion, seed: int) -> None:
    """Each sample is told once, and stored exactly when the receiver has it, as long as its memory can be asked."""
    server, bench = Wild(seed, wanted), StageBench()
    bodies = [body_of(*NAMES, ticks=(TICK + 15 * number,)) for number in range(REQUESTS)]
    accounts = simulate(push(bench, server, *bodies, wanted=wanted, recalls=server, between=lambda _: 10))
    told = [(number, name, end) for number, end, names in accounts.ends for name in names]
    assert sorted((number, name) for number, name, _ in told) == [(n, name) for n in range(1, 5) for name in NAMES]
    holds = {(name, at_ms) for name, samples in server.samples.items() for at_ms, _ in samples}
    for number, name, end in told:
        ((_, at_ms), *_) = _content(bodies[number - 1])
        assert ((name, at_ms) in holds) is (end in (Delivery.STORED, Delivery.UNKNOWN))
