"""Measures of other fields than the built-in ones, and of what only follows from a field."""

from __future__ import annotations

from cdn77_exporter.core.measures import (
    CACHE,
    DEVICE,
    IP_VERSION,
    STREAM,
    TRACK,
    VIEWERS,
    WINDOW,
    Events,
    Label,
    Mean,
    Measure,
    Measures,
    Observations,
    Present,
    Source,
    Sum,
)

SERVER = Label("server", Source.FIELD, "serverIP", "none")
PORT = Label("port", Source.FIELD, "serverPort", "missing")
COMPLETE = Label("complete", Source.FIELD, "clientRequestCompleted", "missing")

#: Texts, numbers and flags as labels and as sums, in two cubes.
OTHER_MEASURES = Measures(
    (
        Measure("requests_total", Events(), (STREAM, SERVER, PORT, COMPLETE), "Requests."),
        Measure("timeouts_total", Sum("clientRequestConnTimeout"), (STREAM, PORT), "Requests that timed out."),
        Measure("request_ms", Mean("requestTimeMs"), (DEVICE, CACHE), "Mean time."),
        Measure("port_total", Sum("clientPort"), (DEVICE,), "Nonsense, of a field that is read for nothing else."),
        VIEWERS,
    )
)

#: What only follows from a field: conditions, bounds, tracks, address versions, buckets; and viewers by other labels.
DERIVED_MEASURES = Measures(
    (
        Measure(
            "post_total", Events((("clientRequestMethod", "POST"), ("serverPort", 443))), (STREAM, SERVER), "Some."
        ),
        Measure("bytes_total", Sum("responseBytes", where=(("clientRequestCompleted", False),)), (STREAM,), "Some."),
        Measure("quick_total", Observations("requestTimeMs", 100), (DEVICE, CACHE), "Those that were quick."),
        Measure("track_total", Events(), (STREAM, TRACK, IP_VERSION), "Requests of a track."),
        Measure("rtt_total", Events(), (STREAM, Label("bucket", Source.BUCKET, "tcpRTTus", per=1_000_000)), "Times."),
        VIEWERS,
        Measure("active_by_track", Present(), (STREAM, TRACK, WINDOW), "Viewers of a track."),
        Measure("active_by_server", Present(), (SERVER, IP_VERSION, WINDOW), "Viewers of a server."),
    )
)
