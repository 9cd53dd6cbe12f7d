"""Chooses where files are decoded: on threads, in worker processes, or on a cluster."""

from __future__ import annotations

from concurrent.futures import Executor

from cdn77_exporter.edge.decoding import ExecutorDecoder, decoding_threads, fetched
from cdn77_exporter.edge.workers import Workers
from cdn77_exporter.flow.ports import Report
from cdn77_exporter.flow.sizes import decoding_sizes
from cdn77_exporter.settings import Settings


def make_decoder(settings: Settings, report: Report) -> ExecutorDecoder:
    """Return the decoder of the settings; to be closed."""
    rules, cluster, workers = settings.decoder_rules, settings.dask_scheduler, settings.decode_workers
    most, width = decoding_sizes(
        settings.download_concurrency, workers, cluster=cluster is not None, threads=decoding_threads()
    )
    job = fetched(rules)
    executor: Executor | None = None
    if cluster is not None:
        from cdn77_exporter.edge.cluster import Cluster  # noqa: PLC0415 - its library is an extra
        from cdn77_exporter.service.cluster_job import on_cluster  # noqa: PLC0415

        job = on_cluster(settings.s3_bucket, rules)
        executor = Cluster(cluster, width=width)
    elif workers:
        executor = Workers(workers)
    return ExecutorDecoder(job, executor, most=most, width=width, report=report)
