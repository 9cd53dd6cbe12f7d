"""The clients of a command: the bucket and the receiver, as the service would reach them but with shorter waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from cdn77_exporter.edge.receiver import RemoteWriter
from cdn77_exporter.edge.s3 import S3Bucket, Waits
from cdn77_exporter.settings import Settings, load
from cdn77_exporter.settings.secret import Secret

#: What stands for the variables of a side that a command does not contact.
_NO_BUCKET = {
    "S3_ENDPOINT": "http://127.0.0.1:9",
    "S3_PREFIX": "/",
    **dict.fromkeys(("S3_BUCKET", "S3_ACCESS_KEY", "S3_SECRET_KEY"), "unused"),
}
_NO_RECEIVER = {"PROMETHEUS_URL": "http://127.0.0.1:9/api/v1/write"}


def settings_for(*, bucket: bool = True, receiver: bool = True, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings; of a side that is not contacted no variable need be set. Raises ConfigError."""
    given = dict(os.environ if environ is None else environ)
    wanted = {} if bucket else _NO_BUCKET
    wanted = wanted if receiver else {**wanted, **_NO_RECEIVER}
    for name, text in wanted.items():
        if not given.get(name, "").strip() and not given.get(f"{name}_FILE", "").strip():
            given[name] = text
    return load(given)


def bucket_of(settings: Settings, seconds: float, bucket: str | None = None) -> S3Bucket:
    """The bucket; no call takes longer than `seconds`."""
    return S3Bucket(
        endpoint=settings.s3_endpoint,
        bucket=bucket or settings.s3_bucket,
        access_key=settings.s3_access_key.reveal,
        secret_key=settings.s3_secret_key.reveal,
        region=settings.s3_region,
        ca_bundle=settings.s3_ca_bundle,
        concurrency=settings.download_concurrency,
        most_bytes=settings.max_object_bytes,
        waits=Waits(connect=min(5.0, seconds), read=seconds, call=seconds, body=max(seconds, 60.0)),
    )


def writer_of(settings: Settings, seconds: float) -> RemoteWriter:
    """The receiver; no request takes longer than `seconds`."""
    return RemoteWriter(
        settings.prometheus_url,
        user=settings.prometheus_user,
        password=_reveal(settings.prometheus_password),
        bearer_token=_reveal(settings.prometheus_bearer_token),
        headers=settings.prometheus_headers,
        ca_bundle=settings.prometheus_ca_bundle,
        client_cert=settings.prometheus_client_cert,
        client_key=settings.prometheus_client_key,
        timeout_seconds=seconds,
    )


def _reveal(secret: Secret | None) -> Callable[[], str] | None:
    return secret.reveal if secret else None
