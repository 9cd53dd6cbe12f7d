"""Checks whether the receiver takes and keeps native histograms, of which some are dropped without a word."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from cdn77_exporter.commands.check.findings import Findings
from cdn77_exporter.core.encode.blocks import compress
from cdn77_exporter.core.encode.histograms import entry_of, histogram_of
from cdn77_exporter.core.encode.parts import in_version
from cdn77_exporter.core.encode.remote_write_pb2 import Label
from cdn77_exporter.core.errors import HistogramsRefused
from cdn77_exporter.core.measures import Histograms
from cdn77_exporter.core.wholes import SUM_NUMBER
from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.edge.receiver.query import Memory
from cdn77_exporter.settings import Settings
from cdn77_exporter.settings.metrics import PROBE

HISTOGRAMS = "native histograms"
#: The age of the probe, since VictoriaMetrics shows nothing that is younger than half a minute.
_PROBE_AGE_SECONDS = 60
_LOOKS = 3
_REMEDY = (
    "let the receiver take native histograms (Prometheus before 3.8: --enable-feature=native-histograms; Mimir: "
    "native_histograms_ingestion_enabled), or set HISTOGRAMS to classic"
)


async def check_histograms(writer: RemoteWriter, version: int, settings: Settings, findings: Findings) -> None:
    """Write one native histogram, of a series of our own, and look for it; a receiver without them fails where they are
    wanted."""
    body = in_version(_probe(settings), version)
    async with findings.contact(HISTOGRAMS, needed=settings.histograms is Histograms.NATIVE):
        try:
            await writer.write(body)
        except HistogramsRefused as error:
            _tell_none(f"refused ({error})", settings, findings)
            return
        memory = Memory(writer, settings.prometheus_url)
        found = await memory.holds(body)
        for _ in range(_LOOKS - 1):
            if found is not False:
                break
            await asyncio.sleep(1)
            found = await memory.holds(body)
        if found is None:
            findings.ok(HISTOGRAMS, "accepted; no query API says whether they are kept")
        elif found:
            findings.ok(HISTOGRAMS, "accepted and kept")
        else:
            _tell_none("accepted, but not kept: the one that was written cannot be found", settings, findings)


def _tell_none(words: str, settings: Settings, findings: Findings) -> None:
    if settings.histograms is Histograms.NATIVE:
        findings.fail(HISTOGRAMS, words, _REMEDY)
    else:
        findings.ok(HISTOGRAMS, f"{words}; none are sent, since HISTOGRAMS is not native")


def _probe(settings: Settings) -> bytes:
    """Return a request with one observation of a second."""
    at_ms = round((time.time() - _PROBE_AGE_SECONDS) * 1000)
    one_second = histogram_of(np.array([0, SUM_NUMBER], np.int32), np.array([1.0, 1.0]), at_ms)
    own = {"__name__": f"{PROBE}_histogram", **dict(settings.external_labels.pairs)}
    return compress(entry_of([Label(name=name, value=text) for name, text in sorted(own.items())], [one_second]))
