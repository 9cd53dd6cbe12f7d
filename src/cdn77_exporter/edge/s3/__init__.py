"""The bucket, by the S3 protocol."""

from cdn77_exporter.edge.s3.client import S3Bucket, Waits

__all__ = ["S3Bucket", "Waits"]
