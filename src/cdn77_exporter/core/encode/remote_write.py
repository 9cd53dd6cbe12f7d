"""Remote write in the version that is in force when a tick is written."""

from __future__ import annotations

from collections.abc import Iterable

from cdn77_exporter.core.catalogue import Catalogue
from cdn77_exporter.core.encode.blocks import Encoded
from cdn77_exporter.core.encode.remote_write_1 import RemoteWrite1
from cdn77_exporter.core.encode.remote_write_2 import RemoteWrite2
from cdn77_exporter.core.encode.request_limit import RequestLimit
from cdn77_exporter.core.encode.version import Spoken
from cdn77_exporter.core.measures import Measure
from cdn77_exporter.core.series import Frame, SeriesTable


class RemoteWrite:
    """Encodes every tick in the version that is `spoken` then.

    `limit`: how large requests may be now. `describes`: whether series of 2.0 say what their metric is.
    """

    def __init__(self, catalogue: Catalogue, spoken: Spoken, limit: RequestLimit, *, describes: bool) -> None:
        self._catalogue = catalogue
        self._spoken = spoken
        self._limit = limit
        self._describes = describes
        self._version = 0
        self._encoder: RemoteWrite1 | RemoteWrite2

    def _now(self) -> RemoteWrite1 | RemoteWrite2:
        """Return the encoder of the version; after a change nothing of the other one is kept."""
        version = self._spoken.version
        if version != self._version:
            self._version = version
            if version == 2:
                self._encoder = RemoteWrite2(self._catalogue, describes=self._describes)
            else:
                self._encoder = RemoteWrite1(self._catalogue, self._limit)
        return self._encoder

    def encode(self, series: SeriesTable, frames: Iterable[Frame]) -> list[Encoded]:
        """Return request bodies with their numbers of samples, in the order in which they must be sent."""
        return self._now().encode(series, frames)

    def describe(self, measures: Iterable[Measure]) -> bytes:
        """Return a request body that holds the metadata of metrics; nothing where every request has it."""
        return self._now().describe(measures)
