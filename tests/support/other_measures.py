"""Measures of other fields than the built-in ones: texts, numbers and flags as labels and as sums, in two cubes."""

from __future__ import annotations

from cdn77_exporter.core.measures import (
    CACHE,
    DEVICE,
    STREAM,
    VIEWERS,
    Events,
    Label,
    Mean,
    Measure,
    Measures,
    Source,
    Sum,
)

SERVER = Label("server", Source.FIELD, "serverIP", "none")
PORT = Label("port", Source.FIELD, "serverPort", "missing")
COMPLETE = Label("complete", Source.FIELD, "clientRequestCompleted", "missing")

OTHER_MEASURES = Measures(
    (
        Measure("requests_total", Events(), (STREAM, SERVER, PORT, COMPLETE), "Requests."),
        Measure("timeouts_total", Sum("clientRequestConnTimeout"), (STREAM, PORT), "Requests that timed out."),
        Measure("request_ms", Mean("requestTimeMs"), (DEVICE, CACHE), "Mean time."),
        Measure("port_total", Sum("clientPort"), (DEVICE,), "Nonsense, of a field that is read for nothing else."),
        VIEWERS,
    )
)
