"""Builds the clients that the settings describe, for the service, the commands and the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable

from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.edge.s3 import S3Bucket, Waits
from cdn77_exporter.settings import Settings
from cdn77_exporter.settings.secret import Secret


def open_bucket(settings: Settings, name: str | None = None, *, seconds: float | None = None) -> S3Bucket:
    """Return the bucket of the logs, or the one called `name`; no call takes longer than `seconds`."""
    return S3Bucket(
        endpoint=settings.s3_endpoint,
        bucket=name or settings.s3_bucket,
        access_key=settings.s3_access_key.reveal,
        secret_key=settings.s3_secret_key.reveal,
        region=settings.s3_region,
        ca_bundle=settings.s3_ca_bundle,
        concurrency=settings.download_concurrency,
        most_bytes=settings.max_object_bytes,
        waits=Waits() if seconds is None else _waits(seconds),
        proxy=settings.proxies.url_for(settings.s3_endpoint),
    )


def _waits(seconds: float) -> Waits:
    return Waits(connect=min(5.0, seconds), read=seconds, call=seconds, body=max(seconds, 60.0))


def open_receiver(settings: Settings, *, seconds: float | None = None) -> RemoteWriter:
    """Return the receiver of the samples; no request takes longer than `seconds`."""
    return RemoteWriter(
        settings.prometheus_url,
        user=settings.prometheus_user,
        password=_reveal(settings.prometheus_password),
        bearer_token=_reveal(settings.prometheus_bearer_token),
        headers=settings.prometheus_headers,
        ca_bundle=settings.prometheus_ca_bundle,
        client_cert=settings.prometheus_client_cert,
        client_key=settings.prometheus_client_key,
        proxy=settings.proxies.url_for(settings.prometheus_url),
        **({} if seconds is None else {"timeout_seconds": seconds}),
    )


def _reveal(secret: Secret | None) -> Callable[[], str] | None:
    return secret.reveal if secret else None
