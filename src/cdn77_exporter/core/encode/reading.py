"""Reads requests back into the table of series that they were written from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from math import isnan

from cdn77_exporter.core.catalogue import Metric, series_key
from cdn77_exporter.core.encode.histograms import decoded
from cdn77_exporter.core.encode.parts import Series, request_of, series_in
from cdn77_exporter.core.encode.remote_write_pb2 import TimeSeries
from cdn77_exporter.core.owed import Sample
from cdn77_exporter.core.series import SeriesTable
from cdn77_exporter.core.wholes import SUM_NUMBER


def samples_of(body: bytes, series: SeriesTable, tick_seconds: int) -> list[Sample]:
    """Return the samples of a request body whose series are still there, in its order.

    A native histogram has a sample for each of its parts, 0 for those that were not there yet, one after the other.
    """
    found = []
    for slots, one in _slots_of(body, series):
        for at_ms, values in (pair for entry in one.entries for pair in _values_of(entry, slots, series)):
            tick = at_ms // 1000 // tick_seconds * tick_seconds
            found += [
                Sample(slot, tick, _counted(value, int(series.per[slot])))
                for slot, value in zip(slots, values, strict=True)
            ]
    return found


def _values_of(entry: TimeSeries, slots: Sequence[int], series: SeriesTable) -> Iterator[tuple[int, list[float]]]:
    """Yield the time (Unix ms) of each sample of an entry with its value for each of the slots."""
    if not slots:
        return
    for sample in entry.samples:
        yield sample.timestamp, [sample.value] * len(slots)
    for histogram in map(decoded, entry.histograms):
        values = {**histogram.counts, SUM_NUMBER: histogram.total}
        none = histogram.total if histogram.is_stale else 0.0
        yield histogram.at_ms, [values.get(int(series.wholes.number[slot]), none) for slot in slots]


def without(body: bytes, series: SeriesTable, slots: Collection[int]) -> bytes:
    """Return a request body without the series of some slots; nothing when it has no others."""
    kept = [one for own, one in _slots_of(body, series) if not own or own[0] not in slots]
    return request_of(kept) if kept else b""


def _slots_of(body: bytes, series: SeriesTable) -> Iterator[tuple[Sequence[int], Series]]:
    """Yield each series of a request body with its slot or those of its parts; none when it is gone."""
    metrics: dict[str, list[tuple[int, Metric]]] = {}
    for code, metric in enumerate(series.catalogue.metrics):
        if metric:
            metrics.setdefault(metric.name, []).append((code, metric))
    for one in series_in(body):
        texts = {label.name: label.value for label in one.entries[0].labels}
        found = (_slots_in(series, code, metric, texts) for code, metric in metrics.get(texts["__name__"], ()))
        yield next(filter(None, found), ()), one


def _slots_in(series: SeriesTable, code: int, metric: Metric, texts: dict[str, str]) -> Sequence[int]:
    """Return the slots of the metric's series that has these labels; none when there is none."""
    fixed = (*metric.external, *metric.constants)
    named = {*metric.labels, *dict(metric.external), "__name__"}
    if not texts.keys() <= named or any(texts.get(name) != text for name, text in fixed):
        return ()
    values = [texts.get(label, "") for label in metric.labels]
    if metric.native:
        return series.wholes.find(metric.whole(values))
    slot = series.find(series_key(code, values))
    return () if slot is None else (slot,)


def _counted(value: float, per: int) -> float:
    """Return what was counted, of which `per` are 1 in a sample: a whole number, which the division has rounded."""
    return value if per == 1 or isnan(value) else float(round(value * per))
