"""HISTOGRAMS=native from lines to samples: each bucket and sum is what a plain count of the lines says."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction
from functools import cache

import pytest

from cdn77_exporter.core.decode import Decoder
from cdn77_exporter.core.encode.parts import has_histograms
from cdn77_exporter.core.files import LogFile
from cdn77_exporter.core.measures import Histograms, built_in
from cdn77_exporter.core.timeline import Rules, Timeline
from tests.support.files import event, log_file
from tests.support.plain_wholes import ReceivedWholes, rounded
from tests.support.samples import SeriesName, named

START = 1_700_000_100
TABLE = built_in(Histograms.NATIVE)
#: Metric -> its field, of whose units so many are a second.
FIELDS = {
    "cdn77_time_to_first_byte_seconds": ("timeToFirstByteMs", 1000),
    "cdn77_request_duration_seconds": ("requestTimeMs", 1000),
    "cdn77_tcp_rtt_seconds": ("tcpRTTus", 1_000_000),
}


@cache
def bucket(units: int, per: int) -> int:
    """The bucket of so many units, of which `per` are a second: bounds are 2^(i/8), compared as exact fractions."""
    eighth_power = Fraction(units, per) ** 8
    found = math.floor(8 * math.log2(units / per)) - 2
    while eighth_power > Fraction(2) ** found:
        found += 1
    return found


@pytest.mark.parametrize("accelerate", [True, False])
def test_every_bucket_is_that_of_the_lines(accelerate: bool) -> None:
    """Values on bounds, next to them, of all magnitudes and none at all are in their buckets, the sum is theirs."""
    draw = random.Random(5)
    odd = (0, 1, 2, 3, 8, 16, 125, 250, 500, 1000, 1001, 2000, 999_999, 1_000_000, 1_000_001, 8_000_000, None)
    lines = []
    true: dict[SeriesName, Counter[object]] = {}
    for number in range(600):
        values = {
            field: draw.choice(odd) if draw.random() < 0.3 else round(draw.lognormvariate(5, 3))
            for field, _ in FIELDS.values()
        }
        pop = draw.choice(("prague", "london"))
        lines.append(event((START + number % 50) * 1000, locationID=pop, **values))
        labels = {"stream_name": lines[-1]["clientRequestPath"].split("/")[1], "cdn_id": "1693215245"}
        for name, (field, per) in FIELDS.items():
            if units := values[field]:
                own = true.setdefault(named(name, {**labels, "cache_status": "HIT", "pop": pop}), Counter())
                own.update({bucket(units, per): 1, "sum": units / per})
    decoder = Decoder(TABLE, accelerate=accelerate)
    stats, counts = decoder.decode(log_file(lines), latest_ms=(START + 100) * 1000, oldest_ms=0)
    timeline = Timeline(Rules(), start_ms=START * 1000 - 60_000, key=b"k" * 32, measures=TABLE)
    timeline.absorb([(LogFile("logs/1", "e", 1, 1), stats)], counts)
    requests, _ = timeline.advance((START + 60) * 1000, (START + 60) * 1000)
    received = ReceivedWholes()
    for request in requests:
        if has_histograms(request.body):
            received.take(request.body)
    last = {name: rounded(samples[-1][1] or {}) for name, samples in received.samples.items()}
    assert {name: content for name, content in last.items() if content} == {
        name: rounded(content) for name, content in true.items()
    }
