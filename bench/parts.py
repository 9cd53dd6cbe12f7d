"""The parts of the benchmark."""

from __future__ import annotations

#: Part -> what it measures. Each is a module of this package with `run(smoke, folder)`.
PARTS = {
    "decode": "inspect against other ways to the same numbers, and where its time goes",
    "workers": "one worker process against two",
    "merge": "what one exporter can take in, whoever decodes",
    "cluster": "what one exporter takes in from a Dask cluster",
    "service": "the whole service against only reading its files",
    "loop": "how late the event loop is while a backlog is worked off",
    "memory": "the memory of the real process, idle and while it works off 960 files",
    "large": "a million series, ten million viewers",
    "versions": "remote write 2.0 against 1.0: encoding ticks, and bytes",
    "ledger": "a ledger of two days at 20 files a second",
    "keys": "a hundred thousand keys in the bucket, ten thousand of them new",
    "latency": "from an event to the query that sees it, in real time (ten minutes)",
}
